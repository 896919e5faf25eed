/* SPDX-License-Identifier: BSD-3-Clause */
/* test_file.c: file:, whose name exists only once the save is complete. */
#include "link_harness.h"

static void put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	fputs(text, f);
	fclose(f);
}

static void expect_file(const char *path, const char *text)
{
	char buffer[256] = "";
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(buffer, 1, sizeof(buffer) - 1, f);
	fclose(f);
	assert_int_equal(n, strlen(text));
	assert_string_equal(buffer, text);
}

static struct vfmig_link *start_save(const char *path)
{
	struct vfmig_link *l;
	struct vfmig_error err;
	if (open_link("file:", path, VFMIG_SAVE, 0, &l, &err) < 0)
		fail_msg("%s", err.message);
	write_all(l, MESSAGE, strlen(MESSAGE));
	return l;
}

static void test_save_and_load(void **state)
{
	struct scratch *s = *state;
	struct vfmig_error err;
	struct vfmig_link *l = start_save(scratch_path(s, "out"));
	struct stat st;
	assert_int_equal(l->wait_fd, -1);
	assert_int_equal(access(s->path, F_OK), -1);
	assert_int_equal(link_finish(l, &err), 0);
	expect_file(s->path, MESSAGE);
	vfmig_link_close(l);
	expect_file(s->path, MESSAGE);
	assert_int_equal(scratch_count(s), 1);
	assert_int_equal(stat(s->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	assert_int_equal(open_link("file:", s->path, VFMIG_LOAD, 0, &l, &err), 0);
	assert_true(l->seekable);
	assert_int_equal(l->size, strlen(MESSAGE));
	expect_message(l);
	vfmig_link_close(l);
}

static void test_given_up(void **state)
{
	struct scratch *s = *state;
	vfmig_link_close(start_save(scratch_path(s, "out")));
	assert_int_equal(scratch_count(s), 0);

	put_file(s->path, "old");
	vfmig_link_close(start_save(s->path));
	expect_file(s->path, "old");
	assert_int_equal(scratch_count(s), 1);
}

static void test_replaces(void **state)
{
	struct scratch *s = *state;
	struct vfmig_error err;
	put_file(scratch_path(s, "out"), "old");
	struct vfmig_link *l = start_save(s->path);
	expect_file(s->path, "old");
	assert_int_equal(link_finish(l, &err), 0);
	vfmig_link_close(l);
	expect_file(s->path, MESSAGE);
}

static void test_symbolic_link(void **state)
{
	struct scratch *s = *state;
	struct vfmig_error err;
	char name[128];
	struct stat st;
	put_file(scratch_path(s, "out"), "old");
	snprintf(name, sizeof(name), "%s/name", s->dir);
	assert_int_equal(symlink("out", name), 0);
	struct vfmig_link *l = start_save(name);
	assert_int_equal(link_finish(l, &err), 0);
	vfmig_link_close(l);
	expect_file(s->path, MESSAGE);
	assert_int_equal(lstat(name, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	unlink(name);
}

static void test_not_regular(void **state)
{
	struct scratch *s = *state;
	struct vfmig_error err;
	struct vfmig_link *l = start_save("/dev/null");
	assert_int_equal(link_finish(l, &err), 0);
	vfmig_link_close(l);

	assert_int_equal(mkfifo(scratch_path(s, "fifo"), 0600), 0);
	assert_int_equal(open_link("file:", s->path, VFMIG_SAVE, 1, &l, &err), -ENXIO);
	int reader = open(s->path, O_RDONLY | O_NONBLOCK);
	l = start_save(s->path);
	assert_int_equal(link_finish(l, &err), 0);
	vfmig_link_close(l);
	assert_int_equal(link_from_fd(reader, "fifo", VFMIG_LOAD, &l, &err), 0);
	expect_message(l);
	vfmig_link_close(l);
	assert_int_equal(scratch_count(s), 1);
}

static void test_refused(void **state)
{
	struct scratch *s = *state;
	struct vfmig_error err;
	struct vfmig_link *l = NULL;
	assert_int_equal(open_link("file:", scratch_path(s, "none"), VFMIG_LOAD, 0, &l, &err), -ENOENT);
	assert_error(err, s->path);
	assert_int_equal(open_link("file:", scratch_path(s, "none/out"), VFMIG_SAVE, 0, &l, &err), -ENOENT);
	assert_int_equal(open_link("file:", s->dir, VFMIG_SAVE, 0, &l, &err), -EISDIR);
	assert_int_equal(open_link("file:", s->dir, VFMIG_LOAD, 0, &l, &err), -EISDIR);
	assert_null(l);
}

/* A full disk is reported where it happens and nothing stays behind. */
static void test_full_disk(void **state)
{
	(void)state;
	struct vfmig_error err;
	struct vfmig_link *l;
	struct iovec iov = { (void *)MESSAGE, strlen(MESSAGE) };
	assert_int_equal(open_link("file:", "/dev/full", VFMIG_SAVE, 0, &l, &err), 0);
	assert_int_equal(link_writev(l, &iov, 1, &err), -ENOSPC);
	assert_string_equal(err.message, "file:/dev/full: write: No space left on device");
	vfmig_link_close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_save_and_load, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_given_up, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_replaces, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_symbolic_link, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_not_regular, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_refused, scratch_setup, scratch_teardown),
		cmocka_unit_test(test_full_disk),
	};
	return cmocka_run_group_tests_name("link file", tests, NULL, NULL);
}
