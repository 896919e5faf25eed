/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap.c: ranges and runs of bits, a word at a time. */
#include "base/bitmap.h"

#include "base/bytes.h"

/* Bits [first, first + count) of one word. */
static uint64_t mask(uint64_t first, uint64_t count)
{
	return (count == BITMAP_WORD_BITS ? UINT64_MAX : (UINT64_C(1) << count) - 1) << first;
}

/* How many of `count` bits from `bit` on lie in its word. */
static uint64_t in_word(uint64_t bit, uint64_t count)
{
	return min_u64(count, BITMAP_WORD_BITS - bit % BITMAP_WORD_BITS);
}

static uint64_t ones(uint64_t word)
{
	return (uint64_t)__builtin_popcountll(word);
}

uint64_t bitmap_set(uint64_t *map, uint64_t first, uint64_t count)
{
	uint64_t changed = 0;
	while (count > 0) {
		uint64_t n = in_word(first, count), *word = &map[first / BITMAP_WORD_BITS];
		uint64_t bits = mask(first % BITMAP_WORD_BITS, n);
		changed += ones(bits & ~*word);
		*word |= bits;
		first += n;
		count -= n;
	}
	return changed;
}

uint64_t bitmap_clear(uint64_t *map, uint64_t first, uint64_t count)
{
	uint64_t changed = 0;
	while (count > 0) {
		uint64_t n = in_word(first, count), *word = &map[first / BITMAP_WORD_BITS];
		uint64_t bits = mask(first % BITMAP_WORD_BITS, n);
		changed += ones(bits & *word);
		*word &= ~bits;
		first += n;
		count -= n;
	}
	return changed;
}

/* n bits (1 to 64) from `bit` on, which may lie in two words. */
static uint64_t get(const uint64_t *map, uint64_t bit, uint64_t n)
{
	uint64_t shift = bit % BITMAP_WORD_BITS, here = BITMAP_WORD_BITS - shift;
	uint64_t bits = map[bit / BITMAP_WORD_BITS] >> shift;
	if (n > here)
		bits |= map[bit / BITMAP_WORD_BITS + 1] << here;
	return bits & mask(0, n);
}

uint64_t bitmap_merge(uint64_t *to, uint64_t to_bit, const uint64_t *from, uint64_t from_bit, uint64_t count)
{
	uint64_t changed = 0;
	while (count > 0) {
		uint64_t n = in_word(to_bit, count), *word = &to[to_bit / BITMAP_WORD_BITS];
		uint64_t bits = get(from, from_bit, n) << (to_bit % BITMAP_WORD_BITS);
		changed += ones(bits & ~*word);
		*word |= bits;
		to_bit += n;
		from_bit += n;
		count -= n;
	}
	return changed;
}

/* The first bit in [from, end) that is `set`; end: none. */
static uint64_t find(const uint64_t *map, uint64_t from, uint64_t end, bool set)
{
	while (from < end) {
		uint64_t word = map[from / BITMAP_WORD_BITS];
		uint64_t left = (set ? word : ~word) >> (from % BITMAP_WORD_BITS);
		if (left)
			return min_u64(from + (uint64_t)__builtin_ctzll(left), end);
		from += BITMAP_WORD_BITS - from % BITMAP_WORD_BITS;
	}
	return end;
}

uint64_t bitmap_next(const uint64_t *map, uint64_t from, uint64_t end)
{
	return find(map, from, end, true);
}

bool bitmap_next_run(const uint64_t *map, uint64_t from, uint64_t end, uint64_t *ret_first, uint64_t *ret_count)
{
	uint64_t first = find(map, from, end, true);
	if (first >= end)
		return false;
	*ret_first = first;
	*ret_count = find(map, first, end, false) - first;
	return true;
}
