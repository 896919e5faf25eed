/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_dirty.c: the device's DMA log. What is refused, and how, is as in Linux' vfio_main.c. */
#include "sim/sim_dirty.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "uapi/vfio_compat.h"

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
	r.bits = bits;
	dirty->ranges[dirty->count++] = r;
	return 0;
}

static int control_check(const struct sim_dirty *dirty, const struct vfio_device_feature_dma_logging_control *c,
			 struct vfmig_error *err)
{
	if (c->num_ranges == 0)
		return error_set(err, -EINVAL, "no range to log");
	if (c->num_ranges > SIM_DIRTY_RANGES_MAX)
		return error_set(err, -E2BIG, "%u ranges, at most %u", c->num_ranges, SIM_DIRTY_RANGES_MAX);
	if (c->page_size == 0 || c->page_size & (c->page_size - 1) || c->page_size < SIM_DIRTY_PAGE)
		return error_set(err, -EINVAL, "page size 0x%llx, expected a power of two from %u",
				 (unsigned long long)c->page_size, SIM_DIRTY_PAGE);
	return dirty->ranges ? error_set(err, -EINVAL, "it is logging already") : 0;
}

int sim_dirty_start(struct sim_dirty *dirty, void *control, size_t length, struct vfmig_error *err)
{
	struct vfio_device_feature_dma_logging_control c;

	if (length < sizeof(c))
		return error_set(err, -EINVAL, "%zu bytes, expected %zu", length, sizeof(c));
	memcpy(&c, control, sizeof(c));
	int r = control_check(dirty, &c, err);
	if (r < 0)
		return r;
	const uint8_t *from = (const void *)(uintptr_t)c.ranges;
	dirty->ranges = calloc(c.num_ranges, sizeof(*dirty->ranges));
	if (!dirty->ranges)
		return error_errno(err, -ENOMEM, "DMA log");
	for (uint32_t i = 0; i < c.num_ranges && r == 0; i++) {
		struct vfio_device_feature_dma_logging_range range;
		memcpy(&range, from + i * sizeof(range), sizeof(range));
		r = range_add(dirty, (struct sim_dirty_range){ range.iova, range.length, NULL }, c.page_size, err);
	}
	if (r < 0) {
		sim_dirty_stop(dirty);
		return r;
	}
	c.page_size = SIM_DIRTY_PAGE;
	memcpy(control, &c, sizeof(c));
	return 0;
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

/* Sets the bits of what was written in pages [page, end) of the range, and forgets it. */
static void take_bits(struct sim_dirty_range *r, uint64_t page, uint64_t end,
		      const struct vfio_device_feature_dma_logging_report *report)
{
	uint8_t *bitmap = (void *)(uintptr_t)report->bitmap;

	while (page < end) {
		uint64_t *word = &r->bits[page / WORD_BITS], bit = UINT64_C(1) << (page % WORD_BITS);
		if (!*word) {
			page = (page / WORD_BITS + 1) * WORD_BITS;
			continue;
		}
		uint64_t iova = r->iova + page++ * SIM_DIRTY_PAGE;
		if (!(*word & bit))
			continue;
		uint64_t at = (iova - min_u64(iova, report->iova)) / report->page_size;
		*word &= ~bit;
		bitmap[at / 8] |= (uint8_t)(1u << (at % 8)); /* a bitmap of u64, little-endian as all we run on */
	}
}

int sim_dirty_report(struct sim_dirty *dirty, const void *data, size_t length, struct vfmig_error *err)
{
	struct vfio_device_feature_dma_logging_report report;
	uint64_t first, end;

	if (length < sizeof(report))
		return error_set(err, -EINVAL, "%zu bytes, expected %zu", length, sizeof(report));
	memcpy(&report, data, sizeof(report));
	if (report.page_size < SIM_DIRTY_PAGE || report.page_size & (report.page_size - 1))
		return error_set(err, -EINVAL, "page size 0x%llx, expected a power of two from %u",
				 (unsigned long long)report.page_size, SIM_DIRTY_PAGE);
	if (report.iova > UINT64_MAX - report.length)
		return error_set(err, -EOVERFLOW, "range of 0x%llx bytes at 0x%llx ends behind 2^64",
				 (unsigned long long)report.length, (unsigned long long)report.iova);
	if (!dirty->ranges)
		return error_set(err, -EINVAL, "it is not logging");
	for (size_t i = 0; i < dirty->count; i++)
		if (part_of(&dirty->ranges[i], report.iova, report.length, &first, &end))
			take_bits(&dirty->ranges[i], first, end, &report);
	return 0;
}
