/* SPDX-License-Identifier: BSD-3-Clause */
/* multifd.c: the packets of a migration's further connections; multifd.h tells what they are. */
#include "stream/multifd.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

#define UUID_AT 8u
#define CHANNEL_AT (UUID_AT + WIRE_MULTIFD_UUID)
#define FLAGS_AT 8u
#define PREFIX 12u /* magic, version, flags */
#define KNOWN_FLAGS (WIRE_MULTIFD_SYNC | WIRE_MULTIFD_COMPRESSION | WIRE_MULTIFD_DEVICE_STATE)

static int check_begin(const uint8_t *in, const char *what, enum stream_fault *ret_fault, struct vfmig_error *err)
{
	uint32_t magic = get_be32(in), version = get_be32(in + 4);
	*ret_fault = magic != WIRE_MULTIFD_MAGIC ? FAULT_CHANNEL_MAGIC : FAULT_CHANNEL_VERSION;
	if (magic != WIRE_MULTIFD_MAGIC)
		return error_set(err, -EBADMSG, "0x%08" PRIx32 " where %s was expected (0x%08x)", magic, what,
				 WIRE_MULTIFD_MAGIC);
	if (version != WIRE_MULTIFD_VERSION)
		return error_set(err, -EBADMSG, "%s of version %" PRIu32 ", expected %u", what, version,
				 WIRE_MULTIFD_VERSION);
	return 0;
}

void multifd_init_put(const struct multifd_init *init, uint8_t out[WIRE_MULTIFD_INIT])
{
	memset(out, 0, WIRE_MULTIFD_INIT);
	put_be32(out, WIRE_MULTIFD_MAGIC);
	put_be32(out + 4, WIRE_MULTIFD_VERSION);
	memcpy(out + UUID_AT, init->uuid, WIRE_MULTIFD_UUID);
	out[CHANNEL_AT] = init->channel;
}

int multifd_init_get(const uint8_t in[WIRE_MULTIFD_INIT], struct multifd_init *ret, struct vfmig_error *err)
{
	int r = check_begin(in, "a channel's first packet", &ret->fault, err);
	if (r < 0)
		return r;
	memcpy(ret->uuid, in + UUID_AT, WIRE_MULTIFD_UUID);
	ret->channel = in[CHANNEL_AT];
	return 0;
}

void multifd_packet_put(const struct multifd_packet *packet, uint8_t out[MULTIFD_STATE_HEAD])
{
	uint8_t *after = out + PREFIX + WIRE_MULTIFD_ID, *body = out + WIRE_MULTIFD_STATE_HEADER;
	memset(out, 0, MULTIFD_STATE_HEAD);
	put_be32(out, WIRE_MULTIFD_MAGIC);
	put_be32(out + 4, WIRE_MULTIFD_VERSION);
	put_be32(out + FLAGS_AT, WIRE_MULTIFD_DEVICE_STATE);
	memcpy(out + PREFIX, packet->id, strnlen(packet->id, WIRE_MULTIFD_ID - 1));
	put_be32(after, packet->instance_id);
	put_be32(after + 4, (uint32_t)packet->length + WIRE_MULTIFD_PACKET_HEADER);
	put_be32(body, WIRE_MULTIFD_PACKET_VERSION);
	put_be32(body + 4, packet->index);
	put_be32(body + 8, packet->config ? WIRE_MULTIFD_PACKET_CONFIG : 0);
}

static int get_ram(const uint8_t *in, size_t have, size_t *ret_head, struct multifd_packet *ret)
{
	*ret_head = WIRE_MULTIFD_RAM_HEADER;
	if (have < WIRE_MULTIFD_RAM_HEADER)
		return 0;
	uint32_t normal = get_be32(in + WIRE_MULTIFD_RAM_NORMAL_AT);
	*ret = (struct multifd_packet) {
		/* Without such a page nothing follows: QEMU 7.2 leaves the size of an earlier packet. */
		.length = normal ? get_be32(in + WIRE_MULTIFD_RAM_SIZE_AT) : 0,
		.memory_pages = (uint64_t)normal + get_be32(in + WIRE_MULTIFD_RAM_ZERO_AT),
		.zero_pages = get_be32(in + WIRE_MULTIFD_RAM_ZERO_AT),
		.sync = get_be32(in + FLAGS_AT) & WIRE_MULTIFD_SYNC,
	};
	memcpy(ret->id, in + WIRE_MULTIFD_RAM_BLOCK_AT, WIRE_MULTIFD_ID - 1);
	return 1;
}

static int get_state(const uint8_t *in, size_t have, size_t *ret_head, struct multifd_packet *ret,
		     struct vfmig_error *err)
{
	const uint8_t *id = in + PREFIX, *after = id + WIRE_MULTIFD_ID, *body = in + WIRE_MULTIFD_STATE_HEADER;
	*ret_head = MULTIFD_STATE_HEAD;
	if (have < MULTIFD_STATE_HEAD)
		return 0;
	ret->fault = FAULT_CHANNEL_ID;
	if (!id[0] || !memchr(id, '\0', WIRE_MULTIFD_ID))
		return error_set(err, -EBADMSG, "a device's packet whose id is empty or does not end within %u bytes",
				 WIRE_MULTIFD_ID);
	uint32_t size = get_be32(after + 4), version = get_be32(body), flags = get_be32(body + 8);
	ret->fault = FAULT_CHANNEL_SIZE;
	if (size < WIRE_MULTIFD_PACKET_HEADER)
		return error_set(err, -EBADMSG, "a device's packet of %" PRIu32 " bytes, expected at least %u", size,
				 WIRE_MULTIFD_PACKET_HEADER);
	ret->fault = FAULT_CHANNEL_VERSION;
	if (version != WIRE_MULTIFD_PACKET_VERSION)
		return error_set(err, -EBADMSG, "a device's packet of version %" PRIu32 ", expected %u", version,
				 WIRE_MULTIFD_PACKET_VERSION);
	ret->fault = FAULT_CHANNEL_FLAGS;
	if (flags & ~WIRE_MULTIFD_PACKET_CONFIG)
		return error_set(err, -EBADMSG, "a device's packet with the flags 0x%" PRIx32 ", expected 0 or 0x%x",
				 flags, WIRE_MULTIFD_PACKET_CONFIG);
	*ret = (struct multifd_packet) {
		.state = true,
		.instance_id = get_be32(after),
		.index = get_be32(body + 4),
		.config = flags & WIRE_MULTIFD_PACKET_CONFIG,
		.length = size - WIRE_MULTIFD_PACKET_HEADER,
	};
	memcpy(ret->id, id, WIRE_MULTIFD_ID);
	return 1;
}

int multifd_packet_get(const uint8_t *in, size_t have, size_t *ret_head, struct multifd_packet *ret,
		       struct vfmig_error *err)
{
	*ret_head = PREFIX;
	if (have < PREFIX)
		return 0;
	int r = check_begin(in, "a packet", &ret->fault, err);
	if (r < 0)
		return r;
	uint32_t flags = get_be32(in + FLAGS_AT);
	ret->fault = FAULT_CHANNEL_FLAGS;
	if (flags & ~KNOWN_FLAGS || (flags & WIRE_MULTIFD_DEVICE_STATE && flags != WIRE_MULTIFD_DEVICE_STATE))
		return error_set(err, -EBADMSG, "a packet with the flags 0x%" PRIx32 ", expected memory (0x%x) or 0x%x",
				 flags, WIRE_MULTIFD_SYNC | WIRE_MULTIFD_COMPRESSION, WIRE_MULTIFD_DEVICE_STATE);
	return flags & WIRE_MULTIFD_DEVICE_STATE ? get_state(in, have, ret_head, ret, err) :
						   get_ram(in, have, ret_head, ret);
}
