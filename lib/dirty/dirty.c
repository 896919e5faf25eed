/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty.c: the pages that were written and have not been sent since.
 *
 * Theory of operation. Each block of memory has one bit a page. All are set at
 * the start. A sync asks every source and sets the bits of what it tells; the
 * source forgets it with that. Whoever sends memory takes runs of set bits
 * off, and only then reads the pages: a write after that is in a source's log, so
 * it comes with the next sync; one before it is read. No page is lost, some are
 * sent twice.
 *
 * Devices are stopped, then the last sync is made: what it finds, and what is left, is all.
 *
 * Sources know IOVAs. A window says which part of which block an IOVA is; what
 * lies in no window is nobody's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "dirty/dirty_impl.h"

#define BLOCK_MAX (UINT64_C(1) << 46) /* bytes; 2 GiB of bits */

typedef unsigned long long ull;

int dirty_new(struct dirty **ret, struct vfmig_error *err)
{
	struct dirty *d = calloc(1, sizeof(*d));
	if (!d)
		return error_errno(err, -ENOMEM, "dirty pages");
	*ret = d;
	return 0;
}

void dirty_free(struct dirty *d)
{
	if (!d)
		return;
	dirty_stop(d);
	for (size_t i = 0; i < d->num_sources; i++)
		source_free(d->sources[i]);
	for (size_t i = 0; i < d->num_blocks; i++)
		free(d->blocks[i].bits);
	free(d->sources);
	free(d->blocks);
	free(d->windows);
	free(d->scratch);
	free(d);
}

/* ------------------------------------------------------- blocks and windows */

int dirty_add_block(struct dirty *d, uint64_t bytes, struct vfmig_error *err)
{
	if (bytes == 0 || bytes % DIRTY_PAGE || bytes > BLOCK_MAX)
		return error_set(err, -EINVAL, "0x%llx bytes, expected whole pages of %u bytes, up to 0x%llx",
				 (ull)bytes, DIRTY_PAGE, (ull)BLOCK_MAX);
	struct dirty_block *blocks = reallocarray(d->blocks, d->num_blocks + 1, sizeof(*blocks));
	if (!blocks)
		return error_errno(err, -ENOMEM, "dirty pages");
	d->blocks = blocks;
	struct dirty_block block = { .pages = bytes / DIRTY_PAGE };
	block.bits = calloc(bitmap_words(block.pages), sizeof(*block.bits));
	if (!block.bits)
		return error_errno(err, -ENOMEM, "dirty pages of 0x%llx bytes", (ull)bytes);
	d->blocks[d->num_blocks++] = block;
	return 0;
}

static bool overlap(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
	return a < b + b_length && b < a + a_length;
}

int dirty_add_window(struct dirty *d, size_t block, uint64_t offset, uint64_t length, uint64_t iova,
		     struct vfmig_error *err)
{
	if (block >= d->num_blocks || length == 0 || (offset | length | iova) % DIRTY_PAGE ||
	    iova > UINT64_MAX - length || !range_inside(offset, length, d->blocks[block].pages * DIRTY_PAGE))
		return error_set(err, -EINVAL,
				 "0x%llx bytes at 0x%llx, IOVA 0x%llx: expected whole pages inside the block",
				 (ull)length, (ull)offset, (ull)iova);
	for (size_t i = 0; i < d->num_windows; i++)
		if (overlap(iova, length, d->windows[i].iova, d->windows[i].length))
			return error_set(err, -EEXIST, "0x%llx bytes at IOVA 0x%llx overlap what is at IOVA 0x%llx",
					 (ull)length, (ull)iova, (ull)d->windows[i].iova);
	struct dirty_window *windows = reallocarray(d->windows, d->num_windows + 1, sizeof(*windows));
	if (!windows)
		return error_errno(err, -ENOMEM, "dirty pages");
	d->windows = windows;
	/* Sorted by IOVA: neighbours are logged as one range. */
	size_t at = d->num_windows;
	for (; at > 0 && windows[at - 1].iova > iova; at--)
		windows[at] = windows[at - 1];
	windows[at] = (struct dirty_window) { block, offset, length, iova };
	d->num_windows++;
	return 0;
}

int dirty_scratch(struct dirty *d, uint64_t bits, struct vfmig_error *err)
{
	uint64_t words = bitmap_words(bits);
	if (bits > d->scratch_bits) {
		uint64_t *scratch = reallocarray(d->scratch, words, sizeof(*scratch));
		if (!scratch)
			return error_errno(err, -ENOMEM, "a bitmap of %llu bits", (ull)bits);
		d->scratch = scratch;
		d->scratch_bits = words * BITMAP_WORD_BITS;
	}
	memset(d->scratch, 0, words * sizeof(*d->scratch));
	return 0;
}

/* ---------------------------------------------------------------- marking */

static void set_pages(struct dirty *d, struct dirty_block *b, uint64_t first, uint64_t count)
{
	uint64_t n = bitmap_set(b->bits, first, count);
	b->dirty += n;
	d->found += n;
}

/* Of pages that are 1 << shift of ours: runs of their bits, each cut to what is asked for. */
static void merge_large(struct dirty *d, struct dirty_block *b, uint64_t first, uint64_t count, const uint64_t *bitmap,
			uint64_t from_page, unsigned int shift)
{
	uint64_t end = from_page + count, at = from_page >> shift, run, length;
	uint64_t last = (end + (UINT64_C(1) << shift) - 1) >> shift;
	for (; bitmap_next_run(bitmap, at, last, &run, &length); at = run + length) {
		uint64_t low = max_u64(run << shift, from_page), high = min_u64((run + length) << shift, end);
		set_pages(d, b, first + (low - from_page), high - low);
	}
}

/* Pages [first, first + count) of the block; the first of them lies `from_page` pages of ours behind bit 0. */
static void merge(struct dirty *d, struct dirty_block *b, uint64_t first, uint64_t count, uint64_t page_size,
		  const uint64_t *bitmap, uint64_t from_page)
{
	if (page_size != DIRTY_PAGE) {
		merge_large(d, b, first, count, bitmap, from_page,
			    (unsigned int)__builtin_ctzll(page_size / DIRTY_PAGE));
		return;
	}
	uint64_t n = bitmap_merge(b->bits, first, bitmap, from_page, count);
	b->dirty += n;
	d->found += n;
}

bool dirty_window_part(const struct dirty_window *w, uint64_t iova, uint64_t length, struct dirty_part *ret)
{
	if (!overlap(iova, length, w->iova, w->length))
		return false;
	uint64_t from = max_u64(iova, w->iova), end = min_u64(iova + length, w->iova + w->length);
	ret->iova = from;
	ret->first = (w->offset + (from - w->iova)) / DIRTY_PAGE;
	ret->count = (w->offset + (end - w->iova) + DIRTY_PAGE - 1) / DIRTY_PAGE - ret->first;
	return true;
}

void dirty_merge_iova(struct dirty *d, uint64_t iova, uint64_t length, uint64_t page_size, const uint64_t *bitmap)
{
	struct dirty_part part;
	for (size_t i = 0; i < d->num_windows; i++)
		if (dirty_window_part(&d->windows[i], iova, length, &part))
			merge(d, &d->blocks[d->windows[i].block], part.first, part.count, page_size, bitmap,
			      (part.iova - iova) / DIRTY_PAGE);
}

void dirty_mark_iova(struct dirty *d, uint64_t iova, uint64_t length)
{
	struct dirty_part part;
	for (size_t i = 0; i < d->num_windows; i++)
		if (dirty_window_part(&d->windows[i], iova, length, &part))
			set_pages(d, &d->blocks[d->windows[i].block], part.first, part.count);
}

void dirty_set_unlogged(struct dirty *d, uint64_t iova, uint64_t length)
{
	for (size_t i = 0; i < d->num_windows; i++) {
		struct dirty_block *b = &d->blocks[d->windows[i].block];
		struct dirty_part part;
		if (b->unlogged || !dirty_window_part(&d->windows[i], iova, length, &part))
			continue;
		b->unlogged = true;
		set_pages(d, b, 0, b->pages);
	}
}

static int check_part(const struct dirty *d, size_t block, uint64_t offset, uint64_t length, struct vfmig_error *err)
{
	if (block < d->num_blocks && range_inside(offset, length, d->blocks[block].pages * DIRTY_PAGE))
		return 0;
	return error_set(err, -EINVAL, "0x%llx bytes at 0x%llx are not inside the block", (ull)length, (ull)offset);
}

int dirty_mark(struct dirty *d, size_t block, uint64_t offset, uint64_t length, struct vfmig_error *err)
{
	int r = check_part(d, block, offset, length, err);
	if (r < 0 || length == 0)
		return r;
	uint64_t first = offset / DIRTY_PAGE;
	set_pages(d, &d->blocks[block], first, (offset + length - 1) / DIRTY_PAGE - first + 1);
	return 0;
}

int dirty_merge(struct dirty *d, size_t block, uint64_t offset, uint64_t length, uint64_t page_size,
		const uint64_t *bitmap, struct vfmig_error *err)
{
	int r = check_part(d, block, offset, length, err);
	if (r < 0)
		return r;
	if (page_size < DIRTY_PAGE || (page_size & (page_size - 1)) || (offset | length) % DIRTY_PAGE)
		return error_set(err, -EINVAL,
				 "0x%llx bytes at 0x%llx in pages of 0x%llx: expected whole pages of a power of two "
				 "from %u", (ull)length, (ull)offset, (ull)page_size, DIRTY_PAGE);
	merge(d, &d->blocks[block], offset / DIRTY_PAGE, length / DIRTY_PAGE, page_size, bitmap, 0);
	return 0;
}

/* ----------------------------------------------------------------- driving */

int dirty_start(struct dirty *d, vfmig_log_fn *log, void *log_opaque, struct vfmig_error *err)
{
	int r = 0;
	d->log = log;
	d->log_opaque = log_opaque;
	d->started = true;
	d->at_block = 0;
	d->at_page = 0;
	d->stats = (struct dirty_stats) { 0 };
	for (size_t i = 0; i < d->num_blocks; i++) {
		d->blocks[i].unlogged = false;
		set_pages(d, &d->blocks[i], 0, d->blocks[i].pages);
	}
	for (size_t i = 0; i < d->num_sources && r == 0; i++)
		r = source_start(d->sources[i], err);
	if (r < 0)
		dirty_stop(d);
	d->found = 0;
	d->synced_ns = clock_now_ns();
	return r;
}

int dirty_sync(struct dirty *d, struct vfmig_error *err)
{
	for (size_t i = 0; i < d->num_sources; i++) {
		int r = source_sync(d->sources[i], err);
		if (r < 0)
			return r;
	}
	uint64_t now_ns = clock_now_ns();
	d->stats.syncs++;
	d->stats.found = d->found;
	d->stats.interval_ns = now_ns - d->synced_ns;
	d->found = 0;
	d->synced_ns = now_ns;
	return 0;
}

void dirty_stop(struct dirty *d)
{
	for (size_t i = 0; i < d->num_sources; i++)
		source_stop(d->sources[i]);
	d->started = false;
}

void dirty_count(const struct dirty *d, uint64_t *ret_logged, uint64_t *ret_unlogged)
{
	*ret_logged = *ret_unlogged = 0;
	for (size_t i = 0; i < d->num_blocks; i++)
		*(d->blocks[i].unlogged ? ret_unlogged : ret_logged) += d->blocks[i].dirty;
}

/* Looks no further than it takes: a run as long as memory would be looked at again for each of its parts. */
static bool take_of_block(struct dirty *d, uint64_t most, struct dirty_run *ret)
{
	struct dirty_block *b = &d->blocks[d->at_block];
	uint64_t first = b->dirty ? bitmap_next(b->bits, d->at_page, b->pages) : b->pages, count;
	if (!bitmap_next_run(b->bits, first, first + min_u64(most, b->pages - first), &first, &count))
		return false;
	b->dirty -= bitmap_clear(b->bits, first, count);
	d->at_page = first + count;
	*ret = (struct dirty_run) { d->at_block, first, count };
	return true;
}

/* Going round: once more over the block that it begins in, for what lies before that place. */
bool dirty_take(struct dirty *d, bool unlogged, uint64_t most, struct dirty_run *ret)
{
	for (size_t n = 0; n <= d->num_blocks && d->num_blocks; n++) {
		if ((unlogged || !d->blocks[d->at_block].unlogged) && take_of_block(d, most, ret))
			return true;
		d->at_block = (d->at_block + 1) % d->num_blocks;
		d->at_page = 0;
	}
	return false;
}

struct dirty_stats dirty_stats(const struct dirty *d)
{
	return d->stats;
}

bool dirty_device_log(const struct dirty *d, const struct vfmig_device *device, enum access_log *ret_log,
		      uint64_t *ret_page_size)
{
	for (size_t i = 0; i < d->num_sources; i++) {
		const struct dirty_source *s = d->sources[i];
		if (s->device != device || s->kind != SOURCE_LOG || !s->started)
			continue;
		*ret_log = s->log;
		*ret_page_size = s->page_size;
		return true;
	}
	return false;
}

/* ----------------------------------------------------------------- sources */

static int add_source(struct dirty *d, const struct dirty_source *source, struct dirty_source **ret,
		      struct vfmig_error *err)
{
	struct dirty_source **sources = reallocarray(d->sources, d->num_sources + 1, sizeof(*sources));
	struct dirty_source *s = malloc(sizeof(*s));
	if (sources)
		d->sources = sources;
	if (!sources || !s) {
		free(s);
		return error_errno(err, -ENOMEM, "dirty pages");
	}
	*s = *source;
	s->owner = d;
	d->sources[d->num_sources++] = s;
	*ret = s;
	return 0;
}

int dirty_add_device(struct dirty *d, struct vfmig_device *device, struct vfmig_error *err)
{
	const struct dirty_source source = { .kind = SOURCE_NO_LOG, .device = device };
	struct dirty_source *added = NULL;
	if (device->watch)
		return error_set(err, -EBUSY, "%s: its dirty pages are tracked already", vfmig_device_name(device));
	int r = add_source(d, &source, &added, err);
	if (r == 0)
		device->watch = &added->watch;
	return r;
}

int dirty_add_source(struct dirty *d, const struct dirty_source_ops *ops, void *opaque, struct vfmig_error *err)
{
	const struct dirty_source source = { .kind = SOURCE_OPS, .ops = ops, .opaque = opaque };
	struct dirty_source *added = NULL;
	return add_source(d, &source, &added, err);
}
