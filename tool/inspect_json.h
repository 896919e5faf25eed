/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_json.h: members of the records that inspect.h tells of, put and got. */
#ifndef VFMIG_TOOL_INSPECT_JSON_H
#define VFMIG_TOOL_INSPECT_JSON_H

#include "inspect.h"

static inline void record_add_number(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

/* What came out of a stream. */
static inline void record_add_text(struct json_object *o, const char *key, const char *raw)
{
	char text[INSPECT_TEXT_MAX];

	json_object_object_add(o, key, json_object_new_string(inspect_text(raw, text)));
}

static inline struct json_object *record_get(struct json_object *o, const char *key)
{
	return json_object_object_get(o, key);
}

static inline uint64_t record_number(struct json_object *o, const char *key)
{
	return json_object_get_uint64(record_get(o, key));
}

/* "": there is none. */
static inline const char *record_string(struct json_object *o, const char *key)
{
	const char *s = json_object_get_string(record_get(o, key));

	return s ? s : "";
}

#endif
