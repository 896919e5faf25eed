/* SPDX-License-Identifier: BSD-3-Clause */
/* reader_input.c: the reader's bytes, from the link into one linear buffer and out of it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stream/reader_impl.h"

int reader_broken(struct reader *r, enum stream_fault fault, size_t ahead, struct vfmig_error *err, const char *format,
		  ...)
{
	char message[400];
	va_list ap;

	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	r->fault = fault;
	return error_set(err, -EBADMSG, "offset 0x%" PRIx64 ": %s", r->offset + ahead, message);
}

int reader_truncated(struct reader *r, uint64_t missing, const char *what, struct vfmig_error *err)
{
	return reader_broken(r, FAULT_TRUNCATED, reader_have(r), err,
			     "the stream ends in the middle of %s, %" PRIu64 " more byte%s expected", what, missing,
			     missing == 1 ? "" : "s");
}

void reader_take(struct reader *r, size_t n)
{
	if (r->digest)
		XXH3_128bits_update(r->digest, reader_bytes(r), n);
	if (r->watch && r->state == IN_BODY)
		r->watch(r->watch_opaque, r->offset, reader_bytes(r), n);
	r->start += n;
	r->offset += n;
	r->refused = 0;
}

/* It is page aligned no longer: only what is held until the description comes needs so much. */
static int grow(struct reader *r, size_t most)
{
	size_t capacity = r->capacity * 2 < most ? r->capacity * 2 : most;
	uint8_t *larger = realloc(r->buffer, capacity);

	if (!larger)
		return -ENOMEM;
	r->buffer = larger;
	r->capacity = capacity;
	return 0;
}

/* Room behind `end`: by moving what is left to the front, then by growing, as bytes have arrived to fill it. */
static int make_room(struct reader *r, size_t most)
{
	if (r->start && (r->start == r->end || r->capacity - r->end < r->capacity / 2)) {
		memmove(r->buffer, reader_bytes(r), reader_have(r));
		r->end -= r->start;
		r->start = 0;
	}
	if (r->end < r->capacity)
		return 0;
	return r->capacity < most ? grow(r, most) : -ENOBUFS;
}

static ssize_t read_file(struct reader *r, void *into, size_t length, struct vfmig_error *err)
{
	uint64_t at = r->offset + reader_have(r);
	ssize_t n;

	do {
		n = pread(r->link->file_fd, into, length, (off_t)at);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? error_errno(err, -errno, "read") : n;
}

ssize_t reader_read(struct reader *r, void *into, size_t length, struct vfmig_error *err)
{
	if (r->link_ended)
		return 0;
	ssize_t n = r->link->seekable ? read_file(r, into, length, err) : link_read(r->link, into, length, err);
	if (n == 0)
		r->link_ended = true;
	if (n < 0 && n != -EAGAIN)
		error_prefix(err, (int)n, "offset 0x%" PRIx64, r->offset + reader_have(r));
	return n;
}

ssize_t reader_fill(struct reader *r, size_t most, struct vfmig_error *err)
{
	if (r->link_ended)
		return 0;
	int rc = make_room(r, most);
	if (rc < 0)
		return error_errno(err, rc, "offset 0x%" PRIx64 ": stream buffer", r->offset);
	size_t room = r->capacity - r->end;
	if (r->read_max && r->read_max < room)
		room = r->read_max;
	ssize_t n = reader_read(r, r->buffer + r->end, room, err);
	if (n > 0)
		r->end += (size_t)n;
	return n;
}

int reader_need(struct reader *r, size_t n, const char *what, struct vfmig_error *err)
{
	while (reader_have(r) < n) {
		ssize_t got = reader_fill(r, n > READER_BUFFER ? n : READER_BUFFER, err);
		if (got < 0)
			return (int)got;
		if (got == 0)
			return reader_truncated(r, n - reader_have(r), what, err);
	}
	return 0;
}
