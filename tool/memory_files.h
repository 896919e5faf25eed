/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_files.h: memory that moves with the devices: --memory and --skip-memory. */
#ifndef VFMIG_TOOL_MEMORY_FILES_H
#define VFMIG_TOOL_MEMORY_FILES_H

#include "vfmig.h"

#define MEMORY_MAX 64

struct memory_argument {
	char *name; /* owned; path is in it */
	const char *path;
	uint64_t size; /* 0: the file's */
	uint64_t iova;
	bool has_iova;
};

struct memory_arguments {
	struct memory_argument list[MEMORY_MAX];
	size_t count;
	const char *skipped[MEMORY_MAX];
	size_t num_skipped;
};

/* NAME=PATH[,size=SIZE][,iova=IOVA]. -EINVAL. */
int memory_parse(struct memory_arguments *a, const char *text, struct vfmig_error *err);
/*
 * Opens the files (size given: creates, grows them). One without an IOVA lies behind the one before it, the first at
 * 0. *ret stays NULL when there is nothing to move.
 */
int memory_open(const struct memory_arguments *a, struct vfmig_memory **ret, struct vfmig_error *err);
void memory_arguments_clear(struct memory_arguments *a);

#endif
