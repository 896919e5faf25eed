/* SPDX-License-Identifier: BSD-3-Clause */
/* socket.c: connecting and accepting within a time. */
#include "link/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"

#define RETRY_NS (20 * NS_PER_MS)
#define SOCKET_NEVER UINT64_MAX

/* Of SOCKET_DEAD_S. */
#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES ((SOCKET_DEAD_S - KEEPALIVE_IDLE_S) / KEEPALIVE_INTERVAL_S)

uint64_t socket_deadline(uint32_t timeout_ms)
{
	return clock_now_ns() + timeout_ms * NS_PER_MS;
}

bool socket_retry(uint64_t deadline_ns)
{
	uint64_t now = clock_now_ns();
	if (now >= deadline_ns)
		return false;
	struct timespec pause = { .tv_nsec = (long)min_u64(RETRY_NS, deadline_ns - now) };
	nanosleep(&pause, NULL);
	return true;
}

int socket_wait(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		struct timespec left, *timeout = NULL;
		if (deadline_ns != SOCKET_NEVER) {
			uint64_t now = clock_now_ns();
			uint64_t ns = now < deadline_ns ? deadline_ns - now : 0;
			left.tv_sec = (time_t)(ns / NS_PER_S);
			left.tv_nsec = (long)(ns % NS_PER_S);
			timeout = &left;
		}
		int n = ppoll(&p, 1, timeout, NULL);
		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int connected(int fd, uint64_t deadline_ns)
{
	int r = socket_wait(fd, POLLOUT, deadline_ns);
	if (r < 0)
		return r;
	int code;
	socklen_t length = sizeof(code);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) < 0)
		return -errno;
	return -code;
}

int socket_connect(const struct sockaddr *address, socklen_t length, uint64_t deadline_ns)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int r = connect(fd, address, length) < 0 ? -errno : 0;
	if (r == -EINPROGRESS || r == -EINTR)
		r = connected(fd, deadline_ns);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

int socket_set_options(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, SOCKET_DEAD_S * 1000 },
	};
	int protocol;
	socklen_t length = sizeof(protocol);
	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) < 0)
		return -errno;
	for (size_t i = 0; protocol == IPPROTO_TCP && i < sizeof(options) / sizeof(options[0]); i++)
		if (setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) < 0)
			return -errno;
	return 0;
}

int socket_accept(int listener, const char *where, const struct vfmig_link_options *opts, struct vfmig_error *err)
{
	uint64_t deadline_ns = opts->timeout_ms ? socket_deadline(opts->timeout_ms) : SOCKET_NEVER;
	if (opts->listening)
		opts->listening(opts->listening_opaque, where);
	for (;;) {
		int r = socket_wait(listener, POLLIN, deadline_ns);
		if (r == -ETIMEDOUT)
			return error_set(err, r, "nobody connected in time");
		if (r < 0)
			return error_errno(err, r, "poll");
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			return fd;
		/* The peer that was there has gone again: wait for the next. */
		if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED)
			return error_errno(err, -errno, "accept");
	}
}
