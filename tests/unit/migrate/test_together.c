/* SPDX-License-Identifier: BSD-3-Clause */
/* test_together.c: devices change their state at the same time, what a VMM brings does so alone and in its place. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "migrate/together.h"

#define DEVICES 64

/* A place where everybody waits until `expected` are there. */
struct meeting {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int expected, here;
};

static struct meeting meeting = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };
static int under_way; /* atomic: devices inside of their function */
static int called[DEVICES + 2];
static pthread_t caller;

/* A generous limit, so that devices that come one by one are a failure and not a hang. */
static int meet(struct vfmig_error *err)
{
	struct timespec until;
	int r = 0;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	pthread_mutex_lock(&meeting.lock);
	meeting.here++;
	pthread_cond_broadcast(&meeting.changed);
	while (meeting.here < meeting.expected && r == 0)
		r = pthread_cond_timedwait(&meeting.changed, &meeting.lock, &until);
	if (r)
		meeting.expected = 0; /* nobody else has to wait for that */
	pthread_mutex_unlock(&meeting.lock);
	return r ? error_set(err, -ETIMEDOUT, "the others did not come") : 0;
}

static int device_stop(void *opaque, struct vfmig_error *err)
{
	int *mine = opaque;
	__atomic_add_fetch(&under_way, 1, __ATOMIC_ACQ_REL);
	int r = meet(err);
	*mine = 1;
	__atomic_sub_fetch(&under_way, 1, __ATOMIC_ACQ_REL);
	return r;
}

static int device_fails(void *opaque, struct vfmig_error *err)
{
	int r = device_stop(opaque, err);
	return r < 0 ? r : error_set(err, -EIO, "device %d fails", (int)((int *)opaque - called));
}

static int vmm_stop(void *opaque, struct vfmig_error *err)
{
	int *mine = opaque;
	(void)err;
	assert_int_equal(__atomic_load_n(&under_way, __ATOMIC_ACQUIRE), 0);
	assert_true(pthread_equal(pthread_self(), caller));
	*mine = 1;
	return 1; /* not negative: done */
}

static int wrong_phase(void *opaque, struct vfmig_error *err)
{
	(void)opaque;
	return error_set(err, -EINVAL, "another phase's function");
}

static const struct protocol some_protocol;

static struct participant list[DEVICES + 2];

static struct participants make(size_t count, int (*stop)(void *, struct vfmig_error *))
{
	memset(list, 0, sizeof(list));
	memset(called, 0, sizeof(called));
	caller = pthread_self();
	for (size_t i = 0; i < count; i++) {
		list[i].protocol = &some_protocol;
		list[i].opaque = &called[i];
		list[i].ops.stop = stop;
		list[i].ops.stop_prepare = list[i].ops.start = list[i].ops.start_prepare = list[i].settle = wrong_phase;
	}
	meeting.here = 0;
	meeting.expected = (int)count;
	return (struct participants) { .list = list, .count = count };
}

static size_t num_called(void)
{
	size_t n = 0;
	for (size_t i = 0; i < sizeof(called) / sizeof(*called); i++)
		n += (size_t)called[i];
	return n;
}

static void test_all_at_the_same_time(void **state)
{
	struct vfmig_error err = { 0 };
	(void)state;
	struct participants p = make(DEVICES, device_stop);
	assert_int_equal(participants_together(&p, TOGETHER_STOP, &err), 0);
	assert_int_equal(num_called(), DEVICES);
	p = make(1, device_stop);
	assert_int_equal(participants_together(&p, TOGETHER_STOP, &err), 0);
	assert_int_equal(num_called(), 1);
}

/* vCPUs first, two devices, something of the VMM's, two devices. */
static void test_vmm_in_its_place_alone(void **state)
{
	struct vfmig_error err = { 0 };
	(void)state;
	struct participants p = make(6, device_stop);
	list[0].protocol = list[3].protocol = NULL;
	list[0].ops.stop = list[3].ops.stop = vmm_stop;
	meeting.expected = 2; /* the later two find it reached already */
	assert_int_equal(participants_together(&p, TOGETHER_STOP, &err), 0);
	assert_int_equal(num_called(), 6);
	list[0].ops.stop_prepare = NULL;
	assert_int_equal(participants_together(&p, TOGETHER_STOP_PREPARE, &err), -EINVAL);
}

/* The first failure in order is told, when all of them have come back; what comes behind is not begun. */
static void test_failure(void **state)
{
	struct vfmig_error err = { 0 };
	(void)state;
	struct participants p = make(5, device_stop);
	list[1].ops.stop = list[2].ops.stop = device_fails;
	list[4].protocol = NULL;
	list[4].ops.stop = vmm_stop;
	meeting.expected = 4;
	assert_int_equal(participants_together(&p, TOGETHER_STOP, &err), -EIO);
	assert_string_equal(err.message, "device 1 fails");
	assert_int_equal(err.code, -EIO);
	assert_int_equal(num_called(), 4);
	assert_int_equal(called[4], 0);
}

/* Taken back at the same time, too; one that cannot be keeps none of the others; who was not begun is left alone. */
static void test_undo(void **state)
{
	struct vfmig_error err;
	(void)state;
	struct participants p = make(6, wrong_phase);
	for (size_t i = 0; i < 6; i++) {
		list[i].begun = i != 1;
		list[i].ops.undo = device_stop;
	}
	list[0].protocol = NULL; /* its turn comes when all devices are back */
	list[0].ops.undo = vmm_stop;
	list[3].ops.undo = list[4].ops.undo = device_fails;
	meeting.expected = 4;
	assert_false(participants_undo(&p, &err));
	assert_string_equal(err.message, "device 4 fails"); /* the last one first */
	assert_int_equal(num_called(), 5);
	assert_int_equal(called[1], 0);
	p = make(2, wrong_phase);
	list[1].begun = true;
	list[1].ops.undo = device_stop;
	meeting.expected = 1;
	assert_true(participants_undo(&p, &err));
	assert_int_equal(num_called(), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_at_the_same_time),
		cmocka_unit_test(test_vmm_in_its_place_alone),
		cmocka_unit_test(test_failure),
		cmocka_unit_test(test_undo),
	};
	return cmocka_run_group_tests_name("together", tests, NULL, NULL);
}
