/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_link.h: a link into memory that gives and takes as little as a test wants. */
#ifndef TEST_MEMORY_LINK_H
#define TEST_MEMORY_LINK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "link/link.h"

struct memory_link {
	struct vfmig_link link; /* first */
	uint8_t *data;
	size_t length, capacity;
	size_t at;    /* of the next read */
	size_t chunk; /* most bytes a call moves; 0: any number */
	bool dry;     /* every other call finds nothing to do */
	bool was_dry;
};

static inline bool memory_is_dry(struct memory_link *m)
{
	m->was_dry = m->dry && !m->was_dry;
	return m->was_dry;
}

static inline size_t memory_limit(const struct memory_link *m, size_t n)
{
	return m->chunk && n > m->chunk ? m->chunk : n;
}

static inline void memory_append(struct memory_link *m, const void *data, size_t n)
{
	if (m->length + n > m->capacity) {
		m->capacity = (m->length + n) * 2;
		m->data = realloc(m->data, m->capacity);
		if (!m->data)
			abort();
	}
	if (n)
		memcpy(m->data + m->length, data, n);
	m->length += n;
}

static inline ssize_t memory_writev(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err)
{
	struct memory_link *m = (struct memory_link *)l;
	size_t room = m->chunk ? m->chunk : SIZE_MAX, done = 0;

	if (memory_is_dry(m))
		return error_set(err, -EAGAIN, "dry");
	for (int i = 0; i < count; i++) {
		size_t n = iov[i].iov_len < room - done ? iov[i].iov_len : room - done;
		memory_append(m, iov[i].iov_base, n);
		done += n;
	}
	return (ssize_t)done;
}

static inline ssize_t memory_read(struct vfmig_link *l, void *buffer, size_t length, struct vfmig_error *err)
{
	struct memory_link *m = (struct memory_link *)l;

	if (memory_is_dry(m))
		return error_set(err, -EAGAIN, "dry");
	size_t n = memory_limit(m, length < m->length - m->at ? length : m->length - m->at);
	if (n)
		memcpy(buffer, m->data + m->at, n);
	m->at += n;
	return (ssize_t)n;
}

static const struct link_ops memory_link_ops = { .kind = "memory", .writev = memory_writev, .read = memory_read };

static inline void memory_init(struct memory_link *m)
{
	*m = (struct memory_link) { .link = {
					.ops = &memory_link_ops, .name = "memory", .wait_fd = -1, .file_fd = -1 } };
}

/* To be read from its beginning, by a copy of its own. */
static inline void memory_init_from(struct memory_link *m, const void *data, size_t length)
{
	memory_init(m);
	if (length)
		memory_append(m, data, length);
}

/* The same as a regular file. */
static inline void memory_init_file(struct memory_link *m, const void *data, size_t length)
{
	memory_init(m);
	m->link.seekable = true;
	m->link.size = length;
	m->link.file_fd = memfd_create("stream", MFD_CLOEXEC);
	if (m->link.file_fd < 0 || write(m->link.file_fd, data, length) != (ssize_t)length)
		abort();
}

static inline void memory_clear(struct memory_link *m)
{
	if (m->link.file_fd >= 0)
		close(m->link.file_fd);
	free(m->data);
}

static inline uint8_t *memory_load_file(const char *path, size_t *ret_length)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = malloc(1u << 20);

	if (!f || !data)
		abort();
	*ret_length = fread(data, 1, 1u << 20, f);
	fclose(f);
	return data;
}

#endif
