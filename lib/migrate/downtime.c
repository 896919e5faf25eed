/* SPDX-License-Identifier: BSD-3-Clause */
/* downtime.c: the downtime's clock, a lap for each step. */
#include "migrate/downtime.h"

#include <string.h>

#include "base/clock.h"

const char *vfmig_downtime_step_name(enum vfmig_downtime_step step)
{
	static const char *const names[] = {
		[VFMIG_DOWNTIME_STOP_PREPARE] = "stop_prepare",
		[VFMIG_DOWNTIME_STOP] = "stop",
		[VFMIG_DOWNTIME_COMPLETE] = "complete",
		[VFMIG_DOWNTIME_SETTLE] = "settle",
		[VFMIG_DOWNTIME_STATE] = "state",
		[VFMIG_DOWNTIME_FINISH] = "finish",
		[VFMIG_DOWNTIME_CONFIRM] = "confirm",
		[VFMIG_DOWNTIME_RECEIVE] = "receive",
		[VFMIG_DOWNTIME_LOAD_COMPLETE] = "complete",
		[VFMIG_DOWNTIME_AGREE] = "agree",
		[VFMIG_DOWNTIME_START_PREPARE] = "start_prepare",
		[VFMIG_DOWNTIME_START] = "start",
	};
	unsigned i = step;
	return i < sizeof(names) / sizeof(names[0]) ? names[i] : "unknown";
}

void downtime_start(struct downtime *d, enum vfmig_downtime_step step)
{
	memset(d, 0, sizeof(*d));
	d->started_ns = d->since_ns = clock_now_ns();
	d->step = step;
}

void downtime_enter(struct downtime *d, enum vfmig_downtime_step step)
{
	if (!d->started_ns || d->step == step)
		return;
	uint64_t now_ns = clock_now_ns();
	d->steps_ns[d->step] += now_ns - d->since_ns;
	d->since_ns = now_ns;
	d->step = step;
}

void downtime_status(const struct downtime *d, uint64_t now_ns, struct vfmig_status *ret)
{
	if (!d->started_ns)
		return;
	ret->downtime_ns = now_ns - d->started_ns;
	memcpy(ret->downtime_steps_ns, d->steps_ns, sizeof(d->steps_ns));
	ret->downtime_steps_ns[d->step] += now_ns - d->since_ns;
}
