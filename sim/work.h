/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * work.h: the work that nobody can fake.
 *
 * Step n takes the page that the seed and n point at, mixes the chain value
 * and n into every word of it, and makes the next chain value of the old one,
 * n, and the page. The chain after N steps can only be had by doing all N of them on
 * all of the state: one page altered, one step lost or done twice, and every
 * value that comes after is another.
 */
#ifndef VFMIG_SIM_WORK_H
#define VFMIG_SIM_WORK_H

#include "sim/pages.h"

struct sim_work {
	struct sim_pages pages;
	uint64_t step; /* done so far */
	uint64_t chain;
};

int sim_work_init(struct sim_work *w, uint64_t bytes, uint64_t seed);
void sim_work_destroy(struct sim_work *w);
/* As if nothing had been done yet. */
void sim_work_reset(struct sim_work *w, uint64_t seed);
void sim_work_step(struct sim_work *w);

/* One entry of the log, little-endian: magic, step, chain, check (XXH3 of the others). */
#define SIM_LOG_ENTRY 32u
#define SIM_LOG_MAGIC UINT64_C(0x676f6c6d69736676) /* "vfsimlog" */

void sim_log_put(uint64_t step, uint64_t chain, uint8_t entry[SIM_LOG_ENTRY]);
/* Is it an entry that was written whole? */
bool sim_log_get(const uint8_t entry[SIM_LOG_ENTRY], uint64_t *ret_step, uint64_t *ret_chain);

/*
 * A scattered log: a step writes one whole page, in a slot that a hash of the step picks. It begins with the entry;
 * all words behind that follow from the chain value, so that a page that is half another step's is seen.
 */
#define SIM_SCATTER_PAGE 4096u

uint64_t sim_scatter_slot(uint64_t step, uint64_t slots);
void sim_scatter_put(uint64_t step, uint64_t chain, uint64_t page[SIM_SCATTER_PAGE / 8]);

#endif
