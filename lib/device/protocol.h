/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * protocol.h: how a device's state is moved, on top of any access.
 *
 * Two implementations: region_v1.c (migration region) and feature_v2.c
 * (VFIO_DEVICE_FEATURE). A chunk is what goes into one DATA_STATE packet: on
 * v1 one transaction, which keeps its size on load; on v2 one read.
 *
 * Saving a chunk:   read_begin (its size), read_piece until it gives 0.
 *                   The chunk is acknowledged by the next `pending` or
 *                   read_begin: until then its bytes stay where they are.
 * Loading a chunk:  write_begin (its size), write_piece until all is given,
 *                   write_end (the device consumes it).
 */
#ifndef VFMIG_DEVICE_PROTOCOL_H
#define VFMIG_DEVICE_PROTOCOL_H

#include "device/access.h"

#define PROTOCOL_PIECE_MAX (1u << 20) /* a piece is never larger */

struct protocol; /* embedded first in every implementation */

struct protocol_ops {
	const char *name; /* "v1" */

	/* Asks the device. */
	int (*get_state)(struct protocol *p, enum vfmig_state *ret, struct vfmig_error *err);
	/* One request. After a failure p->state is what the device says it is in:
	 * the state before, ERROR, or one in between. */
	int (*set_state)(struct protocol *p, enum vfmig_state state, struct vfmig_error *err);
	/* exact false: may be a remembered or estimated number. */
	int (*pending)(struct protocol *p, bool exact, struct vfmig_pending *ret, struct vfmig_error *err);

	/* 0 bytes: nothing now (pre-copy), or the end of the state (stop-and-copy). */
	int (*read_begin)(struct protocol *p, uint64_t *ret_size, struct vfmig_error *err);
	/* The next bytes: a place that stays as it is until the next call. */
	int (*read_piece)(struct protocol *p, const void **ret_data, size_t *ret_length, struct vfmig_error *err);

	int (*write_begin)(struct protocol *p, uint64_t size, struct vfmig_error *err);
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
	bool empty_packet; /* QEMU puts "nothing now" of this protocol into a DATA_STATE packet of size 0 */
};

/* -EOPNOTSUPP: the device does not have VFIO_DEVICE_FEATURE_MIGRATION. */
int feature_v2_open(struct access *a, struct protocol **ret, struct vfmig_error *err);
/* -EOPNOTSUPP: the device has no migration region. */
int region_v1_open(struct access *a, bool split_transactions, struct protocol **ret, struct vfmig_error *err);

#endif
