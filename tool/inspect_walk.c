/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_walk.c: reads a stream and makes a record of everything in it. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/text.h"
#include "inspect_json.h"
#include "inspect_ram.h"
#include "output.h"
#include "pci_text.h"
#include "stream/vfio_packets.h"

struct walk {
	struct vfmig_link *link;
	struct reader *reader;
	struct inspect_sink *sink;
	struct reader_record current; /* the section that is being read */
	struct inspect_ram ram;
	bool config; /* the section has a config record */
};

const char *inspect_text(const char *raw, char text[INSPECT_TEXT_MAX])
{
	return text_escape(text, INSPECT_TEXT_MAX, raw, strlen(raw));
}

static struct json_object *new_record(const char *type, uint64_t offset, uint64_t length)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "type", output_string(type));
	record_add_number(o, "offset", offset);
	record_add_number(o, "length", length);
	return o;
}

static void give(struct walk *w, struct json_object *record)
{
	w->sink->record(w->sink, record);
	json_object_put(record);
}

void inspect_wait(const struct vfmig_link *link, short events)
{
	struct pollfd p = { .fd = link->wait_fd, .events = events };

	poll(&p, 1, link->wait_fd < 0 ? 1 : -1);
}

/* ------------------------------------------------------- configuration */

static void add_capabilities(struct json_object *record, struct cursor *c)
{
	struct json_object *names = json_object_new_array();
	const uint8_t *count = cursor_take(c, 4);

	for (uint32_t i = 0; count && i < get_be32(count); i++) {
		char raw[WIRE_ID_MAX + 1], text[INSPECT_TEXT_MAX];
		const uint8_t *length = cursor_take(c, 1), *name = length ? cursor_take(c, *length) : NULL;
		if (!name)
			break;
		snprintf(raw, sizeof(raw), "%.*s", *length, (const char *)name);
		json_object_array_add(names, output_string(inspect_text(raw, text)));
	}
	json_object_object_add(record, "capabilities", names);
}

static void add_uuid(struct json_object *record, struct cursor *c)
{
	const uint8_t *uuid = cursor_take(c, 16);
	char hex[33] = "";

	for (int i = 0; uuid && i < 16; i++)
		sprintf(hex + 2 * i, "%02x", uuid[i]);
	record_add_text(record, "uuid", hex);
}

/* The reader has checked them: only these three, each whole. */
static void add_subsections(struct json_object *record, const uint8_t *data, size_t length)
{
	struct cursor c = { data, length };
	const uint8_t *head, *name;

	while ((head = cursor_take(&c, 2)) && (name = cursor_take(&c, head[1])) && cursor_take(&c, 4)) {
		size_t n = head[1];
		if (n == 26 && memcmp(name, "configuration/capabilities", n) == 0) {
			add_capabilities(record, &c);
		} else if (n == 18 && memcmp(name, "configuration/uuid", n) == 0) {
			add_uuid(record, &c);
		} else {
			const uint8_t *bits = cursor_take(&c, 4);
			record_add_number(record, "target_page_bits", bits ? get_be32(bits) : 0);
		}
	}
}

/* -------------------------------------------------------------- packets */

static void give_packet(struct walk *w, const struct vfio_event *e)
{
	static const struct { enum vfio_event_kind kind; const char *name; unsigned int header; } kinds[] = {
		{ VFIO_EVENT_SETUP, "SETUP", 8 },   { VFIO_EVENT_DATA_BEGIN, "DATA", 16 },
		{ VFIO_EVENT_CONFIG, "CONFIG", 8 }, { VFIO_EVENT_INIT_DATA_SENT, "INIT_DATA_SENT", 8 },
		{ VFIO_EVENT_CONFIG_READY, "CONFIG_READY", 8 },
		{ VFIO_EVENT_END, "END_OF_STATE", 8 },
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].kind != e->kind)
			continue;
		struct json_object *o = new_record("packet", e->offset, kinds[i].header);
		json_object_object_add(o, "packet", output_string(kinds[i].name));
		record_add_number(o, "bytes", e->size);
		if (e->kind == VFIO_EVENT_CONFIG) {
			record_add_number(o, "record_bytes", e->length);
			json_object_object_add(o, "config", pci_record_json(e->data, e->length));
		}
		give(w, o);
	}
}

static int take_event(struct walk *w, const struct vfio_event *e, struct vfmig_error *err)
{
	struct inspect_sink *s = w->sink;

	give_packet(w, e);
	w->config |= e->kind == VFIO_EVENT_CONFIG;
	if (e->kind == VFIO_EVENT_DATA && s->data)
		return s->data(s, &w->current, e->data, e->length, err);
	if (e->kind == VFIO_EVENT_CONFIG && s->config)
		return s->config(s, &w->current, e->offset + 8, e->data, e->length, err);
	return 0;
}

static int take_vfio(void *opaque, const struct vfmig_section *section, const struct vfio_event *event,
		     struct vfmig_error *err)
{
	(void)section;
	return take_event(opaque, event, err);
}

/* -------------------------------------------------------------- records */

static void give_bytes(void *opaque, uint64_t offset, const uint8_t *data, size_t length)
{
	struct walk *w = opaque;

	w->sink->bytes(w->sink, offset, data, length);
}

static void give_section(struct walk *w)
{
	static const struct { char kind; const char *name; } kinds[] = {
		{ 'S', "START" }, { 'P', "PART" }, { 'E', "END" }, { 'F', "FULL" },
	};
	const struct reader_record *rec = &w->current;
	struct json_object *o = new_record("section", rec->offset, rec->length);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].kind == rec->section.kind)
			json_object_object_add(o, "kind", output_string(kinds[i].name));
	}
	record_add_text(o, "id", rec->name);
	record_add_number(o, "section_id", rec->section.section_id);
	record_add_number(o, "instance_id", rec->section.instance_id);
	record_add_number(o, "version_id", rec->section.version_id);
	give(w, o);
}

static void give_section_end(struct walk *w)
{
	const struct reader_record *rec = &w->current;
	struct json_object *o = new_record("section-end", reader_offset(w->reader) - 5, 5);

	record_add_number(o, "bytes", reader_offset(w->reader) - 5 - rec->section.body_offset);
	if (reader_is_vfio(rec->name) && rec->section.kind == 'F' && !w->config)
		json_object_object_add(o, "over_channels", json_object_new_boolean(true));
	if (strcmp(rec->name, "ram") == 0)
		inspect_ram_section(&w->ram, o);
	give(w, o);
}

static int read_section(struct walk *w, struct vfmig_error *err)
{
	const struct reader_vfio_ops vfio = { .event = take_vfio, .no_data = !w->sink->data };
	int rc;

	give_section(w);
	bool bytes = w->sink->wants_bytes && w->sink->wants_bytes(w->sink, &w->current);
	reader_watch(w->reader, bytes ? give_bytes : NULL, w);
	w->config = false;
	do {
		rc = reader_is_vfio(w->current.name) ? reader_feed_vfio(w->reader, &vfio, w, err) :
						       reader_skip(w->reader, err);
		if (rc == -EAGAIN)
			inspect_wait(w->link, POLLIN);
	} while (rc == 1 || rc == -EAGAIN);
	if (rc == 0)
		give_section_end(w);
	return rc;
}

static void give_command(struct walk *w, const struct reader_record *rec)
{
	static const struct { uint16_t number; const char *name; } commands[] = {
		{ WIRE_COMMAND_OPEN_RETURN_PATH, "open return path" },
		{ WIRE_COMMAND_PING, "ping" },
		{ WIRE_COMMAND_POSTCOPY_ADVISE, "postcopy advise" },
		{ WIRE_COMMAND_SWITCHOVER_START, "switchover start" },
	};
	struct json_object *o = new_record("command", rec->offset, rec->length);
	const char *name = "unknown";

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (commands[i].number == rec->command)
			name = commands[i].name;
	}
	record_add_number(o, "command", rec->command);
	json_object_object_add(o, "name", output_string(name));
	record_add_number(o, "payload_bytes", rec->payload_length);
	give(w, o);
}

static struct json_object *vfmig_json(const struct reader_record *rec)
{
	struct json_tokener *tokener = json_tokener_new_ex(100);
	struct json_object *root, *vfmig = NULL;

	if (!tokener)
		return NULL;
	root = json_tokener_parse_ex(tokener, (const char *)rec->data, (int)rec->data_length);
	json_tokener_free(tokener);
	if (json_object_object_get_ex(root, "vfmig", &vfmig))
		json_object_get(vfmig);
	json_object_put(root);
	return vfmig;
}

static void give_description(struct walk *w, const struct reader_record *rec)
{
	struct json_object *o = new_record("description", rec->offset, rec->length);

	json_object_object_add(o, "vfmig", reader_description(w->reader) ? vfmig_json(rec) : NULL);
	json_object_object_add(o, "verified", json_object_new_boolean(reader_verified(w->reader)));
	give(w, o);
	if (w->sink->description)
		w->sink->description(w->sink, rec->offset, rec->data, rec->data_length);
}

static int take_record(struct walk *w, const struct reader_record *rec, struct vfmig_error *err)
{
	struct json_object *o;

	switch (rec->kind) {
	case READER_HEADER:
		o = new_record("header", rec->offset, rec->length);
		give(w, o);
		return 0;
	case READER_CONFIGURATION:
		o = new_record("configuration", rec->offset, rec->length);
		record_add_text(o, "machine", rec->name);
		add_subsections(o, rec->data, rec->data_length);
		give(w, o);
		return 0;
	case READER_SECTION:
		w->current = *rec;
		return read_section(w, err);
	case READER_COMMAND:
		give_command(w, rec);
		return 0;
	case READER_EOF:
		o = new_record("eof", rec->offset, rec->length);
		inspect_ram_total(&w->ram, o);
		give(w, o);
		return 0;
	case READER_DESCRIPTION:
		give_description(w, rec);
		return 0;
	case READER_END:
		return 1;
	}
	return 0;
}

/* The reader refuses it, and has its first bytes still. */
static bool is_channel(const struct reader *reader)
{
	struct cursor first = reader_rest(reader);

	return first.length >= 4 && get_be32(first.data) == WIRE_MULTIFD_MAGIC;
}

int inspect_walk(struct vfmig_link *link, struct inspect_sink *sink, struct inspect_result *ret,
		 struct vfmig_error *err)
{
	struct walk w = { .link = link, .sink = sink };
	struct reader_record rec;

	*ret = (struct inspect_result) { 0 };
	if (sink->begin && !link->seekable)
		return error_set(err, -EINVAL, "%s: only in a file that can be sought a stream has an offset",
				 link->name);
	int rc = reader_new(link, &w.reader, err);
	if (rc < 0)
		return rc;
	reader_allow_advise(w.reader);
	reader_begin_at(w.reader, sink->begin);
	rc = inspect_ram_begin(&w.ram, sink, w.reader, err);
	while (rc == 0 || rc == -EAGAIN) {
		rc = reader_next(w.reader, &rec, err);
		if (rc == 0)
			rc = take_record(&w, &rec, err);
		else if (rc == -EAGAIN)
			inspect_wait(link, POLLIN);
	}
	*ret = (struct inspect_result) {
		.bytes = reader_offset(w.reader) - sink->begin,
		.marked = reader_marked(w.reader),
		.verified = reader_verified(w.reader),
		.mapped = strcmp(reader_ram_capability(w.reader), "mapped-ram") == 0,
		.fault = rc == -EBADMSG ? reader_fault(w.reader) : FAULT_NONE,
	};
	inspect_ram_end(&w.ram);
	if (ret->fault == FAULT_MAGIC && !is_channel(w.reader))
		rc = inspect_layout(link, sink->begin, reader_rest(w.reader), err);
	else if (ret->fault == FAULT_MAGIC)
		rc = inspect_channel(link, reader_rest(w.reader), sink, ret, err);
	reader_free(w.reader);
	return rc < 0 ? rc : 0;
}
