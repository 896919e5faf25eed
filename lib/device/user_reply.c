/* SPDX-License-Identifier: BSD-3-Clause */
/* user_reply.c: reads VERSION's capabilities and a region's info, both written by a stranger. */
#include "device/user_reply.h"

#include <json-c/json.h>
#include <string.h>

#include "base/bytes.h"

#define JSON_DEPTH 8 /* the real thing has 3 */

static int bad_json(const char *what, struct vfmig_error *err)
{
	return error_set(err, -EPROTO, "VERSION's capabilities: %s", what);
}

/* An absent number is left as it is. */
static int get_number(struct json_object *capabilities, const char *name, int64_t least, uint32_t most, uint32_t *value,
		      struct vfmig_error *err)
{
	struct json_object *o;

	if (!json_object_object_get_ex(capabilities, name, &o))
		return 0;
	int64_t v = json_object_is_type(o, json_type_int) ? json_object_get_int64(o) : -1;
	if (v < least)
		return error_set(err, -EPROTO, "VERSION's capabilities: %s is %.40s, expected was a number from %lld",
				 name, json_object_to_json_string(o), (long long)least);
	*value = v < most ? (uint32_t)v : most;
	return 0;
}

static int get_bool(struct json_object *object, const char *name, bool *value, struct vfmig_error *err)
{
	struct json_object *o;

	if (!json_object_object_get_ex(object, name, &o))
		return 0;
	if (!json_object_is_type(o, json_type_boolean))
		return error_set(err, -EPROTO, "VERSION's capabilities: %s is %.40s, expected was true or false", name,
				 json_object_to_json_string(o));
	*value = json_object_get_boolean(o);
	return 0;
}

/* The capability that is an object itself; NULL: there is none. */
static int get_object(struct json_object *capabilities, const char *name, struct json_object **ret,
		      struct vfmig_error *err)
{
	*ret = NULL;
	if (!json_object_object_get_ex(capabilities, name, ret) || json_object_is_type(*ret, json_type_object))
		return 0;
	return error_set(err, -EPROTO, "VERSION's capabilities: %s is %.40s, expected was an object", name,
			 json_object_to_json_string(*ret));
}

static int get_objects(struct json_object *capabilities, struct user_limits *limits, struct vfmig_error *err)
{
	struct json_object *o;

	int r = get_object(capabilities, "migration", &o, err);
	if (r == 0 && o)
		r = get_number(o, "pgsize", VFIO_USER_PAGE_SIZE, VFIO_USER_MAX_PAGE_SIZE, &limits->page_size, err);
	if (r == 0 && (limits->page_size & (limits->page_size - 1)))
		r = bad_json("migration.pgsize is no power of two", err);
	if (r == 0)
		r = get_object(capabilities, "twin_socket", &o, err);
	if (r == 0 && o)
		r = get_bool(o, "supported", &limits->twin, err);
	if (r == 0 && o)
		r = get_number(o, "fd_index", 0, UINT32_MAX, &limits->twin_index, err);
	if (r == 0)
		r = get_object(capabilities, "vfmig", &o, err);
	if (r == 0 && o)
		r = get_bool(o, "whole_messages", &limits->whole_messages, err);
	return r;
}

uint32_t user_limits_write(const struct user_limits *limits)
{
	return limits->whole_messages ? limits->max_data : (uint32_t)min_u64(limits->max_data, VFIO_USER_SAFE_DATA);
}

static int get_limits(struct json_object *root, struct user_limits *limits, struct vfmig_error *err)
{
	struct json_object *capabilities;

	if (!json_object_is_type(root, json_type_object))
		return bad_json("no JSON object", err);
	if (!json_object_object_get_ex(root, "capabilities", &capabilities))
		return 0;
	if (!json_object_is_type(capabilities, json_type_object))
		return bad_json("\"capabilities\" is not an object", err);
	/* a register of 8 bytes has to fit */
	int r = get_number(capabilities, "max_data_xfer_size", 8, VFIO_USER_MAX_DATA, &limits->max_data, err);
	if (r == 0)
		r = get_number(capabilities, "max_msg_fds", 0, VFIO_USER_MAX_FDS, &limits->max_fds, err);
	return r < 0 ? r : get_objects(capabilities, limits, err);
}

int user_limits_parse(const char *json, size_t length, struct user_limits *ret, struct vfmig_error *err)
{
	struct user_limits limits = {
		.max_data = VFIO_USER_DEFAULT_MAX_DATA,
		.max_fds = VFIO_USER_DEFAULT_MAX_FDS,
		.page_size = VFIO_USER_PAGE_SIZE,
	};

	if (length == 0) {
		*ret = limits;
		return 0;
	}
	if (length > VFIO_USER_MAX_VERSION || memchr(json, 0, length) != json + length - 1)
		return bad_json("the text does not end with its only NUL", err);
	struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH);
	if (!tokener)
		return error_errno(err, -ENOMEM, "VERSION");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT); /* also: nothing behind the object */
	struct json_object *root = json_tokener_parse_ex(tokener, json, (int)length);
	enum json_tokener_error problem = json_tokener_get_error(tokener);
	int r = problem == json_tokener_success ? get_limits(root, &limits, err)
						: bad_json(json_tokener_error_desc(problem), err);
	json_object_put(root);
	json_tokener_free(tokener);
	if (r == 0)
		*ret = limits;
	return r;
}

char *user_limits_format(const struct user_announcement *ours)
{
	struct json_object *root = json_object_new_object();
	struct json_object *capabilities = json_object_new_object();
	struct json_object *migration = json_object_new_object();

	json_object_object_add(migration, "pgsize", json_object_new_int(VFIO_USER_PAGE_SIZE));
	json_object_object_add(capabilities, "max_msg_fds", json_object_new_uint64(ours->max_fds));
	json_object_object_add(capabilities, "max_data_xfer_size", json_object_new_int(VFIO_USER_MAX_DATA));
	json_object_object_add(capabilities, "pgsizes", json_object_new_int(VFIO_USER_PAGE_SIZE));
	json_object_object_add(capabilities, "migration", migration);
	if (ours->twin) {
		struct json_object *twin = json_object_new_object();
		json_object_object_add(twin, "supported", json_object_new_boolean(true));
		if (ours->twin_index >= 0)
			json_object_object_add(twin, "fd_index", json_object_new_int(ours->twin_index));
		json_object_object_add(capabilities, "twin_socket", twin);
	}
	if (ours->whole_messages) {
		struct json_object *vfmig = json_object_new_object();
		json_object_object_add(vfmig, "whole_messages", json_object_new_boolean(true));
		json_object_object_add(capabilities, "vfmig", vfmig);
	}
	json_object_object_add(root, "capabilities", capabilities);
	const char *text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN);
	char *copy = text ? strdup(text) : NULL;
	json_object_put(root);
	return copy;
}

static int add_areas(const uint8_t *body, size_t length, uint32_t at, struct access_region_info *ret,
		     struct vfmig_error *err)
{
	struct vfio_user_cap_sparse cap;
	struct vfio_user_cap_area area;
	int r = 0;

	if (!range_inside(at, sizeof(cap), length))
		return error_set(err, -EPROTO, "region %u: its list of mappable areas is cut off", ret->index);
	memcpy(&cap, body + at, sizeof(cap));
	if (cap.num_areas > (length - at - sizeof(cap)) / sizeof(area))
		return error_set(err, -EPROTO, "region %u: %u mappable areas do not fit into %zu bytes of info",
				 ret->index, cap.num_areas, length);
	for (uint32_t i = 0; i < cap.num_areas && r == 0; i++) {
		memcpy(&area, body + at + sizeof(cap) + i * sizeof(area), sizeof(area));
		r = access_region_info_add_area(ret, area.offset, area.size, err);
	}
	return r;
}

static int add_type(const uint8_t *body, size_t length, uint32_t at, struct access_region_info *ret,
		    struct vfmig_error *err)
{
	struct vfio_user_cap_type cap;

	if (!range_inside(at, sizeof(cap), length))
		return error_set(err, -EPROTO, "region %u: its type is cut off", ret->index);
	memcpy(&cap, body + at, sizeof(cap));
	ret->has_type = true;
	ret->type = cap.type;
	ret->subtype = cap.subtype;
	return 0;
}

/* The chain may go back and forth, so its end is known by the number of capabilities that fit. */
static int walk_chain(const uint8_t *body, size_t length, uint32_t at, bool mappable, bool *ret_sparse,
		      struct access_region_info *ret, struct vfmig_error *err)
{
	struct vfio_user_cap_header cap;
	size_t most = length / sizeof(cap);
	int r = 0;

	for (size_t n = 0; at != 0 && r == 0; n++, at = cap.next) {
		if (n == most)
			return error_set(err, -EPROTO, "region %u: its capabilities go round in a circle", ret->index);
		if (at < sizeof(struct vfio_user_region_info) || !range_inside(at, sizeof(cap), length))
			return error_set(err, -EPROTO, "region %u: a capability at offset %u, expected was %zu to %zu",
					 ret->index, at, sizeof(struct vfio_user_region_info), length - sizeof(cap));
		memcpy(&cap, body + at, sizeof(cap));
		if (cap.id == VFIO_USER_CAP_TYPE)
			r = add_type(body, length, at, ret, err);
		if (cap.id != VFIO_USER_CAP_SPARSE_MMAP)
			continue;
		*ret_sparse = true;
		if (mappable)
			r = add_areas(body, length, at, ret, err);
	}
	return r;
}

int user_region_parse(const uint8_t *body, size_t length, bool mappable, struct access_region_info *ret,
		      struct vfmig_error *err)
{
	struct vfio_user_region_info info;
	bool sparse = false;
	int r = 0;

	if (length < sizeof(info))
		return error_set(err, -EPROTO, "region %u: info of %zu bytes, expected were %zu", ret->index, length,
				 sizeof(info));
	memcpy(&info, body, sizeof(info));
	if (info.index != ret->index)
		return error_set(err, -EPROTO, "region %u: the server answered for region %u", ret->index, info.index);
	mappable = mappable && (info.flags & VFIO_USER_REGION_FLAG_MMAP) && info.size > 0;
	ret->size = info.size;
	ret->flags = info.flags & (ACCESS_REGION_READ | ACCESS_REGION_WRITE);
	if (info.flags & VFIO_USER_REGION_FLAG_CAPS)
		r = walk_chain(body, length, info.cap_offset, mappable, &sparse, ret, err);
	if (r == 0 && mappable && !sparse)
		r = access_region_info_add_area(ret, 0, info.size, err);
	if (ret->num_areas > 0)
		ret->flags |= ACCESS_REGION_MMAP;
	return r;
}
