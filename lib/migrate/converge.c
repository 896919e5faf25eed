/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * converge.c: when a save may stop its device.
 *
 * As in QEMU (migration.c of 5.2 to 10.0): bytes over a window of 100 ms are
 * the bandwidth, what is left divided by it the expected downtime, and the
 * estimate is replaced by the exact number only when it would do. Other than
 * in QEMU, the device's own transitions count, a device that has nothing
 * more to give is not iterated for ever, and there is an end to trying.
 */
#include "migrate/converge.h"

#include "base/bytes.h"
#include "base/clock.h"

#define WINDOW_NS (100 * NS_PER_MS)
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
	c->bandwidth = 0;
	c->window_ns = c->pace_ns = now_ns;
	c->window_bytes = c->pace_bytes = bytes;
	converge_extend(c, now_ns);
}

void converge_measure(struct converge *c, uint64_t now_ns, uint64_t bytes)
{
	if (now_ns - c->window_ns < WINDOW_NS)
		return;
	double seconds = (double)(now_ns - c->window_ns) / (double)NS_PER_S;
	c->bandwidth = (uint64_t)((double)(bytes - c->window_bytes) / seconds);
	c->window_ns = now_ns;
	c->window_bytes = bytes;
}

uint64_t converge_downtime_ns(const struct converge *c, const struct converge_pending *p)
{
	uint64_t sum;
	if (p->unknown || (p->bytes && !c->bandwidth))
		return UINT64_MAX;
	return __builtin_add_overflow(p->bytes ? time_of(p->bytes, c->bandwidth) : 0, p->stop_ns, &sum) ? UINT64_MAX :
													  sum;
}

enum converge_verdict converge_decide(const struct converge *c, uint64_t now_ns, const struct converge_pending *p)
{
	if (p->ack_missing)
		return now_ns >= c->deadline_ns ? CONVERGE_TIMED_OUT : CONVERGE_GO_ON;
	if (p->nothing_to_send)
		return CONVERGE_SWITCH;
	/* Rounds make only the bytes less, and the transitions are a guess: theirs is half of the limit at most. */
	struct converge_pending fair = *p;
	fair.stop_ns = min_u64(p->stop_ns, c->downtime_limit_ns / 2);
	if (converge_downtime_ns(c, &fair) <= c->downtime_limit_ns)
		return p->exact ? CONVERGE_SWITCH : CONVERGE_LOOK_CLOSER;
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
