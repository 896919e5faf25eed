/* SPDX-License-Identifier: BSD-3-Clause */
/* phases.c: a migration's phases by name, and where each begins. */
#include "migrate/phases.h"

#include "base/trace.h"

const char *vfmig_phase_name(enum vfmig_phase phase)
{
	static const char *const names[] = {
		[VFMIG_PHASE_SETUP] = "setup",
		[VFMIG_PHASE_PRECOPY] = "pre-copy",
		[VFMIG_PHASE_STOP_COPY] = "stop-and-copy",
		[VFMIG_PHASE_COMPLETING] = "completing",
		[VFMIG_PHASE_DONE] = "done",
		[VFMIG_PHASE_FAILED] = "failed",
		[VFMIG_PHASE_CANCELLED] = "cancelled",
	};
	unsigned i = phase;
	return i < sizeof(names) / sizeof(names[0]) ? names[i] : "unknown";
}

void phase_enter(struct vfmig_status *status, const char *side, enum vfmig_phase phase)
{
	if (status->phase == phase && phase != VFMIG_PHASE_SETUP)
		return;
	status->phase = phase;
	TRACE2(phase, trace_text(side), trace_text(vfmig_phase_name(phase)));
}
