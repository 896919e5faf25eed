/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_type1_dirty.c: the log of written pages of a type1 container. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/kernel_dirty.h"
#include "uapi/vfio_compat.h"

#define QUERY_BYTES 48u /* of a request for a bitmap, both kinds */

static int read_migration_cap(const uint8_t *body, size_t length, uint32_t at, struct kernel_type1_log *ret,
			      struct vfmig_error *err)
{
	struct vfio_iommu_type1_info_cap_migration cap;
	if (!range_inside(at, sizeof(cap), length))
		return error_set(err, -EPROTO, "the container's migration capability is cut off");
	memcpy(&cap, body + at, sizeof(cap));
	uint64_t smallest = cap.pgsize_bitmap & -cap.pgsize_bitmap;
	if (smallest < 4096)
		return error_set(err, -EPROTO, "the container logs pages of sizes 0x%llx, expected was 4096 at least",
				 (unsigned long long)cap.pgsize_bitmap);
	/* It answers queries for pages of the smallest size only. */
	*ret = (struct kernel_type1_log) { smallest, cap.max_dirty_bitmap_size };
	return 1;
}

/* The chain may go back and forth, so its end is known by the number of capabilities that fit. 1: found it. */
static int find_migration_cap(const uint8_t *body, size_t length, struct kernel_type1_log *ret,
			      struct vfmig_error *err)
{
	struct vfio_iommu_type1_info info;
	struct vfio_info_cap_header cap;
	size_t most = length / sizeof(cap);
	memcpy(&info, body, sizeof(info));
	uint32_t at = info.flags & VFIO_IOMMU_INFO_CAPS ? info.cap_offset : 0;
	for (size_t n = 0; at != 0; n++, at = cap.next) {
		if (n == most)
			return error_set(err, -EPROTO, "the container's capabilities go round in a circle");
		if (at < sizeof(info) || !range_inside(at, sizeof(cap), length))
			return error_set(err, -EPROTO, "a capability of the container at offset %u, expected was %zu "
					 "to %zu", at, sizeof(info), length - sizeof(cap));
		memcpy(&cap, body + at, sizeof(cap));
		if (cap.id == VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION)
			return read_migration_cap(body, length, at, ret, err);
	}
	return 0;
}

int kernel_type1_log_info(int container, struct kernel_type1_log *ret, struct vfmig_error *err)
{
	const struct vfio_iommu_type1_info ask = { .argsz = sizeof(ask) };
	uint32_t length = 0;
	uint8_t *body = NULL;
	int r = kernel_ask_info(container, VFIO_IOMMU_GET_INFO, &ask, sizeof(ask), &body, &length, err);
	if (r < 0)
		return error_prefix(err, r, "container");
	r = find_migration_cap(body, length, ret, err);
	free(body);
	if (r == 0)
		return error_set(err, -EOPNOTSUPP, "the container has no log of written pages");
	return r < 0 ? r : 0;
}

int kernel_type1_track(int container, bool on)
{
	struct vfio_iommu_type1_dirty_bitmap dirty = {
		.argsz = sizeof(dirty),
		.flags = on ? VFIO_IOMMU_DIRTY_PAGES_FLAG_START : VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
	};
	int r = kernel_ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &dirty);
	return r < 0 ? r : 0;
}

static struct vfio_bitmap describe(uint64_t length, uint64_t page_size, uint64_t *bitmap)
{
	return (struct vfio_bitmap) { .pgsize = page_size, .size = (length / page_size + 63) / 64 * sizeof(*bitmap),
				      .data = (void *)bitmap };
}

/* A request whose second struct lies in the first one's data[]. */
static int request(int container, unsigned long number, const void *head, size_t head_length, const void *tail,
		   size_t tail_length)
{
	uint64_t whole[QUERY_BYTES / sizeof(uint64_t)];
	memcpy(whole, head, head_length);
	memcpy((uint8_t *)whole + head_length, tail, tail_length);
	int r = kernel_ioctl(container, number, whole);
	return r < 0 ? r : 0;
}

int kernel_type1_query(int container, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap)
{
	const struct vfio_iommu_type1_dirty_bitmap dirty = { .argsz = QUERY_BYTES,
							     .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP };
	const struct vfio_iommu_type1_dirty_bitmap_get get = { .iova = iova, .size = length,
							       .bitmap = describe(length, page_size, bitmap) };
	_Static_assert(sizeof(dirty) + sizeof(get) == QUERY_BYTES, "both");
	return request(container, VFIO_IOMMU_DIRTY_PAGES, &dirty, sizeof(dirty), &get, sizeof(get));
}

int kernel_type1_unmap_query(int container, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap)
{
	const struct vfio_iommu_type1_dma_unmap unmap = { .argsz = QUERY_BYTES, .iova = iova, .size = length,
							  .flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP };
	const struct vfio_bitmap wanted = describe(length, page_size, bitmap);
	_Static_assert(sizeof(unmap) + sizeof(wanted) == QUERY_BYTES, "both");
	return request(container, VFIO_IOMMU_UNMAP_DMA, &unmap, sizeof(unmap), &wanted, sizeof(wanted));
}
