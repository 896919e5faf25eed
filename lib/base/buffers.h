/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * buffers.h: memory for a device's data: it begins at a page, and all of it is there, in few and large pages where the
 * kernel has them: a page that is first touched while a device is stopped costs downtime (5 us in a virtual machine).
 */
#ifndef VFMIG_BASE_BUFFERS_H
#define VFMIG_BASE_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

/* 0, and the caller's to free(); or -errno. */
int buffers_new(size_t bytes, uint8_t **ret);

#endif
