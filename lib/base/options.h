/* SPDX-License-Identifier: BSD-3-Clause */
/* options.h: reading an option struct that may be older or newer than this library. */
#ifndef VFMIG_BASE_OPTIONS_H
#define VFMIG_BASE_OPTIONS_H

#include "base/error.h"

/*
 * Copies the caller's struct (its first member is its size; NULL: all
 * defaults) into `into`, which is `size` bytes. -EINVAL for a size of 0 or a
 * non-zero tail that this library does not know.
 */
int options_read(void *into, size_t size, const void *from, const char *what, struct vfmig_error *err);

#endif
