/* SPDX-License-Identifier: BSD-3-Clause */
/* channels.c: accepts a migration's connections, reads its channels, gives the devices' packets out in order. */
#include "migrate/channels.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/bytes.h"

#define STRANGERS_MAX 16u /* connections at the same time that have not said what they are, beside the ones expected */
#define SKIP_BYTES (64u << 10)

enum connection_state {
	UNKNOWN, /* nobody knows what it is: the first four bytes have not come */
	MAIN,	 /* the stream: not read here */
	INIT,	 /* a channel's first packet */
	HEAD,	 /* of the next packet */
	WAITING, /* with a device's packet, for the stream to have come that far */
	DATA,	 /* of a device's packet */
	SKIP,	 /* what nobody wants */
	ENDED,
};

struct connection {
	struct vfmig_link *link;
	bool owned;
	uint32_t watched; /* for these events; 0: not */
	enum connection_state state;
	unsigned int channel;
	uint8_t head[MULTIFD_HEAD_MAX];
	size_t have;
	struct multifd_packet packet; /* what head says */
	uint64_t left;		      /* SKIP */
	struct packet *into;	      /* DATA */
	size_t filled;
};

struct channels {
	struct channels_options opts;
	struct connection list[1 + VFMIG_MULTIFD_CHANNELS_MAX + STRANGERS_MAX];
	size_t count, turn;
	struct connection *by_number[VFMIG_MULTIFD_CHANNELS_MAX];
	unsigned int known; /* channels that have come */
	struct connection *main;
	struct vfmig_link *listener; /* gives further connections */
	bool listening, state_let_in;
	struct packet_pool pool;
	struct window *windows;
	uint64_t bytes;
	int epoll_fd;
	uint32_t main_events;
	uint8_t skipped[SKIP_BYTES];
};

/* ------------------------------------------------------------------ errors */

static int failed(const struct connection *n, int code, struct vfmig_error *err)
{
	if (n->state == UNKNOWN || n->state == INIT)
		return error_prefix(err, code, "%s: a further connection", n->link->name);
	return error_prefix(err, code, "%s: channel %u", n->link->name, n->channel);
}

static int failed_packet(const struct connection *n, int code, struct vfmig_error *err)
{
	error_prefix(err, code, "packet %" PRIu32 " of %s", n->packet.index, n->packet.id);
	return failed(n, code, err);
}

/* ------------------------------------------------------------- connections */

static void add(struct channels *c, struct vfmig_link *link, bool owned)
{
	c->list[c->count++] = (struct connection) { .link = link, .owned = owned };
}

static void unwatch(struct channels *c, struct connection *n)
{
	if (n->watched)
		epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, n->link->wait_fd, NULL);
	n->watched = 0;
}

/* A stranger's connection ends nothing but itself. */
static int drop(struct channels *c, struct connection *n, const char *why)
{
	log_line(c->opts.log, VFMIG_LOG_WARNING, "%s: a connection was refused: %s", n->link->name, why);
	unwatch(c, n);
	n->state = ENDED;
	if (!n->owned)
		return 0;
	/* The last one takes its place. */
	vfmig_link_close(n->link);
	struct connection *last = &c->list[--c->count];
	*n = *last;
	for (size_t i = 0; i < c->opts.count; i++)
		if (c->by_number[i] == last)
			c->by_number[i] = n;
	if (c->main == last)
		c->main = n;
	return 0;
}

int channels_new(struct vfmig_link *link, const struct channels_options *opts, struct channels **ret,
		 struct vfmig_error *err)
{
	struct channels *c = calloc(1, sizeof(*c));
	if (!c)
		return error_errno(err, -ENOMEM, "channels");
	c->opts = *opts;
	c->pool.limit = opts->max_queued ? opts->max_queued : CHANNELS_MAX_QUEUED;
	c->listener = link;
	add(c, link, false);
	c->windows = calloc(opts->num_takers + 1, sizeof(*c->windows));
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int r = !c->windows ? -ENOMEM : c->epoll_fd < 0 ? -errno : 0;
	if (r < 0) {
		channels_free(c);
		return error_errno(err, r, "channels");
	}
	*ret = c;
	return 0;
}

void channels_free(struct channels *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->count; i++)
		if (c->list[i].owned)
			vfmig_link_close(c->list[i].link);
	for (size_t i = 0; c->windows && i < c->opts.num_takers; i++)
		window_clear(&c->windows[i], &c->pool);
	packet_pool_clear(&c->pool);
	free(c->windows);
	if (c->epoll_fd >= 0)
		close(c->epoll_fd);
	free(c);
}

static bool all_have_come(const struct channels *c)
{
	return c->main && c->known == c->opts.count;
}

/* Takes a connection that has come. */
static int accept_one(struct channels *c, struct vfmig_error *err)
{
	struct vfmig_link *link;
	if (all_have_come(c) || c->count == sizeof(c->list) / sizeof(c->list[0]))
		return -EAGAIN;
	int r = link_another(c->listener, &link, err);
	if (r == 0)
		add(c, link, true);
	return r;
}

/* What the first four bytes say. */
static int identify(struct channels *c, struct connection *n)
{
	uint32_t magic = get_be32(n->head);
	if (magic == WIRE_MULTIFD_MAGIC) {
		n->state = INIT;
		return 0;
	}
	if (magic != WIRE_MAGIC)
		return drop(c, n, "it is neither a migration stream nor a channel of one");
	if (c->main)
		return drop(c, n, "it is a second migration stream");
	unwatch(c, n);
	n->state = MAIN;
	c->bytes -= n->have; /* the reader counts them again */
	c->main = n;
	return 0;
}

static int check_init(struct channels *c, struct connection *n, struct vfmig_error *err)
{
	struct multifd_init init;
	int r = multifd_init_get(n->head, &init, err);
	if (r < 0)
		return failed(n, r, err);
	if (memcmp(init.uuid, c->opts.uuid, sizeof(init.uuid)) != 0)
		r = error_set(err, -EBADMSG, "channel %u names another machine's uuid than was expected (--uuid)",
			      init.channel);
	else if (init.channel >= c->opts.count)
		r = error_set(err, -EBADMSG, "channel %u, expected one below %u: both sides need the same number",
			      init.channel, c->opts.count);
	else if (c->by_number[init.channel])
		r = error_set(err, -EBADMSG, "channel %u, which has come already", init.channel);
	if (r < 0)
		return failed(n, r, err);
	n->channel = init.channel;
	n->state = HEAD;
	n->have = 0;
	c->by_number[n->channel] = n;
	c->known++;
	return 0;
}

/* ------------------------------------------------------------------ packets */

static void packet_done(struct connection *n)
{
	n->state = HEAD;
	n->have = 0;
}

/* A device's packet: room for it, or a reason why it must not come. */
static int begin_state(struct channels *c, struct connection *n, struct vfmig_error *err)
{
	size_t taker;
	if (!c->state_let_in) {
		unwatch(c, n);
		n->state = WAITING;
		return 0;
	}
	int r = c->opts.find(c->opts.opaque, &n->packet, &taker, err);
	if (r > 0)
		r = window_announce(&c->windows[taker], &c->pool, &n->packet, &n->into, err);
	else if (r == 0)
		n->into = NULL;
	if (r < 0)
		return failed_packet(n, r, err);
	n->filled = 0;
	n->left = n->packet.length;
	n->state = n->into ? DATA : SKIP;
	return 0;
}

static int take_head(struct channels *c, struct connection *n, size_t *ret_need, struct vfmig_error *err)
{
	int r = multifd_packet_get(n->head, n->have, ret_need, &n->packet, err);
	if (r <= 0)
		return r < 0 ? failed(n, r, err) : 0;
	if (n->packet.state)
		return begin_state(c, n, err);
	if (n->packet.memory_pages && c->opts.refuse_memory)
		return failed(n, error_set(err, -EOPNOTSUPP,
					   "memory comes by the channels, too, which cannot be loaded: switch the "
					   "capability multifd off at the source, or load without memory"), err);
	n->left = n->packet.length;
	n->state = SKIP;
	return 0;
}

/* The end of a connection: fine between two packets, where the source closes it when it is done. */
static int take_end(struct channels *c, struct connection *n, struct vfmig_error *err)
{
	if (n->state == UNKNOWN)
		return drop(c, n, "it was closed before it said what it is");
	if (n->state != HEAD || n->have) {
		int r = error_set(err, -EBADMSG, "the connection was closed in the middle of a packet");
		return n->state == DATA ? failed_packet(n, r, err) : failed(n, r, err);
	}
	unwatch(c, n);
	n->state = ENDED;
	return 0;
}

static ssize_t read_some(struct channels *c, struct connection *n, void *into, size_t length, struct vfmig_error *err)
{
	ssize_t got = link_read(n->link, into, length, err);
	if (got > 0)
		c->bytes += (uint64_t)got;
	if (got < 0 && got != -EAGAIN && n->state != UNKNOWN && n->state != INIT)
		error_prefix(err, (int)got, "channel %u", n->channel);
	return got;
}

/* Heads, the first one included. */
static int read_head(struct channels *c, struct connection *n, struct vfmig_error *err)
{
	size_t need = n->state == UNKNOWN ? 4 : WIRE_MULTIFD_INIT;
	int r = 0;
	if (n->state == HEAD)
		r = take_head(c, n, &need, err);
	if (r < 0 || (n->state == HEAD && n->have >= need) || n->have >= need)
		return r;
	ssize_t got = read_some(c, n, n->head + n->have, need - n->have, err);
	if (got < 0 && got != -EAGAIN && n->state == UNKNOWN)
		return drop(c, n, "it was lost before it said what it is");
	if (got <= 0)
		return got == 0 ? take_end(c, n, err) : (int)got;
	n->have += (size_t)got;
	if (n->state == HEAD)
		return take_head(c, n, &need, err);
	if (n->have < need)
		return 0;
	return n->state == UNKNOWN ? identify(c, n) : check_init(c, n, err);
}

static int read_data(struct channels *c, struct connection *n, struct vfmig_error *err)
{
	struct packet *p = n->into;
	if (n->filled < p->length) {
		ssize_t got = read_some(c, n, p->data + n->filled, p->length - n->filled, err);
		if (got <= 0)
			return got == 0 ? take_end(c, n, err) : (int)got;
		n->filled += (size_t)got;
	}
	if (n->filled == p->length) {
		p->whole = true;
		packet_done(n);
	}
	return 0;
}

static int read_skipped(struct channels *c, struct connection *n, struct vfmig_error *err)
{
	if (n->left) {
		ssize_t got = read_some(c, n, c->skipped, (size_t)min_u64(n->left, sizeof(c->skipped)), err);
		if (got <= 0)
			return got == 0 ? take_end(c, n, err) : (int)got;
		n->left -= (uint64_t)got;
	}
	if (!n->left)
		packet_done(n);
	return 0;
}

static int connection_step(struct channels *c, struct connection *n, struct vfmig_error *err)
{
	switch (n->state) {
	case UNKNOWN:
	case INIT:
	case HEAD:
		return read_head(c, n, err);
	case WAITING:
		return c->state_let_in ? begin_state(c, n, err) : -EAGAIN;
	case DATA:
		return read_data(c, n, err);
	case SKIP:
		return read_skipped(c, n, err);
	case MAIN:
	case ENDED:
		break;
	}
	return -EAGAIN;
}

/* ------------------------------------------------------------------ driving */

/* Gives one packet whose turn it is; -EAGAIN: there is none. */
static int deliver(struct channels *c, struct vfmig_error *err)
{
	for (size_t i = 0; i < c->opts.num_takers; i++) {
		struct packet *packet = window_take(&c->windows[i]);
		if (!packet)
			continue;
		int r = error_not_again(c->opts.take(c->opts.opaque, i, packet, err));
		packet_release(packet, &c->pool);
		return r;
	}
	return -EAGAIN;
}

int channels_step(struct channels *c, struct vfmig_error *err)
{
	int r = deliver(c, err);
	if (r == -EAGAIN)
		r = accept_one(c, err);
	for (size_t i = 0; i < c->count && r == -EAGAIN; i++) {
		c->turn = (c->turn + 1) % c->count;
		r = connection_step(c, &c->list[c->turn], err);
	}
	return r;
}

struct vfmig_link *channels_main(struct channels *c)
{
	return c->main ? c->main->link : NULL;
}

void channels_let_state_in(struct channels *c)
{
	c->state_let_in = true;
}

bool channels_ended(const struct channels *c, bool any, struct vfmig_error *err)
{
	const struct connection *ended = NULL;
	size_t count = 0;
	for (size_t i = 0; i < c->opts.count; i++)
		if (c->by_number[i] && c->by_number[i]->state == ENDED) {
			ended = c->by_number[i];
			count++;
		}
	if (!ended || (!any && count < c->opts.count))
		return false;
	error_set(err, -EBADMSG, "%s: channel %u: closed before all of the devices' state had come", ended->link->name,
		  ended->channel);
	return true;
}

uint64_t channels_bytes(const struct channels *c)
{
	return c->bytes;
}

uint64_t channels_packed_bytes(const struct channels *c)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < c->count; i++)
		bytes += c->list[i].link->packed_bytes;
	return bytes;
}

static void watch(struct channels *c, struct connection *n)
{
	bool wanted = n->state == UNKNOWN || n->state == INIT || n->state == HEAD || n->state == DATA ||
		      n->state == SKIP;
	if (wanted)
		link_watch(n->link, c->epoll_fd, POLLIN, &n->watched);
}

static void watch_listener(struct channels *c)
{
	struct epoll_event event = { .events = EPOLLIN };
	bool wanted = !all_have_come(c) && c->count < sizeof(c->list) / sizeof(c->list[0]);
	if (wanted == c->listening)
		return;
	if (epoll_ctl(c->epoll_fd, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, c->listener->listen_fd, &event) == 0)
		c->listening = wanted;
}

int channels_wait(struct channels *c, short main_events)
{
	for (size_t i = 0; i < c->count; i++)
		watch(c, &c->list[i]);
	watch_listener(c);
	if (c->main)
		link_watch(c->main->link, c->epoll_fd, main_events, &c->main_events);
	return c->epoll_fd;
}
