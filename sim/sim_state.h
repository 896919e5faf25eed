/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_state.h: the device's state as a string of bytes, as it goes through the
 * migration region.
 *
 * A sequence of records, all integers little-endian. Header, 24 bytes:
 *   u32 magic "vfsr"   u16 kind   u16 0   u64 page index   u64 payload length
 *   BEGIN 1: u64 format version 1, u64 page size, u64 state bytes, u64 seed; first, once
 *   PAGE  2: a page; any order, any number of times, each page at least once
 *   END   3: struct sim_registers, u64 each, and u64 number of pages; last, once
 * Transactions cut the string wherever they like: a save fills each one, and a
 * load takes any sizes.
 */
#ifndef VFMIG_SIM_STATE_H
#define VFMIG_SIM_STATE_H

#include "base/error.h"
#include "sim/work.h"

#define SIM_RECORD_HEADER 24u
#define SIM_RECORD_MAX (SIM_RECORD_HEADER + SIM_PAGE_SIZE)
#define SIM_RATE_MAX UINT64_C(10000000)
#define SIM_LOG_ENTRIES_MAX (UINT64_C(1) << 32)
#define SIM_CONTROL_ON 1u      /* the engine works */
#define SIM_CONTROL_SCATTER 2u /* the log is scattered; see work.h */
#define SIM_CONTROL_MASK 3u

/* What the engine has beside pages, step and chain; it moves with the device. */
struct sim_registers {
	uint64_t control; /* SIM_CONTROL_* */
	uint64_t rate;
	uint64_t log_iova;
	uint64_t log_entries;
	uint64_t logged;
	uint64_t not_logged;
};

/* A record that is on its way out or in. */
struct sim_record {
	uint8_t bytes[SIM_RECORD_MAX];
	size_t used, length;
};

struct sim_saver {
	struct sim_record record;
	bool begun, ended;
	uint64_t given; /* bytes since the start */
};

/* Marks every page dirty. */
void sim_saver_start(struct sim_saver *s, struct sim_work *w);
/* Exactly what is left to be given. `last`: up to the END. */
uint64_t sim_saver_pending(const struct sim_saver *s, const struct sim_work *w, bool last);
/* Fills the buffer as far as there is something; returns the bytes. */
size_t sim_saver_fill(struct sim_saver *s, struct sim_work *w, const struct sim_registers *registers, bool last,
		      uint8_t *buffer, size_t capacity);

struct sim_loader {
	struct sim_record record;
	bool begun, ended, failed;
};

/* Forgets what the device was. */
void sim_loader_start(struct sim_loader *l, struct sim_work *w);
/* -EINVAL: not such a state, or one of another size; every later call is too. */
int sim_loader_take(struct sim_loader *l, struct sim_work *w, struct sim_registers *registers, const uint8_t *data,
		    size_t length, struct vfmig_error *err);
/* Is the state there, whole? -EINVAL: what is missing. */
int sim_loader_check(const struct sim_loader *l, const struct sim_work *w, struct vfmig_error *err);

#endif
