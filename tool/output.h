/* SPDX-License-Identifier: BSD-3-Clause */
/* output.h: what commands print, for people and for programs, from the same records. */
#ifndef VFMIG_TOOL_OUTPUT_H
#define VFMIG_TOOL_OUTPUT_H

#include <json-c/json.h>
#include <stdio.h>

#include "vfmig.h"

/* "vfmig COMMAND: ..." on stderr, one line; returns EXIT_FAILED. */
int output_fail(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for what is no failure. */
void output_note(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A line on stdout. */
void output_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "1.5 MiB", "820.0 ms"; buffers of this size, which are returned. */
#define OUTPUT_NUMBER_MAX 32
const char *output_bytes(uint64_t bytes, char *buffer);
const char *output_ns(uint64_t ns, char *buffer);

/* What a stream, a peer or a device named, as a JSON string that is valid UTF-8 without control characters. */
struct json_object *output_string(const char *text);
/* From now on what is printed to stderr (and stdout) never waits for a reader: bounded, and dropped when it is full. */
void output_never_wait(bool stdout_too);
/* Prints and frees: on one line, or indented when `pretty`. */
void output_json(FILE *file, struct json_object *object, bool pretty);

/* What a save or a load says while it goes on and when it has ended. */
struct output_device {
	const char *uri, *id; /* id may be NULL: the stream's only one */
	const char *state;    /* a state's name, or NULL: could not be asked */
};

struct output_result {
	const char *command;
	bool is_save;
	int code; /* 0 or -errno */
	const char *error;
	struct vfmig_status status;
	const struct output_device *devices;
	size_t num_devices;
	bool untouched; /* cancelled before anything was done to a device */
};

struct output {
	const char *command;
	FILE *file;    /* of the summary */
	bool is_save;
	bool json;
	FILE *events;  /* of the JSON, or NULL */
	bool summary;  /* quiet otherwise */
	bool progress; /* a line on stderr, rewritten */
	char time[32]; /* of its beginning, UTC */
	bool verbose;  /* phases and debug lines on stderr; to be set after output_init */
	/* private */
	bool line_open;
	bool started;
	enum vfmig_phase phase;
	uint64_t next_ns, next_flush_ns;
	bool behind; /* a reader has not taken all yet */
};

/* The link waits for the other side, there; struct vfmig_link_options's function. */
void output_listening(void *opaque, const char *where);
/* json: its events on stdout, and no text there; else on `events` (NULL: none), beside the text.
 * stdout_taken: the stream goes there. */
void output_init(struct output *o, const char *command, bool is_save, bool json, FILE *events, bool quiet,
		 bool stdout_taken);
/* Devices and link are open; downtime_limit_ns: of a save. */
void output_begin(struct output *o, const char *link, uint64_t downtime_limit_ns);
/* To be called often: prints when the phase has changed and about four times a second; events oftener at first. */
void output_status(struct output *o, const struct vfmig_status *status);
/* A device is in another state than before, or this is the first look at it. */
void output_state(struct output *o, const char *uri, const char *id, enum vfmig_state state, uint64_t elapsed_ns);
/* Is there something that output_status wants to be called for regularly? */
bool output_wants_ticks(const struct output *o);
/* For SIGUSR1, a line on stderr: where it stands; `what` it does with `name` while things are opened. */
void output_where(struct output *o, const struct vfmig_status *status);
void output_where_opening(struct output *o, const char *what, const char *name);
/* A vfmig_log_fn; opaque is the struct output. */
void output_log(void *opaque, enum vfmig_log_level level, const char *line);
void output_result(struct output *o, const struct output_result *r);

#endif
