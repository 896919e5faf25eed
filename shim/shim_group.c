/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_group.c: /dev/vfio/N: a group, which has one device. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

static long get_status(const struct shim_group *g, struct vfio_group_status *arg)
{
	if (arg->argsz < sizeof(*arg))
		return -EINVAL;
	arg->flags = VFIO_GROUP_FLAGS_VIABLE | (g->container ? VFIO_GROUP_FLAGS_CONTAINER_SET : 0);
	return 0;
}

static long unset_container(struct shim_group *g)
{
	if (!g->container)
		return -EINVAL;
	if (g->device->opens)
		return -EBUSY;
	shim_container_detach(g);
	return 0;
}

static long get_device_fd(struct shim_group *g, const char *name)
{
	if (!g->container || !g->container->has_iommu)
		return -EINVAL;
	if (strcmp(name, g->device->name) != 0)
		return -ENODEV;
	return shim_device_open(g->device, g);
}

static long group_ioctl(struct shim_file *f, int fd, unsigned long request, void *arg)
{
	struct shim_group *g = (struct shim_group *)f;
	long r;

	(void)fd;
	shim_control_lock();
	switch (request) {
	case VFIO_GROUP_GET_STATUS:
		r = get_status(g, arg);
		break;
	case VFIO_GROUP_SET_CONTAINER:
		r = g->container ? -EINVAL : shim_container_attach(*(const int *)arg, g);
		break;
	case VFIO_GROUP_UNSET_CONTAINER:
		r = unset_container(g);
		break;
	case VFIO_GROUP_GET_DEVICE_FD:
		r = get_device_fd(g, arg);
		break;
	default:
		r = -ENOTTY;
	}
	shim_control_unlock();
	return r;
}

/* Its device is closed: an open one holds the group. */
static void group_release(struct shim_file *f)
{
	struct shim_group *g = (struct shim_group *)f;

	shim_control_lock();
	if (g->container)
		shim_container_detach(g);
	g->device->group = NULL;
	shim_control_unlock();
	free(g);
}

static const struct shim_file_ops group_ops = { .ioctl = group_ioctl, .release = group_release };

int shim_group_open(struct shim_device *d, bool cloexec)
{
	struct shim_group *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	*g = (struct shim_group){ .file = { &group_ops, 1 }, .device = d };
	shim_control_lock();
	bool busy = d->group;
	if (!busy)
		d->group = g;
	shim_control_unlock();
	if (busy) {
		free(g);
		return -EBUSY;
	}
	int fd = shim_file_new_fd(&g->file, "vfmig-group", cloexec);
	shim_file_put(&g->file);
	return fd;
}
