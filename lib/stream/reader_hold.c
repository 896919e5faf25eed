/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reader_hold.c: a FULL section of unknown length where there is no end to look at.
 *
 * Nothing is taken: the bytes stay in the reader's buffer, which grows, until
 * a description among them accounts for every section from the current one on.
 * Then they are read like any others.
 */
#include <stdlib.h>

#include "stream/reader_impl.h"

/* Looks like footer, end, description: 7e id 00 06 length '{' */
#define LOOK 12u
#define END_AT 5u
#define CANDIDATES_MAX 16u

/* Offsets are from the current section's body, which the buffer begins with. */
struct reader_hold {
	size_t scanned;
	size_t count;
	struct {
		size_t at;  /* of the end's 00 */
		size_t end; /* of the JSON; 0: tried already */
	} candidates[CANDIDATES_MAX];
};

void reader_hold_free(struct reader_hold *hold)
{
	free(hold);
}

static int scan(struct reader *r, struct vfmig_error *err)
{
	struct reader_hold *hold = r->hold;
	const uint8_t *b = reader_bytes(r);

	for (; hold->scanned + LOOK <= reader_have(r); hold->scanned++) {
		const uint8_t *p = b + hold->scanned;
		if (p[0] != WIRE_FOOTER || p[END_AT] != WIRE_EOF || p[END_AT + 1] != WIRE_DESCRIPTION ||
		    p[LOOK - 1] != '{')
			continue;
		size_t at = hold->scanned + END_AT, length = get_be32(p + END_AT + 2);
		if (length > READER_HOLD_MAX - at - 6)
			continue;
		if (hold->count == CANDIDATES_MAX)
			return reader_broken(r, FAULT_DESCRIPTION, at, err,
					     "one more thing that looks like the description and is none");
		hold->candidates[hold->count].at = at;
		hold->candidates[hold->count++].end = at + 6 + length;
	}
	return 0;
}

/* One section, whose body begins at `at`: where its footer ends, or 0. */
static size_t behind_section(const uint8_t *b, size_t at, size_t end, const struct description_sizes *sizes,
			     const char *id, uint32_t instance_id, uint32_t section_id)
{
	uint64_t bytes;

	if (description_sizes_find(sizes, id, instance_id, &bytes) < 0 || bytes > end - at || end - at - bytes < 5)
		return 0;
	at += (size_t)bytes;
	return b[at] == WIRE_FOOTER && get_be32(b + at + 1) == section_id ? at + 5 : 0;
}

/* The header of a FULL section at `at`: where its body begins, or 0. */
static size_t behind_header(const uint8_t *b, size_t at, size_t end, char id[WIRE_ID_MAX + 1],
			    uint32_t *ret_instance_id, uint32_t *ret_section_id)
{
	struct cursor c = { b + at, end - at };
	const uint8_t *head = cursor_take(&c, 6);
	const uint8_t *name = head && head[0] == WIRE_SECTION_FULL ? cursor_take(&c, head[5]) : NULL;
	const uint8_t *tail = name ? cursor_take(&c, 8) : NULL;

	if (!tail)
		return 0;
	memcpy(id, name, head[5]);
	id[head[5]] = '\0';
	*ret_section_id = get_be32(head + 1);
	*ret_instance_id = get_be32(tail);
	return end - c.length;
}

/* Do these sizes lead from the current body to the end at `end`, exactly? */
static bool accounts(const struct reader *r, const struct description_sizes *sizes, size_t end)
{
	const uint8_t *b = reader_bytes(r);
	uint32_t instance_id = r->current.instance_id, section_id = r->current.section_id;
	char id[WIRE_ID_MAX + 1];
	size_t at = 0;

	strcpy(id, r->current_section->id);
	for (unsigned int count = 0; count < READER_SECTIONS_MAX; count++) {
		at = behind_section(b, at, end, sizes, id, instance_id, section_id);
		if (at == end)
			return true;
		at = at ? behind_header(b, at, end, id, &instance_id, &section_id) : 0;
		if (!at)
			return false;
	}
	return false;
}

static bool found(struct reader *r)
{
	struct reader_hold *hold = r->hold;

	for (size_t i = 0; i < hold->count; i++) {
		size_t at = hold->candidates[i].at, end = hold->candidates[i].end;
		if (!end || end > reader_have(r))
			continue;
		hold->candidates[i].end = 0;
		struct description_sizes *sizes;
		const char *text = (const char *)reader_bytes(r) + at + 6;
		if (description_sizes_parse(text, end - at - 6, &sizes, NULL) < 0)
			continue;
		if (accounts(r, sizes, at)) {
			r->sizes = sizes;
			return true;
		}
		description_sizes_free(sizes);
	}
	return false;
}

int reader_hold(struct reader *r, struct vfmig_error *err)
{
	if (!r->hold)
		r->hold = calloc(1, sizeof(*r->hold));
	if (!r->hold)
		return error_errno(err, -ENOMEM, "stream reader");
	for (;;) {
		int rc = scan(r, err);
		if (rc < 0 || found(r))
			return rc;
		if (reader_have(r) >= READER_HOLD_MAX)
			return reader_broken(r, FAULT_UNDESCRIBED, 0, err,
					     "section '%s': no description that tells its length within %u bytes",
					     r->current_section->id, READER_HOLD_MAX);
		ssize_t n = reader_fill(r, READER_HOLD_MAX, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return reader_broken(r, FAULT_UNDESCRIBED, reader_have(r), err,
					     "the stream ends without a description that tells how long "
					     "section '%s' is",
					     r->current_section->id);
	}
}
