/* SPDX-License-Identifier: BSD-3-Clause */
/* sweeper.h: removes a socket's name when this process, which in its sandbox may not, has ended. */
#ifndef VFMIG_TOOL_SWEEPER_H
#define VFMIG_TOOL_SWEEPER_H

#include <sys/types.h>

#include "vfmig.h"

struct sweeper {
	pid_t pid; /* 0: none */
	int fd;	   /* open as long as the name is in use */
};

/* Threads may exist. */
int sweeper_start(struct sweeper *s, const char *path, struct vfmig_error *err);
/* Returns when the name is gone. Without a call that happens, too, however the process ends. */
void sweeper_stop(struct sweeper *s);

#endif
