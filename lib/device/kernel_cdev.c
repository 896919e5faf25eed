/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_cdev.c: opens a device by its own file, with an iommufd's address space of its own. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "device/kernel.h"
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
			struct vfmig_error *err)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
	int r = kernel_ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind);
	if (r == -EBUSY || r == -EINVAL)
		return kernel_refuse(KERNEL_BUSY, place, path, -EBUSY, err);
	return r < 0 ? kernel_refuse(KERNEL_IOMMUFD_REFUSES, place, "binding it", r, err) : 0;
}

static int attach(const struct kernel_place *place, int fd, int iommufd, uint32_t *ret_ioas, struct vfmig_error *err)
{
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	int r = kernel_ioctl(iommufd, IOMMU_IOAS_ALLOC, &ioas);
	if (r < 0)
		return kernel_refuse(KERNEL_IOMMUFD_REFUSES, place, "making an address space", r, err);
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = ioas.out_ioas_id };
	r = kernel_ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
	if (r < 0)
		return kernel_refuse(KERNEL_IOMMUFD_REFUSES, place, "attaching it to an address space", r, err);
	*ret_ioas = ioas.out_ioas_id;
	return 0;
}

int kernel_open_cdev(const struct kernel_place *place, int *ret_fd, struct kernel_memory *ret_memory,
		     struct vfmig_error *err)
{
	struct kernel_memory memory = { .kind = KERNEL_MEMORY_IOMMUFD, .fd = -1, .group = -1 };
	char path[KERNEL_PATH_MAX];
	int fd = -1;
	if (!kernel_cdev_node(place, path, sizeof(path)))
		return error_set(err, -ENAMETOOLONG, "the path of the device's file is too long");
	int r = open_node(place, path, KERNEL_NO_CDEV, &fd, err);
	if (r == 0)
		r = open_iommufd(place, &memory.fd, err);
	if (r == 0)
		r = bind_iommufd(place, path, fd, memory.fd, err);
	if (r == 0)
		r = attach(place, fd, memory.fd, &memory.ioas_id, err);
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
