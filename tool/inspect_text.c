/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_text.c: prints a stream's records for people, one line or more each. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "inspect_json.h"
#include "stream/description.h"
#include "pci_text.h"

/* "" for what a description of a stranger's does not have, without anything a terminal would obey. */
static const char *text(struct json_object *o, const char *key, char buffer[INSPECT_TEXT_MAX])
{
	return inspect_text(record_string(o, key), buffer);
}

static void print_configuration(struct json_object *r)
{
	char buffer[INSPECT_TEXT_MAX];
	struct json_object *names = record_get(r, "capabilities");

	printf("machine %s", text(r, "machine", buffer));
	for (size_t i = 0; names && i < json_object_array_length(names); i++)
		printf("%s %s", i ? "," : "; capabilities",
		       json_object_get_string(json_object_array_get_idx(names, i)));
	if (record_get(r, "target_page_bits"))
		printf("; target page bits %" PRIu64, record_number(r, "target_page_bits"));
	if (record_get(r, "uuid"))
		printf("; uuid %s", text(r, "uuid", buffer));
	printf("\n");
}

static void print_channel(struct json_object *r)
{
	char buffer[INSPECT_TEXT_MAX];

	printf("channel %" PRIu64 " of a migration by several connections, uuid %s\n", record_number(r, "channel"),
	       text(r, "uuid", buffer));
}

static void print_channel_packet(struct json_object *r)
{
	char kind[INSPECT_TEXT_MAX], id[INSPECT_TEXT_MAX];

	text(r, "packet", kind);
	if (strcmp(kind, "sync") == 0) {
		printf("the end of a round of memory\n");
	} else if (strcmp(kind, "memory") == 0) {
		printf("memory %s  %" PRIu64 " bytes, pages: %" PRIu64 ", %" PRIu64 " of them zero\n",
		       text(r, "block", id), record_number(r, "bytes"), record_number(r, "pages"),
		       record_number(r, "zero_pages"));
	} else {
		printf("device %s  instance %" PRIu64 " index %" PRIu64 ", %" PRIu64 " bytes%s\n", text(r, "id", id),
		       record_number(r, "instance_id"), record_number(r, "index"), record_number(r, "bytes"),
		       record_get(r, "config") ? ", its config record" : "");
		if (record_get(r, "config"))
			pci_record_print(record_get(r, "config"), "                ");
	}
}

static void print_section(struct json_object *r)
{
	char kind[INSPECT_TEXT_MAX], id[INSPECT_TEXT_MAX];

	printf("%-5s %s  section 0x%" PRIx64 " instance %" PRIu64 " version %" PRIu64, text(r, "kind", kind),
	       text(r, "id", id), record_number(r, "section_id"), record_number(r, "instance_id"),
	       record_number(r, "version_id"));
}

static void print_packet(struct json_object *r)
{
	char buffer[INSPECT_TEXT_MAX];
	const char *packet = text(r, "packet", buffer);
	struct json_object *config = record_get(r, "config");

	printf("  %s", packet);
	if (strcmp(packet, "DATA") == 0 || config)
		printf(" %" PRIu64 " bytes", record_number(r, "bytes"));
	if (config && record_number(config, "space_bytes"))
		printf(", config space %" PRIu64, record_number(config, "space_bytes"));
	printf("\n");
	if (config && record_number(r, "bytes"))
		pci_record_print(config, "                ");
}

static void print_identity(struct json_object *identity)
{
	printf(", PCI %04x:%04x subsystem %04x:%04x class %06x revision %02x",
	       (unsigned int)record_number(identity, "vendor"), (unsigned int)record_number(identity, "device"),
	       (unsigned int)record_number(identity, "subsystem_vendor"),
	       (unsigned int)record_number(identity, "subsystem"), (unsigned int)record_number(identity, "class"),
	       (unsigned int)record_number(identity, "revision"));
}

static void print_vfmig(struct json_object *vfmig)
{
	struct json_object *devices = record_get(vfmig, "devices");
	char buffer[INSPECT_TEXT_MAX];

	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *d = json_object_array_get_idx(devices, i);
		printf("              %s instance %" PRIu64, text(d, "id", buffer), record_number(d, "instance_id"));
		if (record_get(d, "identity"))
			print_identity(record_get(d, "identity"));
		const char *digest = text(d, "data_digest", buffer);
		bool by_channels = strcmp(digest, DESCRIPTION_NO_DIGEST) != 0;
		printf("\n                data %" PRIu64 " bytes in %" PRIu64 " packets%s%s; config record %" PRIu64
		       " bytes\n",
		       record_number(d, "data_bytes"), record_number(d, "data_packets"),
		       by_channels ? ", digest " : "", by_channels ? digest : "", record_number(d, "config_bytes"));
	}
	const char *seal = text(vfmig, "seal", buffer);
	if (strcmp(seal, DESCRIPTION_NO_DIGEST) == 0)
		printf("              written without digests: nobody can tell whether something was changed\n");
	else
		printf("              seal %s: right, nothing was changed since vfmig wrote it\n", seal);
}

static void print_description(struct json_object *r)
{
	struct json_object *vfmig = record_get(r, "vfmig");

	printf("description %" PRIu64 " bytes", record_number(r, "length") - 5);
	if (!vfmig) {
		printf(", not vfmig's: no digests to verify\n");
		return;
	}
	printf(", vfmig's version %" PRIu64 "\n", record_number(vfmig, "version"));
	print_vfmig(vfmig);
}

/* What has no printer of its own. */
static void print_other(struct json_object *r, const char *type)
{
	char buffer[INSPECT_TEXT_MAX];

	if (strcmp(type, "command") == 0)
		printf("command %" PRIu64 " %s, payload %" PRIu64 " bytes\n", record_number(r, "command"),
		       text(r, "name", buffer), record_number(r, "payload_bytes"));
	else
		printf("QEVM, version 3\n");
}

static void print_pages(struct json_object *pages)
{
	const char *before = ", pages: ";

	json_object_object_foreach(pages, kind, count) {
		if (json_object_get_uint64(count)) {
			printf("%s%" PRIu64 " %s", before, json_object_get_uint64(count), kind);
			before = ", ";
		}
	}
}

static void print_blocks(struct json_object *blocks)
{
	char buffer[INSPECT_TEXT_MAX];

	for (size_t i = 0; blocks && i < json_object_array_length(blocks); i++) {
		struct json_object *b = json_object_array_get_idx(blocks, i);
		printf("              block %s  %" PRIu64 " bytes", text(b, "name", buffer), record_number(b, "bytes"));
		if (record_get(b, "pages_offset") && !record_get(b, "pages"))
			printf(", bitmap at 0x%" PRIx64 ", pages at 0x%" PRIx64, record_number(b, "bitmap_offset"),
			       record_number(b, "pages_offset"));
		if (record_get(b, "pages"))
			print_pages(record_get(b, "pages"));
		printf("\n");
	}
}

static void print_eof(struct json_object *r)
{
	printf("end of the sections\n");
	if (record_get(r, "ram_blocks"))
		printf("              ram was %" PRIu64 " bytes in %zu blocks\n", record_number(r, "ram_bytes"),
		       json_object_array_length(record_get(r, "ram_blocks")));
	print_blocks(record_get(r, "ram_blocks"));
}

/* The end of a section without packets is put on the section's own line. */
static void print_section_end(struct json_object *r, bool line_open)
{
	if (line_open) {
		printf(", %" PRIu64 " bytes", record_number(r, "bytes"));
		if (record_get(r, "pages"))
			print_pages(record_get(r, "pages"));
		printf("\n");
		print_blocks(record_get(r, "blocks"));
		return;
	}
	printf("0x%010" PRIx64 "    %" PRIu64 " bytes in all%s\n", record_number(r, "offset"),
	       record_number(r, "bytes"),
	       record_get(r, "over_channels") ? "; the config record, if there is one, went over a channel" : "");
}

static void print_record(struct inspect_printer *printer, struct json_object *r)
{
	static const struct { const char *type; void (*print)(struct json_object *); } printers[] = {
		{ "configuration", print_configuration },
		{ "section", print_section },
		{ "packet", print_packet },
		{ "description", print_description },
		{ "eof", print_eof },
		{ "channel", print_channel },
		{ "channel-packet", print_channel_packet },
	};
	const char *type = json_object_get_string(record_get(r, "type"));
	bool was_open = printer->line_open;

	printer->line_open = strcmp(type, "section") == 0;
	if (strcmp(type, "section-end") == 0) {
		print_section_end(r, was_open);
		return;
	}
	printf("%s0x%010" PRIx64 "  ", was_open ? "\n" : "", record_number(r, "offset"));
	for (size_t i = 0; i < sizeof(printers) / sizeof(printers[0]); i++) {
		if (strcmp(type, printers[i].type) == 0) {
			printers[i].print(r);
			return;
		}
	}
	print_other(r, type);
}

/* Of what may come by the million. */
static bool is_repeated(struct json_object *r)
{
	const char *packet = json_object_get_string(record_get(r, "packet"));

	return packet && !record_get(r, "config") &&
	       (strcmp(packet, "DATA") == 0 || strcmp(packet, "memory") == 0 || strcmp(packet, "device") == 0);
}

static bool is_alike(struct json_object *a, struct json_object *b)
{
	static const char *const keys[] = { "packet", "id", "block" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		struct json_object *x = record_get(a, keys[i]), *y = record_get(b, keys[i]);
		if (!json_object_equal(x, y))
			return false;
	}
	return true;
}

static void print_row(struct inspect_printer *printer, struct json_object *r)
{
	char packet[INSPECT_TEXT_MAX], what[INSPECT_TEXT_MAX];
	bool in_section = strcmp(text(r, "packet", packet), "DATA") == 0;

	text(r, record_get(r, "id") ? "id" : "block", what);
	printf("%s0x%010" PRIx64 "  %s%s%s%s  %" PRIu64 " packets, %" PRIu64 " bytes\n", printer->line_open ? "\n" : "",
	       record_number(r, "offset"), in_section ? "  " : "", packet, what[0] ? " " : "", what, printer->count,
	       printer->bytes);
	printer->line_open = false;
}

static void print_held(struct inspect_printer *printer)
{
	if (!printer->held)
		return;
	if (printer->count == 1)
		print_record(printer, printer->held);
	else
		print_row(printer, printer->held);
	json_object_put(printer->held);
	printer->held = NULL;
}

void inspect_print(struct inspect_printer *printer, struct json_object *r)
{
	bool repeated = !printer->packets && is_repeated(r);

	if (repeated && printer->held && is_alike(printer->held, r)) {
		printer->count++;
		printer->bytes += record_number(r, "bytes");
		return;
	}
	print_held(printer);
	if (!repeated) {
		print_record(printer, r);
		return;
	}
	printer->held = json_object_get(r);
	printer->count = 1;
	printer->bytes = record_number(r, "bytes");
}

void inspect_print_end(struct inspect_printer *printer)
{
	print_held(printer);
	if (printer->line_open)
		printf("\n");
	printer->line_open = false;
}
