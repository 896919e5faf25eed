/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pages.h: the software device's state pages, stored only once they differ.
 *
 * A page's initial content follows from the seed and its index, so a page that
 * nobody touched needs no memory: 8 GiB of state are a few MiB until the engine
 * has been everywhere.
 */
#ifndef VFMIG_SIM_PAGES_H
#define VFMIG_SIM_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_PAGE_SIZE 4096u
#define SIM_STATE_MIN 1024u /* and a multiple of it: the last page may be short */
#define SIM_STATE_MAX (UINT64_C(1) << 40)

struct sim_pages {
	uint64_t bytes;
	uint64_t count;
	uint64_t seed;
	uint64_t digest;      /* sum of a mark for each touched page: equal states, equal digests */
	uint64_t dirty_count; /* pages; */
	uint64_t dirty_bytes; /* and their bytes */
	/* private */
	uint8_t *memory;
	uint64_t *touched, *dirty; /* bitmaps */
	uint64_t cursor;           /* where the search for the next dirty page goes on */
};

/* bytes: SIM_STATE_MIN to SIM_STATE_MAX, a multiple of SIM_STATE_MIN. -ENOMEM. */
int sim_pages_init(struct sim_pages *p, uint64_t bytes, uint64_t seed);
void sim_pages_destroy(struct sim_pages *p);
/* Every page as it was in the beginning, for another seed; nothing dirty. */
void sim_pages_reset(struct sim_pages *p, uint64_t seed);

/* Bytes of a page: SIM_PAGE_SIZE but for a short last one. */
size_t sim_pages_length(const struct sim_pages *p, uint64_t index);
bool sim_pages_is_touched(const struct sim_pages *p, uint64_t index);
/* Copies a page out. */
void sim_pages_get(const struct sim_pages *p, uint64_t index, void *buffer);
/* Puts a page in and takes it off the dirty pages. */
void sim_pages_put(struct sim_pages *p, uint64_t index, const void *data);
/* Changes every word of a page, depending on `with`; marks it dirty. Returns the new page's hash. */
uint64_t sim_pages_mix(struct sim_pages *p, uint64_t index, uint64_t with);

void sim_pages_dirty_all(struct sim_pages *p);
bool sim_pages_is_dirty(const struct sim_pages *p, uint64_t index);
/* Takes the next dirty page: its index, or p->count when there is none. */
uint64_t sim_pages_take_dirty(struct sim_pages *p);

/* n words, little-endian, that follow from start. */
void sim_words_fill(uint64_t start, uint64_t *words, size_t n);
/* A well mixed word for each word: what seeds, pages and step order are made of. */
uint64_t sim_mix64(uint64_t x);

#endif
