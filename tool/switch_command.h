/* SPDX-License-Identifier: BSD-3-Clause */
/* switch_command.h: the user's commands around the switch, which stop and resume what works with the device. */
#ifndef VFMIG_TOOL_SWITCH_COMMAND_H
#define VFMIG_TOOL_SWITCH_COMMAND_H

#include "vfmig.h"

struct switch_command {
	const char *stop, *resume; /* for sh -c; NULL: none */
	bool stopped;		   /* resume is owed */
};

/* As the first participant of a save: `stop` before any device stops, `resume` when the save is taken back. */
int switch_command_add_save(struct switch_command *c, struct vfmig_save *save, struct vfmig_error *err);
/* As the last participant of a load: `resume` once every device runs; if it fails, so does the load. */
int switch_command_add_load(struct switch_command *c, struct vfmig_load *load, struct vfmig_error *err);

#endif
