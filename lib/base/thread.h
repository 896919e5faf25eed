/* SPDX-License-Identifier: BSD-3-Clause */
/* thread.h: starting threads of the library's own. */
#ifndef VFMIG_BASE_THREAD_H
#define VFMIG_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

/* A thread that no signal is delivered to: the program's signals are for the program's threads. 0 or -errno. */
static inline int thread_start(pthread_t *ret_thread, void *(*fn)(void *), void *opaque)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(ret_thread, NULL, fn, opaque);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

#endif
