/* SPDX-License-Identifier: BSD-3-Clause */
/* test_kernel_migration.c: a kernel device that somebody else resets: what its state and its data fds tell of it. */
#include "fake_kernel.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "device/device.h"
#include "device/protocol.h"

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.device_fd = memfd_create("device", MFD_CLOEXEC);
	return fake.device_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	return close(fake.device_fd);
}

static struct access *open_device(void)
{
	struct access *a = NULL;
	struct vfmig_error err;
	char uri[32];
	snprintf(uri, sizeof(uri), "fd:%d", fake.device_fd);
	if (device_open_access(uri, NULL, &a, &err) < 0)
		fail_msg("%s", err.message);
	return a;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/*
 * A data fd tells that a transfer has begun. One that comes where none is due is of a device that was reset after the
 * last look; it is closed, and what was open is as it was.
 */
static void test_data_fd_not_due(void **state)
{
	(void)state;
	static const struct {
		enum vfmig_state first, then;
		bool open; /* the first one's fd, afterwards */
	} cases[] = {
		{ VFMIG_STATE_PRE_COPY, VFMIG_STATE_STOP_COPY, true },
		{ VFMIG_STATE_PRE_COPY, VFMIG_STATE_PRE_COPY_P2P, true },
		{ VFMIG_STATE_STOP_COPY, VFMIG_STATE_STOP, false },
		{ VFMIG_STATE_RESUMING, VFMIG_STATE_RUNNING, false },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vfmig_error err;
		int fds[2];
		struct access *a = open_device();
		assert_int_equal(pipe(fds), 0);
		fake.next_data_fd = fds[0];
		assert_int_equal(access_mig_state_set(a, cases[i].first, &err), 0);
		fake.next_data_fd = fds[1];
		assert_int_equal(access_mig_state_set(a, cases[i].then, &err), -EPROTO);
		assert_non_null(strstr(err.message, "where none is due: somebody else"));
		assert_false(is_open(fds[1]));
		assert_int_equal(is_open(fds[0]), cases[i].open);
		access_close(a);
	}
}

/* Where one is due it takes the place of one that is still open: after a reset by somebody else, or of a load. */
static void test_data_fd_of_another_transfer(void **state)
{
	(void)state;
	static const enum vfmig_state next[] = { VFMIG_STATE_PRE_COPY, VFMIG_STATE_RESUMING };
	for (size_t i = 0; i < 2; i++) {
		struct vfmig_error err;
		uint32_t now;
		int fds[2];
		struct access *a = open_device();
		assert_int_equal(pipe(fds), 0);
		fake.next_data_fd = fds[0];
		assert_int_equal(access_mig_state_set(a, VFMIG_STATE_STOP_COPY, &err), 0);
		if (next[i] == VFMIG_STATE_PRE_COPY)
			fake.mig_state = VFMIG_STATE_RUNNING;
		assert_int_equal(access_mig_state_get(a, &now, &err), 0);
		fake.next_data_fd = fds[1];
		assert_int_equal(access_mig_state_set(a, next[i], &err), 0);
		assert_false(is_open(fds[0]));
		assert_true(is_open(fds[1]));
		access_close(a);
	}
}

/* The look before each transition, and what comes between the look and the transition. */
static void test_changed_by_somebody_else(void **state)
{
	(void)state;
	struct vfmig_error err;
	struct protocol *p;
	int fds[2];
	struct access *a = open_device();
	assert_int_equal(pipe(fds), 0);
	fake.migration_flags = 5;
	fake.mig_state = VFMIG_STATE_RUNNING;
	assert_int_equal(feature_v2_open(a, &p, &err), 0);
	fake.next_data_fd = fds[0];
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_PRE_COPY, &err), 0);
	fake.mig_state = VFMIG_STATE_RUNNING;
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_STOP_COPY, &err), -ESTALE);
	assert_non_null(strstr(err.message, "the device is running, expected pre-copy: somebody else"));
	assert_int_equal(fake.mig_state, VFMIG_STATE_RUNNING);
	assert_int_equal(p->state, VFMIG_STATE_RUNNING);

	fake.mig_state = VFMIG_STATE_PRE_COPY;
	assert_int_equal(access_mig_state_set(a, VFMIG_STATE_PRE_COPY, &err), 0);
	p->state = VFMIG_STATE_PRE_COPY;
	fake.next_data_fd = fds[1];
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_STOP_COPY, &err), -EPROTO);
	assert_non_null(strstr(err.message, "(the device is now in stop-and-copy)"));
	assert_int_equal(p->state, VFMIG_STATE_STOP_COPY);
	p->ops->free(p);
	access_close(a);
}

/* A device that another program has brought into a transfer, and whose channel that one has. */
static void test_channel_of_another_program(void **state)
{
	struct vfmig_error err;
	struct access_precopy_info info;
	char byte, advice[320];
	(void)state;
	fake.mig_state = VFMIG_STATE_PRE_COPY;
	struct access *a = open_device();
	snprintf(advice, sizeof(advice), "vfmig recover %s puts the device right", a->name);
	assert_int_equal(access_mig_data_read(a, &byte, 1, &err), -EPROTO);
	assert_non_null(strstr(err.message, advice));
	assert_int_equal(access_mig_data_write(a, "x", 1, &err), -EPROTO);
	assert_non_null(strstr(err.message, advice));
	assert_int_equal(access_mig_precopy_info(a, &info, &err), -EPROTO);
	assert_non_null(strstr(err.message, advice));
	access_close(a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_data_fd_not_due),
		TEST(test_data_fd_of_another_transfer),
		TEST(test_changed_by_somebody_else),
		TEST(test_channel_of_another_program),
	};
	return cmocka_run_group_tests_name("kernel migration", tests, NULL, NULL);
}
