/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handover.c: the protocol by which exactly one side runs the device.
 *
 * Theory of operation. Each side is in one of the states of doc/handover.md. A
 * message, or the loss of the connection, leads to the next one by the table
 * below; a state that the journal has to know is entered when the journal has
 * it, never before. A connection that is lost is made again; both sides prove
 * by the session's id that they are the same, and each says again where it is.
 */
#include "migrate/handover_impl.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"

#define PAUSE_NS (100 * NS_PER_MS) /* before the next connection, when one was no good */
#define MESSAGES 16u		  /* in one step */
#define HELLO_NS (5 * NS_PER_S) /* for a listener that does not answer the source */

/* In a state, having heard something: the next state, and what is said then. */
static const struct rule {
	enum handover_side side;
	enum handover_state state;
	enum message heard;
	enum handover_state next;
	enum message say;
} rules[] = {
#define SOURCE(state, heard, next, say) { HANDOVER_SOURCE, HANDOVER_##state, heard, HANDOVER_##next, say }
	SOURCE(STOPPED, PREPARED, DECIDED, COMMIT), /* unless the journal refuses: RUNS_ON, ABORT */
	SOURCE(STOPPED, LOST, RUNS_ON, OVER),
	SOURCE(STOPPED, CUT, RUNS_ON, NOTHING),
	SOURCE(COMMITTED, PREPARED, COMMITTED, COMMIT),
	SOURCE(COMMITTED, RUNNING, DONE, OVER),
	SOURCE(COMMITTED, LOST, RUNS_ON, OVER),
	SOURCE(RUNS_ON, PREPARED, RUNS_ON, ABORT),
	SOURCE(RUNS_ON, LOST, RUNS_ON, OVER),
	SOURCE(RUNS_ON, RUNNING, RUNS_ON, OVER), /* two run: that is said, and a person's to end */
	SOURCE(DONE, RUNNING, DONE, OVER),
	SOURCE(SUPERSEDED, PREPARED, SUPERSEDED, ABORT), /* another session has moved the state */
	SOURCE(SUPERSEDED, LOST, SUPERSEDED, OVER),
	SOURCE(SUPERSEDED, RUNNING, SUPERSEDED, OVER), /* two run */
#undef SOURCE
#define DESTINATION(state, heard, next, say) { HANDOVER_DESTINATION, HANDOVER_##state, heard, HANDOVER_##next, say }
	DESTINATION(PREPARED, COMMIT, COMMITTED, NOTHING), /* unless the journal refuses: ABANDONED, LOST */
	DESTINATION(PREPARED, ABORT, ABANDONED, LOST),
	DESTINATION(RUNNING, COMMIT, RUNNING, RUNNING),
	DESTINATION(RUNNING, OVER, RUNNING, NOTHING),
	DESTINATION(ABANDONED, COMMIT, ABANDONED, LOST),
	DESTINATION(ABANDONED, ABORT, ABANDONED, LOST),
	DESTINATION(ABANDONED, OVER, ABANDONED, NOTHING),
	DESTINATION(REPLACED, COMMIT, REPLACED, RUNNING), /* it may have run, so the source must not */
	DESTINATION(REPLACED, OVER, REPLACED, NOTHING),
#undef DESTINATION
};

/* What a state says first on a new connection. */
static enum message says(enum handover_side side, enum handover_state state)
{
	switch (state) {
	case HANDOVER_COMMITTED:
		return side == HANDOVER_SOURCE ? COMMIT : NOTHING;
	case HANDOVER_RUNS_ON:
	case HANDOVER_SUPERSEDED:
		return ABORT;
	case HANDOVER_DONE:
		return OVER;
	case HANDOVER_PREPARED:
		return PREPARED;
	case HANDOVER_RUNNING:
	case HANDOVER_REPLACED:
		return RUNNING;
	case HANDOVER_ABANDONED:
		return LOST;
	case HANDOVER_NONE:
	case HANDOVER_SAVING:
	case HANDOVER_STOPPED:
	case HANDOVER_SENT:
	case HANDOVER_DECIDED:
	case HANDOVER_RUNS: /* resumed as RUNS_ON */
	case HANDOVER_WAITING:
	case HANDOVER_LOADING:
		break;
	}
	return NOTHING;
}

int handover_init(struct handover *h, enum handover_side side, struct vfmig_link *link, const char *session,
		  uint64_t retry_ns, const struct log *log, struct vfmig_error *err)
{
	*h = (struct handover) { .side = side, .link = link, .origin = link, .log = log };
	h->epoll_fd = h->timer_fd = -1;
	h->retry_ns = retry_ns ? retry_ns : HANDOVER_RETRY_NS;
	if (side == HANDOVER_SOURCE && !session) {
		int r = session_new(h->session, err);
		if (r < 0)
			return r;
	} else if (session) {
		snprintf(h->session, sizeof(h->session), "%s", session);
	}
	for (unsigned i = 0; i < HANDOVER_WORDS && h->session[0]; i++) {
		char word[9] = "";
		memcpy(word, h->session + 8 * (size_t)i, 8);
		h->words[i] = (uint32_t)strtoul(word, NULL, 16);
	}
	return 0;
}

void handover_clear(struct handover *h)
{
	acceptor_free(h->acceptor);
	vfmig_link_close(h->met);
	if (h->epoll_fd > 0)
		close(h->epoll_fd);
	if (h->timer_fd > 0)
		close(h->timer_fd);
	journal_close(h->journal);
	h->journal = NULL;
}

/* ----------------------------------------------------------------- states */

static const struct rule *find_rule(const struct handover *h, enum message heard)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].side == h->side && rules[i].state == h->state && rules[i].heard == heard)
			return &rules[i];
	return NULL;
}

static int record(struct handover *h, enum handover_state state, bool held)
{
	const struct journal_line line = { .held = held };
	int r = h->journal ? journal_write(h->journal, state, &line, &h->cause) : 0;
	if (r < 0)
		log_line(h->log, VFMIG_LOG_WARNING, "%s", h->cause.message);
	return r;
}

/* RUNS_ON, ABANDONED: what no journal means, too. */
static int record_undone(struct handover *h, enum handover_state state, struct vfmig_error *err)
{
	return h->journal && journal_state(h->journal) != state ? journal_forget(h->journal, state, err) : 0;
}

/* The source's way back, which the journal must not contradict. cause: why. */
static int run_on(struct handover *h, enum message cause, struct vfmig_error *err)
{
	if (cause == LOST)
		error_set(&h->cause, -ECONNABORTED, "%s: the other side refused the stream or could not start the "
			  "device (return path SHUT 1); its own message says why", h->link->name);
	else if (cause == CUT)
		error_set(&h->cause, -ECONNRESET, "%s: the connection was lost before it was decided that the other "
			  "side has the device", h->link->name);
	int r = record_undone(h, HANDOVER_RUNS_ON, err);
	h->stuck = r < 0;
	if (r < 0)
		return error_prefix(err, r, "the source stays stopped, as its journal may say that it gave the device "
					    "away");
	h->state = HANDOVER_RUNS_ON;
	return HANDOVER_STEP_TAKE_BACK;
}

static void tell_two_run(const struct handover *h, const struct rule *rule)
{
	if (rule->heard == RUNNING)
		log_line(
		    h->log, VFMIG_LOG_WARNING,
		    "session %s: TWO RUN: the destination runs the device, and it was let run from here, too, by a "
		    "person's word: stop one of them now ('vfmig recover URI --discard' resets it)",
		    h->session);
}

/* Enters the rule's state. 0, a step for the caller, -errno. */
static int obey(struct handover *h, const struct rule *rule, struct vfmig_error *err)
{
	enum handover_state before = h->state;
	switch (rule->next) {
	case HANDOVER_DECIDED:
		if (record(h, HANDOVER_DECIDED, false) < 0) {
			handover_say(h, ABORT);
			return run_on(h, NOTHING, err);
		}
		h->state = HANDOVER_COMMITTED;
		break;
	case HANDOVER_RUNS_ON:
		handover_say(h, rule->say);
		h->over |= rule->say == OVER;
		h->told |= rule->heard == LOST;
		tell_two_run(h, rule);
		return before == HANDOVER_RUNS_ON ? 0 : run_on(h, rule->heard, err);
	case HANDOVER_SUPERSEDED:
		tell_two_run(h, rule);
		h->told |= rule->heard == LOST;
		break;
	case HANDOVER_DONE:
		(void)record(h, HANDOVER_DONE, false);
		h->state = HANDOVER_DONE;
		break;
	case HANDOVER_COMMITTED:
		if (h->side == HANDOVER_SOURCE)
			break;
		if (record(h, HANDOVER_COMMITTED, false) < 0)
			return HANDOVER_STEP_TAKE_BACK;
		h->state = HANDOVER_COMMITTED;
		return HANDOVER_STEP_START;
	case HANDOVER_ABANDONED:
		if (before != HANDOVER_PREPARED)
			break;
		h->aborted = true;
		error_set(&h->cause, -ECONNABORTED, "%s: the source has taken the device back", h->link->name);
		return HANDOVER_STEP_TAKE_BACK;
	default:
		break;
	}
	handover_say(h, rule->say);
	h->over |= rule->say == OVER || rule->heard == OVER;
	return 0;
}

static int take_message(struct handover *h, enum message heard, struct vfmig_error *err)
{
	const struct rule *rule = find_rule(h, heard);
	if (rule)
		return obey(h, rule, err);
	if (heard == NOTHING || heard == CUT)
		return 0;
	/* Out of order: a side that says what it cannot know. Nothing changes by it. */
	log_line(h->log, VFMIG_LOG_WARNING,
		 "%s: session %s: the other side said something that does not fit: this side is %s", h->link->name,
		 h->session, handover_state_name(h->state));
	return 0;
}

/* ------------------------------------------------- a connection that is lost */

static void forget_connection(struct handover *h)
{
	h->connected = h->foreign = false;
	h->heard = 0;
	h->have = h->queued = 0;
	h->rest.length = 0;
	h->from_destination.have = 0;
}

/* A step for the caller, 0 or -errno. */
static int cut(struct handover *h, const struct vfmig_error *why, struct vfmig_error *err)
{
	forget_connection(h);
	h->lost = true;
	h->lost_ns = clock_now_ns();
	if (h->over) /* it was said, and whether it arrived does not matter any more */
		return 0;
	log_line(h->log, VFMIG_LOG_WARNING, "session %s: the connection is lost (%s); trying again", h->session,
		 why->code ? why->message : "closed by the other side");
	return take_message(h, CUT, err);
}

static uint64_t add_ns(uint64_t a, uint64_t b)
{
	return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

/* -EAGAIN, with an fd to wait for the link's and for a time. */
static int wait_until(struct handover *h, uint64_t until_ns, struct vfmig_error *err)
{
	struct epoll_event link = { .events = EPOLLIN | EPOLLOUT }, timer = { .events = EPOLLIN };
	bool pausing = clock_now_ns() < h->pause_ns;
	if (h->connected && !h->queued)
		link.events = EPOLLIN;
	link.events = (uint32_t)link_events(h->link, (short)link.events);
	int fd = h->link->wait_fd;
	if (h->acceptor) {
		link.events = EPOLLIN;
		fd = acceptor_fd(h->acceptor);
		until_ns = min_u64(until_ns, acceptor_wake_ns(h->acceptor));
	}
	if (h->epoll_fd >= 0)
		close(h->epoll_fd);
	h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (h->timer_fd < 0)
		h->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	struct itimerspec at = { .it_value = { (time_t)(until_ns / NS_PER_S), (long)(until_ns % NS_PER_S) } };
	if (until_ns == UINT64_MAX)
		at.it_value = (struct timespec) { 0 };
	if (h->epoll_fd < 0 || h->timer_fd < 0 || timerfd_settime(h->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) < 0 ||
	    epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, h->timer_fd, &timer) < 0 ||
	    (!pausing && epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, fd, &link) < 0))
		return error_errno(err, -errno, "waiting for a connection");
	return -EAGAIN;
}

static void end_accepting(struct handover *h)
{
	uint64_t strangers = h->acceptor ? acceptor_strangers(h->acceptor) : 0;
	if (strangers)
		log_line(h->log, VFMIG_LOG_WARNING,
			 "%s: session %s: connections refused because they were not from its source: %" PRIu64,
			 h->origin->name, h->session, strangers);
	acceptor_free(h->acceptor);
	h->acceptor = NULL;
}

static int give_up(struct handover *h, int code, struct vfmig_error *err)
{
	bool decided = h->state == HANDOVER_COMMITTED, asks = h->state == HANDOVER_PREPARED;
	end_accepting(h);
	if (decided || asks)
		return error_set(err, code,
				 "session %s: the other side was not met again; this side is %s, so %s until %s",
				 h->session, handover_state_name(h->state),
				 decided ? "the source stays stopped" : "the device is loaded and stays stopped",
				 h->journal ? "'vfmig resolve' is run on both sides" :
					      "you decide (there is no journal: 'vfmig recover --run', or --discard)");
	log_line(h->log, VFMIG_LOG_WARNING, "session %s: %s here; the other side could not be told", h->session,
		 handover_state_name(h->state));
	return HANDOVER_STEP_OVER;
}

/* Source: a connection that is there; its other side is asked to prove who it is. */
static void greet(struct handover *h)
{
	h->connected = true;
	h->hello_ns = add_ns(clock_now_ns(), HELLO_NS);
	for (unsigned i = 0; i < HANDOVER_HELLO; i++)
		handover_ask(h, handover_hello(h, i));
}

/* Source: flushes and hears until the destination has proven itself. 0; -EAGAIN; -errno: another peer, or gone. */
static int hear_hello(struct handover *h)
{
	struct vfmig_error ignored;
	enum message message;
	for (unsigned n = 0; !handover_recognised(h); n++) {
		if (n == MESSAGES)
			return -EPROTO;
		int r = handover_flush(h, &ignored);
		if (r == 0 || r == -EAGAIN)
			r = handover_hear(h, &message, &ignored);
		if (r == 0)
			return -ECONNRESET;
		if (r < 0)
			return r == -EAGAIN && clock_now_ns() >= h->hello_ns ? -ETIMEDOUT : r;
	}
	return 0;
}

/* Nobody waits for ever where all is settled and the other side only is to be told. */
static uint64_t patience_ns(const struct handover *h)
{
	bool open = h->state == HANDOVER_COMMITTED || h->state == HANDOVER_PREPARED;
	return open ? h->retry_ns : min_u64(h->retry_ns, HANDOVER_RETRY_NS);
}

/* A lost connection is shut down, so that the other side notices; a connection that a resolve begins with is judged. */
static int begin_accepting(struct handover *h, struct vfmig_error *err)
{
	uint8_t proof[HANDOVER_PROOF];
	/* Nothing of a handover that is made again is compressed. */
	struct vfmig_link *listener = h->origin->under ? h->origin->under : h->origin;
	handover_proof(h, proof);
	int r = acceptor_new(listener, proof, sizeof(proof), &h->acceptor, err);
	if (r < 0)
		return r;
	if (h->connected)
		acceptor_add(h->acceptor, h->link);
	else
		shutdown(h->link->wait_fd, SHUT_RDWR);
	return 0;
}

/* Destination: 0: the source is back; -EAGAIN; -errno. */
static int accept_source(struct handover *h, struct vfmig_error *err)
{
	struct vfmig_link *link;
	int r = h->acceptor ? 0 : begin_accepting(h, err);
	if (r == 0)
		r = acceptor_step(h->acceptor, &link);
	if (r < 0)
		return r;
	end_accepting(h);
	if (link != h->link) {
		vfmig_link_close(h->met);
		h->link = h->met = link;
	}
	handover_answer_proof(h);
	return 0;
}

/* Source: 0: the destination is back; -EAGAIN, at the latest until *until_ns; -errno. */
static int connect_again(struct handover *h, uint64_t *until_ns, struct vfmig_error *err)
{
	int r = clock_now_ns() < h->pause_ns ? -EAGAIN : 0;
	if (r == 0 && !h->connected) {
		r = link_reconnect(h->link, err);
		if (r < 0)
			return r;
		greet(h);
	}
	if (r == 0)
		r = hear_hello(h);
	if (r == 0)
		return 0;
	if (r != -EAGAIN) {
		forget_connection(h);
		/* Somebody else was there, or it has gone again: not at once once more. */
		h->pause_ns = add_ns(clock_now_ns(), PAUSE_NS);
	}
	*until_ns = min_u64(*until_ns, h->connected ? h->hello_ns : h->pause_ns);
	return -EAGAIN;
}

/* Back in touch: 0; -EAGAIN; HANDOVER_STEP_OVER or -errno: given up. */
static int meet(struct handover *h, struct vfmig_error *err)
{
	uint64_t now_ns = clock_now_ns(), until_ns = add_ns(h->lost_ns, patience_ns(h));
	if (now_ns >= until_ns)
		return give_up(h, -ETIMEDOUT, err);
	int r = h->side == HANDOVER_SOURCE ? connect_again(h, &until_ns, err) : accept_source(h, err);
	if (r == -EAGAIN)
		return wait_until(h, until_ns, err);
	if (r < 0)
		return give_up(h, r, err);
	h->lost = false;
	log_line(h->log, VFMIG_LOG_INFO, "session %s: connected again", h->session);
	handover_say(h, says(h->side, h->state));
	h->over |= h->state == HANDOVER_DONE;
	return 0;
}

/* ------------------------------------------------------------------ steps */

void handover_stopped(struct handover *h)
{
	h->state = HANDOVER_STOPPED;
}

int handover_prepared(struct handover *h, const char *digest, struct cursor rest, struct vfmig_error *err)
{
	const struct journal_line line = { .digest = digest };
	int r = h->journal ? journal_write(h->journal, HANDOVER_PREPARED, &line, err) : 0;
	if (r < 0)
		return r;
	h->rest = rest;
	h->state = HANDOVER_PREPARED;
	handover_say(h, PREPARED);
	return 0;
}

void handover_resume(struct handover *h, enum handover_state state)
{
	h->state = state == HANDOVER_DECIDED ? HANDOVER_COMMITTED : state == HANDOVER_RUNS ? HANDOVER_RUNS_ON : state;
	h->lost = true;
	h->lost_ns = clock_now_ns();
	h->connected = true;
	if (h->side == HANDOVER_SOURCE)
		greet(h);
}

int handover_step(struct handover *h, struct vfmig_error *err)
{
	/* A side that floods this one with messages gets its turn again at the next step. */
	for (unsigned n = 0; n < MESSAGES; n++) {
		struct vfmig_error why = { 0 };
		enum message heard = NOTHING;
		int r = h->lost && !h->over ? meet(h, err) : 0;
		if (r != 0)
			return r;
		r = h->lost ? 0 : handover_flush(h, &why);
		if (h->over && r != -EAGAIN)
			return HANDOVER_STEP_OVER;
		if (r == 0 || (r == -EAGAIN && !h->over))
			r = handover_hear(h, &heard, &why);
		if (r == -EAGAIN)
			return r;
		r = r <= 0 ? cut(h, &why, err) : take_message(h, heard, err);
		if (r != 0)
			return r;
	}
	return 0;
}

int handover_wait(const struct handover *h, short *ret_events)
{
	*ret_events = POLLIN;
	if (h->lost)
		return h->epoll_fd;
	if (h->queued)
		*ret_events = h->over ? POLLOUT : POLLIN | POLLOUT;
	*ret_events = link_events(h->link, *ret_events);
	return h->link->wait_fd;
}

void handover_running(struct handover *h, bool held)
{
	(void)record(h, HANDOVER_RUNNING, held);
	h->state = HANDOVER_RUNNING;
	handover_say(h, RUNNING);
}

void handover_taken_back(struct handover *h, bool undone)
{
	struct vfmig_error e;
	int r = undone ? record_undone(h, HANDOVER_ABANDONED, &e) : 0;
	if (r < 0)
		log_line(h->log, VFMIG_LOG_WARNING, "%s", e.message);
	/* Without a word: a journal that says committed would start the device, so the source must not run. */
	if (!undone || (r < 0 && h->state == HANDOVER_COMMITTED)) {
		h->over = true;
		return;
	}
	h->state = HANDOVER_ABANDONED;
	h->over |= h->aborted; /* the source knows, and this is only polite */
	handover_say(h, LOST);
}

int handover_cancel(struct handover *h, struct vfmig_error *err)
{
	if (h->state != HANDOVER_STOPPED) {
		h->over = true;
		return 0;
	}
	int r = run_on(h, NOTHING, err);
	if (r > 0)
		handover_say(h, ABORT);
	return r;
}
