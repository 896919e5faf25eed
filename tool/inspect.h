/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inspect.h: one walker over a stream and what takes its records.
 *
 * A record is a JSON object; both printers print from it. "type" is one of
 * header, configuration, command, section, packet, section-end, eof,
 * description, or channel and channel-packet; "offset" and "length" are in the stream.
 */
#ifndef VFMIG_TOOL_INSPECT_H
#define VFMIG_TOOL_INSPECT_H

#include <json-c/json.h>

#include "stream/reader.h"

struct inspect_sink {
	uint64_t begin; /* offset of the stream in its file */
	/* Borrows the record. */
	void (*record)(struct inspect_sink *sink, struct json_object *record);
	/* May be NULL: bytes of a DATA packet; a config record. -errno ends the walk. */
	int (*data)(struct inspect_sink *sink, const struct reader_record *section, const uint8_t *data, size_t length,
		    struct vfmig_error *err);
	int (*config)(struct inspect_sink *sink, const struct reader_record *section, uint64_t offset,
		      const uint8_t *data, size_t length, struct vfmig_error *err);
	/* May be NULL: the description's text; a rule (lint.h) that the reader does not stop at. */
	void (*description)(struct inspect_sink *sink, uint64_t offset, const uint8_t *text, size_t length);
	void (*broken)(struct inspect_sink *sink, unsigned int rule, uint64_t offset, const char *message);
	/* Both may be NULL: whether this section's bytes are wanted; its body, piece by piece, behind their record. */
	bool (*wants_bytes)(struct inspect_sink *sink, const struct reader_record *section);
	void (*bytes)(struct inspect_sink *sink, uint64_t offset, const uint8_t *data, size_t length);
};

struct inspect_result {
	uint64_t bytes; /* read */
	bool marked, verified;
	bool mapped;	    /* memory has its place in the file */
	bool channel;	    /* no stream, but what went over one of its channels */
	unsigned int fault; /* a number of enum stream_fault: why it ended with -EBADMSG */
};

/* Walks to the stream's end; waits for the link as often as it must. */
int inspect_walk(struct vfmig_link *link, struct inspect_sink *sink, struct inspect_result *ret,
		 struct vfmig_error *err);

/* The same for what was recorded of a channel, whose first bytes were read already; inspect_walk calls it. */
int inspect_channel(struct vfmig_link *link, struct cursor first, struct inspect_sink *sink, struct inspect_result *ret,
		    struct vfmig_error *err);

/* It is no stream: makes err, which says so, say what it is instead if that can be told. -EBADMSG. */
int inspect_layout(const struct vfmig_link *link, uint64_t begin, struct cursor first, struct vfmig_error *err);

/* poll(2)s for what a link that gave -EAGAIN waits for. */
void inspect_wait(const struct vfmig_link *link, short events);

/* What came out of a stream with everything but plain ASCII shown as \xNN. */
#define INSPECT_TEXT_MAX (4 * WIRE_ID_MAX + 1)
const char *inspect_text(const char *raw, char text[INSPECT_TEXT_MAX]);

/* inspect_text.c: all zero at first but `packets`. */
struct inspect_printer {
	bool packets; /* each in a line of its own; else those in a row that are alike share one */
	/* private */
	bool line_open;		  /* it has no end yet */
	struct json_object *held; /* the first of a row; NULL: none */
	uint64_t count, bytes;	  /* of the row */
};
void inspect_print(struct inspect_printer *printer, struct json_object *record);
/* What was held back; a line that was begun is ended. */
void inspect_print_end(struct inspect_printer *printer);

/* inspect_hexdump.c: all zero at first. */
#define INSPECT_ROW 16u
struct inspect_hexdump {
	uint64_t offset;
	unsigned int count;
	uint8_t row[INSPECT_ROW];
};
void inspect_hexdump(struct inspect_hexdump *h, uint64_t offset, const uint8_t *data, size_t length);
void inspect_hexdump_end(struct inspect_hexdump *h);

#endif
