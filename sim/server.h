/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server.h: serves one device, any struct access, on vfio-user sockets.
 *
 * One client at a time; the next is accepted when the previous has left. The
 * device and its state outlive the connection; DMA mappings and interrupts do
 * not: when a client leaves the server takes each back from the device.
 *
 * Threads. Every access_* call comes from the thread that called server_run
 * (or server_serve), one at a time. A second thread of the server receives: so
 * a DMA answer gets through while a request of the client's is being handled. A
 * third one does where DMA goes by a twin socket of the client's.
 *
 * Therefore the one rule for a device that calls server_dma: it must not hold
 * a lock that any of its access functions takes. A state write that
 * waits until the engine has finished its step may do so, with its lock
 * dropped while it waits: the engine's DMA is answered meanwhile.
 *
 * Two results of a device's access functions mean something special, so that
 * a device can misbehave on purpose:
 *   -ENOTCONN     drop this client now, without a reply
 *   -EINPROGRESS  never reply to this request; the connection stays
 * Any other failure is the errno of an error reply.
 */
#ifndef VFMIG_SIM_SERVER_H
#define VFMIG_SIM_SERVER_H

#include "device/access.h"

struct server;

struct server_hooks {
	/* The fd that a client can map a region's areas from, byte 0 of the fd
	 * being byte 0 of the region; borrowed; -1: not mappable. May be NULL: none is. */
	int (*region_fd)(void *opaque, uint32_t index);
	/* A line about a client: came, left, was dropped and why. From the thread in
	 * server_run. May be NULL. */
	void (*log)(void *opaque, const char *line);
};

/*
 * Borrows device and hooks. What the device sees of DMA: access_dma_map with
 * the client's fd (borrowed: the device maps or dups it), or with fd -1 when the
 * mapping came without one: that memory is reached by server_dma only. Eventfds
 * given to access_set_irqs are closed when that returns.
 */
int server_new(struct access *device, const struct server_hooks *hooks, void *opaque, struct server **ret,
	       struct vfmig_error *err);
/* Not while server_run or server_serve run, or the device may call server_dma. */
void server_free(struct server *s); /* NULL is fine */

/* What the server does without, as other servers do. All false: nothing. */
struct server_options {
	bool no_fds;            /* max_msg_fds 0: the client's memory is reached by messages only */
	bool no_twin;           /* DMA stays on the client's own socket, also when it offers a second */
	bool no_whole_messages; /* does not say that it is vfmig's and takes large messages */
};

/* Before server_run and server_serve. */
void server_set_options(struct server *s, const struct server_options *options);

/* Accepts clients on a listening socket (borrowed) until server_stop. 0: stopped. */
int server_run(struct server *s, int listen_fd, struct vfmig_error *err);

/* Serves one connected client (takes fd) until it leaves or server_stop. 0: it
 * left in good order, or stopped; -EPROTO, -ENOTCONN and so on: it was dropped. */
int server_serve(struct server *s, int fd, struct vfmig_error *err);

/* Ends server_run and server_serve for good, also one that has not begun. From
 * any thread and from signal handlers. */
void server_stop(struct server *s);

/*
 * Reads or writes the client's memory by messages; for the device's own
 * thread, and never from inside an access function. Blocks until the client has
 * answered or is gone. -ENOTCONN: no client, or it left meanwhile; else the
 * errno that the client answered.
 */
int server_dma(struct server *s, bool write, uint64_t iova, void *buffer, size_t length, struct vfmig_error *err);

#endif
