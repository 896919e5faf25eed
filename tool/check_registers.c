/* SPDX-License-Identifier: BSD-3-Clause */
/* check_registers.c: checks of the v1 migration region: its registers and its data section. */
#include <string.h>

#include "base/bytes.h"
#include "check.h"

#define REG_END 32u
#define WORDS_BYTES 64u /* so many are also read in words */

int check_region(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint32_t wanted = ACCESS_REGION_READ | ACCESS_REGION_WRITE;

	(void)c;
	if ((r->region.flags & wanted) != wanted)
		return error_set(err, -EPROTO, "the region's flags are 0x%x, expected READ and WRITE (0x%x)",
				 r->region.flags, wanted);
	if (r->region.size <= REG_END)
		return error_set(err, -EPROTO, "the region has 0x%llx bytes: no data section behind 0x%x of registers",
				 (unsigned long long)r->region.size, REG_END);
	return 0;
}

/* Bits 3 to 31 are written back as they were read, and read so again. */
int check_reserved(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint32_t before;

	(void)c;
	CHECK_TRY(check_state_is(r, VFMIG_STATE_RUNNING, err));
	before = r->reserved;
	CHECK_TRY(check_go(r, VFMIG_STATE_STOP, err));
	CHECK_TRY(check_state_is(r, VFMIG_STATE_STOP, err));
	return r->reserved == before ? 0 : error_set(err, -EPROTO, "the reserved bits were 0x%x, are 0x%x", before,
						     r->reserved);
}

static int same_twice(const char *name, uint64_t first, uint64_t again, struct vfmig_error *err)
{
	return first == again ? 0 : error_set(err, -EPROTO, "%s is 0x%llx, and read again 0x%llx", name,
					      (unsigned long long)first, (unsigned long long)again);
}

/* In stop-and-copy, before anything of the transaction was read. */
static int some_pending(struct check_run *r, struct vfmig_error *err)
{
	uint64_t first, again;

	CHECK_TRY(check_go(r, VFMIG_STATE_STOP_COPY, err));
	CHECK_TRY(check_v1_pending(r, &first, err));
	CHECK_TRY(check_v1_pending(r, &again, err));
	return first ? same_twice("pending_bytes", first, again, err)
		     : error_set(err, -EPROTO, "pending_bytes is 0 at the beginning of stop-and-copy: no state");
}

int check_pending(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return some_pending(r, err);
}

int check_offset(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint64_t first, again;

	(void)c;
	CHECK_TRY(some_pending(r, err));
	CHECK_TRY(check_v1_offset(r, &first, err));
	CHECK_TRY(check_v1_offset(r, &again, err));
	return same_twice("data_offset", first, again, err);
}

int check_size(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint64_t offset, first, again;

	(void)c;
	CHECK_TRY(some_pending(r, err));
	CHECK_TRY(check_v1_offset(r, &offset, err));
	CHECK_TRY(check_v1_size(r, offset, &first, err));
	CHECK_TRY(check_v1_size(r, offset, &again, err));
	return same_twice("data_size", first, again, err);
}

static int compare(const uint8_t *whole, const uint8_t *other, size_t length, const char *how, struct vfmig_error *err)
{
	for (size_t i = 0; i < length; i++)
		if (whole[i] != other[i])
			return error_set(err, -EPROTO, "byte %zu of a transaction is 0x%02x, and %s 0x%02x", i,
					 whole[i], how, other[i]);
	return 0;
}

/* Until it is acknowledged a transaction stays, and does not depend on how it is read. */
int check_section_read(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint64_t offset, size;
	uint8_t words[WORDS_BYTES];

	(void)c;
	CHECK_TRY(some_pending(r, err));
	CHECK_TRY(check_v1_offset(r, &offset, err));
	CHECK_TRY(check_v1_size(r, offset, &size, err));
	check_blob_empty(&r->one);
	CHECK_TRY(check_v1_read_here(r, &r->one, offset, size, err));
	size_t piece = (size_t)(size / 3 & ~UINT64_C(7)) + 8, length = min_u64(size, sizeof(words));
	CHECK_TRY(check_blob_copy(&r->two, &r->one, err));
	CHECK_TRY(check_v1_section(r, false, offset, r->two.data, size, piece, err));
	CHECK_TRY(compare(r->one.data, r->two.data, size, "in three reads", err));
	CHECK_TRY(check_v1_section(r, false, offset, words, length, 8, err));
	return compare(r->one.data, words, length, "in words", err);
}

/* What lies in an area of the section that can be mapped is the same there. */
static int compare_area(struct check_run *r, const struct access_area *area, uint64_t offset, struct vfmig_error *err)
{
	uint64_t from = max_u64(offset, area->offset);
	uint64_t end = min_u64(offset + r->one.length, area->offset + area->size);
	void *address;

	if (from >= end)
		return 0;
	int e = access_region_map(r->access, r->region.index, area, &address, err);
	if (e < 0)
		return error_prefix(err, e, "mapping 0x%llx bytes at 0x%llx", (unsigned long long)area->size,
				    (unsigned long long)area->offset);
	e = compare(r->one.data + (from - offset), (uint8_t *)address + (from - area->offset), end - from,
		    "in the mapping", err);
	access_region_unmap(r->access, address, area);
	return e;
}

int check_mapped(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint64_t pending, offset, size;

	(void)c;
	if (!r->region.num_areas)
		return check_skip(err, "nothing of the region can be mapped");
	CHECK_TRY(check_go(r, VFMIG_STATE_STOP_COPY, err));
	CHECK_TRY(check_v1_pending(r, &pending, err));
	CHECK_TRY(check_v1_offset(r, &offset, err));
	check_blob_empty(&r->one);
	CHECK_TRY(check_v1_size(r, offset, &size, err));
	CHECK_TRY(check_v1_read_here(r, &r->one, offset, size, err));
	for (size_t i = 0; i < r->region.num_areas; i++)
		CHECK_TRY(compare_area(r, &r->region.areas[i], offset, err));
	return 0;
}
