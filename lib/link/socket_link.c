/* SPDX-License-Identifier: BSD-3-Clause */
/* socket_link.c: a link over a connection that can be made again when it is lost, without ever blocking. */
#include "link/socket_link.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "link/socket.h"

#define PAUSE_NS (100 * NS_PER_MS) /* between two attempts to connect */
#define SYN_RETRIES 2		   /* in one attempt: the kernel gives up after 7 s, and its pauses stay short */

struct socket_link {
	struct fd_link fd;
	enum vfmig_direction direction;
	int listener;	/* -1: this side connects */
	char *path;	/* the listener's, to be removed; or NULL */
	int connecting; /* under way; -1: none */
	int timer;	/* the pause; -1: never needed yet */
	struct sockaddr_storage peer;
	socklen_t peer_length;
	uint32_t timeout_ms; /* to connect once more, beside the first */
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void socket_link_close(struct vfmig_link *l)
{
	struct socket_link *s = (struct socket_link *)l;
	if (s->path)
		unlink(s->path);
	close_fd(&s->listener);
	close_fd(&s->connecting);
	close_fd(&s->timer);
	fd_link_done(&s->fd);
	free(s->path);
	free(s);
}

/* The next connection, -EAGAIN, -errno. Whether a listener that was handed over blocks is not for this side to say. */
static int accept_next(const struct socket_link *s)
{
	struct pollfd p = { .fd = s->listener, .events = POLLIN };
	if (poll(&p, 1, 0) <= 0)
		return -EAGAIN;
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		return fd;
	return errno == EINTR || errno == ECONNABORTED || errno == EAGAIN ? -EAGAIN : -errno;
}

static int pause_connecting(struct socket_link *s)
{
	const struct itimerspec pause = { .it_value = { 0, (long)PAUSE_NS } };
	if (s->timer < 0)
		s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->timer < 0 || timerfd_settime(s->timer, 0, &pause, NULL) < 0)
		return -errno;
	s->fd.base.wait_fd = s->timer;
	return -EAGAIN;
}

/* Is the pause over? It is what is waited for as long as nothing is connecting. */
static bool pausing(const struct socket_link *s)
{
	struct itimerspec left;
	return s->timer >= 0 && timerfd_gettime(s->timer, &left) == 0 &&
	       (left.it_value.tv_sec > 0 || left.it_value.tv_nsec > 0);
}

/* 0: connected; -EAGAIN: not yet; else what it failed with. */
static int connecting_ended(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int code = 0;
	socklen_t length = sizeof(code);
	if (poll(&p, 1, 0) == 0)
		return -EAGAIN;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) < 0 ? -errno : -code;
}

/* Connects without waiting: the socket, or -errno. */
static int begin_connecting(const struct socket_link *s, int *ret_result)
{
	static const int retries = SYN_RETRIES;
	int fd = socket(s->peer.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (s->peer.ss_family != AF_UNIX) /* without it, it only takes longer */
		(void)setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &retries, sizeof(retries));
	*ret_result = connect(fd, (const struct sockaddr *)&s->peer, s->peer_length) < 0 ? -errno : 0;
	return fd;
}

/* Whatever an attempt fails with, the next one may succeed: a host that boots refuses, is unreachable, ... */
static int connect_again(struct socket_link *s)
{
	int r = 0;
	if (s->connecting < 0) {
		if (pausing(s))
			return -EAGAIN;
		int fd = begin_connecting(s, &r);
		if (fd < 0)
			return fd;
		s->connecting = fd;
		if (r == -EINPROGRESS || r == -EINTR)
			r = -EAGAIN;
		else if (r == -EAGAIN) /* unix: the other side's queue is full */
			r = -ECONNREFUSED;
	} else {
		r = connecting_ended(s->connecting);
	}
	s->fd.base.wait_fd = s->connecting;
	if (r == -EAGAIN)
		return r;
	int fd = s->connecting;
	s->connecting = -1;
	if (r == 0)
		return fd;
	close(fd);
	return pause_connecting(s);
}

static int socket_link_reconnect(struct vfmig_link *l, struct vfmig_error *err)
{
	struct socket_link *s = (struct socket_link *)l;
	fd_link_done(&s->fd);
	if (s->listener >= 0)
		l->wait_fd = s->listener;
	int fd = s->listener >= 0 ? accept_next(s) : connect_again(s);
	if (fd == -EAGAIN)
		return fd;
	if (fd < 0)
		return error_errno(err, fd, s->listener >= 0 ? "accept" : "connect");
	return fd_link_init(&s->fd, fd, true, s->direction, l->ops, err);
}

/* A queue that is full for a moment is waited for. fd or -errno. */
static int connect_more(const struct socket_link *s)
{
	uint64_t deadline_ns = socket_deadline(s->timeout_ms ? s->timeout_ms : SOCKET_CONNECT_MS);
	int fd;
	do {
		fd = socket_connect((const struct sockaddr *)&s->peer, s->peer_length, deadline_ns);
	} while (fd == -EAGAIN && socket_retry(deadline_ns));
	return fd;
}

static int socket_link_another(struct vfmig_link *l, struct vfmig_link **ret, struct vfmig_error *err)
{
	struct socket_link *s = (struct socket_link *)l;
	bool accepts = s->listener >= 0;
	int fd = accepts ? accept_next(s) : connect_more(s);
	if (accepts && fd == -EAGAIN)
		return fd;
	if (fd < 0)
		return error_errno(err, error_not_again(fd), accepts ? "accept" : "connect");
	return fd_link_new(fd, true, l->name, s->direction, ret, err);
}

static const struct link_ops socket_ops = {
	.kind = "socket",
	.writev = fd_link_writev,
	.read = fd_link_read,
	.finish = fd_link_finish,
	.another = socket_link_another,
	.reconnect = socket_link_reconnect,
	.close = socket_link_close,
};

int socket_link_new(int fd, int listener, const char *path, const char *name, enum vfmig_direction direction,
		    uint32_t timeout_ms, struct vfmig_link **ret, struct vfmig_error *err)
{
	struct socket_link *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;
	if (s) {
		s->direction = direction;
		s->listener = listener;
		s->connecting = s->timer = -1;
		s->timeout_ms = timeout_ms;
		s->fd.fd = fd;
		s->peer_length = sizeof(s->peer);
	}
	if (s && path && !(s->path = strdup(path)))
		r = -ENOMEM;
	if (r == 0 && listener < 0 && getpeername(fd, (struct sockaddr *)&s->peer, &s->peer_length) < 0)
		r = -errno;
	if (r < 0)
		error_errno(err, r, "link");
	if (r == 0)
		r = fd_link_init(&s->fd, fd, true, direction, &socket_ops, err);
	if (r < 0 && s) {
		socket_link_close(&s->fd.base);
	} else if (r < 0) {
		close(fd);
		close_fd(&listener);
	}
	if (r < 0)
		return r;
	s->fd.base.listen_fd = listener;
	snprintf(s->fd.base.name, sizeof(s->fd.base.name), "%s", name);
	*ret = &s->fd.base;
	return 0;
}
