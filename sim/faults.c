/* SPDX-License-Identifier: BSD-3-Clause */
/* faults.c: the table of faults and steps, and reading a fault's text. */
#include "sim/faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP(s) (1u << FAULT_##s)
#define TO_ANY (STEP(TO_RUNNING) | STEP(TO_PRECOPY) | STEP(TO_STOPCOPY) | STEP(TO_STOP) | STEP(TO_RESUMING))
#define EVERY ((1u << FAULT_STEPS) - 1)

enum argument { NO_ARG, ARG_ERRNO, ARG_NUMBER, ARG_MS };

/* Which kind makes sense where: everything else about it is derived from here. */
static const struct {
	const char *name;
	uint32_t steps;
	enum argument argument;
	uint64_t standard;
	const char *help;
} kinds[FAULT_KINDS] = {
	[FAULT_ERRNO] = { "errno", EVERY, ARG_ERRNO, EIO,
			  "fails with errno ARG (a name; default EIO) and does nothing" },
	[FAULT_ERROR_STATE] = { "error-state",
				TO_ANY | STEP(STATE_READ) | STEP(PENDING) | STEP(DATA_OFFSET) | STEP(DATA_SIZE) |
				    STEP(DATA_READ) | STEP(DATA_WRITE) | STEP(CONSUME),
				NO_ARG, 0, "the device goes into the error state; at all but state-read with EIO" },
	[FAULT_BAD_OFFSET] = { "bad-offset", STEP(DATA_OFFSET), ARG_NUMBER, UINT64_C(0xfffffffffffff000),
			       "data_offset reads ARG (default 0xfffffffffffff000)" },
	[FAULT_ZERO_SIZE] = { "zero-size", STEP(DATA_SIZE), NO_ARG, 0, "data_size reads 0 with bytes pending" },
	[FAULT_HUGE_SIZE] = { "huge-size", STEP(DATA_SIZE) | STEP(PENDING), ARG_NUMBER, UINT64_C(0xfffffffffffff000),
			      "the register reads ARG (default 0xfffffffffffff000)" },
	[FAULT_NEVER_FALLS] = { "never-falls", STEP(PENDING), NO_ARG, 0, "when all is sent, all is to be sent again" },
	[FAULT_WRONG_BYTES] = { "wrong-bytes",
				STEP(DATA_READ) | STEP(DATA_WRITE) | STEP(CONFIG_READ) | STEP(STATE_READ), NO_ARG, 0,
				"one bit is not what it should be (state-read: all three state bits set)" },
	[FAULT_LOSE_PAGE] = { "lose-page", STEP(DIRTY_REPORT), NO_ARG, 0,
			      "one written page is not told, of this report or the next that has one, and forgotten" },
	[FAULT_SLOW] = { "slow", EVERY, ARG_MS, 100, "takes ARG ms longer (default 100)" },
	[FAULT_HANG] = { "hang", EVERY, NO_ARG, 0, "never answers (in the same process: ETIMEDOUT)" },
	[FAULT_DISCONNECT] = { "disconnect", EVERY, NO_ARG, 0, "drops the connection (in the same process: ENOTCONN)" },
};

static const struct {
	const char *name, *help;
} steps[FAULT_STEPS] = {
	[FAULT_TO_RUNNING] = { "to-running", "device_state written: to running" },
	[FAULT_TO_PRECOPY] = { "to-precopy", "device_state written: to pre-copy" },
	[FAULT_TO_STOPCOPY] = { "to-stopcopy", "device_state written: to stop-and-copy" },
	[FAULT_TO_STOP] = { "to-stop", "device_state written: to stopped" },
	[FAULT_TO_RESUMING] = { "to-resuming", "device_state written: to resuming" },
	[FAULT_STATE_READ] = { "state-read", "device_state read" },
	[FAULT_PENDING] = { "pending", "pending_bytes read" },
	[FAULT_DATA_OFFSET] = { "data-offset", "data_offset read" },
	[FAULT_DATA_SIZE] = { "data-size", "data_size read" },
	[FAULT_DATA_READ] = { "data-read", "the data section read" },
	[FAULT_DATA_WRITE] = { "data-write", "the data section written" },
	[FAULT_CONSUME] = { "consume", "data_size written: the device consumes a transaction" },
	[FAULT_CONFIG_READ] = { "config-read", "config space read" },
	[FAULT_CONFIG_WRITE] = { "config-write", "config space written" },
	[FAULT_DIRTY_REPORT] = { "dirty-report", "the log of written pages is asked for" },
	[FAULT_RESET] = { "reset", "the device is reset" },
};

const char *fault_kind_name(enum fault_kind kind)
{
	return kinds[kind].name;
}

const char *fault_step_name(enum fault_step step)
{
	return steps[step].name;
}

const char *fault_kind_help(enum fault_kind kind)
{
	return kinds[kind].help;
}

const char *fault_step_help(enum fault_step step)
{
	return steps[step].help;
}

bool fault_possible(enum fault_kind kind, enum fault_step step)
{
	return kinds[kind].steps >> step & 1;
}

static int unknown(const char *what, const char *text, int length, const char *valid, struct vfmig_error *err)
{
	return error_set(err, -EINVAL, "fault: no %s \"%.*s\"; valid are%s", what, length, text, valid);
}

static int find_kind(const char *text, int length, enum fault_kind *ret, struct vfmig_error *err)
{
	char valid[256] = "";

	for (int k = 0; k < FAULT_KINDS; k++) {
		if ((int)strlen(kinds[k].name) == length && !strncmp(kinds[k].name, text, (size_t)length)) {
			*ret = (enum fault_kind)k;
			return 0;
		}
		size_t used = strlen(valid);
		snprintf(valid + used, sizeof(valid) - used, " %s", kinds[k].name);
	}
	return unknown("kind", text, length, valid, err);
}

static int find_step(const char *text, int length, enum fault_kind kind, enum fault_step *ret, struct vfmig_error *err)
{
	char valid[256] = "";

	for (int s = 0; s < FAULT_STEPS; s++) {
		if (!fault_possible(kind, (enum fault_step)s))
			continue;
		if ((int)strlen(steps[s].name) == length && !strncmp(steps[s].name, text, (size_t)length)) {
			*ret = (enum fault_step)s;
			return 0;
		}
		size_t used = strlen(valid);
		snprintf(valid + used, sizeof(valid) - used, " %s", steps[s].name);
	}
	char what[48];
	snprintf(what, sizeof(what), "step of %s", kinds[kind].name);
	return unknown(what, text, length, valid, err);
}

static int parse_number(const char *text, uint64_t *ret, struct vfmig_error *err)
{
	char *end;

	errno = 0;
	unsigned long long v = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-')
		return error_set(err, -EINVAL, "fault: \"%s\" is no number", text);
	*ret = v;
	return 0;
}

static int parse_errno(const char *text, uint64_t *ret, struct vfmig_error *err)
{
	for (int e = 1; e < 134; e++) {
		const char *name = strerrorname_np(e);
		if (name && !strcmp(name, text)) {
			*ret = (uint64_t)e;
			return 0;
		}
	}
	return error_set(err, -EINVAL, "fault: no errno \"%s\"; valid are names such as EIO, EINVAL, EBUSY", text);
}

static int parse_argument(struct fault *f, const char *text, struct vfmig_error *err)
{
	switch (kinds[f->kind].argument) {
	case ARG_ERRNO:
		return parse_errno(text, &f->arg, err);
	case ARG_NUMBER:
	case ARG_MS:
		return parse_number(text, &f->arg, err);
	default:
		return error_set(err, -EINVAL, "fault: %s takes no argument, not \"%s\"", kinds[f->kind].name, text);
	}
}

int faults_add(struct faults *f, const char *text, struct vfmig_error *err)
{
	struct fault fault = { 0 };
	const char *at = strchr(text, '@');

	if (f->count == FAULTS_MAX)
		return error_set(err, -EINVAL, "fault: more than %u of them", FAULTS_MAX);
	if (!at)
		return error_set(err, -EINVAL, "fault: \"%s\" is not KIND@STEP[#N][:ARG]", text);
	int r = find_kind(text, (int)(at - text), &fault.kind, err);
	if (r < 0)
		return r;
	const char *step = at + 1;
	int length = (int)strcspn(step, "#:");
	r = find_step(step, length, fault.kind, &fault.step, err);
	if (r < 0)
		return r;
	const char *rest = step + length;
	if (*rest == '#') {
		char *end;
		errno = 0;
		unsigned long long n = strtoull(rest + 1, &end, 10);
		if (errno || end == rest + 1 || rest[1] == '-' || n == 0 || (*end && *end != ':'))
			return error_set(err, -EINVAL, "fault: \"%s\": # wants a number from 1", rest);
		fault.nth = n;
		rest = end;
	}
	fault.arg = kinds[fault.kind].standard;
	if (*rest == ':') {
		r = parse_argument(&fault, rest + 1, err);
		if (r < 0)
			return r;
	}
	f->list[f->count++] = fault;
	return 0;
}

const struct fault *faults_at(struct faults *f, enum fault_step step)
{
	const struct fault *hit = NULL;

	for (size_t i = 0; i < f->count; i++) {
		struct fault *fault = &f->list[i];
		if (fault->step != step)
			continue;
		fault->seen++;
		if (!hit && (fault->nth == 0 || fault->nth == fault->seen))
			hit = fault;
	}
	return hit;
}
