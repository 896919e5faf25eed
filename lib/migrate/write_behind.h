/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * write_behind.h: the pieces of devices' states, written by a thread of their own while the next ones arrive.
 *
 * The counterpart of read_ahead.h: all devices of a load share a few page-aligned buffers of
 * WRITE_BEHIND_BYTES, into which the link is read. Between the first put and write_behind_flush nobody else may call
 * the device's protocol. A device that is written faster than a thread wakes up is written by the caller. A failure is
 * told by the next call, whichever that is, and nothing is written after it.
 */
#ifndef VFMIG_MIGRATE_WRITE_BEHIND_H
#define VFMIG_MIGRATE_WRITE_BEHIND_H

#include "device/protocol.h"

#define WRITE_BEHIND_BYTES (256u << 10) /* for the reasons of READ_AHEAD_BYTES */

struct write_behind;

int write_behind_new(struct write_behind **ret, struct vfmig_error *err);
void write_behind_free(struct write_behind *b);

/* Room for the next bytes: at least 1, *ret_length of them. Waits for the device as a write does. */
void *write_behind_place(struct write_behind *b, size_t *ret_length);
/* A chunk begins: its bytes follow. */
int write_behind_chunk(struct write_behind *b, struct protocol *p, uint64_t size, struct vfmig_error *err);
/* That many bytes were put where write_behind_place said. */
int write_behind_put(struct write_behind *b, size_t length, struct vfmig_error *err);
/* The chunk has all of its bytes. */
int write_behind_chunk_end(struct write_behind *b, struct vfmig_error *err);
/* Waits until all is written. */
int write_behind_flush(struct write_behind *b, struct vfmig_error *err);
/* Forgets what is not written yet, and any failure; nothing is being written when it returns. NULL is fine. */
void write_behind_drop(struct write_behind *b);

#endif
