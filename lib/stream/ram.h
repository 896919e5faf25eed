/* SPDX-License-Identifier: BSD-3-Clause */
/* ram.h: finding the end of a ram section's body, whose pages nobody wants. */
#ifndef VFMIG_STREAM_RAM_H
#define VFMIG_STREAM_RAM_H

#include "base/error.h"

/* All zero at first; kept over all ram sections of a stream. */
struct ram_skip {
	uint64_t bytes_left; /* of page data */
	uint64_t list_left;  /* of the memory whose blocks are being listed */
	bool has_block;      /* a block was named: "the same block" means something */
};

/* A reader_body_fn; opaque: struct ram_skip. */
int ram_skip_body(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
		  size_t *ret_used, struct vfmig_error *err);

#endif
