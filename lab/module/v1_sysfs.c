// SPDX-License-Identifier: GPL-2.0
/* v1_sysfs.c: what users of a device did, and its content, for tests to look at. */
#include <linux/device.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "vfmig_v1.h"

static ssize_t stats_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vfmig_v1 *d = dev_get_drvdata(dev);
	int n = 0;

	mutex_lock(&d->lock);
	n += sysfs_emit_at(buf, n, "device_state %u\npending_bytes %llu\n", d->device_state, vfmig_pending_bytes(d));
	n += sysfs_emit_at(buf, n, "saved_transactions %llu\nsaved_bytes %llu\n", d->saved.transactions,
			   d->saved.bytes);
	n += sysfs_emit_at(buf, n, "loaded_transactions %llu\nloaded_bytes %llu\n", d->loaded.transactions,
			   d->loaded.bytes);
	n += sysfs_emit_at(buf, n, "trapped_reads %llu\ntrapped_writes %llu\nmaps %d\n", d->trapped_reads,
			   d->trapped_writes, atomic_read(&d->maps));
	n += sysfs_emit_at(buf, n, "refused %llu\nresets %llu\ndma_pages %llu\nticks %llu\n", d->refused, d->resets,
			   d->bar_dma_done, d->ticks);
	n += sysfs_emit_at(buf, n, "digest %016llx\nstopped_digest %016llx\nloaded_digest %016llx\n", vfmig_digest(d),
			   d->stopped_digest, d->loaded_digest);
	mutex_unlock(&d->lock);
	return n;
}
static DEVICE_ATTR_RO(stats);

static ssize_t show_sizes(struct vfmig_v1 *d, const struct vfmig_sizes *sizes, char *buf)
{
	int n = 0;

	mutex_lock(&d->lock);
	for (u64 i = 0; i < min_t(u64, sizes->transactions, SIZES_KEPT); i++)
		n += sysfs_emit_at(buf, n, "%u\n", sizes->size[i]);
	mutex_unlock(&d->lock);
	return n;
}

static ssize_t saved_sizes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vfmig_v1 *d = dev_get_drvdata(dev);

	return show_sizes(d, &d->saved, buf);
}
static DEVICE_ATTR_RO(saved_sizes);

static ssize_t loaded_sizes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vfmig_v1 *d = dev_get_drvdata(dev);

	return show_sizes(d, &d->loaded, buf);
}
static DEVICE_ATTR_RO(loaded_sizes);

/* Changes that many pages of state: work, for a device that is not open. */
static ssize_t change_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	struct vfmig_v1 *d = dev_get_drvdata(dev);
	u32 pages;
	int ret = kstrtou32(buf, 0, &pages);

	if (ret)
		return ret;
	mutex_lock(&d->lock);
	vfmig_change_pages(d, pages);
	mutex_unlock(&d->lock);
	return count;
}
static DEVICE_ATTR_WO(change);

static struct attribute *vfmig_attrs[] = {
	&dev_attr_stats.attr, &dev_attr_saved_sizes.attr, &dev_attr_loaded_sizes.attr, &dev_attr_change.attr, NULL,
};

static ssize_t content_read(struct file *file, struct kobject *kobj, struct bin_attribute *attr, char *buf, loff_t off,
			    size_t count)
{
	struct vfmig_v1 *d = dev_get_drvdata(kobj_to_dev(kobj));
	ssize_t n;

	mutex_lock(&d->lock);
	n = memory_read_from_buffer(buf, count, &off, d->state, d->state_bytes);
	mutex_unlock(&d->lock);
	return n;
}
static BIN_ATTR_RO(content, 0);

static struct bin_attribute *vfmig_bin_attrs[] = { &bin_attr_content, NULL };

static const struct attribute_group vfmig_group = {
	.name = "vfmig",
	.attrs = vfmig_attrs,
	.bin_attrs = vfmig_bin_attrs,
};

const struct attribute_group *vfmig_groups[] = { &vfmig_group, NULL };
