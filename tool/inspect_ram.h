/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_ram.h: counts what is in the section ram, block by block. */
#ifndef VFMIG_TOOL_INSPECT_RAM_H
#define VFMIG_TOOL_INSPECT_RAM_H

#include <json-c/json.h>

#include "inspect.h"
#include "stream/ram.h"

#define INSPECT_BLOCKS_MAX 1024u

struct inspect_pages {
	uint64_t normal, zero, xbzrle, compressed, mapped;
};

struct inspect_block {
	struct ram_block block;
	uint64_t offset; /* of its place in the list */
	struct inspect_pages pages;
};

struct inspect_ram {
	struct inspect_sink *sink; /* is told of what does not fit together */
	struct inspect_block *blocks;
	size_t num_blocks, listed;     /* listed: how many were shown already */
	struct inspect_block *current; /* the block that pages are in */
	struct inspect_pages section;  /* in the section being read */
};

int inspect_ram_begin(struct inspect_ram *ram, struct inspect_sink *sink, struct reader *reader,
		      struct vfmig_error *err);
void inspect_ram_end(struct inspect_ram *ram);
/* Adds to a section's end what was in it. */
void inspect_ram_section(struct inspect_ram *ram, struct json_object *record);
/* Adds to the end of all sections what was in them. */
void inspect_ram_total(const struct inspect_ram *ram, struct json_object *record);

#endif
