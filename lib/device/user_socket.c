/* SPDX-License-Identifier: BSD-3-Clause */
/* user_socket.c: whole messages on a vfio-user socket: short sends, short receives, fds, deadlines. */
#include "device/user_socket.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"

/* As large as a message's control data can get with the fds we take. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(VFIO_USER_MAX_FDS * sizeof(int))];
};

void user_fds_close(struct user_fds *fds)
{
	for (size_t i = 0; i < fds->count; i++)
		if (fds->fd[i] >= 0)
			close(fds->fd[i]);
	fds->count = 0;
}

int user_fds_take(struct user_fds *fds, size_t i)
{
	if (i >= fds->count)
		return -1;
	int fd = fds->fd[i];
	fds->fd[i] = -1;
	return fd;
}

static int wait_for(int fd, short events, int stop_fd, uint64_t deadline_ns)
{
	for (;;) {
		int timeout = -1;
		if (deadline_ns != USER_NO_DEADLINE) {
			uint64_t now = clock_now_ns();
			if (now >= deadline_ns)
				return -ETIMEDOUT;
			timeout = (int)min_u64((deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS, INT_MAX);
		}
		struct pollfd p[2] = { { .fd = fd, .events = events }, { .fd = stop_fd, .events = POLLIN } };
		int n = poll(p, 2, timeout);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && p[1].revents)
			return -ECANCELED;
		if (n > 0 && p[0].revents)
			return 0;
	}
}

static void attach_fds(struct msghdr *msg, union control *control, const int *fds, size_t num_fds)
{
	memset(control, 0, sizeof(*control));
	msg->msg_control = control->bytes;
	msg->msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
	memcpy(CMSG_DATA(c), fds, num_fds * sizeof(int));
}

/* Passes n sent bytes, and what is empty behind them. */
static void advance(struct msghdr *msg, size_t n)
{
	while (msg->msg_iovlen > 0 && n >= msg->msg_iov->iov_len) {
		n -= msg->msg_iov->iov_len;
		msg->msg_iov++;
		msg->msg_iovlen--;
	}
	if (msg->msg_iovlen > 0) {
		msg->msg_iov->iov_base = (char *)msg->msg_iov->iov_base + n;
		msg->msg_iov->iov_len -= n;
	}
}

int user_socket_send(int fd, struct iovec *iov, size_t count, const int *fds, size_t num_fds, uint64_t deadline_ns)
{
	union control control;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = count };

	if (num_fds > VFIO_USER_MAX_FDS)
		return -EINVAL;
	if (num_fds > 0)
		attach_fds(&msg, &control, fds, num_fds);
	advance(&msg, 0);
	while (msg.msg_iovlen > 0) {
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			advance(&msg, (size_t)n);
			msg.msg_control = NULL;
			msg.msg_controllen = 0;
		} else if (errno == EAGAIN) {
			int r = wait_for(fd, POLLOUT, -1, deadline_ns);
			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static void collect_fds(struct msghdr *msg, struct user_fds *fds)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (fds->count < VFIO_USER_MAX_FDS)
				fds->fd[fds->count++] = fd;
			else
				close(fd);
		}
	}
}

int user_socket_recv(int fd, void *buffer, size_t length, struct user_fds *fds, int stop_fd, uint64_t deadline_ns)
{
	size_t got = 0;

	while (got < length) {
		union control control;
		struct iovec iov = { (char *)buffer + got, length - got };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		if (fds) { /* without room for them the kernel closes fds itself */
			msg.msg_control = control.bytes;
			msg.msg_controllen = sizeof(control.bytes);
		}
		ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n > 0) {
			got += (size_t)n;
			if (fds)
				collect_fds(&msg, fds);
		} else if (n == 0) {
			return got ? -ECONNRESET : -ENODATA;
		} else if (errno == EAGAIN) {
			int r = wait_for(fd, POLLIN, stop_fd, deadline_ns);
			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

int user_socket_drain(int fd, uint64_t length, int stop_fd, uint64_t deadline_ns)
{
	char waste[4096];

	while (length > 0) {
		size_t n = (size_t)min_u64(length, sizeof(waste));
		int r = user_socket_recv(fd, waste, n, NULL, stop_fd, deadline_ns);
		if (r < 0)
			return r == -ENODATA ? -ECONNRESET : r;
		length -= n;
	}
	return 0;
}

int user_file_check(int fd, uint64_t offset, uint64_t length, struct vfmig_error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_errno(err, -errno, "fd %d", fd);
	if (!range_inside(offset, length, S_ISREG(st.st_mode) ? (uint64_t)st.st_size : INT64_MAX))
		return error_set(err, -EINVAL, "0x%llx bytes at 0x%llx of a file of 0x%llx bytes",
				 (unsigned long long)length, (unsigned long long)offset,
				 (unsigned long long)st.st_size);
	return 0;
}

int user_socket_connect(const char *path, uint32_t timeout_ms, int *ret, struct vfmig_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { timeout_ms / 1000, (suseconds_t)(timeout_ms % 1000) * 1000 };

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG, "the socket's path is longer than %zu bytes",
				 sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_errno(err, -errno, "socket");
	/* Also bounds connect, which waits while the server's queue is full. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int r = errno == EAGAIN ? -ETIMEDOUT : -errno;
		close(fd);
		return error_errno(err, r, "connecting to %s", path);
	}
	*ret = fd;
	return 0;
}
