/* SPDX-License-Identifier: BSD-3-Clause */
/* zstd.h: compression as a link around another one. */
#ifndef VFMIG_LINK_ZSTD_H
#define VFMIG_LINK_ZSTD_H

#include "link/link.h"

/* 0, or -EINVAL: what opts ask for cannot be done in this direction. Connects to nobody. */
int zstd_check(const struct vfmig_link_options *opts, struct vfmig_error *err);

/*
 * What the options ask of `under` (takes, also on failure). Saving: a link that compresses, or under itself.
 * Loading: a link that finds out whether the other side compresses, or under itself where that is known already.
 */
int zstd_link_new(struct vfmig_link *under, enum vfmig_direction direction, const struct vfmig_link_options *opts,
		  struct vfmig_link **ret, struct vfmig_error *err);

#endif
