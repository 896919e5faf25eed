/* SPDX-License-Identifier: BSD-3-Clause */
/* user_socket.h: whole messages on a vfio-user socket, with their fds and a deadline. */
#ifndef VFMIG_DEVICE_USER_SOCKET_H
#define VFMIG_DEVICE_USER_SOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "uapi/vfio_user.h"

#define USER_NO_DEADLINE UINT64_MAX /* a deadline is clock_now_ns's */
#define USER_IOV_MAX 32u

/* fds that came with a message. */
struct user_fds {
	int fd[VFIO_USER_MAX_FDS];
	size_t count;
};

void user_fds_close(struct user_fds *fds);
/* Gives fd[i] away: to be closed by the caller. */
int user_fds_take(struct user_fds *fds, size_t i);

/* Sends all of iov (at most USER_IOV_MAX; it is used up), fds (borrowed) with its first byte.
 * 0 or -errno: then what was sent is unknown. */
int user_socket_send(int fd, struct iovec *iov, size_t count, const int *fds, size_t num_fds, uint64_t deadline_ns);

/*
 * Fills buffer. fds are added to `fds` as far as it has room, else closed; with
 * NULL all are. 0; -ENODATA: the peer closed before the first byte;
 * -ECONNRESET: it closed later; -ETIMEDOUT; -ECANCELED: stop_fd (-1: none) became readable.
 */
int user_socket_recv(int fd, void *buffer, size_t length, struct user_fds *fds, int stop_fd, uint64_t deadline_ns);

/* Connects to the UNIX socket at path; sending on it takes at most timeout_ms as well. */
int user_socket_connect(const char *path, uint32_t timeout_ms, int *ret, struct vfmig_error *err);

/* Receives length bytes and throws them away. */
int user_socket_drain(int fd, uint64_t length, int stop_fd, uint64_t deadline_ns);

/*
 * Does the file behind fd, which may be a stranger's, have [offset, offset +
 * length)? Touching a mapping behind its end kills. Anything but a regular
 * file has no length to compare with. -EINVAL: no.
 */
int user_file_check(int fd, uint64_t offset, uint64_t length, struct vfmig_error *err);

#endif
