/* SPDX-License-Identifier: BSD-3-Clause */
/* sink.h: where lines are printed to without ever waiting for the reader. */
#ifndef VFMIG_TOOL_SINK_H
#define VFMIG_TOOL_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sink;

/* What is dropped first when nobody reads: progress; then lines; the result always has room. */
enum sink_weight { SINK_PROGRESS, SINK_LINE, SINK_RESULT };

/*
 * Prints to fd (borrowed), which may be shared with other processes: its flags are not changed. The sink that is
 * already open for the same pipe, terminal or socket is returned again, so that lines never mix. NULL: no memory.
 */
struct sink *sink_open(int fd);
/* Takes all of the text or, if there is no room, drops and counts it. Never waits. From any thread. */
void sink_put(struct sink *s, enum sink_weight weight, const char *text, size_t length);
/* Hands over what the reader takes now; false: something is left. */
bool sink_flush(struct sink *s);
/* Waits for the reader, at most SINK_DRAIN_MS, and only once for a reader that does not read; the rest is dropped. */
#define SINK_DRAIN_MS 1000
void sink_drain(struct sink *s);
/* How many texts were dropped so far. */
uint64_t sink_dropped(struct sink *s);

#endif
