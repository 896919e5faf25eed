/* SPDX-License-Identifier: BSD-3-Clause */
/* states.c: the device states' names, which every message uses, and a state that is not the expected one. */
#include "device/protocol.h"

const char *vfmig_state_name(enum vfmig_state state)
{
	static const char *const names[] = {
		[VFMIG_STATE_ERROR] = "error",
		[VFMIG_STATE_STOP] = "stopped",
		[VFMIG_STATE_RUNNING] = "running",
		[VFMIG_STATE_STOP_COPY] = "stop-and-copy",
		[VFMIG_STATE_RESUMING] = "resuming",
		[VFMIG_STATE_RUNNING_P2P] = "running-p2p",
		[VFMIG_STATE_PRE_COPY] = "pre-copy",
		[VFMIG_STATE_PRE_COPY_P2P] = "pre-copy-p2p",
	};
	unsigned i = state;
	return i < sizeof(names) / sizeof(names[0]) ? names[i] : "unknown";
}

int protocol_check_state(const struct protocol *p, enum vfmig_state expected, struct vfmig_error *err)
{
	if (p->state == expected || p->state == VFMIG_STATE_ERROR)
		return 0;
	return error_set(err, -ESTALE,
			 "the device is %s, expected %s: somebody else (its guest, its driver) has reset it or changed "
			 "its state; it is left as it is, start again",
			 vfmig_state_name(p->state), vfmig_state_name(expected));
}
