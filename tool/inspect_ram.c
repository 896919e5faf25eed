/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_ram.c: counts what is in the section ram, block by block, and looks whether it fits together. */
#include "inspect_ram.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "inspect_json.h"
#include "lint.h"

static void broken(struct inspect_ram *ram, unsigned int rule, uint64_t offset, const char *what, const char *name,
		   uint64_t value)
{
	char message[512];

	if (!ram->sink->broken)
		return;
	snprintf(message, sizeof(message), "%s '%s', 0x%" PRIx64, what, name, value);
	ram->sink->broken(ram->sink, rule, offset, message);
}

static struct inspect_block *find(struct inspect_ram *ram, const char *name)
{
	for (size_t i = 0; i < ram->num_blocks; i++) {
		if (strcmp(ram->blocks[i].block.name, name) == 0)
			return &ram->blocks[i];
	}
	return NULL;
}

static void add_block(void *opaque, uint64_t offset, const struct ram_block *block)
{
	struct inspect_ram *ram = opaque;

	if (find(ram, block->name))
		broken(ram, LINT_RAM_BLOCK_TWICE, offset, "a second block", block->name, block->bytes);
	else if (ram->num_blocks < INSPECT_BLOCKS_MAX)
		ram->blocks[ram->num_blocks++] = (struct inspect_block) { .block = *block, .offset = offset };
}

static void add_bitmap(void *opaque, const uint8_t *bits, size_t length)
{
	struct inspect_ram *ram = opaque;
	struct inspect_block *last = ram->num_blocks ? &ram->blocks[ram->num_blocks - 1] : NULL;
	uint64_t count = 0;

	for (size_t i = 0; i < length; i++)
		count += (unsigned int)__builtin_popcount(bits[i]);
	ram->section.mapped += count;
	if (last)
		last->pages.mapped += count;
}

static void count(struct inspect_pages *pages, uint64_t kind)
{
	pages->normal += kind == WIRE_RAM_PAGE;
	pages->zero += kind == WIRE_RAM_ZERO;
	pages->xbzrle += kind == WIRE_RAM_XBZRLE;
	pages->compressed += kind == WIRE_RAM_COMPRESS;
}

static void add_page(void *opaque, uint64_t offset, uint64_t kind, const char *name, uint64_t address)
{
	struct inspect_ram *ram = opaque;

	count(&ram->section, kind);
	if (name) {
		ram->current = find(ram, name);
		if (!ram->current && ram->num_blocks < INSPECT_BLOCKS_MAX)
			broken(ram, LINT_RAM_OTHER_BLOCK, offset, "a page of a block that is not in the list:", name,
			       address);
	}
	if (!ram->current)
		return;
	count(&ram->current->pages, kind);
	if (!range_inside(address, WIRE_PAGE_SIZE, ram->current->block.bytes))
		broken(ram, LINT_RAM_OUTSIDE, offset, "a page behind the end of block", ram->current->block.name,
		       address);
}

int inspect_ram_begin(struct inspect_ram *ram, struct inspect_sink *sink, struct reader *reader,
		      struct vfmig_error *err)
{
	struct ram_watcher watcher = { ram, add_block, add_bitmap, add_page };

	*ram = (struct inspect_ram) { .sink = sink };
	ram->blocks = calloc(INSPECT_BLOCKS_MAX, sizeof(*ram->blocks));
	if (!ram->blocks)
		return error_errno(err, -ENOMEM, "blocks of ram");
	reader_watch_ram(reader, &watcher);
	return 0;
}

void inspect_ram_end(struct inspect_ram *ram)
{
	free(ram->blocks);
}

/* ------------------------------------------------------------- in JSON */

static struct json_object *pages_json(const struct inspect_pages *pages)
{
	struct json_object *o = json_object_new_object();

	record_add_number(o, "normal", pages->normal);
	record_add_number(o, "zero", pages->zero);
	if (pages->xbzrle)
		record_add_number(o, "xbzrle", pages->xbzrle);
	if (pages->compressed)
		record_add_number(o, "compressed", pages->compressed);
	if (pages->mapped)
		record_add_number(o, "mapped", pages->mapped);
	return o;
}

static struct json_object *block_json(const struct inspect_block *b, bool counts)
{
	struct json_object *o = json_object_new_object();

	record_add_text(o, "name", b->block.name);
	record_add_number(o, "bytes", b->block.bytes);
	if (b->block.pages_offset) {
		record_add_number(o, "bitmap_offset", b->block.bitmap_offset);
		record_add_number(o, "pages_offset", b->block.pages_offset);
	}
	if (counts)
		json_object_object_add(o, "pages", pages_json(&b->pages));
	else
		record_add_number(o, "offset", b->offset);
	return o;
}

void inspect_ram_section(struct inspect_ram *ram, struct json_object *record)
{
	if (ram->listed < ram->num_blocks) {
		struct json_object *blocks = json_object_new_array();
		for (; ram->listed < ram->num_blocks; ram->listed++)
			json_object_array_add(blocks, block_json(&ram->blocks[ram->listed], false));
		json_object_object_add(record, "blocks", blocks);
	}
	json_object_object_add(record, "pages", pages_json(&ram->section));
	ram->section = (struct inspect_pages) { 0 };
}

void inspect_ram_total(const struct inspect_ram *ram, struct json_object *record)
{
	struct json_object *blocks = json_object_new_array();
	uint64_t bytes = 0;

	if (!ram->num_blocks) {
		json_object_put(blocks);
		return;
	}
	for (size_t i = 0; i < ram->num_blocks; i++) {
		json_object_array_add(blocks, block_json(&ram->blocks[i], true));
		bytes += ram->blocks[i].block.bytes;
	}
	record_add_number(record, "ram_bytes", bytes);
	json_object_object_add(record, "ram_blocks", blocks);
}
