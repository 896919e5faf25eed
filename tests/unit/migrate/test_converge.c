/* SPDX-License-Identifier: BSD-3-Clause */
/* test_converge.c: numbers in, decisions out: a link and a device of arithmetic, and their time. */
#include "harness.h"

#include "base/clock.h"
#include "migrate/converge.h"

#define MIB UINT64_C(1048576)
#define MS NS_PER_MS

static struct converge begun(uint64_t limit_ms, uint64_t timeout_ms)
{
	struct converge c = { .downtime_limit_ns = limit_ms * MS, .timeout_ns = timeout_ms * MS };
	converge_start(&c, 1000 * MS, 0);
	return c;
}

static void test_bandwidth_is_of_whole_windows(void **state)
{
	(void)state;
	struct converge c = begun(300, 0);
	converge_measure(&c, 1099 * MS, 50 * MIB);
	assert_int_equal(c.bandwidth, 0);
	converge_measure(&c, 1100 * MS, 100 * MIB);
	assert_int_equal(c.bandwidth, 1000 * MIB);
	converge_measure(&c, 1199 * MS, 100 * MIB);
	assert_int_equal(c.bandwidth, 1000 * MIB);
	converge_measure(&c, 1300 * MS, 101 * MIB); /* it follows the link down */
	assert_int_equal(c.bandwidth, 5 * MIB);
	converge_measure(&c, 1400 * MS, 201 * MIB); /* and believes what is better only after a second */
	assert_in_range(c.bandwidth, 800 * MIB, 900 * MIB);
	for (uint64_t i = 1; i <= 30; i++)
		converge_measure(&c, (1400 + 100 * i) * MS, (201 + 100 * i) * MIB);
	assert_in_range(c.bandwidth, 980 * MIB, 1000 * MIB);
}

static void test_answers_tell_what_has_arrived(void **state)
{
	(void)state;
	struct converge c = begun(300, 0);
	struct converge_pending p = { 0 };
	assert_true(converge_may_ask(&c, 1000 * MS));
	converge_ask(&c, 1000 * MS, 0);
	assert_false(converge_may_ask(&c, 1009 * MS)); /* not so soon again */
	converge_measure(&c, 1020 * MS, 8 * MIB); /* the link takes it, but nobody has answered */
	assert_int_equal(converge_downtime_ns(&c, &p), 0);
	converge_answer(&c, 1020 * MS);
	assert_int_equal(converge_downtime_ns(&c, &p), 20 * MS);
	converge_answer(&c, 1500 * MS); /* nobody asked */
	assert_int_equal(converge_downtime_ns(&c, &p), 20 * MS);
	c.agrees = true; /* once more there and back */
	assert_int_equal(converge_downtime_ns(&c, &p), 40 * MS);
	/* As long as it took when nothing was under way. */
	struct converge known = { .round_trip_ns = 5 * MS, .agrees = true };
	converge_start(&known, 1000 * MS, 0);
	converge_ask(&known, 1000 * MS, 0);
	converge_answer(&known, 1020 * MS);
	assert_int_equal(converge_downtime_ns(&known, &p), 25 * MS);
	c.agrees = false;

	/* 10 MiB were loaded in 100 ms, though 30 have been sent. */
	converge_ask(&c, 1020 * MS, 10 * MIB);
	converge_answer(&c, 1120 * MS);
	assert_int_equal(c.bandwidth, 100 * MIB);
	converge_measure(&c, 1120 * MS, 30 * MIB);
	assert_int_equal(c.bandwidth, 100 * MIB);
	assert_int_equal(converge_downtime_ns(&c, &p), 200 * MS);
	p.bytes = 5 * MIB;
	assert_int_equal(converge_downtime_ns(&c, &p), 250 * MS);
	converge_measure(&c, 1270 * MS, 30 * MIB); /* it has gone on since */
	assert_int_equal(converge_downtime_ns(&c, &p), 100 * MS);
	converge_measure(&c, 1400 * MS, 30 * MIB); /* but never less than the way takes */
	assert_int_equal(converge_downtime_ns(&c, &p), 70 * MS);
	converge_ask(&c, 1400 * MS, 30 * MIB);
	converge_measure(&c, 2400 * MS, 30 * MIB); /* an answer that is late */
	assert_int_equal(converge_downtime_ns(&c, &p), 1050 * MS);
}

static void test_many_questions(void **state)
{
	(void)state;
	struct converge c = begun(300, 0);
	struct converge_pending p = { 0 };
	uint64_t n = 0;
	for (; converge_may_ask(&c, (1000 + 10 * n) * MS); n++)
		converge_ask(&c, (1000 + 10 * n) * MS, n * MIB);
	assert_int_equal(n, CONVERGE_QUESTIONS);
	for (uint64_t i = 0; i < n; i++)
		converge_answer(&c, (1200 + 10 * i) * MS);
	assert_int_equal(c.bandwidth, 100 * MIB);
	assert_int_equal(c.lag_ns, 200 * MS);
	converge_measure(&c, (1200 + 10 * n) * MS, n * MIB);
	assert_int_equal(converge_downtime_ns(&c, &p), 200 * MS);
	assert_true(converge_may_ask(&c, 2000 * MS));
}

static void test_what_is_under_way_is_waited_for(void **state)
{
	(void)state;
	struct converge c = begun(100, 5000);
	struct converge_pending p = { .exact = true, .nothing_to_send = true };
	converge_ask(&c, 1000 * MS, 0);
	converge_answer(&c, 1020 * MS);
	converge_ask(&c, 1020 * MS, 10 * MIB);
	converge_answer(&c, 1120 * MS);
	converge_measure(&c, 1120 * MS, 30 * MIB);
	assert_int_equal(converge_decide(&c, 1120 * MS, &p), CONVERGE_DRAIN);
	assert_int_equal(converge_decide(&c, 7000 * MS, &p), CONVERGE_TIMED_OUT);
	converge_ask(&c, 1120 * MS, 30 * MIB);
	converge_answer(&c, 1320 * MS);
	converge_measure(&c, 1320 * MS, 30 * MIB);
	assert_int_equal(converge_decide(&c, 1320 * MS, &p), CONVERGE_SWITCH);
	c.downtime_limit_ns = MS; /* less than the way takes: waiting would not help */
	assert_int_equal(converge_decide(&c, 1320 * MS, &p), CONVERGE_SWITCH);
}

/* A link that takes 4 MiB before it is felt, and a way of 20 ms: is what is foretold at the switch what comes? */
static void test_a_link_with_queues(void **state)
{
	(void)state;
	const uint64_t rate = 50 * MIB, link = 100 * MIB, held = 4 * MIB;
	struct converge c = begun(200, 0);
	uint64_t now = 1000 * MS, sent = 0, arrived = 0, pending = 256 * MIB, arrived_20_ms_ago[20] = { 0 };
	struct converge_pending p = { .exact = true };
	enum converge_verdict verdict = CONVERGE_GO_ON;
	for (int i = 0; i < 100000 && verdict == CONVERGE_GO_ON; i++) {
		now += MS;
		arrived += sent - arrived < link / 1000 ? sent - arrived : link / 1000;
		uint64_t piece = held - (sent - arrived) < pending ? held - (sent - arrived) : pending;
		sent += piece;
		pending += rate / 1000 - piece;
		while (c.open && arrived_20_ms_ago[i % 20] >= c.asked[c.oldest].bytes && now >= 1020 * MS)
			converge_answer(&c, now);
		arrived_20_ms_ago[i % 20] = arrived;
		converge_measure(&c, now, sent);
		if (converge_may_ask(&c, now))
			converge_ask(&c, now, sent);
		p.bytes = pending;
		verdict = converge_decide(&c, now, &p);
	}
	assert_int_equal(verdict, CONVERGE_SWITCH);
	uint64_t real_ns = (sent - arrived + pending) * NS_PER_S / link + 20 * MS;
	assert_in_range(converge_downtime_ns(&c, &p), real_ns * 9 / 10, real_ns * 11 / 10);
}

static void test_downtime_counts_bytes_and_transitions(void **state)
{
	(void)state;
	struct converge c = begun(300, 0);
	struct converge_pending p = { .bytes = 10 * MIB };
	assert_int_equal(converge_downtime_ns(&c, &p), UINT64_MAX);
	converge_measure(&c, 1100 * MS, 10 * MIB);
	assert_int_equal(converge_downtime_ns(&c, &p), 100 * MS);
	p.stop_ns = 150 * MS;
	assert_int_equal(converge_downtime_ns(&c, &p), 250 * MS);
	p.stop_ns = UINT64_MAX;
	assert_int_equal(converge_downtime_ns(&c, &p), UINT64_MAX);
	p = (struct converge_pending) { .bytes = UINT64_MAX, .stop_ns = 1 };
	assert_true(converge_downtime_ns(&c, &p) > (uint64_t)INT64_MAX);
	p = (struct converge_pending) { .unknown = true };
	assert_int_equal(converge_downtime_ns(&c, &p), UINT64_MAX);
}

/* However little is left: the switch waits for the other side, in the time that there is. */
static void test_ack_missing(void **state)
{
	(void)state;
	struct converge c = begun(100, 500);
	struct converge_pending p = { .nothing_to_send = true, .exact = true, .ack_missing = true };
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_GO_ON);
	p.nothing_to_send = false;
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_GO_ON);
	assert_int_equal(converge_decide(&c, 1500 * MS, &p), CONVERGE_TIMED_OUT);
	p.ack_missing = false;
	assert_int_equal(converge_decide(&c, 1500 * MS, &p), CONVERGE_SWITCH);
}

static void test_estimate_is_looked_at_again(void **state)
{
	(void)state;
	struct converge c = begun(100, 0);
	converge_measure(&c, 1100 * MS, 10 * MIB);
	struct converge_pending p = { .bytes = 10 * MIB };
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_LOOK_CLOSER);
	p.exact = true;
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_SWITCH);
	p.bytes++;
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_GO_ON);
	p = (struct converge_pending) { .bytes = 5 * MIB, .stop_ns = 50 * MS, .exact = true };
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_SWITCH);
	p.stop_ns = 10000 * MS; /* over the limit anyhow: no reason to send for ever */
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_SWITCH);
	p.bytes++;
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_GO_ON);
	p.nothing_to_send = true;
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_SWITCH);
	p = (struct converge_pending) { .unknown = true, .exact = true };
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_GO_ON);
	/* No round tells more of that device, however much memory is written meanwhile. */
	p.stays_unknown = true;
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_SWITCH);
	p.bytes = UINT64_C(1) << 40;
	assert_int_equal(converge_decide(&c, 1100 * MS, &p), CONVERGE_GO_ON);
}

static void test_time_runs_out(void **state)
{
	(void)state;
	struct converge c = begun(100, 500);
	struct converge_pending p = { .bytes = 100 * MIB, .exact = true };
	assert_int_equal(converge_decide(&c, 1499 * MS, &p), CONVERGE_GO_ON);
	assert_int_equal(converge_decide(&c, 1500 * MS, &p), CONVERGE_TIMED_OUT);
	converge_extend(&c, 1500 * MS);
	assert_int_equal(converge_decide(&c, 1999 * MS, &p), CONVERGE_GO_ON);
	assert_int_equal(converge_decide(&c, 2000 * MS, &p), CONVERGE_TIMED_OUT);
	p.bytes = 0; /* in time after all */
	assert_int_equal(converge_decide(&c, 2000 * MS, &p), CONVERGE_SWITCH);
	c = begun(100, 0);
	p.bytes = 100 * MIB;
	assert_int_equal(converge_decide(&c, UINT64_MAX - 1, &p), CONVERGE_GO_ON);
}

/* A device that dirties `rate` bytes/s of its `size` on a link of `link` bytes/s: rounds of 1 MiB, or what there is. */
static enum converge_verdict simulate(struct converge *c, uint64_t size, uint64_t rate, uint64_t link,
				      uint64_t *ret_pending)
{
	uint64_t now = 1000 * MS, sent = 0, pending = size;
	for (int i = 0; i < 100000; i++) {
		uint64_t piece = pending < MIB ? pending : MIB;
		uint64_t ns = (uint64_t)((double)piece / (double)link * (double)NS_PER_S);
		now += ns + 1000;
		sent += piece;
		pending = pending - piece + (uint64_t)((double)rate * (double)(ns + 1000) / (double)NS_PER_S);
		if (pending > size)
			pending = size;
		converge_measure(c, now, sent);
		struct converge_pending p = { .bytes = pending, .exact = true, .nothing_to_send = piece == 0 };
		enum converge_verdict verdict = converge_decide(c, now, &p);
		*ret_pending = pending;
		if (verdict != CONVERGE_GO_ON)
			return verdict;
	}
	return CONVERGE_GO_ON;
}

static void test_slow_and_fast_devices(void **state)
{
	uint64_t pending;
	(void)state;
	struct converge c = begun(50, 60000);
	assert_int_equal(simulate(&c, 1024 * MIB, 0, 100 * MIB, &pending), CONVERGE_SWITCH);
	assert_true(pending <= 6 * MIB);
	c = begun(50, 60000);
	assert_int_equal(simulate(&c, 1024 * MIB, 50 * MIB, 100 * MIB, &pending), CONVERGE_SWITCH);
	assert_true(pending <= 6 * MIB);
	c = begun(50, 60000);
	assert_int_equal(simulate(&c, 1024 * MIB, 150 * MIB, 100 * MIB, &pending), CONVERGE_TIMED_OUT);
	c = begun(11000, 60000); /* slow, but allowed */
	assert_int_equal(simulate(&c, 1024 * MIB, 150 * MIB, 100 * MIB, &pending), CONVERGE_SWITCH);
}

static void test_pace(void **state)
{
	(void)state;
	struct converge c = { .downtime_limit_ns = MS };
	converge_start(&c, 1000 * MS, 5 * MIB);
	assert_int_equal(converge_pause_ns(&c, 1000 * MS, 500 * MIB), 0);
	c.max_bandwidth = 10 * MIB;
	assert_int_equal(converge_pause_ns(&c, 1000 * MS, 5 * MIB), 0);
	assert_int_equal(converge_pause_ns(&c, 1050 * MS, 6 * MIB), 50 * MS);
	assert_int_equal(converge_pause_ns(&c, 1100 * MS, 6 * MIB), 0);
	assert_int_equal(converge_pause_ns(&c, 1100 * MS, 100 * MIB), 100 * MS); /* in parts */
	/* What a slow second did not send is not sent at once later. */
	assert_int_equal(converge_pause_ns(&c, 60000 * MS, 6 * MIB), 0);
	assert_int_equal(converge_pause_ns(&c, 60050 * MS, 7 * MIB), 50 * MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bandwidth_is_of_whole_windows),
		cmocka_unit_test(test_answers_tell_what_has_arrived),
		cmocka_unit_test(test_many_questions),
		cmocka_unit_test(test_what_is_under_way_is_waited_for),
		cmocka_unit_test(test_a_link_with_queues),
		cmocka_unit_test(test_downtime_counts_bytes_and_transitions),
		cmocka_unit_test(test_ack_missing),
		cmocka_unit_test(test_estimate_is_looked_at_again),
		cmocka_unit_test(test_time_runs_out),
		cmocka_unit_test(test_slow_and_fast_devices),
		cmocka_unit_test(test_pace),
	};
	return cmocka_run_group_tests_name("converge", tests, NULL, NULL);
}
