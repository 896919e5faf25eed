/* SPDX-License-Identifier: BSD-3-Clause */
/* options.c: option structs grow; this is where old callers and new ones are told apart. */
#include "base/options.h"

#include <string.h>

int options_read(void *into, size_t size, const void *from, const char *what, struct vfmig_error *err)
{
	memset(into, 0, size);
	memcpy(into, &size, sizeof(size));
	if (!from)
		return 0;
	size_t theirs;
	memcpy(&theirs, from, sizeof(theirs));
	if (theirs < sizeof(theirs))
		return error_set(err, -EINVAL, "%s: size is %zu: set it to sizeof the struct", what, theirs);
	const uint8_t *tail = from;
	for (size_t i = size; i < theirs; i++)
		if (tail[i])
			return error_set(err, -EINVAL,
					 "%s: an option at byte %zu is set that this library (%s) does not know", what,
					 i, vfmig_version());
	memcpy(into, from, theirs < size ? theirs : size);
	memcpy(into, &size, sizeof(size));
	return 0;
}
