/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model.h: the software device: a PCI function with an engine at work and a
 * v1 migration region.
 *
 * One lock protects all of it. The engine's thread holds it while it steps; it
 * drops it while a DMA message waits for the client's answer (`in_flight`),
 * because the answer may come after a request that wants the lock. A state
 * write that clears RUNNING waits for such a message with the lock dropped, so
 * that no step and no DMA happens once it has returned.
 */
#ifndef VFMIG_SIM_MODEL_H
#define VFMIG_SIM_MODEL_H

#include <pthread.h>

#include "sim/sim_config.h"
#include "sim/sim_dirty.h"
#include "sim/sim_options.h"
#include "sim/sim_region.h"
#include "sim/work.h"

/* BAR 0: registers of 8 bytes, little-endian. A write of LATCH copies all of
 * them, at one moment, to SIM_BAR_LATCHED + their offset. */
enum sim_register {
	SIM_BAR_MAGIC = 0x00,
	SIM_BAR_CONTROL = 0x08, /* rw: SIM_CONTROL_* */
	SIM_BAR_RATE = 0x10,	/* rw: steps a second */
	SIM_BAR_SEED = 0x18,
	SIM_BAR_STATE_BYTES = 0x20,
	SIM_BAR_STEP = 0x28,
	SIM_BAR_CHAIN = 0x30,
	SIM_BAR_DIGEST = 0x38,	     /* of all pages, as struct sim_pages has it */
	SIM_BAR_RESUMED_STEP = 0x40, /* the step at which the last load went on */
	SIM_BAR_LOADS = 0x48,	     /* completed loads since the reset */
	SIM_BAR_LOG_IOVA = 0x50,     /* rw */
	SIM_BAR_LOG_ENTRIES = 0x58,  /* rw: 0: no log */
	SIM_BAR_LOGGED = 0x60,
	SIM_BAR_NOT_LOGGED = 0x68,
	SIM_BAR_OPAQUE_BYTES = 0x70,
	SIM_BAR_OPAQUE_COUNT = 0x78, /* transactions */
	SIM_BAR_LATCH = 0x80,	     /* w */
	SIM_BAR_LATCHED = 0x100,
};
#define SIM_BAR_REGISTERS 16u /* before LATCH */
#define SIM_BAR_MAGIC_VALUE UINT64_C(0x6d697367696d6676) /* "vfmigsim" */

struct sim_mapping {
	uint64_t iova, length;
	uint8_t *address; /* NULL: reached by messages */
	uint32_t flags;
};

#define SIM_MAPPINGS_MAX 64u

/* Writes to the client's memory by a message, without the device's lock; 0 or -errno. */
typedef int sim_message_fn(void *opaque, uint64_t iova, const void *data, size_t length);

struct sim_device {
	struct sim_options options;
	pthread_mutex_t lock;
	pthread_cond_t wake; /* the engine looks again */
	pthread_cond_t idle; /* in_flight has become false */
	pthread_cond_t turn; /* engine_turn has changed */

	struct sim_work work;
	struct sim_registers registers;
	uint64_t resumed_step, loads;
	uint64_t latched[SIM_BAR_REGISTERS];
	uint8_t msix[SIM_MSIX_VECTORS * 16];
	struct sim_config config;
	struct sim_region region;

	struct sim_mapping mappings[SIM_MAPPINGS_MAX];
	size_t mapping_count;
	struct sim_dirty dirty; /* the log of what it writes there */
	bool lose_page;		/* fault: one page of it is still to be lost */
	sim_message_fn *message;
	void *message_opaque;
	bool in_flight;
	unsigned int quiescing; /* somebody waits for in_flight to end: no new step */

	/* The engine's thread (engine.c). */
	pthread_t thread;
	bool has_thread, quit;
	unsigned int callers; /* atomic: who wants the lock */
	bool giving_way;      /* the engine lets one of them go first */
	bool engine_turn;     /* one did: now the engine */
	uint64_t clock_start_ns, clock_steps;

	bool served; /* behind a server, which does what "hang" and "disconnect" mean */
	bool gone;   /* in process: it hung or disconnected */
};

int sim_device_new(const struct sim_options *options, struct sim_device **ret, struct vfmig_error *err);
void sim_device_free(struct sim_device *d);

void sim_device_lock(struct sim_device *d);
void sim_device_unlock(struct sim_device *d);

/* The rest is called with the lock held. */
int sim_bar_read(struct sim_device *d, uint64_t offset, void *buffer, size_t length, struct vfmig_error *err);
int sim_bar_write(struct sim_device *d, uint64_t offset, const void *buffer, size_t length, struct vfmig_error *err);
/* Everything as it was made, running, the engine off. */
void sim_device_reset(struct sim_device *d);
/* What the option asks for at that step. 0: go on, and *ret_fault (or NULL) is
 * the caller's to do; else the result of the access. */
int sim_device_fault(struct sim_device *d, enum fault_step step, const struct fault **ret_fault,
		     struct vfmig_error *err);

/* engine.c */
int sim_engine_start(struct sim_device *d, struct vfmig_error *err);
void sim_engine_stop(struct sim_device *d); /* without the lock */
/* Something that the engine depends on has changed. */
void sim_engine_kick(struct sim_device *d);
/* Returns when no DMA message is under way; the lock is dropped meanwhile. */
void sim_engine_quiesce(struct sim_device *d);
/* Without the lock: n steps now, if the device runs and the engine is on. Returns how many were done. */
uint64_t sim_device_steps(struct sim_device *d, uint64_t n);

/* sim_dma.c */
int sim_dma_map(struct sim_device *d, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		struct vfmig_error *err);
int sim_dma_unmap(struct sim_device *d, uint64_t iova, uint64_t length, struct vfmig_error *err);
void sim_dma_unmap_all(struct sim_device *d);
/* Writes what the step just done logs. May drop the lock. */
void sim_dma_log(struct sim_device *d);
/*
 * The log of written pages, as access.h has it. -EOPNOTSUPP: not by that one. The bits of a report are a u64 each
 * 64 pages, little-endian.
 */
int sim_dma_dirty_start(struct sim_device *d, enum access_log log, const struct access_range *ranges, size_t count,
			uint64_t page_size, struct vfmig_error *err);
int sim_dma_dirty_report(struct sim_device *d, enum access_log log, uint64_t iova, uint64_t length,
			 uint64_t page_size, void *bitmap, struct vfmig_error *err);
int sim_dma_dirty_stop(struct sim_device *d, enum access_log log, struct vfmig_error *err);
int sim_dma_unmap_dirty(struct sim_device *d, enum access_log log, uint64_t iova, uint64_t length,
			uint64_t page_size, void *bitmap, struct vfmig_error *err);

#endif
