/* SPDX-License-Identifier: BSD-3-Clause */
/* probe_read.c: a probe's result from its JSON, which another machine may have written. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "probe.h"
#include "read_text.h"

static int missing(const char *what, struct vfmig_error *err)
{
	return error_set(err, -EBADMSG,
			 "%s is missing or is not what 'vfmig probe --json' prints; make it again by the "
			 "same vfmig",
			 what);
}

static bool read_u16(struct json_object *o, const char *key, uint16_t *ret)
{
	uint64_t value;
	if (!json_member_number(o, key, &value) || value > UINT16_MAX)
		return false;
	*ret = (uint16_t)value;
	return true;
}

static int read_pci(struct probe *p, struct vfmig_error *err)
{
	struct json_object *o = json_member(p->json, "pci", json_type_object);
	uint64_t class_code, revision;
	if (!o)
		return 0;
	p->has_pci = true;
	if (!read_u16(o, "vendor", &p->vendor) || !read_u16(o, "device", &p->device) ||
	    !read_u16(o, "subsystem_vendor", &p->subsystem_vendor) || !read_u16(o, "subsystem", &p->subsystem) ||
	    !json_member_number(o, "class", &class_code) || class_code > 0xffffff ||
	    !json_member_number(o, "revision", &revision) || revision > UINT8_MAX)
		return missing("a member of pci", err);
	p->class_code = (uint32_t)class_code;
	p->revision = (uint8_t)revision;
	return 0;
}

static int digit(char c)
{
	const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

static int read_config(struct probe *p, struct vfmig_error *err)
{
	struct json_object *o = json_member(p->json, "config_space", json_type_object);
	const char *hex = json_member_text(o, "hex"), *error = json_member_text(o, "error");
	uint64_t size;
	if (!o)
		return p->has_pci ? missing("config_space", err) : 0;
	snprintf(p->config_error, sizeof(p->config_error), "%s", error ? error : "");
	if (error)
		return 0;
	if (!hex || !json_member_number(o, "size", &size) || (size != 256 && size != PCI_CONFIG_MAX) ||
	    strlen(hex) % 2 || strlen(hex) > 2 * size)
		return missing("a member of config_space", err);
	for (size_t i = 0; hex[2 * i]; i++) {
		int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);
		if (high < 0 || low < 0)
			return error_set(err, -EBADMSG, "config_space: byte %zu is no hexadecimal number", i);
		p->config.bytes[i] = (uint8_t)(high << 4 | low);
	}
	p->config.size = size;
	return 0;
}

static int read_regions(struct probe *p, struct vfmig_error *err)
{
	struct json_object *list = json_member(p->json, "regions", json_type_array);
	size_t count = list ? json_object_array_length(list) : 0;
	if (!list || count > PROBE_MAX)
		return missing("regions", err);
	for (size_t i = 0; i < count; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		struct access_region_info *info = &p->regions[i].info;
		uint64_t type = 0, subtype = 0;
		if (!json_member_number(o, "size", &info->size))
			return missing("a region's size", err);
		info->has_type = json_member_number(o, "type", &type) && json_member_number(o, "subtype", &subtype);
		info->type = (uint32_t)type;
		info->subtype = (uint32_t)subtype;
	}
	p->num_regions = p->info.num_regions = (uint32_t)count;
	return 0;
}

static int read_migration(struct probe *p, struct vfmig_error *err)
{
	struct json_object *o = json_member(p->json, "migration", json_type_object);
	if (!json_member(o, "possible", json_type_boolean))
		return missing("migration", err);
	if (!json_member_bool(o, "possible")) {
		const char *why = json_member_text(o, "why_not");
		snprintf(p->why_not, sizeof(p->why_not), "%s", why && *why ? why : "it does not say why");
		return 0;
	}
	const char *interface = json_member_text(o, "interface");
	if (!interface || (strcmp(interface, "v1") && strcmp(interface, "v2")))
		return missing("migration.interface", err);
	p->interface = interface;
	p->has_precopy = json_member_bool(o, "precopy");
	p->has_p2p = json_member_bool(o, "p2p");
	p->state = json_member_text(o, "state");
	p->has_state_bytes = json_member_number(o, "state_bytes", &p->state_bytes);
	p->logs_itself = json_member_bool(o, "logs_written_pages");
	return read_config(p, err);
}

int probe_read(const char *text, size_t length, const char *from, struct probe *p, struct vfmig_error *err)
{
	int r = read_json(text, length, &p->json, err);
	if (r == 0) {
		p->uri = json_member_text(p->json, "uri");
		p->kind = json_member_text(p->json, "access");
		p->info.flags = json_member_bool(p->json, "resettable") ? ACCESS_DEVICE_RESET : 0;
		r = p->uri && p->kind ? read_pci(p, err) : missing("uri or access", err);
	}
	if (r == 0)
		r = read_regions(p, err);
	if (r == 0)
		r = read_migration(p, err);
	return r < 0 ? error_prefix(err, r, "%s", from) : 0;
}
