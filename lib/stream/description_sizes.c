/* SPDX-License-Identifier: BSD-3-Clause */
/* description_sizes.c: how long a whole machine's FULL sections are, out of the description's JSON. */
#include <json-c/json.h>
#include <stdlib.h>

#include "stream/description_json.h"

struct sized {
	char *name;
	uint32_t instance_id;
	uint64_t bytes;
};

struct description_sizes {
	struct sized *sections;
	size_t count;
};

void description_sizes_free(struct description_sizes *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++)
		free(s->sections[i].name);
	free(s->sections);
	free(s);
}

static int add(uint64_t *sum, uint64_t bytes)
{
	return __builtin_add_overflow(*sum, bytes, sum) ? -ERANGE : 0;
}

/* A field's size is that of one element when it has an array_len, and a
 * struct's already counts what is inside it. */
static int add_field(struct json_object *field, uint64_t *sum)
{
	uint64_t size, elements = 1, bytes;

	if (json_u64(field, "size", UINT64_MAX, &size) < 0)
		return -EBADMSG;
	if (json_object_object_get_ex(field, "array_len", NULL) &&
	    json_u64(field, "array_len", UINT64_MAX, &elements) < 0)
		return -EBADMSG;
	if (__builtin_mul_overflow(size, elements, &bytes))
		return -ERANGE;
	return add(sum, bytes);
}

static int add_members(struct json_object *section, uint64_t *sum);

/* 05, length, name, version, then like the section itself. */
static int add_subsection(struct json_object *subsection, uint64_t *sum)
{
	const char *name = json_text(subsection, "vmsd_name");

	if (!name)
		return -EBADMSG;
	if (add(sum, 6 + strlen(name)) < 0)
		return -ERANGE;
	return add_members(subsection, sum);
}

/* Depth is bounded by the parser's (JSON_DEPTH_MAX). */
static int add_members(struct json_object *section, uint64_t *sum)
{
	struct json_object *fields = json_array(section, "fields"), *subsections = json_array(section, "subsections");
	int rc = 0;

	for (size_t i = 0; rc == 0 && fields && i < json_object_array_length(fields); i++)
		rc = add_field(json_object_array_get_idx(fields, i), sum);
	for (size_t i = 0; rc == 0 && subsections && i < json_object_array_length(subsections); i++)
		rc = add_subsection(json_object_array_get_idx(subsections, i), sum);
	return rc;
}

static int add_section(struct description_sizes *s, struct json_object *device, size_t index, struct vfmig_error *err)
{
	const char *name = json_text(device, "name");
	uint64_t instance_id, bytes = 0;

	if (!name || json_u64(device, "instance_id", UINT32_MAX, &instance_id) < 0)
		return error_set(err, -EBADMSG, "description: devices[%zu] has no name and instance_id", index);
	if (add_members(device, &bytes) < 0)
		return error_set(err, -EBADMSG, "description: sizes of devices[%zu] (%.64s) make no sense", index,
				 name);
	char *copy = strdup(name);
	if (!copy)
		return error_errno(err, -ENOMEM, "description");
	s->sections[s->count++] = (struct sized) { copy, (uint32_t)instance_id, bytes };
	return 0;
}

static int add_sections(struct description_sizes *s, struct json_object *root, struct vfmig_error *err)
{
	struct json_object *devices = json_array(root, "devices");
	size_t count = devices ? json_object_array_length(devices) : 0;

	s->sections = calloc(count ? count : 1, sizeof(*s->sections));
	if (!s->sections)
		return error_errno(err, -ENOMEM, "description");
	for (size_t i = 0; i < count; i++) {
		int rc = add_section(s, json_object_array_get_idx(devices, i), i, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int description_sizes_parse(const char *text, size_t length, struct description_sizes **ret, struct vfmig_error *err)
{
	struct json_object *root;
	int rc = json_parse(text, length, &root, err);

	if (rc < 0)
		return rc;
	struct description_sizes *s = calloc(1, sizeof(*s));
	rc = s ? add_sections(s, root, err) : error_errno(err, -ENOMEM, "description");
	json_object_put(root);
	if (rc < 0)
		description_sizes_free(s);
	else
		*ret = s;
	return rc;
}

int description_sizes_find(const struct description_sizes *s, const char *id, uint32_t instance_id,
			   uint64_t *ret_bytes)
{
	for (size_t i = 0; i < s->count; i++) {
		if (s->sections[i].instance_id == instance_id && strcmp(s->sections[i].name, id) == 0) {
			*ret_bytes = s->sections[i].bytes;
			return 0;
		}
	}
	return -ENOENT;
}
