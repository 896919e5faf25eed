/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio_state.h: the state that a save or a load last brought its device to, and what to do when it is another one.
 *
 * A guest or a driver may reset a device at any time, and a VMM may stop or start it. A device that was changed so is
 * no longer the migration's: it is left as it is, whatever has failed.
 */
#ifndef VFMIG_MIGRATE_VFIO_STATE_H
#define VFMIG_MIGRATE_VFIO_STATE_H

#include "device/device.h"

struct vfio_state {
	struct vfmig_device *device;
	enum vfmig_state at; /* what it was last brought to, or found in */
	bool unsure;	     /* a transition failed: the device may be anywhere on that way */
	bool changed;	     /* by somebody else */
};

/* -EBUSY: it is neither running nor stopped, so it is somebody else's, or was left so; the error says what helps. */
int vfio_state_begin(struct vfio_state *s, struct vfmig_device *device, enum vfmig_state *ret,
		     struct vfmig_error *err);
int vfio_state_set(struct vfio_state *s, enum vfmig_state state, struct vfmig_error *err);
/* Asks the device: -ESTALE when it was changed, -EIO when it has failed. */
int vfio_state_check(struct vfio_state *s, struct vfmig_error *err);
/* A request has failed with code: is that because the device was changed? Then the error says so. Returns the code. */
int vfio_state_explain(struct vfio_state *s, int code, struct vfmig_error *err);
/* Asks the device before something is taken back: s->changed tells whether it is still ours. */
int vfio_state_find(struct vfio_state *s, enum vfmig_state *ret, struct vfmig_error *err);
/* Asks the device after a reset: whatever it is in now is what it was brought to. */
int vfio_state_take(struct vfio_state *s, enum vfmig_state *ret, struct vfmig_error *err);

#endif
