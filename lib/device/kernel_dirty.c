/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_dirty.c: the logs of written pages of a kernel device: its own, and that of what it reaches memory through. */
#include "device/kernel_dirty.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/ranges.h"
#include "uapi/vfio_compat.h"

#define LOG_RANGES_MAX 256u /* what fits into a page, which is what every kernel takes */

_Static_assert(sizeof(struct access_range) == sizeof(struct vfio_device_feature_dma_logging_range) &&
	       offsetof(struct access_range, length) == offsetof(struct vfio_device_feature_dma_logging_range, length),
	       "ranges are given to the kernel as they are");

static int report_device(struct access *a, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap,
			 struct vfmig_error *err)
{
	struct vfio_device_feature_dma_logging_report report = { .iova = iova, .length = length,
								 .page_size = page_size,
								 .bitmap = (uintptr_t)bitmap };
	/* The kernel sets bits and clears none. */
	int r = kernel_feature(a, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &report,
			       sizeof(report), err);
	return r < 0 ? error_prefix(err, r, "log of written pages: report") : 0;
}

static int stop_device(struct access *a, struct vfmig_error *err)
{
	int r = kernel_feature(a, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0, err);
	return r < 0 ? error_prefix(err, r, "log of written pages: stop") : 0;
}

/* A kernel built without iommufd's driver side starts a log and reports none: so one page is asked for at once. */
static int try_report(struct access *a, const struct access_range *range, uint64_t page_size, struct vfmig_error *err)
{
	uint64_t bitmap = 0;
	int r = report_device(a, range->iova, page_size, page_size, &bitmap, err);
	if (r < 0)
		(void)stop_device(a, NULL);
	return r;
}

static int start_merged(struct access *a, const struct access_range *ranges, size_t count, uint64_t *page_size,
			struct vfmig_error *err)
{
	struct vfio_device_feature_dma_logging_control control = { .page_size = *page_size,
								   .num_ranges = (uint32_t)count,
								   .ranges = (uintptr_t)ranges };
	int r = kernel_feature(a, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &control,
			       sizeof(control), err);
	if (r < 0)
		return error_prefix(err, r, "log of written pages: start");
	/* A driver that logs smaller pages than asked for reports larger ones all the same. */
	uint64_t size = max_u64(*page_size, control.page_size);
	if (size & (size - 1)) {
		(void)stop_device(a, NULL);
		return error_set(err, -EPROTO, "log of written pages: the driver logs pages of 0x%llx bytes, expected "
				 "was a power of two", (unsigned long long)size);
	}
	r = try_report(a, ranges, size, err);
	if (r == 0)
		*page_size = size;
	return r;
}

static int start_device(struct access *a, const struct access_range *ranges, size_t count, uint64_t *page_size,
			struct vfmig_error *err)
{
	if (count == 0)
		return error_set(err, -EINVAL, "log of written pages: no memory to log");
	struct access_range *merged = reallocarray(NULL, count, sizeof(*merged));
	if (!merged)
		return error_errno(err, -ENOMEM, "log of written pages");
	memcpy(merged, ranges, count * sizeof(*merged));
	int r = ranges_merge(merged, &count, *page_size, LOG_RANGES_MAX);
	if (r < 0)
		error_errno(err, r, "log of written pages: its ranges");
	else
		r = start_merged(a, merged, count, page_size, err);
	free(merged);
	return r;
}

int kernel_dirty_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
		       uint64_t *page_size, struct vfmig_error *err)
{
	return log == ACCESS_LOG_DEVICE ? start_device(a, ranges, count, page_size, err) :
					  kernel_memory_dirty_start(&kernel_of(a)->memory, page_size, err);
}

int kernel_dirty_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			uint64_t *bitmap, struct vfmig_error *err)
{
	return log == ACCESS_LOG_DEVICE ?
		       report_device(a, iova, length, page_size, bitmap, err) :
		       kernel_memory_dirty_report(&kernel_of(a)->memory, iova, length, page_size, bitmap, err);
}

int kernel_dirty_stop(struct access *a, enum access_log log, struct vfmig_error *err)
{
	return log == ACCESS_LOG_DEVICE ? stop_device(a, err) : kernel_memory_dirty_stop(&kernel_of(a)->memory, err);
}

int kernel_dma_unmap_dirty(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			   uint64_t *bitmap, struct vfmig_error *err)
{
	struct kernel_memory *memory = &kernel_of(a)->memory;
	if (log == ACCESS_LOG_MAPPINGS)
		return kernel_memory_unmap_dirty(memory, iova, length, page_size, bitmap, err);
	/* The device's log outlives the mapping. */
	int r = kernel_memory_unmap(memory, iova, length, err);
	return r < 0 ? r : report_device(a, iova, length, page_size, bitmap, err);
}
