/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_compare.c: what two streams have in common is not said, everything else is. */
#include "inspect_compare.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xxh3.h"
#include "inspect_json.h"
#include "output.h"
#include "pci_text.h"

#define SECTIONS_MAX 1024u /* the reader has no more */

struct part {
	char id[INSPECT_TEXT_MAX]; /* as it is shown */
	uint32_t instance_id, version_id;
	bool in_both;
	uint64_t bytes; /* of all its bodies */
	uint64_t data_bytes, data_packets;
	XXH3_state_t *digest; /* of its data; of what is no VFIO device: of its bodies; NULL: ram's */
	uint8_t *record;      /* its config record; NULL: none */
	size_t record_length;
};

/* What is kept of a stream: no more than a digest of anything that may be large. */
struct side {
	struct inspect_sink sink; /* first */
	struct json_object *configuration, *blocks;
	struct part *parts, *current;
	size_t num_parts;
};

struct compare {
	const struct compare_options *options;
	const char *where; /* the device whose registers are compared */
	struct side sides[2];
	size_t differences;
};

/* ------------------------------------------------------------ reading one */

static struct part *find(const struct side *s, const char *id, uint32_t instance_id)
{
	for (size_t i = 0; i < s->num_parts; i++) {
		if (s->parts[i].instance_id == instance_id && strcmp(s->parts[i].id, id) == 0)
			return &s->parts[i];
	}
	return NULL;
}

static struct part *add_part(struct side *s, struct json_object *r)
{
	if (s->num_parts == SECTIONS_MAX)
		return NULL;
	struct part *p = &s->parts[s->num_parts];
	*p = (struct part) { .instance_id = (uint32_t)record_number(r, "instance_id") };
	snprintf(p->id, sizeof(p->id), "%s", record_string(r, "id"));
	if (strcmp(p->id, "ram") != 0) {
		p->digest = XXH3_createState();
		if (!p->digest)
			return NULL;
		XXH3_128bits_reset(p->digest);
	}
	s->num_parts++;
	return p;
}

static void take_section(struct side *s, struct json_object *r)
{
	s->current = find(s, record_string(r, "id"), (uint32_t)record_number(r, "instance_id"));
	if (!s->current)
		s->current = add_part(s, r);
	if (s->current)
		s->current->version_id = (uint32_t)record_number(r, "version_id");
}

static void take_record(struct inspect_sink *sink, struct json_object *r)
{
	struct side *s = (struct side *)sink;
	const char *type = record_string(r, "type");

	if (strcmp(type, "configuration") == 0)
		s->configuration = json_object_get(r);
	else if (strcmp(type, "section") == 0)
		take_section(s, r);
	else if (strcmp(type, "section-end") == 0 && s->current)
		s->current->bytes += record_number(r, "bytes");
	else if (strcmp(type, "packet") == 0 && strcmp(record_string(r, "packet"), "DATA") == 0 && s->current)
		s->current->data_packets++, s->current->data_bytes += record_number(r, "bytes");
	else if (strcmp(type, "eof") == 0)
		s->blocks = json_object_get(record_get(r, "ram_blocks"));
}

static int take_data(struct inspect_sink *sink, const struct reader_record *section, const uint8_t *data, size_t length,
		     struct vfmig_error *err)
{
	struct side *s = (struct side *)sink;

	(void)section, (void)err;
	if (s->current && s->current->digest)
		XXH3_128bits_update(s->current->digest, data, length);
	return 0;
}

static int take_config(struct inspect_sink *sink, const struct reader_record *section, uint64_t offset,
		       const uint8_t *data, size_t length, struct vfmig_error *err)
{
	struct part *p = ((struct side *)sink)->current;

	(void)section, (void)offset;
	if (!p || p->record || !length)
		return 0;
	p->record = malloc(length);
	if (!p->record)
		return error_errno(err, -ENOMEM, "config record");
	memcpy(p->record, data, length);
	p->record_length = length;
	return 0;
}

static bool wants_bytes(struct inspect_sink *sink, const struct reader_record *section)
{
	(void)sink;
	return strcmp(section->name, "ram") != 0 && !reader_is_vfio(section->name);
}

static void take_bytes(struct inspect_sink *sink, uint64_t offset, const uint8_t *data, size_t length)
{
	(void)offset;
	take_data(sink, NULL, data, length, NULL);
}

static int read_side(struct side *s, struct vfmig_link *link, uint64_t begin, struct vfmig_error *err)
{
	struct inspect_result result;

	s->sink = (struct inspect_sink) { .record = take_record,
					  .data = take_data,
					  .config = take_config,
					  .wants_bytes = wants_bytes,
					  .bytes = take_bytes,
					  .begin = begin };
	s->parts = calloc(SECTIONS_MAX, sizeof(*s->parts));
	if (!s->parts)
		return error_errno(err, -ENOMEM, "compare");
	int rc = inspect_walk(link, &s->sink, &result, err);
	if (rc == 0 && result.channel)
		rc = error_set(err, -EINVAL, "a channel has nothing to be compared by: give two streams");
	return rc;
}

static void end_side(struct side *s)
{
	for (size_t i = 0; i < s->num_parts; i++) {
		XXH3_freeState(s->parts[i].digest);
		free(s->parts[i].record);
	}
	json_object_put(s->configuration);
	json_object_put(s->blocks);
	free(s->parts);
}

/* ------------------------------------------------------- saying what differs */

static void differs(struct compare *c, const char *where, const char *what, const char *a, const char *b)
{
	char place[INSPECT_TEXT_MAX], left[INSPECT_TEXT_MAX], right[INSPECT_TEXT_MAX];

	inspect_text(where, place);
	inspect_text(a, left);
	inspect_text(b, right);
	if (c->options->json) {
		struct json_object *o = json_object_new_object();
		json_object_object_add(o, "where", output_string(place));
		json_object_object_add(o, "what", output_string(what));
		json_object_object_add(o, "a", output_string(left));
		json_object_object_add(o, "b", output_string(right));
		printf("%s\n  %s", c->differences ? "," : "",
		       json_object_to_json_string_ext(o, JSON_C_TO_STRING_NOSLASHESCAPE));
		json_object_put(o);
	} else {
		printf("%-24s %-32s %s | %s\n", place, what, left, right);
	}
	c->differences++;
}

static void differ_numbers(struct compare *c, const char *where, const char *what, uint64_t a, uint64_t b)
{
	char left[32], right[32];

	snprintf(left, sizeof(left), "%" PRIu64, a);
	snprintf(right, sizeof(right), "%" PRIu64, b);
	if (a != b)
		differs(c, where, what, left, right);
}

static void compare_digests(struct compare *c, const struct part *a, const struct part *b, const char *what)
{
	if (!a->digest || !b->digest)
		return;
	XXH128_hash_t x = XXH3_128bits_digest(a->digest), y = XXH3_128bits_digest(b->digest);
	char left[DIGEST_HEX], right[DIGEST_HEX];

	description_hex(x.high64, x.low64, left);
	description_hex(y.high64, y.low64, right);
	if (!XXH128_isEqual(x, y))
		differs(c, a->id, what, left, right);
}

static void differ_register(void *opaque, const char *name, const char *a, const char *b)
{
	struct compare *c = opaque;

	differs(c, c->where, name, a, b);
}

static void compare_records(struct compare *c, const struct part *a, const struct part *b)
{
	if (!a->record && !b->record)
		return;
	if (!a->record || !b->record) {
		differs(c, a->id, "config record", a->record ? "there" : "none", b->record ? "there" : "none");
		return;
	}
	c->where = a->id;
	pci_records_compare(a->record, a->record_length, b->record, b->record_length, differ_register, c);
}

static void compare_parts(struct compare *c, const struct part *a, const struct part *b)
{
	bool vfio = reader_is_vfio(a->id);

	differ_numbers(c, a->id, "version", a->version_id, b->version_id);
	if (!vfio && strcmp(a->id, "ram") != 0 && a->bytes != b->bytes)
		differ_numbers(c, a->id, "bytes", a->bytes, b->bytes);
	else if (!vfio)
		compare_digests(c, a, b, "content, as a digest");
	if (!vfio)
		return;
	differ_numbers(c, a->id, "bytes of data", a->data_bytes, b->data_bytes);
	differ_numbers(c, a->id, "packets of data", a->data_packets, b->data_packets);
	if (a->data_bytes == b->data_bytes)
		compare_digests(c, a, b, "data, as a digest");
	compare_records(c, a, b);
}

/* Two instances of an id are told apart by their number. */
static void missing(struct compare *c, const struct part *p, bool in_a)
{
	char what[64], text[64];

	snprintf(what, sizeof(what), "section, instance %" PRIu32, p->instance_id);
	snprintf(text, sizeof(text), "%" PRIu64 " bytes", p->bytes);
	differs(c, p->id, what, in_a ? text : "none", in_a ? "none" : text);
}

static void compare_sections(struct compare *c)
{
	struct side *a = &c->sides[0], *b = &c->sides[1];

	for (size_t i = 0; i < a->num_parts; i++) {
		struct part *other = find(b, a->parts[i].id, a->parts[i].instance_id);
		if (other) {
			other->in_both = true;
			compare_parts(c, &a->parts[i], other);
		} else {
			missing(c, &a->parts[i], true);
		}
	}
	for (size_t i = 0; i < b->num_parts; i++) {
		if (!b->parts[i].in_both)
			missing(c, &b->parts[i], false);
	}
}

static void compare_key(struct compare *c, const char *key, const char *what)
{
	struct json_object *a = record_get(c->sides[0].configuration, key),
			   *b = record_get(c->sides[1].configuration, key);
	const char *left = a ? json_object_get_string(a) : "none", *right = b ? json_object_get_string(b) : "none";

	if (strcmp(left, right) != 0)
		differs(c, "configuration", what, left, right);
}

static struct json_object *block_named(struct json_object *blocks, const char *name)
{
	for (size_t i = 0; blocks && i < json_object_array_length(blocks); i++) {
		struct json_object *b = json_object_array_get_idx(blocks, i);
		if (strcmp(record_string(b, "name"), name) == 0)
			return b;
	}
	return NULL;
}

static void compare_blocks(struct compare *c)
{
	for (unsigned int side = 0; side < 2; side++) {
		struct json_object *blocks = c->sides[side].blocks, *others = c->sides[!side].blocks;
		for (size_t i = 0; blocks && i < json_object_array_length(blocks); i++) {
			struct json_object *b = json_object_array_get_idx(blocks, i);
			struct json_object *other = block_named(others, record_string(b, "name"));
			char what[INSPECT_TEXT_MAX + 16];
			snprintf(what, sizeof(what), "bytes of block %s", record_string(b, "name"));
			if (!other || (side == 0 && record_number(other, "bytes") != record_number(b, "bytes")))
				differ_numbers(c, "ram", what, record_number(side ? other : b, "bytes"),
					       record_number(side ? b : other, "bytes"));
		}
	}
}

static void print_result(const struct compare *c)
{
	if (c->options->json)
		printf("\n],\n\"count\": %zu}\n", c->differences);
	else if (c->differences == 0)
		printf("no difference but in ram's pages, which are not compared\n");
}

int compare_streams(struct vfmig_link *const links[2], const struct compare_options *options, size_t *ret_differences,
		    struct vfmig_error *err)
{
	struct compare c = { .options = options };
	int rc = 0;

	for (unsigned int i = 0; i < 2 && rc == 0; i++) {
		rc = read_side(&c.sides[i], links[i], options->begin, err);
		if (rc < 0)
			error_prefix(err, rc, "%s", options->names[i]);
	}
	if (rc == 0) {
		if (options->json)
			printf("{\"differences\": [");
		compare_key(&c, "machine", "machine");
		compare_key(&c, "capabilities", "capabilities");
		compare_key(&c, "target_page_bits", "target page bits");
		compare_key(&c, "uuid", "uuid");
		compare_blocks(&c);
		compare_sections(&c);
		print_result(&c);
	}
	end_side(&c.sides[0]);
	end_side(&c.sides[1]);
	*ret_differences = c.differences;
	return rc;
}
