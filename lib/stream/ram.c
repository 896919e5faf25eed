/* SPDX-License-Identifier: BSD-3-Clause */
/* ram.c: steps over the packets of a ram section, version 4. */
#include "stream/ram.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "stream/wire.h"

/* A page that did not get smaller by compression is sent as it is. */
#define COMPRESSED_MAX (2u * WIRE_PAGE_SIZE)

static int broken(struct ram_skip *ram, enum stream_fault fault, struct vfmig_error *err, uint64_t offset,
		  const char *what, uint64_t value)
{
	ram->fault = fault;
	return error_set(err, -EBADMSG, "offset 0x%" PRIx64 ": ram: %s 0x%" PRIx64, offset, what, value);
}

/* be32 version, be64 page size, be64 bitmap's place, be64 pages' place; `behind` them the stream would go on. */
static int map_block(struct ram_skip *ram, const uint8_t *p, uint64_t behind, struct ram_block *block,
		     struct vfmig_error *err)
{
	uint64_t bits = block->bytes / WIRE_PAGE_SIZE, bitmap = bits / 64 * 8 + (bits % 64 ? 8 : 0), end;

	block->bitmap_offset = get_be64(p + 12);
	block->pages_offset = get_be64(p + 20);
	if (get_be32(p) != WIRE_RAM_MAPPED_VERSION || get_be64(p + 4) != WIRE_PAGE_SIZE)
		return broken(ram, FAULT_RAM_MAPPED, err, behind - WIRE_RAM_MAPPED_HEADER,
			      "a mapped block has not version 1 and pages of 4096 bytes, but pages of",
			      get_be64(p + 4));
	if (block->bitmap_offset < behind)
		return broken(ram, FAULT_RAM_MAPPED, err, behind - 16,
			      "a mapped block's bitmap lies before its header:", block->bitmap_offset);
	if (block->pages_offset < bitmap || block->pages_offset - bitmap < block->bitmap_offset ||
	    __builtin_add_overflow(block->pages_offset, block->bytes, &end) || end > INT64_MAX)
		return broken(ram, FAULT_RAM_MAPPED, err, behind - 8,
			      "a mapped block's pages lie in its bitmap or nowhere:", block->pages_offset);
	ram->gap_left = block->bitmap_offset - behind;
	ram->bitmap_left = bitmap;
	ram->bytes_left = end - block->bitmap_offset - bitmap;
	return 1;
}

/* 1: one block of the list; 0: more bytes needed. */
static int list_block(struct ram_skip *ram, struct cursor *c, uint64_t offset, struct vfmig_error *err)
{
	size_t had = c->length;
	const uint8_t *name_length = cursor_take(c, 1);
	const uint8_t *name = name_length ? cursor_take(c, *name_length) : NULL;
	const uint8_t *size = name ? cursor_take(c, 8) : NULL;
	const uint8_t *address = size && ram->ignore_shared ? cursor_take(c, 8) : size;
	const uint8_t *map = address && ram->mapped ? cursor_take(c, WIRE_RAM_MAPPED_HEADER) : address;

	if (!map)
		return 0;
	struct ram_block block = { .bytes = get_be64(size) };
	memcpy(block.name, name, *name_length);
	if (block.bytes > ram->list_left)
		return broken(ram, FAULT_RAM_LIST, err, offset,
			      "a block is larger than what is left of the memory:", block.bytes);
	ram->list_left -= block.bytes;
	int rc = ram->mapped ? map_block(ram, map, offset + (had - c->length), &block, err) : 1;
	if (rc == 1 && ram->watcher.block)
		ram->watcher.block(ram->watcher.opaque, offset, &block);
	return rc;
}

/* How many bytes follow a page's header in `c`. 1: known; 0: more bytes needed. */
static int payload_length(struct ram_skip *ram, uint64_t kind, struct cursor *c, uint64_t offset,
			  struct vfmig_error *err)
{
	uint64_t *ret = &ram->bytes_left;
	const uint8_t *p;

	switch (kind) {
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
			return broken(ram, FAULT_RAM_LENGTH, err, offset, "an xbzrle page with header",
				      (uint64_t)p[0] << 16 | get_be16(p + 1));
		*ret = get_be16(p + 1);
		return 1;
	default: /* WIRE_RAM_COMPRESS */
		p = cursor_take(c, 4);
		if (!p)
			return 0;
		if (get_be32(p) > COMPRESSED_MAX)
			return broken(ram, FAULT_RAM_LENGTH, err, offset, "a compressed page of bytes", get_be32(p));
		*ret = get_be32(p);
		return 1;
	}
}

static int page(struct ram_skip *ram, uint64_t flags, uint64_t address, struct cursor *c, uint64_t offset,
		struct vfmig_error *err)
{
	uint64_t kind = flags & ~(uint64_t)WIRE_RAM_CONTINUE;
	char name[WIRE_ID_MAX + 1] = "";

	if (flags & WIRE_RAM_CONTINUE) {
		if (!ram->has_block)
			return broken(ram, FAULT_RAM_NO_BLOCK, err, offset,
				      "a page of the same block before any block, flags", flags);
	} else {
		const uint8_t *length = cursor_take(c, 1), *p = length ? cursor_take(c, *length) : NULL;
		if (!p)
			return 0;
		memcpy(name, p, *length);
	}
	int rc = payload_length(ram, kind, c, offset, err);
	if (rc != 1)
		return rc;
	ram->has_block = true;
	if (ram->watcher.page)
		ram->watcher.page(ram->watcher.opaque, offset, kind, flags & WIRE_RAM_CONTINUE ? NULL : name, address);
	return 1;
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
		return page(ram, flags, address, c, offset, err);
	case WIRE_RAM_HOOK:
		return broken(ram, FAULT_RAM_HOOK, err, offset, "a hook, as RDMA has it, cannot be skipped: flags",
			      flags);
	default:
		return broken(ram, FAULT_RAM_FLAGS, err, offset, "unknown flags", flags);
	}
}

/* What is not looked into: pages, and with mapped-ram what is before and behind a bitmap. True: more is to come. */
static bool pass(struct ram_skip *ram, struct cursor *c)
{
	uint64_t *const parts[] = { &ram->gap_left, &ram->bitmap_left, &ram->bytes_left };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		size_t n = (size_t)min_u64(*parts[i], c->length);
		const uint8_t *p = cursor_take(c, n);
		*parts[i] -= n;
		if (n && i == 1 && ram->watcher.bitmap)
			ram->watcher.bitmap(ram->watcher.opaque, p, n);
		if (*parts[i])
			return true;
	}
	return false;
}

int ram_skip_body(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
		  size_t *ret_used, struct vfmig_error *err)
{
	struct ram_skip *ram = opaque;
	struct cursor c = { data, length };
	int rc;

	if (section->version_id != WIRE_RAM_VERSION)
		return broken(ram, FAULT_RAM_VERSION, err, section->body_offset, "only version 4 is known, this is",
			      section->version_id);
	do {
		bool more = pass(ram, &c);
		struct cursor ahead = c;
		rc = more ? 0 : packet(ram, &ahead, section->offset + (length - c.length), err);
		if (rc > 0)
			c = ahead;
	} while (rc == 1);
	*ret_used = length - c.length;
	return rc == 2 ? 1 : rc;
}
