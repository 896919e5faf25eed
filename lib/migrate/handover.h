/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handover.h: who may run the device, between two vfmigs (doc/handover.md).
 *
 * The two recognise each other by pings and their answers while the stream goes
 * on, which a QEMU answers and forgets; from the stream's end on this decides,
 * over as many connections as it takes. It touches no device: what is to be
 * done with the devices is what its steps return.
 */
#ifndef VFMIG_MIGRATE_HANDOVER_H
#define VFMIG_MIGRATE_HANDOVER_H

#include "base/bytes.h"
#include "base/clock.h"
#include "link/acceptor.h"
#include "migrate/journal.h"
#include "migrate/return_path.h"

#define HANDOVER_RETRY_NS (60 * NS_PER_S) /* longer than a dead TCP peer takes to be noticed */
#define HANDOVER_WORDS 4u		   /* the session's id as pings */
#define HANDOVER_HELLO (1 + HANDOVER_WORDS) /* the mark, and those */

struct handover {
	enum handover_side side;
	enum handover_state state;
	struct vfmig_link *link;
	struct vfmig_link *origin; /* is made again; another than link if that came as a further connection of it */
	struct vfmig_link *met;	   /* destination, owned: the connection that replaced a lost one; NULL: none yet */
	struct acceptor *acceptor; /* destination: finds the source among all that connect; NULL while not lost */
	const struct log *log;
	struct journal *journal; /* NULL: none is kept */
	uint64_t retry_ns;	 /* how long a lost connection is tried again */
	char session[SESSION_TEXT]; /* destination: empty until it is known */
	uint32_t words[HANDOVER_WORDS];

	/* this connection's */
	unsigned heard; /* of the other side's hello */
	bool foreign;	/* source: the other side is no vfmig */
	struct return_path from_destination;
	uint8_t command[9]; /* destination: one ping is gathered */
	size_t have;
	struct cursor rest; /* destination: what came behind the stream, read before the link */
	uint8_t out[128];
	size_t queued;

	bool lost;	    /* the connection is; another is sought */
	bool connected;	    /* ... and there, but the other side has not proven that it is the same */
	bool over;	    /* the last word is said or heard */
	uint64_t lost_ns;   /* since when */
	uint64_t hello_ns;  /* until when the hello has to be there */
	uint64_t pause_ns;  /* until when no other connection is tried */
	bool told;	    /* source: the destination holds nothing, it says (LOST) */
	bool stuck;	    /* source: the journal may say that it gave the device away, and cannot be changed */
	bool aborted;	    /* destination: by the source */
	struct vfmig_error cause; /* of what a TAKE_BACK is for */
	int epoll_fd, timer_fd; /* to wait for the link or a time, while lost; -1 */
};

/* What a step asks for. */
enum handover_step {
	HANDOVER_STEP_TAKE_BACK = 1, /* undo the devices, then handover_taken_back */
	HANDOVER_STEP_START,	     /* destination: start them, then handover_running or handover_taken_back */
	HANDOVER_STEP_OVER,	     /* state is DONE, RUNS_ON, RUNNING or ABANDONED, and all is said */
};

/*
 * The link has to stay open until handover_clear. session NULL: a new one (source), or not known yet (destination).
 * retry_ns: as vfmig_save_options.retry_for_ns.
 */
int handover_init(struct handover *h, enum handover_side side, struct vfmig_link *link, const char *session,
		  uint64_t retry_ns, const struct log *log, struct vfmig_error *err);
void handover_clear(struct handover *h);

/* Source: the hello's values, to be sent as pings. */
uint32_t handover_hello(const struct handover *h, unsigned i);
/* Source: a pong came. -EPROTO: the other side is not who it was. */
int handover_pong(struct handover *h, uint32_t value, struct vfmig_error *err);
/* Source: is it known what the other side is? */
bool handover_greeted(const struct handover *h);
/* Destination: a ping came within the stream; its answer. 1: the session is known now. */
int handover_ping(struct handover *h, uint32_t value, uint32_t *ret_answer);
/* Both sides are vfmig, and have said so. */
bool handover_recognised(const struct handover *h);

/* Source: the end of the stream may be at the other side. */
void handover_stopped(struct handover *h);
/* Destination: all is verified and nothing started. rest: bytes that came behind the stream. */
int handover_prepared(struct handover *h, const char *digest, struct cursor rest, struct vfmig_error *err);
/* A program that was started again, with its journal's state: the link is connected, but maybe to somebody else. */
void handover_resume(struct handover *h, enum handover_state state);

/* An enum handover_step; 0: call again; -EAGAIN: wait first; -errno: given up, nothing is decided by that. */
int handover_step(struct handover *h, struct vfmig_error *err);
int handover_wait(const struct handover *h, short *ret_events);

/* Destination: the devices run; held: they are stopped, as they were to be. */
void handover_running(struct handover *h, bool held);
/* Destination: the devices were put back (undone), or could not be. */
void handover_taken_back(struct handover *h, bool undone);
/* Source: the user does not want to wait. 1: take the devices back; 0: it is decided, so no more can be done. */
int handover_cancel(struct handover *h, struct vfmig_error *err);

#endif
