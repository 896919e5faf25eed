/* SPDX-License-Identifier: BSD-3-Clause */
/* test_fd.c: pipes, sockets and files that are handed over, and null:. */
#include "link_harness.h"

static struct vfmig_link *from_fd(int fd, enum vfmig_direction direction)
{
	struct vfmig_link *l;
	struct vfmig_error err;
	if (link_from_fd(fd, "test", direction, &l, &err) < 0)
		fail_msg("%s", err.message);
	return l;
}

static void transfers(int save_fd, int load_fd, bool two_way)
{
	struct vfmig_link *save = from_fd(save_fd, VFMIG_SAVE), *load = from_fd(load_fd, VFMIG_LOAD);
	struct vfmig_error err;
	char byte;
	assert_int_equal(save->two_way, two_way);
	assert_int_equal(load->two_way, two_way);
	assert_false(load->seekable);
	assert_int_equal(link_read(load, &byte, 1, &err), -EAGAIN);
	write_all(save, MESSAGE, strlen(MESSAGE));
	assert_int_equal(link_finish(save, &err), 0);
	vfmig_link_close(save);
	expect_message(load);
	vfmig_link_close(load);
}

static void test_pipe(void **state)
{
	(void)state;
	int p[2];
	assert_int_equal(pipe(p), 0);
	transfers(p[1], p[0], false);
}

static void test_socket(void **state)
{
	(void)state;
	int p[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	transfers(p[1], p[0], true);
}

/* The other holders of a pipe must not find it non-blocking. */
static void test_flags_stay(void **state)
{
	(void)state;
	int p[2];
	assert_int_equal(pipe(p), 0);
	int others = dup(p[1]);
	struct vfmig_link *save = from_fd(p[1], VFMIG_SAVE);
	assert_int_equal(fcntl(others, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(save->wait_fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	vfmig_link_close(save);
	close(others);
	close(p[0]);
}

/* Fills the link until it says EAGAIN; how much went in. */
static size_t fill(struct vfmig_link *save)
{
	static char block[64 << 10];
	struct vfmig_error err;
	size_t total = 0;
	for (;;) {
		struct iovec iov = { block, sizeof(block) };
		ssize_t n = link_writev(save, &iov, 1, &err);
		if (n == -EAGAIN)
			return total;
		assert_true(n > 0);
		total += (size_t)n;
	}
}

static void full_then_room(int save_fd, int load_fd)
{
	static char buffer[1 << 20];
	struct vfmig_link *save = from_fd(save_fd, VFMIG_SAVE), *load = from_fd(load_fd, VFMIG_LOAD);
	struct vfmig_error err;
	size_t total = fill(save), got = 0;
	struct pollfd p = { .fd = save->wait_fd, .events = POLLOUT };
	assert_true(total > 0);
	assert_int_equal(poll(&p, 1, 0), 0);
	while (got < total) {
		ssize_t n = link_read(load, buffer, sizeof(buffer), &err);
		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_int_equal(got, total);
	wait_link(save, POLLOUT);
	assert_true(fill(save) > 0);
	vfmig_link_close(save);
	vfmig_link_close(load);
}

static void test_full(void **state)
{
	(void)state;
	int p[2];
	assert_int_equal(pipe(p), 0);
	full_then_room(p[1], p[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	full_then_room(p[1], p[0]);
}

static void reader_gone(int save_fd, int load_fd)
{
	struct vfmig_link *save = from_fd(save_fd, VFMIG_SAVE);
	struct iovec iov = { (void *)MESSAGE, strlen(MESSAGE) };
	struct vfmig_error err;
	close(load_fd);
	assert_int_equal(link_writev(save, &iov, 1, &err), -EPIPE);
	assert_string_equal(err.message,
			    "test: the reader is gone: it closed its end before the stream was complete");
	vfmig_link_close(save);
}

/* SIGPIPE has its default action here: one that came would end the test. */
static void test_sigpipe(void **state)
{
	(void)state;
	int p[2];
	sigset_t pending;
	assert_ptr_equal(signal(SIGPIPE, SIG_DFL), SIG_DFL);
	assert_int_equal(pipe(p), 0);
	reader_gone(p[1], p[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	reader_gone(p[1], p[0]);
	sigemptyset(&pending);
	sigpending(&pending);
	assert_false(sigismember(&pending, SIGPIPE));
}

/* One that somebody else caused and blocked is theirs to take. */
static void test_sigpipe_of_others(void **state)
{
	(void)state;
	sigset_t set, pending;
	const struct timespec now = { 0 };
	int p[2];
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_kill(pthread_self(), SIGPIPE);
	assert_int_equal(pipe(p), 0);
	reader_gone(p[1], p[0]);
	sigpending(&pending);
	assert_true(sigismember(&pending, SIGPIPE));
	assert_int_equal(sigtimedwait(&set, NULL, &now), SIGPIPE);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* A named pipe says so when it is opened again. */
static void test_reader_gone_before(void **state)
{
	struct scratch *s = *state;
	struct vfmig_link *l;
	struct vfmig_error err;
	assert_int_equal(mkfifo(scratch_path(s, "fifo"), 0600), 0);
	int reader = open(s->path, O_RDONLY | O_NONBLOCK);
	int writer = open(s->path, O_WRONLY);
	close(reader);
	assert_int_equal(link_from_fd(writer, "test", VFMIG_SAVE, &l, &err), -EPIPE);
	assert_error(err, "the reader is gone");
	assert_int_equal(fcntl(writer, F_GETFD), -1); /* taken */
}

/* A connection that is cut with bytes unread is reset, not ended. */
static void test_reset(void **state)
{
	(void)state;
	int p[2];
	char byte;
	struct vfmig_error err;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	struct vfmig_link *load = from_fd(p[0], VFMIG_LOAD);
	assert_int_equal(write(load->wait_fd, "x", 1), 1);
	close(p[1]);
	assert_int_equal(link_read(load, &byte, 1, &err), -ECONNRESET);
	assert_string_equal(err.message, "test: the connection was reset by the other side");
	vfmig_link_close(load);
}

/* A terminal, or whatever cannot be opened again: poll decides, little moves. */
static void test_shared(void **state)
{
	(void)state;
	static char buffer[16 << 10];
	struct vfmig_error err;
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	assert_true(master >= 0);
	assert_int_equal(grantpt(master) | unlockpt(master), 0);
	int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	struct vfmig_link *load = from_fd(slave, VFMIG_LOAD);
	assert_int_equal(link_read(load, buffer, sizeof(buffer), &err), -EAGAIN);
	assert_int_equal(write(master, "line\n", 5), 5);
	wait_link(load, POLLIN);
	assert_int_equal(link_read(load, buffer, sizeof(buffer), &err), 5);
	vfmig_link_close(load);
	close(master);
}

static void test_file_fd(void **state)
{
	struct scratch *s = *state;
	char uri[32], byte;
	struct vfmig_link *l;
	struct vfmig_error err;
	int fd = open(scratch_path(s, "f"), O_RDWR | O_CREAT, 0600);
	struct vfmig_link *save = from_fd(dup(fd), VFMIG_SAVE);
	assert_int_equal(save->wait_fd, -1);
	write_all(save, MESSAGE, strlen(MESSAGE));
	assert_int_equal(link_finish(save, &err), 0);
	vfmig_link_close(save);

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	snprintf(uri, sizeof(uri), "fd:%d", fd);
	assert_int_equal(vfmig_link_open(uri, VFMIG_LOAD, NULL, &l, &err), 0);
	assert_true(l->seekable);
	assert_int_equal(l->size, strlen(MESSAGE));
	assert_int_equal(pread(l->file_fd, &byte, 1, 1), 1);
	assert_int_equal(byte, MESSAGE[1]);
	expect_message(l);
	vfmig_link_close(l);
	assert_int_equal(fcntl(fd, F_GETFD), -1);

	/* Not from its beginning: only forwards. */
	fd = open(s->path, O_RDONLY);
	assert_int_equal(lseek(fd, 5, SEEK_SET), 5);
	l = from_fd(fd, VFMIG_LOAD);
	assert_false(l->seekable);
	vfmig_link_close(l);
}

static void test_refused(void **state)
{
	struct scratch *s = *state;
	static const char *const uris[] = { "fd:", "fd:x", "fd:-1", "fd:1x", "fd:99999999999", "nonsense:", "", "-x",
					    "null:x", "file:", "exec:", "unix:", "tcp:", "tcp:host", "tcp:host:",
					    "tcp:::1:5", "tcp:[::1]5" };
	struct vfmig_link *l = NULL;
	struct vfmig_error err;
	for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
		if (vfmig_link_open(uris[i], VFMIG_SAVE, NULL, &l, &err) != -EINVAL)
			fail_msg("'%s' was not refused with EINVAL", uris[i]);
		assert_error(err, uris[i]);
	}
	assert_int_equal(vfmig_link_open("fd:987", VFMIG_SAVE, NULL, &l, &err), -EBADF);
	int p[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, p), 0);
	assert_int_equal(link_from_fd(p[0], "test", VFMIG_SAVE, &l, &err), -EINVAL);
	close(p[1]);
	int fd = open(scratch_path(s, "f"), O_RDONLY | O_CREAT, 0600);
	assert_int_equal(link_from_fd(fd, "test", VFMIG_SAVE, &l, &err), -EBADF);
	assert_error(err, "not open for writing");
	assert_int_equal(link_from_fd(open(s->dir, O_RDONLY), "test", VFMIG_LOAD, &l, &err), -EISDIR);
	assert_null(l);
}

static void test_null(void **state)
{
	(void)state;
	struct vfmig_link *l;
	struct vfmig_error err;
	char byte;
	assert_int_equal(vfmig_link_open("null:", VFMIG_SAVE, NULL, &l, &err), 0);
	struct iovec iov[2] = { { (void *)"ab", 2 }, { (void *)"cde", 3 } };
	assert_int_equal(link_writev(l, iov, 2, &err), 5);
	assert_int_equal(link_finish(l, &err), 0);
	vfmig_link_close(l);
	assert_int_equal(vfmig_link_open("null:", VFMIG_LOAD, NULL, &l, &err), 0);
	assert_int_equal(link_read(l, &byte, 1, &err), 0);
	vfmig_link_close(l);
	vfmig_link_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pipe),
		cmocka_unit_test(test_socket),
		cmocka_unit_test(test_flags_stay),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_sigpipe),
		cmocka_unit_test(test_sigpipe_of_others),
		cmocka_unit_test_setup_teardown(test_reader_gone_before, scratch_setup, scratch_teardown),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_shared),
		cmocka_unit_test_setup_teardown(test_file_fd, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_refused, scratch_setup, scratch_teardown),
		cmocka_unit_test(test_null),
	};
	return cmocka_run_group_tests_name("link fd", tests, NULL, NULL);
}
