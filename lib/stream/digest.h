/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * digest.h: an XXH3-128 over pieces in their order, large ones in a thread of its own.
 *
 * digest_start gives a large piece to the thread, so that its owner can send it or write it to a device
 * meanwhile; the piece stays as it is until digest_wait. Whatever is asked for next waits by
 * itself, so the order is always that of the calls.
 */
#ifndef VFMIG_STREAM_DIGEST_H
#define VFMIG_STREAM_DIGEST_H

#include <stddef.h>

#include "stream/description.h"

struct digest;

/* NULL: no memory. */
struct digest *digest_new(void);
void digest_free(struct digest *d); /* NULL is fine */

void digest_update(struct digest *d, const void *data, size_t length);
void digest_start(struct digest *d, const void *data, size_t length);
void digest_wait(struct digest *d);
void digest_get(struct digest *d, char hex[DIGEST_HEX]);

#endif
