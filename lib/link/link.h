/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link.h: where a stream goes to or comes from.
 *
 * Every implementation may assume: calls come from one thread at a time; a
 * link is only written (save) or only read (load), but for the return path of
 * a two-way link, which goes the other way on the same functions.
 * Every implementation must guarantee: after open nothing blocks; short reads
 * and writes are fine; -EAGAIN when nothing can be done now and then `wait_fd`
 * is what to poll for; err says what failed without the link's name (the
 * callers put it); SIGPIPE never comes.
 */
#ifndef VFMIG_LINK_LINK_H
#define VFMIG_LINK_LINK_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/error.h"

struct vfmig_link;

struct link_ops {
	const char *kind; /* "file", "unix", ... */
	/* Bytes taken (> 0), -EAGAIN, or -errno (-EPIPE: the reader is gone). */
	ssize_t (*writev)(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err);
	/* Bytes (> 0), 0 at the end, -EAGAIN, or -errno. */
	ssize_t (*read)(struct vfmig_link *l, void *buffer, size_t length, struct vfmig_error *err);
	/* Saving only: everything has been written and is right. Makes it last:
	 * flush, fsync, rename into place, wait for the command. May block, or say -EAGAIN as writev does. */
	int (*finish)(struct vfmig_link *l, struct vfmig_error *err);
	/*
	 * May be NULL: a lost connection cannot be made again. Lets go of it and
	 * makes (saving) or accepts (loading) another: 0; -EAGAIN: call again once
	 * wait_fd is ready for POLLIN or POLLOUT; -errno: it never will. Who is at
	 * its other end has to be asked.
	 */
	int (*reconnect)(struct vfmig_link *l, struct vfmig_error *err);
	/* Optional, one more connection of the same kind. Saving: connects, which may block as opening does. Loading:
	 * takes the next one that has come; -EAGAIN: there is none, and `listen_fd` is what to poll for. */
	int (*another)(struct vfmig_link *l, struct vfmig_link **ret, struct vfmig_error *err);
	/* Only of a file that is not seekable, as it has to be read in order: from its beginning once more. */
	int (*rewind)(struct vfmig_link *l, struct vfmig_error *err);
	/* Without finish before it, a save leaves nothing behind. */
	void (*close)(struct vfmig_link *l);
};

struct vfmig_link {
	const struct link_ops *ops;
	char name[256]; /* for messages: the URI */
	int wait_fd;	/* to poll; -1: never has to be waited for (a file) */
	/* What to poll wait_fd for after -EAGAIN, whatever was tried; 0: POLLIN to read, POLLOUT to write. */
	short only_events;
	bool buffered;	/* the last read left something that poll does not know of: read on before waiting */
	int listen_fd;	/* loading, with ops->another: to poll for further connections; -1: none come */
	bool two_way;	/* has a return path */
	/* When the save has failed: certainly nobody has taken the stream and runs by it. */
	bool taken_by_nobody;
	/* The save has failed, but the other end may have all of the stream: a command that works on it may finish. */
	bool left_alone;
	/* A regular file being loaded: */
	bool seekable;
	uint64_t size;
	int file_fd; /* for pread while seekable; else -1 */
	char *tls_creds, *tls_hostname; /* what it was opened with, the folder from the root on; NULL: without */
	struct vfmig_link *under; /* what one with compression is around; else NULL */
	/* With compression: what has become of the state's bytes, or what they came as; 0: there is none. */
	uint64_t packed_bytes;
};

ssize_t link_writev(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err);
ssize_t link_read(struct vfmig_link *l, void *buffer, size_t length, struct vfmig_error *err);
int link_finish(struct vfmig_link *l, struct vfmig_error *err);
int link_reconnect(struct vfmig_link *l, struct vfmig_error *err);
/* Sets left_alone, of what is under it, too. */
void link_leave_alone(struct vfmig_link *l);
/* Nothing where a reader goes by pread. */
int link_rewind(struct vfmig_link *l, struct vfmig_error *err);
/* Can it be read twice? Then its end is the stream's, too. */
static inline bool link_is_file(const struct vfmig_link *l)
{
	return l->seekable || l->ops->rewind;
}

/* What to poll wait_fd for, having wanted these of POLLIN and POLLOUT. */
static inline short link_events(const struct vfmig_link *l, short wanted)
{
	return l->only_events ? l->only_events : wanted;
}

/*
 * Has the link watched by an epoll for link_events of these; 0: not watched.
 * *watched: for what it is now, at first 0.
 */
void link_watch(const struct vfmig_link *l, int epoll_fd, short events, uint32_t *watched);

/* The new one has to be closed before l. -EOPNOTSUPP: a link of this kind has one connection. */
int link_another(struct vfmig_link *l, struct vfmig_link **ret, struct vfmig_error *err);

/* "file:PATH" and so on: how the kinds of link are written. NULL: there are no more. Not owned. */
const char *link_usage(size_t index);

/* Takes fd, which any kind of file may be; for tests and handed-over sockets. */
int link_from_fd(int fd, const char *name, enum vfmig_direction direction, struct vfmig_link **ret,
		 struct vfmig_error *err);

#endif
