/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker.h: a thread that does one thing for its owner, the lock of what they share, and how each wakes the other.
 *
 * The thread's function holds the lock but while it works or waits, and returns once `quit` is set. The owner's side is
 * one thread at a time.
 */
#ifndef VFMIG_BASE_WORKER_H
#define VFMIG_BASE_WORKER_H

#include <pthread.h>
#include <stdbool.h>

/* What takes longer is worth waking somebody for by itself. */
#define WORKER_SLOW_NS 200000u

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake_thread, wake_owner;
	bool has_thread, quit;
};

void worker_init(struct worker *w);
/* fn(opaque), called without the lock. 0 or -errno. */
int worker_start(struct worker *w, void *(*fn)(void *), void *opaque);
/* Ends the thread, if there is one, and what worker_init made. */
void worker_end(struct worker *w);

#endif
