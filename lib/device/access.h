/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * access.h: how a device is reached.
 *
 * One struct of functions for each way there is: a vfio-user socket (user.c),
 * a software device in the same process (sim/), the kernel. What lies above
 * knows no way: it never sees a raw fd of the migration channel or one
 * backend's errno.
 *
 * Every implementation may assume: calls come from one thread at a time;
 * arguments were checked by the access_* wrappers below (index, range and
 * alignment of mappings are not: only the device knows them).
 * Every implementation must guarantee:
 *  - 0 or -errno, and err filled, without the device's name (the callers put it);
 *  - -EOPNOTSUPP for what this device or way does not have, and for nothing else;
 *  - -ENOTCONN for every call after the device is gone (connection lost);
 *  - -ETIMEDOUT when the device did not answer in time: it is then gone too;
 *  - outputs of a failed call untouched, and a reply checked before it is used.
 * A NULL function is -EOPNOTSUPP.
 */
#ifndef VFMIG_DEVICE_ACCESS_H
#define VFMIG_DEVICE_ACCESS_H

#include <sys/types.h>

#include "base/error.h"

/* Indexes of a PCI device's regions, from linux/vfio.h (its enum has no macro). */
#define ACCESS_PCI_BAR0 0u
#define ACCESS_PCI_CONFIG 7u
#define ACCESS_PCI_NUM_REGIONS 9u

#define ACCESS_DEVICE_RESET 1u /* struct access_device_info.flags, as VFIO_DEVICE_FLAGS_* */
#define ACCESS_DEVICE_PCI 2u

struct access_device_info {
	uint32_t flags;
	uint32_t num_regions;
	uint32_t num_irqs;
};

#define ACCESS_REGION_READ 1u /* struct access_region_info.flags, as VFIO_REGION_INFO_FLAG_* */
#define ACCESS_REGION_WRITE 2u
#define ACCESS_REGION_MMAP 4u

struct access_area {
	uint64_t offset; /* in the region */
	uint64_t size;
};

struct access_region_info {
	uint32_t index;
	uint32_t flags;
	uint64_t size;
	bool has_type; /* VFIO_REGION_INFO_CAP_TYPE */
	uint32_t type, subtype;
	/* Where it can be mapped: from VFIO_REGION_INFO_CAP_SPARSE_MMAP, or the
	 * whole region when ACCESS_REGION_MMAP stands without it. Each lies
	 * inside the region and has a size above 0; in the device's order, which is any;
	 * they do not overlap. */
	struct access_area *areas;
	size_t num_areas;
};

/* Frees what info owns and zeroes it. */
void access_region_info_clear(struct access_region_info *info);

/* Checks and appends an area: inside the region, not empty, not overlapping. */
int access_region_info_add_area(struct access_region_info *info, uint64_t offset, uint64_t size,
				struct vfmig_error *err);

struct access_irq_info {
	uint32_t flags; /* as VFIO_IRQ_INFO_* */
	uint32_t count;
};

/*
 * Which device this is, beyond this program (identity.c). name: the same for as long as the device is; incarnation:
 * another one when what it held is gone for certain (its server is another process, the machine has booted). Empty
 * strings: nothing is known. For comparison only.
 */
struct access_identity {
	char name[768];
	char incarnation[192];
};

struct access_precopy_info {
	uint64_t initial_bytes;
	uint64_t dirty_bytes;
};

/*
 * Who logs the pages that a device writes: the device itself (VFIO_DEVICE_FEATURE_DMA_LOGGING_*, of the kernel and of
 * vfio-user), or what lies between it and memory (a type1 container, the page table of an iommufd, a vfio-user
 * server of the v1 time by DIRTY_PAGES), which knows of memory that was mapped through this access only.
 */
enum access_log { ACCESS_LOG_DEVICE, ACCESS_LOG_MAPPINGS };

struct access_range {
	uint64_t iova;
	uint64_t length;
};

struct access; /* embedded first in every implementation */

struct access_ops {
	const char *kind; /* "vfio-user", "sim", ... */

	int (*device_info)(struct access *a, struct access_device_info *ret, struct vfmig_error *err);
	/* ret is zeroed before; on success the caller clears it. */
	int (*region_info)(struct access *a, uint32_t index, struct access_region_info *ret, struct vfmig_error *err);
	int (*irq_info)(struct access *a, uint32_t index, struct access_irq_info *ret, struct vfmig_error *err);
	/* eventfds[count], borrowed, -1 for none; the trigger of each interrupt. */
	int (*set_irqs)(struct access *a, uint32_t index, uint32_t start, uint32_t count, const int *eventfds,
			struct vfmig_error *err);

	/* All of length or a failure. A length of 1, 2, 4 or 8 that is aligned is
	 * one access of that width; a longer one may be cut as the transport
	 * wants. -EINVAL and -EIO may mean "not with that length". */
	int (*region_read)(struct access *a, uint32_t index, uint64_t offset, void *buffer, size_t length,
			   struct vfmig_error *err);
	int (*region_write)(struct access *a, uint32_t index, uint64_t offset, const void *buffer, size_t length,
			    struct vfmig_error *err);
	/* Maps exactly one area of region_info, read and write, shared. Taken
	 * back by region_unmap, at the latest before close. */
	int (*region_map)(struct access *a, uint32_t index, const struct access_area *area, void **ret_address,
			  struct vfmig_error *err);
	void (*region_unmap)(struct access *a, void *address, const struct access_area *area);

	/* fd borrowed. flags: VFMIG_DMA_*. fd -1: memory without a file, reached by messages only; `offset` is then
	 * its address in this process, for a backend that serves them itself. */
	int (*dma_map)(struct access *a, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		       struct vfmig_error *err);
	int (*dma_unmap)(struct access *a, uint64_t iova, uint64_t length, struct vfmig_error *err);

	/*
	 * From now on, what is written in the ranges (sorted, not overlapping, of whole pages of 4096 bytes) is logged.
	 * *page_size: the one that is wanted, a power of two from 4096; on success the one that it logs in, which may
	 * be larger. -EOPNOTSUPP: there is no such log. An implementation merges ranges where it takes only so many.
	 */
	int (*dirty_start)(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
			   uint64_t *page_size, struct vfmig_error *err);
	/*
	 * Sets the bits of what was written in [iova, iova + length) since the last report, and forgets it. Bit n of
	 * bitmap (n % 64 of word n / 64) is the page of page_size bytes at iova + n * page_size; page_size is
	 * dirty_start's, iova and length are multiples of it. Other bits stay as they are. The range is one mapping, or
	 * a part of one. What a failed report would have told is lost: all of the range has to be taken for written.
	 */
	int (*dirty_report)(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			    uint64_t *bitmap, struct vfmig_error *err);
	int (*dirty_stop)(struct access *a, enum access_log log, struct vfmig_error *err);
	/* dma_unmap, and the last report of what lay there, with no write lost between the two. NULL: the log
	 * outlives the mapping, so access_dma_unmap_dirty asks afterwards. */
	int (*dma_unmap_dirty)(struct access *a, enum access_log log, uint64_t iova, uint64_t length,
			       uint64_t page_size, uint64_t *bitmap, struct vfmig_error *err);

	int (*reset)(struct access *a, struct vfmig_error *err);

	/* Migration as a v2 device understands it. The data channel that a
	 * transition opens belongs to the access and is closed by it. */
	int (*mig_state_get)(struct access *a, uint32_t *ret_state, struct vfmig_error *err);
	int (*mig_state_set)(struct access *a, uint32_t state, struct vfmig_error *err);
	/* Bytes, 0 at the end of the state, -EAGAIN: nothing now, more may come. */
	ssize_t (*mig_data_read)(struct access *a, void *buffer, size_t length, struct vfmig_error *err);
	ssize_t (*mig_data_write)(struct access *a, const void *buffer, size_t length, struct vfmig_error *err);
	int (*mig_precopy_info)(struct access *a, struct access_precopy_info *ret, struct vfmig_error *err);
	/* Any other VFIO_DEVICE_FEATURE: flags as the ioctl's, data in and out. */
	int (*feature)(struct access *a, uint32_t flags, void *data, size_t length, struct vfmig_error *err);

	/* NULL, or -EOPNOTSUPP: it cannot be told from others. Asks nobody: what was found when it was opened. */
	int (*identify)(struct access *a, struct access_identity *ret, struct vfmig_error *err);

	void (*close)(struct access *a);
};

struct access {
	const struct access_ops *ops;
	char name[256]; /* for messages: the URI */
};

/* The calls: a NULL function answers -EOPNOTSUPP here, once. */
int access_device_info(struct access *a, struct access_device_info *ret, struct vfmig_error *err);
int access_region_info(struct access *a, uint32_t index, struct access_region_info *ret, struct vfmig_error *err);
int access_irq_info(struct access *a, uint32_t index, struct access_irq_info *ret, struct vfmig_error *err);
int access_set_irqs(struct access *a, uint32_t index, uint32_t start, uint32_t count, const int *eventfds,
		    struct vfmig_error *err);
int access_region_read(struct access *a, uint32_t index, uint64_t offset, void *buffer, size_t length,
		       struct vfmig_error *err);
int access_region_write(struct access *a, uint32_t index, uint64_t offset, const void *buffer, size_t length,
			struct vfmig_error *err);
int access_region_map(struct access *a, uint32_t index, const struct access_area *area, void **ret_address,
		      struct vfmig_error *err);
void access_region_unmap(struct access *a, void *address, const struct access_area *area);
int access_dma_map(struct access *a, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		   struct vfmig_error *err);
int access_dma_unmap(struct access *a, uint64_t iova, uint64_t length, struct vfmig_error *err);
int access_dirty_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
		       uint64_t *page_size, struct vfmig_error *err);
int access_dirty_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			uint64_t *bitmap, struct vfmig_error *err);
int access_dirty_stop(struct access *a, enum access_log log, struct vfmig_error *err);
int access_dma_unmap_dirty(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			   uint64_t *bitmap, struct vfmig_error *err);
int access_reset(struct access *a, struct vfmig_error *err);
int access_mig_state_get(struct access *a, uint32_t *ret_state, struct vfmig_error *err);
int access_mig_state_set(struct access *a, uint32_t state, struct vfmig_error *err);
ssize_t access_mig_data_read(struct access *a, void *buffer, size_t length, struct vfmig_error *err);
ssize_t access_mig_data_write(struct access *a, const void *buffer, size_t length, struct vfmig_error *err);
int access_mig_precopy_info(struct access *a, struct access_precopy_info *ret, struct vfmig_error *err);
int access_feature(struct access *a, uint32_t flags, void *data, size_t length, struct vfmig_error *err);
int access_identify(struct access *a, struct access_identity *ret, struct vfmig_error *err);
void access_close(struct access *a); /* NULL is fine */

/* vfio-user:PATH (user.c). timeout_ms: of one request. */
int user_access_open(const char *path, uint32_t timeout_ms, struct access **ret, struct vfmig_error *err);

/*
 * Kernel devices (kernel_open.c): a PCI address, a mdev's UUID, a folder in
 * sysfs, a device's file, an fd of this process (borrows: works on a copy of it), and
 * unix:PATH, which sends one. opts: access and timeout_ms (not 0).
 */
typedef int access_open_fn(const char *rest, const struct vfmig_device_options *opts, struct access **ret,
			   struct vfmig_error *err);
access_open_fn kernel_pci_open, kernel_mdev_open, kernel_sysfs_open, kernel_vfio_open, kernel_fd_open,
	kernel_fd_from_open;

/* The fd that keeps a kernel device as it is (borrowed); -1: no kernel device. */
int kernel_access_fd(struct access *a);
/* Adds to the failure that a device does not migrate what is known of a kernel device's driver. */
void kernel_access_explain(struct access *a, struct vfmig_error *err);

#endif
