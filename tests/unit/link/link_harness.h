/* SPDX-License-Identifier: BSD-3-Clause */
/* link_harness.h: a scratch directory, and whole messages through a link. */
#ifndef VFMIG_TESTS_LINK_HARNESS_H
#define VFMIG_TESTS_LINK_HARNESS_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "link/link.h"

#define MESSAGE "what goes in comes out"
#define assert_error(err, part) assert_non_null(strstr((err).message, part))

struct scratch {
	char dir[64];
	char path[128];
};

static inline int scratch_setup(void **state)
{
	struct scratch *s = calloc(1, sizeof(*s));
	strcpy(s->dir, "/tmp/vfmig-link-XXXXXX");
	*state = s;
	return mkdtemp(s->dir) ? 0 : -1;
}

/* Removes the directory, which the test must have left empty but for what `path` names. */
static inline int scratch_teardown(void **state)
{
	struct scratch *s = *state;
	unlink(s->path);
	int r = rmdir(s->dir);
	free(s);
	return r;
}

static inline const char *scratch_path(struct scratch *s, const char *name)
{
	snprintf(s->path, sizeof(s->path), "%s/%s", s->dir, name);
	return s->path;
}

static inline int scratch_count(const struct scratch *s)
{
	DIR *d = opendir(s->dir);
	int count = -2; /* . and .. */
	while (readdir(d))
		count++;
	closedir(d);
	return count;
}

static inline int open_link(const char *scheme, const char *rest, enum vfmig_direction direction, uint32_t timeout_ms,
			    struct vfmig_link **ret, struct vfmig_error *err)
{
	struct vfmig_link_options opts = { .size = sizeof(opts), .timeout_ms = timeout_ms };
	char uri[512];
	snprintf(uri, sizeof(uri), "%s%s", scheme, rest);
	return vfmig_link_open(uri, direction, &opts, ret, err);
}

static inline void wait_link(const struct vfmig_link *l, short events)
{
	struct pollfd p = { .fd = l->wait_fd, .events = events };
	assert_true(l->wait_fd >= 0);
	assert_int_equal(poll(&p, 1, 20000), 1);
}

/* Calls reconnect until it has succeeded, waiting as its header says. */
static inline void connect_again(struct vfmig_link *l)
{
	struct vfmig_error err;
	int r;
	while ((r = link_reconnect(l, &err)) == -EAGAIN)
		wait_link(l, POLLIN | POLLOUT);
	if (r < 0)
		fail_msg("%s", err.message);
}

/* Writes all of it, in two pieces a call, waiting as the link says. */
static inline void write_all(struct vfmig_link *l, const void *data, size_t length)
{
	const char *p = data;
	struct vfmig_error err;
	while (length) {
		size_t first = length > 3 ? 3 : length;
		struct iovec iov[2] = { { (void *)p, first }, { (void *)(p + first), length - first } };
		ssize_t n = link_writev(l, iov, 2, &err);
		if (n == -EAGAIN) {
			wait_link(l, POLLOUT);
			continue;
		}
		if (n <= 0)
			fail_msg("%s", err.message);
		p += n;
		length -= (size_t)n;
	}
}

/* Reads to the end; the number of bytes, or -errno. */
static inline ssize_t read_all(struct vfmig_link *l, void *buffer, size_t size, struct vfmig_error *err)
{
	size_t have = 0;
	for (;;) {
		ssize_t n = link_read(l, (char *)buffer + have, size - have, err);
		if (n == -EAGAIN) {
			wait_link(l, POLLIN);
			continue;
		}
		if (n <= 0)
			return n < 0 ? n : (ssize_t)have;
		have += (size_t)n;
	}
}

static inline void expect_message(struct vfmig_link *l)
{
	char buffer[256];
	struct vfmig_error err;
	assert_int_equal(read_all(l, buffer, sizeof(buffer), &err), strlen(MESSAGE));
	assert_memory_equal(buffer, MESSAGE, strlen(MESSAGE));
}

#endif
