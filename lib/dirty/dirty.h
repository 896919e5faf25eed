/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty.h: which pages of memory were written, whoever knows of it.
 *
 * Blocks of memory, the windows through which devices reach them, and sources
 * that tell what was written: a device's own log, the log of what lies between
 * it and memory, whatever the caller brings. A device that has none writes
 * anywhere at any time: its memory is `unlogged` and can only be had once
 * it is stopped.
 */
#ifndef VFMIG_DIRTY_DIRTY_H
#define VFMIG_DIRTY_DIRTY_H

#include "device/device.h"

#define DIRTY_PAGE 4096u /* a bit's; sources with larger pages set several */

struct dirty;

/* Something else than a device that knows (the caller's: KVM's log, userfaultfd). */
struct dirty_source_ops {
	int (*start)(void *opaque, struct vfmig_error *err);
	/* Tells by dirty_mark and dirty_merge what was written since the last call. */
	int (*sync)(void *opaque, struct vfmig_error *err);
	void (*stop)(void *opaque);
};

struct dirty_run {
	size_t block;
	uint64_t first, count; /* pages */
};

struct dirty_stats {
	uint64_t syncs;
	uint64_t found;	      /* pages that the last one found and that were not known to be dirty */
	uint64_t interval_ns; /* between it and the one before, or start */
};

int dirty_new(struct dirty **ret, struct vfmig_error *err);
void dirty_free(struct dirty *d); /* NULL is fine */

/* What follows is added before the start. A block's number is the count of those before it. */
int dirty_add_block(struct dirty *d, uint64_t bytes, struct vfmig_error *err);
/* Devices reach [offset, offset + length) of the block at iova. All of whole pages; windows do not overlap. */
int dirty_add_window(struct dirty *d, size_t block, uint64_t offset, uint64_t length, uint64_t iova,
		     struct vfmig_error *err);
/* Borrowed until the end; one that is followed already by another is -EBUSY. */
int dirty_add_device(struct dirty *d, struct vfmig_device *device, struct vfmig_error *err);
int dirty_add_source(struct dirty *d, const struct dirty_source_ops *ops, void *opaque, struct vfmig_error *err);

/* All pages are dirty, and what is written from now on is logged. log may be NULL. */
int dirty_start(struct dirty *d, vfmig_log_fn *log, void *log_opaque, struct vfmig_error *err);
/* Asks all sources. To be read and sent afterwards: a page that is written while it is read is told again. */
int dirty_sync(struct dirty *d, struct vfmig_error *err);
/* Nothing is logged any more; also when it never was. What is known stays. */
void dirty_stop(struct dirty *d);

/* For sources: [offset, offset + length) of a block was written. */
int dirty_mark(struct dirty *d, size_t block, uint64_t offset, uint64_t length, struct vfmig_error *err);
/* Bit n: the page of page_size bytes (a power of two from DIRTY_PAGE) at offset + n * page_size of the block. */
int dirty_merge(struct dirty *d, size_t block, uint64_t offset, uint64_t length, uint64_t page_size,
		const uint64_t *bitmap, struct vfmig_error *err);

/* Pages that are dirty, of logged blocks and of unlogged ones. */
void dirty_count(const struct dirty *d, uint64_t *ret_logged, uint64_t *ret_unlogged);
/* Takes some dirty pages off, at most `most`; false: there are none. With unlogged: also of such blocks. */
bool dirty_take(struct dirty *d, bool unlogged, uint64_t most, struct dirty_run *ret);
struct dirty_stats dirty_stats(const struct dirty *d);
/* Since the start: which log tells of a device that was added, and in pages of what size; false: none does. */
bool dirty_device_log(const struct dirty *d, const struct vfmig_device *device, enum access_log *ret_log,
		      uint64_t *ret_page_size);

#endif
