/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_cdev.c: opens a device by its own file, with an iommufd's address space of its own. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "device/kernel_dirty.h"
#include "device/kernel_reasons.h"
#include "uapi/vfio_compat.h"

static int open_node(const struct kernel_place *place, const char *path, enum kernel_reason absent, int *ret,
		     struct vfmig_error *err)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return kernel_refuse_node(place, path, absent, -errno, err);
	*ret = fd;
	return 0;
}

static int open_iommufd(const struct kernel_place *place, int *ret, struct vfmig_error *err)
{
	char path[KERNEL_PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/iommu", place->roots->dev);
	if (n < 0 || (size_t)n >= sizeof(path))
		return error_set(err, -ENAMETOOLONG, "the path of iommufd is too long");
	return open_node(place, path, KERNEL_NO_IOMMUFD, ret, err);
}

/* The file opens for anyone; this is what makes one its owner. A second owner is EINVAL,
 * one beside a group's EBUSY. */
static int bind_iommufd(const struct kernel_place *place, const char *path, int fd, int iommufd,
			uint32_t *ret_device_id, struct vfmig_error *err)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
	int r = kernel_ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind);
	char others[KERNEL_PATH_MAX];
	if (r == -EPERM && kernel_group_blockers(place, others, sizeof(others)) > 0)
		return kernel_refuse(KERNEL_GROUP_NOT_VIABLE, place, NULL, r, err);
	if (r == -EBUSY || r == -EINVAL)
		return kernel_refuse(KERNEL_BUSY, place, path, -EBUSY, err);
	if (r < 0)
		return kernel_refuse(KERNEL_IOMMUFD_REFUSES, place, "binding it", r, err);
	*ret_device_id = bind.out_devid;
	return 0;
}

/* id: of an address space, or of a page table of one. */
static int attach(int fd, uint32_t id)
{
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = id };
	return kernel_ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

/* Only a page table made for it logs writes; not every IOMMU has such, and a mediated device has none at all. */
static bool attach_to_log(int fd, uint32_t device_id, struct kernel_memory *memory)
{
	uint32_t id;
	if (kernel_hwpt_new(memory->fd, device_id, memory->ioas_id, &id) < 0)
		return false;
	if (attach(fd, id) < 0) {
		(void)kernel_iommufd_destroy(memory->fd, id);
		return false;
	}
	memory->hwpt_id = id;
	return true;
}

static int attach_to_space(const struct kernel_place *place, int fd, uint32_t device_id, struct kernel_memory *memory,
			   struct vfmig_error *err)
{
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	int r = kernel_ioctl(memory->fd, IOMMU_IOAS_ALLOC, &ioas);
	if (r < 0)
		return kernel_refuse(KERNEL_IOMMUFD_REFUSES, place, "making an address space", r, err);
	memory->ioas_id = ioas.out_ioas_id;
	if (attach_to_log(fd, device_id, memory))
		return 0;
	r = attach(fd, memory->ioas_id);
	return r < 0 ? kernel_refuse(KERNEL_IOMMUFD_REFUSES, place, "attaching it to an address space", r, err) : 0;
}

int kernel_open_cdev(const struct kernel_place *place, int *ret_fd, struct kernel_memory *ret_memory,
		     struct vfmig_error *err)
{
	struct kernel_memory memory = { .kind = KERNEL_MEMORY_IOMMUFD, .fd = -1, .group = -1 };
	char path[KERNEL_PATH_MAX];
	uint32_t device_id = 0;
	int fd = -1;
	if (!kernel_cdev_node(place, path, sizeof(path)))
		return error_set(err, -ENAMETOOLONG, "the path of the device's file is too long");
	int r = open_node(place, path, KERNEL_NO_CDEV, &fd, err);
	if (r == 0)
		r = open_iommufd(place, &memory.fd, err);
	if (r == 0)
		r = bind_iommufd(place, path, fd, memory.fd, &device_id, err);
	if (r == 0)
		r = attach_to_space(place, fd, device_id, &memory, err);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		kernel_memory_close(&memory);
		return r;
	}
	*ret_fd = fd;
	*ret_memory = memory;
	return 0;
}
