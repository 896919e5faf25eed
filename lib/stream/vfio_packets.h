/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio_packets.h: the body of a VFIO section, one event at a time.
 *
 * The one parser of it, used by the load handlers and by inspect. It holds no
 * data: events point into what the caller gave. Each legal body is
 * {SETUP|DATA|CONFIG}... END_OF_STATE, or ends in INIT_DATA_SENT or CONFIG_READY.
 */
#ifndef VFMIG_STREAM_VFIO_PACKETS_H
#define VFMIG_STREAM_VFIO_PACKETS_H

#include "base/error.h"
#include "stream/stream_faults.h"
#include "stream/wire.h"

enum vfio_event_kind {
	VFIO_EVENT_SETUP,
	VFIO_EVENT_DATA_BEGIN, /* size: of the packet; 0 has neither DATA nor DATA_END */
	VFIO_EVENT_DATA,       /* data, length: the next bytes of it, at least 1 */
	VFIO_EVENT_DATA_END, /* uses no bytes: ask again at once, not for more bytes */
	/* data, length: the whole config record, without the flag and without the
	 * subsections behind it; size: with those. Empty for what is not a PCI device. */
	VFIO_EVENT_CONFIG,
	/* Each of these: the body is complete. */
	VFIO_EVENT_INIT_DATA_SENT,
	VFIO_EVENT_CONFIG_READY, /* in FULL: the record, which came by a channel, may be loaded now */
	VFIO_EVENT_END,
};

static inline bool vfio_event_ends_body(enum vfio_event_kind kind)
{
	return kind >= VFIO_EVENT_INIT_DATA_SENT;
}

struct vfio_event {
	enum vfio_event_kind kind;
	uint64_t offset; /* of its flag in the stream; DATA: of data[0] */
	uint64_t size;
	const uint8_t *data;
	size_t length;
};

struct vfio_parser {
	/* Bytes of the device's config record (without flag and subsections), when
	 * the caller knows the device; 0: found by looking for its end. */
	size_t config_length;
	enum stream_fault fault; /* why it gave -EBADMSG */
	/* private */
	uint64_t left; /* of the DATA packet being given */
	bool in_data;
};

/*
 * Looks at data[0..length), which lies at `offset` of the stream. 1: *ret is
 * the next event and *ret_used bytes belong to it; 0: more bytes are needed (nothing
 * used); -EBADMSG and others: not a VFIO body, the message begins with "offset 0x".
 */
int vfio_parser_next(struct vfio_parser *p, uint64_t offset, const uint8_t *data, size_t length, size_t *ret_used,
		     struct vfio_event *ret, struct vfmig_error *err);

/*
 * Bytes of a config record, from the record's own config space: 4 + 256 or
 * 4096 (`space`) + 16 + what its MSI-X capability needs. `config` is `space` bytes.
 */
size_t vfio_config_record_length(const uint8_t *config, size_t space);

#endif
