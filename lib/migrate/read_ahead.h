/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * read_ahead.h: the pieces of devices' states, read by a thread of their own while earlier ones are being sent.
 *
 * All devices of a save share a few page-aligned buffers of READ_AHEAD_BYTES. A stopped device whose
 * bytes have to be copied (v2, or a data section that is not mapped) is read ahead into all of them; one in
 * pre-copy, or whose bytes are sent from where they are mapped, is read when it is asked for.
 *
 * While a device is read ahead nobody else may call its protocol: that ends by
 * itself with the end of its state or an error, or by read_ahead_stop. What was read and not taken is then gone, as
 * with any save that is given up.
 */
#ifndef VFMIG_MIGRATE_READ_AHEAD_H
#define VFMIG_MIGRATE_READ_AHEAD_H

#include "device/protocol.h"

/* Measured (doc/speed.md): large enough that a system call's price does not count, small enough that what
 * was read is in the cache still when it is sent. */
#define READ_AHEAD_BYTES (256u << 10)

struct read_ahead;

/* held: how many pieces may be kept unreleased at most. Starts the thread. */
int read_ahead_new(unsigned int held, struct read_ahead **ret, struct vfmig_error *err);
void read_ahead_free(struct read_ahead *a);

/*
 * The next piece of p's state, as protocol_ops.read; where it is stays as it is until the release. A piece of length 0
 * is not to be released. Waits for the device as a read does.
 */
int read_ahead_next(struct read_ahead *a, struct protocol *p, struct protocol_piece *ret, struct vfmig_error *err);
void read_ahead_release(struct read_ahead *a, const struct protocol_piece *piece);
/* Nothing is read any more when it returns. NULL is fine. */
void read_ahead_stop(struct read_ahead *a);

#endif
