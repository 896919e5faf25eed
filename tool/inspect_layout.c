/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_layout.c: what a file that does not begin with a stream is instead, and where one begins in it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "inspect.h"

#define LOOK (1u << 20) /* QEMU's file:PATH,offset=N leaves room for what a manager puts before the stream */

static const char magic[8] = { 'Q', 'E', 'V', 'M', 0, 0, 0, WIRE_VERSION };

/* What else such files begin with, and the command that makes a stream of it; zstd's the link knows by itself. */
static const struct {
	const char *begin;
	size_t length;
	const char *name, *command;
} packed[] = {
	{ "\x1f\x8b", 2, "gzip", "gzip -dc" },
	{ "\xfd"
	  "7zXZ",
	  5, "xz", "xz -dc" },
	{ "BZh", 3, "bzip2", "bzip2 -dc" },
	{ "\x89LZO", 4, "lzop", "lzop -dc" },
	{ "\x04\x22\x4d\x18", 4, "lz4", "lz4 -dc" },
};

/* The first stream behind `begin`; 0: there is none within LOOK. */
static uint64_t find_stream(const struct vfmig_link *link, uint64_t begin)
{
	uint8_t *bytes = malloc(LOOK), *at = NULL;
	ssize_t n = bytes ? pread(link->file_fd, bytes, LOOK, (off_t)begin) : 0;

	if (n > 0)
		at = memmem(bytes, (size_t)n, magic, sizeof(magic));
	uint64_t found = at ? begin + (uint64_t)(at - bytes) : 0;
	free(bytes);
	return found;
}

int inspect_layout(const struct vfmig_link *link, uint64_t begin, struct cursor first, struct vfmig_error *err)
{
	uint64_t at = link->seekable ? find_stream(link, begin) : 0;

	for (size_t i = 0; i < sizeof(packed) / sizeof(packed[0]); i++) {
		if (first.length >= packed[i].length && !memcmp(first.data, packed[i].begin, packed[i].length))
			return error_set(err, -EBADMSG,
					 "offset 0x%" PRIx64 ": not a migration stream, but something packed by %s: "
					 "inspect exec:'%s FILE'",
					 begin, packed[i].name, packed[i].command);
	}
	if (at > begin)
		return error_set(err, -EBADMSG,
				 "offset 0x%" PRIx64 ": not a migration stream, but one begins at 0x%" PRIx64
				 ": --offset %" PRIu64,
				 begin, at, at);
	return -EBADMSG;
}
