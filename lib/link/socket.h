/* SPDX-License-Identifier: BSD-3-Clause */
/* socket.h: connecting and accepting within a time; the only part of a link that blocks. */
#ifndef VFMIG_LINK_SOCKET_H
#define VFMIG_LINK_SOCKET_H

#include <sys/socket.h>

#include "link/link.h"

#define SOCKET_CONNECT_MS 10000u
/* How many connections the kernel keeps until they are accepted: the expected one has to fit in beside strangers. */
#define SOCKET_BACKLOG 256u

uint64_t socket_deadline(uint32_t timeout_ms);
/* Waits a moment; false when the deadline has passed. */
bool socket_retry(uint64_t deadline_ns);

/* 0, -ETIMEDOUT, -errno. A signal does not end the wait. */
int socket_wait(int fd, short events, uint64_t deadline_ns);

/* fd or -errno; -ETIMEDOUT after the deadline. One attempt. */
int socket_connect(const struct sockaddr *address, socklen_t length, uint64_t deadline_ns);
/*
 * TCP only, nothing otherwise: small records are not held back; a peer whose machine or network
 * is gone, or that takes nothing, is lost after SOCKET_DEAD_S, so that a device is not stopped longer for it. -errno.
 */
#define SOCKET_DEAD_S 40
int socket_set_options(int fd);
/*
 * Says where it listens (opts->listening), then accepts one connection: in opts->timeout_ms, 0: for ever.
 * fd or -errno; -ETIMEDOUT.
 */
int socket_accept(int listener, const char *where, const struct vfmig_link_options *opts, struct vfmig_error *err);

/* Plain text over TCP stays on this machine, unless the options say TLS or that it may leave. -EPERM. */
int socket_check_plain(const struct sockaddr *address, const struct vfmig_link_options *opts, struct vfmig_error *err);
/* The same of a listening or connected socket, or what else fd may be. */
int socket_check_plain_fd(int fd, const struct vfmig_link_options *opts, struct vfmig_error *err);

#endif
