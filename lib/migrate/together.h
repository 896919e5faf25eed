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
	TOGETHER_UNDO_PREPARE, /* only by participants_undo */
	TOGETHER_UNDO,
};

/*
 * Calls this phase's function of all participants, in their order; VFIO devices
 * that follow each other go at the same time, in threads of their own, so that
 * several take as long as the slowest and not as long as all. What a VMM brings is
 * called by the caller's thread alone, with no device under way. Returns when all
 * have come back, with the failure of the first in order.
 */
int participants_together(struct participants *p, enum together_phase phase, struct vfmig_error *err);

/*
 * Takes back what was begun, last first: every undo, devices at the same time, then every cleanup. The
 * first trouble is reported through *ret_trouble (one line, empty: none).
 * Returns whether everything is as it was before.
 */
bool participants_undo(struct participants *p, struct vfmig_error *ret_trouble);

#endif
