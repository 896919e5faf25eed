/* SPDX-License-Identifier: BSD-3-Clause */
/* command.h: the commands, and what every one of them does alike. */
#ifndef VFMIG_TOOL_COMMAND_H
#define VFMIG_TOOL_COMMAND_H

#include <argp.h>

/*
 * Exit status of every command. argp's own usage errors end with EXIT_USAGE too.
 * EXIT_UNKNOWN: the outcome is not known here, the device stays stopped (save, load).
 */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNKNOWN = 3 };

/*
 * Each in its own cmd_NAME.c; returns the exit status. argv[0] is
 * "vfmig NAME", so that argp's messages begin with it.
 */
typedef int command_fn(int argc, char **argv);
command_fn cmd_check, cmd_complete;
command_fn cmd_device, cmd_devices, cmd_dirty, cmd_inspect, cmd_load, cmd_preflight, cmd_probe, cmd_prove, cmd_recover,
	cmd_report, cmd_resolve, cmd_save, cmd_shim, cmd_status;

#endif
