/* SPDX-License-Identifier: BSD-3-Clause */
/* owner.h: who keeps a kernel device that was loaded: closing the last fd to it throws its state away. */
#ifndef VFMIG_TOOL_OWNER_H
#define VFMIG_TOOL_OWNER_H

#include "vfmig.h"

enum owner_kind {
	OWNER_NONE,
	OWNER_EXEC,    /* a command that takes this process's place */
	OWNER_GIVE,    /* a process that listens on a socket */
	OWNER_HOLD,    /* this process, until a signal */
	OWNER_DISCARD, /* nobody, and that is known */
};

struct owner {
	enum owner_kind kind;
	const char *what; /* the command, or unix:PATH */
	int socket;	  /* OWNER_GIVE, after owner_prepare; -1 */
};

#define OWNER_NOBODY ((struct owner) { .socket = -1 })

/* Before anything is loaded: finds the one who is to have it. */
int owner_prepare(struct owner *o, uint32_t timeout_ms, struct vfmig_error *err);
/* Once they are open, before they are loaded: are these devices that have an fd? */
int owner_check(const struct owner *o, struct vfmig_device *const *devices, size_t count, struct vfmig_error *err);
/* OWNER_GIVE: gives the devices' fds away and waits until they have been taken. Else does nothing. */
int owner_give(struct owner *o, struct vfmig_device *const *devices, size_t count, struct vfmig_error *err);
/* OWNER_EXEC: does not return when it succeeds. OWNER_HOLD: returns after SIGTERM or SIGINT. Else does nothing. */
int owner_stay(struct owner *o, struct vfmig_device *const *devices, size_t count, struct vfmig_error *err);
void owner_close(struct owner *o);

#endif
