/* SPDX-License-Identifier: BSD-3-Clause */
/* downtime.h: how long devices are stopped, and which step of a save or a load takes how much of that. */
#ifndef VFMIG_MIGRATE_DOWNTIME_H
#define VFMIG_MIGRATE_DOWNTIME_H

#include "vfmig.h"

struct downtime {
	uint64_t started_ns; /* 0: nothing is stopped yet */
	uint64_t since_ns;   /* the step that runs */
	enum vfmig_downtime_step step;
	uint64_t steps_ns[VFMIG_DOWNTIME_STEPS]; /* those before it */
};

/* Begins with this step, and forgets what was. */
void downtime_start(struct downtime *d, enum vfmig_downtime_step step);
/* What follows is this step's. Without effect before the start, and cheap where it is the step already. */
void downtime_enter(struct downtime *d, enum vfmig_downtime_step step);
/* Fills in the status, as of now_ns; the steps' sum is the downtime. */
void downtime_status(const struct downtime *d, uint64_t now_ns, struct vfmig_status *ret);

#endif
