/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * window.h: a device's packets, which come over several channels in any order, back in the order of their index.
 *
 * A packet is announced by its head, which is checked before there is room for
 * its data; its owner fills it and says when it is whole; packets are taken in
 * order. What is held, by all windows of a pool together, has a limit, and
 * going beyond it is an error: waiting would be for a channel that
 * may itself hold the packet that is missing.
 */
#ifndef VFMIG_MIGRATE_WINDOW_H
#define VFMIG_MIGRATE_WINDOW_H

#include "stream/multifd.h"

/* How far a packet may be ahead of the one that is missing. */
#define WINDOW_PACKETS 4096u

struct packet {
	struct packet *next; /* among the spare ones */
	uint32_t index;
	bool config, whole;
	size_t length, capacity;
	uint8_t *data; /* length bytes, and room for one more */
};

/* All zero but for limit at first. */
struct packet_pool {
	uint64_t limit; /* bytes */
	uint64_t held;	/* by packets that were announced and not released */
	struct packet *spare;
	uint64_t spare_bytes;
};
void packet_pool_clear(struct packet_pool *pool);

/* All zero at first. */
struct window {
	uint32_t next;	/* the index that is taken next */
	uint32_t last;	/* the highest that was announced; with has_config the config record's */
	bool any, has_config, ended;
	struct packet **slots; /* WINDOW_PACKETS, by index modulo that */
};
/* Releases what it holds. */
void window_clear(struct window *w, struct packet_pool *pool);

/* *ret is the window's, to be filled. -EBADMSG: a packet that must not come; -ENOBUFS: beyond the limit. */
int window_announce(struct window *w, struct packet_pool *pool, const struct multifd_packet *head,
		    struct packet **ret, struct vfmig_error *err);
/* The next packet in order, once it is whole: the caller's, to be released. NULL: it is not here yet. */
struct packet *window_take(struct window *w);
void packet_release(struct packet *packet, struct packet_pool *pool);

#endif
