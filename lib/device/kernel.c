/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel.c: a device of the kernel's, reached through its VFIO file descriptor. */
#include "device/kernel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "device/identity.h"
#include "device/kernel_dirty.h"
#include "device/kernel_reasons.h"
#include "device/user_reply.h"
#include "uapi/vfio_compat.h"

#define INFO_MAX VFIO_USER_MAX_REGION_INFO /* bytes of an info with its capabilities */
#define INFO_TRIES 4			   /* it may grow while it is asked for */
#define REGIONS_MAX 4096u

int kernel_ioctl(int fd, unsigned long request, void *arg)
{
	int r;
	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int kernel_meaning(int r)
{
	if (r == -ENOTTY)
		return -EOPNOTSUPP;
	return r == -ENODEV ? -ENOTCONN : r; /* taken away from under us */
}

static int kernel_device_info(struct access *a, struct access_device_info *ret, struct vfmig_error *err)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	int r = kernel_ioctl(kernel_of(a)->fd, VFIO_DEVICE_GET_INFO, &info);
	if (r < 0)
		return error_errno(err, kernel_meaning(r), "device info");
	if (info.num_regions > REGIONS_MAX)
		return error_set(err, -EPROTO, "device info: %u regions, expected were at most %u", info.num_regions,
				 REGIONS_MAX);
	ret->flags = info.flags;
	ret->num_regions = info.num_regions;
	ret->num_irqs = info.num_irqs;
	return 0;
}

int kernel_ask_info(int fd, unsigned long request, const void *question, uint32_t length, uint8_t **ret_body,
		    uint32_t *ret_length, struct vfmig_error *err)
{
	uint32_t room = length;
	for (int i = 0; i < INFO_TRIES; i++) {
		uint8_t *body = calloc(1, room);
		if (!body)
			return error_errno(err, -ENOMEM, "info");
		uint32_t wanted = room; /* argsz is the first word of each */
		memcpy(body, question, length);
		memcpy(body, &wanted, sizeof(wanted));
		int r = kernel_ioctl(fd, request, body);
		memcpy(&wanted, body, sizeof(wanted));
		if (r >= 0 && wanted <= room) {
			*ret_body = body;
			*ret_length = room;
			return 0;
		}
		free(body);
		if (r < 0)
			return error_errno(err, kernel_meaning(r), "info");
		if (wanted > INFO_MAX)
			return error_set(err, -EPROTO, "the kernel wants %u bytes for the info, at most are %u", wanted,
					 INFO_MAX);
		room = wanted;
	}
	return error_set(err, -EPROTO, "the info grows each time it is asked for");
}

static int remember_region(struct kernel_access *k, uint32_t index, const struct kernel_region *region,
			   struct vfmig_error *err)
{
	if (index >= k->num_regions) {
		struct kernel_region *regions = reallocarray(k->regions, index + 1, sizeof(*regions));
		if (!regions)
			return error_errno(err, -ENOMEM, "region %u", index);
		memset(regions + k->num_regions, 0, (index + 1 - k->num_regions) * sizeof(*regions));
		k->regions = regions;
		k->num_regions = index + 1;
	}
	k->regions[index] = *region;
	return 0;
}

static int kernel_region_info(struct access *a, uint32_t index, struct access_region_info *ret,
			      struct vfmig_error *err)
{
	struct vfio_region_info info = { .index = index };
	uint8_t *body = NULL;
	uint32_t length = 0;
	if (index >= REGIONS_MAX)
		return error_set(err, -EINVAL, "region %u: there is none", index);
	int r = kernel_ask_info(kernel_of(a)->fd, VFIO_DEVICE_GET_REGION_INFO, &info, sizeof(info), &body, &length,
				err);
	if (r < 0)
		return error_prefix(err, r, "region %u", index);
	memcpy(&info, body, sizeof(info));
	/* The layout is the one that vfio-user took over. */
	r = user_region_parse(body, length, true, ret, err);
	free(body);
	if (r == 0 && !range_inside(info.offset, info.size, INT64_MAX))
		r = error_set(err, -EPROTO, "region %u: 0x%llx bytes at 0x%llx of the device's file", index,
			      (unsigned long long)info.size, (unsigned long long)info.offset);
	if (r < 0)
		return r;
	return remember_region(kernel_of(a), index, &(struct kernel_region) { true, info.offset, info.size }, err);
}

/* Where [offset, offset + length) of a region is on the device's fd. */
static int find_region(struct access *a, uint32_t index, uint64_t offset, uint64_t length, uint64_t *ret,
		       struct vfmig_error *err)
{
	struct kernel_access *k = kernel_of(a);
	if (index >= k->num_regions || !k->regions[index].known) {
		struct access_region_info info = { .index = index };
		int r = kernel_region_info(a, index, &info, err);
		access_region_info_clear(&info);
		if (r < 0)
			return r;
	}
	if (!range_inside(offset, length, k->regions[index].size))
		return error_set(err, -EINVAL, "region %u: 0x%llx bytes at 0x%llx are outside its 0x%llx", index,
				 (unsigned long long)length, (unsigned long long)offset,
				 (unsigned long long)k->regions[index].size);
	*ret = k->regions[index].offset + offset;
	return 0;
}

/* One that is to be a single access: finishing a part of it would be another. */
static bool is_register(uint64_t offset, size_t length)
{
	return (length == 1 || length == 2 || length == 4 || length == 8) && offset % length == 0;
}

/* Reads (into) or writes (from; the other one is NULL). */
static int region_io(struct access *a, uint32_t index, uint64_t offset, void *into, const void *from, size_t length,
		     struct vfmig_error *err)
{
	uint64_t at = 0;
	int fd = kernel_of(a)->fd, r = find_region(a, index, offset, length, &at, err);
	for (size_t done = 0; r == 0 && done < length;) {
		ssize_t n = into ? pread(fd, (char *)into + done, length - done, (off_t)(at + done)) :
				   pwrite(fd, (const char *)from + done, length - done, (off_t)(at + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = error_errno(err, kernel_meaning(-errno), "region %u: %s %zu bytes at 0x%llx", index,
					into ? "reading" : "writing", length - done,
					(unsigned long long)(offset + done));
		else if (n == 0 || (size_t)n > length - done || ((size_t)n < length && is_register(offset, length)))
			r = error_set(err, -EIO, "region %u: %s %zu bytes at 0x%llx ended after %zd", index,
				      into ? "reading" : "writing", length - done,
				      (unsigned long long)(offset + done), n);
		else
			done += (size_t)n;
	}
	return r;
}

static int kernel_region_read(struct access *a, uint32_t index, uint64_t offset, void *buffer, size_t length,
			      struct vfmig_error *err)
{
	return region_io(a, index, offset, buffer, NULL, length, err);
}

static int kernel_region_write(struct access *a, uint32_t index, uint64_t offset, const void *buffer, size_t length,
			       struct vfmig_error *err)
{
	return region_io(a, index, offset, NULL, buffer, length, err);
}

static int kernel_region_map(struct access *a, uint32_t index, const struct access_area *area, void **ret_address,
			     struct vfmig_error *err)
{
	uint64_t at = 0;
	int r = find_region(a, index, area->offset, area->size, &at, err);
	if (r < 0)
		return r;
	void *address = mmap(NULL, area->size, PROT_READ | PROT_WRITE, MAP_SHARED, kernel_of(a)->fd, (off_t)at);
	if (address == MAP_FAILED)
		return error_errno(err, -errno, "region %u: mapping 0x%llx bytes at 0x%llx", index,
				   (unsigned long long)area->size, (unsigned long long)area->offset);
	*ret_address = address;
	return 0;
}

static void kernel_region_unmap(struct access *a, void *address, const struct access_area *area)
{
	(void)a;
	munmap(address, area->size);
}

static int kernel_irq_info(struct access *a, uint32_t index, struct access_irq_info *ret, struct vfmig_error *err)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };
	int r = kernel_ioctl(kernel_of(a)->fd, VFIO_DEVICE_GET_IRQ_INFO, &info);
	if (r < 0)
		return error_errno(err, kernel_meaning(r), "interrupt %u: info", index);
	ret->flags = info.flags;
	ret->count = info.count;
	return 0;
}

static int kernel_set_irqs(struct access *a, uint32_t index, uint32_t start, uint32_t count, const int *eventfds,
			   struct vfmig_error *err)
{
	size_t size = sizeof(struct vfio_irq_set) + count * sizeof(int);
	struct vfio_irq_set *set = calloc(1, size);
	if (!set)
		return error_errno(err, -ENOMEM, "interrupt %u", index);
	set->argsz = (uint32_t)size;
	set->flags = VFIO_IRQ_SET_ACTION_TRIGGER | (count ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE);
	set->index = index;
	set->start = start;
	set->count = count;
	if (count)
		memcpy(set->data, eventfds, count * sizeof(int));
	int r = kernel_ioctl(kernel_of(a)->fd, VFIO_DEVICE_SET_IRQS, set);
	free(set);
	return r < 0 ? error_errno(err, kernel_meaning(r), "interrupt %u: setting %u from %u", index, count, start) : 0;
}

/* Tried whether or not the device says that it can: mtty can and does not say so. */
static int kernel_reset(struct access *a, struct vfmig_error *err)
{
	struct kernel_access *k = kernel_of(a);
	int r = kernel_ioctl(k->fd, VFIO_DEVICE_RESET, NULL);
	if (r == -ENOTTY || r == -EINVAL)
		return error_set(err, -EOPNOTSUPP, "the device has no reset");
	if (r < 0)
		return error_errno(err, kernel_meaning(r), "reset");
	kernel_mig_data_close(k);
	k->state = VFMIG_STATE_RUNNING;
	return 0;
}

static int kernel_dma_map(struct access *a, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
			  struct vfmig_error *err)
{
	return kernel_memory_map(&kernel_of(a)->memory, iova, length, fd, offset, flags, err);
}

static int kernel_dma_unmap(struct access *a, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	return kernel_memory_unmap(&kernel_of(a)->memory, iova, length, err);
}

static void kernel_close(struct access *a)
{
	struct kernel_access *k = kernel_of(a);
	kernel_mig_data_close(k);
	close(k->fd);
	kernel_memory_close(&k->memory);
	free(k->regions);
	free(k);
}

static int kernel_identify(struct access *a, struct access_identity *ret, struct vfmig_error *err)
{
	const struct kernel_access *k = kernel_of(a);
	if (!k->identity.name[0])
		return error_set(err, -EOPNOTSUPP, "an fd of a device's group tells not whose it is");
	*ret = k->identity;
	return 0;
}

static const struct access_ops kernel_ops = {
	.kind = "kernel",
	.device_info = kernel_device_info,
	.region_info = kernel_region_info,
	.irq_info = kernel_irq_info,
	.set_irqs = kernel_set_irqs,
	.region_read = kernel_region_read,
	.region_write = kernel_region_write,
	.region_map = kernel_region_map,
	.region_unmap = kernel_region_unmap,
	.dma_map = kernel_dma_map,
	.dma_unmap = kernel_dma_unmap,
	.dirty_start = kernel_dirty_start,
	.dirty_report = kernel_dirty_report,
	.dirty_stop = kernel_dirty_stop,
	.dma_unmap_dirty = kernel_dma_unmap_dirty,
	.reset = kernel_reset,
	.mig_state_get = kernel_mig_state_get,
	.mig_state_set = kernel_mig_state_set,
	.mig_data_read = kernel_mig_data_read,
	.mig_data_write = kernel_mig_data_write,
	.mig_precopy_info = kernel_mig_precopy_info,
	.feature = kernel_feature,
	.identify = kernel_identify,
	.close = kernel_close,
};

int kernel_access_new(int fd, struct kernel_memory *memory, const struct kernel_place *place,
		      struct access **ret, struct vfmig_error *err)
{
	struct kernel_access *k = calloc(1, sizeof(*k));
	if (!k) {
		close(fd);
		kernel_memory_close(memory);
		return error_errno(err, -ENOMEM, "device");
	}
	k->access.ops = &kernel_ops;
	k->fd = fd;
	k->data_fd = -1;
	k->memory = *memory;
	if (place) {
		k->place = *place;
		identity_of_sysfs(place->path, true, &k->identity);
	} else {
		identity_of_cdev(fd, &k->identity);
	}
	*ret = &k->access;
	return 0;
}

int kernel_access_fd(struct access *a)
{
	return a->ops == &kernel_ops ? kernel_of(a)->fd : -1;
}

void kernel_access_explain(struct access *a, struct vfmig_error *err)
{
	if (a->ops != &kernel_ops || !kernel_of(a)->place.roots || !err)
		return;
	struct vfmig_error why = *err;
	kernel_refuse(KERNEL_NO_MIGRATION, &kernel_of(a)->place, why.message, why.code, err);
}
