/* SPDX-License-Identifier: BSD-3-Clause */
/* dirty_impl.h: what dirty.c (the pages) and dirty_sources.c (who tells of them) share. */
#ifndef VFMIG_DIRTY_DIRTY_IMPL_H
#define VFMIG_DIRTY_DIRTY_IMPL_H

#include "dirty/dirty.h"

struct dirty_block {
	uint64_t pages;
	uint64_t dirty; /* bits that are set */
	uint64_t *bits;
	bool unlogged;
};

struct dirty_window {
	size_t block;
	uint64_t offset, length, iova;
};

/* Of a range of IOVAs, what lies in a window: pages of the window's block. */
struct dirty_part {
	uint64_t iova; /* where it begins */
	uint64_t first, count;
};

enum source_kind { SOURCE_OPS, SOURCE_LOG, SOURCE_NO_LOG };

struct dirty_source {
	struct dirty *owner;
	enum source_kind kind;
	bool started;
	/* SOURCE_OPS */
	const struct dirty_source_ops *ops;
	void *opaque;
	/* the others */
	struct vfmig_device *device;
	struct device_watch watch;
	enum access_log log;
	uint64_t page_size;
	struct access_range *asked; /* the ranges that dirty_start gave, sorted */
	size_t num_asked;
	struct access_range *ranges; /* each is asked for in a report: what it has mapped of the windows */
	size_t num_ranges;
};

struct dirty {
	struct dirty_block *blocks;
	size_t num_blocks;
	struct dirty_window *windows;
	size_t num_windows;
	struct dirty_source **sources;
	size_t num_sources;
	bool started;
	vfmig_log_fn *log;
	void *log_opaque;
	uint64_t *scratch; /* one report's bitmap */
	uint64_t scratch_bits;
	size_t at_block; /* where taking goes on */
	uint64_t at_page;
	uint64_t found; /* since the last sync */
	uint64_t synced_ns;
	struct dirty_stats stats;
};

/* False: nothing of [iova, iova + length) lies in it. */
bool dirty_window_part(const struct dirty_window *w, uint64_t iova, uint64_t length, struct dirty_part *ret);
/* A report's bits go to the blocks behind the windows that it covers. */
void dirty_merge_iova(struct dirty *d, uint64_t iova, uint64_t length, uint64_t page_size, const uint64_t *bitmap);
/* All that lies behind that IOVA was written. */
void dirty_mark_iova(struct dirty *d, uint64_t iova, uint64_t length);
/* What devices reach there cannot be known any more before they are stopped. */
void dirty_set_unlogged(struct dirty *d, uint64_t iova, uint64_t length);
/* `bits` zero bits in d->scratch. */
int dirty_scratch(struct dirty *d, uint64_t bits, struct vfmig_error *err);

/* dirty_sources.c */
int source_start(struct dirty_source *s, struct vfmig_error *err);
int source_sync(struct dirty_source *s, struct vfmig_error *err);
void source_stop(struct dirty_source *s);
void source_free(struct dirty_source *s);

#endif
