/* SPDX-License-Identifier: BSD-3-Clause */
/* phases.h: a migration goes from one phase to the next. */
#ifndef VFMIG_MIGRATE_PHASES_H
#define VFMIG_MIGRATE_PHASES_H

#include "vfmig.h"

/* side: "save" or "load". */
void phase_enter(struct vfmig_status *status, const char *side, enum vfmig_phase phase);

#endif
