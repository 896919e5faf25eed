/* SPDX-License-Identifier: BSD-3-Clause */
/* description_json.c: parses JSON within bounds and reads members with their types checked. */
#include "stream/description_json.h"

#define JSON_DEPTH_MAX 100
/* What the parsed form may cost: an array or object weighs some 700 bytes, a
 * value some 100. A large machine's description is a tenth of this. */
#define JSON_WEIGHT_MAX (2u << 20)

static bool within_weight(const char *text, size_t length)
{
	size_t weight = 0;

	for (size_t i = 0; i < length; i++) {
		if (text[i] == '{' || text[i] == '[')
			weight += 8;
		else if (text[i] == ',' || text[i] == ':')
			weight++;
	}
	return weight <= JSON_WEIGHT_MAX;
}

int json_parse(const char *text, size_t length, struct json_object **ret, struct vfmig_error *err)
{
	if (length == 0 || length > WIRE_DESCRIPTION_MAX)
		return error_set(err, -EBADMSG, "description: %zu bytes, expected 1 to %u", length,
				 WIRE_DESCRIPTION_MAX);
	if (!within_weight(text, length))
		return error_set(err, -EBADMSG, "description: too many members");
	struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
	if (!tokener)
		return error_errno(err, -ENOMEM, "description");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	struct json_object *root = json_tokener_parse_ex(tokener, text, (int)length);
	enum json_tokener_error why = json_tokener_get_error(tokener);
	size_t end = json_tokener_get_parse_end(tokener);
	json_tokener_free(tokener);
	if (why == json_tokener_success && end == length && json_object_is_type(root, json_type_object)) {
		*ret = root;
		return 0;
	}
	json_object_put(root);
	if (why == json_tokener_success)
		return error_set(err, -EBADMSG, "description: not one JSON object of %zu bytes", length);
	if (why == json_tokener_continue)
		return error_set(err, -EBADMSG, "description: the JSON has no end");
	return error_set(err, -EBADMSG, "description: JSON at byte %zu: %s", end, json_tokener_error_desc(why));
}

int json_u64(struct json_object *object, const char *key, uint64_t max, uint64_t *ret)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, json_type_int))
		return -EBADMSG;
	/* Negative numbers come out as 0 here; both have to agree. */
	uint64_t u = json_object_get_uint64(value);
	if (json_object_get_int64(value) < 0 || u > max)
		return -EBADMSG;
	*ret = u;
	return 0;
}

const char *json_text(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, json_type_string))
		return NULL;
	const char *text = json_object_get_string(value);
	return strlen(text) == (size_t)json_object_get_string_len(value) ? text : NULL;
}

struct json_object *json_array(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, json_type_array))
		return NULL;
	return value;
}
