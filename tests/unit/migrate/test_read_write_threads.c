/* SPDX-License-Identifier: BSD-3-Clause */
/* test_read_write_threads.c: reading ahead and writing behind, on a protocol that is told what to do. */
#include "harness.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buffers.h"
#include "base/clock.h"
#include "base/spin.h"
#include "migrate/read_ahead.h"
#include "migrate/write_behind.h"

#define CHUNK 1000u

/* Gives chunks of CHUNK bytes, each full of its number, and takes the same; at `at` (chunks) it fails or blocks. */
struct fake {
	struct protocol base;
	unsigned int chunks, done, fails_at, blocks_at;
	uint64_t expected; /* bytes of the chunk that is being written */
	unsigned int begins, ends;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool blocks, blocked;
};

static void wait_here(struct fake *f)
{
	pthread_mutex_lock(&f->lock);
	f->blocked = true;
	pthread_cond_broadcast(&f->changed);
	while (f->blocks)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

static void wait_until_blocked(struct fake *f)
{
	pthread_mutex_lock(&f->lock);
	while (!f->blocked)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

static void let_go(struct fake *f)
{
	pthread_mutex_lock(&f->lock);
	f->blocks = false;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static int fake_read(struct protocol *p, void *buffer, size_t capacity, struct protocol_piece *ret,
		     struct vfmig_error *err)
{
	struct fake *f = (struct fake *)p;
	assert_true(capacity >= CHUNK);
	if (f->done == f->blocks_at)
		wait_here(f);
	if (f->done == f->fails_at)
		return error_set(err, -EIO, "no more");
	if (f->done == f->chunks)
		return 0;
	memset(buffer, (int)f->done++, CHUNK);
	*ret = (struct protocol_piece) { CHUNK, buffer, CHUNK, true };
	return 0;
}

static int fake_write_begin(struct protocol *p, uint64_t size, struct vfmig_error *err)
{
	struct fake *f = (struct fake *)p;
	(void)err;
	f->expected = size;
	f->begins++;
	return 0;
}

static int fake_write_piece(struct protocol *p, const void *data, size_t length, struct vfmig_error *err)
{
	struct fake *f = (struct fake *)p;
	const uint8_t *bytes = data;
	if (f->done == f->blocks_at)
		wait_here(f);
	if (f->done == f->fails_at)
		return error_set(err, -EIO, "not taken");
	for (size_t i = 0; i < length; i++)
		assert_int_equal(bytes[i], (uint8_t)f->done);
	f->expected -= length;
	return 0;
}

static int fake_write_end(struct protocol *p, struct vfmig_error *err)
{
	struct fake *f = (struct fake *)p;
	(void)err;
	assert_int_equal(f->expected, 0);
	f->ends++;
	f->done++;
	return 0;
}

static void fake_init(struct fake *f, unsigned int chunks)
{
	static const struct protocol_ops ops = { .name = "fake", .read = fake_read, .write_begin = fake_write_begin,
						 .write_piece = fake_write_piece, .write_end = fake_write_end };
	*f = (struct fake) { .base = { .ops = &ops, .state = VFMIG_STATE_STOP_COPY }, .chunks = chunks };
	f->fails_at = f->blocks_at = UINT32_MAX;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
}

/* ------------------------------------------------------------ reading ahead */

static void take(struct read_ahead *a, struct fake *f, unsigned int number, struct protocol_piece *ret)
{
	struct vfmig_error err;
	assert_int_equal(read_ahead_next(a, &f->base, ret, &err), 0);
	assert_int_equal(ret->length, CHUNK);
	for (size_t i = 0; i < ret->length; i++)
		assert_int_equal(((const uint8_t *)ret->data)[i], (uint8_t)number);
}

/* In order, whatever is released when, and to the end. */
static void test_reads_in_order(void **state)
{
	struct read_ahead *a;
	struct fake f;
	struct vfmig_error err;
	struct protocol_piece held[3] = { { 0 } }, piece;
	(void)state;
	fake_init(&f, 200);
	assert_int_equal(read_ahead_new(3, &a, &err), 0);
	for (unsigned int n = 0; n < 200; n++) {
		struct protocol_piece *mine = &held[(n * 7) % 3];
		if (mine->length)
			read_ahead_release(a, mine);
		take(a, &f, n, mine);
	}
	assert_int_equal(read_ahead_next(a, &f.base, &piece, &err), 0);
	assert_int_equal(piece.length, 0);
	read_ahead_free(a);
}

/* What was read before a failure comes first; then the next device, from its beginning. */
static void test_a_failed_read_is_told_in_its_place(void **state)
{
	struct read_ahead *a;
	struct fake f, other;
	struct vfmig_error err;
	struct protocol_piece piece;
	(void)state;
	fake_init(&f, 10);
	fake_init(&other, 10);
	f.fails_at = 3;
	assert_int_equal(read_ahead_new(1, &a, &err), 0);
	for (unsigned int n = 0; n < 3; n++) {
		take(a, &f, n, &piece);
		read_ahead_release(a, &piece);
	}
	assert_int_equal(read_ahead_next(a, &f.base, &piece, &err), -EIO);
	assert_string_equal(err.message, "no more");
	take(a, &other, 0, &piece);
	read_ahead_free(a);
}

static void *let_go_later(void *opaque)
{
	struct fake *f = opaque;
	wait_until_blocked(f);
	let_go(f);
	return NULL;
}

/* A stop waits for the read that is under way, and nothing is read after it. */
static void test_stop_in_the_middle(void **state)
{
	struct read_ahead *a;
	struct fake f, other;
	struct vfmig_error err;
	struct protocol_piece piece;
	pthread_t helper;
	(void)state;
	fake_init(&f, 100);
	fake_init(&other, 100);
	f.blocks_at = 5;
	f.blocks = true;
	assert_int_equal(read_ahead_new(1, &a, &err), 0);
	take(a, &f, 0, &piece);
	read_ahead_release(a, &piece);
	wait_until_blocked(&f);
	assert_int_equal(pthread_create(&helper, NULL, let_go_later, &f), 0);
	read_ahead_stop(a);
	unsigned int done = f.done;
	assert_true(done > 5);
	pthread_join(helper, NULL);
	/* All buffers are back. */
	for (unsigned int n = 0; n < 100; n++) {
		take(a, &other, n, &piece);
		read_ahead_release(a, &piece);
	}
	read_ahead_free(a);
	assert_int_equal(f.done, done);
}

/* ----------------------------------------------------------- writing behind */

static int put(struct write_behind *b, struct fake *f, unsigned int number, size_t size, struct vfmig_error *err)
{
	int r = write_behind_chunk(b, &f->base, size, err);
	for (size_t done = 0, n; done < size && r == 0; done += n) {
		size_t room;
		uint8_t *place = write_behind_place(b, &room);
		assert_true(room > 0);
		n = room < size - done ? room : size - done;
		memset(place, (int)number, n);
		r = write_behind_put(b, n, err);
	}
	return r < 0 ? r : write_behind_chunk_end(b, err);
}

/* Chunks smaller and larger than a buffer, and exactly one. */
static void test_writes_in_order(void **state)
{
	static const size_t sizes[] = { 1, CHUNK, WRITE_BEHIND_BYTES - 1, WRITE_BEHIND_BYTES, WRITE_BEHIND_BYTES + 1,
					3 * WRITE_BEHIND_BYTES };
	struct write_behind *b;
	struct fake f, other;
	struct vfmig_error err;
	(void)state;
	fake_init(&f, 0);
	fake_init(&other, 0);
	assert_int_equal(write_behind_new(&b, &err), 0);
	for (unsigned int n = 0; n < 60; n++)
		assert_int_equal(put(b, &f, n, sizes[n % 6], &err), 0);
	for (unsigned int n = 0; n < 3; n++)
		assert_int_equal(put(b, &other, n, CHUNK, &err), 0);
	assert_int_equal(write_behind_flush(b, &err), 0);
	assert_int_equal(f.begins, 60);
	assert_int_equal(f.ends, 60);
	assert_int_equal(other.ends, 3);
	write_behind_free(b);
}

/* A failure is told, by the flush at the latest, and nothing is written after it until it is dropped. */
static void test_a_failed_write_is_the_last(void **state)
{
	struct write_behind *b;
	struct fake f;
	struct vfmig_error err;
	int r = 0;
	(void)state;
	fake_init(&f, 0);
	f.fails_at = 2;
	assert_int_equal(write_behind_new(&b, &err), 0);
	for (unsigned int n = 0; n < 20 && r == 0; n++)
		r = put(b, &f, n, CHUNK, &err);
	if (r == 0)
		r = write_behind_flush(b, &err);
	assert_int_equal(r, -EIO);
	assert_string_equal(err.message, "not taken");
	assert_int_equal(write_behind_flush(b, &err), -EIO);
	assert_int_equal(f.begins, 3);
	assert_int_equal(f.ends, 2);
	write_behind_drop(b);
	fake_init(&f, 0);
	assert_int_equal(put(b, &f, 0, CHUNK, &err), 0);
	assert_int_equal(write_behind_flush(b, &err), 0);
	assert_int_equal(f.ends, 1);
	write_behind_free(b);
}

/* What is queued behind a write that is under way is forgotten. */
static void test_drop_in_the_middle(void **state)
{
	struct write_behind *b;
	struct fake f;
	struct vfmig_error err;
	pthread_t helper;
	(void)state;
	fake_init(&f, 0);
	f.blocks_at = 0; /* the first one is the thread's: nobody knows how long it takes */
	f.blocks = true;
	assert_int_equal(write_behind_new(&b, &err), 0);
	for (unsigned int n = 0; n < 5; n++)
		assert_int_equal(put(b, &f, n, CHUNK, &err), 0);
	wait_until_blocked(&f);
	assert_int_equal(pthread_create(&helper, NULL, let_go_later, &f), 0);
	write_behind_drop(b);
	unsigned int ends = f.ends;
	assert_true(ends >= 1);
	assert_int_equal(f.begins, ends);
	pthread_join(helper, NULL);
	write_behind_free(b);
	assert_int_equal(f.ends, ends);
}

/* --------------------------------------------------------- what both are made of */

/* How often it says so, before the sleep that ends every row of them. */
static unsigned int looks(struct spin *s)
{
	unsigned int n = 0;
	while (spin_again(s))
		n++;
	return n;
}

/* In vain, ever more sleeps follow each other without a look, up to a limit; found, all begins anew. */
static void test_looks_again_for_a_moment(void **state)
{
	static const unsigned int expected[] = { 1, 3, 7, 15, 31, 63, 127, 127 };
	struct spin s = { 0 };
	(void)state;
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		uint64_t began_ns = clock_now_ns();
		assert_true(looks(&s) > 0);
		assert_true(clock_now_ns() - began_ns >= 50000);
		for (unsigned int n = 0; n < expected[i]; n++)
			assert_int_equal(looks(&s), 0);
	}
	assert_true(spin_again(&s));
	spin_found(&s);
	assert_true(looks(&s) > 0);
	assert_int_equal(looks(&s), 0);
	assert_true(looks(&s) > 0);
}

/* What woke the thread is no look that succeeded. */
static void test_found_after_a_sleep_forgives_nothing(void **state)
{
	struct spin s = { 0 };
	(void)state;
	assert_true(looks(&s) > 0);
	assert_int_equal(looks(&s), 0);
	spin_found(&s);
	assert_true(looks(&s) > 0);
	for (unsigned int n = 0; n < 3; n++)
		assert_int_equal(looks(&s), 0);
	assert_true(looks(&s) > 0);
}

static void test_buffers_are_there(void **state)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = ((size_t)2 << 20) + 3 * page;
	unsigned char resident[1024];
	uint8_t *memory;
	(void)state;
	assert_int_equal(buffers_new(bytes, &memory), 0);
	assert_int_equal((uintptr_t)memory % page, 0);
	assert_true(bytes / page <= sizeof(resident));
	assert_int_equal(mincore(memory, bytes, resident), 0);
	for (size_t i = 0; i < bytes / page; i++)
		assert_true(resident[i] & 1);
	buffers_free(memory, bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_in_order),
		cmocka_unit_test(test_a_failed_read_is_told_in_its_place),
		cmocka_unit_test(test_stop_in_the_middle),
		cmocka_unit_test(test_writes_in_order),
		cmocka_unit_test(test_a_failed_write_is_the_last),
		cmocka_unit_test(test_drop_in_the_middle),
		cmocka_unit_test(test_looks_again_for_a_moment),
		cmocka_unit_test(test_found_after_a_sleep_forgives_nothing),
		cmocka_unit_test(test_buffers_are_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
