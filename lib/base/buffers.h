/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * buffers.h: memory for a device's data: it begins at a page, and all of it is there, in few and large pages where the
 * kernel has them: a page that is first touched while a device is stopped costs downtime (5 us in a virtual machine).
 */
#ifndef VFMIG_BASE_BUFFERS_H
#define VFMIG_BASE_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

/* bytes: whole pages. 0, and the caller's until buffers_free; or -errno. */
int buffers_new(size_t bytes, uint8_t **ret);
void buffers_free(uint8_t *memory, size_t bytes); /* NULL is fine */

#endif
