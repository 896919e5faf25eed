/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp.c: tcp:HOST:PORT, IPv6 in brackets. Saving connects, loading listens and takes one connection. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "link/schemes.h"
#include "link/socket.h"
#include "link/socket_link.h"

/* Splits "HOST:PORT" or "[HOST]:PORT" in place. */
static int split_address(char *text, char **ret_host, char **ret_port, struct vfmig_error *err)
{
	char *colon = strrchr(text, ':');
	bool bracketed = text[0] == '[';
	char *host_end = bracketed ? strchr(text, ']') : colon;
	if (!colon || !colon[1] || !host_end || (bracketed && host_end + 1 != colon))
		return error_set(err, -EINVAL, "expected HOST:PORT or [IPV6]:PORT");
	if (!bracketed && memchr(text, ':', (size_t)(colon - text)))
		return error_set(err, -EINVAL, "expected an IPv6 address in brackets: [IPV6]:PORT");
	*host_end = *colon = '\0';
	*ret_host = text + bracketed;
	*ret_port = colon + 1;
	return 0;
}

/* An empty host is every address (listening) or this machine (connecting). */
static int resolve(const char *rest, enum vfmig_direction direction, struct addrinfo **ret, struct vfmig_error *err)
{
	char *text = strdup(rest), *host = NULL, *port = NULL;
	if (!text)
		return error_errno(err, -ENOMEM, "address");
	int r = split_address(text, &host, &port, err);
	if (!r) {
		struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
		hints.ai_flags = direction == VFMIG_LOAD ? AI_PASSIVE : 0;
		int code = getaddrinfo(*host ? host : NULL, port, &hints, ret);
		if (code == EAI_SYSTEM)
			r = error_errno(err, -errno, "look up the address");
		else if (code)
			r = error_set(err, -EADDRNOTAVAIL, "look up the address: %s", gai_strerror(code));
	}
	free(text);
	return r;
}

static int tcp_connect(const struct addrinfo *list, uint32_t timeout_ms, struct vfmig_error *err)
{
	uint64_t deadline_ns = socket_deadline(timeout_ms ? timeout_ms : SOCKET_CONNECT_MS);
	for (;;) {
		bool may_come = false;
		int fd = -EADDRNOTAVAIL;
		for (const struct addrinfo *a = list; a; a = a->ai_next) {
			fd = socket_connect(a->ai_addr, a->ai_addrlen, deadline_ns);
			if (fd >= 0)
				return fd;
			may_come |= fd == -ECONNREFUSED;
		}
		if (!may_come || !socket_retry(deadline_ns))
			return error_errno(err, fd, "connect");
	}
}

static int tcp_listen(const struct addrinfo *list, uint32_t further, struct vfmig_error *err)
{
	int code = -EADDRNOTAVAIL;
	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		int on = 1;
		if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) &&
		    !bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, (int)(further + SOCKET_BACKLOG)))
			return fd;
		code = -errno;
		if (fd >= 0)
			close(fd);
	}
	return error_errno(err, code, "listen");
}

/* "tcp:HOST:PORT" of the listener: with port 0 the kernel has chosen one. */
static void name_listener(int fd, char *name, size_t size)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[NI_MAXHOST], port[NI_MAXSERV];
	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
	    getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	snprintf(name, size, strchr(host, ':') ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
}

static int tcp_accept(const struct addrinfo *list, const struct vfmig_link_options *opts, char *name, size_t size,
		      int *ret_listener, struct vfmig_error *err)
{
	int listener = tcp_listen(list, opts->further_connections, err);
	if (listener < 0)
		return listener;
	name_listener(listener, name, size);
	int fd = socket_accept(listener, name, opts, err);
	if (fd < 0)
		close(listener);
	else
		*ret_listener = listener;
	return fd;
}

int tcp_link_open(const char *rest, enum vfmig_direction direction,
		  const struct vfmig_link_options *opts, struct vfmig_link **ret, struct vfmig_error *err)
{
	struct addrinfo *list;
	char name[256] = "";
	int listener = -1;
	int r = resolve(rest, direction, &list, err);
	if (r < 0)
		return r;
	for (const struct addrinfo *a = list; a && !r; a = a->ai_next)
		r = socket_check_plain(a->ai_addr, opts, err);
	if (!r)
		r = direction == VFMIG_SAVE ? tcp_connect(list, opts->timeout_ms, err) :
					      tcp_accept(list, opts, name, sizeof(name), &listener, err);
	freeaddrinfo(list);
	return r < 0 ? r : socket_link_new(r, listener, NULL, name, direction, opts->timeout_ms, ret, err);
}
