/* SPDX-License-Identifier: BSD-3-Clause */
/* streams.c: builds and walks streams for the tests. */
#include "streams.h"

#include <inttypes.h>
#include <stdarg.h>

#include "base/bytes.h"

static void flush(struct vfmig_writer *w)
{
	int rc;

	while ((rc = writer_flush(w, NULL)) == -EAGAIN)
		;
	if (rc < 0)
		abort();
}

static void put_config(struct vfmig_writer *w)
{
	uint8_t space[WIRE_PCI_CONFIG_SMALL] = { 0x34, 0x12, 0x78, 0x56 };

	vfmig_put_be64(w, WIRE_VFIO_CONFIG_STATE);
	vfmig_put_be32(w, WIRE_PCI_VERSION);
	vfmig_put_bytes(w, space, sizeof(space));
	for (unsigned int i = 0; i < WIRE_PCI_INTX_LEVELS; i++)
		vfmig_put_be32(w, 0);
	vfmig_put_be64(w, WIRE_VFIO_END_OF_STATE);
}

static void put_data(struct vfmig_writer *w, const void *data, size_t length)
{
	vfmig_put_be64(w, WIRE_VFIO_DATA_STATE);
	vfmig_put_be64(w, length);
	vfmig_put_ref(w, data, length);
	flush(w);
}

static void finish(struct vfmig_writer *w)
{
	struct description_device device = { .id = TEST_ID,
					     .has_identity = true,
					     .identity = { 0x1234, 0x5678, 1, 2, 0x20000, 3 },
					     .data_bytes = 13,
					     .data_packets = 2,
					     .config_bytes = 276,
					     .full_bytes = 292 };
	struct description d = { .machine = "pc-q35-7.2", .devices = &device, .num_devices = 1 };
	struct vfmig_error err;

	description_hex(0x0123456789abcdef, 0xfedcba9876543210, device.data_digest);
	if (writer_finish(w, &d, &err) < 0)
		abort();
	flush(w);
}

void stream_build(struct memory_link *m, uint32_t section_id, bool with_end)
{
	struct vfmig_writer *w;
	uint8_t ping[4] = { 1, 2, 3, 4 };

	if (writer_new(&m->link, &w, NULL) < 0)
		abort();
	writer_header(w, "pc-q35-7.2");
	writer_command(w, WIRE_COMMAND_PING, ping, sizeof(ping));
	writer_section_begin(w, 'S', section_id, TEST_ID, 0, 1);
	vfmig_put_be64(w, WIRE_VFIO_SETUP_STATE);
	vfmig_put_be64(w, WIRE_VFIO_END_OF_STATE);
	writer_section_end(w, section_id);
	writer_section_begin(w, 'P', section_id, TEST_ID, 0, 1);
	put_data(w, "hello", 5);
	vfmig_put_be64(w, WIRE_VFIO_END_OF_STATE);
	writer_section_end(w, section_id);
	writer_section_begin(w, 'E', section_id, TEST_ID, 0, 1);
	put_data(w, "", 0);
	put_data(w, "and good", 8);
	vfmig_put_be64(w, WIRE_VFIO_END_OF_STATE);
	writer_section_end(w, section_id);
	writer_section_begin(w, 'F', section_id, TEST_ID, 0, 1);
	put_config(w);
	writer_section_end(w, section_id);
	if (with_end)
		finish(w);
	flush(w);
	if (writer_offset(w) != m->length)
		abort();
	writer_free(w);
}

struct walk {
	char *trace;
	size_t size, used;
	struct vfio_parser parser;
	uint64_t data_bytes; /* of the packet being given */
};

static void __attribute__((format(printf, 2, 3))) say(struct walk *walk, const char *format, ...)
{
	va_list ap;

	if (!walk->trace)
		return;
	va_start(ap, format);
	int n = vsnprintf(walk->trace + walk->used, walk->size - walk->used, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= walk->size - walk->used)
		abort();
	walk->used += (size_t)n;
}

static void say_event(struct walk *walk, const struct vfio_event *e)
{
	static const char *const names[] = { "SETUP", "DATA", "", "", "CONFIG", "INIT_DATA_SENT", "CONFIG_READY",
					     "END_OF_STATE" };

	if (e->kind == VFIO_EVENT_DATA) {
		walk->data_bytes += e->length;
		return;
	}
	if (e->kind == VFIO_EVENT_DATA_BEGIN)
		walk->data_bytes = 0;
	if (e->kind == VFIO_EVENT_DATA_END)
		say(walk, "  given %" PRIu64 "\n", walk->data_bytes);
	else
		say(walk, "  0x%" PRIx64 " %s %" PRIu64 " %zu\n", e->offset, names[e->kind], e->size, e->length);
}

static int body(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length, size_t *ret_used,
		struct vfmig_error *err)
{
	struct walk *walk = opaque;
	struct vfio_event event;
	size_t at = 0, used;
	int rc;

	do {
		rc = vfio_parser_next(&walk->parser, section->offset + at, data + at, length - at, &used, &event, err);
		if (rc <= 0)
			break;
		at += used;
		say_event(walk, &event);
	} while (!vfio_event_ends_body(event.kind));
	*ret_used = at;
	return rc;
}

static int read_body(struct reader *r, enum walk_how how, const char *id, struct walk *walk, struct vfmig_error *err)
{
	uint64_t before = reader_offset(r);
	int rc;

	walk->parser = (struct vfio_parser) { 0 };
	do {
		rc = how == WALK_FEED && reader_is_vfio(id) ? reader_feed(r, body, walk, err) : reader_skip(r, err);
	} while (rc == 1 || rc == -EAGAIN);
	if (rc == 0)
		say(walk, "  body %" PRIu64 "\n", reader_offset(r) - before - 5);
	return rc;
}

static void say_record(struct walk *walk, const struct reader_record *rec)
{
	static const char *const names[] = { "HEADER", "CONFIGURATION", "SECTION", "COMMAND",
					     "EOF",    "DESCRIPTION",	"END" };

	say(walk, "0x%" PRIx64 " %s %s", rec->offset, names[rec->kind], rec->name);
	if (rec->kind == READER_SECTION)
		say(walk, " %c 0x%" PRIx32 " %" PRIu32 " %" PRIu32, rec->section.kind, rec->section.section_id,
		    rec->section.instance_id, rec->section.version_id);
	if (rec->kind == READER_COMMAND)
		say(walk, "%u %u", rec->command, rec->payload_length);
	say(walk, "\n");
}

static int walk_records(struct reader *r, enum walk_how how, struct walk *walk, struct vfmig_error *err)
{
	for (;;) {
		struct reader_record rec;
		int rc = reader_next(r, &rec, err);
		if (rc == -EAGAIN)
			continue;
		if (rc < 0)
			return rc;
		say_record(walk, &rec);
		if (rec.kind == READER_END)
			return 0;
		if (rec.kind == READER_SECTION)
			rc = read_body(r, how, rec.name, walk, err);
		if (rc < 0)
			return rc;
	}
}

int stream_walk(struct vfmig_link *link, enum walk_how how, char *trace, size_t size, bool *ret_verified,
		struct vfmig_error *err)
{
	struct walk walk = { .trace = trace, .size = size };
	struct reader *r;

	int rc = reader_new(link, &r, err);
	if (rc < 0)
		return rc;
	rc = walk_records(r, how, &walk, err);
	if (ret_verified)
		*ret_verified = reader_verified(r);
	reader_free(r);
	return rc;
}
