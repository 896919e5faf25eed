/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * outlets.h: the saving side of a migration with several connections: devices' packets onto the channels.
 *
 * Each channel sends one packet at a time, from where its bytes lie; the
 * next packet goes to any that has nothing to send. Nothing blocks after
 * outlets_open.
 */
#ifndef VFMIG_MIGRATE_OUTLETS_H
#define VFMIG_MIGRATE_OUTLETS_H

#include "link/link.h"
#include "migrate/read_ahead.h"
#include "stream/multifd.h"

struct outlets;

/* Connects `count` times more to where `link` (borrowed) is connected to; may block as vfmig_link_open does. */
int outlets_open(struct vfmig_link *link, unsigned int count, const uint8_t uuid[WIRE_MULTIFD_UUID],
		 struct read_ahead *ahead, struct outlets **ret, struct vfmig_error *err);
void outlets_free(struct outlets *o);

/* Sends what the channels take. 0: a packet may be put (`all`: nothing is left to send); -EAGAIN; -errno. */
int outlets_pump(struct outlets *o, bool all, struct vfmig_error *err);
/*
 * After outlets_pump gave 0: one packet, whose bytes are `piece`, released to `ahead` when they are out; bytes that
 * are not from there stay as they are until the pump of all.
 */
void outlets_put(struct outlets *o, const struct multifd_packet *packet, const struct protocol_piece *piece);

uint64_t outlets_bytes(const struct outlets *o);
/* Of these, what the links have taken. */
uint64_t outlets_sent(const struct outlets *o);
/* What they have become, with compression. */
uint64_t outlets_packed_bytes(const struct outlets *o);
/* An fd that is readable when outlets_pump has something to do, or the link one of these events. */
int outlets_wait(struct outlets *o, short link_events);

#endif
