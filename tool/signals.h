/* SPDX-License-Identifier: BSD-3-Clause */
/* signals.h: the signals that cancel what a command does (HUP, INT, TERM, QUIT, XCPU), and USR1, which asks. */
#ifndef VFMIG_TOOL_SIGNALS_H
#define VFMIG_TOOL_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

#include "base/error.h"

enum signals_word { SIGNALS_NONE, SIGNALS_CANCEL, SIGNALS_ASK };

/*
 * From here on they come by signals_fd only and end nothing. One that was
 * ignored when the program started (nohup) stays ignored. SIGPIPE and SIGXFSZ
 * are ignored: a reader that is gone, or a journal without room, is an error
 * and no reason to leave a device half-way. Once, before any thread is made.
 */
int signals_take(struct vfmig_error *err);
/* Those that are taken, to wait for or to unblock. */
void signals_set(sigset_t *ret);
/* Readable when one has come; -1: not taken. */
int signals_fd(void);
/* Takes the next one that has come, if there is one. */
enum signals_word signals_read(void);
/* Has one come that cancels? It stays to be read. */
bool signals_cancel_waits(void);

/*
 * While this thread is in calls that wait and know nothing of signals, another
 * one looks for them and calls fn. For SIGNALS_CANCEL fn ends the process, or
 * what this thread waits for. signals_watch_end waits for fn; a signal that
 * comes after it stays to be read.
 */
typedef void signals_fn(void *opaque, enum signals_word word);
int signals_watch_begin(signals_fn *fn, void *opaque, struct vfmig_error *err);
void signals_watch_end(void);

#endif
