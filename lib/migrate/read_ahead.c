/* SPDX-License-Identifier: BSD-3-Clause */
/* read_ahead.c: one thread that reads, a queue of what it has read, and the buffers of both. */
#include "migrate/read_ahead.h"

#include <stdlib.h>

#include "base/buffers.h"
#include "base/clock.h"
#include "base/worker.h"

#define AHEAD 8u /* pieces, beside those that are held */
/* With so many free buffers the thread is woken, with so many pieces its owner: to do it for each costs as much as to
 * read it, but where reading is slow. */
#define WORTH_WAKING (AHEAD / 2)
#define BUFFERS_MAX (AHEAD + VFMIG_MULTIFD_CHANNELS_MAX + 1)

struct read_ahead {
	struct worker worker;

	uint8_t *memory; /* buffers of READ_AHEAD_BYTES */
	unsigned int buffers;
	unsigned int free_list[BUFFERS_MAX], num_free;

	struct protocol *of; /* what is read ahead; NULL: nothing */
	bool stop, reading;
	/* Read and not taken, in order; the last one may be the end, with `code` and `error` when it is a failure. */
	struct protocol_piece queue[BUFFERS_MAX + 1];
	unsigned int first, count;
	bool ended;
	int code;
	struct vfmig_error error;
};

static bool is_ours(const struct read_ahead *a, const struct protocol_piece *piece)
{
	const uint8_t *p = piece->data;
	return p >= a->memory && p < a->memory + (size_t)a->buffers * READ_AHEAD_BYTES;
}

static uint8_t *take_buffer(struct read_ahead *a)
{
	return a->memory + (size_t)a->free_list[--a->num_free] * READ_AHEAD_BYTES;
}

static void give_back(struct read_ahead *a, const uint8_t *buffer)
{
	a->free_list[a->num_free++] = (unsigned int)((size_t)(buffer - a->memory) / READ_AHEAD_BYTES);
}

/* Reads one piece; with the lock, which is not held meanwhile. */
static void read_one(struct read_ahead *a)
{
	struct protocol *p = a->of;
	struct protocol_piece piece = { 0 };
	uint8_t *buffer = take_buffer(a);
	a->reading = true;
	uint64_t began_ns = clock_now_ns();
	pthread_mutex_unlock(&a->worker.lock);
	int r = p->ops->read(p, buffer, READ_AHEAD_BYTES, &piece, &a->error);
	bool slow = clock_now_ns() - began_ns > WORKER_SLOW_NS;
	pthread_mutex_lock(&a->worker.lock);
	a->reading = false;
	if (r < 0 || piece.length == 0) {
		a->code = r;
		a->ended = true;
		give_back(a, buffer);
	} else {
		a->queue[(a->first + a->count++) % (BUFFERS_MAX + 1)] = piece;
	}
	if (slow || a->ended || a->stop || a->count == WORTH_WAKING)
		pthread_cond_signal(&a->worker.wake_owner);
}

static void *read_all(void *opaque)
{
	struct read_ahead *a = opaque;
	pthread_mutex_lock(&a->worker.lock);
	while (!a->worker.quit) {
		if (a->of && !a->ended && !a->stop && a->num_free > 0)
			read_one(a);
		else
			pthread_cond_wait(&a->worker.wake_thread, &a->worker.lock);
	}
	pthread_mutex_unlock(&a->worker.lock);
	return NULL;
}

int read_ahead_new(unsigned int held, struct read_ahead **ret, struct vfmig_error *err)
{
	struct read_ahead *a = calloc(1, sizeof(*a));
	if (!a)
		return error_errno(err, -ENOMEM, "reading ahead");
	worker_init(&a->worker);
	int r = held <= BUFFERS_MAX - AHEAD ? 0 : -EINVAL;
	if (r == 0) {
		a->buffers = AHEAD + held;
		a->num_free = a->buffers;
		for (unsigned int i = 0; i < a->buffers; i++)
			a->free_list[i] = i;
		r = buffers_new((size_t)a->buffers * READ_AHEAD_BYTES, &a->memory);
	}
	if (r == 0)
		r = worker_start(&a->worker, read_all, a);
	if (r < 0) {
		read_ahead_free(a);
		return error_errno(err, r, "reading ahead");
	}
	*ret = a;
	return 0;
}

void read_ahead_free(struct read_ahead *a)
{
	if (!a)
		return;
	read_ahead_stop(a);
	worker_end(&a->worker);
	buffers_free(a->memory, (size_t)a->buffers * READ_AHEAD_BYTES);
	free(a);
}

static int next_now(struct read_ahead *a, struct protocol *p, struct protocol_piece *ret, struct vfmig_error *err)
{
	struct protocol_piece piece = { 0 };
	if (!a->num_free)
		return error_set(err, -ENOBUFS, "more pieces are held than was said");
	uint8_t *buffer = take_buffer(a);
	int r = p->ops->read(p, buffer, READ_AHEAD_BYTES, &piece, err);
	if (r < 0 || piece.data != buffer || piece.length == 0)
		give_back(a, buffer);
	if (r == 0)
		*ret = piece;
	return r;
}

static int next_ahead(struct read_ahead *a, struct protocol *p, struct protocol_piece *ret, struct vfmig_error *err)
{
	int r = 0;
	pthread_mutex_lock(&a->worker.lock);
	if (!a->of) {
		a->of = p;
		pthread_cond_signal(&a->worker.wake_thread);
	}
	while (!a->count && !a->ended)
		pthread_cond_wait(&a->worker.wake_owner, &a->worker.lock);
	if (a->count) {
		*ret = a->queue[a->first];
		a->first = (a->first + 1) % (BUFFERS_MAX + 1);
		a->count--;
	} else {
		r = a->code;
		if (r < 0 && err)
			*err = a->error;
		*ret = (struct protocol_piece) { 0 };
		a->of = NULL;
		a->ended = false;
	}
	pthread_mutex_unlock(&a->worker.lock);
	return r;
}

int read_ahead_next(struct read_ahead *a, struct protocol *p, struct protocol_piece *ret, struct vfmig_error *err)
{
	if (a->of && a->of != p)
		read_ahead_stop(a);
	if (p->state == VFMIG_STATE_STOP_COPY && !p->mapped)
		return next_ahead(a, p, ret, err);
	return next_now(a, p, ret, err);
}

void read_ahead_release(struct read_ahead *a, const struct protocol_piece *piece)
{
	if (!is_ours(a, piece))
		return;
	pthread_mutex_lock(&a->worker.lock);
	give_back(a, piece->data);
	if (a->num_free == WORTH_WAKING)
		pthread_cond_signal(&a->worker.wake_thread);
	pthread_mutex_unlock(&a->worker.lock);
}

void read_ahead_stop(struct read_ahead *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->worker.lock);
	a->stop = true;
	while (a->reading)
		pthread_cond_wait(&a->worker.wake_owner, &a->worker.lock);
	for (; a->count; a->count--) {
		give_back(a, a->queue[a->first].data);
		a->first = (a->first + 1) % (BUFFERS_MAX + 1);
	}
	a->of = NULL;
	a->ended = a->stop = false;
	pthread_mutex_unlock(&a->worker.lock);
}
