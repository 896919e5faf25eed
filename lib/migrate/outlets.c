/* SPDX-License-Identifier: BSD-3-Clause */
/* outlets.c: spreads devices' packets over the channels. */
#include "migrate/outlets.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

_Static_assert(MULTIFD_STATE_HEAD >= WIRE_MULTIFD_INIT, "what a channel begins with fits where heads are");

/* How many packets may be put while an earlier one is under way still: the other side has to keep them. */
#define AHEAD 32u

struct outlet {
	struct vfmig_link *link;
	uint8_t head[MULTIFD_STATE_HEAD];
	size_t head_length;
	struct protocol_piece piece; /* behind the head */
	size_t sent;		     /* of both */
	uint64_t number; /* of its packet, among all */
	uint32_t watched;
};

struct outlets {
	struct outlet list[VFMIG_MULTIFD_CHANNELS_MAX];
	unsigned int count;
	struct read_ahead *ahead;
	bool overflow; /* a packet was put when no channel was free */
	uint64_t packets, bytes;
	struct vfmig_link *main;
	uint32_t main_events;
	int epoll_fd;
};

static uint64_t left(const struct outlet *l)
{
	return l->head_length + l->piece.length - l->sent;
}

static bool busy(const struct outlet *l)
{
	return left(l) > 0;
}

static int send_one(struct outlets *o, struct outlet *l, struct vfmig_error *err)
{
	while (busy(l)) {
		struct iovec iov[2];
		int count = 0;
		if (l->sent < l->head_length)
			iov[count++] = (struct iovec) { l->head + l->sent, l->head_length - l->sent };
		if (l->piece.length) {
			size_t done = l->sent < l->head_length ? 0 : l->sent - l->head_length;
			uint8_t *data = (uint8_t *)(uintptr_t)l->piece.data;
			iov[count++] = (struct iovec) { data + done, l->piece.length - done };
		}
		ssize_t n = link_writev(l->link, iov, count, err);
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return error_prefix(err, (int)n, "channel %u", (unsigned int)(l - o->list));
		l->sent += (size_t)n;
	}
	if (l->piece.length)
		read_ahead_release(o->ahead, &l->piece);
	l->piece.length = l->head_length = l->sent = 0;
	return 0;
}

/* A QEMU reads what a channel begins with before it looks at the next one, its handshake included. */
static int open_one(struct outlets *o, unsigned int channel, const uint8_t uuid[WIRE_MULTIFD_UUID],
		    struct vfmig_error *err)
{
	struct outlet *l = &o->list[channel];
	struct multifd_init init = { .channel = (uint8_t)channel };
	memcpy(init.uuid, uuid, sizeof(init.uuid));
	int r = link_another(o->main, &l->link, err);
	if (r < 0)
		return error_prefix(err, error_not_again(r), "channel %u (does the other side expect channels?)",
				    channel);
	o->count++;
	multifd_init_put(&init, l->head);
	l->head_length = WIRE_MULTIFD_INIT;
	o->bytes += l->head_length;
	(void)send_one(o, l, NULL); /* what fails is met again, and told, by the save's first step */
	return 0;
}

int outlets_open(struct vfmig_link *link, unsigned int count, const uint8_t uuid[WIRE_MULTIFD_UUID],
		 struct read_ahead *ahead, struct outlets **ret, struct vfmig_error *err)
{
	struct outlets *o = calloc(1, sizeof(*o));
	if (!o)
		return error_errno(err, -ENOMEM, "channels");
	o->main = link;
	o->ahead = ahead;
	o->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int r = o->epoll_fd < 0 ? error_errno(err, -errno, "epoll") : 0;
	for (unsigned int i = 0; r == 0 && i < count; i++)
		r = open_one(o, i, uuid, err);
	if (r < 0) {
		outlets_free(o);
		return r;
	}
	*ret = o;
	return 0;
}

void outlets_free(struct outlets *o)
{
	if (!o)
		return;
	for (unsigned int i = 0; i < o->count; i++)
		vfmig_link_close(o->list[i].link);
	if (o->epoll_fd >= 0)
		close(o->epoll_fd);
	free(o);
}

static struct outlet *find_free(struct outlets *o)
{
	for (unsigned int i = 0; i < o->count; i++)
		if (!busy(&o->list[i]))
			return &o->list[i];
	return NULL;
}

int outlets_pump(struct outlets *o, bool all, struct vfmig_error *err)
{
	uint64_t oldest = o->packets;
	bool any_busy = false;
	if (o->overflow)
		return error_set(err, -ENOBUFS, "a packet for no channel");
	for (unsigned int i = 0; i < o->count; i++) {
		struct outlet *l = &o->list[i];
		int r = send_one(o, l, err);
		if (r < 0)
			return r;
		any_busy |= busy(l);
		if (busy(l) && l->number < oldest)
			oldest = l->number;
	}
	if (all)
		return any_busy ? -EAGAIN : 0;
	return find_free(o) && o->packets - oldest < AHEAD ? 0 : -EAGAIN;
}

void outlets_put(struct outlets *o, const struct multifd_packet *packet, const struct protocol_piece *piece)
{
	struct outlet *l = find_free(o);
	if (!l) {
		o->overflow = true;
		return;
	}
	multifd_packet_put(packet, l->head);
	l->head_length = MULTIFD_STATE_HEAD;
	l->piece = *piece;
	l->number = o->packets++;
	o->bytes += l->head_length + piece->length;
}

uint64_t outlets_bytes(const struct outlets *o)
{
	return o->bytes;
}

uint64_t outlets_sent(const struct outlets *o)
{
	uint64_t bytes = o->bytes;
	for (unsigned int i = 0; i < o->count; i++)
		bytes -= left(&o->list[i]);
	return bytes;
}

uint64_t outlets_packed_bytes(const struct outlets *o)
{
	uint64_t bytes = 0;
	for (unsigned int i = 0; i < o->count; i++)
		bytes += o->list[i].link->packed_bytes;
	return bytes;
}

/* Only what has something to send is watched: a channel that the other side closed would wake for ever. */
int outlets_wait(struct outlets *o, short link_events)
{
	for (unsigned int i = 0; i < o->count; i++) {
		struct outlet *l = &o->list[i];
		link_watch(l->link, o->epoll_fd, busy(l) ? POLLOUT : 0, &l->watched);
	}
	link_watch(o->main, o->epoll_fd, link_events, &o->main_events);
	return o->epoll_fd;
}
