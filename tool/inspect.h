/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inspect.h: one walker over a stream and what takes its records.
 *
 * A record is a JSON object; both printers print from it. "type" is one of
 * header, configuration, command, section, packet, section-end, eof,
 * description; "offset" and "length" are in the stream.
 */
#ifndef VFMIG_TOOL_INSPECT_H
#define VFMIG_TOOL_INSPECT_H

#include <json-c/json.h>

#include "stream/reader.h"

struct inspect_sink {
	/* Borrows the record. */
	void (*record)(struct inspect_sink *sink, struct json_object *record);
	/* Both may be NULL: bytes of a DATA packet; a config record. -errno ends the walk. */
	int (*data)(struct inspect_sink *sink, const struct reader_record *section, const uint8_t *data, size_t length,
		    struct vfmig_error *err);
	int (*config)(struct inspect_sink *sink, const struct reader_record *section, const uint8_t *data,
		      size_t length, struct vfmig_error *err);
};

struct inspect_result {
	uint64_t bytes; /* read */
	bool marked, verified;
};

/* Walks to the stream's end; waits for the link as often as it must. */
int inspect_walk(struct vfmig_link *link, struct inspect_sink *sink, struct inspect_result *ret,
		 struct vfmig_error *err);

/* poll(2)s for what a link that gave -EAGAIN waits for. */
void inspect_wait(const struct vfmig_link *link, short events);

/* What came out of a stream with everything but plain ASCII shown as \xNN. */
#define INSPECT_TEXT_MAX (4 * WIRE_ID_MAX + 1)
const char *inspect_text(const char *raw, char text[INSPECT_TEXT_MAX]);

/* inspect_text.c: *line_open (false at first): a line has no end yet. */
void inspect_print(struct json_object *record, bool *line_open);

#endif
