/* SPDX-License-Identifier: BSD-3-Clause */
/* pages.c: lazily generated state pages with a dirty bitmap. */
#include "sim/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "base/bytes.h"

#define WORD_BITS 64u
#define WORD_STEP UINT64_C(0x9e3779b97f4a7c15) /* 2^64 divided by the golden ratio: all words differ */

static bool bit_test(const uint64_t *map, uint64_t i)
{
	return map[i / WORD_BITS] >> (i % WORD_BITS) & 1;
}

static void bit_set(uint64_t *map, uint64_t i)
{
	map[i / WORD_BITS] |= UINT64_C(1) << (i % WORD_BITS);
}

static void bit_clear(uint64_t *map, uint64_t i)
{
	map[i / WORD_BITS] &= ~(UINT64_C(1) << (i % WORD_BITS));
}

static size_t bitmap_words(const struct sim_pages *p)
{
	return (size_t)((p->count + WORD_BITS - 1) / WORD_BITS);
}

uint64_t sim_mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

void sim_words_fill(uint64_t start, uint64_t *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		words[i] = htole64(sim_mix64(start + i * WORD_STEP));
}

int sim_pages_init(struct sim_pages *p, uint64_t bytes, uint64_t seed)
{
	memset(p, 0, sizeof(*p));
	p->bytes = bytes;
	p->count = (bytes + SIM_PAGE_SIZE - 1) / SIM_PAGE_SIZE;
	p->seed = seed;
	p->touched = calloc(bitmap_words(p), sizeof(uint64_t));
	p->dirty = calloc(bitmap_words(p), sizeof(uint64_t));
	void *memory = mmap(NULL, p->count * SIM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	p->memory = memory == MAP_FAILED ? NULL : memory;
	if (!p->touched || !p->dirty || !p->memory) {
		sim_pages_destroy(p);
		return -ENOMEM;
	}
	/* A huge page for each touched page would be 512 times the memory. */
	madvise(p->memory, p->count * SIM_PAGE_SIZE, MADV_NOHUGEPAGE);
	return 0;
}

void sim_pages_destroy(struct sim_pages *p)
{
	if (p->memory)
		munmap(p->memory, p->count * SIM_PAGE_SIZE);
	free(p->touched);
	free(p->dirty);
	memset(p, 0, sizeof(*p));
}

void sim_pages_reset(struct sim_pages *p, uint64_t seed)
{
	p->seed = seed;
	p->digest = 0;
	p->dirty_count = p->dirty_bytes = 0;
	p->cursor = 0;
	memset(p->touched, 0, bitmap_words(p) * sizeof(uint64_t));
	memset(p->dirty, 0, bitmap_words(p) * sizeof(uint64_t));
	madvise(p->memory, p->count * SIM_PAGE_SIZE, MADV_DONTNEED);
}

size_t sim_pages_length(const struct sim_pages *p, uint64_t index)
{
	return (size_t)min_u64(SIM_PAGE_SIZE, p->bytes - index * SIM_PAGE_SIZE);
}

bool sim_pages_is_touched(const struct sim_pages *p, uint64_t index)
{
	return bit_test(p->touched, index);
}

static uint64_t *page_at(const struct sim_pages *p, uint64_t index)
{
	return (uint64_t *)(void *)(p->memory + index * SIM_PAGE_SIZE);
}

static void generate(const struct sim_pages *p, uint64_t index, uint64_t *words)
{
	sim_words_fill(sim_mix64(p->seed ^ sim_mix64(index + 1)), words, sim_pages_length(p, index) / sizeof(*words));
}

static uint64_t page_hash(const struct sim_pages *p, uint64_t index)
{
	return XXH3_64bits(page_at(p, index), sim_pages_length(p, index));
}

/* What a touched page adds to the digest: its content at its place. */
static uint64_t page_mark(uint64_t index, uint64_t hash)
{
	return sim_mix64(hash + (index + 1) * WORD_STEP);
}

static void mark_dirty(struct sim_pages *p, uint64_t index)
{
	if (bit_test(p->dirty, index))
		return;
	bit_set(p->dirty, index);
	p->dirty_count++;
	p->dirty_bytes += sim_pages_length(p, index);
}

static void clear_dirty(struct sim_pages *p, uint64_t index)
{
	if (!bit_test(p->dirty, index))
		return;
	bit_clear(p->dirty, index);
	p->dirty_count--;
	p->dirty_bytes -= sim_pages_length(p, index);
}

void sim_pages_get(const struct sim_pages *p, uint64_t index, void *buffer)
{
	if (bit_test(p->touched, index)) {
		memcpy(buffer, page_at(p, index), sim_pages_length(p, index));
		return;
	}
	uint64_t words[SIM_PAGE_SIZE / sizeof(uint64_t)];
	generate(p, index, words);
	memcpy(buffer, words, sim_pages_length(p, index));
}

void sim_pages_put(struct sim_pages *p, uint64_t index, const void *data)
{
	size_t length = sim_pages_length(p, index);
	uint64_t initial[SIM_PAGE_SIZE / sizeof(uint64_t)];

	if (bit_test(p->touched, index))
		p->digest -= page_mark(index, page_hash(p, index));
	clear_dirty(p, index);
	generate(p, index, initial);
	if (!memcmp(initial, data, length)) {
		bit_clear(p->touched, index);
		return;
	}
	bit_set(p->touched, index);
	memcpy(page_at(p, index), data, length);
	p->digest += page_mark(index, page_hash(p, index));
}

uint64_t sim_pages_mix(struct sim_pages *p, uint64_t index, uint64_t with)
{
	uint64_t *words = page_at(p, index);
	size_t n = sim_pages_length(p, index) / sizeof(*words);

	if (bit_test(p->touched, index)) {
		p->digest -= page_mark(index, page_hash(p, index));
	} else {
		generate(p, index, words);
		bit_set(p->touched, index);
	}
	for (size_t i = 0; i < n; i++) {
		uint64_t word = le64toh(words[i]) ^ (with + i);
		words[i] = htole64(word << 1 | word >> 63);
	}
	mark_dirty(p, index);
	uint64_t hash = page_hash(p, index);
	p->digest += page_mark(index, hash);
	return hash;
}

void sim_pages_dirty_all(struct sim_pages *p)
{
	for (uint64_t i = 0; i < p->count; i++)
		bit_set(p->dirty, i);
	p->dirty_count = p->count;
	p->dirty_bytes = p->bytes;
	p->cursor = 0;
}

bool sim_pages_is_dirty(const struct sim_pages *p, uint64_t index)
{
	return bit_test(p->dirty, index);
}

uint64_t sim_pages_take_dirty(struct sim_pages *p)
{
	if (!p->dirty_count)
		return p->count;
	size_t words = bitmap_words(p);
	/* Going round, so that a page that is dirtied again waits for its turn. */
	size_t w = (size_t)(p->cursor / WORD_BITS);
	uint64_t left = p->dirty[w] & (UINT64_MAX << (p->cursor % WORD_BITS));
	while (!left) {
		w = (w + 1) % words;
		left = p->dirty[w];
	}
	uint64_t index = (uint64_t)w * WORD_BITS + (uint64_t)__builtin_ctzll(left);
	p->cursor = (index + 1) % p->count;
	clear_dirty(p, index);
	return index;
}
