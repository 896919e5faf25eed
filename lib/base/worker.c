/* SPDX-License-Identifier: BSD-3-Clause */
/* worker.c: starts and ends a worker's thread. */
#include "base/worker.h"

#include "base/thread.h"

/* glibc's cannot fail without attributes. */
void worker_init(struct worker *w)
{
	*w = (struct worker) { .quit = false };
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake_thread, NULL);
	pthread_cond_init(&w->wake_owner, NULL);
}

int worker_start(struct worker *w, void *(*fn)(void *), void *opaque)
{
	int r = thread_start(&w->thread, fn, opaque);
	w->has_thread = r == 0;
	return r;
}

void worker_end(struct worker *w)
{
	if (w->has_thread) {
		pthread_mutex_lock(&w->lock);
		w->quit = true;
		pthread_cond_signal(&w->wake_thread);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
	}
	pthread_cond_destroy(&w->wake_thread);
	pthread_cond_destroy(&w->wake_owner);
	pthread_mutex_destroy(&w->lock);
}
