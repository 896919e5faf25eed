/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_caps.h: the chain of capabilities behind the structs that the info ioctls fill in. */
#ifndef VFMIG_SHIM_SHIM_CAPS_H
#define VFMIG_SHIM_SHIM_CAPS_H

#include <stdint.h>
#include <string.h>

#include "uapi/vfio_compat.h"

/* `size` bytes of capabilities that will lie at `base` of the struct. The
 * maker has counted that they fit into bytes. */
struct shim_caps {
	uint8_t *bytes;
	uint32_t base, size, last;
};

/* cap begins with its header, whose id is set; its size is a multiple of 8. */
static inline void shim_caps_add(struct shim_caps *c, const void *cap, uint32_t size)
{
	memcpy(c->bytes + c->size, cap, size);
	struct vfio_info_cap_header *h = (void *)(c->bytes + c->size);
	h->version = 1;
	h->next = 0;
	if (c->size) {
		uint32_t next = c->base + c->size;
		memcpy(c->bytes + c->last + offsetof(struct vfio_info_cap_header, next), &next, sizeof(next));
	}
	c->last = c->size;
	c->size += size;
}

#endif
