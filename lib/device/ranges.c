/* SPDX-License-Identifier: BSD-3-Clause */
/* ranges.c: makes a list of ranges shorter by joining those that lie closest together. */
#include "device/ranges.h"

#include <stdlib.h>

#include "base/bytes.h"

static bool widen(struct access_range *range, uint64_t page_size)
{
	uint64_t mask = page_size - 1, last = range->iova + range->length - 1;
	if (range->length == 0 || last < range->iova || (last | mask) == UINT64_MAX)
		return false;
	range->iova &= ~mask;
	range->length = (last | mask) + 1 - range->iova;
	return true;
}

static uint64_t range_end(const struct access_range *range)
{
	return range->iova + range->length;
}

/* Joins neighbours with up to `gap` bytes between them, `at_gap` of those with exactly as many. */
static size_t join(struct access_range *ranges, size_t count, uint64_t gap, size_t at_gap)
{
	size_t n = 0;
	for (size_t i = 0; i < count; i++) {
		uint64_t end = n ? range_end(&ranges[n - 1]) : 0;
		uint64_t between = ranges[i].iova > end ? ranges[i].iova - end : 0;
		if (n && (between < gap || (between == gap && at_gap > 0))) {
			at_gap -= between == gap;
			ranges[n - 1].length = max_u64(end, range_end(&ranges[i])) - ranges[n - 1].iova;
		} else {
			ranges[n++] = ranges[i];
		}
	}
	return n;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static int join_closest(struct access_range *ranges, size_t *count, size_t most)
{
	size_t excess = *count - most, smaller = 0;
	uint64_t *gaps = reallocarray(NULL, *count - 1, sizeof(*gaps));
	if (!gaps)
		return -ENOMEM;
	for (size_t i = 1; i < *count; i++)
		gaps[i - 1] = ranges[i].iova - range_end(&ranges[i - 1]);
	qsort(gaps, *count - 1, sizeof(*gaps), compare);
	uint64_t largest = gaps[excess - 1];
	while (gaps[smaller] < largest)
		smaller++;
	free(gaps);
	*count = join(ranges, *count, largest, excess - smaller);
	return 0;
}

int ranges_merge(struct access_range *ranges, size_t *count, uint64_t page_size, size_t most)
{
	for (size_t i = 0; i < *count; i++) {
		struct access_range checked = ranges[i];
		if (!widen(&checked, page_size) || (i && ranges[i].iova < range_end(&ranges[i - 1])))
			return -EINVAL;
	}
	for (size_t i = 0; i < *count; i++)
		widen(&ranges[i], page_size);
	*count = join(ranges, *count, 0, SIZE_MAX);
	return *count > most ? join_closest(ranges, count, most) : 0;
}
