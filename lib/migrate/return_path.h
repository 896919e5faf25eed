/* SPDX-License-Identifier: BSD-3-Clause */
/* return_path.h: what the loading side says to the saving one on the same link: be16 type, be16 length, payload. */
#ifndef VFMIG_MIGRATE_RETURN_PATH_H
#define VFMIG_MIGRATE_RETURN_PATH_H

#include "link/link.h"

struct return_path {
	uint8_t in[8]; /* the largest message that is understood: four and be32 */
	size_t have;
	uint8_t out[256];
	size_t queued;
};

/* 1: a message with its value (0 for one without); 0: the other side closed; -EAGAIN; -errno. */
int return_path_read(struct return_path *rp, struct vfmig_link *link, uint16_t *ret_type, uint32_t *ret_value,
		     struct vfmig_error *err);

/* -ENOBUFS: the other side asks faster than it reads. */
int return_path_put(struct return_path *rp, uint16_t type, uint32_t value, struct vfmig_error *err);
/* 0: all is out; -EAGAIN; -errno. */
int return_path_flush(struct return_path *rp, struct vfmig_link *link, struct vfmig_error *err);

#endif
