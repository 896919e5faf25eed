/* SPDX-License-Identifier: BSD-3-Clause */
/* opaque.h: state that the device does not look into: the transactions as they were loaded. */
#ifndef VFMIG_SIM_OPAQUE_H
#define VFMIG_SIM_OPAQUE_H

#include "base/error.h"

struct opaque_transaction {
	uint8_t *data;
	size_t size;
};

struct opaque {
	struct opaque_transaction *list;
	size_t count;
	uint64_t bytes;
	/* saving: the next one to give, and the bytes from there on */
	size_t next;
	uint64_t left;
};

void opaque_clear(struct opaque *o);
int opaque_append(struct opaque *o, const uint8_t *data, size_t size, struct vfmig_error *err);
void opaque_rewind(struct opaque *o);
/* The next transaction, or NULL. */
const struct opaque_transaction *opaque_take(struct opaque *o);
/* Writes the bytes to path, and the sizes, one a line, to path.sizes. */
int opaque_dump(const struct opaque *o, const char *path, struct vfmig_error *err);

#endif
