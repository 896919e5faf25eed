/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_group.c: opens a device by its group, in a type1v2 container of its own. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "device/kernel.h"
#include "device/kernel_reasons.h"
#include "uapi/vfio_compat.h"

static int open_container(const struct kernel_place *place, int *ret, struct vfmig_error *err)
{
	char path[KERNEL_PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/vfio/vfio", place->roots->dev);
	if (n < 0 || (size_t)n >= sizeof(path))
		return error_set(err, -ENAMETOOLONG, "the path of the container is too long");
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return kernel_refuse_node(place, path, KERNEL_NO_VFIO, -errno, err);
	int version = kernel_ioctl(fd, VFIO_GET_API_VERSION, NULL);
	int r = 0;
	if (version < 0)
		r = error_errno(err, version, "%s: asking for its version", path);
	else if (version != VFIO_API_VERSION)
		r = error_set(err, -EPROTO, "%s speaks version %d, expected was %d", path, version, VFIO_API_VERSION);
	else if (kernel_ioctl(fd, VFIO_CHECK_EXTENSION, (void *)VFIO_TYPE1v2_IOMMU) <= 0)
		r = kernel_refuse(KERNEL_CONTAINER_REFUSES, place, "it does not offer type1v2", -ENODEV, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret = fd;
	return 0;
}

static int open_group(const struct kernel_place *place, int *ret, struct vfmig_error *err)
{
	char path[KERNEL_PATH_MAX];
	if (!kernel_group_node(place, path, sizeof(path)))
		return error_set(err, -ENAMETOOLONG, "the path of the group is too long");
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return kernel_refuse_node(place, path, KERNEL_NO_GROUP_NODE, -errno, err);
	*ret = fd;
	return 0;
}

static int check_group(const struct kernel_place *place, int group, struct vfmig_error *err)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int r = kernel_ioctl(group, VFIO_GROUP_GET_STATUS, &status);
	if (r < 0)
		return error_errno(err, r, "group %d: its status", place->group);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return kernel_refuse(KERNEL_GROUP_NOT_VIABLE, place, NULL, -EPERM, err);
	return 0;
}

static int attach(const struct kernel_place *place, int group, int container, struct vfmig_error *err)
{
	int r = kernel_ioctl(group, VFIO_GROUP_SET_CONTAINER, &container);
	if (r < 0)
		return kernel_refuse(KERNEL_CONTAINER_REFUSES, place, "adding the group", r, err);
	r = kernel_ioctl(container, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU);
	return r < 0 ? kernel_refuse(KERNEL_CONTAINER_REFUSES, place, "switching type1v2 on", r, err) : 0;
}

int kernel_open_group(const struct kernel_place *place, int *ret_fd, struct kernel_memory *ret_memory,
		      struct vfmig_error *err)
{
	struct kernel_memory memory = { .kind = KERNEL_MEMORY_CONTAINER, .fd = -1, .group = -1 };
	char name[KERNEL_NAME_MAX];
	int fd = -1;
	int r = open_container(place, &memory.fd, err);
	if (r == 0)
		r = open_group(place, &memory.group, err);
	if (r == 0)
		r = check_group(place, memory.group, err);
	if (r == 0)
		r = attach(place, memory.group, memory.fd, err);
	if (r == 0) {
		strcpy(name, place->name);
		fd = kernel_ioctl(memory.group, VFIO_GROUP_GET_DEVICE_FD, name);
		if (fd < 0)
			r = kernel_refuse(fd == -EBUSY ? KERNEL_BUSY : KERNEL_NOT_IN_GROUP, place, place->name, fd,
					  err);
	}
	if (r < 0) {
		kernel_memory_close(&memory);
		return r;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	*ret_fd = fd;
	*ret_memory = memory;
	return 0;
}
