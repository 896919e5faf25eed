/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sim_prove.c: the proof finds a page altered, a step repeated, a step lost; and right work right. */
#include "by_hand.h"

#define SLOTS 256u
#define STEPS 200u

struct fixture {
	struct sim_work work;
	struct prove_claim claim;
	struct prove_log log;
};

static void claim_of(const struct sim_work *w, struct prove_claim *c)
{
	*c = (struct prove_claim){ .name = "device", .seed = w->pages.seed, .state_bytes = w->pages.bytes,
				   .step = w->step, .chain = w->chain, .digest = w->pages.digest };
}

static void log_step(struct fixture *f)
{
	sim_log_put(f->work.step, f->work.chain, f->log.entries + f->work.step % SLOTS * SIM_LOG_ENTRY);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(sim_work_init(&f->work, 16 * 1024, 3), 0);
	f->log.count = SLOTS;
	f->log.entries = calloc(SLOTS, SIM_LOG_ENTRY);
	assert_non_null(f->log.entries);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	sim_work_destroy(&f->work);
	prove_log_clear(&f->log);
	free(f);
	return 0;
}

static void work(struct fixture *f, unsigned int steps)
{
	for (unsigned int i = 0; i < steps; i++) {
		sim_work_step(&f->work);
		log_step(f);
	}
}

/* What the proof says of the device as it is now. */
static void assert_proof(struct fixture *f, int expected, const char *says)
{
	struct vfmig_error err = { 0 };

	claim_of(&f->work, &f->claim);
	int r = prove_log_scan(&f->log, &err);
	if (r == 0)
		r = prove_run(&f->claim, 1, &f->log, 1, NULL, NULL, &err);
	if (r != expected || (says && !strstr(err.message, says)))
		fail_msg("%d \"%s\", expected %d \"%s\"", r, err.message, expected, says ? says : "");
}

static void test_right_work_is_right(void **state)
{
	work(*state, STEPS);
	assert_proof(*state, 0, NULL);
}

static void test_page_altered(void **state)
{
	struct fixture *f = *state;
	uint8_t page[SIM_PAGE_SIZE];

	work(f, STEPS / 2);
	sim_pages_get(&f->work.pages, 2, page);
	page[100] ^= 4;
	sim_pages_put(&f->work.pages, 2, page);
	assert_proof(f, -EBADMSG, "pages are not what they should be"); /* at once */
	work(f, STEPS / 2);
	assert_proof(f, -EBADMSG, "has chain"); /* and in the chain ever after */
}

/* Values worked out once and written down: state that was saved by an older version must go on as it would have. */
static void test_chain_is_what_it_always_was(void **state)
{
	struct fixture *f = *state;

	work(f, STEPS);
	assert_true(f->work.chain == UINT64_C(0x3db1bfebf668020d));
	assert_true(f->work.pages.digest == UINT64_C(0x1e1b12e2b9311794));
}

static void test_step_lost(void **state)
{
	struct fixture *f = *state;

	work(f, STEPS / 2);
	f->work.step++;
	work(f, STEPS / 2);
	assert_proof(f, -EBADMSG, "step 101 is missing");
}

static void test_step_repeated(void **state)
{
	struct fixture *f = *state;

	work(f, STEPS / 2);
	f->work.step--;
	work(f, STEPS / 2);
	assert_proof(f, -EBADMSG, "log: step 100 has chain");
}

static void test_chain_without_log(void **state)
{
	struct fixture *f = *state;
	struct vfmig_error err = { 0 };

	work(f, STEPS);
	f->work.step--;
	work(f, 1);
	claim_of(&f->work, &f->claim);
	assert_int_equal(prove_run(&f->claim, 1, NULL, 0, NULL, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "at step 200 the chain is"));
}

static void test_log_entry_altered_or_misplaced(void **state)
{
	struct fixture *f = *state;
	uint8_t *entry = f->log.entries + 50 * SIM_LOG_ENTRY;

	work(f, STEPS);
	entry[17] ^= 1;
	assert_proof(f, -EBADMSG, "log slot 50 holds no whole entry");
	entry[17] ^= 1;
	memcpy(entry, f->log.entries + 51 * SIM_LOG_ENTRY, SIM_LOG_ENTRY);
	assert_proof(f, -EBADMSG, "log slot 50 holds step 51");
	memset(entry, 0, SIM_LOG_ENTRY);
	assert_proof(f, -EBADMSG, "step 50 is missing");
}

static void test_log_of_more_than_was_done(void **state)
{
	struct fixture *f = *state;

	work(f, STEPS);
	sim_log_put(220, 1, f->log.entries + 220 * SIM_LOG_ENTRY);
	assert_proof(f, -EBADMSG, "holds step 220, but only 200 were done");
}

static void test_handover(void **state)
{
	static const struct {
		uint64_t resumed, loads;
		const char *says;
	} cases[] = {
		{ 100, 1, NULL }, { 99, 1, "steps repeated" }, { 101, 1, "steps lost" }, { 100, 0, "not been loaded" }
	};
	struct fixture *f = *state;
	struct prove_claim claims[2];

	work(f, STEPS / 2);
	claim_of(&f->work, &claims[0]);
	work(f, STEPS / 2);
	claim_of(&f->work, &claims[1]);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vfmig_error err = { 0 };
		claims[1].resumed_step = cases[i].resumed;
		claims[1].loads = cases[i].loads;
		int r = prove_run(claims, 2, NULL, 0, NULL, NULL, &err);
		assert_int_equal(r, cases[i].says ? -EBADMSG : 0);
		if (cases[i].says && !strstr(err.message, cases[i].says))
			fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_right_work_is_right, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_chain_is_what_it_always_was, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_page_altered, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_step_lost, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_step_repeated, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_chain_without_log, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_log_entry_altered_or_misplaced, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_log_of_more_than_was_done, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_handover, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
