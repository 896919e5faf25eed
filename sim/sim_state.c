/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_state.c: the records of the device's state, put and taken; see sim_state.h. */
#include "sim/sim_state.h"

#include <string.h>

#include "base/bytes.h"

#define RECORD_MAGIC 0x72736676u /* "vfsr" */
#define STATE_VERSION 1u
#define BEGIN_LENGTH 32u
#define END_LENGTH 72u

enum record_kind { RECORD_BEGIN = 1, RECORD_PAGE = 2, RECORD_END = 3 };

static uint8_t *record_put(struct sim_record *r, enum record_kind kind, uint64_t index, size_t length)
{
	put_le32(r->bytes, RECORD_MAGIC);
	put_le16(r->bytes + 4, (uint16_t)kind);
	put_le16(r->bytes + 6, 0);
	put_le64(r->bytes + 8, index);
	put_le64(r->bytes + 16, length);
	r->used = 0;
	r->length = SIM_RECORD_HEADER + length;
	return r->bytes + SIM_RECORD_HEADER;
}

static void begin_put(struct sim_record *r, const struct sim_work *w)
{
	uint8_t *p = record_put(r, RECORD_BEGIN, 0, BEGIN_LENGTH);

	put_le64(p, STATE_VERSION);
	put_le64(p + 8, SIM_PAGE_SIZE);
	put_le64(p + 16, w->pages.bytes);
	put_le64(p + 24, w->pages.seed);
}

/* The reverse of begin_put. */
static int begin_get(const uint8_t *p, struct sim_work *w, struct vfmig_error *err)
{
	if (get_le64(p) != STATE_VERSION || get_le64(p + 8) != SIM_PAGE_SIZE)
		return error_set(
		    err, -EINVAL, "state of version %llu with pages of %llu bytes, expected version %u, %u",
		    (unsigned long long)get_le64(p), (unsigned long long)get_le64(p + 8), STATE_VERSION, SIM_PAGE_SIZE);
	if (get_le64(p + 16) != w->pages.bytes)
		return error_set(err, -EINVAL, "state of %llu bytes does not fit this device's %llu",
				 (unsigned long long)get_le64(p + 16), (unsigned long long)w->pages.bytes);
	sim_work_reset(w, get_le64(p + 24));
	sim_pages_dirty_all(&w->pages); /* dirty here means: still missing */
	return 0;
}

static void end_put(struct sim_record *r, const struct sim_work *w, const struct sim_registers *registers)
{
	uint8_t *p = record_put(r, RECORD_END, 0, END_LENGTH);

	put_le64(p, w->pages.count);
	put_le64(p + 8, w->step);
	put_le64(p + 16, w->chain);
	put_le64(p + 24, registers->control);
	put_le64(p + 32, registers->rate);
	put_le64(p + 40, registers->log_iova);
	put_le64(p + 48, registers->log_entries);
	put_le64(p + 56, registers->logged);
	put_le64(p + 64, registers->not_logged);
}

/* The reverse of end_put. */
static int end_get(const uint8_t *p, struct sim_work *w, struct sim_registers *registers, struct vfmig_error *err)
{
	struct sim_registers in = {
		.control = get_le64(p + 24),
		.rate = get_le64(p + 32),
		.log_iova = get_le64(p + 40),
		.log_entries = get_le64(p + 48),
		.logged = get_le64(p + 56),
		.not_logged = get_le64(p + 64),
	};

	if (get_le64(p) != w->pages.count)
		return error_set(err, -EINVAL, "state ends with a count of %llu pages, expected %llu",
				 (unsigned long long)get_le64(p), (unsigned long long)w->pages.count);
	if (w->pages.dirty_count)
		return error_set(err, -EINVAL, "state ends with %llu of %llu pages missing",
				 (unsigned long long)w->pages.dirty_count, (unsigned long long)w->pages.count);
	if (in.control & ~(uint64_t)SIM_CONTROL_MASK || in.rate > SIM_RATE_MAX || in.log_entries > SIM_LOG_ENTRIES_MAX)
		return error_set(err, -EINVAL, "state has registers with impossible values");
	w->step = get_le64(p + 8);
	w->chain = get_le64(p + 16);
	*registers = in;
	return 0;
}

void sim_saver_start(struct sim_saver *s, struct sim_work *w)
{
	s->begun = s->ended = false;
	s->given = 0;
	s->record.used = s->record.length = 0;
	sim_pages_dirty_all(&w->pages);
}

uint64_t sim_saver_pending(const struct sim_saver *s, const struct sim_work *w, bool last)
{
	uint64_t pending = s->record.length - s->record.used;

	if (!s->begun)
		pending += SIM_RECORD_HEADER + BEGIN_LENGTH;
	pending += w->pages.dirty_count * SIM_RECORD_HEADER + w->pages.dirty_bytes;
	if (last && !s->ended)
		pending += SIM_RECORD_HEADER + END_LENGTH;
	return pending;
}

/* Makes the next record. False: there is none. */
static bool saver_next(struct sim_saver *s, struct sim_work *w, const struct sim_registers *registers, bool last)
{
	if (!s->begun) {
		begin_put(&s->record, w);
		s->begun = true;
		return true;
	}
	uint64_t index = sim_pages_take_dirty(&w->pages);
	if (index < w->pages.count) {
		sim_pages_get(&w->pages, index,
			      record_put(&s->record, RECORD_PAGE, index, sim_pages_length(&w->pages, index)));
		return true;
	}
	if (!last || s->ended)
		return false;
	end_put(&s->record, w, registers);
	s->ended = true;
	return true;
}

size_t sim_saver_fill(struct sim_saver *s, struct sim_work *w, const struct sim_registers *registers, bool last,
		      uint8_t *buffer, size_t capacity)
{
	size_t filled = 0;

	while (filled < capacity) {
		if (s->record.used == s->record.length && !saver_next(s, w, registers, last))
			break;
		size_t n = (size_t)min_u64(capacity - filled, s->record.length - s->record.used);
		memcpy(buffer + filled, s->record.bytes + s->record.used, n);
		s->record.used += n;
		filled += n;
	}
	s->given += filled;
	return filled;
}

void sim_loader_start(struct sim_loader *l, struct sim_work *w)
{
	l->begun = l->ended = l->failed = false;
	l->record.used = 0;
	l->record.length = SIM_RECORD_HEADER;
	sim_work_reset(w, w->pages.seed);
}

/* A header is there: how long is its record? 0: it is none. */
static size_t record_length(const uint8_t *header, const struct sim_work *w)
{
	uint64_t index = get_le64(header + 8), length = get_le64(header + 16);
	size_t expected;

	if (get_le32(header) != RECORD_MAGIC || get_le16(header + 6) != 0)
		return 0;
	switch (get_le16(header + 4)) {
	case RECORD_BEGIN:
		expected = index == 0 ? BEGIN_LENGTH : 0;
		break;
	case RECORD_PAGE:
		expected = index < w->pages.count ? sim_pages_length(&w->pages, index) : 0;
		break;
	case RECORD_END:
		expected = index == 0 ? END_LENGTH : 0;
		break;
	default:
		return 0;
	}
	return expected && length == expected ? SIM_RECORD_HEADER + expected : 0;
}

static int loader_record(struct sim_loader *l, struct sim_work *w, struct sim_registers *registers,
			 struct vfmig_error *err)
{
	const uint8_t *payload = l->record.bytes + SIM_RECORD_HEADER;
	uint16_t kind = get_le16(l->record.bytes + 4);
	int r;

	if ((kind == RECORD_BEGIN) == l->begun)
		return error_set(err, -EINVAL,
				 l->begun ? "state begins twice" : "state does not begin with its BEGIN record");
	switch (kind) {
	case RECORD_BEGIN:
		r = begin_get(payload, w, err);
		l->begun = r == 0;
		return r;
	case RECORD_PAGE:
		sim_pages_put(&w->pages, get_le64(l->record.bytes + 8), payload);
		return 0;
	default:
		r = end_get(payload, w, registers, err);
		l->ended = r == 0;
		return r;
	}
}

static int loader_advance(struct sim_loader *l, struct sim_work *w, struct sim_registers *registers,
			  struct vfmig_error *err)
{
	if (l->record.length == SIM_RECORD_HEADER) {
		l->record.length = record_length(l->record.bytes, w);
		if (!l->record.length)
			return error_set(err, -EINVAL, "not a record of this device's state");
		return 0;
	}
	l->record.used = 0;
	l->record.length = SIM_RECORD_HEADER;
	return loader_record(l, w, registers, err);
}

int sim_loader_take(struct sim_loader *l, struct sim_work *w, struct sim_registers *registers, const uint8_t *data,
		    size_t length, struct vfmig_error *err)
{
	int r = 0;

	while (length && r == 0 && !l->failed) {
		if (l->ended) {
			r = error_set(err, -EINVAL, "%zu surplus bytes behind the state's end", length);
			break;
		}
		size_t n = (size_t)min_u64(length, l->record.length - l->record.used);
		memcpy(l->record.bytes + l->record.used, data, n);
		l->record.used += n;
		data += n;
		length -= n;
		if (l->record.used == l->record.length)
			r = loader_advance(l, w, registers, err);
	}
	if (l->failed)
		return error_set(err, -EINVAL, "the state was refused before");
	l->failed = r < 0;
	return r;
}

int sim_loader_check(const struct sim_loader *l, const struct sim_work *w, struct vfmig_error *err)
{
	if (l->failed)
		return error_set(err, -EINVAL, "the state was refused");
	if (!l->begun)
		return error_set(err, -EINVAL, "no state was loaded");
	if (!l->ended)
		return error_set(err, -EINVAL, "the state is not complete: %llu of %llu pages and its end are missing",
				 (unsigned long long)w->pages.dirty_count, (unsigned long long)w->pages.count);
	return 0;
}
