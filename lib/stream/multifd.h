/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * multifd.h: what stands on the further connections ("channels") of a migration, as bytes and back.
 *
 * A channel is MULTIFD init, then packets to its end. A packet is memory (or a
 * mark between rounds of it), which vfmig only gets past, or a piece of a
 * device's state. Nothing here holds data or allocates.
 */
#ifndef VFMIG_STREAM_MULTIFD_H
#define VFMIG_STREAM_MULTIFD_H

#include "base/error.h"
#include "stream/stream_faults.h"
#include "stream/wire.h"

#define MULTIFD_HEAD_MAX WIRE_MULTIFD_RAM_HEADER
/* A device's packet before its data. */
#define MULTIFD_STATE_HEAD (WIRE_MULTIFD_STATE_HEADER + WIRE_MULTIFD_PACKET_HEADER)

struct multifd_init {
	uint8_t uuid[WIRE_MULTIFD_UUID];
	uint8_t channel;
	enum stream_fault fault; /* on -EBADMSG, and then nothing else is set */
};

void multifd_init_put(const struct multifd_init *init, uint8_t out[WIRE_MULTIFD_INIT]);
/* -EBADMSG: not the beginning of a channel. */
int multifd_init_get(const uint8_t in[WIRE_MULTIFD_INIT], struct multifd_init *ret, struct vfmig_error *err);

struct multifd_packet {
	enum stream_fault fault;  /* on -EBADMSG, and then nothing else is set */
	bool state;		  /* of a device; else it is memory */
	char id[WIRE_MULTIFD_ID]; /* of the device; memory: of the block */
	uint32_t instance_id;
	uint32_t index; /* counts the device's packets */
	bool config;    /* its config record: the last one */
	uint64_t length; /* of what follows the head */
	bool sync;	 /* memory: the end of a round */
	uint64_t memory_pages, zero_pages; /* memory: pages that it is about, and those of them that are all zero */
};

/* length: of data, at most MULTIFD_DATA_MAX. */
#define MULTIFD_DATA_MAX (UINT32_MAX - WIRE_MULTIFD_PACKET_HEADER)
void multifd_packet_put(const struct multifd_packet *packet, uint8_t out[MULTIFD_STATE_HEAD]);
/*
 * Looks at a packet's first bytes. 1: *ret is set, and the head has *ret_head bytes; 0: at least *ret_head are
 * needed (at most MULTIFD_HEAD_MAX); -EBADMSG.
 */
int multifd_packet_get(const uint8_t *in, size_t have, size_t *ret_head, struct multifd_packet *ret,
		       struct vfmig_error *err);

#endif
