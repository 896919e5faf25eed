/* SPDX-License-Identifier: BSD-3-Clause */
/* user_dma.h: the memory that a vfio-user server may reach: serves its DMA by messages and marks what that writes. */
#ifndef VFMIG_DEVICE_USER_DMA_H
#define VFMIG_DEVICE_USER_DMA_H

#include "device/user_conn.h"

/* Any thread may call any of these at any time. */
struct user_dma;

int user_dma_new(struct user_dma **ret, struct vfmig_error *err);
void user_dma_free(struct user_dma *d); /* NULL is fine */

/* Maps [offset, offset + length) of fd (borrowed) for serving; fd -1: it is mapped already, `offset` is its address.
 * flags: VFMIG_DMA_*. shared: the server gets the fd and writes there without a message. */
int user_dma_add(struct user_dma *d, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		 bool shared, struct vfmig_error *err);
/* Is there exactly this mapping? */
bool user_dma_has(struct user_dma *d, uint64_t iova, uint64_t length);
/* bitmap not NULL: with a last user_dma_report of what it held. */
void user_dma_remove(struct user_dma *d, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap);
/* Is any memory in the range shared? */
bool user_dma_shared(struct user_dma *d, uint64_t iova, uint64_t length);

/* From now on the pages that a DMA_WRITE writes are marked, before it is answered; off: no more, and the marks go. */
int user_dma_mark(struct user_dma *d, bool on, struct vfmig_error *err);
/* Sets the bits of the marked pages in the range, and takes the marks away: as access_dirty_report does. */
void user_dma_report(struct user_dma *d, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap);

user_serve_fn user_dma_serve; /* opaque: the struct user_dma */

#endif
