/* SPDX-License-Identifier: BSD-3-Clause */
/* test_exec.c: exec:, whose command's end says whether all is well. */
#include "link_harness.h"

#include <sys/wait.h>

static struct vfmig_link *start(const char *command, enum vfmig_direction direction)
{
	struct vfmig_link *l;
	struct vfmig_error err;
	if (open_link("exec:", command, direction, 0, &l, &err) < 0)
		fail_msg("%s", err.message);
	return l;
}

/* As a save does it: the command ends when it likes. */
static int finish(struct vfmig_link *l, struct vfmig_error *err)
{
	int r;
	while ((r = link_finish(l, err)) == -EAGAIN)
		wait_link(l, link_events(l, POLLOUT));
	return r;
}

static void expect_no_child(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void test_both_ways(void **state)
{
	struct scratch *s = *state;
	struct vfmig_error err;
	char command[256];
	snprintf(command, sizeof(command), "cat > %s", scratch_path(s, "out"));
	struct vfmig_link *l = start(command, VFMIG_SAVE);
	write_all(l, MESSAGE, strlen(MESSAGE));
	assert_int_equal(finish(l, &err), 0);
	vfmig_link_close(l);
	expect_no_child();

	snprintf(command, sizeof(command), "cat %s", s->path);
	l = start(command, VFMIG_LOAD);
	expect_message(l);
	vfmig_link_close(l);
	expect_no_child();
}

static void test_exit_status(void **state)
{
	(void)state;
	struct vfmig_error err;
	char buffer[64];
	struct vfmig_link *l = start("cat > /dev/null; exit 7", VFMIG_SAVE);
	write_all(l, MESSAGE, strlen(MESSAGE));
	assert_int_equal(finish(l, &err), -EIO);
	assert_error(err, "the command failed with exit status 7");
	vfmig_link_close(l);

	l = start("cat > /dev/null; kill -TERM $$", VFMIG_SAVE);
	write_all(l, MESSAGE, strlen(MESSAGE));
	assert_int_equal(finish(l, &err), -EIO);
	assert_error(err, "signal 15");
	vfmig_link_close(l);

	l = start("printf half; exit 3", VFMIG_LOAD);
	assert_int_equal(read_all(l, buffer, sizeof(buffer), &err), -EIO);
	assert_error(err, "exit status 3");
	vfmig_link_close(l);
	expect_no_child();
}

/* What the command says of itself is worth more than "broken pipe". */
static void test_dies_early(void **state)
{
	(void)state;
	struct vfmig_error err;
	struct vfmig_link *l = start("exit 5", VFMIG_SAVE);
	static char block[64 << 10];
	struct iovec iov = { block, sizeof(block) };
	ssize_t n;
	while ((n = link_writev(l, &iov, 1, &err)) > 0 || n == -EAGAIN)
		if (n == -EAGAIN)
			wait_link(l, POLLOUT);
	assert_int_equal(n, -EPIPE);
	assert_error(err, "exit status 5");
	vfmig_link_close(l);
	expect_no_child();
}

/* The output's end comes before the command's: there is something to wait for. */
static void test_end_is_waited_for(void **state)
{
	struct scratch *s = *state;
	struct vfmig_error err;
	char command[256], buffer[8];
	assert_int_equal(mkfifo(scratch_path(s, "gate"), 0600), 0);
	snprintf(command, sizeof(command), "printf ab; exec >&-; read line < %s; exit 4", s->path);
	struct vfmig_link *l = start(command, VFMIG_LOAD);
	int gate = open(s->path, O_WRONLY);
	size_t have = 0;
	ssize_t n;
	while (have < 2) {
		n = link_read(l, buffer, sizeof(buffer), &err);
		if (n == -EAGAIN)
			wait_link(l, POLLIN);
		else
			have += (size_t)n;
	}
	assert_int_equal(link_read(l, buffer, sizeof(buffer), &err), -EAGAIN);
	assert_int_equal(write(gate, "\n", 1), 1);
	close(gate);
	assert_int_equal(read_all(l, buffer, sizeof(buffer), &err), -EIO);
	assert_error(err, "exit status 4");
	vfmig_link_close(l);
}

/* A command that does not end by itself is ended, and only that one. */
static void test_killed(void **state)
{
	(void)state;
	struct vfmig_link *l = start("trap '' TERM PIPE; echo; exec sleep 1000", VFMIG_LOAD);
	wait_link(l, POLLIN);
	vfmig_link_close(l);
	expect_no_child();
}

/* Whoever may have the whole stream is neither waited for nor killed. */
static void test_left_alone(void **state)
{
	struct scratch *s = *state;
	struct vfmig_error err;
	char command[256];
	int status;
	assert_int_equal(mkfifo(scratch_path(s, "gate"), 0600), 0);
	snprintf(command, sizeof(command), "cat > /dev/null; read line < %s", s->path);
	struct vfmig_link *l = start(command, VFMIG_SAVE);
	write_all(l, MESSAGE, strlen(MESSAGE));
	assert_int_equal(link_finish(l, &err), -EAGAIN);
	link_leave_alone(l);
	vfmig_link_close(l);
	int gate = open(s->path, O_WRONLY);
	assert_int_equal(write(gate, "\n", 1), 1);
	close(gate);
	assert_true(waitpid(-1, &status, 0) > 0);
	assert_int_equal(status, 0);
	expect_no_child();
}

/* The caller's blocked or ignored SIGPIPE is not the command's. */
static void test_signals_are_default(void **state)
{
	(void)state;
	struct vfmig_error err;
	char buffer[64] = "";
	signal(SIGPIPE, SIG_IGN);
	struct vfmig_link *l = start("kill -PIPE $$; printf survived", VFMIG_LOAD);
	signal(SIGPIPE, SIG_DFL);
	assert_int_equal(read_all(l, buffer, sizeof(buffer), &err), -EIO);
	assert_error(err, "signal 13");
	vfmig_link_close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both_ways, scratch_setup, scratch_teardown),
		cmocka_unit_test(test_exit_status),
		cmocka_unit_test(test_dies_early),
		cmocka_unit_test_setup_teardown(test_end_is_waited_for, scratch_setup, scratch_teardown),
		cmocka_unit_test(test_killed),
		cmocka_unit_test_setup_teardown(test_left_alone, scratch_setup, scratch_teardown),
		cmocka_unit_test(test_signals_are_default),
	};
	return cmocka_run_group_tests_name("link exec", tests, NULL, NULL);
}
