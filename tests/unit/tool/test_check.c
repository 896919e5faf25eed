/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_check.c: every check of vfmig check can fail. A device that breaks one rule, and what fails then: what is about
 * that rule, and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "liar.h"
#include "sim/sim_access.h"
#include "tool/check.h"

/* ------------------------------------------------------------------ the rules */

#define V1 "size=64K,section=8K"
#define V2 "interface=v2,size=64K"
#define S(state) VFMIG_STATE_##state

static const struct row {
	const char *options;
	enum lie lie;
	unsigned int a, b;
	const char *only; /* the lie is told to this check alone; NULL: to all */
	const char *fail; /* what fails, in the order of the table */
} rows[] = {
	{ V1, NO_LIE, 0, 0, NULL, "" },
	{ V2, NO_LIE, 0, 0, NULL, "" },
	{ V2, FLAGS_UNKNOWN, 0, 0, NULL, "flags" },
	{ V2, PROBE_REFUSED, 0, 0, NULL, "features" },
	{ V2, UNKNOWN_ANSWERED, 0, 0, NULL, "unknown-feature" },
	{ V2, SET_FLAGS_TAKEN, 0, 0, NULL, "wrong-operation" },
	{ V2, SIZE_TOO_SMALL, 0, 0, NULL, "stop-copy-length" },
	{ V2, ARC_FAILS, S(RUNNING), S(RUNNING_P2P), NULL, "arc-running-to-running-p2p" },
	{ V2, ARC_FAILS, S(STOP), S(RUNNING_P2P), NULL, "arc-stop-to-running-p2p" },
	{ V2, ARC_FAILS, S(PRE_COPY), S(PRE_COPY_P2P), NULL, "arc-pre-copy-to-pre-copy-p2p" },
	{ V2, ARC_FAILS, S(RUNNING_P2P), S(PRE_COPY_P2P), NULL, "arc-running-p2p-to-pre-copy-p2p" },
	{ V2, ARC_FAILS, S(PRE_COPY_P2P), S(RUNNING_P2P), NULL, "arc-pre-copy-p2p-to-running-p2p" },
	{ V2, ARC_FAILS, S(RESUMING), S(STOP), NULL, "arc-resuming-to-stop" },
	{ V2, ARC_DOES_NOTHING, S(STOP), S(STOP_COPY), NULL, "arc-stop-to-stop-copy" },
	{ V2, ARC_DOES_NOTHING, S(PRE_COPY), S(PRE_COPY_P2P), NULL, "arc-pre-copy-to-pre-copy-p2p" },
	{ V2, SAME_REFUSED, S(RUNNING), 0, NULL, "same-running" },
	{ V2, SAME_REFUSED, S(STOP), 0, NULL, "same-stop" },
	{ V2, SAME_REFUSED, S(STOP_COPY), 0, NULL, "again-in-transfer same-stop-copy" },
	{ V2, SAME_REFUSED, S(RESUMING), 0, NULL, "same-resuming" },
	{ V2, SAME_REFUSED, S(RUNNING_P2P), 0, NULL, "same-running-p2p" },
	{ V2, SAME_REFUSED, S(PRE_COPY), 0, NULL, "same-pre-copy" },
	{ V2, SAME_REFUSED, S(PRE_COPY_P2P), 0, NULL, "same-pre-copy-p2p" },
	{ V2, SAME_BEGINS_ANEW, 0, 0, NULL, "again-in-transfer" },
	{ V2, WAYS_REFUSED, S(RUNNING), 0, NULL, "ways-from-running" },
	{ V2, WAYS_REFUSED, S(STOP), 0, NULL, "ways-from-stop" },
	{ V2, WAYS_REFUSED, S(STOP_COPY), 0, NULL, "ways-from-stop-copy" },
	{ V2, WAYS_REFUSED, S(RESUMING), 0, NULL, "ways-from-resuming" },
	{ V2, WAYS_REFUSED, S(RUNNING_P2P), 0, NULL, "ways-from-running-p2p" },
	{ V2, WAYS_REFUSED, S(PRE_COPY), 0, NULL, "ways-from-pre-copy pre-copy-goes-on" },
	{ V2, WAYS_REFUSED, S(PRE_COPY_P2P), 0, NULL, "ways-from-pre-copy-p2p" },
	{ V2, ANY_REQUEST, S(RUNNING), 0, NULL, "refused-in-running" },
	{ V2, ANY_REQUEST, S(STOP), 0, NULL, "refused-in-stop" },
	{ V2, ANY_REQUEST, S(STOP_COPY), 0, NULL, "refused-in-stop-copy" },
	{ V2, ANY_REQUEST, S(RESUMING), 0, "refused-in-resuming", "refused-in-resuming" },
	{ V2, ANY_REQUEST, S(RUNNING_P2P), 0, NULL, "refused-in-running-p2p" },
	{ V2, ANY_REQUEST, S(PRE_COPY), 0, NULL, "refused-in-pre-copy" },
	{ V2, ANY_REQUEST, S(PRE_COPY_P2P), 0, NULL, "refused-in-pre-copy-p2p" },
	{ V2, MOVED_BY_REFUSAL, S(PRE_COPY), 0, NULL, "refused-in-pre-copy" },
	{ V2, MOVED_BY_REFUSAL, S(RESUMING), 0, NULL,
	  "refused-in-resuming nothing-loaded truncated after-refusal" },
	{ V2, RESET_DOES_NOTHING, S(STOP), 0, NULL, "reset-in-stop" },
	{ V2, RESET_DOES_NOTHING, S(STOP_COPY), 0, "reset-in-stop-copy", "reset-in-stop-copy" },
	{ V2, RESET_DOES_NOTHING, S(RESUMING), 0, "reset-in-resuming", "reset-in-resuming" },
	{ V2, RESET_DOES_NOTHING, S(RUNNING_P2P), 0, NULL, "reset-in-running-p2p" },
	{ V2, RESET_DOES_NOTHING, S(PRE_COPY), 0, NULL, "reset-in-pre-copy" },
	{ V2, RESET_DOES_NOTHING, S(PRE_COPY_P2P), 0, NULL, "reset-in-pre-copy-p2p" },
	{ V2, RESET_UNSAID, 0, 0, NULL, "reset-flag" },
	{ V2, RESET_BREAKS_LOAD, 0, 0, "after-refusal", "after-refusal" },
	{ V2, RESET_BREAKS_LOAD, 0, 0, "cancel-resuming", "cancel-resuming" },
	{ V2, STATE_GOES_ON, 0, 0, NULL, "end-stays" },
	{ V2, STATE_CHANGES, 0, 0, "save-twice", "save-twice" },
	{ V2, DATA_OUTSIDE, 0, 0, NULL, "data-ends" },
	{ V2, WRITE_OUTSIDE, 0, 0, NULL, "data-ends" },
	{ V2, END_IN_PRECOPY, 0, 0, NULL, "pre-copy-enomsg pre-copy-p2p-enomsg" },
	{ V2, PRECOPY_ENDLESS, 0, 0, NULL, "pre-copy-enomsg pre-copy-p2p-enomsg pre-copy-info" },
	{ V2, PRECOPY_LOST, 0, 0, NULL, "pre-copy-goes-on pre-copy-p2p-goes-on" },
	{ V2, CANCEL_RESETS, S(PRE_COPY), 0, NULL, "cancel-pre-copy" },
	{ V2, CANCEL_RESETS, S(PRE_COPY_P2P), 0, NULL, "cancel-pre-copy-p2p" },
	{ V2, CANCEL_RESETS, S(STOP_COPY), 0, NULL, "cancel-stop-copy" },
	{ V2, WRITES_REFUSED, 1, 1, NULL, "load-by-bytes truncated" },
	{ V2, WRITES_REFUSED, 1021, 1021, NULL, "load-odd" },
	{ V2, WRITES_REFUSED, 66000, 1 << 20, NULL, "load-1-mib" },
	{ V2, ANYTHING_LOADED, 0, 0, NULL, "nothing-loaded truncated after-refusal" },
	{ V2, SURPLUS_TAKEN, 0, 0, NULL, "surplus" },
	{ V2, INITIAL_RISES, 0, 0, NULL, "pre-copy-info-falls" },
	{ V2, INFO_OUTSIDE, 0, 0, NULL, "pre-copy-info-outside" },
	{ V2, LOG_TWICE, 0, 0, NULL, "log-twice" },
	{ V2, LOG_AFTER_END, 0, 0, NULL, "log-ended" },
	{ V2, LOG_REPEATS, 0, 0, "log-forgets", "log-forgets" },
	{ V2, LOG_TOO_MUCH, 0, 0, NULL, "log-exact log-forgets" },
	{ V2, WORKS_ON, S(STOP), 0, NULL, "quiet-in-stop" },
	{ V2, WORKS_ON, S(RUNNING_P2P), 0, NULL, "quiet-in-running-p2p" },
	{ V2, NO_ANSWER, S(STOP), 0, NULL, "answers-in-stop" },
	{ V2, NO_ANSWER, S(RUNNING_P2P), 0, NULL, "answers-in-running-p2p" },
	{ V2, LEAKS_FDS, 0, 0, NULL, "leaks" },
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	{ V2, LEAKS_MEMORY, 0, 0, NULL, "leaks" },
#endif
	{ V2, LOAD_FAILS, 0, 0, "restored", "restored" },
	{ V1, REGION_READ_ONLY, 0, 0, NULL, "region" },
	{ V1, RESERVED_CHANGES, 0, 0, NULL, "reserved-bits" },
	{ V1, MAPPED_OTHERWISE, 0, 0, NULL, "mapping" },
	{ V1, V1_ANY_STATE, 0, 0, NULL,
	  "refused-in-running refused-in-stop refused-in-stop-copy refused-in-resuming refused-in-pre-copy" },
	{ V1, PENDING_IN_PRECOPY, 0, 0, NULL, "pre-copy-ends" },
};

static void judge(const struct row *row, char *failed, size_t room)
{
	static const volatile sig_atomic_t interrupted;
	struct liar l = { .access = { .ops = &liar_ops }, .a = row->a, .b = row->b };
	struct check_run run = { .iterations = 20, .limit_ns = UINT64_MAX, .interrupted = &interrupted };
	struct check_result result;

	assert_int_equal(sim_access_open(row->options, &l.real, NULL), 0);
	l.lie = row->only ? NO_LIE : row->lie;
	assert_int_equal(check_run_begin(&run, &l.access, NULL, NULL), 0);
	*failed = '\0';
	for (size_t i = 0; i < check_count; i++) {
		const struct check *c = &check_table[i];
		if (!(c->protocols & run.protocol))
			continue;
		l.lie = !row->only || !strcmp(row->only, c->name) ? row->lie : NO_LIE;
		check_run_one(&run, c, &result);
		size_t used = strlen(failed);
		if (result.verdict == CHECK_FAIL)
			snprintf(failed + used, room - used, "%s%s", used ? " " : "", c->name);
		if (result.verdict == CHECK_FAIL && getenv("VERBOSE"))
			print_message("%s: %s\n", c->name, result.why);
	}
	check_run_end(&run);
	access_close(l.real);
	free(l.reported);
	for (size_t i = 0; i < l.num_fds; i++)
		close(l.fds[i]);
	for (size_t i = 0; i < l.num_leaked; i++)
		free(l.leaked[i]);
}

static void each_lie_fails_what_is_about_it(void **state)
{
	unsigned int wrong = 0;
	char failed[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		judge(&rows[i], failed, sizeof(failed));
		if (!strcmp(failed, rows[i].fail))
			continue;
		print_message("lie %u(%u, %u) of %s fails \"%s\", expected \"%s\"\n", (unsigned int)rows[i].lie,
			      rows[i].a, rows[i].b, rows[i].options, failed, rows[i].fail);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

static bool named(const char *list, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = strstr(list, name); at; at = strstr(at + 1, name))
		if ((at == list || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
			return true;
	return false;
}

/*
 * What fails by a fault of the software device is tests/cli/check_faults.py's. Only a kernel device, or one of the
 * shim, has a data_fd.
 */
static void no_check_is_forgotten(void **state)
{
	static const char by_fault[] =
	    "state-read config-read config-write pending-bytes data-offset data-size data-read pending-falls "
	    "read-sizes reset data-write data-consumed load load-in-pieces pre-copy-info log time-arcs "
	    "time-requests time-reset arc-running-p2p-to-running arc-running-p2p-to-stop arc-running-to-stop "
	    "arc-stop-to-running arc-stop-copy-to-stop arc-running-to-stop-copy arc-stop-copy-to-running "
	    "arc-running-to-pre-copy arc-pre-copy-to-running arc-pre-copy-p2p-to-pre-copy "
	    "arc-pre-copy-p2p-to-stop-copy arc-pre-copy-to-stop-copy arc-stop-to-resuming arc-running-to-resuming "
	    "arc-resuming-to-running data-fd data-fd-ends";
	unsigned int forgotten = 0;

	(void)state;
	for (size_t i = 0; i < check_count; i++) {
		bool fails = named(by_fault, check_table[i].name);
		for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++)
			fails |= named(rows[j].fail, check_table[i].name);
		if (fails)
			continue;
		print_message("nothing fails %s\n", check_table[i].name);
		forgotten++;
	}
	assert_int_equal(forgotten, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_lie_fails_what_is_about_it),
		cmocka_unit_test(no_check_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
