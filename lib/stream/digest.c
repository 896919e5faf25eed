/* SPDX-License-Identifier: BSD-3-Clause */
/* digest.c: one thread, and one piece that it has or has not. */
#include "stream/digest.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/thread.h"

/* A smaller piece is digested in less time than a thread takes to wake up. */
#define LARGE (128u << 10)

struct digest {
	XXH3_state_t *state;
	enum { NO_THREAD, THREAD, FAILED } thread_state; /* it is started with the first large piece */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake_thread, wake_caller;
	const void *data; /* the thread's piece; NULL: none */
	size_t length;
	bool quit;
	bool started; /* only the caller's: data may still be the thread's */
};

struct digest *digest_new(void)
{
	struct digest *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->state = XXH3_createState();
	if (!d->state) {
		free(d);
		return NULL;
	}
	XXH3_128bits_reset(d->state);
	pthread_mutex_init(&d->lock, NULL); /* glibc's cannot fail without attributes */
	pthread_cond_init(&d->wake_thread, NULL);
	pthread_cond_init(&d->wake_caller, NULL);
	return d;
}

void digest_free(struct digest *d)
{
	if (!d)
		return;
	if (d->thread_state == THREAD) {
		pthread_mutex_lock(&d->lock);
		d->quit = true;
		pthread_cond_signal(&d->wake_thread);
		pthread_mutex_unlock(&d->lock);
		pthread_join(d->thread, NULL);
	}
	pthread_cond_destroy(&d->wake_thread);
	pthread_cond_destroy(&d->wake_caller);
	pthread_mutex_destroy(&d->lock);
	XXH3_freeState(d->state);
	free(d);
}

static void *digest_all(void *opaque)
{
	struct digest *d = opaque;
	pthread_mutex_lock(&d->lock);
	while (!d->quit) {
		if (!d->data) {
			pthread_cond_wait(&d->wake_thread, &d->lock);
			continue;
		}
		pthread_mutex_unlock(&d->lock);
		XXH3_128bits_update(d->state, d->data, d->length);
		pthread_mutex_lock(&d->lock);
		d->data = NULL;
		pthread_cond_signal(&d->wake_caller);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

void digest_update(struct digest *d, const void *data, size_t length)
{
	digest_wait(d);
	XXH3_128bits_update(d->state, data, length);
}

void digest_start(struct digest *d, const void *data, size_t length)
{
	digest_wait(d);
	if (length >= LARGE && d->thread_state == NO_THREAD)
		d->thread_state = thread_start(&d->thread, digest_all, d) == 0 ? THREAD : FAILED;
	if (length < LARGE || d->thread_state != THREAD) {
		XXH3_128bits_update(d->state, data, length);
		return;
	}
	pthread_mutex_lock(&d->lock);
	d->data = data;
	d->length = length;
	d->started = true;
	pthread_cond_signal(&d->wake_thread);
	pthread_mutex_unlock(&d->lock);
}

void digest_wait(struct digest *d)
{
	if (!d->started)
		return;
	pthread_mutex_lock(&d->lock);
	while (d->data)
		pthread_cond_wait(&d->wake_caller, &d->lock);
	pthread_mutex_unlock(&d->lock);
	d->started = false;
}

void digest_get(struct digest *d, char hex[DIGEST_HEX])
{
	digest_wait(d);
	XXH128_hash_t h = XXH3_128bits_digest(d->state);
	description_hex(h.high64, h.low64, hex);
}
