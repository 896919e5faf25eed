/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * converge.h: when a save may stop its device. Numbers in, a decision out: it
 * reads no clock, asks no device and sends nothing.
 */
#ifndef VFMIG_MIGRATE_CONVERGE_H
#define VFMIG_MIGRATE_CONVERGE_H

#include <stdbool.h>
#include <stdint.h>

#define CONVERGE_QUESTIONS 16u

struct converge_question {
	uint64_t ns, bytes; /* when it was put, and what before it */
};

struct converge {
	/* What is wanted; 0: no limit of that kind. */
	uint64_t downtime_limit_ns, max_bandwidth, timeout_ns;
	uint64_t round_trip_ns; /* before anything else was under way; 0: unknown */
	bool agrees; /* the other side asks before it runs: one more way there and back */

	/* What was measured. Private, but for the bandwidth. */
	uint64_t bandwidth; /* bytes/s of the last whole window, or second if that is less; 0: none has passed */
	double average;	    /* of about a second */
	uint64_t lag_ns;    /* what is sent now is loaded and answered after so long; 0: nobody answers */
	uint64_t least_lag_ns;
	uint64_t window_ns, window_bytes;
	struct converge_question asked[CONVERGE_QUESTIONS]; /* a ring of those that are not answered yet */
	unsigned int oldest, open;			     /* the first of them, and how many they are */
	uint64_t ask_ns;				     /* the last one */
	uint64_t answer_ns, answer_bytes; /* the last answer, and what was sent before its question */
	bool answered;			  /* the window is from answer to answer */
	uint64_t pace_ns, pace_bytes; /* from here on max_bandwidth is kept */
	uint64_t deadline_ns;
};

/* What was found out about what is left, all participants together. */
struct converge_pending {
	uint64_t bytes;	     /* have to leave while the device is stopped, if it stops now */
	uint64_t stop_ns;    /* what its transitions will take, as far as they are known */
	bool unknown;	     /* there is more, nobody knows how much */
	bool stays_unknown;  /* ... and no round of pre-copy tells or makes it less: its device has nothing to send */
	bool exact;	     /* an estimate otherwise */
	bool nothing_to_send; /* a whole round gave nothing: more rounds make it no less */
	bool sendable;	      /* certainly another round gives something: pages that were written since */
	bool ack_missing;     /* the other side has not loaded what it must have before the switch */
};

enum converge_verdict {
	CONVERGE_GO_ON,	      /* another round */
	CONVERGE_LOOK_CLOSER, /* the estimate would do: ask for the exact number */
	CONVERGE_DRAIN,	      /* another round once the question is answered: too much is under way */
	CONVERGE_SWITCH,
	CONVERGE_TIMED_OUT, /* it did not get there in time */
};

/* Pre-copy begins; bytes: sent until now. */
void converge_start(struct converge *c, uint64_t now_ns, uint64_t bytes);
/* To be called often: closes a window of 100 ms when one has passed. */
void converge_measure(struct converge *c, uint64_t now_ns, uint64_t bytes);
/*
 * Where the other side answers: a question is part of the stream, so its answer tells that all before it has arrived,
 * however much sockets and the way hold, and how long that takes. May one be put?
 */
bool converge_may_ask(const struct converge *c, uint64_t now_ns);
/* It is put; bytes: before it. */
void converge_ask(struct converge *c, uint64_t now_ns, uint64_t bytes);
/* The answer to the oldest is there. */
void converge_answer(struct converge *c, uint64_t now_ns);
/* How long the device would be stopped; UINT64_MAX: nobody knows. */
uint64_t converge_downtime_ns(const struct converge *c, const struct converge_pending *p);
enum converge_verdict converge_decide(const struct converge *c, uint64_t now_ns, const struct converge_pending *p);
/* The time is given once more. */
void converge_extend(struct converge *c, uint64_t now_ns);
/* How long sending has to pause to keep to max_bandwidth; 0: not at all. */
uint64_t converge_pause_ns(struct converge *c, uint64_t now_ns, uint64_t bytes);

#endif
