/* SPDX-License-Identifier: BSD-3-Clause */
/* switch_command.h: the user's commands around the switch, which stop and resume what works with the device. */
#ifndef VFMIG_TOOL_SWITCH_COMMAND_H
#define VFMIG_TOOL_SWITCH_COMMAND_H

#include "vfmig.h"

struct switch_command {
	const char *stop, *resume; /* for sh -c; NULL: none */
	bool stopped;		   /* resume is owed */
	int helper;		   /* a socket to the process that runs `resume`; -1: this one does */
	struct vfmig_save *save;   /* whose cancel ends a `stop` that goes on; NULL: none */
	struct vfmig_load *load;   /* the same of `resume` */
};

#define SWITCH_COMMAND_NONE ((struct switch_command) { .helper = -1 })

/* Now, of a session whose own program is gone. */
int switch_command_resume(const char *command, struct vfmig_error *err);
/* As the first participant of a save: `stop` before any device stops, `resume` when the save is taken back. */
int switch_command_add_save(struct switch_command *c, struct vfmig_save *save, struct vfmig_error *err);
/*
 * Before anything is opened: a load will be in a sandbox when it comes to `resume`, and the command shall not. So a
 * process is split off that runs it when it is told to, and that ends with this one.
 */
int switch_command_prepare_load(struct switch_command *c, struct vfmig_error *err);
void switch_command_close(struct switch_command *c);
/* As the last participant of a load: `resume` once every device runs; if it fails, so does the load. */
int switch_command_add_load(struct switch_command *c, struct vfmig_load *load, struct vfmig_error *err);

#endif
