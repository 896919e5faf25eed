/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_device.c: the device's fd: opening the device behind it, its info and its interrupts. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "shim.h"
#include "shim_caps.h"
#include "shim_regions.h"
#include "sim/sim_access.h"

#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))
#define SIM "sim:"
#define VFIO_USER "vfio-user:"
#define TIMEOUT_MS 30000u
#define IRQS_MAX 2048u

/* An open file of a device. */
struct device_file {
	struct shim_file file;
	struct shim_device *device;
	struct shim_group *group; /* held, or NULL */
};

int shim_errno(int r)
{
	switch (r) {
	case -EOPNOTSUPP:
		return -ENOTTY;
	case -ENOTCONN:
		return -ENODEV;
	case -ETIMEDOUT:
	case -EINPROGRESS:
	case -EPROTO:
		return -EIO;
	default:
		return r;
	}
}

/* ---------------------------------------------------------- open and close */

/* Called by the device's own thread. */
static int dma_write(void *opaque, uint64_t iova, const void *data, size_t length)
{
	const struct shim_device *d = opaque;

	return shim_memory_write(&d->group->container->memory, iova, data, length);
}

static int open_access(struct shim_device *d)
{
	if (strncmp(d->uri, SIM, strlen(SIM)) != 0)
		return user_access_open(d->uri + strlen(VFIO_USER), TIMEOUT_MS, &d->access, NULL);
	int r = sim_access_open(d->uri + strlen(SIM), &d->access, NULL);
	if (r < 0)
		return r;
	sim_access_serve(d->access, dma_write, d);
	d->tells_dma = true;
	return 0;
}

static void close_access(struct shim_device *d)
{
	shim_transfer_end(d);
	shim_regions_unmap(d);
	if (d->access && d->tells_dma)
		sim_access_dump(d->access, NULL);
	access_close(d->access);
	d->access = NULL;
	d->tells_dma = d->has_v2 = false;
}

/* The device behind the first fd. Its threads get none of the program's signals. */
static int first_open(struct shim_device *d)
{
	sigset_t all, old;
	uint64_t flags = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = open_access(d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		r = access_device_info(d->access, &d->info, NULL);
	if (r == 0)
		d->has_v2 = access_feature(d->access, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, &flags,
					   sizeof(flags), NULL) == 0;
	if (r < 0)
		close_access(d);
	return shim_errno(r);
}

/* Whoever has its fd has it, and with the last fd the device is closed. */
static void device_release(struct shim_file *f)
{
	struct device_file *file = (struct device_file *)f;
	struct shim_device *d = file->device;

	shim_control_lock();
	if (--d->opens == 0) {
		pthread_mutex_lock(&d->lock);
		close_access(d);
		pthread_mutex_unlock(&d->lock);
	}
	shim_control_unlock();
	if (file->group)
		shim_file_put(&file->group->file);
	free(file);
}

void shim_device_at_exit(struct shim_device *d)
{
	if (pthread_mutex_trylock(&d->lock))
		return; /* another thread still works with it */
	if (d->access && d->tells_dma)
		sim_access_dump(d->access, NULL);
	pthread_mutex_unlock(&d->lock);
}

static const struct shim_file_ops device_ops;

static int new_file(struct shim_device *d, struct shim_group *group, struct device_file **ret)
{
	struct device_file *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	pthread_mutex_lock(&d->lock);
	int r = d->access ? 0 : first_open(d);
	pthread_mutex_unlock(&d->lock);
	if (r == 0 && group && d->opens == 0)
		r = shim_container_replay(group->container, d);
	if (r < 0 && d->opens == 0) {
		pthread_mutex_lock(&d->lock);
		close_access(d);
		pthread_mutex_unlock(&d->lock);
	}
	if (r < 0) {
		free(f);
		return shim_errno(r);
	}
	d->opens++;
	if (group)
		shim_file_hold(&group->file);
	*f = (struct device_file){ .file = { &device_ops, 1 }, .device = d, .group = group };
	*ret = f;
	return 0;
}

/* The name is how another program under the shim recognises an fd that is handed over. */
int shim_device_open(struct shim_device *d, struct shim_group *group)
{
	struct device_file *f;
	char name[250]; /* memfd_create takes no more */
	int r = new_file(d, group, &f);

	if (r < 0)
		return r;
	bool fits = strlen(SHIM_DEVICE_FD) + strlen(d->uri) < sizeof(name);
	snprintf(name, sizeof(name), SHIM_DEVICE_FD "%.230s", fits && !d->tells_dma ? d->uri : "");
	int fd = shim_file_new_fd(&f->file, name, true);
	/* The kernel's is no regular file; for who checks that a mapping is inside this one it has a size. */
	if (fd >= 0 && ftruncate(fd, (off_t)d->info.num_regions << SHIM_REGION_SHIFT) < 0) {
		r = -errno;
		close(fd);
	}
	shim_file_put(&f->file);
	return r < 0 ? r : fd;
}

int shim_device_adopt(struct shim_device *d, int fd)
{
	struct device_file *f;
	int r = new_file(d, NULL, &f);

	if (r < 0)
		return r;
	r = shim_file_install(&f->file, fd);
	shim_file_put(&f->file);
	return r;
}

/* ------------------------------------------------------------------- info */

static long get_info(struct shim_device *d, struct vfio_device_info *arg)
{
	if (arg->argsz < END_OF(struct vfio_device_info, num_irqs))
		return -EINVAL;
	arg->flags = d->info.flags;
	arg->num_regions = d->info.num_regions;
	arg->num_irqs = d->info.num_irqs;
	if (arg->argsz >= END_OF(struct vfio_device_info, cap_offset))
		arg->cap_offset = 0;
	return 0;
}

static bool is_whole(const struct access_region_info *info)
{
	return info->num_areas == 1 && info->areas[0].offset == 0 && info->areas[0].size == info->size;
}

static uint32_t caps_size(const struct access_region_info *info)
{
	uint32_t size = info->has_type ? sizeof(struct vfio_region_info_cap_type) : 0;

	if (info->num_areas && !is_whole(info))
		size += (uint32_t)(sizeof(struct vfio_region_info_cap_sparse_mmap) +
				   info->num_areas * sizeof(struct vfio_region_sparse_mmap_area));
	return size;
}

static void caps_fill(const struct access_region_info *info, struct shim_caps *caps)
{
	if (info->num_areas && !is_whole(info)) {
		struct vfio_region_info_cap_sparse_mmap sparse = {
			.header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .nr_areas = (uint32_t)info->num_areas,
		};
		_Static_assert(sizeof(struct vfio_region_sparse_mmap_area) == sizeof(struct access_area), "the same");
		shim_caps_add(caps, &sparse, sizeof(sparse));
		memcpy(caps->bytes + caps->size, info->areas, info->num_areas * sizeof(*info->areas));
		caps->size += (uint32_t)(info->num_areas * sizeof(*info->areas));
	}
	if (info->has_type) {
		struct vfio_region_info_cap_type type = {
			.header.id = VFIO_REGION_INFO_CAP_TYPE, .type = info->type, .subtype = info->subtype,
		};
		shim_caps_add(caps, &type, sizeof(type));
	}
}

static long get_region_info(struct shim_device *d, struct vfio_region_info *arg)
{
	struct access_region_info info;

	if (arg->argsz < sizeof(*arg) || arg->index >= d->info.num_regions)
		return -EINVAL;
	int r = access_region_info(d->access, arg->index, &info, NULL);
	if (r < 0)
		return shim_errno(r);
	uint32_t caps = caps_size(&info);
	arg->flags = info.flags | (caps ? VFIO_REGION_INFO_FLAG_CAPS : 0);
	arg->size = info.size;
	arg->offset = (uint64_t)arg->index << SHIM_REGION_SHIFT;
	arg->cap_offset = 0;
	if (caps && arg->argsz < sizeof(*arg) + caps) {
		arg->argsz = (uint32_t)sizeof(*arg) + caps;
	} else if (caps) {
		struct shim_caps chain = { .bytes = (uint8_t *)(arg + 1), .base = sizeof(*arg) };
		caps_fill(&info, &chain);
		arg->cap_offset = sizeof(*arg);
	}
	access_region_info_clear(&info);
	return 0;
}

static long get_irq_info(struct shim_device *d, struct vfio_irq_info *arg)
{
	struct access_irq_info info;

	if (arg->argsz < sizeof(*arg) || arg->index >= d->info.num_irqs)
		return -EINVAL;
	int r = access_irq_info(d->access, arg->index, &info, NULL);
	if (r < 0)
		return shim_errno(r);
	arg->flags = info.flags;
	arg->count = info.count;
	return 0;
}

/* ------------------------------------------------------------- interrupts */

static int check_irqs(struct shim_device *d, const struct vfio_irq_set *s)
{
	const uint32_t data = s->flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	struct access_irq_info info = { 0 };

	if (s->argsz < sizeof(*s) || s->index >= d->info.num_irqs || s->count >= UINT32_MAX - s->start)
		return -EINVAL;
	if (s->flags & ~(uint32_t)(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK))
		return -EINVAL;
	int r = access_irq_info(d->access, s->index, &info, NULL);
	if (r < 0)
		return shim_errno(r);
	if (s->start >= info.count || s->start + s->count > info.count || s->count > IRQS_MAX)
		return -EINVAL;
	uint32_t width = data == VFIO_IRQ_SET_DATA_EVENTFD ? sizeof(int32_t) : data == VFIO_IRQ_SET_DATA_BOOL ? 1 : 0;
	if (!width && data != VFIO_IRQ_SET_DATA_NONE)
		return -EINVAL;
	return width && (!s->count || s->argsz - sizeof(*s) < (uint64_t)s->count * width) ? -EINVAL : 0;
}

/* Masking, and making the device raise one, are not an access's to do. */
static long set_irqs(struct shim_device *d, const struct vfio_irq_set *s)
{
	int r = check_irqs(d, s);
	int32_t eventfds[IRQS_MAX];

	if (r < 0)
		return r;
	if (!(s->flags & VFIO_IRQ_SET_ACTION_TRIGGER))
		return -ENOTTY;
	if (s->flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		memcpy(eventfds, s->data, s->count * sizeof(eventfds[0]));
		return shim_errno(access_set_irqs(d->access, s->index, s->start, s->count, eventfds, NULL));
	}
	if (s->count || !(s->flags & VFIO_IRQ_SET_DATA_NONE))
		return -ENOTTY;
	return shim_errno(access_set_irqs(d->access, s->index, 0, 0, NULL, NULL));
}

/* ------------------------------------------------------------------- file */

static long reset(struct shim_device *d)
{
	int r = access_reset(d->access, NULL);

	if (r == 0)
		shim_transfer_end(d);
	return shim_errno(r);
}

static long device_ioctl_locked(struct shim_device *d, unsigned long request, void *arg)
{
	switch (request) {
	case VFIO_DEVICE_GET_INFO:
		return get_info(d, arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return get_region_info(d, arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return get_irq_info(d, arg);
	case VFIO_DEVICE_SET_IRQS:
		return set_irqs(d, arg);
	case VFIO_DEVICE_RESET:
		return reset(d);
	case VFIO_DEVICE_FEATURE:
		return shim_feature(d, arg);
	default:
		return -ENOTTY;
	}
}

static long device_ioctl(struct shim_file *f, int fd, unsigned long request, void *arg)
{
	struct shim_device *d = ((struct device_file *)f)->device;

	(void)fd;
	pthread_mutex_lock(&d->lock);
	long r = device_ioctl_locked(d, request, arg);
	pthread_mutex_unlock(&d->lock);
	return r;
}

static ssize_t device_read(struct shim_file *f, int fd, void *buffer, size_t length, off_t offset)
{
	return shim_regions_read(((struct device_file *)f)->device, fd, buffer, length, offset);
}

static ssize_t device_write(struct shim_file *f, int fd, const void *buffer, size_t length, off_t offset)
{
	return shim_regions_write(((struct device_file *)f)->device, fd, buffer, length, offset);
}

static int device_mmap(struct shim_file *f, void *address, size_t length, int protection, int flags, off_t offset,
		       void **ret)
{
	return shim_regions_mmap(((struct device_file *)f)->device, address, length, protection, flags, offset, ret);
}

static const struct shim_file_ops device_ops = {
	.ioctl = device_ioctl,
	.read = device_read,
	.write = device_write,
	.mmap = device_mmap,
	.release = device_release,
};
