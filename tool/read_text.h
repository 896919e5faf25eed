/* SPDX-License-Identifier: BSD-3-Clause */
/* read_text.h: JSON that somebody else has written: from a path or a link, whole, in bounded memory. */
#ifndef VFMIG_TOOL_READ_TEXT_H
#define VFMIG_TOOL_READ_TEXT_H

#include <json-c/json.h>

#include "vfmig.h"

/*
 * All of it, at most `most` bytes, ended by a zero that is not counted; to be freed. `path` is a path, whatever it
 * begins with, or -. -EFBIG: there is more.
 */
int read_text(const char *path, size_t most, char **ret, size_t *ret_length, struct vfmig_error *err);
/* The same from a link; `name` is what errors call it. */
int read_link_text(const char *uri, const char *name, size_t most, char **ret, size_t *ret_length,
		   struct vfmig_error *err);

/* One JSON value and nothing behind it, at most this deep. -EBADMSG says at which byte it is wrong. */
int read_json(const char *text, size_t length, struct json_object **ret, struct vfmig_error *err);

/* A member of an object (which may be NULL): of that type, else NULL, 0 or false. */
struct json_object *json_member(struct json_object *o, const char *key, enum json_type type);
/* Bytes of the character at `s`; 0: it is none, or one that a terminal or a browser would take for more than text. */
size_t text_character(const char *s);
/* What holds such a character is no string either. */
const char *json_member_text(struct json_object *o, const char *key);
/* A whole number that is not negative; *ret stays as it is where there is none. */
bool json_member_number(struct json_object *o, const char *key, uint64_t *ret);
bool json_member_bool(struct json_object *o, const char *key);

#endif
