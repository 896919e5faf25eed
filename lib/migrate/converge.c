/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * converge.c: when a save may stop its device.
 *
 * As in QEMU (migration.c of 5.2 to 10.0): bytes over a window of 100 ms are
 * the bandwidth, what is left divided by it the expected downtime, and the
 * estimate is replaced by the exact number only when it would do. Other than
 * in QEMU, the device's own transitions count, a device that has nothing
 * more to give is not iterated for ever, and there is an end to trying. And a
 * window that went well is not believed before a second has: who waits for a
 * small number and takes the first one gets the one that noise made small.
 *
 * What the link took has not arrived: megabytes wait in sockets and routers, in
 * front of the last ones, and the word that all is loaded has its way back. So
 * where the other side answers pings, some are always under way: from answer
 * to answer, that much was loaded in that time; and what was sent since the
 * last answered one is still before the last byte.
 */
#include "migrate/converge.h"

#include "base/bytes.h"
#include "base/clock.h"

#define WINDOW_NS (100 * NS_PER_MS)
#define AVERAGE_NS NS_PER_S
#define PING_NS (10 * NS_PER_MS)	/* at most so often */
#define LAG_NOISE_NS (10 * NS_PER_MS)
#define PACE_WINDOW_NS NS_PER_S		/* what was not sent for longer than that is not made up for */
#define PAUSE_MAX_NS (100 * NS_PER_MS) /* so that other things are looked at meanwhile */

/* bytes at rate, in ns. */
static uint64_t time_of(uint64_t bytes, uint64_t rate)
{
	double ns = (double)bytes / (double)rate * (double)NS_PER_S;
	return ns < (double)INT64_MAX ? (uint64_t)ns : INT64_MAX;
}

void converge_extend(struct converge *c, uint64_t now_ns)
{
	if (!c->timeout_ns || __builtin_add_overflow(now_ns, c->timeout_ns, &c->deadline_ns))
		c->deadline_ns = UINT64_MAX;
}

void converge_start(struct converge *c, uint64_t now_ns, uint64_t bytes)
{
	c->bandwidth = c->lag_ns = c->ask_ns = 0;
	c->average = 0;
	c->oldest = c->open = 0;
	c->answered = false;
	c->least_lag_ns = c->round_trip_ns ? c->round_trip_ns : UINT64_MAX;
	c->window_ns = c->pace_ns = now_ns;
	c->window_bytes = c->pace_bytes = bytes;
	converge_extend(c, now_ns);
}

/* Ends a window that has lasted long enough. */
static void measure(struct converge *c, uint64_t now_ns, uint64_t bytes)
{
	if (now_ns - c->window_ns < WINDOW_NS)
		return;
	double part = (double)(now_ns - c->window_ns) / (double)AVERAGE_NS;
	double rate = (double)(bytes - c->window_bytes) * (double)NS_PER_S / (double)(now_ns - c->window_ns);
	c->average += (rate - c->average) * (c->bandwidth && part < 1 ? part : 1);
	c->bandwidth = (uint64_t)(rate < c->average ? rate : c->average);
	c->window_ns = now_ns;
	c->window_bytes = bytes;
}

/*
 * When will be answered what has these bytes before it? What was sent since the last answered question passes at the
 * bandwidth, and has done so since; an answer that is late already says something, too.
 */
static uint64_t lag(const struct converge *c, uint64_t now_ns, uint64_t bytes)
{
	uint64_t ns = c->least_lag_ns, since_ns = now_ns - c->answer_ns;
	uint64_t passes_ns = c->bandwidth ? time_of(bytes - c->answer_bytes, c->bandwidth) : c->lag_ns;
	if (passes_ns > since_ns)
		ns = max_u64(ns, passes_ns - since_ns);
	return c->open ? max_u64(ns, now_ns - c->asked[c->oldest].ns) : ns;
}

void converge_measure(struct converge *c, uint64_t now_ns, uint64_t bytes)
{
	if (!c->answered)
		measure(c, now_ns, bytes);
	else
		c->lag_ns = lag(c, now_ns, bytes);
}

bool converge_may_ask(const struct converge *c, uint64_t now_ns)
{
	return c->open < CONVERGE_QUESTIONS && now_ns - c->ask_ns >= PING_NS;
}

void converge_ask(struct converge *c, uint64_t now_ns, uint64_t bytes)
{
	c->asked[(c->oldest + c->open++) % CONVERGE_QUESTIONS] = (struct converge_question) { now_ns, bytes };
	c->ask_ns = now_ns;
}

void converge_answer(struct converge *c, uint64_t now_ns)
{
	if (!c->open) /* an answer that nobody asked for */
		return;
	const struct converge_question *q = &c->asked[c->oldest];
	c->oldest = (c->oldest + 1) % CONVERGE_QUESTIONS;
	c->open--;
	c->lag_ns = now_ns - q->ns;
	c->least_lag_ns = min_u64(c->least_lag_ns, c->lag_ns);
	c->answer_ns = now_ns;
	c->answer_bytes = q->bytes;
	if (c->answered) {
		measure(c, now_ns, q->bytes);
		return;
	}
	c->answered = true;
	c->window_ns = now_ns;
	c->window_bytes = q->bytes;
}

uint64_t converge_downtime_ns(const struct converge *c, const struct converge_pending *p)
{
	if (p->unknown || (p->bytes && !c->bandwidth))
		return UINT64_MAX;
	uint64_t sum = p->bytes ? time_of(p->bytes, c->bandwidth) : 0;
	uint64_t agreement_ns = c->agrees && c->answered ? c->least_lag_ns : 0;
	if (__builtin_add_overflow(sum, p->stop_ns, &sum) || __builtin_add_overflow(sum, c->lag_ns, &sum) ||
	    __builtin_add_overflow(sum, agreement_ns, &sum))
		return UINT64_MAX;
	return sum;
}

/* Is more under way than the way is long? */
static bool is_congested(const struct converge *c)
{
	return c->lag_ns && c->lag_ns > LAG_NOISE_NS && c->lag_ns - LAG_NOISE_NS > c->least_lag_ns;
}

enum converge_verdict converge_decide(const struct converge *c, uint64_t now_ns, const struct converge_pending *p)
{
	if (p->ack_missing)
		return now_ns >= c->deadline_ns ? CONVERGE_TIMED_OUT : CONVERGE_GO_ON;
	/*
	 * Rounds make only the bytes less, and the transitions are a guess: theirs is half of the limit at most.
	 * Memory that is written all the time must not keep a device going that has no more to give and does not tell
	 * its size.
	 */
	struct converge_pending fair = *p;
	fair.stop_ns = min_u64(p->stop_ns, c->downtime_limit_ns / 2);
	fair.unknown = p->unknown && !p->stays_unknown;
	if (converge_downtime_ns(c, &fair) <= c->downtime_limit_ns)
		return p->exact || p->nothing_to_send ? CONVERGE_SWITCH : CONVERGE_LOOK_CLOSER;
	if (p->nothing_to_send && !is_congested(c))
		return CONVERGE_SWITCH;
	if (p->nothing_to_send && now_ns < c->deadline_ns)
		return CONVERGE_DRAIN;
	return now_ns >= c->deadline_ns ? CONVERGE_TIMED_OUT : CONVERGE_GO_ON;
}

uint64_t converge_pause_ns(struct converge *c, uint64_t now_ns, uint64_t bytes)
{
	if (!c->max_bandwidth)
		return 0;
	uint64_t due = time_of(bytes - c->pace_bytes, c->max_bandwidth), passed = now_ns - c->pace_ns;
	if (due > passed)
		return min_u64(due - passed, PAUSE_MAX_NS);
	if (passed - due > PACE_WINDOW_NS) {
		c->pace_ns = now_ns;
		c->pace_bytes = bytes;
	}
	return 0;
}
