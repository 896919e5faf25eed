/* SPDX-License-Identifier: BSD-3-Clause */
/* check_transfer.c: how checks read a device's state and load it, in pieces of any size, by either interface. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "check.h"

#define STALLED_MAX 1024u	       /* transactions in which pending_bytes does not fall */
#define EDGE_BYTES 32u		       /* one by one: so many of the first and of the last */
#define EDGE_MIDDLE (64u << 10)
#define WIDTH_MAX 8u /* of one access of a register's kind */

/* v1's registers, and where the data section may begin */
#define REG_PENDING_BYTES 8u
#define REG_DATA_OFFSET 16u
#define REG_DATA_SIZE 24u
#define REG_END 32u

/* -------------------------------------------------------------------- blobs */

void check_blob_clear(struct check_blob *b)
{
	free(b->data);
	free(b->sizes);
	*b = (struct check_blob) { 0 };
}

void check_blob_empty(struct check_blob *b)
{
	b->length = b->count = 0;
}

/* Three states are held at a time; one that has more may never end. */
static uint64_t most_bytes(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) / 4 * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int blob_reserve(struct check_blob *b, size_t more, struct vfmig_error *err)
{
	if (b->length + more > b->room || more > b->room) {
		if (!range_inside(b->length, more, most_bytes()))
			return error_set(err, -EFBIG, "the state has more than %llu bytes, a quarter of this machine's "
						      "memory", (unsigned long long)most_bytes());
		size_t room = b->length + more + b->room / 2;
		uint8_t *data = realloc(b->data, room);
		if (!data)
			return error_errno(err, -ENOMEM, "a state of %zu bytes", b->length + more);
		b->data = data;
		b->room = room;
	}
	if (b->count == b->sizes_room) {
		size_t room = b->sizes_room ? 2 * b->sizes_room : 64;
		size_t *sizes = reallocarray(b->sizes, room, sizeof(*sizes));
		if (!sizes)
			return error_errno(err, -ENOMEM, "a state of %zu pieces", b->count);
		b->sizes = sizes;
		b->sizes_room = room;
	}
	return 0;
}

static void blob_added(struct check_blob *b, size_t length)
{
	b->length += length;
	b->sizes[b->count++] = length;
}

int check_blob_copy(struct check_blob *to, const struct check_blob *from, struct vfmig_error *err)
{
	size_t at = 0;

	check_blob_empty(to);
	for (size_t i = 0; i < from->count; at += from->sizes[i++]) {
		int e = blob_reserve(to, from->sizes[i], err);
		if (e < 0)
			return e;
		memcpy(to->data + at, from->data + at, from->sizes[i]);
		blob_added(to, from->sizes[i]);
	}
	return 0;
}

int check_blob_same(const struct check_blob *expected, const struct check_blob *got, const char *what,
		    struct vfmig_error *err)
{
	if (expected->length != got->length)
		return error_set(err, -EPROTO, "%s has %zu bytes, expected the same %zu", what, got->length,
				 expected->length);
	for (size_t i = 0; i < got->length; i++)
		if (expected->data[i] != got->data[i])
			return error_set(err, -EPROTO, "%s differs at byte %zu of %zu: 0x%02x, expected 0x%02x", what,
					 i, got->length, got->data[i], expected->data[i]);
	return 0;
}

/* ----------------------------------------------------------------- v2's data */

int check_read(struct check_run *r, void *buffer, size_t length, size_t *ret_length, bool *ret_nothing,
	       struct vfmig_error *err)
{
	uint64_t start;

	CHECK_TRY(check_op_begin(r, CHECK_OP_READ, &start, err));
	ssize_t n = access_mig_data_read(r->access, buffer, length, err);
	*ret_nothing = n == -EAGAIN;
	*ret_length = 0;
	if (n < 0)
		return *ret_nothing ? 0 : error_prefix(err, (int)n, "reading data");
	if ((size_t)n > length)
		return error_set(err, -EPROTO, "reading %zu bytes of data gave %zd", length, n);
	*ret_length = (size_t)n;
	return check_op_end(r, CHECK_OP_READ, start, 0);
}

int check_write(struct check_run *r, const void *data, size_t length, struct vfmig_error *err)
{
	const uint8_t *from = data;
	uint64_t start;

	while (length > 0) {
		CHECK_TRY(check_op_begin(r, CHECK_OP_WRITE, &start, err));
		ssize_t n = access_mig_data_write(r->access, from, length, err);
		if (n < 0)
			return error_prefix(err, (int)n, "writing data");
		if (n == 0 || (size_t)n > length)
			return error_set(err, -EPROTO, "writing %zu bytes of data took %zd", length, n);
		check_op_end(r, CHECK_OP_WRITE, start, 0);
		from += n;
		length -= (size_t)n;
	}
	return 0;
}

int check_read_more(struct check_run *r, struct check_blob *b, size_t most, size_t *ret_length, bool *ret_nothing,
		    struct vfmig_error *err)
{
	CHECK_TRY(blob_reserve(b, most, err));
	CHECK_TRY(check_read(r, b->data + b->length, most, ret_length, ret_nothing, err));
	if (*ret_length)
		blob_added(b, *ret_length);
	return 0;
}

static int v2_drain(struct check_run *r, struct check_blob *b, size_t piece, struct vfmig_error *err)
{
	size_t n;
	bool nothing;

	for (;;) {
		CHECK_TRY(check_read_more(r, b, piece ? piece : CHECK_PIECE_MAX, &n, &nothing, err));
		if (nothing)
			return error_set(err, -EPROTO, "the stopped device says \"nothing now\" (ENOMSG) after %zu "
						       "bytes, expected data or its end, 0", b->length);
		if (n == 0)
			return 0;
	}
}

/* ---------------------------------------------------------------- v1's region */

static int register_read(struct check_run *r, enum check_op op, uint64_t offset, uint64_t *ret,
			 struct vfmig_error *err)
{
	static const char *const names[] = { "pending_bytes", "data_offset", "data_size" };
	uint64_t start;

	CHECK_TRY(check_op_begin(r, op, &start, err));
	int e = access_region_read(r->access, r->region.index, offset, ret, sizeof(*ret), err);
	if (e < 0)
		return error_prefix(err, e, "reading %s", names[offset / 8 - 1]);
	return check_op_end(r, op, start, e);
}

int check_v1_pending(struct check_run *r, uint64_t *ret, struct vfmig_error *err)
{
	return register_read(r, CHECK_OP_PENDING, REG_PENDING_BYTES, ret, err);
}

int check_v1_offset(struct check_run *r, uint64_t *ret, struct vfmig_error *err)
{
	CHECK_TRY(register_read(r, CHECK_OP_OFFSET, REG_DATA_OFFSET, ret, err));
	if (*ret < REG_END || *ret >= r->region.size)
		return error_set(err, -EPROTO, "data_offset is 0x%llx, expected 0x%x to 0x%llx, the region's end",
				 (unsigned long long)*ret, REG_END, (unsigned long long)r->region.size);
	return 0;
}

int check_v1_size(struct check_run *r, uint64_t offset, uint64_t *ret, struct vfmig_error *err)
{
	CHECK_TRY(register_read(r, CHECK_OP_SIZE, REG_DATA_SIZE, ret, err));
	if (*ret == 0)
		return error_set(err, -EPROTO, "data_size is 0 with bytes pending");
	if (!range_inside(offset, *ret, r->region.size))
		return error_set(err, -EPROTO, "data_size is 0x%llx at 0x%llx of a region of 0x%llx",
				 (unsigned long long)*ret, (unsigned long long)offset,
				 (unsigned long long)r->region.size);
	return 0;
}

/* An access that may be refused for its length alone. */
static int section_access(struct check_run *r, bool write, uint64_t at, uint8_t *data, size_t length,
			  struct vfmig_error *err)
{
	uint64_t start;
	enum check_op op = write ? CHECK_OP_WRITE : CHECK_OP_READ;

	CHECK_TRY(check_op_begin(r, op, &start, err));
	int e = write ? access_region_write(r->access, r->region.index, at, data, length, err)
		      : access_region_read(r->access, r->region.index, at, data, length, err);
	return check_op_end(r, op, start, e);
}

static size_t aligned_width(uint64_t at, size_t most)
{
	size_t width = WIDTH_MAX;

	while (width > most || at % width)
		width /= 2;
	return width;
}

int check_v1_section(struct check_run *r, bool write, uint64_t at, uint8_t *data, size_t length, size_t piece,
		     struct vfmig_error *err)
{
	size_t width = 0; /* 0: any */

	for (size_t done = 0; done < length;) {
		size_t n = min_u64(length - done, piece ? piece : CHECK_PIECE_MAX);
		if (width)
			n = aligned_width(at + done, min_u64(n, width));
		int e = section_access(r, write, at + done, data + done, n, err);
		if ((e == -EINVAL || e == -EIO) && n > 1) {
			width = n > WIDTH_MAX ? WIDTH_MAX : n / 2; /* not with that length, perhaps */
			continue;
		}
		if (e < 0)
			return error_prefix(err, e, "%s %zu bytes of the data section at 0x%llx",
					    write ? "writing" : "reading", n, (unsigned long long)(at + done));
		CHECK_TRY(e);
		done += n;
	}
	return 0;
}

int check_v1_consume(struct check_run *r, uint64_t size, struct vfmig_error *err)
{
	uint64_t start;

	CHECK_TRY(check_op_begin(r, CHECK_OP_CONSUME, &start, err));
	int e = access_region_write(r->access, r->region.index, REG_DATA_SIZE, &size, sizeof(size), err);
	if (e < 0)
		return error_prefix(err, e, "writing data_size %llu", (unsigned long long)size);
	return check_op_end(r, CHECK_OP_CONSUME, start, e);
}

int check_v1_read_here(struct check_run *r, struct check_blob *b, uint64_t offset, uint64_t size,
		       struct vfmig_error *err)
{
	CHECK_TRY(blob_reserve(b, size, err));
	CHECK_TRY(check_v1_section(r, false, offset, b->data + b->length, size, 0, err));
	blob_added(b, size);
	return 0;
}

int check_v1_take(struct check_run *r, struct check_blob *b, uint64_t *ret_size, struct vfmig_error *err)
{
	uint64_t pending, offset, size = 0;

	CHECK_TRY(check_v1_pending(r, &pending, err));
	if (pending) {
		CHECK_TRY(check_v1_offset(r, &offset, err));
		CHECK_TRY(check_v1_size(r, offset, &size, err));
		CHECK_TRY(check_v1_read_here(r, b, offset, size, err));
	}
	*ret_size = size;
	return 0;
}

int check_v1_put(struct check_run *r, const uint8_t *data, size_t length, size_t piece, struct vfmig_error *err)
{
	uint64_t offset;

	CHECK_TRY(check_v1_offset(r, &offset, err));
	if (!range_inside(offset, length, r->region.size))
		return error_set(err, -EMSGSIZE, "a transaction of %zu bytes does not fit at 0x%llx of a region of "
						 "0x%llx", length, (unsigned long long)offset,
				 (unsigned long long)r->region.size);
	CHECK_TRY(check_v1_section(r, true, offset, (uint8_t *)(uintptr_t)data, length, piece, err));
	return check_v1_consume(r, length, err);
}

static int v1_drain(struct check_run *r, struct check_blob *b, struct vfmig_error *err)
{
	uint64_t size, pending, lowest = UINT64_MAX;
	unsigned int stalled = 0;

	for (;;) {
		CHECK_TRY(check_v1_take(r, b, &size, err));
		if (size == 0)
			return 0;
		CHECK_TRY(check_v1_pending(r, &pending, err));
		stalled = pending < lowest ? 0 : stalled + 1;
		lowest = min_u64(lowest, pending);
		if (stalled == STALLED_MAX)
			return error_set(err, -EPROTO, "pending_bytes has not fallen below %llu in %u transactions "
						       "of a stopped device", (unsigned long long)lowest, stalled);
	}
}

/* --------------------------------------------------------------- whole states */

int check_drain(struct check_run *r, struct check_blob *b, size_t piece, struct vfmig_error *err)
{
	uint64_t start;

	CHECK_TRY(check_op_begin(r, CHECK_OP_DRAIN, &start, err));
	return r->protocol == CHECK_V1 ? v1_drain(r, b, err) : v2_drain(r, b, piece, err);
}

int check_save(struct check_run *r, struct check_blob *b, size_t piece, struct vfmig_error *err)
{
	check_blob_empty(b);
	CHECK_TRY(check_go(r, VFMIG_STATE_STOP_COPY, err));
	return check_drain(r, b, piece, err);
}

/* How much the next piece has: in pieces of 1 byte only at both ends, as a large state would take hours. */
static size_t next_piece(size_t at, size_t length, size_t piece)
{
	if (piece != 1)
		return min_u64(length - at, piece);
	if (at < EDGE_BYTES || length - at <= EDGE_BYTES)
		return 1;
	return min_u64(length - at - EDGE_BYTES, EDGE_MIDDLE);
}

int check_fill(struct check_run *r, const struct check_blob *b, size_t length, size_t piece, struct vfmig_error *err)
{
	for (size_t at = 0, i = 0; at < length; i++) {
		size_t n = r->protocol == CHECK_V1 || !piece ? min_u64(length - at, b->sizes[i])
							     : next_piece(at, length, piece);
		CHECK_TRY(r->protocol == CHECK_V1 ? check_v1_put(r, b->data + at, n, piece, err)
						  : check_write(r, b->data + at, n, err));
		at += n;
	}
	return 0;
}

enum vfmig_state check_loaded_state(const struct check_run *r)
{
	return r->protocol == CHECK_V1 ? VFMIG_STATE_RUNNING : VFMIG_STATE_STOP;
}

int check_load(struct check_run *r, const struct check_blob *b, size_t piece, struct vfmig_error *err)
{
	CHECK_TRY(check_go(r, VFMIG_STATE_RESUMING, err));
	CHECK_TRY(check_fill(r, b, b->length, piece, err));
	return check_go(r, check_loaded_state(r), err);
}
