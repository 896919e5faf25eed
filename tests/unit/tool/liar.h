/* SPDX-License-Identifier: BSD-3-Clause */
/* liar.h: the software device behind an access that breaks one rule. */
#ifndef VFMIG_TESTS_LIAR_H
#define VFMIG_TESTS_LIAR_H

#include "device/access.h"

#define LEAKED_MAX 4096u

/* a and b are those of struct liar. */
enum lie {
	NO_LIE,
	FLAGS_UNKNOWN,
	PROBE_REFUSED,
	UNKNOWN_ANSWERED,
	SET_FLAGS_TAKEN,
	SIZE_TOO_SMALL,
	ARC_FAILS, /* from a to b */
	ARC_DOES_NOTHING, /* from a to b, and says it has */
	SAME_REFUSED, /* in a */
	SAME_BEGINS_ANEW,
	WAYS_REFUSED, /* from a, but for arcs */
	ANY_REQUEST, /* in a */
	MOVED_BY_REFUSAL, /* in a */
	RESET_DOES_NOTHING, /* in a */
	RESET_UNSAID,
	RESET_BREAKS_LOAD, /* a reset with half a state: the next load fails */
	STATE_GOES_ON,
	STATE_CHANGES,
	DATA_OUTSIDE,
	WRITE_OUTSIDE,
	END_IN_PRECOPY,
	PRECOPY_ENDLESS,
	PRECOPY_LOST,
	CANCEL_RESETS, /* from a */
	WRITES_REFUSED, /* of a to b bytes */
	ANYTHING_LOADED,
	SURPLUS_TAKEN,
	INITIAL_RISES,
	INFO_OUTSIDE,
	LOG_TWICE,
	LOG_AFTER_END,
	LOG_REPEATS,
	LOG_TOO_MUCH,
	WORKS_ON,  /* in a */
	NO_ANSWER, /* in a */
	LEAKS_FDS,
	LEAKS_MEMORY,
	LOAD_FAILS,
	REGION_READ_ONLY,
	RESERVED_CHANGES,
	MAPPED_OTHERWISE,
	V1_ANY_STATE,
	PENDING_IN_PRECOPY,
};

struct liar {
	struct access access;
	struct access *real;
	enum lie lie;
	unsigned int a, b;
	uint64_t read, whole, written; /* of this transfer; of the longest; of this load */
	uint64_t steps, asked, saves;
	bool from_precopy, ended, half_reset, stopped_log;
	uint64_t *reported; /* words of the last report, and how many */
	size_t reported_words;
	void *leaked[LEAKED_MAX];
	int fds[LEAKED_MAX];
	size_t num_leaked, num_fds;
};

extern const struct access_ops liar_ops;

#endif
