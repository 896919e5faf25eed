/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_region.h: the software device's migration region: registers, states, transactions. */
#ifndef VFMIG_SIM_REGION_H
#define VFMIG_SIM_REGION_H

#include "device/access.h"
#include "sim/opaque.h"
#include "sim/sim_state.h"
#include "sim/still.h"

#define SIM_REGION_INDEX ACCESS_PCI_NUM_REGIONS /* the first after PCI's own */
#define SIM_REGION_DATA 0x1000u			/* where the data section begins */

#define SIM_V1_RUNNING 1u
#define SIM_V1_SAVING 2u
#define SIM_V1_RESUMING 4u
#define SIM_V1_ERROR (SIM_V1_SAVING | SIM_V1_RESUMING)
#define SIM_V1_MASK 7u

#define SIM_V1_DEVICE_STATE 0u
#define SIM_V1_PENDING_BYTES 8u
#define SIM_V1_DATA_OFFSET 16u
#define SIM_V1_DATA_SIZE 24u

struct sim_device;

/* How far the client is with a transaction. */
enum sim_phase {
	SIM_PHASE_NONE,	 /* save: pending_bytes has not been read, or was 0 */
	SIM_PHASE_ASKED, /* save: pending_bytes read and above 0 */
	SIM_PHASE_OPEN,	 /* data_offset read */
	SIM_PHASE_SIZED, /* save: data_size read: the next pending_bytes acknowledges */
};

struct sim_region {
	uint32_t state; /* the three bits */
	enum sim_phase phase;
	bool endless; /* the fault never-falls is on */
	/* Save: the transaction that is laid out and not acknowledged; size 0: none. */
	uint64_t transaction_offset, transaction_size;
	uint64_t transactions;
	struct sim_saver saver;
	struct sim_loader loader;
	struct opaque opaque;
	struct still still;
	/* v2: in RUNNING_P2P or PRE_COPY_P2P, where no step is done, and how far the data channel is. */
	bool p2p;
	const struct opaque_transaction *taken;
	size_t taken_at;
	int fd; /* memfd of the whole region */
	uint8_t *base;
	uint64_t size;
};

int sim_region_init(struct sim_device *d, struct vfmig_error *err);
void sim_region_destroy(struct sim_device *d);
/* Does what a legal change to these bits does: v1's and v2's states are one machine. */
int sim_region_enter(struct sim_device *d, uint32_t to, struct vfmig_error *err);
/* The fault that is to strike on the way to these bits. */
enum fault_step sim_region_fault_step(uint32_t to);
/* Running, nothing begun. The caller resets the rest of the device. */
void sim_region_reset(struct sim_device *d);
int sim_region_areas(const struct sim_device *d, struct access_region_info *info, struct vfmig_error *err);
/* The range is inside the region. With the device's lock, as all of the above. */
int sim_region_read(struct sim_device *d, uint64_t offset, void *buffer, size_t length, struct vfmig_error *err);
int sim_region_write(struct sim_device *d, uint64_t offset, const void *buffer, size_t length,
		     struct vfmig_error *err);

#endif
