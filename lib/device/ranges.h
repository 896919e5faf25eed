/* SPDX-License-Identifier: BSD-3-Clause */
/* ranges.h: a list of ranges for a log of written pages that takes only so many. */
#ifndef VFMIG_DEVICE_RANGES_H
#define VFMIG_DEVICE_RANGES_H

#include "device/access.h"

/*
 * Widens sorted ranges to whole pages of page_size, joins those that touch, and as long as there are more than `most`
 * (1 at least) those that lie closest together. *count: how many they are, and then how many are left. -EINVAL: one is
 * empty, before its neighbour or over the end of the address space; the ranges are then as they were. -ENOMEM.
 */
int ranges_merge(struct access_range *ranges, size_t *count, uint64_t page_size, size_t most);

#endif
