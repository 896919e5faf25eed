/* SPDX-License-Identifier: BSD-3-Clause */
/* load_impl.h: what load.c, which drives, and load_sections.c, which takes the records, share. */
#ifndef VFMIG_MIGRATE_LOAD_IMPL_H
#define VFMIG_MIGRATE_LOAD_IMPL_H

#include <stdatomic.h>

#include "base/spin.h"
#include "migrate/channels.h"
#include "migrate/downtime.h"
#include "migrate/handlers.h"
#include "migrate/handover.h"
#include "migrate/ledger.h"
#include "migrate/memory.h"
#include "migrate/write_behind.h"
#include "stream/reader.h"

enum load_stage { CHECK, READ, COMPLETE, HOLD, AGREE, START_PREPARE, START, REPORT, DONE };

struct vfmig_load {
	struct vfmig_link *link;
	struct reader *reader;
	struct channels *channels; /* NULL: one connection */
	bool stream_ended;	   /* with channels: only they are waited for */
	struct vfmig_load_options opts;
	struct log log;
	struct log_counts log_counts;
	struct participants participants;
	struct write_behind *behind;
	const struct vfmig_memory *memory; /* NULL: none */
	struct return_path return_path;
	bool return_path_open;
	struct handover handover; /* decides, once the other side is known to be vfmig */
	bool taken_back;	  /* the devices were, and the source is being told */
	struct vfmig_error cause; /* of that */
	bool kept;		  /* the devices stay loaded and stopped, whatever becomes of this program */
	bool acked;		  /* the source was told that the initial bytes are loaded */

	enum load_stage stage;
	size_t at;
	bool begun;		     /* the first step was taken */
	bool in_body;		     /* the reader stands at a section's body */
	struct participant *taker;   /* of that section; NULL: skipped */
	struct reader_record record; /* that section's */
	uint64_t section_offset;     /* where its record began */
	bool told_unmarked;
	int failed;
	short wait_events;
	struct spin spin;

	_Atomic bool cancelled;
	int cancel_fd;

	struct vfmig_status status;
	struct downtime downtime;
	uint64_t started_ns, ended_ns;
};

/* load_setup of a participant, once. */
int load_begin_taker(struct vfmig_load *l, struct participant *p, struct vfmig_error *err);
/* Has the journal say so, if there is one; for a load without a handover. */
int load_note(struct vfmig_load *l, enum handover_state state, struct vfmig_error *err);
/* Takes the next record; 1: the stream has ended well. -EAGAIN, -errno. */
int load_take_record(struct vfmig_load *l, struct vfmig_error *err);
/* With several connections: some more of whatever has come; as load_take_record. */
int load_open_channels(struct vfmig_load *l, struct vfmig_error *err);
int load_take_any(struct vfmig_load *l, struct vfmig_error *err);
/* With one connection: has the source made more? -EBADMSG. */
int load_check_alone(struct vfmig_load *l, struct vfmig_error *err);
/* Some more of the body that the reader stands at. */
int load_take_body(struct vfmig_load *l, struct vfmig_error *err);

#endif
