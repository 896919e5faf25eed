/* SPDX-License-Identifier: BSD-3-Clause */
/* test_bitmap.c: ranges, merges and runs of bits, against a plain array of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bitmap.h"
#include "base/bytes.h"

#define BITS 517u
#define ROUNDS 20000

static uint64_t random_below(uint64_t n)
{
	return (uint64_t)rand() % n;
}

struct pair {
	uint64_t map[BITS / 64 + 1];
	bool plain[BITS];
};

static void assert_same(const struct pair *p)
{
	for (unsigned i = 0; i < BITS; i++)
		assert_int_equal(bitmap_test(p->map, i), p->plain[i]);
	assert_int_equal(p->map[BITS / 64] >> (BITS % 64), 0);
}

static void ranges_are_set_and_cleared(void **state)
{
	struct pair p = { 0 };
	(void)state;
	srand(1);
	for (int n = 0; n < ROUNDS; n++) {
		uint64_t first = random_below(BITS), count = random_below(BITS - first + 1), changed = 0;
		bool set = n % 2;
		for (uint64_t i = first; i < first + count; i++) {
			changed += p.plain[i] != set;
			p.plain[i] = set;
		}
		assert_int_equal(set ? bitmap_set(p.map, first, count) : bitmap_clear(p.map, first, count), changed);
	}
	assert_same(&p);
}

static void merged_at_any_place(void **state)
{
	(void)state;
	srand(2);
	for (int n = 0; n < ROUNDS / 10; n++) {
		struct pair to = { 0 }, from = { 0 };
		for (unsigned i = 0; i < BITS; i++) {
			if (random_below(3) == 0)
				bitmap_set(to.map, i, to.plain[i] = true);
			if (random_below(3) == 0)
				bitmap_set(from.map, i, from.plain[i] = true);
		}
		uint64_t count = random_below(BITS + 1), at = random_below(BITS - count + 1), changed = 0;
		uint64_t source = random_below(BITS - count + 1);
		for (uint64_t i = 0; i < count; i++) {
			changed += from.plain[source + i] && !to.plain[at + i];
			to.plain[at + i] |= from.plain[source + i];
		}
		assert_int_equal(bitmap_merge(to.map, at, from.map, source, count), changed);
		assert_same(&to);
	}
}

static void runs_cover_each_set_bit_once(void **state)
{
	(void)state;
	srand(3);
	for (int n = 0; n < ROUNDS / 10; n++) {
		struct pair p = { 0 }, seen = { 0 };
		for (uint64_t i = 0; i < BITS; i += 1 + random_below(90)) {
			uint64_t count = min_u64(random_below(140), BITS - i);
			bitmap_set(p.map, i, count);
			i += count;
		}
		uint64_t first, count, from = random_below(BITS), end = from + random_below(BITS - from + 1);
		bool any = bitmap_next_run(p.map, from, end, &first, &count);
		assert_int_equal(bitmap_next(p.map, from, end), any ? first : end);
		for (uint64_t at = from; bitmap_next_run(p.map, at, end, &first, &count); at = first + count) {
			assert_true(count > 0 && first >= at && first + count <= end);
			assert_true(at == from || first > at); /* two that touch would be one */
			assert_int_equal(bitmap_set(seen.map, first, count), count);
		}
		for (uint64_t i = 0; i < BITS; i++)
			assert_int_equal(bitmap_test(seen.map, i), i >= from && i < end && bitmap_test(p.map, i));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_are_set_and_cleared),
		cmocka_unit_test(merged_at_any_place),
		cmocka_unit_test(runs_cover_each_set_bit_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
