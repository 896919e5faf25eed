/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memory_load.c: guest memory's load handlers: the section "ram", version 4, of vfmig and of QEMU.
 *
 * Source: ram_load of QEMU 7.2 and 10.0, read off the streams it takes. The list
 * of blocks in START decides whether a page is loaded at all: every block must be
 * here, with its length, or be passed over on purpose. What cannot be taken is
 * refused by the name of the capability that the source has to switch off.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/text.h"
#include "migrate/memory_lock.h"
#include "stream/wire.h"

#define TEXT_SIZE TEXT_ESCAPED_SIZE(WIRE_ID_MAX)

struct memory_load {
	struct vfmig_memory *memory;
	const struct log *log;
	bool checking;
	bool in_list, has_list; /* of blocks */
	uint64_t list_left;	/* bytes of memory that are still to be listed */
	size_t unfit;		/* blocks of the list that cannot be loaded */
	char first_unfit[TEXT_SIZE + 160];
	struct memory_block *block; /* of the page before, in whatever section; NULL: none */
	struct memory_lock lock;
};

static int broken(uint64_t offset, struct vfmig_error *err, const char *what, uint64_t value)
{
	return error_set(err, -EBADMSG, "offset 0x%" PRIx64 ": memory: %s 0x%" PRIx64, offset, what, value);
}

/* -------------------------------------------------------- the list of blocks */

static void unfit(struct memory_load *l, const char *line)
{
	if (l->unfit++ == 0)
		snprintf(l->first_unfit, sizeof(l->first_unfit), "%s", line);
	log_line(l->log, VFMIG_LOG_WARNING, "memory: %s", line);
}

static void take_block(struct memory_load *l, const uint8_t *name, size_t length, uint64_t bytes)
{
	struct memory_block *b = memory_find(l->memory, (const char *)name, length);
	char text[TEXT_SIZE], line[TEXT_SIZE + 160];
	text_escape(text, sizeof(text), (const char *)name, length);
	bool twice = b && b->incoming, fits = b && !twice && (b->skipped || b->length == bytes);
	if (b)
		b->incoming = bytes;
	if (fits)
		return;
	if (twice)
		snprintf(line, sizeof(line), "block \"%s\" is in the stream twice", text);
	else if (b)
		snprintf(line, sizeof(line),
			 "block \"%s\" has 0x%" PRIx64 " bytes in the stream and 0x%" PRIx64 " here", text, bytes,
			 b->length);
	else
		snprintf(line, sizeof(line),
			 "block \"%s\" (0x%" PRIx64 " bytes) has no memory here: give it some, or skip it", text,
			 bytes);
	unfit(l, line);
}

static int end_list(struct memory_load *l, uint64_t offset, struct vfmig_error *err)
{
	char line[WIRE_ID_MAX + 64];
	l->in_list = false;
	l->has_list = true;
	for (size_t i = 0; i < l->memory->count; i++) {
		const struct memory_block *b = &l->memory->blocks[i];
		if (b->incoming || b->skipped)
			continue;
		snprintf(line, sizeof(line), "block \"%s\" is not in the stream", b->name);
		unfit(l, line);
	}
	if (!l->unfit)
		return 0;
	if (l->unfit > 1)
		return error_set(err, -EINVAL, "offset 0x%" PRIx64 ": memory: %s (and %zu more)", offset,
				 l->first_unfit, l->unfit - 1);
	return error_set(err, -EINVAL, "offset 0x%" PRIx64 ": memory: %s", offset, l->first_unfit);
}

/* 1: one block of the list; 0: more bytes needed. */
static int list_block(struct memory_load *l, struct cursor *c, uint64_t offset, struct vfmig_error *err)
{
	const uint8_t *length = cursor_take(c, 1);
	const uint8_t *name = length ? cursor_take(c, *length) : NULL;
	const uint8_t *size = name ? cursor_take(c, 8) : NULL;
	if (!size)
		return 0;
	uint64_t bytes = get_be64(size);
	if (bytes == 0 || bytes > l->list_left)
		return broken(offset, err, "a block of no bytes, or of more than are left of the memory:", bytes);
	take_block(l, name, *length, bytes);
	l->list_left -= bytes;
	int r = l->list_left ? 0 : end_list(l, offset, err);
	return r < 0 ? r : 1;
}

static int begin_list(struct memory_load *l, uint64_t total, uint64_t offset, struct vfmig_error *err)
{
	if (l->has_list)
		return broken(offset, err, "a second list of blocks, of bytes", total);
	if (total == 0)
		return broken(offset, err, "a list of blocks, of bytes", total);
	l->in_list = true;
	l->list_left = total;
	return 1;
}

/* ------------------------------------------------------------------ pages */

/* 1: *ret is the page's block (NULL: passed over); 0: more bytes needed. */
static int page_block(struct memory_load *l, uint64_t flags, uint64_t address, struct cursor *c, uint64_t offset,
		      struct memory_block **ret, struct vfmig_error *err)
{
	char text[TEXT_SIZE];
	*ret = l->block;
	if (!(flags & WIRE_RAM_CONTINUE)) {
		const uint8_t *length = cursor_take(c, 1);
		const uint8_t *name = length ? cursor_take(c, *length) : NULL;
		if (!name)
			return 0;
		*ret = memory_find(l->memory, (const char *)name, *length);
		if (!*ret || !(*ret)->incoming)
			return error_set(err, -EBADMSG,
					 "offset 0x%" PRIx64 ": memory: a page of block \"%s\", which was not listed",
					 offset, text_escape(text, sizeof(text), (const char *)name, *length));
	}
	if (!*ret)
		return broken(offset, err, "a page of the same block before any block, flags", flags);
	if (!range_inside(address, WIRE_PAGE_SIZE, (*ret)->incoming))
		return error_set(err, -EBADMSG,
				 "offset 0x%" PRIx64 ": memory: a page at 0x%" PRIx64
				 " of block \"%s\", which has 0x%" PRIx64 " bytes", offset, address,
				 (*ret)->name, (*ret)->incoming);
	return 1;
}

/* A page that is as it should be is not touched: one that nobody has written takes no memory. */
static int fill_page(struct memory_load *l, const struct memory_block *b, uint64_t address, uint8_t with,
		     struct vfmig_error *err)
{
	uint8_t now[WIRE_PAGE_SIZE];
	int r = with ? 0 : memory_read(b, address, now, sizeof(now), err);
	if (r == 0 && (with || !memory_is_zero(now, sizeof(now))))
		memset(b->address + address, with, WIRE_PAGE_SIZE);
	l->memory->zero_pages += !with;
	l->memory->pages += with != 0;
	return r;
}

/* 1: done; 0: more bytes needed. Nothing is changed before all of it is there. */
static int page(struct memory_load *l, uint64_t flags, uint64_t address, struct cursor *c, uint64_t offset,
		struct vfmig_error *err)
{
	struct memory_block *b = NULL;
	bool zero = flags & WIRE_RAM_ZERO;
	int r = page_block(l, flags, address, c, offset, &b, err);
	if (r <= 0)
		return r;
	const uint8_t *data = cursor_take(c, zero ? 1 : WIRE_PAGE_SIZE);
	if (!data)
		return 0;
	l->block = b;
	if (l->checking || b->skipped)
		return 1;
	if (zero) {
		r = fill_page(l, b, address, *data, err);
		return r < 0 ? r : 1;
	}
	memcpy(b->address + address, data, WIRE_PAGE_SIZE);
	l->memory->pages++;
	return 1;
}

static int refuse(uint64_t offset, const char *what, const char *capability, struct vfmig_error *err)
{
	return error_set(err, -EOPNOTSUPP,
			 "offset 0x%" PRIx64 ": memory: %s cannot be loaded: switch %s off at the source", offset, what,
			 capability);
}

/* The packet at c. 2: it ends the body; 1: taken; 0: more bytes needed. */
static int packet(struct memory_load *l, struct cursor *c, uint64_t offset, struct vfmig_error *err)
{
	if (l->in_list)
		return list_block(l, c, offset, err);
	const uint8_t *p = cursor_take(c, 8);
	if (!p)
		return 0;
	uint64_t flags = get_be64(p) & (WIRE_PAGE_SIZE - 1), address = get_be64(p) - flags;
	switch (flags & ~(uint64_t)WIRE_RAM_CONTINUE) {
	case WIRE_RAM_EOS:
		return 2;
	case WIRE_RAM_MEM_SIZE:
		return begin_list(l, address, offset, err);
	case WIRE_RAM_ZERO:
	case WIRE_RAM_PAGE:
		return page(l, flags, address, c, offset, err);
	case WIRE_RAM_XBZRLE:
		return refuse(offset, "a page as the difference to its last one", "the capability xbzrle", err);
	case WIRE_RAM_COMPRESS:
		return refuse(offset, "a compressed page", "the capability compress", err);
	case WIRE_RAM_MULTIFD_FLUSH:
		return refuse(offset, "memory that comes by further connections", "the capability multifd", err);
	case WIRE_RAM_HOOK:
		return refuse(offset, "memory that comes by RDMA", "the transport rdma:", err);
	default:
		return broken(offset, err, "unknown flags", flags);
	}
}

static int load_setup(void *opaque, struct vfmig_error *err)
{
	struct memory_load *l = opaque;
	(void)err;
	l->in_list = l->has_list = false;
	l->unfit = 0;
	l->block = NULL;
	l->memory->pages = l->memory->zero_pages = 0;
	for (size_t i = 0; i < l->memory->count; i++)
		l->memory->blocks[i].incoming = 0;
	return 0;
}

static int load_state(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
		      size_t *ret_used, struct vfmig_error *err)
{
	struct memory_load *l = opaque;
	struct cursor c = { data, length };
	int r;
	if (section->version_id != WIRE_RAM_VERSION)
		return broken(section->body_offset, err, "only version 4 is known, this is", section->version_id);
	do {
		struct cursor ahead = c;
		r = packet(l, &ahead, section->offset + (length - c.length), err);
		if (r > 0)
			c = ahead;
	} while (r == 1);
	*ret_used = length - c.length;
	return r == 2 ? 1 : r;
}

static int load_complete(void *opaque, struct vfmig_error *err)
{
	const struct memory_load *l = opaque;
	return l->has_list ? 0 : error_set(err, -EBADMSG, "memory: the stream has no list of blocks");
}

static void set_checking(void *opaque, bool checking)
{
	struct memory_load *l = opaque;
	l->checking = checking;
}

static void load_cleanup(void *opaque)
{
	struct memory_load *l = opaque;
	memory_unlock(&l->lock);
}

static void memory_load_free(void *opaque)
{
	load_cleanup(opaque);
	free(opaque);
}

static const struct vfmig_participant_ops memory_load_ops = {
	.size = sizeof(memory_load_ops),
	.load_setup = load_setup,
	.load_state = load_state,
	.load_complete = load_complete,
	.load_cleanup = load_cleanup,
};

int memory_load_add(struct participants *p, struct vfmig_memory *memory, const struct log *log,
		    struct vfmig_error *err)
{
	struct participant *added;
	struct memory_load *l = calloc(1, sizeof(*l));
	if (!l)
		return error_errno(err, -ENOMEM, "memory");
	l->memory = memory;
	l->log = log;
	int r = participants_add(p, &memory_load_ops, l, MEMORY_ID, 0, WIRE_RAM_VERSION, &added, err);
	if (r == 0 && (r = memory_lock(memory, true, &l->lock, err)) < 0)
		p->count--; /* the one that was just added */
	if (r < 0) {
		memory_load_free(l);
		return r;
	}
	added->name = "memory";
	added->set_checking = set_checking;
	added->free = memory_load_free;
	return 0;
}
