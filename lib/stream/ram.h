/* SPDX-License-Identifier: BSD-3-Clause */
/* ram.h: finding the end of a ram section's body, and what is in it for who wants to count it. */
#ifndef VFMIG_STREAM_RAM_H
#define VFMIG_STREAM_RAM_H

#include "base/error.h"
#include "stream/stream_faults.h"
#include "stream/wire.h"

/* One of the list that the START begins with. */
struct ram_block {
	char name[WIRE_ID_MAX + 1];
	uint64_t bytes;
	/* With mapped-ram: where in the file its pages are, and the bits that tell which were written. Else 0. */
	uint64_t bitmap_offset, pages_offset;
};

/* What is told of a body while it is read past; each may be NULL. */
struct ram_watcher {
	void *opaque;
	void (*block)(void *opaque, uint64_t offset, const struct ram_block *block);
	/* With mapped-ram: a piece of the last block's bitmap. */
	void (*bitmap)(void *opaque, const uint8_t *bits, size_t length);
	/* kind: WIRE_RAM_ZERO, _PAGE, _XBZRLE or _COMPRESS; name NULL: the same block as before. */
	void (*page)(void *opaque, uint64_t offset, uint64_t kind, const char *name, uint64_t address);
};

/* All zero at first; kept over all ram sections of a stream. */
struct ram_skip {
	/* What CONFIGURATION says of the list. */
	bool mapped, ignore_shared;
	struct ram_watcher watcher;
	enum stream_fault fault; /* why it gave -EBADMSG */
	/* private */
	uint64_t gap_left;    /* before the bitmap */
	uint64_t bitmap_left;
	uint64_t bytes_left; /* of page data */
	uint64_t list_left;  /* of the memory whose blocks are being listed */
	bool has_block;      /* a block was named: "the same block" means something */
};

/* A reader_body_fn; opaque: struct ram_skip. */
int ram_skip_body(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
		  size_t *ret_used, struct vfmig_error *err);

#endif
