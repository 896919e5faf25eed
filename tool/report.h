/* SPDX-License-Identifier: BSD-3-Clause */
/* report.h: what a save or a load did, from its events, before it is drawn. */
#ifndef VFMIG_TOOL_REPORT_H
#define VFMIG_TOOL_REPORT_H

#include <stdio.h>

#include "vfmig.h"

#define REPORT_DEVICES 64
#define REPORT_STEPS 8

/* Where it stood at a time after its beginning. */
struct report_point {
	uint64_t at_ns;
	enum vfmig_phase phase;
	uint64_t total_bytes, pending_bytes, expected_ns;
};

struct report_state {
	size_t device;
	enum vfmig_state state;
	uint64_t at_ns;
};

struct report_device {
	char *uri, *id, *state; /* each may be NULL; state: how it ended */
};

struct report_step {
	enum vfmig_downtime_step step;
	uint64_t ns;
};

struct report_line {
	char *level, *message;
};

struct report {
	char *command, *time, *link, *error, *session; /* each may be NULL */
	bool is_load, has_result, failed, cancelled;
	bool source_may_run, digest_verified;
	bool ends_early;     /* the last line of the file is not whole */
	uint64_t elapsed_ns; /* of the last event */
	uint64_t downtime_ns, downtime_limit_ns, expected_ns;
	uint64_t setup_bytes, precopy_bytes, stop_copy_bytes, total_bytes, rounds;
	uint64_t compressed_bytes; /* 0: they were not */
	uint64_t memory_pages, memory_zero_pages;
	struct report_point *points;
	size_t num_points, room_points;
	struct report_state *states;
	size_t num_states, room_states;
	struct report_line *lines;
	size_t num_lines, room_lines;
	struct report_device devices[REPORT_DEVICES];
	size_t num_devices;
	struct report_step steps[REPORT_STEPS];
	size_t num_steps;
};

/* The JSON lines of `vfmig save --json` and the like (name: for messages). r is all zero; cleared by the caller in
 * any case. -EBADMSG: not such lines. */
int report_read(const char *text, const char *name, struct report *r, struct vfmig_error *err);
void report_clear(struct report *r);

/* When the devices were stopped; elapsed_ns if they never were. */
uint64_t report_stopped_at(const struct report *r);

/* What a step is, and what makes it shorter; "": nothing does. */
const char *report_step_meaning(const struct report *r, enum vfmig_downtime_step step);
const char *report_step_hint(const struct report *r, enum vfmig_downtime_step step);

/* How it ended, in a few words, and what is worth knowing of it, one sentence for each n from 0; false: no more. */
void report_outcome(const struct report *r, char *text, size_t size);
bool report_finding(const struct report *r, unsigned n, char *text, size_t size);

/* Text for HTML and XML: what these would take for more than text is escaped, or is shown as U+FFFD. */
void report_put(FILE *f, const char *text);
/* Its last characters, at most so many, behind an ellipsis. */
void report_put_tail(FILE *f, const char *text, size_t most);
/* What of a number from a file may be more than 2^64 after a division. */
uint64_t report_whole(double value);
/* "64.5 ms"; a buffer of OUTPUT_NUMBER_MAX, which is returned. */
const char *report_ns(uint64_t ns, char *buffer);

#define REPORT_WIDTH 1000 /* of every figure */

/* Draws at (0, y); returns the height. 0: there is nothing to draw. f NULL: only that. */
typedef unsigned report_figure_fn(FILE *f, const struct report *r, unsigned y);
report_figure_fn report_draw_timeline, report_draw_downtime, report_draw_pending, report_draw_rate,
	report_draw_expected;

/* Whole documents of `count` runs, one below the other. */
void report_html(FILE *f, const struct report *runs, size_t count);
void report_svg(FILE *f, const struct report *runs, size_t count);

#endif
