// SPDX-License-Identifier: GPL-2.0
/* v1_regions.c: config space, BAR 0, the data section, and what the device answers to VFIO's calls. */
#include <linux/bitmap.h>
#include <linux/pci_regs.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "vfmig_v1.h"

static unsigned int access_bytes;
module_param(access_bytes, uint, 0644);
MODULE_PARM_DESC(access_bytes, "largest access that the data section takes; 0: any");

/* ------------------------------------------------------ config and BAR 0 */

static int access_config(struct vfmig_v1 *d, u8 *buf, size_t count, u64 offset, bool write)
{
	size_t i;

	if (count > CONFIG_BYTES || offset > CONFIG_BYTES - count)
		return -EINVAL;
	if (!write) {
		memcpy(buf, d->config + offset, count);
		return 0;
	}
	for (i = 0; i < count; i++) {
		u64 at = offset + i;
		u8 mask = 0;

		if (at == PCI_COMMAND)
			mask = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
		else if (at == PCI_COMMAND + 1)
			mask = PCI_COMMAND_INTX_DISABLE >> 8;
		else if (at == PCI_CACHE_LINE_SIZE || at == PCI_INTERRUPT_LINE)
			mask = 0xff;
		else if (at >= PCI_BASE_ADDRESS_0 && at < PCI_BASE_ADDRESS_1)
			mask = (u32)~(BAR_BYTES - 1) >> (8 * (at - PCI_BASE_ADDRESS_0));
		d->config[at] = (d->config[at] & ~mask) | (buf[i] & mask);
	}
	return 0;
}

/* Each page's first word is its number, counted from 1: what a log of dirty pages must show is known exactly. */
static int write_user_pages(struct vfmig_v1 *d, u64 pages)
{
	if (!(d->device_state & STATE_RUNNING))
		return -EIO;
	for (u64 i = 0; i < pages; i++) {
		u64 number = d->bar_dma_done + 1;
		int ret = vfio_dma_rw(&d->vdev, d->bar_dma_iova + i * PAGE_SIZE, &number, sizeof(number), true);

		if (ret)
			return ret;
		d->bar_dma_done = number;
	}
	return 0;
}

/* Any number of bytes from anywhere: the pages that they begin and end in count as well. */
static int write_user_bytes(struct vfmig_v1 *d, u64 length)
{
	void *bytes;
	int ret;

	if (!(d->device_state & STATE_RUNNING))
		return -EIO;
	if (!length || length > DMA_BYTES_MAX)
		return -EINVAL;
	bytes = kvmalloc(length, GFP_KERNEL);
	if (!bytes)
		return -ENOMEM;
	memset(bytes, 0xdb, length);
	ret = vfio_dma_rw(&d->vdev, d->bar_dma_iova, bytes, length, true);
	kvfree(bytes);
	return ret;
}

static int access_bar_register(struct vfmig_v1 *d, u64 offset, u64 *value, bool write)
{
	switch (offset) {
	case 0x08: /* where DMA goes */
		if (write)
			d->bar_dma_iova = *value;
		*value = d->bar_dma_iova;
		return 0;
	case 0x10: /* write: that many pages; read: pages written so far */
		if (write)
			return write_user_pages(d, *value);
		*value = d->bar_dma_done;
		return 0;
	case 0x18: /* write: changes that many pages of state; read: the state's digest */
		if (write)
			vfmig_change_pages(d, min(*value, d->state_pages * 16));
		*value = vfmig_digest(d);
		return 0;
	case 0x20: /* which part of the state the window shows */
		if (write && *value > d->state_bytes - (BAR_BYTES - BAR_WINDOW))
			return -EINVAL;
		if (write)
			d->bar_window = *value;
		*value = d->bar_window;
		return 0;
	case 0x28: /* write: that many bytes where DMA goes */
		return write ? write_user_bytes(d, *value) : 0;
	}
	if (!write)
		*value = offset ? 0 : CHUNK_MAGIC;
	return 0;
}

static int access_bar(struct vfmig_v1 *d, void *buf, size_t count, u64 offset, bool write)
{
	u64 at = d->bar_window + offset - BAR_WINDOW;

	if (count > BAR_BYTES || offset > BAR_BYTES - count)
		return -EINVAL;
	if (offset < BAR_WINDOW) {
		u64 value = 0;
		int ret;

		if (count > sizeof(value))
			return -EINVAL;
		if (write)
			memcpy(&value, buf, count);
		ret = access_bar_register(d, offset, &value, write);
		if (!write)
			memcpy(buf, &value, count);
		return ret;
	}
	if (!write) {
		memcpy(buf, d->state + at, count);
		return 0;
	}
	memcpy(d->state + at, buf, count);
	bitmap_set(d->dirty, at / PAGE_SIZE, (at + count - 1) / PAGE_SIZE - at / PAGE_SIZE + 1);
	return 0;
}

static int access_migration(struct vfmig_v1 *d, void *buf, size_t count, u64 offset, bool write)
{
	if (offset < REGISTERS_BYTES)
		return vfmig_access_register(d, buf, count, offset, write);
	offset -= REGISTERS_BYTES;
	if (count > d->section_bytes || offset > d->section_bytes - count)
		return vfmig_refuse(d, "an access past the data section");
	if (access_bytes && count > access_bytes)
		return vfmig_refuse(d, "an access to the data section wider than access_bytes");
	if (write) {
		memcpy(d->section + offset, buf, count);
		d->trapped_writes += count;
	} else {
		memcpy(buf, d->section + offset, count);
		d->trapped_reads += count;
	}
	return 0;
}

/* -------------------------------------------------------- file operations */

static int access_any(struct vfmig_v1 *d, void *buf, size_t count, u64 pos, bool write)
{
	u64 offset = pos & (BIT_ULL(OFFSET_SHIFT) - 1);
	int ret = -EINVAL;

	mutex_lock(&d->lock);
	switch (pos >> OFFSET_SHIFT) {
	case VFIO_PCI_BAR0_REGION_INDEX:
		ret = access_bar(d, buf, count, offset, write);
		break;
	case VFIO_PCI_CONFIG_REGION_INDEX:
		ret = access_config(d, buf, count, offset, write);
		break;
	case MIGRATION_INDEX:
		ret = access_migration(d, buf, count, offset, write);
		break;
	}
	mutex_unlock(&d->lock);
	return ret;
}

/* One call, one access: what a user asks for in one read is what is counted. */
static ssize_t vfmig_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *ppos)
{
	struct vfmig_v1 *d = to_vfmig(vdev);
	void *bounce;
	ssize_t ret;

	if (!count || count > d->section_bytes + REGISTERS_BYTES)
		return -EINVAL;
	bounce = kvzalloc(count, GFP_KERNEL);
	if (!bounce)
		return -ENOMEM;
	ret = access_any(d, bounce, count, *ppos, false);
	if (!ret && copy_to_user(buf, bounce, count))
		ret = -EFAULT;
	kvfree(bounce);
	if (ret)
		return ret;
	*ppos += count;
	return count;
}

static ssize_t vfmig_write(struct vfio_device *vdev, const char __user *buf, size_t count, loff_t *ppos)
{
	struct vfmig_v1 *d = to_vfmig(vdev);
	void *bounce;
	ssize_t ret;

	if (!count || count > d->section_bytes + REGISTERS_BYTES)
		return -EINVAL;
	bounce = vmemdup_user(buf, count);
	if (IS_ERR(bounce))
		return PTR_ERR(bounce);
	ret = access_any(d, bounce, count, *ppos, true);
	kvfree(bounce);
	if (ret)
		return ret;
	*ppos += count;
	return count;
}

/* Where the data section may be mapped, as offsets in the region; how many. */
static u32 mapped_areas(const struct vfmig_v1 *d, struct vfio_region_sparse_mmap_area areas[2])
{
	u64 quarter = ALIGN_DOWN(d->section_bytes / 4, PAGE_SIZE);

	if (d->kind == SECTION_TRAPPED)
		return 0;
	areas[0].offset = REGISTERS_BYTES;
	areas[0].size = d->section_bytes;
	if (d->kind == SECTION_MAPPED)
		return 1;
	areas[0].offset = REGISTERS_BYTES + 3 * quarter;
	areas[0].size = d->section_bytes - 3 * quarter;
	areas[1].offset = REGISTERS_BYTES + quarter;
	areas[1].size = quarter;
	return 2;
}

static int vfmig_mmap(struct vfio_device *vdev, struct vm_area_struct *vma)
{
	struct vfmig_v1 *d = to_vfmig(vdev);
	u64 offset = (vma->vm_pgoff & (BIT_ULL(OFFSET_SHIFT - PAGE_SHIFT) - 1)) << PAGE_SHIFT;
	u64 size = vma->vm_end - vma->vm_start;
	struct vfio_region_sparse_mmap_area areas[2];
	u32 i, count = mapped_areas(d, areas);

	if (vma->vm_pgoff >> (OFFSET_SHIFT - PAGE_SHIFT) != MIGRATION_INDEX || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	for (i = 0; i < count; i++) {
		if (offset < areas[i].offset || offset - areas[i].offset > areas[i].size ||
		    size > areas[i].size - (offset - areas[i].offset))
			continue;
		atomic_inc(&d->maps);
		return remap_vmalloc_range(vma, d->section, (offset - REGISTERS_BYTES) >> PAGE_SHIFT);
	}
	return -EINVAL;
}

static int add_migration_caps(struct vfmig_v1 *d, struct vfio_region_info *info, struct vfio_info_cap *caps)
{
	struct vfio_region_info_cap_type type = {
		.header = { .id = VFIO_REGION_INFO_CAP_TYPE, .version = 1 },
		.type = VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
		.subtype = VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED,
	};
	struct {
		struct vfio_region_info_cap_sparse_mmap cap;
		struct vfio_region_sparse_mmap_area areas[2];
	} sparse = { .cap.header = { .id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1 } };
	int ret = vfio_info_add_capability(caps, &type.header, sizeof(type));

	sparse.cap.nr_areas = mapped_areas(d, sparse.areas);
	if (ret || !sparse.cap.nr_areas)
		return ret;
	info->flags |= VFIO_REGION_INFO_FLAG_MMAP;
	return vfio_info_add_capability(caps, &sparse.cap.header,
					struct_size(&sparse.cap, areas, sparse.cap.nr_areas));
}

static long region_info(struct vfmig_v1 *d, struct vfio_region_info __user *arg)
{
	const unsigned long minsz = offsetofend(struct vfio_region_info, offset);
	struct vfio_info_cap caps = {};
	struct vfio_region_info info;
	long ret = 0;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index > MIGRATION_INDEX)
		return -EINVAL;
	info.offset = (u64)info.index << OFFSET_SHIFT;
	info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	info.cap_offset = 0;
	if (info.index == VFIO_PCI_BAR0_REGION_INDEX) {
		info.size = BAR_BYTES;
	} else if (info.index == VFIO_PCI_CONFIG_REGION_INDEX) {
		info.size = CONFIG_BYTES;
	} else if (info.index == MIGRATION_INDEX) {
		info.size = REGISTERS_BYTES + d->section_bytes;
		ret = add_migration_caps(d, &info, &caps);
	} else {
		info.size = 0;
		info.flags = 0;
	}
	if (!ret && caps.size) {
		info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
		if (info.argsz < sizeof(info) + caps.size) {
			info.argsz = sizeof(info) + caps.size;
		} else {
			vfio_info_cap_shift(&caps, sizeof(info));
			if (copy_to_user(arg + 1, caps.buf, caps.size))
				ret = -EFAULT;
			info.cap_offset = sizeof(info);
		}
	}
	kfree(caps.buf);
	if (!ret && copy_to_user(arg, &info, minsz))
		ret = -EFAULT;
	return ret;
}

static long device_info(struct vfio_device_info __user *arg)
{
	const unsigned long minsz = offsetofend(struct vfio_device_info, num_irqs);
	struct vfio_device_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = MIGRATION_INDEX + 1;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long irq_info(struct vfio_irq_info __user *arg)
{
	const unsigned long minsz = offsetofend(struct vfio_irq_info, count);
	struct vfio_irq_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.flags = 0;
	info.count = 0;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

/* Nothing of the user's memory is held: each write looks it up. vfio_dma_rw asks for this function all the same. */
static void vfmig_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
}

static long vfmig_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	struct vfmig_v1 *d = to_vfmig(vdev);

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return device_info((void __user *)arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return region_info(d, (void __user *)arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return irq_info((void __user *)arg);
	case VFIO_DEVICE_SET_IRQS:
		return -EINVAL; /* it has none */
	case VFIO_DEVICE_RESET:
		mutex_lock(&d->lock);
		vfmig_reset(d);
		mutex_unlock(&d->lock);
		return 0;
	}
	return -ENOTTY;
}

const struct vfio_device_ops vfmig_ops = {
	.name = "vfmig_v1",
	.init = vfmig_init,
	.release = vfmig_release,
	.read = vfmig_read,
	.write = vfmig_write,
	.ioctl = vfmig_ioctl,
	.mmap = vfmig_mmap,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
	.dma_unmap = vfmig_dma_unmap,
};
