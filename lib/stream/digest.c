/* SPDX-License-Identifier: BSD-3-Clause */
/* digest.c: one thread, and one piece that it has or has not. */
#include "stream/digest.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/worker.h"

/* A smaller piece is digested in less time than a thread takes to wake up. */
#define LARGE (128u << 10)

struct digest {
	XXH3_state_t *state;
	struct worker worker; /* started with the first large piece */
	bool has_failed;      /* ... and that was not possible */
	const void *data; /* the thread's piece; NULL: none */
	size_t length;
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
	worker_init(&d->worker);
	return d;
}

void digest_free(struct digest *d)
{
	if (!d)
		return;
	worker_end(&d->worker);
	XXH3_freeState(d->state);
	free(d);
}

static void *digest_all(void *opaque)
{
	struct digest *d = opaque;
	pthread_mutex_lock(&d->worker.lock);
	while (!d->worker.quit) {
		if (!d->data) {
			pthread_cond_wait(&d->worker.wake_thread, &d->worker.lock);
			continue;
		}
		pthread_mutex_unlock(&d->worker.lock);
		XXH3_128bits_update(d->state, d->data, d->length);
		pthread_mutex_lock(&d->worker.lock);
		d->data = NULL;
		pthread_cond_signal(&d->worker.wake_owner);
	}
	pthread_mutex_unlock(&d->worker.lock);
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
	if (length >= LARGE && !d->worker.has_thread && !d->has_failed)
		d->has_failed = worker_start(&d->worker, digest_all, d) < 0;
	if (length < LARGE || d->has_failed) {
		XXH3_128bits_update(d->state, data, length);
		return;
	}
	pthread_mutex_lock(&d->worker.lock);
	d->data = data;
	d->length = length;
	d->started = true;
	pthread_cond_signal(&d->worker.wake_thread);
	pthread_mutex_unlock(&d->worker.lock);
}

void digest_wait(struct digest *d)
{
	if (!d->started)
		return;
	pthread_mutex_lock(&d->worker.lock);
	while (d->data)
		pthread_cond_wait(&d->worker.wake_owner, &d->worker.lock);
	pthread_mutex_unlock(&d->worker.lock);
	d->started = false;
}

void digest_get(struct digest *d, char hex[DIGEST_HEX])
{
	digest_wait(d);
	XXH128_hash_t h = XXH3_128bits_digest(d->state);
	description_hex(h.high64, h.low64, hex);
}
