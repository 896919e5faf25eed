/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_text.c: prints a stream's records for people, one line or more each. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "inspect.h"
#include "stream/description.h"
#include "pci_text.h"

static struct json_object *get(struct json_object *o, const char *key)
{
	return json_object_object_get(o, key);
}

static uint64_t number(struct json_object *o, const char *key)
{
	return json_object_get_uint64(get(o, key));
}

/* "" for what a description of a stranger's does not have, without anything a terminal would obey. */
static const char *text(struct json_object *o, const char *key, char buffer[INSPECT_TEXT_MAX])
{
	const char *raw = json_object_get_string(get(o, key));

	return inspect_text(raw ? raw : "", buffer);
}

static void print_configuration(struct json_object *r)
{
	char buffer[INSPECT_TEXT_MAX];
	struct json_object *names = get(r, "capabilities");

	printf("machine %s", text(r, "machine", buffer));
	for (size_t i = 0; names && i < json_object_array_length(names); i++)
		printf("%s %s", i ? "," : "; capabilities",
		       json_object_get_string(json_object_array_get_idx(names, i)));
	if (get(r, "target_page_bits"))
		printf("; target page bits %" PRIu64, number(r, "target_page_bits"));
	if (get(r, "uuid"))
		printf("; uuid %s", text(r, "uuid", buffer));
	printf("\n");
}

static void print_section(struct json_object *r)
{
	char kind[INSPECT_TEXT_MAX], id[INSPECT_TEXT_MAX];

	printf("%-5s %s  section 0x%" PRIx64 " instance %" PRIu64 " version %" PRIu64, text(r, "kind", kind),
	       text(r, "id", id), number(r, "section_id"), number(r, "instance_id"), number(r, "version_id"));
}

static void print_packet(struct json_object *r)
{
	char buffer[INSPECT_TEXT_MAX];
	const char *packet = text(r, "packet", buffer);
	struct json_object *config = get(r, "config");

	printf("  %s", packet);
	if (strcmp(packet, "DATA") == 0 || config)
		printf(" %" PRIu64 " bytes", number(r, "bytes"));
	if (config && number(config, "space_bytes"))
		printf(", config space %" PRIu64, number(config, "space_bytes"));
	printf("\n");
	if (config && number(r, "bytes"))
		pci_record_print(config, "                ");
}

static void print_identity(struct json_object *identity)
{
	printf(", PCI %04x:%04x subsystem %04x:%04x class %06x revision %02x", (unsigned int)number(identity, "vendor"),
	       (unsigned int)number(identity, "device"), (unsigned int)number(identity, "subsystem_vendor"),
	       (unsigned int)number(identity, "subsystem"), (unsigned int)number(identity, "class"),
	       (unsigned int)number(identity, "revision"));
}

static void print_vfmig(struct json_object *vfmig)
{
	struct json_object *devices = get(vfmig, "devices");
	char buffer[INSPECT_TEXT_MAX];

	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *d = json_object_array_get_idx(devices, i);
		printf("              %s instance %" PRIu64, text(d, "id", buffer), number(d, "instance_id"));
		if (get(d, "identity"))
			print_identity(get(d, "identity"));
		printf("\n                data %" PRIu64 " bytes in %" PRIu64
		       " packets, digest %s; config record %" PRIu64 " bytes\n",
		       number(d, "data_bytes"), number(d, "data_packets"), text(d, "data_digest", buffer),
		       number(d, "config_bytes"));
	}
	const char *seal = text(vfmig, "seal", buffer);
	if (strcmp(seal, DESCRIPTION_NO_DIGEST) == 0)
		printf("              written without digests: nobody can tell whether something was changed\n");
	else
		printf("              seal %s: right, nothing was changed since vfmig wrote it\n", seal);
}

static void print_description(struct json_object *r)
{
	struct json_object *vfmig = get(r, "vfmig");

	printf("description %" PRIu64 " bytes", number(r, "length") - 5);
	if (!vfmig) {
		printf(", not vfmig's: no digests to verify\n");
		return;
	}
	printf(", vfmig's version %" PRIu64 "\n", number(vfmig, "version"));
	print_vfmig(vfmig);
}

/* What has no printer of its own. */
static void print_other(struct json_object *r, const char *type)
{
	char buffer[INSPECT_TEXT_MAX];

	if (strcmp(type, "command") == 0)
		printf("command %" PRIu64 " %s, payload %" PRIu64 " bytes\n", number(r, "command"),
		       text(r, "name", buffer), number(r, "payload_bytes"));
	else
		printf("%s\n", strcmp(type, "header") == 0 ? "QEVM, version 3" : "end of the sections");
}

/* The end of a section without packets is put on the section's own line. */
static void print_section_end(struct json_object *r, bool line_open)
{
	if (line_open)
		printf(", %" PRIu64 " bytes\n", number(r, "bytes"));
	else
		printf("0x%010" PRIx64 "    %" PRIu64 " bytes in all\n", number(r, "offset"), number(r, "bytes"));
}

void inspect_print(struct json_object *r, bool *line_open)
{
	static const struct { const char *type; void (*print)(struct json_object *); } printers[] = {
		{ "configuration", print_configuration },
		{ "section", print_section },
		{ "packet", print_packet },
		{ "description", print_description },
	};
	const char *type = json_object_get_string(get(r, "type"));
	bool was_open = *line_open;

	*line_open = strcmp(type, "section") == 0;
	if (strcmp(type, "section-end") == 0) {
		print_section_end(r, was_open);
		return;
	}
	printf("%s0x%010" PRIx64 "  ", was_open ? "\n" : "", number(r, "offset"));
	for (size_t i = 0; i < sizeof(printers) / sizeof(printers[0]); i++) {
		if (strcmp(type, printers[i].type) == 0) {
			printers[i].print(r);
			return;
		}
	}
	print_other(r, type);
}
