/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * protocol.h: how a device's state is moved, on top of any access.
 *
 * Two implementations: region_v1.c (migration region) and feature_v2.c
 * (VFIO_DEVICE_FEATURE). A chunk is what goes into one DATA_STATE packet: on
 * v1 one transaction, which keeps its size on load; on v2 one read.
 *
 * Saving a chunk:   read, until a piece says that it is the chunk's last. The chunk is
 *                   acknowledged by the next `pending` or read behind that: until
 *                   then bytes that were not copied stay where they are.
 * Loading a chunk:  write_begin (its size), write_piece until all is given,
 *                   write_end (the device consumes it).
 */
#ifndef VFMIG_DEVICE_PROTOCOL_H
#define VFMIG_DEVICE_PROTOCOL_H

#include "device/access.h"

#define PROTOCOL_PIECE_MAX (1u << 20) /* a piece is never larger */

struct protocol; /* embedded first in every implementation */

struct protocol_piece {
	uint64_t chunk;	  /* of so many bytes, begins with this piece; 0: it goes on */
	const void *data; /* where it stays as it is until the next call */
	size_t length;	  /* 0: nothing now (pre-copy), or the end of the state (stop-and-copy) */
	bool last;	  /* of its chunk */
};

struct protocol_ops {
	const char *name; /* "v1" */

	/* Asks the device. */
	int (*get_state)(struct protocol *p, enum vfmig_state *ret, struct vfmig_error *err);
	/* One request, after a look at the state: a device that is not in p->state any more was reset or changed by
	 * somebody else, and is left as it is (-ESTALE). After a failure p->state is what the device says it is in:
	 * the state before, ERROR, one in between, or with -ESTALE any. */
	int (*set_state)(struct protocol *p, enum vfmig_state state, struct vfmig_error *err);
	/* What would keep a stopped device waiting and can be had before: the pages of its mappings. NULL: nothing. */
	void (*prepare)(struct protocol *p, bool to_write);
	/* exact false: may be a remembered or estimated number. */
	int (*pending)(struct protocol *p, bool exact, struct vfmig_pending *ret, struct vfmig_error *err);

	/* The next bytes: mapped ones where they lie, others in `buffer` (page aligned: an unaligned copy to user costs
	 * three times as much), at most `capacity` of them. */
	int (*read)(struct protocol *p, void *buffer, size_t capacity, struct protocol_piece *ret,
		    struct vfmig_error *err);

	int (*write_begin)(struct protocol *p, uint64_t size, struct vfmig_error *err);
	/* Where the chunk's next bytes may be put beforehand, and at most how many: a write_piece of that place then
	 * copies nothing. NULL: nowhere. */
	void *(*write_place)(struct protocol *p, size_t *ret_length);
	int (*write_piece)(struct protocol *p, const void *data, size_t length, struct vfmig_error *err);
	int (*write_end)(struct protocol *p, struct vfmig_error *err);

	/* Leaves the device's state as it is; does not close the access. */
	void (*free)(struct protocol *p);
};

struct protocol {
	const struct protocol_ops *ops;
	struct access *access;
	enum vfmig_state state; /* the last one the device confirmed */
	bool has_precopy;
	bool has_p2p;
	bool mapped;	   /* a piece may lie where it is mapped */
	bool empty_packet; /* QEMU puts "nothing now" of this protocol into a DATA_STATE packet of size 0 */
};

/* -ESTALE: the device was in `expected`, and p->state, what it now says, is another one. ERROR is not meant by this: a
 * device enters that by itself. */
int protocol_check_state(const struct protocol *p, enum vfmig_state expected, struct vfmig_error *err);

/* -EOPNOTSUPP: the device does not have VFIO_DEVICE_FEATURE_MIGRATION. */
int feature_v2_open(struct access *a, struct protocol **ret, struct vfmig_error *err);
/* -EOPNOTSUPP: the device has no migration region. */
int region_v1_open(struct access *a, bool split_transactions, struct protocol **ret, struct vfmig_error *err);
/* The region itself; the same, and on success the caller clears it. */
int region_v1_find(struct access *a, struct access_region_info *ret, struct vfmig_error *err);

#endif
