/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_dirty.h: the log of the pages that the device writes by DMA. */
#ifndef VFMIG_SIM_DIRTY_H
#define VFMIG_SIM_DIRTY_H

#include "device/access.h"

#define SIM_DIRTY_PAGE 4096u

struct sim_dirty_range {
	uint64_t iova, length;
	uint64_t *bits; /* one for each page; memory only where some are set */
};

struct sim_dirty {
	bool on;
	struct sim_dirty_range *ranges;
	size_t count;
};

/* page_size: the client's; the ranges must be of whole ones. The log is always of pages of SIM_DIRTY_PAGE. */
int sim_dirty_start(struct sim_dirty *dirty, const struct access_range *ranges, size_t count, uint64_t page_size,
		    struct vfmig_error *err);
/* While it is on: one more, of whole pages of SIM_DIRTY_PAGE, which overlaps none; one less, if there is that one. */
int sim_dirty_add(struct sim_dirty *dirty, uint64_t iova, uint64_t length, struct vfmig_error *err);
void sim_dirty_remove(struct sim_dirty *dirty, uint64_t iova, uint64_t length);
void sim_dirty_stop(struct sim_dirty *dirty); /* also when it is not logging */
/*
 * Sets the bits of what was written there since the last report, and forgets it. `lose`: but not the first one's;
 * returns whether there was one. bitmap NULL: only forgets it.
 */
bool sim_dirty_take(struct sim_dirty *dirty, uint64_t iova, uint64_t length, uint64_t page_size, void *bitmap,
		    bool lose);
/* -EINVAL, -EOVERFLOW: what is wrong with such a report. */
int sim_dirty_check(const struct sim_dirty *dirty, uint64_t iova, uint64_t length, uint64_t page_size,
		    struct vfmig_error *err);

/* The device has written there. */
void sim_dirty_mark(struct sim_dirty *dirty, uint64_t iova, uint64_t length);

#endif
