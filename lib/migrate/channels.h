/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * channels.h: the loading side of a migration with several connections, QEMU's multifd.
 *
 * The peer connects once for the stream and once for each channel, and which
 * is which shows by the first bytes. Memory on the channels is read past, the
 * devices' packets are put back into order and given to their takers one by one.
 */
#ifndef VFMIG_MIGRATE_CHANNELS_H
#define VFMIG_MIGRATE_CHANNELS_H

#include "link/link.h"
#include "migrate/handlers.h"
#include "migrate/window.h"

#define CHANNELS_MAX_QUEUED (64u << 20) /* unless told otherwise */

struct channels;

struct channels_options {
	unsigned int count;
	uint8_t uuid[WIRE_MULTIFD_UUID];
	uint64_t max_queued; /* 0: CHANNELS_MAX_QUEUED */
	size_t num_takers;
	/* Whose packet is it? 1: *ret_taker, below num_takers; 0: nobody's, but one that may come; -errno. */
	int (*find)(void *opaque, const struct multifd_packet *head, size_t *ret_taker, struct vfmig_error *err);
	/* In order, each packet once. packet->data has room for one byte behind its end. */
	int (*take)(void *opaque, size_t taker, const struct packet *packet, struct vfmig_error *err);
	void *opaque;
	bool refuse_memory; /* somebody loads memory, and would miss what comes here */
	const struct log *log;
};

/* link: the first connection (borrowed), whatever it turns out to be. */
int channels_new(struct vfmig_link *link, const struct channels_options *opts, struct channels **ret,
		 struct vfmig_error *err);
void channels_free(struct channels *c);

/* Does some of what can be done: 0; -EAGAIN: nothing can; -errno. */
int channels_step(struct channels *c, struct vfmig_error *err);
/* The connection that carries the stream, once it is known: its WIRE_MAGIC has been read. Owned by channels. */
struct vfmig_link *channels_main(struct channels *c);
/* Devices' packets are left waiting until this: the stream has everything that comes before them. */
void channels_let_state_in(struct channels *c);
/* Is nothing more to be expected of any channel, or (any) of one of them? The message tells of it. */
bool channels_ended(const struct channels *c, bool any, struct vfmig_error *err);
uint64_t channels_bytes(const struct channels *c);
/* What all connections have carried, with compression. */
uint64_t channels_packed_bytes(const struct channels *c);
/* An fd that is readable when channels_step has something to do, or the main connection one of these events. */
int channels_wait(struct channels *c, short main_events);

#endif
