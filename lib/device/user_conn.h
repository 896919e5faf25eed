/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * user_conn.h: one vfio-user connection: requests out, replies and the server's own requests in.
 *
 * A thread of the connection's owns the receiving side. It gives a reply to
 * whoever waits for it and serves the server's own requests at any time. The
 * first failure (a time-out, anything that is not the protocol, the server
 * leaving) ends the connection: every later call is -ENOTCONN and says that cause.
 *
 * With a twin socket the server's requests come there, and a second thread serves
 * them. It shares the connection's fate.
 */
#ifndef VFMIG_DEVICE_USER_CONN_H
#define VFMIG_DEVICE_USER_CONN_H

#include "base/error.h"
#include "device/user_socket.h"

struct user_conn;

/* One request and where its reply goes. */
struct user_request {
	uint16_t command;
	const void *body;
	size_t body_length;
	const void *data; /* goes behind the body */
	size_t data_length;
	const int *fds; /* borrowed */
	size_t num_fds;

	/* The reply's body: its first reply_max bytes go to reply, all others to
	 * reply_data. It has to have reply_min to reply_max + reply_data_length bytes.
	 * Neither may be memory that is sent: a reply can come before all is. */
	void *reply;
	size_t reply_min, reply_max;
	void *reply_data;
	size_t reply_data_length;
	size_t replied; /* out: its length */
	/* out: fds that came with it, at most max_fds; the rest is closed. */
	size_t max_fds;
	struct user_fds reply_fds;
};

/*
 * A request of the server's: its header was read and checked, `length` bytes
 * of body are still to be received, all of them. 0, or -errno: the connection is lost.
 */
typedef int user_serve_fn(void *opaque, struct user_conn *c, const struct vfio_user_header *h, size_t length,
			  uint64_t deadline_ns, struct vfmig_error *err);

/* Takes fd, also on failure. */
int user_conn_new(int fd, uint32_t timeout_ms, user_serve_fn *serve, void *opaque, struct user_conn **ret,
		  struct vfmig_error *err);
void user_conn_close(struct user_conn *c); /* NULL is fine */

/* Serves the server's requests that come from fd (takes it, also on failure). Once, from the thread that makes
 * requests. */
int user_conn_add_twin(struct user_conn *c, int fd, struct vfmig_error *err);

/*
 * Sends and waits for the reply. One request at a time. 0; -ETIMEDOUT,
 * -EPROTO, -ENOTCONN: the connection is lost; any other -errno is the server's
 * own answer. One of these three from a server is turned into -EIO.
 */
int user_conn_request(struct user_conn *c, struct user_request *request, struct vfmig_error *err);

/* For user_serve_fn: the socket to receive the body from, and the answer. iov[0]
 * is left for the header; error: a positive errno, or 0. */
int user_conn_fd(const struct user_conn *c);
int user_conn_answer(struct user_conn *c, const struct vfio_user_header *h, uint32_t error, struct iovec *iov,
		     size_t count, uint64_t deadline_ns);

/* "REGION_READ"; never NULL. */
const char *user_command_name(uint32_t command);

#endif
