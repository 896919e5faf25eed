/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_dirty.c: bits for pages. What is refused, and how, is as in Linux' vfio_main.c. */
#include "sim/sim_dirty.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/bytes.h"

#define WORD_BITS 64u
#define BYTES_MAX (UINT64_C(1) << 46) /* of all ranges: 2 GiB of address space for bits, memory only where used */

static uint64_t pages_of(const struct sim_dirty_range *r)
{
	return r->length / SIM_DIRTY_PAGE;
}

static size_t bits_size(const struct sim_dirty_range *r)
{
	return (size_t)((pages_of(r) + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t));
}

static int range_check(const struct sim_dirty_range *r, uint64_t page_size, struct vfmig_error *err)
{
	uint64_t mask = page_size - 1;

	if (!r->length || (r->iova | r->length) & mask)
		return error_set(err, -EINVAL, "range of 0x%llx bytes at 0x%llx is not of whole pages of 0x%llx",
				 (unsigned long long)r->length, (unsigned long long)r->iova,
				 (unsigned long long)page_size);
	if (r->iova > UINT64_MAX - r->length)
		return error_set(err, -EOVERFLOW, "range of 0x%llx bytes at 0x%llx ends behind 2^64",
				 (unsigned long long)r->length, (unsigned long long)r->iova);
	return 0;
}

static int overlap_check(const struct sim_dirty *dirty, const struct sim_dirty_range *r, struct vfmig_error *err)
{
	uint64_t sum = r->length;

	for (size_t i = 0; i < dirty->count; i++) {
		const struct sim_dirty_range *other = &dirty->ranges[i];
		if (r->iova < other->iova + other->length && other->iova < r->iova + r->length)
			return error_set(err, -EINVAL, "ranges at 0x%llx and 0x%llx overlap",
					 (unsigned long long)other->iova, (unsigned long long)r->iova);
		sum = sum > BYTES_MAX ? sum : sum + other->length;
	}
	return sum > BYTES_MAX ? error_set(err, -ENOMEM, "ranges of more than 0x%llx bytes",
					   (unsigned long long)BYTES_MAX) : 0;
}

static int range_add(struct sim_dirty *dirty, struct sim_dirty_range r, uint64_t page_size, struct vfmig_error *err)
{
	int e = range_check(&r, page_size, err);

	if (e == 0)
		e = overlap_check(dirty, &r, err);
	if (e < 0)
		return e;
	void *bits = mmap(NULL, bits_size(&r), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);
	if (bits == MAP_FAILED)
		return error_errno(err, -ENOMEM, "DMA log");
	struct sim_dirty_range *ranges = reallocarray(dirty->ranges, dirty->count + 1, sizeof(*ranges));
	if (!ranges) {
		munmap(bits, bits_size(&r));
		return error_errno(err, -ENOMEM, "DMA log");
	}
	r.bits = bits;
	dirty->ranges = ranges;
	dirty->ranges[dirty->count++] = r;
	return 0;
}

static int page_size_check(uint64_t page_size, struct vfmig_error *err)
{
	if (page_size < SIM_DIRTY_PAGE || page_size & (page_size - 1))
		return error_set(err, -EINVAL, "page size 0x%llx, expected a power of two from %u",
				 (unsigned long long)page_size, SIM_DIRTY_PAGE);
	return 0;
}

int sim_dirty_start(struct sim_dirty *dirty, const struct access_range *ranges, size_t count, uint64_t page_size,
		    struct vfmig_error *err)
{
	int r = page_size_check(page_size, err);

	if (r < 0)
		return r;
	if (dirty->on)
		return error_set(err, -EINVAL, "it is logging already");
	dirty->on = true;
	for (size_t i = 0; i < count && r == 0; i++)
		r = range_add(dirty, (struct sim_dirty_range){ ranges[i].iova, ranges[i].length, NULL }, page_size,
			      err);
	if (r < 0)
		sim_dirty_stop(dirty);
	return r;
}

int sim_dirty_add(struct sim_dirty *dirty, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	return range_add(dirty, (struct sim_dirty_range){ iova, length, NULL }, SIM_DIRTY_PAGE, err);
}

void sim_dirty_remove(struct sim_dirty *dirty, uint64_t iova, uint64_t length)
{
	for (size_t i = 0; i < dirty->count; i++) {
		struct sim_dirty_range *r = &dirty->ranges[i];
		if (r->iova != iova || r->length != length)
			continue;
		munmap(r->bits, bits_size(r));
		*r = dirty->ranges[--dirty->count];
		return;
	}
}

void sim_dirty_stop(struct sim_dirty *dirty)
{
	for (size_t i = 0; i < dirty->count; i++)
		munmap(dirty->ranges[i].bits, bits_size(&dirty->ranges[i]));
	free(dirty->ranges);
	*dirty = (struct sim_dirty){ 0 };
}

/* The part of [iova, iova + length) in the range, as pages [*ret_first, *ret_end). */
static bool part_of(const struct sim_dirty_range *r, uint64_t iova, uint64_t length, uint64_t *ret_first,
		    uint64_t *ret_end)
{
	uint64_t end = min_u64(iova + length, r->iova + r->length);

	if (iova < r->iova)
		iova = r->iova;
	if (iova >= end)
		return false;
	*ret_first = (iova - r->iova) / SIM_DIRTY_PAGE;
	*ret_end = (end - r->iova + SIM_DIRTY_PAGE - 1) / SIM_DIRTY_PAGE;
	return true;
}

void sim_dirty_mark(struct sim_dirty *dirty, uint64_t iova, uint64_t length)
{
	uint64_t first, end;

	for (size_t i = 0; i < dirty->count; i++)
		if (part_of(&dirty->ranges[i], iova, length, &first, &end))
			for (; first < end; first++)
				dirty->ranges[i].bits[first / WORD_BITS] |= UINT64_C(1) << (first % WORD_BITS);
}

/* What a report asks for. */
struct query {
	uint64_t iova, page_size;
	uint8_t *bitmap;
	bool lose; /* the next one, for a fault */
};

/* Sets the bits of what was written in pages [page, end) of the range, and forgets it. */
static void take_bits(struct sim_dirty_range *r, uint64_t page, uint64_t end, struct query *q)
{
	while (page < end) {
		uint64_t *word = &r->bits[page / WORD_BITS], bit = UINT64_C(1) << (page % WORD_BITS);
		if (!*word) {
			page = (page / WORD_BITS + 1) * WORD_BITS;
			continue;
		}
		uint64_t iova = r->iova + page++ * SIM_DIRTY_PAGE;
		if (!(*word & bit))
			continue;
		uint64_t at = (iova - min_u64(iova, q->iova)) / q->page_size;
		*word &= ~bit;
		if (q->bitmap && !q->lose)
			q->bitmap[at / 8] |= (uint8_t)(1u << (at % 8)); /* of u64, little-endian as all we run on */
		q->lose = false;
	}
}

int sim_dirty_check(const struct sim_dirty *dirty, uint64_t iova, uint64_t length, uint64_t page_size,
		    struct vfmig_error *err)
{
	int r = page_size_check(page_size, err);

	if (r < 0)
		return r;
	if (iova > UINT64_MAX - length)
		return error_set(err, -EOVERFLOW, "range of 0x%llx bytes at 0x%llx ends behind 2^64",
				 (unsigned long long)length, (unsigned long long)iova);
	return dirty->ranges ? 0 : error_set(err, -EINVAL, "it is not logging");
}

bool sim_dirty_take(struct sim_dirty *dirty, uint64_t iova, uint64_t length, uint64_t page_size, void *bitmap,
		    bool lose)
{
	struct query q = { iova, page_size, bitmap, lose };
	uint64_t first, end;

	for (size_t i = 0; i < dirty->count; i++)
		if (part_of(&dirty->ranges[i], iova, length, &first, &end))
			take_bits(&dirty->ranges[i], first, end, &q);
	return lose && !q.lose;
}
