/* SPDX-License-Identifier: BSD-3-Clause */
/* together.h: one phase of the switch, for every participant. */
#ifndef VFMIG_MIGRATE_TOGETHER_H
#define VFMIG_MIGRATE_TOGETHER_H

#include "migrate/handlers.h"

enum together_phase {
	TOGETHER_STOP_PREPARE,
	TOGETHER_STOP,
	TOGETHER_SETTLE, /* to stop: save: after everybody's last data; load: when all is loaded */
	TOGETHER_START_PREPARE,
	TOGETHER_START,
};

/*
 * Calls this phase's function of all participants, in their order; VFIO devices
 * that follow each other go at the same time, in threads of their own, so that
 * several take as long as the slowest and not as long as all. What a VMM brings is
 * called by the caller's thread alone, with no device under way. Returns when all
 * have come back, with the failure of the first in order.
 */
int participants_together(struct participants *p, enum together_phase phase, struct vfmig_error *err);

#endif
