/* SPDX-License-Identifier: BSD-3-Clause */
/* work.c: one step of the hash chain over the state pages, and its log entry. */
#include "sim/work.h"

#include <xxhash.h>

#include "base/bytes.h"

static uint64_t chain_start(uint64_t seed)
{
	return sim_mix64(~seed);
}

int sim_work_init(struct sim_work *w, uint64_t bytes, uint64_t seed)
{
	w->step = 0;
	w->chain = chain_start(seed);
	return sim_pages_init(&w->pages, bytes, seed);
}

void sim_work_destroy(struct sim_work *w)
{
	sim_pages_destroy(&w->pages);
}

void sim_work_reset(struct sim_work *w, uint64_t seed)
{
	w->step = 0;
	w->chain = chain_start(seed);
	sim_pages_reset(&w->pages, seed);
}

void sim_work_step(struct sim_work *w)
{
	uint64_t n = w->step + 1;
	uint64_t index = sim_mix64(w->pages.seed ^ sim_mix64(n)) % w->pages.count;
	uint64_t hash = sim_pages_mix(&w->pages, index, w->chain ^ sim_mix64(n));
	uint8_t input[32];

	put_le64(input, w->chain);
	put_le64(input + 8, n);
	put_le64(input + 16, index);
	put_le64(input + 24, hash);
	w->chain = XXH3_64bits(input, sizeof(input));
	w->step = n;
}

void sim_log_put(uint64_t step, uint64_t chain, uint8_t entry[SIM_LOG_ENTRY])
{
	put_le64(entry, SIM_LOG_MAGIC);
	put_le64(entry + 8, step);
	put_le64(entry + 16, chain);
	put_le64(entry + 24, XXH3_64bits(entry, 24));
}

bool sim_log_get(const uint8_t entry[SIM_LOG_ENTRY], uint64_t *ret_step, uint64_t *ret_chain)
{
	if (get_le64(entry) != SIM_LOG_MAGIC || get_le64(entry + 24) != XXH3_64bits(entry, 24))
		return false;
	*ret_step = get_le64(entry + 8);
	*ret_chain = get_le64(entry + 16);
	return true;
}

uint64_t sim_scatter_slot(uint64_t step, uint64_t slots)
{
	return sim_mix64(~sim_mix64(step)) % slots;
}

void sim_scatter_put(uint64_t step, uint64_t chain, uint64_t page[SIM_SCATTER_PAGE / 8])
{
	sim_log_put(step, chain, (uint8_t *)page);
	sim_words_fill(sim_mix64(chain), page + SIM_LOG_ENTRY / 8, (SIM_SCATTER_PAGE - SIM_LOG_ENTRY) / 8);
}
