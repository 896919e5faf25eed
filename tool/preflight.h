/* SPDX-License-Identifier: BSD-3-Clause */
/* preflight.h: would one device's state load into another: what speaks for and against it, from two probes. */
#ifndef VFMIG_TOOL_PREFLIGHT_H
#define VFMIG_TOOL_PREFLIGHT_H

#include "probe.h"

enum preflight_answer {
	PREFLIGHT_YES,
	PREFLIGHT_NOTE,	   /* nothing against it, but worth knowing */
	PREFLIGHT_PERHAPS, /* only a load shows it */
	PREFLIGHT_NO,
};

struct preflight_check {
	const char *name;
	enum preflight_answer answer;
	char text[600];
	const char *remedy; /* NULL: none is needed */
	bool of_load;	    /* the answer is part of whether the state loads */
};

#define PREFLIGHT_MAX 16

struct preflight {
	struct preflight_check checks[PREFLIGHT_MAX];
	size_t count;
};

struct preflight_options {
	bool together;		    /* it moves with other devices */
	uint64_t bandwidth;	    /* 0: not given */
	uint64_t downtime_limit_ns; /* of a save */
	bool has_state_bytes;	    /* as somebody knows them */
	uint64_t state_bytes;
};

void preflight_check(const struct probe *source, const struct probe *destination, const struct preflight_options *opts,
		     struct preflight *ret);
/* The worst answer; of_load: of those alone that are about the load. */
enum preflight_answer preflight_answer(const struct preflight *p, bool of_load);
const char *preflight_answer_name(enum preflight_answer answer);

#endif
