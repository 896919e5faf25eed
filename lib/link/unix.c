/* SPDX-License-Identifier: BSD-3-Clause */
/* unix.c: unix:PATH. Saving connects, loading listens and takes one connection. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "link/schemes.h"
#include "link/socket.h"
#include "link/socket_link.h"

static int make_address(const char *path, struct sockaddr_un *ret, struct vfmig_error *err)
{
	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(ret->sun_path))
		return error_set(err, -ENAMETOOLONG, "the path has %zu bytes, a socket's has at most %zu", strlen(path),
				 sizeof(ret->sun_path) - 1);
	strcpy(ret->sun_path, path);
	return 0;
}

/* The loading side may not have come so far yet: no socket, or nobody behind it. */
static int unix_connect(const struct sockaddr_un *address, uint32_t timeout_ms, struct vfmig_error *err)
{
	uint64_t deadline_ns = socket_deadline(timeout_ms ? timeout_ms : SOCKET_CONNECT_MS);
	for (;;) {
		int fd = socket_connect((const struct sockaddr *)address, sizeof(*address), deadline_ns);
		if (fd >= 0)
			return fd;
		bool may_come = fd == -ENOENT || fd == -ECONNREFUSED || fd == -EAGAIN;
		if (!may_come || !socket_retry(deadline_ns))
			return error_errno(err, fd, "connect");
	}
}

/*
 * Is a process behind this socket? Asked with a socket of another type: one that lives answers EPROTOTYPE
 * and notices nothing, where a connection would be taken for the sender it waits for.
 */
static bool socket_is_stale(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool stale = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED;
	close(fd);
	return stale;
}

static int remove_stale(const struct sockaddr_un *address, struct vfmig_error *err)
{
	struct stat st;
	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : error_errno(err, -errno, "stat");
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, -EEXIST, "exists and is not a socket: it stays as it is");
	if (!socket_is_stale(address))
		return error_set(err, -EADDRINUSE, "another process listens there");
	return unlink(address->sun_path) < 0 ? error_errno(err, -errno, "remove the stale socket") : 0;
}

static int unix_accept(const struct sockaddr_un *address, const struct vfmig_link_options *opts,
		       int *ret_listener, struct vfmig_error *err)
{
	char where[sizeof(address->sun_path) + 8];
	int r = remove_stale(address, err);
	if (r < 0)
		return r;
	snprintf(where, sizeof(where), "unix:%s", address->sun_path);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0)
		return error_errno(err, -errno, "socket");
	if (bind(listener, (const struct sockaddr *)address, sizeof(*address)) < 0) {
		r = error_errno(err, -errno, "bind");
	} else {
		if (listen(listener, (int)(opts->further_connections + SOCKET_BACKLOG)) < 0)
			r = error_errno(err, -errno, "listen");
		else
			r = socket_accept(listener, where, opts, err);
		if (r < 0)
			unlink(address->sun_path);
	}
	if (r < 0)
		close(listener);
	else
		*ret_listener = listener;
	return r;
}

int unix_link_open(const char *rest, enum vfmig_direction direction,
		   const struct vfmig_link_options *opts, struct vfmig_link **ret, struct vfmig_error *err)
{
	struct sockaddr_un address;
	int r = make_address(rest, &address, err);
	if (r < 0)
		return r;
	int listener = -1;
	r = direction == VFMIG_SAVE ? unix_connect(&address, opts->timeout_ms, err) :
				      unix_accept(&address, opts, &listener, err);
	const char *path = listener < 0 ? NULL : address.sun_path;
	return r < 0 ? r : socket_link_new(r, listener, path, "", direction, opts->timeout_ms, ret, err);
}
