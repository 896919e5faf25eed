/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_zstd.c: any bytes as what comes by a link that may be compressed.
 *
 * The first byte says how they arrive: by a socket, in which pieces, and whether only a frame will do.
 */
#include "../unit/stream/memory_link.h"
#include "link/zstd.h"

#define TWO_WAY 0x01
#define REQUIRED 0x02
#define DRY 0x04
#define OUT_MAX (4u << 20) /* enough of one input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void close_memory(struct vfmig_link *l)
{
	(void)l; /* on the stack */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct link_ops ops = { .kind = "memory", .read = memory_read, .close = close_memory };
	static uint8_t out[10000];
	struct vfmig_link_options opts = { .size = sizeof(opts) };
	struct vfmig_error err = { 0 };
	struct memory_link in;
	struct vfmig_link *l;
	size_t total = 0;
	ssize_t n;

	if (size == 0)
		return 0;
	memory_init_from(&in, data + 1, size - 1);
	in.link.ops = &ops;
	in.link.two_way = data[0] & TWO_WAY;
	in.link.wait_fd = in.link.two_way ? 0 : -1; /* nobody waits for it */
	in.dry = data[0] & DRY;
	in.chunk = (data[0] >> 4) * 7u;
	opts.zstd_level = (data[0] & REQUIRED) != 0;
	if (zstd_link_new(&in.link, VFMIG_LOAD, &opts, &l, &err) < 0)
		abort();
	do {
		n = l->ops->read(l, out, sizeof(out), &err);
		total += n > 0 ? (size_t)n : 0;
	} while ((n > 0 && total < OUT_MAX) || n == -EAGAIN);
	vfmig_link_close(l);
	memory_clear(&in);
	/* A stranger's bytes are never anybody else's fault, and every refusal says where. */
	if (n < 0 && (n != -EBADMSG || (strncmp(err.message, "compressed offset 0x", 20) != 0 &&
					strncmp(err.message, "the other side does not compress", 32) != 0)))
		abort();
	return 0;
}
