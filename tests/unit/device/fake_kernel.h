/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_kernel.h: open, ioctl, read and pread of this program, as a test wants the kernel to answer them. */
#ifndef VFMIG_TESTS_FAKE_KERNEL_H
#define VFMIG_TESTS_FAKE_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FAKE_CALLS_MAX 64
#define FAKE_PAGES 1024 /* whose writing is known: those of 4096 bytes from IOVA 0 */
#define FAKE_RANGES_MAX 256
#define FAKE_MAPPINGS_MAX 8
#define FAKE_PRECOPY_INFO_V2 12u /* VFIO_DEVICE_FEATURE's index for it */

struct fake_range {
	uint64_t iova, length;
};

/* Set it, or memset it to zero: then every request succeeds. */
struct fake_kernel {
	unsigned long fail_request; /* this ioctl fails ... */
	int fail_errno;		    /* ... with this (0: ENOTTY) */
	const char *fail_open;	    /* a path that ends so cannot be opened: fail_open_errno */
	int fail_open_errno;
	bool not_viable, no_type1v2;
	uint64_t migration_flags; /* of VFIO_DEVICE_FEATURE_MIGRATION; 0: ENOTTY */
	bool has_precopy_info_v2; /* the feature of newer kernels: a user opts in by SET */
	bool opted_in;
	uint32_t mig_state;
	int next_data_fd; /* what the next transition gives; 0: -1 */
	int read_errno;	  /* of the next read; 0: a real one */
	size_t most;	  /* of one pread or pwrite; 0: all */
	uint8_t region_info[512]; /* answered when it has a size (argsz); else one of a page */
	unsigned long calls[FAKE_CALLS_MAX]; /* ioctls, in their order */
	size_t num_calls;
	int device_fd; /* the memfd behind the device; the caller's to make */
	uint32_t irq_flags, irq_count;
	int irq_fds[4];
	uint64_t map_iova, map_length;
	uint32_t map_flags;
	struct fake_range mappings[FAKE_MAPPINGS_MAX]; /* length 0: none */

	/* Logs of written pages. A query clears, fails once with query_errno after it has cleared, and sets only bits
	 * of its range. */
	uint64_t written[FAKE_PAGES / 64];
	int container_fd;	     /* tells its requests from the device's; 0: no logs of a container */
	uint8_t container_info[256]; /* answered as region_info is; else without capabilities */
	int query_errno;
	uint64_t iommu_page_size; /* what a query of a page table clears at least; 0: 4096 */
	bool no_hwpt, no_hwpt_attach;
	uint32_t attached_to, hwpt_flags;
	bool tracking; /* of the container or the page table */
	uint64_t device_page_size; /* that START answers; 0: as asked. The ranges that it got: */
	struct fake_range log_ranges[FAKE_RANGES_MAX];
	uint32_t num_log_ranges;
	bool logging, no_report;
};
extern struct fake_kernel fake;

/* Marks pages as written, from page `first` on. */
void fake_write(uint64_t first, uint64_t count);

/* How often a request was made. */
size_t fake_called(unsigned long request);

#endif
