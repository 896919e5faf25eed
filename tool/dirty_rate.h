/* SPDX-License-Identifier: BSD-3-Clause */
/* dirty_rate.h: how fast and where a device writes memory, and what that means for a save. */
#ifndef VFMIG_TOOL_DIRTY_RATE_H
#define VFMIG_TOOL_DIRTY_RATE_H

#include <stdio.h>

#include "migrate/memory.h"

/* A part of a block. */
struct dirty_part {
	size_t block;
	uint64_t first, pages;
	uint64_t written; /* pages, in the last interval */
	uint64_t ever;	  /* since the start */
};

/* A block's parts, and a bit for each of its pages that was written since the start. */
struct dirty_parts {
	size_t first_part;
	uint64_t pages_each;
	uint64_t *ever;
};

struct dirty_rate {
	const char *uri;
	struct vfmig_memory *memory; /* borrowed */
	struct vfmig_device *device; /* borrowed */
	enum access_log log;
	uint64_t log_page_bytes;
	uint64_t memory_pages;
	struct dirty_part *parts; /* of each block in turn, in their order */
	size_t num_parts;
	struct dirty_parts *blocks; /* the memory's, in its order */
	char warning[512];
	/* The last interval. */
	uint64_t interval_ns, elapsed_ns;
	uint64_t written, working_set; /* pages: in it; since the start */
};

/* What a save at so many bytes a second makes of it, memory alone. */
struct dirty_forecast {
	uint64_t bandwidth_bytes_per_s;
	double load;	       /* of the bandwidth, by pages that are written again and again */
	bool converges;	       /* each round is shorter than the one before */
	uint64_t first_pass_ns; /* over all memory */
	uint64_t least_pages, most_pages; /* that are left when all is stopped */
	uint64_t least_ns, most_ns;
};

/*
 * Starts the log of a device that reaches that memory already. Each block is cut into `parts` equal parts (less if it
 * has not so many pages). -EOPNOTSUPP: there is no log. Also when it fails dirty_rate_end is to be called.
 */
int dirty_rate_start(struct dirty_rate *rate, const char *uri, struct vfmig_memory *memory,
		     struct vfmig_device *device, size_t parts, struct vfmig_error *err);
/* An interval ends here. */
int dirty_rate_next(struct dirty_rate *rate, struct vfmig_error *err);
/* Ends the log. */
void dirty_rate_end(struct dirty_rate *rate);

/* Of so many pages in the last interval. */
uint64_t dirty_rate_per_s(const struct dirty_rate *rate, uint64_t pages);
struct dirty_forecast dirty_rate_forecast(const struct dirty_rate *rate, uint64_t bandwidth_bytes_per_s);
/* The least bandwidth at which pre-copy converges and the downtime is certain to be within the limit. */
uint64_t dirty_rate_needed(const struct dirty_rate *rate, uint64_t limit_ns);

/* dirty_print.c. bandwidth 0: none was given. */
struct dirty_print {
	uint64_t bandwidth_bytes_per_s, limit_ns;
};
void dirty_print_json(FILE *file, const struct dirty_rate *rate, const struct dirty_print *p);
void dirty_print_all(FILE *file, const struct dirty_rate *rate, const struct dirty_print *p);
/* One line, and one above it that says what is in it. */
void dirty_print_head(FILE *file, const struct dirty_print *p);
void dirty_print_line(FILE *file, const struct dirty_rate *rate, const struct dirty_print *p);

#endif
