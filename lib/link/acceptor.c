/* SPDX-License-Identifier: BSD-3-Clause */
/* acceptor.c: finds the one expected peer among all that connect to a listener. */
#include "link/acceptor.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"

#define PAUSE_NS (100 * NS_PER_MS) /* when the system gives no connection: it may have no more fds */

struct candidate {
	struct vfmig_link *link;
	bool owned;
	uint32_t watched;
	uint64_t since_ns;
	size_t said; /* bytes of the proof */
};

struct acceptor {
	struct vfmig_link *listener; /* NULL: it does not listen */
	uint8_t proof[ACCEPTOR_PROOF_MAX];
	size_t length;
	struct candidate list[ACCEPTOR_MAX]; /* the oldest first */
	size_t count;
	uint64_t dropped;
	uint64_t pause_ns; /* until when nobody is accepted; 0: not paused */
	uint64_t wake_ns;
	int epoll_fd;
	bool listening; /* the listener is watched */
};

int acceptor_new(struct vfmig_link *listener, const void *proof, size_t length, struct acceptor **ret,
		 struct vfmig_error *err)
{
	if (length > ACCEPTOR_PROOF_MAX)
		return error_set(err, -EINVAL, "a proof of %zu bytes, expected at most %u", length, ACCEPTOR_PROOF_MAX);
	struct acceptor *a = calloc(1, sizeof(*a));
	if (!a)
		return error_errno(err, -ENOMEM, "acceptor");
	a->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (a->epoll_fd < 0) {
		int r = error_errno(err, -errno, "epoll");
		free(a);
		return r;
	}
	a->listener = listener->ops->another && listener->listen_fd >= 0 ? listener : NULL;
	memcpy(a->proof, proof, length);
	a->length = length;
	*ret = a;
	return 0;
}

static void add(struct acceptor *a, struct vfmig_link *link, bool owned)
{
	a->list[a->count++] = (struct candidate) { .link = link, .owned = owned, .since_ns = clock_now_ns() };
}

void acceptor_add(struct acceptor *a, struct vfmig_link *link)
{
	if (a->count < ACCEPTOR_MAX)
		add(a, link, false);
}

static void let_go(struct acceptor *a, struct candidate *c)
{
	link_watch(c->link, a->epoll_fd, 0, &c->watched);
	size_t behind = a->count - (size_t)(c - a->list) - 1;
	memmove(c, c + 1, behind * sizeof(*c));
	a->count--;
}

/* A borrowed link stays open, and its peer is told all the same. */
static void drop(struct acceptor *a, struct candidate *c)
{
	struct vfmig_link *link = c->link;
	bool owned = c->owned;
	let_go(a, c);
	a->dropped++;
	if (owned)
		vfmig_link_close(link);
	else
		shutdown(link->wait_fd, SHUT_RDWR);
}

void acceptor_free(struct acceptor *a)
{
	if (!a)
		return;
	while (a->count)
		drop(a, &a->list[a->count - 1]);
	close(a->epoll_fd);
	free(a);
}

/* 0: it has said all of the proof; -EAGAIN: it may yet; -errno: it is a stranger, or gone. */
static int judge(struct acceptor *a, struct candidate *c)
{
	while (c->said < a->length) {
		uint8_t words[ACCEPTOR_PROOF_MAX];
		ssize_t n = link_read(c->link, words, a->length - c->said, NULL);
		if (n == -EAGAIN)
			return clock_now_ns() - c->since_ns < ACCEPTOR_JUDGE_NS ? -EAGAIN : -ETIMEDOUT;
		if (n <= 0)
			return n == 0 ? -ECONNRESET : (int)n;
		if (memcmp(words, a->proof + c->said, (size_t)n) != 0)
			return -EPROTO;
		c->said += (size_t)n;
	}
	return 0;
}

static int judge_one(struct acceptor *a, struct candidate *c, struct vfmig_link **ret)
{
	int r = judge(a, c);
	if (r == 0) {
		*ret = c->link;
		let_go(a, c);
	} else if (r != -EAGAIN) {
		drop(a, c);
	}
	return r;
}

/* Which one makes room: the oldest that has said nothing, else the oldest. */
static struct candidate *find_oldest(struct acceptor *a)
{
	for (size_t i = 0; i < a->count; i++)
		if (!a->list[i].said)
			return &a->list[i];
	return &a->list[0];
}

/* Is there room for one more, or is it made? If not, *until_ns is when it may be. */
static bool make_room(struct acceptor *a, uint64_t *until_ns)
{
	if (a->count < ACCEPTOR_MAX)
		return true;
	struct candidate *oldest = find_oldest(a);
	if (clock_now_ns() - oldest->since_ns < ACCEPTOR_KEEP_NS) {
		*until_ns = oldest->since_ns + ACCEPTOR_KEEP_NS;
		return false;
	}
	drop(a, oldest);
	return true;
}

/* Takes those who have come, as many in one step as there can be candidates. 0: *ret is the peer; -EAGAIN. */
static int accept_some(struct acceptor *a, struct vfmig_link **ret)
{
	a->pause_ns = a->pause_ns > clock_now_ns() ? a->pause_ns : 0;
	for (unsigned n = 0; n < ACCEPTOR_MAX && !a->pause_ns; n++) {
		struct pollfd waiting = { .fd = a->listener->listen_fd, .events = POLLIN };
		struct vfmig_link *link;
		if (poll(&waiting, 1, 0) <= 0 || !make_room(a, &a->pause_ns))
			break;
		int r = link_another(a->listener, &link, NULL);
		if (r == -EAGAIN)
			break;
		if (r < 0) {
			a->pause_ns = clock_now_ns() + PAUSE_NS;
			if (a->count)
				drop(a, find_oldest(a));
			break;
		}
		add(a, link, true);
		if (judge_one(a, &a->list[a->count - 1], ret) == 0)
			return 0;
	}
	return -EAGAIN;
}

static void watch_listener(struct acceptor *a)
{
	struct epoll_event event = { .events = EPOLLIN };
	bool wanted = !a->pause_ns;
	int op = wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
	if (wanted != a->listening && epoll_ctl(a->epoll_fd, op, a->listener->listen_fd, &event) == 0)
		a->listening = wanted;
}

static void watch(struct acceptor *a)
{
	a->wake_ns = a->pause_ns ? a->pause_ns : UINT64_MAX;
	if (a->count) /* the oldest is the first */
		a->wake_ns = min_u64(a->wake_ns, a->list[0].since_ns + ACCEPTOR_JUDGE_NS);
	for (size_t i = 0; i < a->count; i++)
		link_watch(a->list[i].link, a->epoll_fd, POLLIN, &a->list[i].watched);
	if (a->listener)
		watch_listener(a);
}

/* The newest first: a peer that has connected twice has given up the earlier one. */
int acceptor_step(struct acceptor *a, struct vfmig_link **ret)
{
	for (size_t i = a->count; i-- > 0;)
		if (judge_one(a, &a->list[i], ret) == 0)
			return 0;
	if (!a->listener && !a->count)
		return -ENOTCONN;
	int r = a->listener ? accept_some(a, ret) : -EAGAIN;
	watch(a);
	return r;
}

int acceptor_fd(const struct acceptor *a)
{
	return a->epoll_fd;
}

uint64_t acceptor_wake_ns(const struct acceptor *a)
{
	return a->wake_ns;
}

uint64_t acceptor_strangers(const struct acceptor *a)
{
	return a->dropped + a->count;
}
