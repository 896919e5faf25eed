/* SPDX-License-Identifier: BSD-3-Clause */
/* lint.c: looks whether a stream keeps the rules, and says where it does not and what helps. */
#include "lint.h"

#include <inttypes.h>
#include <pci/pci.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "inspect_json.h"
#include "output.h"
#include "pci_text.h"
#include "stream/description_json.h"

#define SHOWN_MAX 8u	   /* of one rule: a stream may have millions of pages */
#define SECTIONS_MAX 1024u /* the reader has no more */
#define NUMBERS 100u	   /* rules are below */

struct lint_section {
	char id[INSPECT_TEXT_MAX]; /* as it is shown */
	uint32_t section_id, instance_id;
	bool vfio, full, ended, has_config, init_sent, described;
	uint64_t data_bytes;
	bool end_data;	      /* some of them in END */
	unsigned int packets; /* of the section being read */
	bool setup;	      /* it had SETUP */
	char kind;	      /* of it */
	uint64_t offset;      /* of its header */
};

struct lint {
	struct inspect_sink sink; /* first */
	const struct lint_options *options;
	unsigned int found[NUMBERS];
	bool any_json;
	bool configured;
	bool switchover; /* command 11: a QEMU of 10.0 or later, which may use channels */
	struct lint_section *sections, *current;
	size_t num_sections;
	bool described; /* every FULL was looked up */
	uint64_t description_offset;
};

/* ------------------------------------------------------------- findings */

static void print_text(const struct lint_rule *rule, uint64_t offset, const char *message)
{
	printf("0x%010" PRIx64 "  rule %u, %s: %s\n", offset, rule->number, rule->name, message);
	printf("%14s%s See %s.\n%14sTo do: %s.\n", "", rule->sentence, rule->reference, "", rule->fix);
}

static void print_json(struct lint *l, const struct lint_rule *rule, uint64_t offset, const char *message)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "rule", json_object_new_uint64(rule->number));
	json_object_object_add(o, "name", output_string(rule->name));
	json_object_object_add(o, "offset", json_object_new_uint64(offset));
	json_object_object_add(o, "message", output_string(message));
	json_object_object_add(o, "sentence", output_string(rule->sentence));
	json_object_object_add(o, "reference", output_string(rule->reference));
	json_object_object_add(o, "fix", output_string(rule->fix));
	printf("%s\n  %s", l->any_json ? "," : "", json_object_to_json_string_ext(o, JSON_C_TO_STRING_NOSLASHESCAPE));
	l->any_json = true;
	json_object_put(o);
}

static __attribute__((format(printf, 4, 5))) void broken(struct lint *l, unsigned int which, uint64_t offset,
							  const char *format, ...)
{
	const struct lint_rule *rule = lint_rule(which);
	char raw[512], text[INSPECT_TEXT_MAX];
	va_list ap;

	if (!rule || l->found[which]++ >= SHOWN_MAX)
		return;
	va_start(ap, format);
	vsnprintf(raw, sizeof(raw), format, ap);
	va_end(ap);
	inspect_text(raw, text);
	if (l->options->json)
		print_json(l, rule, offset, text);
	else
		print_text(rule, offset, text);
}

static void take_broken(struct inspect_sink *sink, unsigned int rule, uint64_t offset, const char *message)
{
	broken((struct lint *)sink, rule, offset, "%s", message);
}

/* ------------------------------------------------------------- sections */

/* The reader has seen to it that START and FULL of one number are of one device. */
static struct lint_section *find_section(struct lint *l, uint32_t section_id)
{
	for (size_t i = 0; i < l->num_sections; i++) {
		if (l->sections[i].section_id == section_id)
			return &l->sections[i];
	}
	return l->num_sections < SECTIONS_MAX ? &l->sections[l->num_sections++] : NULL;
}

static void check_section(struct lint *l, struct json_object *r)
{
	struct lint_section *s = find_section(l, (uint32_t)record_number(r, "section_id"));

	l->current = s;
	if (!s)
		return;
	snprintf(s->id, sizeof(s->id), "%s", record_string(r, "id"));
	s->section_id = (uint32_t)record_number(r, "section_id");
	s->instance_id = (uint32_t)record_number(r, "instance_id");
	s->vfio = reader_is_vfio(s->id);
	s->kind = record_string(r, "kind")[0];
	s->offset = record_number(r, "offset");
	s->full |= s->kind == 'F';
	s->packets = 0;
	s->setup = false;
	if (s->vfio && (s->kind == 'S' || s->kind == 'F') && record_number(r, "version_id") != 1)
		broken(l, LINT_VFIO_VERSION, s->offset, "%s has version %" PRIu64, s->id,
		       record_number(r, "version_id"));
	if (!l->configured)
		broken(l, LINT_NO_CONFIGURATION, s->offset, "the first section comes without CONFIGURATION before it");
	l->configured = true;
}

static void check_section_end(struct lint *l)
{
	struct lint_section *s = l->current;

	if (!s || !s->vfio)
		return;
	if (s->kind == 'S' && (!s->setup || s->packets != 2))
		broken(l, LINT_SETUP, s->offset, "START of %s has %u packets%s", s->id, s->packets,
		       s->setup ? "" : ", none of them SETUP");
	s->ended |= s->kind == 'E';
}

/* -------------------------------------------------------------- packets */

static void check_data(struct lint *l, struct lint_section *s, struct json_object *r)
{
	uint64_t offset = record_number(r, "offset");

	s->data_bytes += record_number(r, "bytes");
	s->end_data |= s->kind == 'E';
	if (s->kind != 'P' && s->kind != 'E')
		broken(l, LINT_DATA_PLACE, offset, "DATA of %s in its %s", s->id, s->kind == 'S' ? "START" : "FULL");
	else if (s->has_config)
		broken(l, LINT_CONFIG_EARLY, offset, "DATA of %s behind its config record", s->id);
}

static void check_config_place(struct lint *l, struct lint_section *s, struct json_object *r)
{
	uint64_t offset = record_number(r, "offset");

	if (s->kind != 'F' || !s->ended)
		broken(l, LINT_CONFIG_EARLY, offset, "the config record of %s %s", s->id,
		       s->kind == 'F' ? "before its END" : "outside of FULL");
	s->has_config = true;
}

static void check_packet(struct lint *l, struct json_object *r)
{
	struct lint_section *s = l->current;
	const char *packet = record_string(r, "packet");

	if (!s)
		return;
	s->packets++;
	if (strcmp(packet, "DATA") == 0)
		check_data(l, s, r);
	else if (strcmp(packet, "CONFIG") == 0)
		check_config_place(l, s, r);
	else if (strcmp(packet, "SETUP") == 0) {
		if (s->kind != 'S')
			broken(l, LINT_SETUP, record_number(r, "offset"), "SETUP of %s outside of START", s->id);
		s->setup = true;
	} else if (strcmp(packet, "INIT_DATA_SENT") == 0) {
		if (s->kind != 'P' || s->init_sent)
			broken(l, LINT_INIT_DATA_PLACE, record_number(r, "offset"), "INIT_DATA_SENT of %s %s", s->id,
			       s->init_sent ? "once more" : "outside of PART");
		s->init_sent = true;
	}
}

static void check_capabilities(struct lint *l, const char *id, uint64_t offset, const uint8_t *config)
{
	uint64_t visited = 0;
	size_t at = config[PCI_STATUS] & PCI_STATUS_CAP_LIST ? config[PCI_CAPABILITY_LIST] & 0xfcu : 0;

	for (; at >= 0x40; at = config[at + PCI_CAP_LIST_NEXT] & 0xfcu) {
		if (visited >> at / 4 & 1) {
			broken(l, LINT_CAPABILITIES, offset + at, "%s: the list of capabilities comes back to 0x%zx",
			       id, at);
			return;
		}
		visited |= UINT64_C(1) << at / 4;
	}
	if (at)
		broken(l, LINT_CAPABILITIES, offset + at, "%s: a capability at 0x%zx, inside of the header", id, at);
}

static int check_record(struct inspect_sink *sink, const struct reader_record *section, uint64_t offset,
			const uint8_t *data, size_t length, struct vfmig_error *err)
{
	struct lint *l = (struct lint *)sink;
	size_t space = pci_record_space(data, length);

	(void)err;
	if (!space)
		return 0;
	const uint8_t *config = data + 4, *levels = config + space;
	if (get_le16(config + PCI_VENDOR_ID) == 0xffff)
		broken(l, LINT_NO_DEVICE, offset + 4, "%s has vendor ffff", section->name);
	else
		check_capabilities(l, section->name, offset + 4, config);
	for (unsigned int i = 0; i < WIRE_PCI_INTX_LEVELS; i++) {
		if (get_be32(levels + 4 * i) > 1)
			broken(l, LINT_INTX, offset + 4 + space + 4 * i, "%s: INT%c has level %" PRIu32, section->name,
			       (char)('A' + i), get_be32(levels + 4 * i));
	}
	return 0;
}

/* -------------------------------------------------------------- the end */

static void check_machine(struct lint *l, struct json_object *r)
{
	const char *have = record_string(r, "machine"), *want = l->options->machine;

	l->configured = true;
	if (!want || strcmp(have, want) == 0)
		return;
	const char *have_version = strrchr(have, '-'), *want_version = strrchr(want, '-');
	bool same_kind = have_version && want_version && have_version - have == want_version - want &&
			 strncmp(have, want, (size_t)(have_version - have)) == 0;
	if (same_kind)
		broken(l, LINT_MACHINE_VERSION, record_number(r, "offset"),
		       "the stream's machine is %s, the destination's %s: they differ by version only", have, want);
	else
		broken(l, LINT_MACHINE, record_number(r, "offset"), "the stream's machine is %s, the destination's %s",
		       have, want);
}

/* A device whose last data and record went over channels has END_OF_STATE alone in END and FULL. */
static bool over_channels(const struct lint *l, const struct lint_section *s)
{
	return l->switchover && s->full && !s->end_data;
}

static void check_devices(struct lint *l, uint64_t offset)
{
	for (size_t i = 0; i < l->num_sections; i++) {
		const struct lint_section *s = &l->sections[i];
		if (s->vfio && !s->has_config && s->data_bytes && !over_channels(l, s))
			broken(l, LINT_NO_CONFIG, offset, "%s has %" PRIu64 " bytes of data and no config record",
			       s->id, s->data_bytes);
	}
}

static void check_described(struct lint *l, struct json_object *device)
{
	const char *raw = json_text(device, "name");
	char name[INSPECT_TEXT_MAX];
	uint64_t instance;

	if (!raw || json_u64(device, "instance_id", UINT32_MAX, &instance) < 0)
		return;
	inspect_text(raw, name);
	for (size_t i = 0; i < l->num_sections; i++) {
		struct lint_section *s = &l->sections[i];
		if (s->instance_id == instance && strcmp(s->id, name) == 0) {
			s->described = true;
			return;
		}
	}
	broken(l, LINT_NOT_IN_STREAM, l->description_offset, "'%.100s' instance %" PRIu64 " is described and not there",
	       name, instance);
}

static void check_description(struct inspect_sink *sink, uint64_t offset, const uint8_t *text, size_t length)
{
	struct lint *l = (struct lint *)sink;
	struct vfmig_error err = { 0 };
	struct json_object *root, *devices;

	l->description_offset = offset;
	if (json_parse((const char *)text, length, &root, &err) < 0) {
		broken(l, FAULT_DESCRIPTION, offset, "%s", err.message);
		return;
	}
	devices = json_array(root, "devices");
	for (size_t i = 0; devices && i < json_object_array_length(devices); i++)
		check_described(l, json_object_array_get_idx(devices, i));
	for (size_t i = 0; devices && i < l->num_sections; i++) {
		const struct lint_section *s = &l->sections[i];
		if (s->full && !s->described)
			broken(l, LINT_NOT_DESCRIBED, s->offset, "'%s' instance %" PRIu32 " is not described", s->id,
			       s->instance_id);
	}
	json_object_put(root);
}

static void check_command(struct lint *l, struct json_object *r)
{
	l->switchover |= record_number(r, "command") == WIRE_COMMAND_SWITCHOVER_START;
	if (record_number(r, "command") == WIRE_COMMAND_POSTCOPY_ADVISE)
		broken(l, FAULT_POSTCOPY, record_number(r, "offset"), "the source might have gone on as postcopy");
	if (strcmp(record_string(r, "name"), "unknown") == 0)
		broken(l, LINT_UNKNOWN_COMMAND, record_number(r, "offset"), "command %" PRIu64,
		       record_number(r, "command"));
}

static void check_record_of(struct inspect_sink *sink, struct json_object *r)
{
	struct lint *l = (struct lint *)sink;
	const char *type = record_string(r, "type");

	if (strcmp(type, "section") == 0)
		check_section(l, r);
	else if (strcmp(type, "packet") == 0)
		check_packet(l, r);
	else if (strcmp(type, "section-end") == 0)
		check_section_end(l);
	else if (strcmp(type, "configuration") == 0)
		check_machine(l, r);
	else if (strcmp(type, "command") == 0)
		check_command(l, r);
	else if (strcmp(type, "eof") == 0)
		check_devices(l, record_number(r, "offset"));
}

/* --------------------------------------------------------------- result */

/* "offset 0x...: message", as everything that reads a stream says it. */
static void check_end(struct lint *l, const struct inspect_result *result, const struct vfmig_error *err)
{
	uint64_t offset = l->sink.begin + result->bytes;
	int behind = 0;

	if (sscanf(err->message, "offset 0x%" SCNx64 ": %n", &offset, &behind) != 1)
		behind = 0;
	broken(l, result->fault, offset, "%s", err->message + behind);
}

static void print_result(const struct lint *l, const struct inspect_result *result, size_t rules, bool to_the_end)
{
	for (unsigned int i = 0; i < NUMBERS && !l->options->json; i++) {
		if (l->found[i] > SHOWN_MAX)
			printf("rule %u: %u more like these\n", i, l->found[i] - SHOWN_MAX);
	}
	if (l->options->json)
		printf("\n],\n\"rules_broken\": %zu, \"bytes\": %" PRIu64 ", \"read_to_the_end\": %s}\n", rules,
		       result->bytes, to_the_end ? "true" : "false");
	else if (rules == 0)
		printf("no rule is broken: %" PRIu64 " bytes%s\n", result->bytes, result->verified ? ", verified" : "");
}

int lint_stream(struct vfmig_link *link, const struct lint_options *options, size_t *ret_broken,
		struct vfmig_error *err)
{
	struct lint l = { .options = options };
	struct inspect_result result = { 0 };
	size_t rules = 0;

	l.sink = (struct inspect_sink) { .record = check_record_of,
					 .config = check_record,
					 .broken = take_broken,
					 .description = check_description,
					 .begin = options->begin };
	l.sections = calloc(SECTIONS_MAX, sizeof(*l.sections));
	if (!l.sections)
		return error_errno(err, -ENOMEM, "lint");
	if (options->json)
		printf("{\"findings\": [");
	int rc = inspect_walk(link, &l.sink, &result, err);
	bool to_the_end = rc == 0;
	if (rc < 0 && lint_rule(result.fault)) {
		check_end(&l, &result, err);
		rc = 0;
	}
	for (unsigned int i = 0; i < NUMBERS; i++)
		rules += l.found[i] > 0;
	if (rc == 0 || options->json)
		print_result(&l, &result, rules, to_the_end);
	free(l.sections);
	*ret_broken = rules;
	return rc;
}
