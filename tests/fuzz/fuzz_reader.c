/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_reader.c: any bytes as a stream: framing, VFIO packets, ram, held sections, description.
 *
 * The first byte says how they arrive: from a file, from a socket, in which
 * pieces, and whether bodies are wanted.
 */
#include "../unit/stream/streams.h"

#define FROM_FILE 0x01
#define TWO_WAY 0x02
#define SKIP 0x04
#define DRY 0x08

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vfmig_error err = { 0 };
	struct memory_link in;

	if (size == 0)
		return 0;
	if (data[0] & FROM_FILE)
		memory_init_file(&in, data + 1, size - 1);
	else
		memory_init_from(&in, data + 1, size - 1);
	in.link.two_way = data[0] & TWO_WAY;
	in.dry = data[0] & DRY;
	in.chunk = (data[0] >> 4) * 7u;
	int rc = stream_walk(&in.link, data[0] & SKIP ? WALK_SKIP : WALK_FEED, NULL, 0, NULL, &err);
	memory_clear(&in);
	/* A stranger's bytes are never anybody else's fault, and every refusal says where. */
	if (rc != 0 && (rc != -EBADMSG || strncmp(err.message, "offset 0x", 9) != 0))
		abort();
	return 0;
}
