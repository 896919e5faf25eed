/* SPDX-License-Identifier: BSD-3-Clause */
/* opaque.c: keeps transactions, byte by byte and with their sizes. */
#include "sim/opaque.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void opaque_clear(struct opaque *o)
{
	for (size_t i = 0; i < o->count; i++)
		free(o->list[i].data);
	free(o->list);
	memset(o, 0, sizeof(*o));
}

int opaque_append(struct opaque *o, const uint8_t *data, size_t size, struct vfmig_error *err)
{
	if ((o->count & (o->count - 1)) == 0) { /* full at each power of two */
		struct opaque_transaction *list = reallocarray(o->list, o->count ? o->count * 2 : 1, sizeof(*list));
		if (!list)
			return error_errno(err, -ENOMEM, "list of transactions");
		o->list = list;
	}
	uint8_t *copy = malloc(size);
	if (!copy)
		return error_errno(err, -ENOMEM, "transaction of %zu bytes", size);
	memcpy(copy, data, size);
	o->list[o->count++] = (struct opaque_transaction){ copy, size };
	o->bytes += size;
	return 0;
}

void opaque_rewind(struct opaque *o)
{
	o->next = 0;
	o->left = o->bytes;
}

const struct opaque_transaction *opaque_take(struct opaque *o)
{
	if (o->next == o->count)
		return NULL;
	const struct opaque_transaction *t = &o->list[o->next++];
	o->left -= t->size;
	return t;
}

static int write_bytes(const struct opaque *o, FILE *f)
{
	for (size_t i = 0; i < o->count; i++)
		if (fwrite(o->list[i].data, 1, o->list[i].size, f) != o->list[i].size)
			return -EIO;
	return 0;
}

static int write_sizes(const struct opaque *o, FILE *f)
{
	for (size_t i = 0; i < o->count; i++)
		if (fprintf(f, "%zu\n", o->list[i].size) < 0)
			return -EIO;
	return 0;
}

static int write_file(const struct opaque *o, const char *path, int (*fn)(const struct opaque *o, FILE *f),
		      struct vfmig_error *err)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return error_errno(err, -errno, "%s", path);
	int r = fn(o, f);
	if (fclose(f) && r == 0)
		r = -errno;
	return r < 0 ? error_errno(err, r, "%s", path) : 0;
}

int opaque_dump(const struct opaque *o, const char *path, struct vfmig_error *err)
{
	char sizes[PATH_MAX + 8];
	int r = write_file(o, path, write_bytes, err);

	if (r < 0)
		return r;
	snprintf(sizes, sizeof(sizes), "%s.sizes", path);
	return write_file(o, sizes, write_sizes, err);
}
