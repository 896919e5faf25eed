/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * converge.h: when a save may stop its device. Numbers in, a decision out: it
 * reads no clock, asks no device and sends nothing.
 */
#ifndef VFMIG_MIGRATE_CONVERGE_H
#define VFMIG_MIGRATE_CONVERGE_H

#include <stdbool.h>
#include <stdint.h>

struct converge {
	/* What is wanted; 0: no limit of that kind. */
	uint64_t downtime_limit_ns, max_bandwidth, timeout_ns;

	/* What was measured. Private, but for the bandwidth. */
	uint64_t bandwidth; /* bytes/s of the last whole window; 0: none has passed */
	uint64_t window_ns, window_bytes;
	uint64_t pace_ns, pace_bytes; /* from here on max_bandwidth is kept */
	uint64_t deadline_ns;
};

/* What was found out about what is left, all participants together. */
struct converge_pending {
	uint64_t bytes;	     /* have to leave while the device is stopped, if it stops now */
	uint64_t stop_ns;    /* what its transitions will take, as far as they are known */
	bool unknown;	     /* there is more, nobody knows how much */
	bool exact;	     /* an estimate otherwise */
	bool nothing_to_send; /* a whole round gave nothing: more rounds make it no less */
	bool ack_missing;     /* the other side has not loaded what it must have before the switch */
};

enum converge_verdict {
	CONVERGE_GO_ON,	      /* another round */
	CONVERGE_LOOK_CLOSER, /* the estimate would do: ask for the exact number */
	CONVERGE_SWITCH,
	CONVERGE_TIMED_OUT, /* it did not get there in time */
};

/* Pre-copy begins; bytes: sent until now. */
void converge_start(struct converge *c, uint64_t now_ns, uint64_t bytes);
/* To be called often: closes a window of 100 ms when one has passed. */
void converge_measure(struct converge *c, uint64_t now_ns, uint64_t bytes);
/* How long the device would be stopped; UINT64_MAX: nobody knows. */
uint64_t converge_downtime_ns(const struct converge *c, const struct converge_pending *p);
enum converge_verdict converge_decide(const struct converge *c, uint64_t now_ns, const struct converge_pending *p);
/* The time is given once more. */
void converge_extend(struct converge *c, uint64_t now_ns);
/* How long sending has to pause to keep to max_bandwidth; 0: not at all. */
uint64_t converge_pause_ns(struct converge *c, uint64_t now_ns, uint64_t bytes);

#endif
