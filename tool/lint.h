/* SPDX-License-Identifier: BSD-3-Clause */
/* lint.h: the rules that a migration stream keeps, and what looks whether one does. */
#ifndef VFMIG_TOOL_LINT_H
#define VFMIG_TOOL_LINT_H

#include "inspect.h"

/* What the reader does not stop at; beside enum stream_fault, and never given another meaning either. */
enum lint_number {
	LINT_NO_CONFIGURATION = 22,
	LINT_UNKNOWN_COMMAND = 23,
	LINT_NOT_IN_STREAM = 37,
	LINT_NOT_DESCRIBED = 38,
	LINT_SETUP = 44,
	LINT_CONFIG_EARLY = 45,
	LINT_NO_CONFIG = 46,
	LINT_DATA_PLACE = 48,
	LINT_VFIO_VERSION = 49,
	LINT_INIT_DATA_PLACE = 50,
	LINT_INTX = 51,
	LINT_NO_DEVICE = 52,
	LINT_CAPABILITIES = 53,
	LINT_RAM_OUTSIDE = 67,
	LINT_RAM_OTHER_BLOCK = 68,
	LINT_RAM_BLOCK_TWICE = 69,
	LINT_INDEX_TWICE = 85,
	LINT_CONFIG_NOT_LAST = 86,
	LINT_MACHINE_VERSION = 90,
	LINT_MACHINE = 91,
};

struct lint_rule {
	unsigned int number;
	const char *name, *sentence, *reference, *fix;
};

extern const struct lint_rule lint_rules[];
extern const size_t lint_num_rules;
/* NULL: there is none with that number. */
const struct lint_rule *lint_rule(unsigned int number);
void lint_print_rules(bool json);

struct lint_options {
	const char *machine; /* the destination's; NULL: not known */
	bool json;
	uint64_t begin; /* offset of the stream in its file */
};

/* Prints what is wrong with the stream; *ret_broken: how many rules are. -errno: it could not be read. */
int lint_stream(struct vfmig_link *link, const struct lint_options *options, size_t *ret_broken,
		struct vfmig_error *err);

#endif
