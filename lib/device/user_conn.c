/* SPDX-License-Identifier: BSD-3-Clause */
/* user_conn.c: the demultiplexer of a vfio-user connection. */
#include "device/user_conn.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"

struct user_conn {
	int fd;
	uint32_t timeout_ms;
	user_serve_fn *serve;
	void *opaque;
	pthread_t thread;
	pthread_mutex_t request_lock; /* one request is under way, whoever makes it */
	pthread_mutex_t send_lock;    /* a message goes out whole */

	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed;
	struct user_request *waiting; /* its reply is still to come; NULL: nobody waits */
	uint16_t waiting_id;
	uint16_t next_id;
	int result;             /* of the request that waited last, from the server's reply */
	bool filling;           /* the thread is writing into the waiting request */
	struct vfmig_error end; /* why the connection ended; code 0: it lives */

	struct user_conn *twin;      /* its fd, thread and send_lock only */
	struct user_conn *twin_of;   /* set once */
	struct vfmig_error twin_end; /* why the twin ended: so will the connection, once all that had come was read */
	bool twin_left;              /* between two messages */
};

static const char *const command_names[] = {
	[VFIO_USER_VERSION] = "VERSION",
	[VFIO_USER_DMA_MAP] = "DMA_MAP",
	[VFIO_USER_DMA_UNMAP] = "DMA_UNMAP",
	[VFIO_USER_DEVICE_GET_INFO] = "DEVICE_GET_INFO",
	[VFIO_USER_DEVICE_GET_REGION_INFO] = "DEVICE_GET_REGION_INFO",
	[VFIO_USER_DEVICE_GET_REGION_IO_FDS] = "DEVICE_GET_REGION_IO_FDS",
	[VFIO_USER_DEVICE_GET_IRQ_INFO] = "DEVICE_GET_IRQ_INFO",
	[VFIO_USER_DEVICE_SET_IRQS] = "DEVICE_SET_IRQS",
	[VFIO_USER_REGION_READ] = "REGION_READ",
	[VFIO_USER_REGION_WRITE] = "REGION_WRITE",
	[VFIO_USER_DMA_READ] = "DMA_READ",
	[VFIO_USER_DMA_WRITE] = "DMA_WRITE",
	[VFIO_USER_DEVICE_RESET] = "DEVICE_RESET",
	[VFIO_USER_DIRTY_PAGES] = "DIRTY_PAGES",
	[VFIO_USER_REGION_WRITE_MULTI] = "REGION_WRITE_MULTI",
	[VFIO_USER_DEVICE_FEATURE] = "DEVICE_FEATURE",
	[VFIO_USER_MIG_DATA_READ] = "MIG_DATA_READ",
	[VFIO_USER_MIG_DATA_WRITE] = "MIG_DATA_WRITE",
};

const char *user_command_name(uint32_t command)
{
	if (command >= sizeof(command_names) / sizeof(command_names[0]) || !command_names[command])
		return "unknown command";
	return command_names[command];
}

int user_conn_fd(const struct user_conn *c)
{
	return c->fd;
}

/* The first cause stays. The shutdown ends every wait on the socket, the peer's too. */
static void end_locked(struct user_conn *c, const struct vfmig_error *cause)
{
	if (c->end.code)
		return;
	c->end = *cause;
	shutdown(c->fd, SHUT_RDWR);
	if (c->twin)
		shutdown(c->twin->fd, SHUT_RDWR);
	pthread_cond_broadcast(&c->changed);
}

static void end_connection(struct user_conn *c, const struct vfmig_error *cause)
{
	pthread_mutex_lock(&c->lock);
	end_locked(c, cause);
	pthread_mutex_unlock(&c->lock);
}

static uint64_t deadline(const struct user_conn *c)
{
	return clock_now_ns() + c->timeout_ms * NS_PER_MS;
}

/* What a failed receive in the middle of a message is. */
static int lost(int r, const char *what, struct vfmig_error *err)
{
	if (r == -ENODATA || r == -ECONNRESET || r == -EPIPE)
		return error_set(err, -ENOTCONN, "the server closed the connection in the middle of %s", what);
	if (r == -ETIMEDOUT)
		return error_set(err, -ETIMEDOUT, "the server stopped in the middle of %s", what);
	return error_set(err, -ENOTCONN, "receiving %s: %s", what, error_text(-r));
}

/* Claims the request that h answers, so that it stays where it is until it is given back. */
static struct user_request *claim(struct user_conn *c, const struct vfio_user_header *h, struct vfmig_error *err)
{
	pthread_mutex_lock(&c->lock);
	struct user_request *q = c->end.code ? NULL : c->waiting;
	if (!q)
		error_set(err, -EPROTO, "the server sent a reply to %s with id %u that nobody waits for",
			  user_command_name(h->command), h->id);
	else if (h->id != c->waiting_id || h->command != q->command)
		error_set(err, -EPROTO, "the server answered %s with id %u, expected was %s with id %u",
			  user_command_name(h->command), h->id, user_command_name(q->command), c->waiting_id);
	else
		c->filling = true;
	bool claimed = c->filling;
	pthread_mutex_unlock(&c->lock);
	return claimed ? q : NULL;
}

static void give_back(struct user_conn *c, int result, bool complete)
{
	pthread_mutex_lock(&c->lock);
	c->filling = false;
	if (complete) {
		c->result = result;
		c->waiting = NULL;
	}
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

static int receive_payload(struct user_conn *c, struct user_request *q, size_t length, uint64_t end,
			   struct vfmig_error *err)
{
	if (length < q->reply_min || length > q->reply_max + q->reply_data_length)
		return error_set(err, -EPROTO, "the server's reply to %s has %zu bytes, expected were %zu to %zu",
				 user_command_name(q->command), length, q->reply_min,
				 q->reply_max + q->reply_data_length);
	size_t head = length < q->reply_max ? length : q->reply_max;
	int r = user_socket_recv(c->fd, q->reply, head, NULL, -1, end);
	if (r == 0)
		r = user_socket_recv(c->fd, q->reply_data, length - head, NULL, -1, end);
	if (r < 0)
		return lost(r, "a reply", err);
	q->replied = length;
	return 0;
}

/* The errnos that mean "connection lost" here are not a server's to give. */
static int server_errno(uint32_t error)
{
	if (error == 0 || error > 4095 || error == ENOTCONN || error == ETIMEDOUT || error == EPROTO)
		return -EIO;
	return -(int)error;
}

static int handle_reply(struct user_conn *c, const struct vfio_user_header *h, struct user_fds *fds,
			struct vfmig_error *err)
{
	uint64_t end = deadline(c);
	size_t length = h->size - sizeof(*h);
	struct user_request *q = claim(c, h, err);
	if (!q)
		return -EPROTO;

	int r, result = 0;
	if (h->flags & VFIO_USER_ERROR) {
		result = server_errno(h->error);
		r = user_socket_drain(c->fd, length, -1, end);
		if (r < 0)
			lost(r, "an error reply", err);
	} else {
		r = receive_payload(c, q, length, end, err);
		while (r == 0 && q->reply_fds.count < q->max_fds && q->reply_fds.count < fds->count) {
			size_t i = q->reply_fds.count++;
			q->reply_fds.fd[i] = user_fds_take(fds, i);
		}
	}
	give_back(c, result, r == 0);
	return r;
}

static int handle_message(struct user_conn *c, const struct vfio_user_header *h, struct user_fds *fds,
			  struct vfmig_error *err)
{
	if (h->size < sizeof(*h) || h->size > VFIO_USER_MAX_MESSAGE)
		return error_set(err, -EPROTO, "the server announced a message of %u bytes, expected were %zu to %u",
				 h->size, sizeof(*h), VFIO_USER_MAX_MESSAGE);
	uint32_t type = h->flags & VFIO_USER_TYPE_MASK;
	if (type == VFIO_USER_TYPE_REPLY && c->twin_of)
		return error_set(err, -EPROTO, "the server sent a reply (%s, id %u) on its twin socket",
				 user_command_name(h->command), h->id);
	if (type == VFIO_USER_TYPE_REPLY)
		return handle_reply(c, h, fds, err);
	if (type != VFIO_USER_TYPE_COMMAND)
		return error_set(err, -EPROTO, "the server sent a message of type %u, expected was 0 or 1", type);
	return c->serve(c->opaque, c, h, h->size - sizeof(*h), deadline(c), err);
}

static int receive_message(struct user_conn *c, struct vfmig_error *err)
{
	struct vfio_user_header h;
	struct user_fds fds = { 0 };

	/* Between messages there is nothing to wait for but the next one, however
	 * long; once it has begun it has to come within the time of a request. */
	int r = user_socket_recv(c->fd, &h, 1, &fds, -1, USER_NO_DEADLINE);
	if (r == -ENODATA || r == -ECONNRESET) {
		error_set(err, -ENOTCONN, "the server closed the connection%s", c->twin_of ? " (its twin socket)" : "");
	} else {
		if (r == 0)
			r = user_socket_recv(c->fd, (char *)&h + 1, sizeof(h) - 1, &fds, -1, deadline(c));
		r = r < 0 ? lost(r, "a message's header", err) : handle_message(c, &h, &fds, err);
	}
	user_fds_close(&fds);
	return r;
}

static void *receive_thread(void *arg)
{
	struct user_conn *c = arg;
	struct vfmig_error cause = { 0 };

	int r;

	while ((r = receive_message(c, &cause)) == 0)
		;
	pthread_mutex_lock(&c->lock);
	/* A server that has left on both sockets did so here, if it was in the middle of something. */
	bool twin = c->twin_end.code && (r == -ENODATA || !c->twin_left);
	end_locked(c, twin ? &c->twin_end : &cause);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* The server may have answered before it closed: the other thread reads to the end, and then says what was here. */
static void *twin_thread(void *arg)
{
	struct user_conn *twin = arg, *c = twin->twin_of;
	struct vfmig_error cause = { 0 };
	int r;

	while ((r = receive_message(twin, &cause)) == 0)
		;
	pthread_mutex_lock(&c->lock);
	if (!c->end.code) {
		c->twin_end = cause;
		c->twin_left = r == -ENODATA;
		shutdown(c->fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int user_conn_answer(struct user_conn *c, const struct vfio_user_header *h, uint32_t error, struct iovec *iov,
		     size_t count, uint64_t deadline_ns)
{
	if (h->flags & VFIO_USER_NO_REPLY)
		return 0;
	struct vfio_user_header answer = {
		.id = h->id,
		.command = h->command,
		.flags = VFIO_USER_TYPE_REPLY | (error ? VFIO_USER_ERROR : 0),
		.error = error,
		.size = sizeof(answer),
	};
	for (size_t i = 1; i < count; i++)
		answer.size += (uint32_t)iov[i].iov_len;
	iov[0] = (struct iovec) { &answer, sizeof(answer) };
	pthread_mutex_lock(&c->send_lock);
	int r = user_socket_send(c->fd, iov, count, NULL, 0, deadline_ns);
	pthread_mutex_unlock(&c->send_lock);
	return r;
}

static int send_request(struct user_conn *c, const struct user_request *q, uint16_t id, uint64_t end)
{
	struct vfio_user_header h = {
		.id = id,
		.command = q->command,
		.size = (uint32_t)(sizeof(h) + q->body_length + q->data_length),
	};
	struct iovec iov[3] = {
		{ &h, sizeof(h) },
		{ (void *)(uintptr_t)q->body, q->body_length },
		{ (void *)(uintptr_t)q->data, q->data_length },
	};
	pthread_mutex_lock(&c->send_lock);
	int r = user_socket_send(c->fd, iov, 3, q->fds, q->num_fds, end);
	pthread_mutex_unlock(&c->send_lock);
	return r;
}

static int already_lost(struct user_conn *c, struct vfmig_error *err)
{
	return error_set(err, -ENOTCONN, "the connection is lost (%s)", c->end.message);
}

static int enlist(struct user_conn *c, struct user_request *q, uint16_t *ret_id, struct vfmig_error *err)
{
	int r = 0;

	pthread_mutex_lock(&c->lock);
	if (c->end.code)
		r = already_lost(c, err);
	else
		c->waiting = q;
	*ret_id = c->waiting_id = c->next_id++;
	pthread_mutex_unlock(&c->lock);
	return r;
}

static void withdraw(struct user_conn *c)
{
	pthread_mutex_lock(&c->lock);
	c->waiting = NULL;
	pthread_mutex_unlock(&c->lock);
}

/* Until the reply is there, or the connection is lost and the thread out of q. */
static int await(struct user_conn *c, const char *name, uint64_t end, struct vfmig_error *err)
{
	struct timespec until = { (time_t)(end / NS_PER_S), (long)(end % NS_PER_S) };
	int r = 0;

	pthread_mutex_lock(&c->lock);
	while (c->waiting && !c->end.code) {
		if (pthread_cond_timedwait(&c->changed, &c->lock, &until) == ETIMEDOUT && c->waiting && !c->end.code) {
			struct vfmig_error cause;
			error_set(&cause, -ETIMEDOUT, "the server did not answer %s within %u ms", name, c->timeout_ms);
			end_locked(c, &cause);
		}
	}
	while (c->filling)
		pthread_cond_wait(&c->changed, &c->lock);
	if (c->waiting) {
		r = error_set(err, c->end.code, "%s", c->end.message);
		c->waiting = NULL;
	} else if (c->result < 0) {
		r = error_errno(err, c->result, "the server refused %s", name);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static int request(struct user_conn *c, struct user_request *q, struct vfmig_error *err)
{
	const char *name = user_command_name(q->command);
	uint64_t end = deadline(c);
	uint16_t id;

	q->replied = 0;
	q->reply_fds.count = 0;
	int r = enlist(c, q, &id, err);
	if (r < 0)
		return r;
	r = send_request(c, q, id, end);
	if (r == -EBADF) { /* the caller's fds: nothing was sent */
		withdraw(c);
		return error_errno(err, r, "sending %s", name);
	}
	if (r < 0) {
		struct vfmig_error cause;
		if (r == -ETIMEDOUT)
			error_set(&cause, r, "the server did not take %s within %u ms", name, c->timeout_ms);
		else
			error_set(&cause, -ENOTCONN, "sending %s: %s", name, error_text(-r));
		/* A server that has closed may have answered before: the thread reads to the end and says so. */
		if (r != -EPIPE && r != -ECONNRESET)
			end_connection(c, &cause);
	}
	return await(c, name, end, err);
}

int user_conn_request(struct user_conn *c, struct user_request *q, struct vfmig_error *err)
{
	pthread_mutex_lock(&c->request_lock);
	int r = request(c, q, err);
	pthread_mutex_unlock(&c->request_lock);
	return r;
}

static void conn_free(struct user_conn *c)
{
	close(c->fd);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->send_lock);
	pthread_mutex_destroy(&c->request_lock);
	free(c);
}

/* All but its thread. Takes fd, also on failure. */
static struct user_conn *conn_new(int fd, uint32_t timeout_ms, user_serve_fn *serve, void *opaque)
{
	struct user_conn *c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return NULL;
	}
	c->fd = fd;
	c->timeout_ms = timeout_ms;
	c->serve = serve;
	c->opaque = opaque;
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->send_lock, NULL);
	pthread_mutex_init(&c->request_lock, NULL);
	return c;
}

int user_conn_new(int fd, uint32_t timeout_ms, user_serve_fn *serve, void *opaque, struct user_conn **ret,
		  struct vfmig_error *err)
{
	struct user_conn *c = conn_new(fd, timeout_ms, serve, opaque);
	int r = c ? thread_start(&c->thread, receive_thread, c) : -ENOMEM;
	if (r < 0) {
		if (c)
			conn_free(c);
		return error_errno(err, r, "starting the connection");
	}
	*ret = c;
	return 0;
}

int user_conn_add_twin(struct user_conn *c, int fd, struct vfmig_error *err)
{
	struct user_conn *twin = conn_new(fd, c->timeout_ms, c->serve, c->opaque);
	int r = -ENOMEM;

	if (twin) {
		twin->twin_of = c;
		pthread_mutex_lock(&c->lock);
		r = c->end.code ? -ENOTCONN : thread_start(&twin->thread, twin_thread, twin);
		if (r == 0)
			c->twin = twin;
		pthread_mutex_unlock(&c->lock);
	}
	if (r == 0)
		return 0;
	if (twin)
		conn_free(twin);
	return error_errno(err, r, "serving the twin socket");
}

void user_conn_close(struct user_conn *c)
{
	if (!c)
		return;
	struct vfmig_error closed = { .code = -ENOTCONN, .message = "closed" };
	end_connection(c, &closed);
	pthread_join(c->thread, NULL);
	if (c->twin) {
		pthread_join(c->twin->thread, NULL);
		conn_free(c->twin);
	}
	conn_free(c);
}
