// SPDX-License-Identifier: GPL-2.0
/* v1_main.c: the module: its parameters, the three types of device, their life. */
#include <linux/bitmap.h>
#include <linux/device.h>
#include <linux/module.h>
#include <linux/pci_regs.h>
#include <linux/random.h>
#include <linux/unaligned.h>
#include <linux/vmalloc.h>

#include "vfmig_v1.h"

static unsigned int state_kib = 4096;
module_param(state_kib, uint, 0644);
MODULE_PARM_DESC(state_kib, "size of the state of devices created from now on, KiB");

static unsigned int section_kib = 256;
module_param(section_kib, uint, 0644);
MODULE_PARM_DESC(section_kib, "size of their data section, KiB, 64 at least");

static unsigned int dirty_kib_s;
module_param(dirty_kib_s, uint, 0644);
MODULE_PARM_DESC(dirty_kib_s, "state that a running device changes in a second, KiB");

static bool precopy = true;
module_param(precopy, bool, 0644);
MODULE_PARM_DESC(precopy, "devices created from now on give data while they run");

static void tick(struct work_struct *work)
{
	struct vfmig_v1 *d = container_of(work, struct vfmig_v1, tick.work);

	mutex_lock(&d->lock);
	if (d->device_state & STATE_RUNNING) {
		d->ticks++;
		vfmig_change_pages(d, DIV_ROUND_UP((u64)dirty_kib_s * TICK_MS * 1024, 1000 * PAGE_SIZE));
	}
	mutex_unlock(&d->lock);
	schedule_delayed_work(&d->tick, msecs_to_jiffies(TICK_MS));
}

/* ------------------------------------------------------------- the device */

/* Indexed by enum vfmig_section. */
static struct mdev_type vfmig_types[] = {
	[SECTION_TRAPPED] = { .sysfs_name = "trapped", .pretty_name = "data section not mapped" },
	[SECTION_MAPPED] = { .sysfs_name = "mapped", .pretty_name = "data section mapped" },
	[SECTION_MIXED] = { .sysfs_name = "mixed", .pretty_name = "data section mapped in parts" },
};

static struct mdev_type *vfmig_type_list[] = {
	&vfmig_types[SECTION_TRAPPED], &vfmig_types[SECTION_MAPPED], &vfmig_types[SECTION_MIXED],
};

static void fill_config(u8 *p)
{
	put_unaligned_le16(VFMIG_VENDOR, p + PCI_VENDOR_ID);
	put_unaligned_le16(VFMIG_DEVICE, p + PCI_DEVICE_ID);
	put_unaligned_le32(VFMIG_CLASS << 8 | 1, p + PCI_CLASS_REVISION);
	put_unaligned_le16(VFMIG_VENDOR, p + PCI_SUBSYSTEM_VENDOR_ID);
	put_unaligned_le16(1, p + PCI_SUBSYSTEM_ID);
}

int vfmig_init(struct vfio_device *vdev)
{
	struct vfmig_v1 *d = to_vfmig(vdev);
	struct mdev_device *mdev = to_mdev_device(vdev->dev);

	mutex_init(&d->lock);
	INIT_DELAYED_WORK(&d->tick, tick);
	d->kind = mdev->type - vfmig_types;
	d->precopy = precopy;
	d->state_bytes = PAGE_ALIGN(max(state_kib, 4u) * 1024ull);
	d->state_pages = d->state_bytes / PAGE_SIZE;
	d->section_bytes = PAGE_ALIGN(max(section_kib, 64u) * 1024ull);
	d->random = get_random_u64() | 1;
	fill_config(d->config);
	d->state = vzalloc(d->state_bytes);
	d->section = vmalloc_user(d->section_bytes);
	d->dirty = bitmap_zalloc(d->state_pages, GFP_KERNEL);
	if (!d->state || !d->section || !d->dirty) {
		vfmig_release(vdev);
		return -ENOMEM;
	}
	vfmig_reset(d);
	d->resets = 0;
	return 0;
}

void vfmig_release(struct vfio_device *vdev)
{
	struct vfmig_v1 *d = to_vfmig(vdev);

	vfree(d->state);
	vfree(d->section);
	bitmap_free(d->dirty);
}

static int vfmig_probe(struct mdev_device *mdev)
{
	struct vfmig_v1 *d = vfio_alloc_device(vfmig_v1, vdev, &mdev->dev, &vfmig_ops);
	int ret;

	if (IS_ERR(d))
		return PTR_ERR(d);
	dev_set_drvdata(&mdev->dev, d);
	ret = vfio_register_emulated_iommu_dev(&d->vdev);
	if (ret) {
		vfio_put_device(&d->vdev);
		return ret;
	}
	schedule_delayed_work(&d->tick, 0);
	return 0;
}

static void vfmig_remove(struct mdev_device *mdev)
{
	struct vfmig_v1 *d = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&d->vdev);
	cancel_delayed_work_sync(&d->tick);
	vfio_put_device(&d->vdev);
}

static struct mdev_driver vfmig_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.max_instances = 16,
	.probe = vfmig_probe,
	.remove = vfmig_remove,
	.driver = {
		.name = "vfmig_v1",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
		.dev_groups = vfmig_groups,
	},
};

static struct mdev_parent vfmig_parent;
static struct class *vfmig_class;
static struct device *vfmig_root;

/* The types' names in sysfs begin with the class's. */
static int __init vfmig_module_init(void)
{
	int ret = mdev_register_driver(&vfmig_driver);

	if (ret)
		return ret;
	vfmig_class = class_create("vfmig_v1");
	if (IS_ERR(vfmig_class)) {
		ret = PTR_ERR(vfmig_class);
		goto unregister_driver;
	}
	vfmig_root = device_create(vfmig_class, NULL, 0, NULL, "vfmig_v1");
	if (IS_ERR(vfmig_root)) {
		ret = PTR_ERR(vfmig_root);
		goto destroy_class;
	}
	ret = mdev_register_parent(&vfmig_parent, vfmig_root, &vfmig_driver, vfmig_type_list,
				   ARRAY_SIZE(vfmig_type_list));
	if (!ret)
		return 0;
	device_unregister(vfmig_root);
destroy_class:
	class_destroy(vfmig_class);
unregister_driver:
	mdev_unregister_driver(&vfmig_driver);
	return ret;
}
module_init(vfmig_module_init);

static void __exit vfmig_module_exit(void)
{
	mdev_unregister_parent(&vfmig_parent);
	device_unregister(vfmig_root);
	class_destroy(vfmig_class);
	mdev_unregister_driver(&vfmig_driver);
}
module_exit(vfmig_module_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("PCI-like mediated device with a v1 migration region, for tests");
