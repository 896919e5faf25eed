/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_dirty.h: the logs of written pages that a kernel gives; for kernel*.c and tests. */
#ifndef VFMIG_DEVICE_KERNEL_DIRTY_H
#define VFMIG_DEVICE_KERNEL_DIRTY_H

#include "device/kernel.h"

/* kernel_dirty.c: the calls of access_ops. */
int kernel_dirty_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
		       uint64_t *page_size, struct vfmig_error *err);
int kernel_dirty_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			uint64_t *bitmap, struct vfmig_error *err);
int kernel_dirty_stop(struct access *a, enum access_log log, struct vfmig_error *err);
int kernel_dma_unmap_dirty(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			   uint64_t *bitmap, struct vfmig_error *err);

/*
 * kernel_memory_dirty.c: ACCESS_LOG_MAPPINGS, with access_ops's meaning. A query clears, and it must be for whole
 * mappings (type1 refuses others; an IOMMU's page that is cut would be cleared and told in part only). So what was
 * not asked for is kept with the mapping until it is.
 */
int kernel_memory_dirty_start(struct kernel_memory *memory, uint64_t *page_size, struct vfmig_error *err);
int kernel_memory_dirty_report(struct kernel_memory *memory, uint64_t iova, uint64_t length, uint64_t page_size,
			       uint64_t *bitmap, struct vfmig_error *err);
int kernel_memory_dirty_stop(struct kernel_memory *memory, struct vfmig_error *err);
/* The last query and the end of the mapping; what was written is then kept. */
int kernel_mapping_unmap_dirty(const struct kernel_memory *memory, struct kernel_mapping *m, struct vfmig_error *err);
/* Moves what is kept for [iova, iova + length), a part of the mapping, to bitmap. */
void kernel_mapping_take(const struct kernel_memory *memory, struct kernel_mapping *m, uint64_t iova, uint64_t length,
			 uint64_t page_size, uint64_t *bitmap);

/* kernel_type1_dirty.c: of a container, by its fd. 0 or -errno. */
struct kernel_type1_log {
	uint64_t page_size;
	uint64_t bitmap_max; /* bytes of a query's */
};

/* -EOPNOTSUPP: it has no log. */
int kernel_type1_log_info(int container, struct kernel_type1_log *ret, struct vfmig_error *err);
int kernel_type1_track(int container, bool on);
/* Overwrites the bitmap's words. */
int kernel_type1_query(int container, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap);
int kernel_type1_unmap_query(int container, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap);

/* kernel_iommufd_dirty.c: of an iommufd's page table, by its number. 0 or -errno. */
int kernel_hwpt_new(int iommufd, uint32_t device_id, uint32_t ioas_id, uint32_t *ret_hwpt_id);
int kernel_iommufd_destroy(int iommufd, uint32_t id);
int kernel_hwpt_track(int iommufd, uint32_t hwpt_id, bool on);
/* Sets bits. */
int kernel_hwpt_query(int iommufd, uint32_t hwpt_id, uint64_t iova, uint64_t length, uint64_t page_size,
		      uint64_t *bitmap);

#endif
