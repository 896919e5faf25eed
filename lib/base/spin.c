/* SPDX-License-Identifier: BSD-3-Clause */
/* spin.c: for how long and how often it is worthwhile to look again. */
#include "base/spin.h"

#include <sched.h>

#include "base/clock.h"

#define LOOK_NS 50000u /* about what it takes to wake up */
#define VAIN_MAX 64u

bool spin_again(struct spin *s)
{
	if (s->skip) {
		s->skip--;
		return false;
	}
	uint64_t now_ns = clock_now_ns();
	if (!s->since_ns)
		s->since_ns = now_ns;
	if (now_ns - s->since_ns < LOOK_NS) {
		sched_yield();
		return true;
	}
	s->since_ns = 0;
	s->vain = s->vain < VAIN_MAX ? 2 * s->vain + 1 : s->vain;
	s->skip = s->vain;
	return false;
}

void spin_found(struct spin *s)
{
	if (s->since_ns)
		s->vain = 0;
	s->since_ns = 0;
}
