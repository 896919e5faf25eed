/* SPDX-License-Identifier: BSD-3-Clause */
/* write_behind.c: one thread that writes, and a ring of buffers in front of it. */
#include "migrate/write_behind.h"

#include <stdlib.h>

#include "base/buffers.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/worker.h"

#define BEHIND 8u
/* Who waits for room is woken when so many are left, or when writing is slow: to do it for each costs as much as to
 * write it. */
#define WORTH_WAKING (BEHIND / 2)
/* A write that takes less is done at once: to hand it over would cost as much (measured, doc/speed.md). */
#define WRITE_AT_ONCE_NS 20000u

struct write_behind {
	struct worker worker;
	uint8_t *memory; /* BEHIND buffers of WRITE_BEHIND_BYTES */

	struct protocol *to;
	struct protocol_piece ring[BEHIND]; /* the owner fills the one behind these, [first, first + count) */
	unsigned int first, count;
	struct protocol_piece open; /* what that one holds already */
	bool writing;
	uint64_t write_ns; /* what the slowest write of the last chunk took */
	int code; /* what a write failed with */
	struct vfmig_error error;
};

static int write_piece(struct write_behind *b, const struct protocol_piece *piece, struct vfmig_error *err)
{
	struct protocol *p = b->to;
	uint64_t began_ns = clock_now_ns();
	int r = piece->chunk ? p->ops->write_begin(p, piece->chunk, err) : 0;
	if (r == 0 && piece->length)
		r = p->ops->write_piece(p, piece->data, piece->length, err);
	if (r == 0 && piece->last)
		r = p->ops->write_end(p, err);
	uint64_t ns = clock_now_ns() - began_ns;
	b->write_ns = piece->chunk ? ns : max_u64(b->write_ns, ns);
	return r;
}

static void *write_all(void *opaque)
{
	struct write_behind *b = opaque;
	pthread_mutex_lock(&b->worker.lock);
	while (!b->worker.quit) {
		if (!b->count) {
			pthread_cond_wait(&b->worker.wake_thread, &b->worker.lock);
			continue;
		}
		struct protocol_piece piece = b->ring[b->first];
		struct vfmig_error error;
		int r = b->code;
		b->writing = true;
		pthread_mutex_unlock(&b->worker.lock);
		if (r == 0)
			r = write_piece(b, &piece, &error);
		pthread_mutex_lock(&b->worker.lock);
		b->writing = false;
		if (r < 0 && b->code == 0)
			b->error = error;
		b->code = r;
		b->first = (b->first + 1) % BEHIND;
		b->count--;
		if (b->count == WORTH_WAKING || !b->count || b->write_ns > WORKER_SLOW_NS)
			pthread_cond_signal(&b->worker.wake_owner);
	}
	pthread_mutex_unlock(&b->worker.lock);
	return NULL;
}

int write_behind_new(struct write_behind **ret, struct vfmig_error *err)
{
	struct write_behind *b = calloc(1, sizeof(*b));
	if (!b)
		return error_errno(err, -ENOMEM, "writing behind");
	worker_init(&b->worker);
	int r = buffers_new((size_t)BEHIND * WRITE_BEHIND_BYTES, &b->memory);
	if (r == 0)
		r = worker_start(&b->worker, write_all, b);
	if (r < 0) {
		write_behind_free(b);
		return error_errno(err, r, "writing behind");
	}
	b->open.data = b->memory;
	b->write_ns = WRITE_AT_ONCE_NS; /* nobody knows yet */
	*ret = b;
	return 0;
}

void write_behind_free(struct write_behind *b)
{
	if (!b)
		return;
	write_behind_drop(b);
	worker_end(&b->worker);
	buffers_free(b->memory, (size_t)BEHIND * WRITE_BEHIND_BYTES);
	free(b);
}

static int failed(struct write_behind *b, struct vfmig_error *err)
{
	pthread_mutex_lock(&b->worker.lock);
	int r = b->code;
	if (r < 0 && err)
		*err = b->error;
	pthread_mutex_unlock(&b->worker.lock);
	return r;
}

/* False: the thread has to do it, or a failure is to be told. */
static bool write_at_once(struct write_behind *b)
{
	pthread_mutex_lock(&b->worker.lock);
	bool mine = !b->count && b->code == 0 && b->write_ns < WRITE_AT_ONCE_NS;
	pthread_mutex_unlock(&b->worker.lock);
	if (!mine)
		return false;
	int r = write_piece(b, &b->open, &b->error);
	pthread_mutex_lock(&b->worker.lock);
	b->code = r;
	b->open = (struct protocol_piece) { .data = b->memory + (size_t)b->first * WRITE_BEHIND_BYTES };
	pthread_mutex_unlock(&b->worker.lock);
	return true;
}

/* The open buffer to the thread. One is left for the owner: a full ring is waited for by who fills the next one. */
static void hand_over(struct write_behind *b)
{
	if (write_at_once(b))
		return;
	pthread_mutex_lock(&b->worker.lock);
	unsigned int at = (b->first + b->count) % BEHIND;
	b->ring[at] = b->open;
	b->count++;
	pthread_cond_signal(&b->worker.wake_thread);
	while (b->count == BEHIND)
		pthread_cond_wait(&b->worker.wake_owner, &b->worker.lock);
	at = (b->first + b->count) % BEHIND;
	b->open = (struct protocol_piece) { .data = b->memory + (size_t)at * WRITE_BEHIND_BYTES };
	pthread_mutex_unlock(&b->worker.lock);
}

void *write_behind_place(struct write_behind *b, size_t *ret_length)
{
	*ret_length = WRITE_BEHIND_BYTES - b->open.length;
	return (uint8_t *)(uintptr_t)b->open.data + b->open.length;
}

int write_behind_chunk(struct write_behind *b, struct protocol *p, uint64_t size, struct vfmig_error *err)
{
	int r = b->to == p ? failed(b, err) : write_behind_flush(b, err);
	if (r < 0)
		return r;
	if (b->to != p) /* nothing is being written: see the flush */
		b->to = p;
	b->open.chunk = size;
	return 0;
}

int write_behind_put(struct write_behind *b, size_t length, struct vfmig_error *err)
{
	b->open.length += length;
	if (b->open.length == WRITE_BEHIND_BYTES)
		hand_over(b);
	return failed(b, err);
}

int write_behind_chunk_end(struct write_behind *b, struct vfmig_error *err)
{
	b->open.last = true;
	hand_over(b);
	return failed(b, err);
}

int write_behind_flush(struct write_behind *b, struct vfmig_error *err)
{
	pthread_mutex_lock(&b->worker.lock);
	while (b->count)
		pthread_cond_wait(&b->worker.wake_owner, &b->worker.lock);
	pthread_mutex_unlock(&b->worker.lock);
	return failed(b, err);
}

void write_behind_drop(struct write_behind *b)
{
	if (!b)
		return;
	pthread_mutex_lock(&b->worker.lock);
	b->count = b->writing ? 1 : 0;
	while (b->count)
		pthread_cond_wait(&b->worker.wake_owner, &b->worker.lock);
	b->code = 0;
	b->to = NULL;
	b->open = (struct protocol_piece) { .data = b->memory + (size_t)b->first * WRITE_BEHIND_BYTES };
	pthread_mutex_unlock(&b->worker.lock);
}
