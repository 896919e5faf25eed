/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_dirty.h: the device's own log of the pages that it writes by DMA: v2's features DMA_LOGGING_*. */
#ifndef VFMIG_SIM_DIRTY_H
#define VFMIG_SIM_DIRTY_H

#include "base/error.h"

#define SIM_DIRTY_PAGE 4096u
#define SIM_DIRTY_RANGES_MAX 256u

struct sim_dirty_range {
	uint64_t iova, length;
	uint64_t *bits; /* one for each page; memory only where some are set */
};

struct sim_dirty {
	struct sim_dirty_range *ranges; /* NULL: not logging */
	size_t count;
};

/*
 * The features, with the ioctl's payloads, whose pointers are of this process.
 * The log is always of pages of SIM_DIRTY_PAGE; start says so.
 */
int sim_dirty_start(struct sim_dirty *dirty, void *control, size_t length, struct vfmig_error *err);
void sim_dirty_stop(struct sim_dirty *dirty); /* also when it is not logging */
int sim_dirty_report(struct sim_dirty *dirty, const void *report, size_t length, struct vfmig_error *err);

/* The device has written there. */
void sim_dirty_mark(struct sim_dirty *dirty, uint64_t iova, uint64_t length);

#endif
