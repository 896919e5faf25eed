/* SPDX-License-Identifier: BSD-3-Clause */
/* sandbox.h: what is open stays usable, all else is out of reach, before a byte of a peer's stream is looked at. */
#ifndef VFMIG_TOOL_SANDBOX_H
#define VFMIG_TOOL_SANDBOX_H

#include "vfmig.h"

/* What is still to be done that needs more than open descriptors. */
struct sandbox_needs {
	bool command; /* an exec: link's command, which is killed if it does not end by itself */
	bool journal; /* a folder's files: made, written, synced, removed */
};

/* NULL, or why this program cannot be confined however it is run. */
const char *sandbox_obstacle(void);

/*
 * No new privileges; no capabilities; not root any more; a filter of system calls for every thread, which ends the
 * process by SIGSYS at any other call. It cannot be undone, and every program that is started has it too.
 */
int sandbox_enter(const struct sandbox_needs *needs, struct vfmig_error *err);

#endif
