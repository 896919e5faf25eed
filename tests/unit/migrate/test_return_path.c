/* SPDX-License-Identifier: BSD-3-Clause */
/* test_return_path.c: two ends on one socket: who may run when, whatever is refused or lost. */
#include "harness.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "migrate/return_path.h"
#include "stream/wire.h"

#define SMALL "size=256K,section=64K,rate=1,start"

struct pair {
	struct vfmig_link *save_link, *load_link;
	struct vfmig_save *save;
	struct vfmig_load *load;
	struct vfmig_device *from, *to;
};

static void pair_open_size(struct pair *p, const char *from_options, const char *to_options)
{
	int fds[2];
	struct vfmig_error err;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(link_from_fd(fds[0], "a", VFMIG_SAVE, &p->save_link, &err), 0);
	assert_int_equal(link_from_fd(fds[1], "b", VFMIG_LOAD, &p->load_link, &err), 0);
	assert_true(p->save_link->two_way && p->load_link->two_way);
	p->from = open_sim(from_options);
	p->to = open_sim(to_options);
	work(p->from, 40);
	assert_int_equal(vfmig_save_new(p->save_link, NULL, &p->save, &err), 0);
	assert_int_equal(vfmig_save_add_device(p->save, p->from, TEST_ID, &err), 0);
	assert_int_equal(vfmig_load_new(p->load_link, NULL, &p->load, &err), 0);
	assert_int_equal(vfmig_load_add_device(p->load, p->to, TEST_ID, &err), 0);
}

static void pair_open(struct pair *p, const char *to_options)
{
	pair_open_size(p, SMALL, to_options);
}

static void pair_close(struct pair *p)
{
	vfmig_save_free(p->save);
	vfmig_load_free(p->load);
	vfmig_link_close(p->save_link);
	vfmig_link_close(p->load_link);
	vfmig_device_close(p->from);
	vfmig_device_close(p->to);
}

/* Both ends driven step by step in one thread: neither may block. */
static void test_both_ends_in_one_event_loop(void **state)
{
	struct pair p;
	struct vfmig_error err;
	(void)state;
	pair_open(&p, "size=256K,section=64K,rate=1");
	int s = 0, l = 0;
	while (s != VFMIG_STEP_DONE || l != VFMIG_STEP_DONE) {
		if (s != VFMIG_STEP_DONE && (s = vfmig_save_step(p.save, &err)) < 0)
			fail_msg("%s", err.message);
		/* The source is done only once the destination runs. */
		if (s == VFMIG_STEP_DONE)
			assert_int_equal(sim_state(p.to), VFMIG_STATE_RUNNING);
		if (l != VFMIG_STEP_DONE && (l = vfmig_load_step(p.load, &err)) < 0)
			fail_msg("%s", err.message);
		if (sim_state(p.to) == VFMIG_STATE_RUNNING && sim_of(p.to)->loads)
			assert_int_equal(sim_state(p.from), VFMIG_STATE_STOP);
		if (s == VFMIG_STEP_WAIT && l == VFMIG_STEP_WAIT) {
			struct pollfd fds[2];
			fds[0].fd = vfmig_save_wait(p.save, &fds[0].events);
			fds[1].fd = vfmig_load_wait(p.load, &fds[1].events);
			assert_true(poll(fds, 2, 10000) > 0);
		}
	}
	assert_works(p.to);
	pair_close(&p);
}

/* Drives both until the save has ended; returns what it ended with. */
static int drive_until_save_ends(struct pair *p, struct vfmig_error *save_err, struct vfmig_error *load_err)
{
	int s = 0, l = 0;
	for (;;) {
		if ((s = vfmig_save_step(p->save, save_err)) < 0 || s == VFMIG_STEP_DONE)
			return s;
		if (l >= 0 && l != VFMIG_STEP_DONE)
			l = vfmig_load_step(p->load, load_err);
	}
}

static void test_refused_source_runs_again(void **state)
{
	static const char *const refusing[] = {
		"size=256K,section=16K,rate=1",			       /* its data section is too small */
		"size=128K,section=64K,rate=1",			       /* it has another size of state */
		"size=256K,section=64K,rate=1,fault=errno@to-running", /* it will not start */
	};
	(void)state;
	for (size_t i = 0; i < sizeof(refusing) / sizeof(refusing[0]); i++) {
		struct pair p;
		struct vfmig_error save_err, load_err;
		struct vfmig_status status;
		pair_open(&p, refusing[i]);
		int r = drive_until_save_ends(&p, &save_err, &load_err);
		if (r != -ECONNABORTED)
			fail_msg("%s: %d, %s", refusing[i], r, save_err.message);
		vfmig_save_status(p.save, &status);
		assert_true(status.source_may_run);
		assert_works(p.from);
		assert_int_equal(sim_of(p.to)->work.step, 0);
		assert_int_equal(sim_of(p.to)->loads, 0);
		pair_close(&p);
	}
}

/* The link goes away after any number of steps of the loader. */
static void test_lost_link(void **state)
{
	bool lost_after_end = false, lost_before_end = false, lost_between = false;
	(void)state;
	for (unsigned steps = 0;; steps++) {
		struct pair p;
		struct vfmig_error save_err = { 0 }, load_err = { 0 };
		struct vfmig_status status;
		pair_open(&p, "size=256K,section=64K,rate=1");
		int s = 0, l = 0;
		for (unsigned i = 0; i < steps && l != VFMIG_STEP_DONE; i++) {
			if (s != VFMIG_STEP_DONE)
				assert_true((s = vfmig_save_step(p.save, &save_err)) >= 0);
			assert_true((l = vfmig_load_step(p.load, &load_err)) >= 0);
		}
		if (l == VFMIG_STEP_DONE) {
			pair_close(&p);
			break;
		}
		shutdown(p.load_link->wait_fd, SHUT_RDWR);
		while (s >= 0 && s != VFMIG_STEP_DONE)
			s = vfmig_save_step(p.save, &save_err);
		while (l >= 0 && l != VFMIG_STEP_DONE)
			l = vfmig_load_step(p.load, &load_err);
		vfmig_save_status(p.save, &status);
		bool to_runs = sim_of(p.to)->loads > 0 && sim_state(p.to) == VFMIG_STATE_RUNNING;
		bool from_runs = sim_state(p.from) == VFMIG_STATE_RUNNING;
		assert_int_equal(from_runs, status.source_may_run);
		assert_false(to_runs && from_runs);
		lost_after_end |= !from_runs;
		lost_before_end |= from_runs;
		if (!from_runs && s < 0)
			assert_non_null(strstr(save_err.message, "stays stopped"));
		/* Such a link cannot be made again: neither side runs on a guess. */
		if (!from_runs && !to_runs)
			assert_true(s < 0 && l < 0 && strstr(load_err.message, "stays stopped"));
		lost_between |= !from_runs && !to_runs;
		assert_chain_intact(p.from, "link lost");
		pair_close(&p);
	}
	assert_true(lost_after_end && lost_before_end && lost_between);
}

/* However many pings came before: the last word has room. */
static void test_shut_always_fits(void **state)
{
	struct return_path rp = { 0 };
	struct vfmig_error err;
	int r;
	(void)state;
	while ((r = return_path_put(&rp, WIRE_RETURN_PONG, 1, &err)) == 0)
		;
	assert_int_equal(r, -ENOBUFS);
	assert_int_equal(return_path_put(&rp, WIRE_RETURN_SHUT, 0, &err), 0);
}

/* Two were saved, one is wanted: over a link that says "loaded" the other one would be lost. */
static void test_nobody_takes_the_second(void **state)
{
	struct pair p;
	struct vfmig_error save_err, load_err;
	struct vfmig_status status;
	(void)state;
	pair_open(&p, "size=256K,section=64K,rate=1");
	struct vfmig_device *second = open_sim(SMALL);
	assert_int_equal(vfmig_save_add_device(p.save, second, "0000:00:02.0/vfio", &save_err), 0);
	assert_int_equal(drive_until_save_ends(&p, &save_err, &load_err), -ECONNABORTED);
	vfmig_save_status(p.save, &status);
	assert_true(status.source_may_run);
	assert_int_equal(sim_state(second), VFMIG_STATE_RUNNING);
	assert_works(p.from);
	pair_close(&p);
	vfmig_device_close(second);
}

/* A loader that is given up without a word more says so, and the source runs again. */
static void test_freed_loader(void **state)
{
	struct pair p;
	struct vfmig_error err;
	struct vfmig_status status;
	(void)state;
	pair_open(&p, "size=256K,section=64K,rate=1");
	int s = 0;
	for (int i = 0; i < 10; i++) {
		assert_true(vfmig_save_step(p.save, &err) >= 0);
		assert_true(vfmig_load_step(p.load, &err) >= 0);
	}
	vfmig_load_free(p.load);
	p.load = NULL;
	while (s >= 0)
		s = vfmig_save_step(p.save, &err);
	assert_int_equal(s, -ECONNABORTED);
	vfmig_save_status(p.save, &status);
	assert_true(status.source_may_run);
	assert_works(p.from);
	pair_close(&p);
}

/* One end after the other as far as it goes, and then when what it waits for has come. */
static void move_by_polling(struct pair *p)
{
	struct vfmig_error err;
	int s = VFMIG_STEP_AGAIN, l = VFMIG_STEP_AGAIN;
	while (s != VFMIG_STEP_DONE || l != VFMIG_STEP_DONE) {
		struct pollfd fds[2] = { { .fd = -1 }, { .fd = -1 } };
		while (s == VFMIG_STEP_AGAIN)
			s = vfmig_save_step(p->save, &err);
		while (l == VFMIG_STEP_AGAIN)
			l = vfmig_load_step(p->load, &err);
		if (s < 0 || l < 0)
			fail_msg("%s", err.message);
		if (s == VFMIG_STEP_WAIT)
			fds[0].fd = vfmig_save_wait(p->save, &fds[0].events);
		if (l == VFMIG_STEP_WAIT)
			fds[1].fd = vfmig_load_wait(p->load, &fds[1].events);
		if (fds[0].fd >= 0 || fds[1].fd >= 0)
			assert_true(poll(fds, 2, 10000) > 0);
		s = fds[0].revents ? VFMIG_STEP_AGAIN : s;
		l = fds[1].revents ? VFMIG_STEP_AGAIN : l;
	}
}

/* With hardly any room in the socket, so that one or the other of these waits for it at the very end of the stream. */
static void test_waits_for_room_to_the_last_byte(void **state)
{
	(void)state;
	for (int kib = 64; kib <= 128; kib += 4) {
		struct pair p;
		char from[64], to[64];
		int smallest = 1;
		snprintf(from, sizeof(from), "size=%dK,section=64K,rate=1,start", kib);
		snprintf(to, sizeof(to), "size=%dK,section=64K,rate=1", kib);
		pair_open_size(&p, from, to);
		assert_int_equal(setsockopt(p.save_link->wait_fd, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest)),
				 0);
		move_by_polling(&p);
		assert_int_equal(sim_state(p.to), VFMIG_STATE_RUNNING);
		pair_close(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shut_always_fits),
		cmocka_unit_test(test_nobody_takes_the_second),
		cmocka_unit_test(test_freed_loader),
		cmocka_unit_test(test_both_ends_in_one_event_loop),
		cmocka_unit_test(test_waits_for_room_to_the_last_byte),
		cmocka_unit_test(test_refused_source_runs_again),
		cmocka_unit_test(test_lost_link),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
