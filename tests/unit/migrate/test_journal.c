/* SPDX-License-Identifier: BSD-3-Clause */
/* test_journal.c: what a journal says after a write that succeeded, and after one that did not. */
#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "migrate/journal.h"

#define DIGEST "0123456789abcdef0123456789abcdef"

struct fixture {
	char dir[64], path[160], session[SESSION_TEXT];
	struct journal *journal;
};

static int create(const struct fixture *f, struct journal **ret, struct vfmig_error *err)
{
	const struct journal_head head = {
		.session = f->session, .side = HANDOVER_SOURCE, .order = 1, .link = "unix:/l"
	};
	return journal_create(f->dir, &head, ret, err);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct vfmig_error err;
	strcpy(f->dir, "/tmp/vfmig-journal-XXXXXX");
	*state = f;
	if (!mkdtemp(f->dir) || session_new(f->session, &err) < 0)
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/%s.source", f->dir, f->session);
	if (create(f, &f->journal, &err) < 0)
		return -1;
	return journal_write(f->journal, HANDOVER_STOPPED, NULL, &err);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	journal_close(f->journal);
	unlink(f->path);
	int r = rmdir(f->dir);
	free(f);
	return r;
}

static enum handover_state said(const struct fixture *f)
{
	struct journal_record record;
	struct vfmig_error err;
	int r = journal_read(f->dir, f->session, HANDOVER_SOURCE, &record, &err);
	if (r == -ENOENT)
		return HANDOVER_NONE;
	if (r < 0)
		fail_msg("%s", err.message);
	enum handover_state state = record.state;
	journal_record_clear(&record);
	return state;
}

static void set_limit(rlim_t bytes)
{
	struct rlimit limit;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* As a full disk: files cannot grow, but by `room` bytes from where the journal is. */
static void limit_files(const struct fixture *f, rlim_t room)
{
	struct stat st;
	assert_int_equal(stat(f->path, &st), 0);
	set_limit((rlim_t)st.st_size + room);
}

static void test_states_last(void **state)
{
	struct fixture *f = *state;
	struct journal_record record;
	struct vfmig_error err;
	assert_int_equal(said(f), HANDOVER_STOPPED);
	const struct journal_line line = { .digest = DIGEST };
	assert_int_equal(journal_write(f->journal, HANDOVER_DECIDED, &line, &err), 0);
	assert_int_equal(journal_read(f->dir, f->session, HANDOVER_SOURCE, &record, &err), 0);
	assert_int_equal(record.state, HANDOVER_DECIDED);
	assert_string_equal(record.digest, DIGEST);
	assert_string_equal(record.link, "unix:/l");
	assert_true(record.busy);
	journal_record_clear(&record);
}

static void test_a_session_has_one_owner(void **state)
{
	struct fixture *f = *state;
	struct journal_record record;
	struct journal *second;
	struct vfmig_error err;
	assert_int_equal(create(f, &second, &err), -EEXIST);
	assert_int_equal(journal_open(f->dir, f->session, HANDOVER_SOURCE, &second, &record, &err), -EBUSY);
	journal_close(f->journal);
	assert_int_equal(journal_open(f->dir, f->session, HANDOVER_SOURCE, &f->journal, &record, &err), 0);
	assert_int_equal(record.state, HANDOVER_STOPPED);
	journal_record_clear(&record);
}

/* Wherever the disk becomes full in a line: the one before counts, and the next one that has room does. */
static void test_disk_full(void **state)
{
	struct fixture *f = *state;
	struct vfmig_error err;
	for (rlim_t room = 0; room < 30; room += 7) {
		limit_files(f, room);
		assert_int_equal(journal_write(f->journal, HANDOVER_DECIDED, NULL, &err), -EFBIG);
		assert_non_null(strstr(err.message, f->path));
		assert_int_equal(said(f), HANDOVER_STOPPED);
		/* Nothing was promised, so nothing has to be taken back. */
		assert_int_equal(journal_forget(f->journal, HANDOVER_RUNS_ON, &err), 0);
		assert_int_equal(said(f), HANDOVER_STOPPED);
	}
	set_limit(RLIM_INFINITY);
	assert_int_equal(journal_write(f->journal, HANDOVER_DECIDED, NULL, &err), 0);
	assert_int_equal(said(f), HANDOVER_DECIDED);
	/* What was promised can be taken back even so. */
	limit_files(f, 0);
	assert_int_equal(journal_forget(f->journal, HANDOVER_RUNS_ON, &err), 0);
	/* What is forgotten already promises nothing any more. */
	assert_int_equal(journal_forget(f->journal, HANDOVER_RUNS_ON, &err), 0);
	set_limit(RLIM_INFINITY);
	assert_int_equal(said(f), HANDOVER_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_states_last, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_session_has_one_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
