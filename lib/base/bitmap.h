/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap.h: bits in words of 64, as the kernel's dirty bitmaps have them: bit n is n % 64 of word n / 64. */
#ifndef VFMIG_BASE_BITMAP_H
#define VFMIG_BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITMAP_WORD_BITS 64u

static inline uint64_t bitmap_words(uint64_t bits)
{
	return bits / BITMAP_WORD_BITS + (bits % BITMAP_WORD_BITS != 0);
}

static inline bool bitmap_test(const uint64_t *map, uint64_t bit)
{
	return map[bit / BITMAP_WORD_BITS] >> (bit % BITMAP_WORD_BITS) & 1;
}

/* Sets bits [first, first + count) and says how many of them were not set. */
uint64_t bitmap_set(uint64_t *map, uint64_t first, uint64_t count);
/* The reverse: how many of them were set. */
uint64_t bitmap_clear(uint64_t *map, uint64_t first, uint64_t count);
/* Sets those of [to_bit, to_bit + count) in `to` that are set in [from_bit, from_bit + count) of `from`, a word at a
 * time; how many of them were not set. */
uint64_t bitmap_merge(uint64_t *to, uint64_t to_bit, const uint64_t *from, uint64_t from_bit, uint64_t count);
/* The first set bit in [from, end); end when there is none. */
uint64_t bitmap_next(const uint64_t *map, uint64_t from, uint64_t end);
/* The first run of set bits in [from, end): false when there is none. */
bool bitmap_next_run(const uint64_t *map, uint64_t from, uint64_t end, uint64_t *ret_first, uint64_t *ret_count);

#endif
