/* SPDX-License-Identifier: BSD-3-Clause */
/* test_owner.c: a loaded device's fd is handed to a command or to a process, which then has it. */
#include "fake_kernel.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "device/device.h"
#include "device/kernel.h"
#include "tool/owner.h"

struct scene {
	char folder[32], uri[64];
	int listener;
	struct vfmig_device *device;
};

static int setup(void **state)
{
	static struct scene s;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct vfmig_error err;
	char fd_uri[32];
	memset(&fake, 0, sizeof(fake));
	fake.migration_flags = 1;
	fake.mig_state = VFMIG_STATE_RUNNING;
	fake.device_fd = memfd_create("device", MFD_CLOEXEC);
	snprintf(fd_uri, sizeof(fd_uri), "fd:%d", fake.device_fd);
	if (vfmig_device_open(fd_uri, NULL, &s.device, &err) < 0)
		fail_msg("%s", err.message);
	strcpy(s.folder, "/tmp/vfmig-owner-XXXXXX");
	assert_non_null(mkdtemp(s.folder));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/give", s.folder);
	snprintf(s.uri, sizeof(s.uri), "unix:%s/give", s.folder);
	s.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(s.listener, 1), 0);
	*state = &s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;
	char path[64];
	snprintf(path, sizeof(path), "%s/give", s->folder);
	vfmig_device_close(s->device);
	close(fake.device_fd);
	close(s->listener);
	unlink(path);
	rmdir(s->folder);
	return 0;
}

/* The receiving process: 0 when it holds the very device that was given. */
static int receive(const struct scene *s, bool take)
{
	struct stat given, got;
	int fd = -1, socket = accept(s->listener, NULL, NULL);
	if (!take) {
		char byte; /* what came is looked at and left */
		return recv(socket, &byte, 1, MSG_PEEK) != 1;
	}
	if (kernel_receive_fd(socket, clock_now_ns() + 20 * NS_PER_S, &fd, NULL) < 0)
		return 1;
	return fstat(fake.device_fd, &given) < 0 || fstat(fd, &got) < 0 || given.st_ino != got.st_ino;
}

static int give_to_child(const struct scene *s, bool take, struct vfmig_error *err)
{
	struct owner o = { .kind = OWNER_GIVE, .what = s->uri, .socket = -1 };
	int status;
	pid_t child = fork();
	if (child == 0)
		_exit(receive(s, take));
	int r = owner_prepare(&o, 5000, err);
	if (r == 0)
		r = owner_check(&o, &s->device, 1, err);
	if (r == 0)
		r = owner_give(&o, &s->device, 1, err);
	owner_close(&o);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	return r;
}

static void test_give(void **state)
{
	struct vfmig_error err;
	if (give_to_child(*state, true, &err) < 0)
		fail_msg("%s", err.message);
}

/* The message was in the socket's queue and died with it: nobody has the device. */
static void test_not_taken(void **state)
{
	struct vfmig_error err;
	assert_int_equal(give_to_child(*state, false, &err), -ECONNRESET);
	assert_non_null(strstr(err.message, "did not take the device"));
}

static void test_nobody_there(void **state)
{
	struct scene *s = *state;
	struct owner o = { .kind = OWNER_GIVE, .what = "unix:/nowhere/give", .socket = -1 };
	struct vfmig_error err;
	(void)s;
	assert_int_equal(owner_prepare(&o, 5000, &err), -ENOENT);
	assert_non_null(strstr(err.message, "nobody is there"));
	o.what = "/nowhere/give";
	assert_int_equal(owner_prepare(&o, 5000, &err), -EINVAL);
	owner_close(&o);
}

static int run(const struct scene *s, const char *command)
{
	struct owner o = { .kind = OWNER_EXEC, .what = command, .socket = -1 };
	int status;
	pid_t child = fork();
	if (child == 0) {
		owner_stay(&o, &s->device, 1, NULL);
		_exit(99); /* not reached */
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void test_exec(void **state)
{
	assert_int_equal(run(*state, "case $(readlink /proc/self/fd/$VFMIG_DEVICE_FD) in "
				     "/memfd:device*) exit 0;; *) exit 1;; esac"), 0);
	int status = run(*state, "kill -TERM $$"); /* no signal is left blocked */
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(test_give), TEST(test_not_taken), TEST(test_nobody_there),
					    TEST(test_exec) };
	return cmocka_run_group_tests_name("owner", tests, NULL, NULL);
}
