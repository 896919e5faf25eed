/* SPDX-License-Identifier: BSD-3-Clause */
/* ram.c: steps over the packets of a ram section, version 4. */
#include "stream/ram.h"

#include <inttypes.h>

#include "base/bytes.h"
#include "stream/wire.h"

/* A page that did not get smaller by compression is sent as it is. */
#define COMPRESSED_MAX (2u * WIRE_PAGE_SIZE)

static int broken(struct vfmig_error *err, uint64_t offset, const char *what, uint64_t value)
{
	return error_set(err, -EBADMSG, "offset 0x%" PRIx64 ": ram: %s 0x%" PRIx64, offset, what, value);
}

/* 1: one block of the list; 0: more bytes needed. */
static int list_block(struct ram_skip *ram, struct cursor *c, uint64_t offset, struct vfmig_error *err)
{
	const uint8_t *name_length = cursor_take(c, 1);
	const uint8_t *name = name_length ? cursor_take(c, *name_length) : NULL;
	const uint8_t *size = name ? cursor_take(c, 8) : NULL;

	if (!size)
		return 0;
	if (get_be64(size) > ram->list_left)
		return broken(err, offset, "a block is larger than what is left of the memory:", get_be64(size));
	ram->list_left -= get_be64(size);
	return 1;
}

/* How many bytes follow a page's header in `c`. 1: known; 0: more bytes needed. */
static int payload_length(uint64_t flags, struct cursor *c, uint64_t offset, uint64_t *ret, struct vfmig_error *err)
{
	const uint8_t *p;

	switch (flags) {
	case WIRE_RAM_ZERO:
		*ret = 1;
		return 1;
	case WIRE_RAM_PAGE:
		*ret = WIRE_PAGE_SIZE;
		return 1;
	case WIRE_RAM_XBZRLE:
		p = cursor_take(c, 3);
		if (!p)
			return 0;
		if (p[0] != 1 || get_be16(p + 1) > WIRE_PAGE_SIZE)
			return broken(err, offset, "an xbzrle page with header",
				      (uint64_t)p[0] << 16 | get_be16(p + 1));
		*ret = get_be16(p + 1);
		return 1;
	default: /* WIRE_RAM_COMPRESS */
		p = cursor_take(c, 4);
		if (!p)
			return 0;
		if (get_be32(p) > COMPRESSED_MAX)
			return broken(err, offset, "a compressed page of bytes", get_be32(p));
		*ret = get_be32(p);
		return 1;
	}
}

static int page(struct ram_skip *ram, uint64_t flags, struct cursor *c, uint64_t offset, struct vfmig_error *err)
{
	if (flags & WIRE_RAM_CONTINUE) {
		if (!ram->has_block)
			return broken(err, offset, "a page of the same block before any block, flags", flags);
	} else {
		const uint8_t *name_length = cursor_take(c, 1);
		if (!name_length || !cursor_take(c, *name_length))
			return 0;
	}
	int rc = payload_length(flags & ~(uint64_t)WIRE_RAM_CONTINUE, c, offset, &ram->bytes_left, err);
	if (rc == 1)
		ram->has_block = true;
	return rc;
}

/* The packet at c. 2: it ends the body; 1: stepped over; 0: more bytes needed. */
static int packet(struct ram_skip *ram, struct cursor *c, uint64_t offset, struct vfmig_error *err)
{
	if (ram->list_left)
		return list_block(ram, c, offset, err);
	const uint8_t *p = cursor_take(c, 8);
	if (!p)
		return 0;
	uint64_t flags = get_be64(p) & (WIRE_PAGE_SIZE - 1), address = get_be64(p) - flags;
	switch (flags & ~(uint64_t)WIRE_RAM_CONTINUE) {
	case WIRE_RAM_EOS:
		return 2;
	case WIRE_RAM_MULTIFD_FLUSH:
		return 1;
	case WIRE_RAM_MEM_SIZE:
		ram->list_left = address;
		return 1;
	case WIRE_RAM_ZERO:
	case WIRE_RAM_PAGE:
	case WIRE_RAM_XBZRLE:
	case WIRE_RAM_COMPRESS:
		return page(ram, flags, c, offset, err);
	case WIRE_RAM_HOOK:
		return broken(err, offset, "a hook, as RDMA has it, cannot be skipped: flags", flags);
	default:
		return broken(err, offset, "unknown flags", flags);
	}
}

int ram_skip_body(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
		  size_t *ret_used, struct vfmig_error *err)
{
	struct ram_skip *ram = opaque;
	struct cursor c = { data, length };
	int rc;

	if (section->version_id != WIRE_RAM_VERSION)
		return broken(err, section->body_offset, "only version 4 is known, this is", section->version_id);
	do {
		size_t n = (size_t)min_u64(ram->bytes_left, c.length);
		cursor_take(&c, n);
		ram->bytes_left -= n;
		struct cursor ahead = c;
		rc = ram->bytes_left ? 0 : packet(ram, &ahead, section->offset + (length - c.length), err);
		if (rc > 0)
			c = ahead;
	} while (rc == 1);
	*ret_used = length - c.length;
	return rc == 2 ? 1 : rc;
}
