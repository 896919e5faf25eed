/* SPDX-License-Identifier: BSD-3-Clause */
/* outlets.c: spreads devices' packets over the channels. */
#include "migrate/outlets.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CAPACITY (MULTIFD_STATE_HEAD + PROTOCOL_PIECE_MAX)
/* How many packets may be put while an earlier one is under way still: the other side has to keep them. */
#define AHEAD 32u

struct outlet {
	struct vfmig_link *link;
	uint8_t *buffer; /* [sent, used) waits to be sent */
	size_t sent, used;
	uint64_t number; /* of its packet, among all */
	uint32_t watched;
};

struct outlets {
	struct outlet list[VFMIG_MULTIFD_CHANNELS_MAX];
	unsigned int count;
	struct outlet *open; /* takes the bytes of the packet that is being put */
	bool overflow;
	uint64_t packets, bytes;
	struct vfmig_link *main;
	uint32_t main_events;
	int epoll_fd;
};

static bool busy(const struct outlet *l)
{
	return l->sent < l->used;
}

static int send_one(struct outlets *o, struct outlet *l, struct vfmig_error *err)
{
	while (busy(l)) {
		struct iovec iov = { l->buffer + l->sent, l->used - l->sent };
		ssize_t n = link_writev(l->link, &iov, 1, err);
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return error_prefix(err, (int)n, "channel %u", (unsigned int)(l - o->list));
		l->sent += (size_t)n;
	}
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
	l->buffer = malloc(CAPACITY);
	if (!l->buffer)
		return error_errno(err, -ENOMEM, "channel %u", channel);
	multifd_init_put(&init, l->buffer);
	l->used = WIRE_MULTIFD_INIT;
	o->bytes += l->used;
	(void)send_one(o, l, NULL); /* what fails is met again, and told, by the save's first step */
	return 0;
}

int outlets_open(struct vfmig_link *link, unsigned int count, const uint8_t uuid[WIRE_MULTIFD_UUID],
		 struct outlets **ret, struct vfmig_error *err)
{
	struct outlets *o = calloc(1, sizeof(*o));
	if (!o)
		return error_errno(err, -ENOMEM, "channels");
	o->main = link;
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
	for (unsigned int i = 0; i < o->count; i++) {
		vfmig_link_close(o->list[i].link);
		free(o->list[i].buffer);
	}
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
	o->open = NULL;
	if (o->overflow)
		return error_set(err, -ENOBUFS, "a packet of more than %u bytes for a channel", PROTOCOL_PIECE_MAX);
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

void outlets_put(struct outlets *o, const struct multifd_packet *packet)
{
	struct outlet *l = find_free(o);
	if (!l || packet->length > CAPACITY - MULTIFD_STATE_HEAD) {
		o->overflow = true;
		return;
	}
	multifd_packet_put(packet, l->buffer);
	l->sent = 0;
	l->used = MULTIFD_STATE_HEAD;
	l->number = o->packets++;
	o->bytes += l->used;
	o->open = l;
}

void outlets_put_bytes(struct outlets *o, const void *data, size_t length)
{
	struct outlet *l = o->open;
	if (!l || length > CAPACITY - l->used) {
		o->overflow = true;
		return;
	}
	memcpy(l->buffer + l->used, data, length);
	l->used += length;
	o->bytes += length;
}

uint64_t outlets_bytes(const struct outlets *o)
{
	return o->bytes;
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
