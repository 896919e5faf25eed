/* SPDX-License-Identifier: BSD-3-Clause */
/* return_path.c: SHUT, PONG and SWITCHOVER_ACK, as QEMU writes and reads them. */
#include "migrate/return_path.h"

#include <string.h>

#include "base/bytes.h"
#include "stream/wire.h"

#define HEADER_BYTES 4u
#define TLS_ALERT 0x1503u /* how a TLS server's answer to plain text begins */

static int payload_of(uint16_t type)
{
	switch (type) {
	case WIRE_RETURN_SHUT:
	case WIRE_RETURN_PONG:
		return 4;
	case WIRE_RETURN_SWITCHOVER_ACK:
		return 0;
	default:
		return -1;
	}
}

int return_path_read(struct return_path *rp, struct vfmig_link *link, uint16_t *ret_type, uint32_t *ret_value,
		     struct vfmig_error *err)
{
	for (;;) {
		size_t want = HEADER_BYTES;
		if (rp->have >= HEADER_BYTES) {
			uint16_t type = get_be16(rp->in), length = get_be16(rp->in + 2);
			int payload = payload_of(type);
			if (type == TLS_ALERT)
				return error_set(err, -ECONNABORTED,
						 "%s: the other side refused plain text by a TLS alert: give "
						 "credentials (--tls-creds DIR)",
						 link->name);
			if (payload < 0 || length != payload)
				return error_set(err, -EPROTO,
						 "return path: message of type %u with %u bytes, expected SHUT, PONG "
						 "or SWITCHOVER_ACK",
						 type, length);
			want += length;
		}
		if (rp->have == want) {
			*ret_type = get_be16(rp->in);
			*ret_value = want > HEADER_BYTES ? get_be32(rp->in + HEADER_BYTES) : 0;
			rp->have = 0;
			return 1;
		}
		ssize_t n = link_read(link, rp->in + rp->have, want - rp->have, err);
		if (n == 0 && rp->have > 0)
			return error_set(err, -EPROTO, "return path: closed in the middle of a message");
		if (n <= 0)
			return (int)n;
		rp->have += (size_t)n;
	}
}

int return_path_put(struct return_path *rp, uint16_t type, uint32_t value, struct vfmig_error *err)
{
	size_t payload = (size_t)payload_of(type);
	/* The last word, SHUT, always has room. */
	size_t reserve = type == WIRE_RETURN_SHUT ? 0 : HEADER_BYTES + 4;
	if (rp->queued + HEADER_BYTES + payload + reserve > sizeof(rp->out))
		return error_set(err, -ENOBUFS,
				 "return path: the other side sends pings and does not read the answers");
	uint8_t *at = rp->out + rp->queued;
	put_be16(at, type);
	put_be16(at + 2, (uint16_t)payload);
	if (payload)
		put_be32(at + HEADER_BYTES, value);
	rp->queued += HEADER_BYTES + payload;
	return 0;
}

int return_path_flush(struct return_path *rp, struct vfmig_link *link, struct vfmig_error *err)
{
	while (rp->queued > 0) {
		struct iovec iov = { rp->out, rp->queued };
		ssize_t n = link_writev(link, &iov, 1, err);
		if (n < 0)
			return (int)n;
		rp->queued -= (size_t)n;
		memmove(rp->out, rp->out + n, rp->queued);
	}
	return 0;
}
