/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sink.c: a bounded buffer before each place that is printed to.
 *
 * Theory of operation. A reader that does not read must not hold up a save
 * whose device is stopped, so nothing here ever waits. A pipe's or terminal's
 * open file is shared with other processes, and so is its O_NONBLOCK; it is
 * opened once more instead, by /proc, for a file description of our own. A
 * socket knows a flag for each call. Where neither is possible, a poll before a
 * small write has to do.
 */
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define SINKS_MAX 4
#define ROOM 65536u	      /* for lines */
#define PROGRESS_ROOM 8192u  /* for progress, so that lines fit behind it */
#define TERMINAL_PIECE 128u   /* a terminal that polls as writable has room for that */

struct sink {
	pthread_mutex_t lock;
	int fd;
	enum { OWN, SOCKET, FILE_ON_DISK, SHARED } kind;
	size_t piece; /* the most to write at once */
	dev_t device;
	ino_t inode;
	char *buffer;
	size_t used, size;
	uint64_t dropped;
	bool given_up; /* a drain has timed out, or the reader is gone */
};

/* Lines of two sinks on the same pipe would mix when the reader is slow. */
static struct sink *sinks[SINKS_MAX];
static size_t num_sinks;

static void prepare(struct sink *s, int fd, const struct stat *st)
{
	char path[64];
	bool terminal = isatty(fd);
	s->fd = fd;
	s->piece = S_ISFIFO(st->st_mode) ? PIPE_BUF : TERMINAL_PIECE;
	s->kind = S_ISSOCK(st->st_mode) ? SOCKET : S_ISREG(st->st_mode) ? FILE_ON_DISK : SHARED;
	if (!S_ISFIFO(st->st_mode) && !terminal)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (own < 0)
		return;
	s->fd = own;
	s->kind = OWN;
}

struct sink *sink_open(int fd)
{
	struct stat st = { 0 };
	bool known = fstat(fd, &st) == 0;
	for (size_t i = 0; i < num_sinks && known; i++)
		if (sinks[i]->device == st.st_dev && sinks[i]->inode == st.st_ino)
			return sinks[i];
	struct sink *s = num_sinks < SINKS_MAX ? calloc(1, sizeof(*s)) : NULL;
	char *buffer = s ? malloc(ROOM) : NULL;
	if (!buffer) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->buffer = buffer;
	s->size = ROOM;
	s->device = st.st_dev;
	s->inode = st.st_ino;
	prepare(s, fd, &st);
	sinks[num_sinks++] = s;
	return s;
}

static ssize_t write_some(const struct sink *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLOUT };
	switch (s->kind) {
	case SOCKET:
		return send(s->fd, s->buffer, s->used, MSG_DONTWAIT | MSG_NOSIGNAL);
	case OWN:
	case FILE_ON_DISK:
		return write(s->fd, s->buffer, s->used);
	case SHARED:
		break;
	}
	if (poll(&p, 1, 0) <= 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(s->fd, s->buffer, s->used < s->piece ? s->used : s->piece);
}

/* What cannot be written at all is gone: a full disk, or nobody at the pipe's other end. */
static void flush(struct sink *s)
{
	while (s->used) {
		ssize_t n = write_some(s);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			s->dropped++;
			s->used = 0;
			return;
		}
		memmove(s->buffer, s->buffer + n, s->used - (size_t)n);
		s->used -= (size_t)n;
	}
}

static bool make_room(struct sink *s, enum sink_weight weight, size_t length)
{
	size_t needed = s->used + length;
	if (needed <= (weight == SINK_PROGRESS ? PROGRESS_ROOM : ROOM))
		return true;
	if (weight != SINK_RESULT)
		return false;
	char *grown = needed > s->size ? realloc(s->buffer, needed) : s->buffer;
	if (!grown)
		return false;
	s->buffer = grown;
	s->size = needed > s->size ? needed : s->size;
	return true;
}

void sink_put(struct sink *s, enum sink_weight weight, const char *text, size_t length)
{
	pthread_mutex_lock(&s->lock);
	if (make_room(s, weight, length)) {
		memcpy(s->buffer + s->used, text, length);
		s->used += length;
	} else {
		s->dropped++;
	}
	flush(s);
	pthread_mutex_unlock(&s->lock);
}

bool sink_flush(struct sink *s)
{
	pthread_mutex_lock(&s->lock);
	flush(s);
	bool all = !s->used;
	pthread_mutex_unlock(&s->lock);
	return all;
}

void sink_drain(struct sink *s)
{
	uint64_t deadline_ns = clock_now_ns() + SINK_DRAIN_MS * NS_PER_MS;
	while (!sink_flush(s) && !s->given_up) {
		struct pollfd p = { .fd = s->fd, .events = POLLOUT };
		uint64_t now = clock_now_ns();
		s->given_up = now >= deadline_ns;
		if (!s->given_up)
			poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1);
	}
}

uint64_t sink_dropped(struct sink *s)
{
	pthread_mutex_lock(&s->lock);
	uint64_t dropped = s->dropped;
	pthread_mutex_unlock(&s->lock);
	return dropped;
}
