/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handlers.h: the registry of what takes part in a migration, in the manner of
 * QEMU's SaveVMHandlers, and the two participants that the library brings.
 */
#ifndef VFMIG_MIGRATE_HANDLERS_H
#define VFMIG_MIGRATE_HANDLERS_H

#include "device/device.h"
#include "migrate/converge.h"
#include "migrate/log.h"
#include "stream/description.h"

struct outlets;
struct reader_vfio_ops;
struct write_behind;
struct read_ahead;

/* Devices that do pre-copy, and those of them whose initial bytes have been sent and announced. */
struct initial_sent {
	unsigned int devices, announced;
};

enum initial_loaded {
	INITIAL_NONE, /* the device does no pre-copy */
	INITIAL_AWAITED,
	INITIAL_LOADED,
};

struct participant {
	struct vfmig_participant_ops ops;
	void *opaque;
	char id[WIRE_ID_MAX + 1]; /* load: empty until known, for "the only VFIO device" */
	uint32_t instance_id, version_id;
	uint32_t section_id; /* save: given with its first section; 0: not yet */
	const char *name;    /* for messages; owned by the participant's device */
	bool adopted;	     /* load: its id was taken from the stream */
	bool begun;	     /* setup was called: cleanup is owed, and undo unless it succeeds */

	/* Load: while it is on, load_state verifies and touches nothing. Turning it off forgets what was counted.
	 * NULL: it cannot be checked beforehand. */
	void (*set_checking)(void *opaque, bool checking);

	/* Only VFIO devices have these. */
	/* Load, before anything of a section: does the stream have a seal, or is it one of vfmig's without digests? */
	void (*set_digests)(void *opaque, bool sealed, bool plain);
	const struct protocol *protocol;
	/* Save: what is left after the stop goes over these, by packets that name the participant's id. */
	void (*set_outlets)(void *opaque, struct outlets *outlets, const char *id);
	/* Save: announce initial bytes that have been sent, and count. */
	void (*set_initial)(void *opaque, struct initial_sent *initial);
	enum initial_loaded (*initial_loaded)(const void *opaque); /* load */
	void (*describe)(void *opaque, struct description_device *ret);
	int (*verify)(void *opaque, const struct description_device *d, struct vfmig_error *err);
	const struct reader_vfio_ops *vfio_ops; /* load: in the place of ops.load_state */
	/* Load, state that came by channels: the next packet's bytes, behind which there is room for one more. */
	int (*take_packet)(void *opaque, bool config, uint8_t *data, size_t length, struct vfmig_error *err);
	bool (*has_all)(const void *opaque); /* load: to its config record, however it came */
	int (*settle)(void *opaque, struct vfmig_error *err); /* out of stop-and-copy or resuming, into stop */
	void (*undo_prepare)(void *opaque); /* to a P2P state, if there is one and it will run again */
	void (*free)(void *opaque);
};

static inline bool participant_loads(const struct participant *p)
{
	return p->ops.load_state || p->vfio_ops;
}

struct participants {
	struct participant *list;
	size_t count;
	bool loading; /* which of the two cleanups is meant */
};

/* Appends one with ops copied; fails on a bad id (-EINVAL) or a second use of it (-EEXIST). */
int participants_add(struct participants *p, const struct vfmig_participant_ops *ops, void *opaque, const char *id,
		     uint32_t instance_id, uint32_t version_id, struct participant **ret, struct vfmig_error *err);
void participants_clear(struct participants *p);

void participants_cleanup(struct participants *p);

/*
 * A VFIO device as a participant. config: what takes part in the config record
 * comes from the device's vfmig_interrupt_ops.
 */
int vfio_save_add(struct participants *p, struct vfmig_device *device, const char *id,
		  const struct vfmig_save_options *opts, struct read_ahead *ahead, const struct log *log,
		  struct vfmig_error *err);
/* id NULL: taken from the stream's only VFIO device. */
int vfio_load_add(struct participants *p, struct vfmig_device *device, const char *id,
		  const struct vfmig_load_options *opts, struct write_behind *behind, const struct log *log,
		  struct vfmig_error *err);
/* What all have left, added up: bytes, stop_ns (devices stop together: the slowest one's) and unknown of *ret. */
int participants_pending(const struct participants *p, bool exact, struct converge_pending *ret,
			 struct vfmig_error *err);

/*
 * Several devices may do DMA to each other while one is stopped and another is
 * not, so a v2 device without the P2P states has to be the only one
 * (linux/vfio.h; QEMU 8). v1 has no such states; QEMU 7.2 moves several all the same.
 */
int participants_check_p2p(const struct participants *p, struct vfmig_error *err);

#endif
