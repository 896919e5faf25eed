/* SPDX-License-Identifier: BSD-3-Clause */
/* save_impl.h: what save.c, which drives, and save_stages.c, which does the work, share. */
#ifndef VFMIG_MIGRATE_SAVE_IMPL_H
#define VFMIG_MIGRATE_SAVE_IMPL_H

#include <stdatomic.h>

#include "base/spin.h"
#include "migrate/downtime.h"
#include "migrate/handlers.h"
#include "migrate/handover.h"
#include "migrate/ledger.h"
#include "migrate/memory.h"
#include "migrate/outlets.h"
#include "stream/writer.h"

enum save_stage {
	HEADER,
	GREET,
	SETUP,
	ITERATE,
	DECIDE,
	STOP_PREPARE,
	STOP,
	COMPLETE,
	SETTLE,
	STATE,
	FINISH,
	CONFIRM,
	DONE,
};

struct vfmig_save {
	struct vfmig_link *link;
	struct vfmig_writer *writer;
	struct read_ahead *ahead;
	struct outlets *outlets; /* NULL: one connection */
	struct vfmig_save_options opts;
	char machine[256];
	struct log log;
	struct log_counts log_counts;
	struct participants participants;
	const struct vfmig_memory *memory; /* NULL: none */
	struct description description;
	bool return_path_open;
	struct handover handover; /* decides, once the other side is known to be vfmig */
	bool held;		  /* the devices were stopped before */
	bool taken_back;	  /* the devices were, and the other side is being told */

	enum save_stage stage;
	size_t at;	      /* the participant whose turn it is */
	bool in_section;      /* its section's header is written */
	bool body_done;	      /* ... and the body, but the footer has to wait for a flush */
	int body_result;      /* what its handler said then */
	uint64_t body_offset; /* of that section's body */
	bool round_done;      /* every participant of this round had nothing left */
	bool devices_done;    /* every VFIO device */
	bool decide_exact;
	bool draining; /* the next round waits for the answer to a ping */
	uint32_t sections;	/* section ids that were given */
	struct converge converge;
	struct converge_pending pending;
	struct initial_sent initial;
	bool acked;	       /* the other side has the initial bytes */
	uint64_t ack_pause_ns; /* until then nothing is sent: there is nothing, and the ack is missing */
	int pause_fd; /* timerfd: while sending pauses for max_bandwidth; -1: never */
	bool pausing;
	uint64_t finish_offset; /* in the stream, of what only FINISH puts; 0: not there yet */
	bool refused;		/* the other side said that it will not run */
	bool not_ours, claimed; /* another session has a device, or gave it away; they are this session's */
	short wait_events;
	struct spin spin;
	int failed; /* the errno it ended with */

	_Atomic bool cancelled;
	int cancel_fd; /* eventfd: wakes vfmig_save_run */

	struct vfmig_status status;
	struct downtime downtime;
	uint64_t started_ns, ended_ns;
};

/* The next piece of the stage's work; nothing is queued. 0 or -errno. */
int save_work(struct vfmig_save *s, struct vfmig_error *err);
/* The devices as they were; status.source_may_run tells whether that was possible. 0, or what could not be put back. */
int save_take_back(struct vfmig_save *s, struct vfmig_error *err);
/* GREET and CONFIRM, which wait for the link: 0 when the stage has changed, -EAGAIN, -errno. */
int save_greet(struct vfmig_save *s, struct vfmig_error *err);
int save_confirm(struct vfmig_save *s, struct vfmig_error *err);
/* Put so far, on all connections. */
uint64_t save_bytes(const struct vfmig_save *s);
/* The return path may speak at any time; 1: it said SHUT, loaded; -EAGAIN; -errno. */
int save_listen(struct vfmig_save *s, struct vfmig_error *err);

#endif
