/* SPDX-License-Identifier: BSD-3-Clause */
/* reader_impl.h: what the parts of the reader share: its bytes, its sections, its end. */
#ifndef VFMIG_STREAM_READER_IMPL_H
#define VFMIG_STREAM_READER_IMPL_H

#include <inttypes.h>

#include "base/bytes.h"
#include "stream/description.h"
#include "stream/ram.h"
#include "stream/reader.h"
#include "stream/vfio_packets.h"

#define READER_BUFFER (1u << 20)
#define READER_SECTIONS_MAX 1024u

/* What may come next. */
enum reader_state {
	AT_HEADER,
	AT_CONFIGURATION, /* or a record */
	AT_RECORD,
	IN_BODY,
	AT_FOOTER,
	BEHIND_EOF,
	AT_END,
};

struct reader_section {
	char id[WIRE_ID_MAX + 1];
	uint32_t section_id, instance_id, version_id;
	bool started, ended, full;
};

struct reader {
	struct vfmig_link *link;
	enum reader_state state;
	uint64_t offset; /* of buffer[start]: all before it was taken */

	/* [start, end) has arrived and was not taken yet. */
	uint8_t *buffer;
	size_t capacity, start, end;
	bool link_ended;
	size_t refused; /* bytes that were not enough for the body function; 0: none were shown to it */

	XXH3_state_t *digest; /* of all that was taken; NULL for a stream without a seal */
	bool marked, verified;
	reader_watch_fn *watch; /* of bodies' bytes; NULL: nobody does */
	void *watch_opaque;
	bool plain; /* marked, and without digests */
	enum stream_fault fault;
	bool advised; /* command 3 may be there */
	char seal[DIGEST_HEX]; /* once it is verified */

	struct reader_section *sections;
	size_t num_sections;
	struct vfmig_section current;
	const struct reader_section *current_section;

	struct vfio_parser vfio; /* of the current body, if it is a VFIO device's */
	size_t read_max;	 /* bytes to read at once; 0: as many as there is room for */

	/* Bodies that nobody wants. */
	struct ram_skip ram;
	char ram_capability[64]; /* one that changes ram's format; "": none */
	uint64_t sized_left;
	reader_body_fn *skip; /* for the current body; NULL: not chosen yet */
	struct reader_hold *hold;

	/* The end, when it is known before it is reached. */
	char *text; /* looked up in a file, to be met again */
	size_t text_length;
	struct description_sizes *sizes;
	bool has_description;
	struct description description;
};

/* Bytes (reader_input.c). `what` completes "the stream ends in the middle of". */
/* At least n contiguous bytes are at reader_bytes: 0, -EAGAIN or -errno. */
int reader_need(struct reader *r, size_t n, const char *what, struct vfmig_error *err);
/* Reads once: bytes (> 0), 0: the link has ended, or -errno. May grow the buffer up to `most`. */
ssize_t reader_fill(struct reader *r, size_t most, struct vfmig_error *err);
/* The same into a place that is not the buffer, when nothing is in that: reader_take is not for these. */
ssize_t reader_read(struct reader *r, void *into, size_t length, struct vfmig_error *err);
void reader_take(struct reader *r, size_t n);
/* Bytes of the body that nobody wants: how many of `n` were passed over unread, in a file without a digest. */
uint64_t reader_pass(struct reader *r, uint64_t n);
int reader_truncated(struct reader *r, uint64_t missing, const char *what, struct vfmig_error *err);
/* "offset 0x...: message" with -EBADMSG; for what lies `ahead` bytes before the reader. */
int reader_broken(struct reader *r, enum stream_fault fault, size_t ahead, struct vfmig_error *err, const char *format,
		  ...) __attribute__((format(printf, 5, 6)));

static inline const uint8_t *reader_bytes(const struct reader *r)
{
	return r->buffer + r->start;
}

static inline size_t reader_have(const struct reader *r)
{
	return r->end - r->start;
}

/* Bodies (reader.c): more bytes than were refused, the footer behind all of them, what it is in a message. */
int reader_more_body(struct reader *r, struct vfmig_error *err);
int reader_footer(struct reader *r, struct vfmig_error *err);
void reader_describe_body(const struct reader *r, char *what, size_t size);

/* CONFIGURATION and its subsections (reader_config.c). */
int reader_configuration(struct reader *r, struct reader_record *ret, struct vfmig_error *err);

/* The end (reader_end.c). */
int reader_look_up_description(struct reader *r, struct vfmig_error *err);
int reader_behind_eof(struct reader *r, struct reader_record *ret, struct vfmig_error *err);

/* Holds a FULL section of unknown length and what follows (reader_hold.c)
 * until the description has come: then 0, and `sizes` is set. */
int reader_hold(struct reader *r, struct vfmig_error *err);
void reader_hold_free(struct reader_hold *hold);
#endif
