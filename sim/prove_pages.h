/* SPDX-License-Identifier: BSD-3-Clause */
/* prove_pages.h: proof of a scattered log: each page of it is what the last step that wrote it left there. */
#ifndef VFMIG_SIM_PROVE_PAGES_H
#define VFMIG_SIM_PROVE_PAGES_H

#include "sim/prove.h"

/* What a slot must hold: the page of a step, or, step 0, zeros. */
struct prove_slot {
	uint64_t step, chain;
};

/* A page that is not what it should be. */
struct prove_wrong {
	uint64_t page, iova;
	uint64_t expected, found; /* steps; 0: none */
};

struct prove_pages {
	int fd;
	uint64_t iova;
	struct prove_slot *slots;
	struct prove_slot unanswered; /* the step behind the last one logged */
	uint64_t unanswered_slot;
	uint64_t written; /* slots that a logged step wrote */
	/* prove_pages_check: */
	bool checked;
	uint64_t wrong;
	struct prove_wrong first_wrong;
};

/* prove_log_read of a scattered log. */
int prove_pages_open(const char *path, const struct prove_claim *claim, struct prove_log *ret, struct vfmig_error *err);
void prove_pages_close(struct prove_pages *p); /* NULL is fine */
/* Finds log->first and last, unless they are known; see prove_run. */
int prove_pages_range(struct prove_log *log, const struct prove_claim *claims, size_t count, uint64_t since,
		      struct vfmig_error *err);
/* This step was done again. */
void prove_pages_step(struct prove_log *log, const struct sim_work *w);
/* All were: reads the file, and compares. -EBADMSG: the first page that is wrong. */
int prove_pages_check(struct prove_log *log, struct vfmig_error *err);

#endif
