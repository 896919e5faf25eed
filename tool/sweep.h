/* SPDX-License-Identifier: BSD-3-Clause */
/* sweep.h: removing a socket's name, when the sandbox will not let the load do it. */
#ifndef VFMIG_TOOL_SWEEP_H
#define VFMIG_TOOL_SWEEP_H

/*
 * For "unix:PATH" only, which is there: a child that removes the socket when
 * sweep_end is called, or this process is gone in whatever way. -1: not needed,
 * or not to be had, which only leaves a name behind. To be called before other threads hold locks.
 */
int sweep_begin(const char *link_uri);
/* Takes what sweep_begin gave; returns when the name is gone. */
void sweep_end(int sweeper);

#endif
