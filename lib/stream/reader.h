/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reader.h: takes a stream off a link, record by record, without ever blocking.
 *
 * reader_next gives the next record of the framing. After a section record the
 * reader stands at the section's body, and its owner calls reader_feed (the
 * body is wanted) or reader_skip (it is not) until that returns 0, which
 * includes the footer. Everything can return -EAGAIN when the link is dry;
 * the call is then made again unchanged.
 *
 * A seekable link is read with pread from its beginning, so that several
 * readers can read the same file; its description is looked up first, which
 * is how bodies of other devices are skipped. On other links ram is skipped by
 * its format and the FULL sections behind it are held (READER_HOLD_MAX) until
 * the description has come.
 *
 * Every message names the stream's offset ("offset 0x...: ...") and what was
 * expected there.
 */
#ifndef VFMIG_STREAM_READER_H
#define VFMIG_STREAM_READER_H

#include "base/bytes.h"
#include "link/link.h"
#include "stream/description.h"
#include "stream/ram.h"
#include "stream/stream_faults.h"
#include "stream/vfio_packets.h"

#define READER_GATHER_MAX (64u << 10) /* contiguous bytes a body function can ask for */
#define READER_HOLD_MAX (8u << 20)

enum reader_record_kind {
	READER_HEADER,
	READER_CONFIGURATION,
	READER_SECTION,
	READER_COMMAND,
	READER_EOF,         /* of an unmarked stream on a two-way link this is the end */
	READER_DESCRIPTION, /* of a marked stream: parsed and its seal verified */
	READER_END,         /* nothing more; given again when asked again */
};

struct reader_record {
	enum reader_record_kind kind;
	uint64_t offset; /* of its first byte */
	uint64_t length; /* of the record (a section's: of its header) */
	/* CONFIGURATION: machine. SECTION: id (also for PART and END). */
	char name[WIRE_ID_MAX + 1];
	struct vfmig_section section;
	/* COMMAND */
	uint16_t command;
	uint16_t payload_length;
	uint8_t payload[64]; /* the first bytes of it */
	/* CONFIGURATION's subsections and DESCRIPTION's JSON: until the next call. */
	const uint8_t *data;
	size_t data_length;
};

struct reader;

int reader_new(struct vfmig_link *link, struct reader **ret, struct vfmig_error *err);
void reader_free(struct reader *r);
/* To look at a stream, not to load it: one that might have gone on as postcopy, and did not, is read. */
void reader_allow_advise(struct reader *r);
/* In a file that can be sought: the stream begins at that offset, from which its offsets go on. */
void reader_begin_at(struct reader *r, uint64_t offset);
/* The link's first four bytes were read already, to tell what it is: they are WIRE_MAGIC. */
void reader_put_back_magic(struct reader *r);

int reader_next(struct reader *r, struct reader_record *ret, struct vfmig_error *err);

/* As vfmig_participant_ops.load_state. */
typedef int reader_body_fn(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
			   size_t *ret_used, struct vfmig_error *err);
/* 1: took some, call again; 0: body and footer are through; -EAGAIN; -errno. */
int reader_feed(struct reader *r, reader_body_fn *fn, void *opaque, struct vfmig_error *err);
int reader_skip(struct reader *r, struct vfmig_error *err);
/* Called with each piece of a body as it is taken; NULL: no longer. */
typedef void reader_watch_fn(void *opaque, uint64_t offset, const uint8_t *data, size_t length);
void reader_watch(struct reader *r, reader_watch_fn *fn, void *opaque);
/* Is told of what reader_skip finds in ram. */
void reader_watch_ram(struct reader *r, const struct ram_watcher *watcher);

/* For the body of a VFIO section. NULL functions: nobody wants it. */
struct reader_vfio_ops {
	/* Each packet of the body, and its data as it comes. */
	int (*event)(void *opaque, const struct vfmig_section *section, const struct vfio_event *event,
		     struct vfmig_error *err);
	/*
	 * Where the next bytes of the packet's data should be received, and how many there is room for; NULL: no
	 * matter where. The event tells how many came there; not all have to. In a stream with digests they are read
	 * from there until the next event has come.
	 */
	void *(*place)(void *opaque, size_t *ret_length);
	bool no_data; /* what is in DATA packets need not be read, nor told */
};
/* As reader_feed. */
int reader_feed_vfio(struct reader *r, const struct reader_vfio_ops *ops, void *opaque, struct vfmig_error *err);
/* Is the body of a section with this id made of VFIO packets? */
bool reader_is_vfio(const char *id);

/* Has a section with this id and instance appeared? */
bool reader_has_section(const struct reader *r, const char *id, uint32_t instance_id);

/* After -EBADMSG of reader_next or reader_skip: what was wrong. */
enum stream_fault reader_fault(const struct reader *r);

/* Bytes taken so far. */
uint64_t reader_offset(const struct reader *r);
/* The stream says that vfmig wrote it: known after its first section record. */
bool reader_marked(const struct reader *r);
/* ... but without digests: nothing will be verified. */
bool reader_plain(const struct reader *r);
/* A capability that changes the format of the section "ram"; "": none is named. Owned by the reader. */
const char *reader_ram_capability(const struct reader *r);
/* What vfmig knows of the stream: before the end only on a seekable link, and
 * then not verified yet; NULL when there is none. Owned by the reader. */
const struct description *reader_description(const struct reader *r);
/* Has the whole stream been read and its seal found right? */
bool reader_verified(const struct reader *r);
/* That seal: the digest of the stream. Empty before. */
const char *reader_seal(const struct reader *r);
/* Bytes that came behind the stream's end on a link that goes on. Owned by the reader. */
struct cursor reader_rest(const struct reader *r);

#endif
