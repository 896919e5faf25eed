/* SPDX-License-Identifier: BSD-3-Clause */
/* socket_link.h: a link over a connection that can be made again. */
#ifndef VFMIG_LINK_SOCKET_LINK_H
#define VFMIG_LINK_SOCKET_LINK_H

#include "link/fd.h"

/*
 * A link of the connected socket fd. listener: the socket that it was accepted
 * from, which takes the next connection too; -1: it was made by connecting, and
 * is made again to the same address. path: removed when the link is closed; may
 * be NULL. timeout_ms: 0: SOCKET_CONNECT_MS; for one more connection. Takes both
 * fds, also on failure.
 */
int socket_link_new(int fd, int listener, const char *path, const char *name, enum vfmig_direction direction,
		    uint32_t timeout_ms, struct vfmig_link **ret, struct vfmig_error *err);

#endif
