/* SPDX-License-Identifier: BSD-3-Clause */
/* fd.h: the part of a link that moves bytes through an fd; most links are this and little more. */
#ifndef VFMIG_LINK_FD_H
#define VFMIG_LINK_FD_H

#include "link/link.h"

struct fd_link {
	struct vfmig_link base;
	int fd;
	bool socket;
	/* Others share the open file description, so O_NONBLOCK is not ours to
	 * set: poll is asked before each small read and write. */
	bool shared;
};

/*
 * Fills f for fd (takes, also on failure): finds out what it is, checks that it
 * goes in this direction, makes it CLOEXEC and sees to it that it never blocks.
 * `own`: nobody else has this open file description.
 */
int fd_link_init(struct fd_link *f, int fd, bool own, enum vfmig_direction direction, const struct link_ops *ops,
		 struct vfmig_error *err);

ssize_t fd_link_writev(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err);
ssize_t fd_link_read(struct vfmig_link *l, void *buffer, size_t length, struct vfmig_error *err);
/* A file's bytes to its disk; nothing for what is no file. */
int fd_link_finish(struct vfmig_link *l, struct vfmig_error *err);
/* Closes the fd only: fd_link_init's counterpart. */
void fd_link_done(struct fd_link *f);

/* A whole link of fd (takes, also on failure) as link_from_fd, with `own` as above. */
int fd_link_new(int fd, bool own, const char *name, enum vfmig_direction direction, struct vfmig_link **ret,
		struct vfmig_error *err);

#endif
