/* SPDX-License-Identifier: BSD-3-Clause */
/* resolve.h: going on with a session whose program was killed, or gave up, from its journal and its devices. */
#ifndef VFMIG_MIGRATE_RESOLVE_H
#define VFMIG_MIGRATE_RESOLVE_H

#include "device/device.h"
#include "migrate/handover.h"

enum resolve_decision {
	RESOLVE_MEET,	     /* the journals of both sides decide, which meet */
	RESOLVE_SOURCE,	     /* a person says that the source has the device */
	RESOLVE_DESTINATION, /* ... that the destination has it */
};

struct resolve {
	struct journal *journal; /* owned until resolve_meet or resolve_end */
	enum handover_side side;
	enum handover_state state;
	enum journal_peer peer;
	bool held; /* source: the devices were stopped before the save, so back to that */
	bool by_person; /* its last line was a person's word */
	const char *session;
	struct vfmig_device **devices; /* borrowed; of this side */
	size_t num_devices;
	bool state_gone; /* what they held ended with their program, or with an earlier incarnation of them */
	uint64_t retry_ns;
	/* The caller's, to be waited for in the meeting; when it is readable and cancels() says so, that ends with
	 * -ECANCELED, and what is decided stays. -1: there is none. */
	int cancel_fd;
	bool (*cancels)(void);
	/* What goes on with the devices, once they run here; NULL: nothing does. Then only the journal says so. */
	int (*resume)(void *opaque, struct vfmig_error *err);
	void *resume_opaque;
	const struct log *log;
	struct handover handover;
};

/*
 * Does what needs no other side: a decision, which is refused (-EPERM) where the
 * journal has promised otherwise; a source that had decided nothing runs on; a
 * committed destination is started. The journal is written before a device
 * changes, and once more when it has. Returns 1 when the other side has to be met, 0 when all is done.
 */
int resolve_begin(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err);

/* Meets the other side on the link, which is connected (borrowed), until both know. */
int resolve_meet(struct resolve *r, struct vfmig_link *link, struct vfmig_error *err);
void resolve_end(struct resolve *r);

#endif
