/* SPDX-License-Identifier: BSD-3-Clause */
/* writer.c: queues a stream's bytes, digests them and sends them when the link takes them. */
#include "stream/writer.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* What a handler may copy in one call, and room for the framing around it. */
#define QUEUE_BYTES ((64u << 10) + 1024u)
/* Of a reference so much is digested at a time, and is in the cache still when it is sent. Measured (doc/speed.md). */
#define DIGEST_PIECE (1u << 20)

struct vfmig_writer {
	struct vfmig_link *link;
	XXH3_state_t *digest; /* NULL: the stream has none */
	uint64_t offset;
	uint8_t *queue; /* [sent, used) waits to be sent */
	size_t sent, used;
	const uint8_t *ref; /* sent after the queue */
	size_t ref_left, ref_digested; /* of what is left, from its beginning */
	bool overflow; /* a put had no room, or came after a reference */
	char *description; /* what the last reference points to, at the end */
};

int writer_new(struct vfmig_link *link, struct vfmig_writer **ret, struct vfmig_error *err)
{
	struct vfmig_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return error_errno(err, -ENOMEM, "stream writer");
	w->link = link;
	w->queue = malloc(QUEUE_BYTES);
	w->digest = XXH3_createState();
	if (!w->queue || !w->digest) {
		writer_free(w);
		return error_errno(err, -ENOMEM, "stream writer");
	}
	XXH3_128bits_reset(w->digest);
	*ret = w;
	return 0;
}

void writer_without_digest(struct vfmig_writer *w)
{
	XXH3_freeState(w->digest);
	w->digest = NULL;
}

void writer_free(struct vfmig_writer *w)
{
	if (!w)
		return;
	XXH3_freeState(w->digest);
	free(w->queue);
	free(w->description);
	free(w);
}

uint64_t writer_offset(const struct vfmig_writer *w)
{
	return w->offset;
}

uint64_t writer_sent(const struct vfmig_writer *w)
{
	return w->offset - (w->used - w->sent) - w->ref_left;
}

bool writer_holds_ref(const struct vfmig_writer *w)
{
	return w->ref_left > 0;
}

static void count(struct vfmig_writer *w, const void *data, size_t length)
{
	if (w->digest)
		XXH3_128bits_update(w->digest, data, length);
	w->offset += length;
}

void vfmig_put_bytes(struct vfmig_writer *w, const void *data, size_t length)
{
	if (w->ref_left || length > QUEUE_BYTES - w->used + w->sent)
		w->overflow = true;
	if (w->overflow || length == 0)
		return;
	if (length > QUEUE_BYTES - w->used) {
		memmove(w->queue, w->queue + w->sent, w->used - w->sent);
		w->used -= w->sent;
		w->sent = 0;
	}
	memcpy(w->queue + w->used, data, length);
	w->used += length;
	count(w, data, length);
}

void vfmig_put_ref(struct vfmig_writer *w, const void *data, size_t length)
{
	if (w->ref_left)
		w->overflow = true;
	if (w->overflow || length == 0)
		return;
	w->ref = data;
	w->ref_left = length;
	w->ref_digested = 0;
	w->offset += length;
}

void vfmig_put_u8(struct vfmig_writer *w, uint8_t v)
{
	vfmig_put_bytes(w, &v, 1);
}

void vfmig_put_be16(struct vfmig_writer *w, uint16_t v)
{
	uint8_t b[2];
	put_be16(b, v);
	vfmig_put_bytes(w, b, sizeof(b));
}

void vfmig_put_be32(struct vfmig_writer *w, uint32_t v)
{
	uint8_t b[4];
	put_be32(b, v);
	vfmig_put_bytes(w, b, sizeof(b));
}

void vfmig_put_be64(struct vfmig_writer *w, uint64_t v)
{
	uint8_t b[8];
	put_be64(b, v);
	vfmig_put_bytes(w, b, sizeof(b));
}

/* Takes what the link took off the queue, then off the reference. */
static void taken(struct vfmig_writer *w, size_t n)
{
	size_t queued = w->used - w->sent;
	size_t from_queue = n < queued ? n : queued;

	w->sent += from_queue;
	if (w->sent == w->used)
		w->sent = w->used = 0;
	if (n > from_queue) {
		w->ref += n - from_queue;
		w->ref_left -= n - from_queue;
		w->ref_digested -= n - from_queue;
	}
}

/* How much of the reference can be sent: what is digested. */
static size_t sendable(struct vfmig_writer *w)
{
	if (!w->ref_digested) {
		w->ref_digested = !w->digest || w->ref_left < DIGEST_PIECE ? w->ref_left : DIGEST_PIECE;
		if (w->digest)
			XXH3_128bits_update(w->digest, w->ref, w->ref_digested);
	}
	return w->ref_digested;
}

int writer_flush(struct vfmig_writer *w, struct vfmig_error *err)
{
	if (w->overflow)
		return error_set(err, -ENOBUFS, "more than 64 KiB put at once, or something put after a reference");
	while (w->used > w->sent || w->ref_left) {
		struct iovec iov[2];
		int n = 0;
		if (w->used > w->sent)
			iov[n++] = (struct iovec) { w->queue + w->sent, w->used - w->sent };
		if (w->ref_left)
			iov[n++] = (struct iovec) { (void *)(uintptr_t)w->ref, sendable(w) };
		ssize_t sent = link_writev(w->link, iov, n, err);
		if (sent < 0)
			return (int)sent;
		taken(w, (size_t)sent);
	}
	return 0;
}

void writer_header(struct vfmig_writer *w, const char *machine)
{
	size_t length = strlen(machine);

	vfmig_put_be32(w, WIRE_MAGIC);
	vfmig_put_be32(w, WIRE_VERSION);
	vfmig_put_u8(w, WIRE_CONFIGURATION);
	vfmig_put_be32(w, (uint32_t)length);
	vfmig_put_bytes(w, machine, length);
}

void writer_command(struct vfmig_writer *w, uint16_t command, const void *payload, uint16_t length)
{
	vfmig_put_u8(w, WIRE_COMMAND);
	vfmig_put_be16(w, command);
	vfmig_put_be16(w, length);
	vfmig_put_bytes(w, payload, length);
}

void writer_section_begin(struct vfmig_writer *w, char kind, uint32_t section_id, const char *id,
			  uint32_t instance_id, uint32_t version_id)
{
	uint8_t type = kind == 'S' ? WIRE_SECTION_START :
		       kind == 'P' ? WIRE_SECTION_PART :
		       kind == 'E' ? WIRE_SECTION_END :
				     WIRE_SECTION_FULL;

	vfmig_put_u8(w, type);
	vfmig_put_be32(w, section_id);
	if (type != WIRE_SECTION_START && type != WIRE_SECTION_FULL)
		return;
	size_t length = strnlen(id, WIRE_ID_MAX);
	vfmig_put_u8(w, (uint8_t)length);
	vfmig_put_bytes(w, id, length);
	vfmig_put_be32(w, instance_id);
	vfmig_put_be32(w, version_id);
}

void writer_section_end(struct vfmig_writer *w, uint32_t section_id)
{
	vfmig_put_u8(w, WIRE_FOOTER);
	vfmig_put_be32(w, section_id);
}

/* Text, 32 digits and tail in one piece, which only needs one reference. */
static int seal(struct vfmig_writer *w, size_t text_length)
{
	char *whole = realloc(w->description, text_length + DIGEST_HEX + sizeof(DESCRIPTION_TAIL));
	if (!whole)
		return -ENOMEM;
	w->description = whole;
	count(w, whole, text_length);
	description_digest(w->digest, whole + text_length);
	strcpy(whole + text_length + DIGEST_HEX - 1, DESCRIPTION_TAIL);
	size_t length = text_length + strlen(whole + text_length);
	count(w, whole + text_length, length - text_length);
	w->ref = (const uint8_t *)whole;
	w->ref_left = w->ref_digested = length;
	return 0;
}

int writer_finish(struct vfmig_writer *w, const struct description *d, struct vfmig_error *err)
{
	if (w->description || w->ref_left)
		return error_set(err, -EINVAL, "the stream's end put twice, or after a reference");
	int rc = description_format(d, &w->description, err);
	if (rc < 0)
		return rc;
	size_t text_length = strlen(w->description);
	vfmig_put_u8(w, WIRE_EOF);
	vfmig_put_u8(w, WIRE_DESCRIPTION);
	vfmig_put_be32(w, (uint32_t)(text_length + DIGEST_HEX - 1 + strlen(DESCRIPTION_TAIL)));
	if (w->overflow)
		return error_set(err, -ENOBUFS, "no room for the stream's end");
	rc = seal(w, text_length);
	return rc < 0 ? error_errno(err, rc, "the stream's description") : 0;
}
