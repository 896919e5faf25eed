/* SPDX-License-Identifier: BSD-3-Clause */
/* server_internal.h: what the server's connection (server.c) and its requests (server_requests.c) share. */
#ifndef VFMIG_SIM_SERVER_INTERNAL_H
#define VFMIG_SIM_SERVER_INTERNAL_H

#include <pthread.h>

#include "device/user_reply.h"
#include "device/user_socket.h"
#include "sim/server.h"

/* A request that was received whole. */
struct message {
	struct message *next;
	struct vfio_user_header header;
	struct user_fds fds;
	size_t length;
	uint8_t body[];
};

struct reply {
	uint8_t body[64];
	size_t body_length;
	const void *data; /* goes behind it */
	size_t data_length;
	int fd; /* borrowed; -1: none */
};

/* What the current client has left in the device. */
struct client_mapping {
	struct client_mapping *next;
	uint64_t iova, size;
};

struct client {
	bool negotiated;
	struct user_limits limits;
	struct client_mapping *mappings;
	size_t num_mappings;
	uint64_t irqs; /* bit n: interrupt index n has eventfds */
	uint64_t logs[2]; /* by enum access_log: the page size of one that was started, or 0 */
	int twin_fd;      /* the client's end of its twin socket, on its way there; -1: none */
};

struct server {
	/* Set once */
	struct access *device;
	const struct server_hooks *hooks;
	void *opaque;
	int stop_fd;
	struct server_options options;

	/* The thread in server_run's alone */
	struct client client;
	pthread_t twin_thread;
	bool has_twin_thread;
	uint8_t *buffer; /* VFIO_USER_MAX_DATA bytes for a reply's data */

	pthread_mutex_t send_lock; /* a message goes out whole */
	pthread_mutex_t dma_lock;  /* one server_dma at a time */

	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed;
	int fd;           /* the client's; -1: none */
	int twin_fd;      /* where DMA goes instead; -1: to fd */
	uint32_t max_dma; /* bytes in one DMA message; 0: VERSION has not come yet */
	int end;          /* -errno: the client is gone, or is to go, for this reason */
	struct vfmig_error cause;
	struct message *first, **last;
	size_t num_queued;
	bool dma_active;  /* server_dma is using fd */
	bool dma_waiting; /* its reply is still to come */
	bool dma_filling; /* and is being received */
	struct {
		uint16_t id, command;
		int fd;
		uint64_t address;
		void *buffer;
		uint32_t length;
		int result;
	} dma;
};

/*
 * Carries out a request. 0: r is the reply. -ENOTCONN: drop the client;
 * -EINPROGRESS: no reply, ever; any other -errno: an error reply, after which a
 * client that is not negotiated yet is dropped.
 */
int server_handle(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err);

/* The mapping's end. bitmap not NULL: with the last report of ACCESS_LOG_MAPPINGS, which was started. */
int server_unmap_range(struct server *s, uint64_t iova, uint64_t size, uint64_t *bitmap, struct vfmig_error *err);

/* server_dirty.c. Requests, as server_handle; server_handle_logging: of DEVICE_FEATURE, when server_is_logging. */
bool server_is_logging(uint32_t index);
int server_handle_logging(struct server *s, const struct vfio_user_feature *feature, const uint8_t *data,
			  size_t length, struct reply *r, struct vfmig_error *err);
int server_handle_dirty_pages(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err);
int server_unmap_with_bitmap(struct server *s, const struct message *m, struct reply *r, struct vfmig_error *err);
void server_stop_logs(struct server *s);

/* Takes back from the device what the client left in it, and forgets the client. */
void server_forget_client(struct server *s);

#endif
