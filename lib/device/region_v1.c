/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * region_v1.c: the v1 protocol, a migration region with registers and a data section.
 *
 * Source: the comment on struct vfio_device_migration_info in Linux 5.8 to
 * 5.17, and what QEMU 5.2 to 7.2 does with it. Registers are read and written
 * whole, in the order of the interface; every number the device gives is
 * checked against the region before it is used.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "device/protocol.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

#define REGION_TYPE_MIGRATION 3u    /* VFIO_REGION_TYPE_MIGRATION_DEPRECATED */
#define REGION_SUBTYPE_MIGRATION 1u /* VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED */

/* Registers, from the region's start, native endian. */
#define REG_DEVICE_STATE 0u  /* u32 */
#define REG_PENDING_BYTES 8u /* u64 */
#define REG_DATA_OFFSET 16u  /* u64 */
#define REG_DATA_SIZE 24u    /* u64 */
#define REG_END 32u	     /* the data section begins no earlier */

#define STATE_MASK 7u /* bits 3 to 31 are the device's and are written back as they are */

#define MAX_WIDTH 8u /* of one access, when not any length is taken */
#define REGIONS_MAX 1024u
#define PREPARE_MAX ((uint64_t)64 << 20) /* of mapped pages: who says how large a section is may be lying */

/* A stopped device's pending_bytes may be an estimate, but it has to fall. */
#define STALLED_TRANSACTIONS 1024u

/*
 * The states, their bits, and where each may go by one write: the paths of the
 * interface's table, and back to RUNNING from a save that is given up.
 */
#define TO(state) (1u << VFMIG_STATE_##state)
static const struct {
	enum vfmig_state state;
	uint32_t bits; /* RUNNING 1, SAVING 2, RESUMING 4 */
	uint32_t next;
} v1_states[] = {
	{ VFMIG_STATE_STOP, 0, TO(RUNNING) | TO(STOP_COPY) | TO(RESUMING) },
	{ VFMIG_STATE_RUNNING, 1, TO(PRE_COPY) | TO(STOP_COPY) | TO(STOP) | TO(RESUMING) },
	{ VFMIG_STATE_STOP_COPY, 2, TO(STOP) | TO(RUNNING) },
	{ VFMIG_STATE_PRE_COPY, 3, TO(RUNNING) | TO(STOP_COPY) | TO(STOP) },
	{ VFMIG_STATE_RESUMING, 4, TO(RUNNING) | TO(STOP) },
	{ VFMIG_STATE_ERROR, 6, 0 },
};
#undef TO
#define V1_STATES (sizeof(v1_states) / sizeof(v1_states[0]))

struct region_v1 {
	struct protocol base;
	struct access_region_info info;
	void **maps;	 /* one for each of info.areas, NULL: not mapped */
	size_t width;	 /* the data section takes accesses of at most this; 0: of any length */
	size_t proven;	 /* the longest access that has worked */
	bool split;

	/* The transaction under way: next byte in the region, bytes left. */
	uint64_t at, left;
	uint64_t in_section; /* load: bytes put into the section and not consumed yet */
	uint64_t room;	     /* load: what the section holds */

	uint64_t pending; /* last read */
	bool asked;	  /* ... and no transaction has been begun since */
	uint64_t lowest;  /* stop-and-copy: the lowest pending_bytes so far */
	uint32_t stalled; /* ... and for how many transactions it has not fallen */
};

static struct region_v1 *v1(struct protocol *p)
{
	return (struct region_v1 *)p;
}

static int read_register(struct region_v1 *r, uint64_t offset, const char *name, uint64_t *ret, struct vfmig_error *err)
{
	int e = access_region_read(r->base.access, r->info.index, offset, ret, sizeof(*ret), err);
	return e < 0 ? error_prefix(err, e, "reading %s", name) : 0;
}

static int read_device_state(struct region_v1 *r, uint32_t *ret_value, struct vfmig_error *err)
{
	int e = access_region_read(r->base.access, r->info.index, REG_DEVICE_STATE, ret_value, sizeof(*ret_value), err);
	return e < 0 ? error_prefix(err, e, "reading device_state") : 0;
}

/* Asks for the state; base.state follows what the device says. */
static int v1_refresh(struct region_v1 *r, uint32_t *ret_value, struct vfmig_error *err)
{
	uint32_t value;
	int e = read_device_state(r, &value, err);
	if (e < 0)
		return e;
	for (size_t i = 0; i < V1_STATES; i++) {
		if (v1_states[i].bits == (value & STATE_MASK)) {
			r->base.state = v1_states[i].state;
			*ret_value = value;
			return 0;
		}
	}
	r->base.state = VFMIG_STATE_ERROR;
	return error_set(err, -EPROTO, "device_state reads 0x%x, whose bits are no state of the interface", value);
}

static int v1_get_state(struct protocol *p, enum vfmig_state *ret, struct vfmig_error *err)
{
	uint32_t value;
	int e = v1_refresh(v1(p), &value, err);
	if (e == 0)
		*ret = p->state;
	return e;
}

/* The row of the table for a transition, or -1: not one of the interface. */
static int v1_arc(enum vfmig_state from, enum vfmig_state to)
{
	int row = -1;
	bool legal = false;
	for (size_t i = 0; i < V1_STATES; i++) {
		if (v1_states[i].state == to)
			row = (int)i;
		if (v1_states[i].state == from)
			legal = v1_states[i].next & (1u << to);
	}
	return legal ? row : -1;
}

/* What somebody else does between the look at the state and the write of it goes unnoticed. */
static int v1_set_state(struct protocol *p, enum vfmig_state state, struct vfmig_error *err)
{
	struct region_v1 *r = v1(p);
	uint32_t value;
	enum vfmig_state expected = p->state;
	int e = v1_refresh(r, &value, err);
	if (e == 0)
		e = protocol_check_state(p, expected, err);
	if (e < 0)
		return e;
	enum vfmig_state from = p->state;
	if (from == state)
		return 0;
	int row = v1_arc(from, state);
	if (row < 0)
		return error_set(err, -EINVAL, "a v1 device cannot go from %s to %s%s", vfmig_state_name(from),
				 vfmig_state_name(state),
				 from == VFMIG_STATE_ERROR ? ": only a reset ends an error" : "");

	value = (value & ~STATE_MASK) | v1_states[row].bits;
	const char *from_name = trace_text(vfmig_state_name(from)), *to_name = trace_text(vfmig_state_name(state));
	TRACE3(transition_begin, p->access->name, from_name, to_name);
	int written = access_region_write(p->access, r->info.index, REG_DEVICE_STATE, &value, sizeof(value), err);
	TRACE4(transition_end, p->access->name, from_name, to_name, written);
	r->left = r->in_section = 0;
	r->asked = false;
	r->pending = 0;
	r->stalled = 0;
	r->lowest = UINT64_MAX;

	struct vfmig_error ignored;
	e = v1_refresh(r, &value, written < 0 ? &ignored : err);
	if (written < 0)
		return error_prefix(err, written, "transition from %s to %s (the device is now in %s)",
				    vfmig_state_name(from), vfmig_state_name(state),
				    e < 0 ? "an unknown state" : vfmig_state_name(p->state));
	if (e < 0)
		return error_prefix(err, e, "transition from %s to %s", vfmig_state_name(from),
				    vfmig_state_name(state));
	if (p->state != state)
		return error_set(err, -EIO, "transition from %s to %s was accepted, but the device is in %s",
				 vfmig_state_name(from), vfmig_state_name(state), vfmig_state_name(p->state));
	return 0;
}

/* What cannot be had so (a device's own memory, an older kernel, a larger section) is had by page faults. */
static void v1_prepare(struct protocol *p, bool to_write)
{
	const struct region_v1 *r = v1(p);
	uint64_t budget = PREPARE_MAX;
	for (size_t i = 0; i < r->info.num_areas; i++) {
		uint64_t size = min_u64(r->info.areas[i].size, budget);
		if (!r->maps[i] || !size)
			continue;
		(void)madvise(r->maps[i], (size_t)size, to_write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
		budget -= size;
	}
}

/* A read of pending_bytes acknowledges the transaction before it. */
static int ask_pending(struct region_v1 *r, struct vfmig_error *err)
{
	int e = read_register(r, REG_PENDING_BYTES, "pending_bytes", &r->pending, err);
	r->asked = e == 0;
	return e;
}

/* In the middle of a transaction the number is the remembered one; outside a save there is none. */
static int v1_pending(struct protocol *p, bool exact, struct vfmig_pending *ret, struct vfmig_error *err)
{
	struct region_v1 *r = v1(p);
	bool precopy = p->state == VFMIG_STATE_PRE_COPY;
	(void)exact; /* one register read is cheap enough for an estimate */
	int e = r->left == 0 && (precopy || p->state == VFMIG_STATE_STOP_COPY) ? ask_pending(r, err) : 0;
	if (e < 0)
		return e;
	*ret = (struct vfmig_pending) { .precopy_bytes = precopy ? r->pending : 0,
					.stop_copy_bytes = precopy ? 0 : r->pending };
	return 0;
}

static int check_progress(struct region_v1 *r, struct vfmig_error *err)
{
	if (r->base.state != VFMIG_STATE_STOP_COPY)
		return 0;
	if (r->pending < r->lowest) {
		r->lowest = r->pending;
		r->stalled = 0;
		return 0;
	}
	if (++r->stalled < STALLED_TRANSACTIONS)
		return 0;
	return error_set(err, -EPROTO,
			 "pending_bytes of the stopped device has not fallen below %llu in %u transactions",
			 (unsigned long long)r->lowest, STALLED_TRANSACTIONS);
}

static int check_section(const struct region_v1 *r, uint64_t offset, uint64_t size, struct vfmig_error *err)
{
	if (offset < REG_END || !range_inside(offset, size, r->info.size))
		return error_set(err, -EPROTO,
				 "the device puts %llu bytes of data at offset 0x%llx of its migration region, "
				 "whose data section is 0x%x to 0x%llx",
				 (unsigned long long)size, (unsigned long long)offset, REG_END,
				 (unsigned long long)r->info.size);
	return 0;
}

/*
 * The remembered pending count is used once: a snapshot never asks for it
 * (QEMU's save_live_pending), so without it this asks itself.
 */
static int begin_transaction(struct region_v1 *r, uint64_t *ret_size, struct vfmig_error *err)
{
	uint64_t offset, size;
	int e = r->asked ? 0 : ask_pending(r, err);
	r->asked = false;
	if (e == 0 && r->pending == 0) {
		*ret_size = 0;
		return 0;
	}
	if (e == 0)
		e = check_progress(r, err);
	if (e == 0)
		e = read_register(r, REG_DATA_OFFSET, "data_offset", &offset, err);
	if (e == 0)
		e = read_register(r, REG_DATA_SIZE, "data_size", &size, err);
	if (e == 0)
		e = check_section(r, offset, size, err);
	if (e < 0)
		return e;
	if (size == 0 && r->base.state == VFMIG_STATE_STOP_COPY)
		return error_set(err, -EPROTO, "data_size is 0 although %llu bytes are pending in stop-and-copy",
				 (unsigned long long)r->pending);
	r->at = offset;
	r->left = size;
	*ret_size = size;
	return 0;
}

/*
 * How the bytes at `at` are reached: *ret_place is where they are mapped or
 * NULL, and the result is for how many bytes (at most `length`) that holds.
 */
static uint64_t locate(const struct region_v1 *r, uint64_t at, uint64_t length, uint8_t **ret_place)
{
	*ret_place = NULL;
	for (size_t i = 0; i < r->info.num_areas; i++) {
		const struct access_area *a = &r->info.areas[i];
		if (!r->maps[i])
			continue;
		if (at >= a->offset && at - a->offset < a->size) {
			*ret_place = (uint8_t *)r->maps[i] + (at - a->offset);
			return min_u64(length, a->size - (at - a->offset));
		}
		if (a->offset > at)
			length = min_u64(length, a->offset - at);
	}
	return length;
}

/* The widest access that `width` allows for these bytes; 0 allows any. */
static size_t access_length(size_t width, uint64_t at, uint64_t left)
{
	if (width == 0)
		return (size_t)left;
	while (width > 1 && (left < width || at % width))
		width /= 2;
	return width;
}

/* Could this failure mean "not with an access of that length"? */
static bool may_be_width(int e)
{
	return e != -ENOTCONN && e != -ETIMEDOUT && e != -ENODEV && e != -ENOMEM;
}

/*
 * Moves bytes that are not mapped. The first refusal of a long access is met
 * by trying 8, 4, 2 and 1 bytes; the width that works is remembered, and a
 * failure of what has worked before is a failure. Repeating is safe: the data
 * section has no side effects before data_size is written or pending_bytes read.
 */
static int trapped_access(struct region_v1 *r, uint64_t at, uint8_t *into, const uint8_t *from, uint64_t length,
			  struct vfmig_error *err)
{
	struct access *a = r->base.access;
	struct vfmig_error first = { 0 };
	for (uint64_t done = 0; done < length;) {
		size_t n = access_length(r->width, at + done, length - done);
		struct vfmig_error *why = first.code ? NULL : &first;
		int e = into ? access_region_read(a, r->info.index, at + done, into + done, n, why)
			     : access_region_write(a, r->info.index, at + done, from + done, n, why);
		if (e == 0) {
			r->proven = n > r->proven ? n : r->proven;
			done += n;
			continue;
		}
		if (n <= r->proven || r->proven > MAX_WIDTH || n == 1 || !may_be_width(e)) {
			if (err)
				*err = first;
			return error_prefix(err, first.code ? first.code : e, "%s the data section at 0x%llx",
					    into ? "reading" : "writing", (unsigned long long)(at + done));
		}
		for (r->width = MAX_WIDTH; r->width >= n;)
			r->width /= 2;
	}
	return 0;
}

static int v1_read(struct protocol *p, void *buffer, size_t capacity, struct protocol_piece *ret,
		   struct vfmig_error *err)
{
	struct region_v1 *r = v1(p);
	uint64_t chunk = 0;
	uint8_t *place;
	int e = r->left ? 0 : begin_transaction(r, &chunk, err);
	if (e < 0)
		return e;
	uint64_t n = locate(r, r->at, min_u64(r->left, PROTOCOL_PIECE_MAX), &place);
	if (!place) {
		n = min_u64(n, capacity);
		e = trapped_access(r, r->at, buffer, NULL, n, err);
	}
	if (e < 0)
		return e;
	r->at += n;
	r->left -= n;
	*ret = (struct protocol_piece) { chunk, place ? place : buffer, (size_t)n, r->left == 0 };
	return 0;
}

/* Finds out where the device wants the next bytes and how many fit there. */
static int open_section(struct region_v1 *r, struct vfmig_error *err)
{
	uint64_t offset;
	int e = read_register(r, REG_DATA_OFFSET, "data_offset", &offset, err);
	if (e == 0)
		e = check_section(r, offset, 1, err);
	if (e < 0)
		return e;
	r->at = offset;
	r->room = r->info.size - offset;
	r->in_section = 0;
	return 0;
}

static int v1_write_begin(struct protocol *p, uint64_t size, struct vfmig_error *err)
{
	struct region_v1 *r = v1(p);
	int e = open_section(r, err);
	if (e < 0)
		return e;
	if (size > r->room && !r->split)
		return error_set(err, -EMSGSIZE,
				 "a transaction of %llu bytes does not fit into this device's data section of %llu; "
				 "transactions keep their size (--split-transactions does as QEMU 7.2 does)",
				 (unsigned long long)size, (unsigned long long)r->room);
	r->left = size;
	return 0;
}

/* "This many bytes have been written, consume them"; returns once consumed. */
static int consume(struct region_v1 *r, struct vfmig_error *err)
{
	uint64_t size = r->in_section;
	int e = access_region_write(r->base.access, r->info.index, REG_DATA_SIZE, &size, sizeof(size), err);
	if (e < 0)
		return error_prefix(err, e, "writing data_size %llu", (unsigned long long)size);
	r->in_section = 0;
	return 0;
}

static void *v1_write_place(struct protocol *p, size_t *ret_length)
{
	const struct region_v1 *r = v1(p);
	uint8_t *place;
	*ret_length = (size_t)locate(r, r->at, min_u64(r->left, r->room - r->in_section), &place);
	return *ret_length ? place : NULL;
}

static int v1_write_piece(struct protocol *p, const void *data, size_t length, struct vfmig_error *err)
{
	struct region_v1 *r = v1(p);
	const uint8_t *from = data;
	if (length > r->left)
		return error_set(err, -EINVAL, "%zu bytes for a transaction that has %llu left", length,
				 (unsigned long long)r->left);
	while (length > 0) {
		int e = 0;
		if (r->in_section == r->room) {
			e = consume(r, err);
			if (e == 0)
				e = open_section(r, err);
			if (e < 0)
				return e;
		}
		uint8_t *place;
		uint64_t most = min_u64(min_u64(length, r->room - r->in_section), PROTOCOL_PIECE_MAX);
		uint64_t n = locate(r, r->at, most, &place);
		if (place && place != from)
			memcpy(place, from, n);
		else if (!place)
			e = trapped_access(r, r->at, NULL, from, n, err);
		if (e < 0)
			return e;
		r->at += n;
		r->in_section += n;
		r->left -= n;
		from += n;
		length -= n;
	}
	return 0;
}

static int v1_write_end(struct protocol *p, struct vfmig_error *err)
{
	struct region_v1 *r = v1(p);
	if (r->left)
		return error_set(err, -EINVAL, "a transaction ends %llu bytes early", (unsigned long long)r->left);
	return r->in_section ? consume(r, err) : 0;
}

static void v1_free(struct protocol *p)
{
	struct region_v1 *r = v1(p);
	for (size_t i = 0; r->maps && i < r->info.num_areas; i++)
		if (r->maps[i])
			access_region_unmap(p->access, r->maps[i], &r->info.areas[i]);
	free(r->maps);
	access_region_info_clear(&r->info);
	free(r);
}

static const struct protocol_ops v1_ops = {
	.name = "v1",
	.get_state = v1_get_state,
	.set_state = v1_set_state,
	.prepare = v1_prepare,
	.pending = v1_pending,
	.read = v1_read,
	.write_begin = v1_write_begin,
	.write_place = v1_write_place,
	.write_piece = v1_write_piece,
	.write_end = v1_write_end,
	.free = v1_free,
};

/* Walks the regions behind the PCI ones for the one with the migration type. */
int region_v1_find(struct access *a, struct access_region_info *ret, struct vfmig_error *err)
{
	struct access_device_info info;
	int e = access_device_info(a, &info, err);
	if (e < 0)
		return e;
	if (info.num_regions > REGIONS_MAX)
		return error_set(err, -EPROTO, "the device says it has %u regions; at most %u are believed",
				 info.num_regions, REGIONS_MAX);
	for (uint32_t i = ACCESS_PCI_NUM_REGIONS; i < info.num_regions; i++) {
		struct access_region_info region;
		e = access_region_info(a, i, &region, err);
		if (e < 0)
			return error_prefix(err, e, "region %u", i);
		if (region.has_type && region.type == REGION_TYPE_MIGRATION &&
		    region.subtype == REGION_SUBTYPE_MIGRATION) {
			*ret = region;
			return 0;
		}
		access_region_info_clear(&region);
	}
	if (info.num_regions <= ACCESS_PCI_NUM_REGIONS)
		return error_set(err, -EOPNOTSUPP,
				 "no v1 migration region: it has %u regions, none behind the %u of a PCI device",
				 info.num_regions, ACCESS_PCI_NUM_REGIONS);
	return error_set(err, -EOPNOTSUPP,
			 "no v1 migration region: none of the regions %u to %u has type %u, subtype %u",
			 ACCESS_PCI_NUM_REGIONS, info.num_regions - 1, REGION_TYPE_MIGRATION, REGION_SUBTYPE_MIGRATION);
}

/* Maps what can be mapped and holds data. An area that cannot is read and written instead. */
static int map_areas(struct region_v1 *r, struct vfmig_error *err)
{
	r->maps = calloc(r->info.num_areas + 1, sizeof(*r->maps));
	if (!r->maps)
		return error_errno(err, -ENOMEM, "list of mappings");
	for (size_t i = 0; i < r->info.num_areas; i++) {
		if (r->info.areas[i].offset < REG_END)
			continue; /* never map registers: their order of access is the protocol */
		struct vfmig_error why;
		int e = access_region_map(r->base.access, r->info.index, &r->info.areas[i], &r->maps[i], &why);
		if (e == -ENOTCONN || e == -ETIMEDOUT)
			return error_set(err, e, "%s", why.message);
		if (e < 0)
			r->maps[i] = NULL;
		r->base.mapped |= r->maps[i] != NULL;
	}
	return 0;
}

int region_v1_open(struct access *a, bool split_transactions, struct protocol **ret, struct vfmig_error *err)
{
	struct region_v1 *r = calloc(1, sizeof(*r));
	if (!r)
		return error_errno(err, -ENOMEM, "v1 protocol");
	r->base.ops = &v1_ops;
	r->base.access = a;
	r->base.has_precopy = true; /* a driver without it reports 0 pending */
	r->base.empty_packet = true;
	r->split = split_transactions;
	r->lowest = UINT64_MAX;
	uint32_t value;
	int e = region_v1_find(a, &r->info, err);
	if (e == 0 && r->info.size <= REG_END)
		e = error_set(err, -EPROTO,
			      "the migration region has %llu bytes, not even its %u of registers and a data section",
			      (unsigned long long)r->info.size, REG_END);
	if (e == 0)
		e = map_areas(r, err);
	if (e == 0)
		e = v1_refresh(r, &value, err);
	if (e < 0) {
		v1_free(&r->base);
		return e;
	}
	*ret = &r->base;
	return 0;
}
