/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memory_save.c: guest memory's save handlers: QEMU's section "ram", version 4.
 *
 * Source: the streams that QEMU 7.2 and 10.0 write (ram_save_setup,
 * ram_save_iterate, ram_save_complete). START lists the blocks, PARTs carry pages
 * while everything runs, END carries what is left once it is stopped. A page is
 * copied before it is put, because it may change while it is sent and the
 * stream's digest has to be of what was sent; which pages of it are zero is
 * looked up in the copy.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "migrate/memory_lock.h"
#include "stream/wire.h"

#define BUFFER_BYTES (1u << 20) /* is put at once */
#define RUN_PAGES 64u		/* are read at once */
#define RECORD_MAX (8u + 1u + WIRE_ID_MAX + WIRE_PAGE_SIZE)
#define SECTION_BYTES (4u << 20) /* then devices have their turn */
#define LIST_MAX (48u << 10)
#define SYNC_NS (100 * NS_PER_MS) /* pages that were sent are looked at again after that */

struct memory_save {
	struct vfmig_memory *memory;
	const struct log *log;
	bool no_precopy;
	bool logging;
	bool last_round;
	uint64_t synced_ns;

	/* The section that is being written. */
	bool open;
	uint64_t section_bytes;
	const struct memory_block *block; /* of the page before; NULL: none in this section */
	uint8_t *buffer, *run;
	size_t used;

	struct memory_lock lock; /* until it is over */
};

static int failed(int code, const char *what, struct vfmig_error *err)
{
	return error_prefix(err, code, "memory: %s", what);
}

static int sync_dirty(struct memory_save *s, struct vfmig_error *err)
{
	s->synced_ns = clock_now_ns();
	return s->logging ? dirty_sync(s->memory->dirty, err) : 0;
}

static int check_blocks(const struct memory_save *s, uint64_t *ret_total, struct vfmig_error *err)
{
	uint64_t total = 0;
	size_t list = 0;
	for (size_t i = 0; i < s->memory->count; i++) {
		const struct memory_block *b = &s->memory->blocks[i];
		if (b->skipped)
			return error_set(err, -EINVAL, "block \"%s\" is skipped; that is for a load", b->name);
		if (__builtin_add_overflow(total, b->length, &total) || total > INT64_MAX)
			return error_set(err, -EOVERFLOW, "blocks of more than 2^63 bytes");
		list += 1 + strlen(b->name) + 8;
	}
	if (list == 0 || list > LIST_MAX)
		return error_set(err, -EINVAL, "%zu blocks: expected one or more, whose names fit into %u bytes",
				 s->memory->count, LIST_MAX);
	*ret_total = total;
	return 0;
}

/* With nothing running meanwhile there is nothing to log. */
static int begin_tracking(struct memory_save *s, struct vfmig_error *err)
{
	struct dirty *d = s->memory->dirty;
	int r = 0;
	for (size_t i = 0; s->no_precopy && i < s->memory->count && r == 0; i++)
		r = dirty_mark(d, i, 0, s->memory->blocks[i].length, err);
	if (s->no_precopy)
		return r;
	r = dirty_start(d, s->log->fn, s->log->opaque, err);
	s->logging = r == 0;
	s->synced_ns = clock_now_ns();
	return r;
}

static int save_setup(void *opaque, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct memory_save *s = opaque;
	uint64_t total = 0;
	s->memory->pages = s->memory->zero_pages = 0;
	s->last_round = s->open = false;
	int r = check_blocks(s, &total, err);
	if (r == 0)
		r = begin_tracking(s, err);
	if (r < 0)
		return failed(r, "setup", err);
	vfmig_put_be64(w, total | WIRE_RAM_MEM_SIZE);
	for (size_t i = 0; i < s->memory->count; i++) {
		const struct memory_block *b = &s->memory->blocks[i];
		vfmig_put_u8(w, (uint8_t)strlen(b->name));
		vfmig_put_bytes(w, b->name, strlen(b->name));
		vfmig_put_be64(w, b->length);
	}
	vfmig_put_be64(w, WIRE_RAM_EOS);
	return VFMIG_SECTION_DONE;
}

/* The exact number is of now. */
static int save_live_pending(void *opaque, bool exact, struct vfmig_pending *ret, struct vfmig_error *err)
{
	struct memory_save *s = opaque;
	uint64_t logged, unlogged;
	int r = exact ? sync_dirty(s, err) : 0;
	if (r < 0)
		return failed(r, "dirty pages", err);
	dirty_count(s->memory->dirty, &logged, &unlogged);
	ret->precopy_bytes = logged * (WIRE_PAGE_SIZE + 8u);
	ret->stop_copy_bytes = unlogged * (WIRE_PAGE_SIZE + 8u);
	return 0;
}

static void put(struct memory_save *s, const void *data, size_t length)
{
	memcpy(s->buffer + s->used, data, length);
	s->used += length;
}

/* A page's header: its place and what it is, and the block's name where that is another than before. */
static void put_page(struct memory_save *s, const struct memory_block *b, uint64_t offset, const uint8_t *page)
{
	bool zero = memory_is_zero(page, WIRE_PAGE_SIZE), same = b == s->block;
	uint8_t head[8], length = (uint8_t)strlen(b->name);
	put_be64(head, offset | (zero ? WIRE_RAM_ZERO : WIRE_RAM_PAGE) | (same ? WIRE_RAM_CONTINUE : 0));
	put(s, head, sizeof(head));
	if (!same) {
		put(s, &length, 1);
		put(s, b->name, length);
	}
	put(s, zero ? (const uint8_t[]) { 0 } : page, zero ? 1 : WIRE_PAGE_SIZE);
	s->block = b;
	s->memory->pages += !zero;
	s->memory->zero_pages += zero;
}

/* Has the section enough? The last one takes all there is. */
static bool is_full(const struct memory_save *s)
{
	return !s->last_round && s->section_bytes + s->used >= SECTION_BYTES;
}

/* As many pages as the buffer holds, with the end of the section behind them. */
static int fill(struct memory_save *s, struct vfmig_error *err)
{
	while (BUFFER_BYTES - s->used >= RUN_PAGES * RECORD_MAX + 8u && !is_full(s)) {
		struct dirty_run run;
		if (!dirty_take(s->memory->dirty, s->last_round, RUN_PAGES, &run))
			break;
		const struct memory_block *b = &s->memory->blocks[run.block];
		uint64_t offset = run.first * WIRE_PAGE_SIZE;
		int r = memory_read(b, offset, s->run, run.count * WIRE_PAGE_SIZE, err);
		if (r < 0)
			return r;
		for (size_t i = 0; i < run.count; i++)
			put_page(s, b, offset + i * WIRE_PAGE_SIZE, s->run + i * WIRE_PAGE_SIZE);
	}
	return 0;
}

static bool is_empty(const struct memory_save *s)
{
	uint64_t logged, unlogged;
	dirty_count(s->memory->dirty, &logged, &unlogged);
	return logged + (s->last_round ? unlogged : 0) == 0;
}

/* One section, in pieces of a buffer. */
static int write_pages(struct memory_save *s, struct vfmig_writer *w, struct vfmig_error *err)
{
	if (!s->open) {
		s->open = true;
		s->section_bytes = 0;
		s->block = NULL;
	}
	s->used = 0;
	int r = fill(s, err);
	if (r < 0)
		return r;
	bool ends = is_empty(s) || is_full(s);
	s->section_bytes += s->used;
	if (ends) {
		uint8_t end[8];
		put_be64(end, WIRE_RAM_EOS);
		put(s, end, sizeof(end));
		s->open = false;
	}
	vfmig_put_ref(w, s->buffer, s->used);
	return !ends ? VFMIG_SECTION_MORE : s->section_bytes ? VFMIG_SECTION_DONE : VFMIG_ALL_DONE;
}

static int save_live_iterate(void *opaque, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct memory_save *s = opaque;
	int r = 0;
	if (!s->open && is_empty(s) && clock_now_ns() - s->synced_ns >= SYNC_NS)
		r = sync_dirty(s, err);
	if (r == 0)
		r = write_pages(s, w, err);
	return r < 0 ? failed(r, "pre-copy", err) : r;
}

/* Everything is stopped: what is written now was written before. */
static int save_live_complete_precopy(void *opaque, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct memory_save *s = opaque;
	int r = 0;
	if (!s->last_round)
		r = sync_dirty(s, err);
	s->last_round = true;
	if (r == 0)
		r = write_pages(s, w, err);
	return r < 0 ? failed(r, "stop-and-copy", err) : r;
}

static void save_cleanup(void *opaque)
{
	struct memory_save *s = opaque;
	if (s->logging)
		dirty_stop(s->memory->dirty);
	s->logging = false;
	memory_unlock(&s->lock);
}

static void memory_save_free(void *opaque)
{
	struct memory_save *s = opaque;
	memory_unlock(&s->lock);
	free(s->buffer);
	free(s->run);
	free(s);
}

static const struct vfmig_participant_ops memory_save_ops = {
	.size = sizeof(memory_save_ops),
	.save_setup = save_setup,
	.save_live_pending = save_live_pending,
	.save_live_iterate = save_live_iterate,
	.save_live_complete_precopy = save_live_complete_precopy,
	.save_cleanup = save_cleanup,
};

int memory_save_add(struct participants *p, struct vfmig_memory *memory, bool no_precopy, const struct log *log,
		    struct vfmig_error *err)
{
	struct participant *added;
	struct memory_save *s = calloc(1, sizeof(*s));
	if (s) {
		s->buffer = malloc(BUFFER_BYTES);
		s->run = aligned_alloc(WIRE_PAGE_SIZE, RUN_PAGES * WIRE_PAGE_SIZE);
	}
	if (!s || !s->buffer || !s->run) {
		if (s)
			memory_save_free(s);
		return error_errno(err, -ENOMEM, "memory");
	}
	s->memory = memory;
	s->no_precopy = no_precopy;
	s->log = log;
	int r = participants_add(p, &memory_save_ops, s, MEMORY_ID, 0, WIRE_RAM_VERSION, &added, err);
	if (r == 0 && (r = memory_lock(memory, false, &s->lock, err)) < 0)
		p->count--; /* the one that was just added */
	if (r < 0) {
		memory_save_free(s);
		return r;
	}
	added->name = "memory";
	added->free = memory_save_free;
	return 0;
}
