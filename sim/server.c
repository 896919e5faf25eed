/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server.c: a vfio-user server's connection: who may send, receive and wait where.
 *
 * Two threads for each client. The receiver takes every message off the
 * socket: a request is queued, a reply to server_dma goes to whoever waits for
 * it. The handler (the thread in server_run) takes requests off the queue, has
 * them carried out and replies. The device's thread in server_dma waits for
 * the receiver only, so a request that waits for the device's thread ends.
 */
#include "sim/server.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/thread.h"
#include "device/user_conn.h"
#include "sim/server_internal.h"

#define MAX_QUEUED 16 /* requests that a client may have outstanding */

/* The first cause stays. The shutdown ends whatever waits on the socket. */
static void end_client(struct server *s, int end, const struct vfmig_error *cause)
{
	pthread_mutex_lock(&s->lock);
	if (s->end == 0) {
		s->end = end;
		s->cause = *cause;
		shutdown(s->fd, SHUT_RDWR);
		if (s->twin_fd >= 0)
			shutdown(s->twin_fd, SHUT_RDWR);
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
}

static int lost(int r, struct vfmig_error *err)
{
	if (r == -ECANCELED)
		return error_set(err, r, "the server was stopped");
	if (r == -ENODATA || r == -ECONNRESET)
		return error_set(err, -ENOTCONN, "it closed the connection in the middle of a message");
	return error_errno(err, r, "receiving");
}

static int queue_request(struct server *s, const struct vfio_user_header *h, struct user_fds *fds,
			 struct vfmig_error *err)
{
	size_t length = h->size - sizeof(*h);
	struct message *m = malloc(sizeof(*m) + length);
	if (!m)
		return error_errno(err, -ENOMEM, "a message of %u bytes", h->size);
	int r = user_socket_recv(s->fd, m->body, length, NULL, s->stop_fd, USER_NO_DEADLINE);
	if (r < 0) {
		free(m);
		return lost(r, err);
	}
	m->next = NULL;
	m->header = *h;
	m->length = length;
	pthread_mutex_lock(&s->lock);
	bool room = s->num_queued < MAX_QUEUED;
	if (room) {
		m->fds = *fds;
		fds->count = 0;
		*s->last = m;
		s->last = &m->next;
		s->num_queued++;
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	if (room)
		return 0;
	free(m);
	return error_set(err, -EPROTO, "it sent more than %d requests without waiting for a reply", MAX_QUEUED);
}

/* A reply is for the one DMA request there is, or for nobody. */
static bool claim_dma(struct server *s, int fd, const struct vfio_user_header *h)
{
	pthread_mutex_lock(&s->lock);
	bool mine = s->dma_waiting && fd == s->dma.fd && h->id == s->dma.id && h->command == s->dma.command;
	s->dma_filling = mine;
	pthread_mutex_unlock(&s->lock);
	return mine;
}

static int receive_dma_data(struct server *s, int fd, size_t length, struct vfmig_error *err)
{
	uint32_t data = s->dma.command == VFIO_USER_DMA_READ ? s->dma.length : 0;
	struct vfio_user_dma_io io;

	if (length != sizeof(io) + data)
		return error_set(err, -EPROTO, "it answered DMA with %zu bytes, expected were %zu", length,
				 sizeof(io) + data);
	int r = user_socket_recv(fd, &io, sizeof(io), NULL, s->stop_fd, USER_NO_DEADLINE);
	if (r == 0 && (io.address != s->dma.address || io.count != s->dma.length))
		return error_set(err, -EPROTO, "it answered DMA of another range");
	if (r == 0)
		r = user_socket_recv(fd, s->dma.buffer, data, NULL, s->stop_fd, USER_NO_DEADLINE);
	return r < 0 ? lost(r, err) : 0;
}

static int receive_dma_reply(struct server *s, int fd, const struct vfio_user_header *h, struct vfmig_error *err)
{
	size_t length = h->size - sizeof(*h);
	int r, result = 0;

	if (!claim_dma(s, fd, h))
		return error_set(err, -EPROTO, "it sent a reply (%s, id %u) that nobody waits for",
				 user_command_name(h->command), h->id);
	if (h->flags & VFIO_USER_ERROR) {
		result = h->error > 0 && h->error <= 4095 && h->error != ENOTCONN ? -(int)h->error : -EIO;
		r = user_socket_drain(fd, length, s->stop_fd, USER_NO_DEADLINE);
		if (r < 0)
			lost(r, err);
	} else {
		r = receive_dma_data(s, fd, length, err);
	}
	pthread_mutex_lock(&s->lock);
	s->dma_filling = false;
	if (r == 0) {
		s->dma.result = result;
		s->dma_waiting = false;
	}
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int receive_message(struct server *s, int fd, struct vfmig_error *err)
{
	bool twin = fd != s->fd;
	struct vfio_user_header h;
	struct user_fds fds = { 0 };

	int r = user_socket_recv(fd, &h, sizeof(h), &fds, s->stop_fd, USER_NO_DEADLINE);
	if (r == -ENODATA)
		error_set(err, r, "it left");
	else if (r < 0)
		r = lost(r, err);
	else if (h.size < sizeof(h) || h.size > VFIO_USER_MAX_MESSAGE)
		r = error_set(err, -EPROTO, "it announced a message of %u bytes, expected were %zu to %u", h.size,
			      sizeof(h), VFIO_USER_MAX_MESSAGE);
	else if (twin && (h.flags & VFIO_USER_TYPE_MASK) == VFIO_USER_TYPE_COMMAND)
		r = error_set(err, -EPROTO, "it sent %s on its twin socket", user_command_name(h.command));
	else if ((h.flags & VFIO_USER_TYPE_MASK) == VFIO_USER_TYPE_COMMAND)
		r = queue_request(s, &h, &fds, err);
	else if ((h.flags & VFIO_USER_TYPE_MASK) == VFIO_USER_TYPE_REPLY)
		r = receive_dma_reply(s, fd, &h, err);
	else
		r = error_set(err, -EPROTO, "it sent a message of type %u, expected was 0 or 1",
			      h.flags & VFIO_USER_TYPE_MASK);
	user_fds_close(&fds);
	return r;
}

static void *receive_thread(void *arg)
{
	struct server *s = arg;
	struct vfmig_error err = { 0 };
	int r;

	while ((r = receive_message(s, s->fd, &err)) == 0)
		;
	end_client(s, r, &err);
	return NULL;
}

/* A client that closes both sockets may have sent requests before: the other thread reads to the end and says that it
 * left. */
static void *twin_thread(void *arg)
{
	struct server *s = arg;
	struct vfmig_error err = { 0 };
	int r;

	while ((r = receive_message(s, s->twin_fd, &err)) == 0)
		;
	if (r == -ENODATA)
		shutdown(s->fd, SHUT_RD);
	else
		end_client(s, r, &err);
	return NULL;
}

/* The next request; NULL: the client is gone. One that left in good order
 * still gets carried out what it asked for before. */
static struct message *next_request(struct server *s)
{
	pthread_mutex_lock(&s->lock);
	while (!s->first && s->end == 0)
		pthread_cond_wait(&s->changed, &s->lock);
	struct message *m = s->end == 0 || s->end == -ENODATA ? s->first : NULL;
	if (m) {
		s->first = m->next;
		if (!s->first)
			s->last = &s->first;
		s->num_queued--;
	}
	pthread_mutex_unlock(&s->lock);
	return m;
}

static void free_message(struct message *m)
{
	user_fds_close(&m->fds);
	free(m);
}

static int send_reply(struct server *s, const struct message *m, int result, const struct reply *r)
{
	struct vfio_user_header h = {
		.id = m->header.id,
		.command = m->header.command,
		.flags = VFIO_USER_TYPE_REPLY | (result < 0 ? VFIO_USER_ERROR : 0),
		.error = (uint32_t)-result,
	};
	struct iovec iov[3] = {
		{ &h, sizeof(h) },
		{ (void *)(uintptr_t)r->body, r->body_length },
		{ (void *)(uintptr_t)r->data, r->data_length },
	};
	size_t count = result < 0 ? 1 : 3;

	for (size_t i = 0; i < count; i++)
		h.size += (uint32_t)iov[i].iov_len;
	pthread_mutex_lock(&s->send_lock);
	int e = user_socket_send(s->fd, iov, count, &r->fd, result == 0 && r->fd >= 0 ? 1 : 0, USER_NO_DEADLINE);
	pthread_mutex_unlock(&s->send_lock);
	return e;
}

/* From now on DMA by messages is possible: the client has its end of the twin socket. */
static int begin_dma_service(struct server *s, struct vfmig_error *err)
{
	if (s->client.twin_fd >= 0) {
		close(s->client.twin_fd);
		s->client.twin_fd = -1;
		int r = thread_start(&s->twin_thread, twin_thread, s);
		if (r < 0)
			return error_errno(err, r, "starting a thread");
		s->has_twin_thread = true;
	}
	pthread_mutex_lock(&s->lock);
	s->max_dma = user_limits_write(&s->client.limits);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

/* Carries out one request and replies. < 0: that was the last one of this client. */
static int do_request(struct server *s, struct message *m, struct vfmig_error *err)
{
	struct reply r = { .fd = -1 };
	bool was_negotiated = s->client.negotiated;

	int result = server_handle(s, m, &r, err);
	if (result < 0)
		error_prefix(err, result, "%s (%u)", user_command_name(m->header.command), m->header.command);
	if (result == -ENOTCONN)
		return result;
	if (result != -EINPROGRESS && !(m->header.flags & VFIO_USER_NO_REPLY)) {
		int e = send_reply(s, m, result, &r);
		if (e < 0 && e != -EPIPE) /* the receiver knows better why it left */
			return error_errno(err, e, "replying");
	}
	if (!was_negotiated && s->client.negotiated)
		return begin_dma_service(s, err);
	return s->client.negotiated ? 0 : result;
}

/* Until the client is gone or to be dropped. */
static void handle_requests(struct server *s)
{
	struct vfmig_error err = { 0 };
	struct message *m;
	int r = 0;

	while (r == 0 && (m = next_request(s))) {
		r = do_request(s, m, &err);
		free_message(m);
	}
	if (r < 0)
		end_client(s, r, &err);
}

static void begin_client(struct server *s, int fd)
{
	pthread_mutex_lock(&s->lock);
	s->fd = fd;
	s->end = 0;
	s->max_dma = 0;
	pthread_mutex_unlock(&s->lock);
}

/* Nobody sends or receives any more: the fd and all that came with it goes. */
static int end_of_client(struct server *s, struct vfmig_error *err)
{
	pthread_mutex_lock(&s->lock);
	while (s->dma_active)
		pthread_cond_wait(&s->changed, &s->lock);
	int fd = s->fd, twin_fd = s->twin_fd;
	s->fd = s->twin_fd = -1;
	struct message *m = s->first;
	s->first = NULL;
	s->last = &s->first;
	s->num_queued = 0;
	int end = s->end == -ENODATA || s->end == -ECANCELED ? 0 : s->end;
	if (err)
		*err = s->cause;
	pthread_mutex_unlock(&s->lock);
	close(fd);
	if (twin_fd >= 0)
		close(twin_fd);
	while (m) {
		struct message *next = m->next;
		free_message(m);
		m = next;
	}
	server_forget_client(s);
	return end;
}

int server_serve(struct server *s, int fd, struct vfmig_error *err)
{
	pthread_t receiver;

	begin_client(s, fd);
	int r = thread_start(&receiver, receive_thread, s);
	if (r == 0) {
		handle_requests(s);
		pthread_join(receiver, NULL);
		if (s->has_twin_thread)
			pthread_join(s->twin_thread, NULL);
		s->has_twin_thread = false;
	} else {
		struct vfmig_error cause;
		end_client(s, error_errno(&cause, r, "starting a thread"), &cause);
	}
	return end_of_client(s, err);
}

static void say(struct server *s, const char *line)
{
	if (s->hooks->log)
		s->hooks->log(s->opaque, line);
}

/* 1: *ret_fd is a client. 0: stopped. */
static int accept_client(struct server *s, int listen_fd, int *ret_fd, struct vfmig_error *err)
{
	for (;;) {
		struct pollfd p[2] = { { .fd = listen_fd, .events = POLLIN }, { .fd = s->stop_fd, .events = POLLIN } };
		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return error_errno(err, -errno, "waiting for a client");
		}
		if (p[1].revents)
			return 0;
		*ret_fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (*ret_fd >= 0)
			return 1;
		if (errno != EINTR && errno != ECONNABORTED && errno != EAGAIN)
			return error_errno(err, -errno, "accepting a client");
	}
}

int server_run(struct server *s, int listen_fd, struct vfmig_error *err)
{
	int fd = -1, r;

	while ((r = accept_client(s, listen_fd, &fd, err)) > 0) {
		struct vfmig_error cause = { 0 };
		char line[sizeof(cause.message) + 32];
		say(s, "a client came");
		r = server_serve(s, fd, &cause);
		snprintf(line, sizeof(line), "the client %s: %s", r < 0 ? "was dropped" : "is gone", cause.message);
		say(s, line);
	}
	return r;
}

void server_stop(struct server *s)
{
	uint64_t one = 1;
	/* A full counter is as readable as it gets. */
	ssize_t n = write(s->stop_fd, &one, sizeof(one));
	(void)n;
}

static int begin_dma(struct server *s, bool write, uint64_t iova, void *buffer, size_t length,
		     struct vfio_user_header *h, struct vfmig_error *err)
{
	pthread_mutex_lock(&s->lock);
	bool connected = s->fd >= 0 && s->end == 0 && s->max_dma > 0;
	if (connected) {
		s->dma.id++;
		s->dma.fd = s->twin_fd >= 0 ? s->twin_fd : s->fd;
		s->dma.command = write ? VFIO_USER_DMA_WRITE : VFIO_USER_DMA_READ;
		s->dma.address = iova;
		s->dma.buffer = buffer;
		s->dma.length = (uint32_t)min_u64(length, s->max_dma);
		s->dma_active = s->dma_waiting = true;
		*h = (struct vfio_user_header) { .id = s->dma.id, .command = s->dma.command };
	}
	pthread_mutex_unlock(&s->lock);
	return connected ? 0 : error_set(err, -ENOTCONN, "no client to reach its memory");
}

static int send_dma(struct server *s, struct vfio_user_header *h)
{
	struct vfio_user_dma_io io = { s->dma.address, s->dma.length };
	struct iovec iov[3] = {
		{ h, sizeof(*h) },
		{ &io, sizeof(io) },
		{ s->dma.buffer, h->command == VFIO_USER_DMA_WRITE ? s->dma.length : 0 },
	};
	h->size = (uint32_t)(sizeof(*h) + sizeof(io) + iov[2].iov_len);
	pthread_mutex_lock(&s->send_lock); /* of both sockets: a client takes what comes by either */
	int r = user_socket_send(s->dma.fd, iov, 3, NULL, 0, USER_NO_DEADLINE);
	pthread_mutex_unlock(&s->send_lock);
	return r;
}

/* Until the answer is there, or the client gone and the receiver out of the buffer. */
static int end_dma(struct server *s, struct vfmig_error *err)
{
	pthread_mutex_lock(&s->lock);
	while ((s->dma_waiting && s->end == 0) || s->dma_filling)
		pthread_cond_wait(&s->changed, &s->lock);
	int r = s->dma_waiting ? -ENOTCONN : s->dma.result;
	s->dma_active = s->dma_waiting = false;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (r == -ENOTCONN)
		return error_set(err, r, "the client left during DMA");
	return r < 0 ? error_errno(err, r, "the client refused DMA") : 0;
}

int server_dma(struct server *s, bool write, uint64_t iova, void *buffer, size_t length, struct vfmig_error *err)
{
	int r = 0;

	pthread_mutex_lock(&s->dma_lock);
	for (size_t done = 0; done < length && r == 0; done += s->dma.length) {
		struct vfio_user_header h;
		r = begin_dma(s, write, iova + done, (char *)buffer + done, length - done, &h, err);
		if (r < 0)
			break;
		r = send_dma(s, &h);
		if (r < 0 && r != -EPIPE && r != -ECONNRESET) { /* those the receiver finds as well */
			struct vfmig_error cause;
			error_errno(&cause, r, "sending DMA");
			end_client(s, r, &cause);
		}
		r = end_dma(s, err);
	}
	pthread_mutex_unlock(&s->dma_lock);
	return r;
}

int server_new(struct access *device, const struct server_hooks *hooks, void *opaque, struct server **ret,
	       struct vfmig_error *err)
{
	struct server *s = calloc(1, sizeof(*s));
	uint8_t *buffer = malloc(VFIO_USER_MAX_DATA);
	int stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (!s || !buffer || stop_fd < 0) {
		int r = stop_fd < 0 ? -errno : -ENOMEM;
		free(s);
		free(buffer);
		if (stop_fd >= 0)
			close(stop_fd);
		return error_errno(err, r, "server");
	}
	s->device = device;
	s->hooks = hooks;
	s->opaque = opaque;
	s->buffer = buffer;
	s->stop_fd = stop_fd;
	s->fd = s->twin_fd = s->client.twin_fd = -1;
	s->last = &s->first;
	pthread_mutex_init(&s->send_lock, NULL);
	pthread_mutex_init(&s->dma_lock, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	*ret = s;
	return 0;
}

void server_set_options(struct server *s, const struct server_options *options)
{
	s->options = *options;
}

void server_free(struct server *s)
{
	if (!s)
		return;
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->dma_lock);
	pthread_mutex_destroy(&s->send_lock);
	close(s->stop_fd);
	free(s->buffer);
	free(s);
}
