/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * faults.h: how the software device misbehaves on request.
 *
 * A fault is KIND@STEP[#N][:ARG]: at each STEP, or only the N-th time it comes
 * to it (counted from 1, since the device was made).
 */
#ifndef VFMIG_SIM_FAULTS_H
#define VFMIG_SIM_FAULTS_H

#include "base/error.h"

enum fault_kind {
	FAULT_ERRNO,
	FAULT_ERROR_STATE,
	FAULT_BAD_OFFSET,
	FAULT_ZERO_SIZE,
	FAULT_HUGE_SIZE,
	FAULT_NEVER_FALLS,
	FAULT_WRONG_BYTES,
	FAULT_LOSE_PAGE,
	FAULT_SLOW,
	FAULT_HANG,
	FAULT_DISCONNECT,
	FAULT_KINDS,
};

enum fault_step {
	FAULT_TO_RUNNING,
	FAULT_TO_PRECOPY,
	FAULT_TO_STOPCOPY,
	FAULT_TO_STOP,
	FAULT_TO_RESUMING,
	FAULT_STATE_READ,
	FAULT_PENDING,
	FAULT_DATA_OFFSET,
	FAULT_DATA_SIZE,
	FAULT_DATA_READ,
	FAULT_DATA_WRITE,
	FAULT_CONSUME,
	FAULT_CONFIG_READ,
	FAULT_CONFIG_WRITE,
	FAULT_DIRTY_REPORT,
	FAULT_RESET,
	FAULT_STEPS,
};

struct fault {
	enum fault_kind kind;
	enum fault_step step;
	uint64_t nth; /* 0: every time */
	uint64_t arg;
	uint64_t seen; /* how often its step came */
};

#define FAULTS_MAX 16u

struct faults {
	struct fault list[FAULTS_MAX];
	size_t count;
};

const char *fault_kind_name(enum fault_kind kind);
const char *fault_step_name(enum fault_step step);
const char *fault_kind_help(enum fault_kind kind);
const char *fault_step_help(enum fault_step step);
/* Does that kind make sense at that step? The one table of it. */
bool fault_possible(enum fault_kind kind, enum fault_step step);

/* Reads KIND@STEP[#N][:ARG] and adds it. -EINVAL: what is valid instead. */
int faults_add(struct faults *f, const char *text, struct vfmig_error *err);
/* The device is at that step: the fault that strikes now, or NULL. */
const struct fault *faults_at(struct faults *f, enum fault_step step);

#endif
