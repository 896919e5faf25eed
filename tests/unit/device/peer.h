/* SPDX-License-Identifier: BSD-3-Clause */
/* peer.h: the other end of a vfio-user socket, as a test wants it: each message by hand. */
#ifndef VFMIG_TESTS_PEER_H
#define VFMIG_TESTS_PEER_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "uapi/vfio_user.h"

struct peer_message {
	struct vfio_user_header header;
	uint8_t body[256 << 10];
	size_t length; /* of body */
	int fds[16];
	size_t num_fds;
};

/* Open fds of this process: the same number before and after is no leak. */
size_t count_fds(void);

/* A listening socket at a path of its own. */
struct peer_socket {
	char directory[64], path[96];
	int fd;
};
void peer_socket_open(struct peer_socket *s);
void peer_socket_close(struct peer_socket *s);
int peer_connect(const struct peer_socket *s);

/* Both end the program when the other side is gone unexpectedly. */
void peer_send(int fd, const struct vfio_user_header *h, const void *body, size_t length, const int *fds,
	       size_t num_fds);
void peer_receive(int fd, struct peer_message *m);
/* A message that may not come: 0, or -1 at the end of the connection. */
int peer_try_receive(int fd, struct peer_message *m);
void peer_close_fds(struct peer_message *m);

/* A reply to m, and an error reply. */
void peer_reply(int fd, const struct peer_message *m, const void *body, size_t length);
void peer_refuse(int fd, const struct peer_message *m, uint32_t error);
/* A command with a body; its size may be a lie. */
void peer_command(int fd, uint16_t id, uint16_t command, const void *body, size_t length);

struct peer;
/* Takes VERSION and answers it with this JSON and fds. */
void peer_answer_version(struct peer *p, const char *json, const int *fds, size_t num_fds);

/* A server in a thread: accepts one client and runs script on it. */
typedef void peer_script_fn(struct peer *p);
struct peer {
	struct peer_socket socket;
	int fd;                /* the client's */
	peer_script_fn *script;
	const char *version;   /* VERSION is answered with this JSON before script; NULL: script does it */
	struct peer_message m; /* for script */
	pthread_t thread;
};
#define PEER_VERSION "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}"
void peer_start(struct peer *p, peer_script_fn *script, const char *version);
/* When the client has closed its end. */
void peer_join(struct peer *p);

#endif
