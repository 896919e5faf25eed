/* SPDX-License-Identifier: BSD-3-Clause */
/* read_text.c: JSON that somebody else has written. */
#include "read_text.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link/link.h"

#define FIRST_BYTES 65536u
#define JSON_DEPTH 16

static int read_some(struct vfmig_link *link, char *to, size_t length, size_t *have, struct vfmig_error *err)
{
	ssize_t n = link_read(link, to + *have, length - *have, err);
	if (n == -EAGAIN) {
		struct pollfd p = { .fd = link->wait_fd, .events = link_events(link, POLLIN) };
		(void)poll(&p, 1, -1);
		return 1;
	}
	if (n > 0)
		*have += (size_t)n;
	return n < 0 ? (int)n : n > 0;
}

static int read_all(struct vfmig_link *link, size_t most, char **text, size_t *have, struct vfmig_error *err)
{
	size_t room = 0;
	int r = 1;
	while (r > 0) {
		if (*have == room) {
			room = room ? 2 * room : FIRST_BYTES;
			char *grown = realloc(*text, room + 1);
			if (!grown)
				return error_errno(err, -ENOMEM, "%s", link->name);
			*text = grown;
		}
		r = read_some(link, *text, room, have, err);
		if (r >= 0 && *have > most)
			return error_set(err, -EFBIG, "%s: more than %zu bytes", link->name, most);
	}
	(*text)[*have] = '\0';
	return r;
}

int read_link_text(const char *uri, const char *name, size_t most, char **ret, size_t *ret_length,
		   struct vfmig_error *err)
{
	struct vfmig_link *link;
	char *text = NULL;
	size_t have = 0;
	int r = vfmig_link_open(uri, VFMIG_LOAD, NULL, &link, err);
	if (r < 0)
		return r;
	snprintf(link->name, sizeof(link->name), "%s", name);
	r = read_all(link, most, &text, &have, err);
	vfmig_link_close(link);
	if (r < 0) {
		free(text);
		return r;
	}
	*ret = text;
	*ret_length = have;
	return 0;
}

int read_text(const char *path, size_t most, char **ret, size_t *ret_length, struct vfmig_error *err)
{
	char uri[4096];
	if ((size_t)snprintf(uri, sizeof(uri), "%s%s", strcmp(path, "-") ? "file:" : "", path) >= sizeof(uri))
		return error_errno(err, -ENAMETOOLONG, "%.64s...", path);
	return read_link_text(uri, path, most, ret, ret_length, err);
}

int read_json(const char *text, size_t length, struct json_object **ret, struct vfmig_error *err)
{
	struct json_tokener *tokener = length <= INT32_MAX ? json_tokener_new_ex(JSON_DEPTH) : NULL;
	if (!tokener)
		return error_errno(err, -ENOMEM, "JSON");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	struct json_object *root = json_tokener_parse_ex(tokener, text, (int)length);
	enum json_tokener_error problem = json_tokener_get_error(tokener);
	size_t at = json_tokener_get_parse_end(tokener);
	json_tokener_free(tokener);
	if (problem == json_tokener_success && root) {
		*ret = root;
		return 0;
	}
	json_object_put(root);
	return error_set(err, -EBADMSG, "no JSON: %s at byte %zu",
			 problem == json_tokener_continue ? "it ends too early" : json_tokener_error_desc(problem), at);
}

struct json_object *json_member(struct json_object *o, const char *key, enum json_type type)
{
	struct json_object *member = NULL;
	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &member))
		return NULL;
	return json_object_is_type(member, type) ? member : NULL;
}

size_t text_character(const char *text)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *s = (const unsigned char *)text;
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
	bool direction = (c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
	bool none = c < least[n] || (c >= 0xd800 && c < 0xe000) || (c & 0xfffe) == 0xfffe || c > 0x10ffff;
	return (s[0] >= 0x80 && s[0] < 0xc2) || s[0] >= 0xf8 || control || direction || none ? 0 : n;
}

const char *json_member_text(struct json_object *o, const char *key)
{
	struct json_object *member = json_member(o, key, json_type_string);
	if (!member)
		return NULL;
	const char *text = json_object_get_string(member);
	size_t length = (size_t)json_object_get_string_len(member);
	for (size_t i = 0, n; i < length; i += n)
		if (!(n = text_character(text + i)))
			return NULL;
	return text;
}

bool json_member_number(struct json_object *o, const char *key, uint64_t *ret)
{
	struct json_object *member = json_member(o, key, json_type_int);
	if (!member || (json_object_get_int64(member) < 0))
		return false;
	*ret = json_object_get_uint64(member);
	return true;
}

bool json_member_bool(struct json_object *o, const char *key)
{
	return json_object_get_boolean(json_member(o, key, json_type_boolean));
}
