/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_compare.h: in what two streams differ: machine, memory's blocks, sections, devices, registers. */
#ifndef VFMIG_TOOL_INSPECT_COMPARE_H
#define VFMIG_TOOL_INSPECT_COMPARE_H

#include "inspect.h"

struct compare_options {
	const char *names[2];
	bool json;
	uint64_t begin; /* offset of both in their files */
};

/* Prints what differs; *ret_differences: how much does. -errno: one of them could not be read to its end. */
int compare_streams(struct vfmig_link *const links[2], const struct compare_options *options, size_t *ret_differences,
		    struct vfmig_error *err);

#endif
