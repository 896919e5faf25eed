/* SPDX-License-Identifier: BSD-3-Clause */
/* access.c: what is the same for every way to reach a device. */
#include "device/access.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

void access_region_info_clear(struct access_region_info *info)
{
	free(info->areas);
	memset(info, 0, sizeof(*info));
}

int access_region_info_add_area(struct access_region_info *info, uint64_t offset, uint64_t size,
				struct vfmig_error *err)
{
	if (size == 0 || !range_inside(offset, size, info->size))
		return error_set(err, -EPROTO,
				 "region %u: mappable area of 0x%llx bytes at 0x%llx is not inside the region's 0x%llx",
				 info->index, (unsigned long long)size, (unsigned long long)offset,
				 (unsigned long long)info->size);
	for (size_t i = 0; i < info->num_areas; i++) {
		const struct access_area *other = &info->areas[i];
		if (offset < other->offset + other->size && other->offset < offset + size)
			return error_set(err, -EPROTO, "region %u: mappable areas at 0x%llx and 0x%llx overlap",
					 info->index, (unsigned long long)other->offset, (unsigned long long)offset);
	}
	struct access_area *areas = reallocarray(info->areas, info->num_areas + 1, sizeof(*areas));
	if (!areas)
		return error_errno(err, -ENOMEM, "region %u: list of areas", info->index);
	areas[info->num_areas].offset = offset;
	areas[info->num_areas].size = size;
	info->areas = areas;
	info->num_areas++;
	return 0;
}

static int unsupported(const struct access *a, const char *what, struct vfmig_error *err)
{
	return error_set(err, -EOPNOTSUPP, "%s is not supported by a %s device", what, a->ops->kind);
}

int access_device_info(struct access *a, struct access_device_info *ret, struct vfmig_error *err)
{
	return a->ops->device_info ? a->ops->device_info(a, ret, err) : unsupported(a, "device info", err);
}

int access_region_info(struct access *a, uint32_t index, struct access_region_info *ret, struct vfmig_error *err)
{
	if (!a->ops->region_info)
		return unsupported(a, "region info", err);
	struct access_region_info info = { .index = index };
	int r = a->ops->region_info(a, index, &info, err);
	if (r < 0) {
		access_region_info_clear(&info);
		return r;
	}
	*ret = info;
	return 0;
}

int access_irq_info(struct access *a, uint32_t index, struct access_irq_info *ret, struct vfmig_error *err)
{
	return a->ops->irq_info ? a->ops->irq_info(a, index, ret, err) : unsupported(a, "interrupt info", err);
}

int access_set_irqs(struct access *a, uint32_t index, uint32_t start, uint32_t count, const int *eventfds,
		    struct vfmig_error *err)
{
	return a->ops->set_irqs ? a->ops->set_irqs(a, index, start, count, eventfds, err)
				: unsupported(a, "setting interrupts", err);
}

int access_region_read(struct access *a, uint32_t index, uint64_t offset, void *buffer, size_t length,
		       struct vfmig_error *err)
{
	return a->ops->region_read ? a->ops->region_read(a, index, offset, buffer, length, err)
				   : unsupported(a, "reading a region", err);
}

int access_region_write(struct access *a, uint32_t index, uint64_t offset, const void *buffer, size_t length,
			struct vfmig_error *err)
{
	return a->ops->region_write ? a->ops->region_write(a, index, offset, buffer, length, err)
				    : unsupported(a, "writing a region", err);
}

int access_region_map(struct access *a, uint32_t index, const struct access_area *area, void **ret_address,
		      struct vfmig_error *err)
{
	return a->ops->region_map ? a->ops->region_map(a, index, area, ret_address, err)
				  : unsupported(a, "mapping a region", err);
}

void access_region_unmap(struct access *a, void *address, const struct access_area *area)
{
	if (a->ops->region_unmap)
		a->ops->region_unmap(a, address, area);
}

int access_dma_map(struct access *a, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		   struct vfmig_error *err)
{
	if (length == 0 || iova > UINT64_MAX - length || offset > INT64_MAX - min_u64(length, INT64_MAX))
		return error_set(err, -EINVAL, "DMA mapping of 0x%llx bytes at 0x%llx is no range",
				 (unsigned long long)length, (unsigned long long)iova);
	return a->ops->dma_map ? a->ops->dma_map(a, iova, length, fd, offset, flags, err)
			       : unsupported(a, "mapping DMA", err);
}

int access_dma_unmap(struct access *a, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	return a->ops->dma_unmap ? a->ops->dma_unmap(a, iova, length, err) : unsupported(a, "unmapping DMA", err);
}

int access_dirty_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
		       uint64_t *page_size, struct vfmig_error *err)
{
	uint64_t size = *page_size;
	if (!a->ops->dirty_start)
		return unsupported(a, "a log of written pages", err);
	int r = a->ops->dirty_start(a, log, ranges, count, &size, err);
	if (r < 0)
		return r;
	if (size < *page_size || (size & (size - 1))) {
		(void)access_dirty_stop(a, log, NULL);
		return error_set(err, -EPROTO, "it logs pages of 0x%llx bytes, expected a power of two from 0x%llx",
				 (unsigned long long)size, (unsigned long long)*page_size);
	}
	*page_size = size;
	return 0;
}

int access_dirty_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			uint64_t *bitmap, struct vfmig_error *err)
{
	return a->ops->dirty_report ? a->ops->dirty_report(a, log, iova, length, page_size, bitmap, err)
				    : unsupported(a, "a log of written pages", err);
}

int access_dirty_stop(struct access *a, enum access_log log, struct vfmig_error *err)
{
	return a->ops->dirty_stop ? a->ops->dirty_stop(a, log, err) : unsupported(a, "a log of written pages", err);
}

int access_dma_unmap_dirty(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			   uint64_t *bitmap, struct vfmig_error *err)
{
	if (a->ops->dma_unmap_dirty)
		return a->ops->dma_unmap_dirty(a, log, iova, length, page_size, bitmap, err);
	int r = access_dma_unmap(a, iova, length, err);
	return r < 0 ? r : access_dirty_report(a, log, iova, length, page_size, bitmap, err);
}

int access_reset(struct access *a, struct vfmig_error *err)
{
	return a->ops->reset ? a->ops->reset(a, err) : unsupported(a, "reset", err);
}

int access_mig_state_get(struct access *a, uint32_t *ret_state, struct vfmig_error *err)
{
	return a->ops->mig_state_get ? a->ops->mig_state_get(a, ret_state, err)
				     : unsupported(a, "the v2 migration interface", err);
}

int access_mig_state_set(struct access *a, uint32_t state, struct vfmig_error *err)
{
	return a->ops->mig_state_set ? a->ops->mig_state_set(a, state, err)
				     : unsupported(a, "the v2 migration interface", err);
}

ssize_t access_mig_data_read(struct access *a, void *buffer, size_t length, struct vfmig_error *err)
{
	return a->ops->mig_data_read ? a->ops->mig_data_read(a, buffer, length, err)
				     : unsupported(a, "the v2 migration interface", err);
}

ssize_t access_mig_data_write(struct access *a, const void *buffer, size_t length, struct vfmig_error *err)
{
	return a->ops->mig_data_write ? a->ops->mig_data_write(a, buffer, length, err)
				      : unsupported(a, "the v2 migration interface", err);
}

int access_mig_precopy_info(struct access *a, struct access_precopy_info *ret, struct vfmig_error *err)
{
	return a->ops->mig_precopy_info ? a->ops->mig_precopy_info(a, ret, err) : unsupported(a, "pre-copy info", err);
}

int access_feature(struct access *a, uint32_t flags, void *data, size_t length, struct vfmig_error *err)
{
	return a->ops->feature ? a->ops->feature(a, flags, data, length, err) : unsupported(a, "device features", err);
}

int access_identify(struct access *a, struct access_identity *ret, struct vfmig_error *err)
{
	return a->ops->identify ? a->ops->identify(a, ret, err)
				: unsupported(a, "a name that outlives its connection", err);
}

void access_close(struct access *a)
{
	if (a)
		a->ops->close(a);
}
