/* SPDX-License-Identifier: BSD-3-Clause */
/* user_dma.h: the memory that a vfio-user server may reach, and serving its DMA_READ and DMA_WRITE. */
#ifndef VFMIG_DEVICE_USER_DMA_H
#define VFMIG_DEVICE_USER_DMA_H

#include "device/user_conn.h"

/* Any thread may call any of these at any time. */
struct user_dma;

int user_dma_new(struct user_dma **ret, struct vfmig_error *err);
void user_dma_free(struct user_dma *d); /* NULL is fine */

/* Maps [offset, offset + length) of fd (borrowed) for serving; fd -1: it is mapped already, `offset` is its address.
 * flags: VFMIG_DMA_*. */
int user_dma_add(struct user_dma *d, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		 struct vfmig_error *err);
/* Is there exactly this mapping? */
bool user_dma_has(struct user_dma *d, uint64_t iova, uint64_t length);
void user_dma_remove(struct user_dma *d, uint64_t iova, uint64_t length);

user_serve_fn user_dma_serve; /* opaque: the struct user_dma */

#endif
