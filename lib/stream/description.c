/* SPDX-License-Identifier: BSD-3-Clause */
/* description.c: the "vfmig" object of a stream's description, to text and back. */
#include "stream/description.h"

#include <stdio.h>
#include <string.h>

#include "stream/description_json.h"

/* One row for each number of an identity: written, read and checked alike. */
static const struct identity_member {
	const char *key;
	size_t offset, size;
	uint32_t max;
} identity_members[] = {
	{ "vendor", offsetof(struct pci_identity, vendor), 2, 0xffff },
	{ "device", offsetof(struct pci_identity, device), 2, 0xffff },
	{ "subsystem_vendor", offsetof(struct pci_identity, subsystem_vendor), 2, 0xffff },
	{ "subsystem", offsetof(struct pci_identity, subsystem), 2, 0xffff },
	{ "class", offsetof(struct pci_identity, class_code), 4, 0xffffff },
	{ "revision", offsetof(struct pci_identity, revision), 1, 0xff },
};
#define NUM_IDENTITY (sizeof(identity_members) / sizeof(identity_members[0]))

void description_clear(struct description *d)
{
	free(d->devices);
	memset(d, 0, sizeof(*d));
}

const struct description_device *description_find(const struct description *d, const char *id, uint32_t instance_id)
{
	for (size_t i = 0; i < d->num_devices; i++) {
		if (d->devices[i].instance_id == instance_id && strcmp(d->devices[i].id, id) == 0)
			return &d->devices[i];
	}
	return NULL;
}

void description_digest(const XXH3_state_t *state, char hex[DIGEST_HEX])
{
	strcpy(hex, DESCRIPTION_NO_DIGEST);
	if (!state)
		return;
	XXH128_hash_t h = XXH3_128bits_digest(state);
	description_hex(h.high64, h.low64, hex);
}

void description_hex(uint64_t high, uint64_t low, char hex[DIGEST_HEX])
{
	snprintf(hex, DIGEST_HEX, "%016llx%016llx", (unsigned long long)high, (unsigned long long)low);
}

static bool is_digest(const char *text)
{
	return strspn(text, "0123456789abcdef") == DIGEST_HEX - 1 && text[DIGEST_HEX - 1] == '\0';
}

/* -------------------------------------------------------------- to text */

static void put_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, json_object_new_string(text));
}

static void put_number(struct json_object *o, const char *key, uint64_t number)
{
	json_object_object_add(o, key, json_object_new_uint64(number));
}

/* The member of "devices" as QEMU's tools expect it. */
static struct json_object *qemu_device(const struct description_device *d)
{
	struct json_object *o = json_object_new_object(), *fields = json_object_new_array();
	struct json_object *field = json_object_new_object();

	put_text(o, "name", d->id);
	put_number(o, "instance_id", d->instance_id);
	put_number(o, "size", d->full_bytes);
	put_text(field, "name", "data");
	put_number(field, "size", d->full_bytes);
	put_text(field, "type", "buffer");
	json_object_array_add(fields, field);
	json_object_object_add(o, "fields", fields);
	return o;
}

static struct json_object *identity_object(const struct pci_identity *identity)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < NUM_IDENTITY; i++) {
		const struct identity_member *m = &identity_members[i];
		const uint8_t *p = (const uint8_t *)identity + m->offset;
		uint16_t v16;
		uint32_t v32 = *p;
		if (m->size == 2) {
			memcpy(&v16, p, 2);
			v32 = v16;
		} else if (m->size == 4) {
			memcpy(&v32, p, 4);
		}
		put_number(o, m->key, v32);
	}
	return o;
}

static struct json_object *vfmig_device_object(const struct description_device *d)
{
	struct json_object *o = json_object_new_object();

	put_text(o, "id", d->id);
	put_number(o, "instance_id", d->instance_id);
	if (d->has_identity)
		json_object_object_add(o, "identity", identity_object(&d->identity));
	put_number(o, "data_bytes", d->data_bytes);
	put_number(o, "data_packets", d->data_packets);
	put_text(o, "data_digest", d->data_digest);
	put_number(o, "config_bytes", d->config_bytes);
	if (d->config_digest[0])
		put_text(o, "config_digest", d->config_digest);
	return o;
}

static struct json_object *vfmig_object(const struct description *d)
{
	struct json_object *o = json_object_new_object(), *devices = json_object_new_array();

	for (size_t i = 0; i < d->num_devices; i++)
		if (d->devices[i].data_digest[0])
			json_object_array_add(devices, vfmig_device_object(&d->devices[i]));
	put_number(o, "version", WIRE_VFMIG_DESCRIPTION_VERSION);
	put_text(o, "machine", d->machine);
	json_object_object_add(o, "devices", devices);
	put_text(o, "seal", "");
	return o;
}

int description_format(const struct description *d, char **ret_text, struct vfmig_error *err)
{
	struct json_object *root = json_object_new_object(), *devices = json_object_new_array();

	put_number(root, "page_size", WIRE_PAGE_SIZE);
	for (size_t i = 0; i < d->num_devices; i++) {
		if (d->devices[i].full_bytes)
			json_object_array_add(devices, qemu_device(&d->devices[i]));
	}
	json_object_object_add(root, "devices", devices);
	json_object_object_add(root, "vfmig", vfmig_object(d));
	size_t length = 0;
	const char *text =
	    json_object_to_json_string_length(root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length);
	/* The seal is empty still: cut behind its opening quote. */
	char *copy = text ? strndup(text, length - strlen(DESCRIPTION_TAIL)) : NULL;
	json_object_put(root);
	if (!copy)
		return error_errno(err, -ENOMEM, "description");
	*ret_text = copy;
	return 0;
}

/* ------------------------------------------------------------ from text */

static int wrong(struct vfmig_error *err, const char *where, const char *key, const char *expected)
{
	return error_set(err, -EBADMSG, "description: vfmig%s.%s is missing or not %s", where, key, expected);
}

static int copy_text(struct json_object *o, const char *where, const char *key, char *into, size_t size,
		     struct vfmig_error *err)
{
	const char *text = json_text(o, key);

	if (!text || strlen(text) >= size)
		return wrong(err, where, key, "a string of at most 255 bytes");
	strcpy(into, text);
	return 0;
}

static int parse_identity(struct json_object *o, const char *where, struct pci_identity *ret, struct vfmig_error *err)
{
	for (size_t i = 0; i < NUM_IDENTITY; i++) {
		const struct identity_member *m = &identity_members[i];
		uint8_t *p = (uint8_t *)ret + m->offset;
		uint64_t v;
		if (json_u64(o, m->key, m->max, &v) < 0)
			return wrong(err, where, m->key, "a number in its range");
		uint32_t v32 = (uint32_t)v;
		uint16_t v16 = (uint16_t)v;
		if (m->size == 4)
			memcpy(p, &v32, 4);
		else if (m->size == 2)
			memcpy(p, &v16, 2);
		else
			*p = (uint8_t)v;
	}
	return 0;
}

static int parse_counts(struct json_object *o, const char *where, struct description_device *ret,
			struct vfmig_error *err)
{
	const struct { const char *key; uint64_t *into; } counts[] = {
		{ "data_bytes", &ret->data_bytes },
		{ "data_packets", &ret->data_packets },
		{ "config_bytes", &ret->config_bytes },
	};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		if (json_u64(o, counts[i].key, UINT64_MAX, counts[i].into) < 0)
			return wrong(err, where, counts[i].key, "a number");
	}
	return 0;
}

static int parse_device(struct json_object *o, const char *where, struct description_device *ret,
			struct vfmig_error *err)
{
	struct json_object *identity;
	uint64_t instance_id;

	int rc = copy_text(o, where, "id", ret->id, sizeof(ret->id), err);
	if (rc < 0)
		return rc;
	if (json_u64(o, "instance_id", UINT32_MAX, &instance_id) < 0)
		return wrong(err, where, "instance_id", "a number of 32 bits");
	ret->instance_id = (uint32_t)instance_id;
	const char *digest = json_text(o, "data_digest");
	if (!digest || !is_digest(digest))
		return wrong(err, where, "data_digest", "32 hex digits");
	strcpy(ret->data_digest, digest);
	digest = json_text(o, "config_digest");
	if (digest && !is_digest(digest))
		return wrong(err, where, "config_digest", "32 hex digits");
	if (digest)
		strcpy(ret->config_digest, digest);
	rc = parse_counts(o, where, ret, err);
	if (rc == 0 && json_object_object_get_ex(o, "identity", &identity)) {
		ret->has_identity = true;
		rc = parse_identity(identity, where, &ret->identity, err);
	}
	return rc;
}

static int parse_devices(struct json_object *devices, const struct description_sizes *sizes, struct description *d,
			 struct vfmig_error *err)
{
	size_t count = json_object_array_length(devices);

	if (count > WIRE_VFMIG_SECTIONS_MAX)
		return error_set(err, -EBADMSG, "description: vfmig.devices has %zu members, at most %u are possible",
				 count, WIRE_VFMIG_SECTIONS_MAX);
	d->devices = calloc(count ? count : 1, sizeof(*d->devices));
	if (!d->devices)
		return error_errno(err, -ENOMEM, "description");
	for (size_t i = 0; i < count; i++) {
		struct description_device *device = &d->devices[i];
		char where[32];
		snprintf(where, sizeof(where), ".devices[%zu]", i);
		int rc = parse_device(json_object_array_get_idx(devices, i), where, device, err);
		if (rc < 0)
			return rc;
		if (description_find(d, device->id, device->instance_id))
			return error_set(err, -EBADMSG, "description: vfmig%s is one that came before", where);
		description_sizes_find(sizes, device->id, device->instance_id, &device->full_bytes);
		d->num_devices++;
	}
	return 0;
}

static int parse_vfmig(struct json_object *o, const struct description_sizes *sizes, struct description *d,
		       struct vfmig_error *err)
{
	uint64_t version;

	if (json_u64(o, "version", UINT32_MAX, &version) < 0 || version == 0)
		return wrong(err, "", "version", "a number above 0");
	if (version > WIRE_VFMIG_DESCRIPTION_VERSION)
		return error_set(err, -EBADMSG,
				 "description: vfmig.version is %u, written by a newer vfmig; this one knows %u",
				 (uint32_t)version, WIRE_VFMIG_DESCRIPTION_VERSION);
	d->version = (uint32_t)version;
	int rc = copy_text(o, "", "machine", d->machine, sizeof(d->machine), err);
	if (rc < 0)
		return rc;
	const char *seal = json_text(o, "seal");
	if (!seal || !is_digest(seal))
		return wrong(err, "", "seal", "32 hex digits");
	struct json_object *devices = json_array(o, "devices");
	if (!devices)
		return wrong(err, "", "devices", "an array");
	return parse_devices(devices, sizes, d, err);
}

int description_parse(const char *text, size_t length, struct description *ret, struct vfmig_error *err)
{
	struct json_object *root, *vfmig;
	struct description_sizes *sizes = NULL;
	struct description d = { 0 };
	int rc = json_parse(text, length, &root, err);

	if (rc < 0)
		return rc;
	if (json_object_object_get_ex(root, "vfmig", &vfmig)) {
		rc = description_sizes_parse(text, length, &sizes, err);
		if (rc == 0)
			rc = parse_vfmig(vfmig, sizes, &d, err);
		if (rc == 0)
			rc = 1;
	}
	description_sizes_free(sizes);
	json_object_put(root);
	if (rc == 1)
		*ret = d;
	else
		description_clear(&d);
	return rc;
}
