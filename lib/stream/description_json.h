/* SPDX-License-Identifier: BSD-3-Clause */
/* description_json.h: careful getters for JSON that a stranger wrote; for description*.c and the journal. */
#ifndef VFMIG_STREAM_DESCRIPTION_JSON_H
#define VFMIG_STREAM_DESCRIPTION_JSON_H

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "stream/description.h"

/* Parses an object that fills the text to its last byte. The caller puts *ret. */
int json_parse(const char *text, size_t length, struct json_object **ret, struct vfmig_error *err);
/* -EBADMSG: not there, not an integer, or not in [0, max]. */
int json_u64(struct json_object *object, const char *key, uint64_t max, uint64_t *ret);
/* NULL: not there, another type, or with a NUL inside. */
const char *json_text(struct json_object *object, const char *key);
struct json_object *json_array(struct json_object *object, const char *key);

#endif
