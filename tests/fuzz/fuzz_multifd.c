/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_multifd.c: any bytes by any number of connections: what they are, channels, packets, their order.
 *
 * The first byte says how the bytes arrive. Then each connection: be16 length,
 * bytes. What is taken must come in order, each packet once, within the limit.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "migrate/channels.h"

#define LIMIT (256u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t size;
	size_t chunk; /* most bytes that a read gives */
	bool dry;     /* every other read finds nothing */
};

struct connection {
	struct vfmig_link link;
	const uint8_t *data;
	size_t size, at;
	struct input *input;
	bool was_dry, ends;
};

static struct vfmig_link *next(struct input *in);

static ssize_t give(struct vfmig_link *l, void *into, size_t length, struct vfmig_error *err)
{
	struct connection *c = (struct connection *)l;
	(void)err;
	c->was_dry = c->input->dry && !c->was_dry;
	size_t n = min_u64(min_u64(length, c->input->chunk), c->size - c->at);
	if (c->was_dry || (n == 0 && !c->ends))
		return -EAGAIN;
	memcpy(into, c->data + c->at, n);
	c->at += n;
	return (ssize_t)n;
}

static int another(struct vfmig_link *l, struct vfmig_link **ret, struct vfmig_error *err)
{
	(void)err;
	*ret = next(((struct connection *)l)->input);
	return *ret ? 0 : -EAGAIN;
}

static void done(struct vfmig_link *l)
{
	free(l);
}

static struct vfmig_link *next(struct input *in)
{
	static const struct link_ops ops = { .kind = "fuzz", .read = give, .another = another, .close = done };
	if (in->size < 2)
		return NULL;
	struct connection *c = calloc(1, sizeof(*c));
	if (!c)
		abort();
	uint16_t length = get_be16(in->data);
	c->ends = !(length & 0x8000);
	c->size = min_u64(length & 0x7fffu, in->size - 2);
	c->data = in->data + 2;
	c->input = in;
	c->link = (struct vfmig_link) { .ops = &ops, .name = "fuzz:", .wait_fd = -1, .listen_fd = -1 };
	in->data += 2 + c->size;
	in->size -= 2 + c->size;
	return &c->link;
}

/* Ids that begin with d are of a device, those with s of one that nobody wants. */
static int find(void *opaque, const struct multifd_packet *head, size_t *ret, struct vfmig_error *err)
{
	(void)opaque;
	*ret = 0;
	if (head->id[0] != 'd' && head->id[0] != 's')
		return error_set(err, -EBADMSG, "nobody has this id");
	return head->id[0] == 'd';
}

static int take(void *opaque, size_t taker, const struct packet *packet, struct vfmig_error *err)
{
	uint64_t *expected = opaque;
	(void)err;
	if (taker != 0 || packet->index != *expected || packet->length > LIMIT)
		abort();
	packet->data[packet->length] = 0;
	*expected = packet->config ? UINT64_MAX : *expected + 1;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t expected = 0;
	struct log log = { 0 };
	struct channels_options opts = {
		.count = 2, .max_queued = LIMIT, .num_takers = 1,
		.find = find, .take = take, .opaque = &expected, .log = &log,
	};
	struct vfmig_error err = { 0 };
	struct channels *c;
	if (size < 1)
		return 0;
	struct input in = { data + 1, size - 1, 1 + (data[0] >> 2) * 40u, data[0] & 1 };
	struct vfmig_link *first = next(&in);
	if (!first)
		return 0;
	if (channels_new(first, &opts, &c, &err) < 0)
		abort();
	int r = 0;
	for (int idle = 0; idle < 4 && (r == 0 || r == -EAGAIN); idle = r ? idle + 1 : 0) {
		r = channels_step(c, &err);
		if (r == -EAGAIN && idle == 2)
			channels_let_state_in(c);
	}
	channels_ended(c, true, NULL);
	channels_free(c);
	vfmig_link_close(first);
	if (r < 0 && r != -EAGAIN && r != -EBADMSG && r != -ENOBUFS)
		abort();
	return 0;
}
