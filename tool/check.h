/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.h: conformance of a device's migration: one check for each rule.
 *
 * A check is a row of check_table (check_table.c) and a function that asks the device by its access alone. Every check
 * begins with the device running and may leave it in any state: check_run.c sees to that. A check says what it proves:
 * one arc between two states, or some ways to ask. What has failed there is not used by any other check,
 * which is skipped instead, so that one fault fails the checks that are about it and no other.
 */
#ifndef VFMIG_TOOL_CHECK_H
#define VFMIG_TOOL_CHECK_H

#include <signal.h>

#include "device/protocol.h"

#define CHECK_STATES 8u
#define CHECK_BIT(state) (1u << VFMIG_STATE_##state)

/* CHECK_V2_NO_P2P: v2 for devices without P2P only. */
enum { CHECK_V1 = 1, CHECK_V2 = 2, CHECK_BOTH = 3, CHECK_V2_NO_P2P = 4 };

/*
 * What is done to the device beside asking it (DMA: to a software device only). ALWAYS: goes with others that do
 * something, because it finds, keeps or puts back what the device was.
 */
enum {
	CHECK_MOVES = 1,
	CHECK_RESETS = 2,
	CHECK_LOADS = 4,
	CHECK_CONFIG = 8,
	CHECK_LOGS = 16,
	CHECK_DMA = 32,
	CHECK_ALWAYS = 64,
};
#define CHECK_TOUCHES (CHECK_MOVES | CHECK_RESETS | CHECK_LOADS | CHECK_CONFIG | CHECK_LOGS | CHECK_DMA)

/* What can be asked of a device beside going from one state to another. */
enum check_op {
	CHECK_OP_STATE,
	CHECK_OP_RESET,
	CHECK_OP_CONFIG_READ,
	CHECK_OP_CONFIG_WRITE,
	CHECK_OP_PENDING, /* v1: pending_bytes; v2: pre-copy info */
	CHECK_OP_OFFSET,
	CHECK_OP_SIZE,
	CHECK_OP_READ,
	CHECK_OP_WRITE,
	CHECK_OP_CONSUME,
	CHECK_OP_DRAIN, /* reading a state to its end */
	CHECK_OP_LOAD,	/* that what was loaded is what is saved then */
	CHECK_OP_LOG,
	CHECK_OPS,
};
#define CHECK_OP(name) (1u << CHECK_OP_##name)

/* A state, and the sizes of the pieces that it came in. */
struct check_blob {
	uint8_t *data;
	size_t length, room;
	size_t *sizes;
	size_t count, sizes_room;
};

struct check_run;
struct check;
#define CHECK_SKIPPED 1
/* 0; CHECK_SKIPPED or the negative errno of a failure, and err says why. */
typedef int check_fn(struct check_run *r, const struct check *c, struct vfmig_error *err);

struct check {
	const char *name;
	uint32_t protocols;
	uint32_t does;
	check_fn *run;
	uint8_t from, to; /* an arc that it proves, if they differ; else a state that it is about */
	uint32_t proves;  /* CHECK_OP()s */
	const char *rule, *source;
};

extern const struct check check_table[];
extern const size_t check_count;

enum check_verdict { CHECK_PASS, CHECK_FAIL, CHECK_SKIP, CHECK_QUIRK };

struct check_result {
	const struct check *check;
	enum check_verdict verdict;
	uint64_t ns;
	char why[640]; /* "": nothing to say */
};

struct check_run {
	struct access *access;
	uint32_t protocol; /* CHECK_V1 or CHECK_V2 */
	bool has_precopy, has_p2p, has_no_reset;
	uint32_t iterations; /* 0: by the kind of device */
	uint64_t limit_ns;
	pid_t server; /* 0: no process to watch */
	const volatile sig_atomic_t *interrupted;

	struct access_region_info region; /* v1 */
	uint32_t reserved;		  /* v1: the bits of device_state that are none of ours */

	enum vfmig_state state; /* the last one known */
	char gone[512]; /* not "": why nothing can be done with the device any more */
	uint32_t broken_ops;
	uint8_t broken_arcs[CHECK_STATES], proven_arcs[CHECK_STATES]; /* bit: where to */
	uint8_t lost_from, lost_to; /* the arc on which the device was lost between checks, if they differ */
	uint64_t op_ns[CHECK_OPS], arc_ns[CHECK_STATES][CHECK_STATES]; /* the shortest; 0: never done */

	struct check_blob kept; /* the first state that was read to its end: loaded again in the end */
	struct check_blob one, two;
	char note[256]; /* what a check that passes has to say */
};

/* ----------------------------------------------------------- check_run.c */

/* Which interface does it speak, and how? 0 or -errno; then check_run_end. */
int check_run_begin(struct check_run *r, struct access *a, const char *interface, struct vfmig_error *err);
void check_run_one(struct check_run *r, const struct check *c, struct check_result *ret);
void check_run_end(struct check_run *r); /* the access stays its opener's */

/* ------------------------------------------------------- check_device.c */

#define CHECK_TRY(call) \
	do { \
		int try_result = (call); \
		if (try_result) \
			return try_result; \
	} while (0)

int check_skip(struct vfmig_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Is it a device of vfmig's own? */
bool check_is_software(struct check_run *r);

/* Around what is asked: skipped when that is broken, timed when not. */
int check_op_begin(struct check_run *r, enum check_op op, uint64_t *ret_start_ns, struct vfmig_error *err);
const char *check_op_name(enum check_op op);
int check_op_end(struct check_run *r, enum check_op op, uint64_t start_ns, int result);

uint32_t check_known_states(const struct check_run *r);
uint32_t check_arcs(const struct check_run *r, enum vfmig_state from);
int check_state_get(struct check_run *r, enum vfmig_state *ret, struct vfmig_error *err);
/* One request, of any number. */
int check_state_ask(struct check_run *r, uint32_t number, struct vfmig_error *err);
int check_state_set(struct check_run *r, enum vfmig_state to, struct vfmig_error *err);
int check_state_is(struct check_run *r, enum vfmig_state expected, struct vfmig_error *err);
/* Arc by arc, over none that is broken. */
int check_go(struct check_run *r, enum vfmig_state to, struct vfmig_error *err);
/* Is the device's own way there one of proven arcs? */
bool check_way_is_whole(const struct check_run *r, enum vfmig_state from, enum vfmig_state to);
int check_reset(struct check_run *r, struct vfmig_error *err);
int check_needs_pci(struct check_run *r, struct vfmig_error *err);
int check_config(struct check_run *r, bool write, uint64_t offset, void *data, size_t length,
		 struct vfmig_error *err);

/* ----------------------------------------------------- check_transfer.c */

#define CHECK_PIECE_MAX PROTOCOL_PIECE_MAX

void check_blob_clear(struct check_blob *b);
void check_blob_empty(struct check_blob *b);
int check_blob_copy(struct check_blob *to, const struct check_blob *from, struct vfmig_error *err);
int check_blob_same(const struct check_blob *expected, const struct check_blob *got, const char *what,
		    struct vfmig_error *err);

/* v2: *ret_length 0 is the end of the state, *ret_nothing: not now. */
int check_read(struct check_run *r, void *buffer, size_t length, size_t *ret_length, bool *ret_nothing,
	       struct vfmig_error *err);
/* The same, behind what b holds. */
int check_read_more(struct check_run *r, struct check_blob *b, size_t most, size_t *ret_length, bool *ret_nothing,
		    struct vfmig_error *err);
int check_write(struct check_run *r, const void *data, size_t length, struct vfmig_error *err);

/* v1 */
int check_v1_pending(struct check_run *r, uint64_t *ret, struct vfmig_error *err);
int check_v1_offset(struct check_run *r, uint64_t *ret, struct vfmig_error *err);
int check_v1_size(struct check_run *r, uint64_t offset, uint64_t *ret, struct vfmig_error *err);
/* piece 0: as much as goes. */
int check_v1_section(struct check_run *r, bool write, uint64_t at, uint8_t *data, size_t length, size_t piece,
		     struct vfmig_error *err);
int check_v1_consume(struct check_run *r, uint64_t size, struct vfmig_error *err);
/* The transaction that lies there, behind what b holds. */
int check_v1_read_here(struct check_run *r, struct check_blob *b, uint64_t offset, uint64_t size,
		       struct vfmig_error *err);
/* One transaction behind what b holds: *ret_size 0: there is none. */
int check_v1_take(struct check_run *r, struct check_blob *b, uint64_t *ret_size, struct vfmig_error *err);
int check_v1_put(struct check_run *r, const uint8_t *data, size_t length, size_t piece, struct vfmig_error *err);

/* The state it is in is stop-and-copy: all of what is left, behind what b holds; piece: of v2's reads, 0: any. */
int check_drain(struct check_run *r, struct check_blob *b, size_t piece, struct vfmig_error *err);
/* Goes to stop-and-copy and reads all of it into b, which is emptied first. */
int check_save(struct check_run *r, struct check_blob *b, size_t piece, struct vfmig_error *err);
/* In resuming: length bytes of b. piece 0: as they were read. */
int check_fill(struct check_run *r, const struct check_blob *b, size_t length, size_t piece, struct vfmig_error *err);
/* Resuming, all of b, and out of it: to STOP (v2) or RUNNING (v1). */
int check_load(struct check_run *r, const struct check_blob *b, size_t piece, struct vfmig_error *err);
enum vfmig_state check_loaded_state(const struct check_run *r);

/* The same, unless a load is known not to be right. */
int check_load_proven(struct check_run *r, const struct check_blob *b, struct vfmig_error *err);

/* ---------------------------------------------------------- check_log.c */

/* Gives a software device a state that it has not after a reset, and leaves it idle. */
int check_work(struct check_run *r, struct vfmig_error *err);

/* ------------------------------------------------------------ the checks */

check_fn check_flags, check_features, check_unknown_feature, check_wrong_operation, check_state_read,
	check_config_read, check_config_write, check_arc, check_same_state, check_walk, check_refused,
	check_reset_from, check_reset_flag; /* check_states.c */
check_fn check_data_read, check_read_sizes, check_twice, check_end_stays, check_again_in_transfer, check_data_ends,
	check_size_told, check_precopy_ends, check_precopy_read, check_precopy_info, check_precopy_falls,
	check_precopy_outside, check_transfer_goes_on, check_cancel; /* check_data.c */
check_fn check_data_write, check_consume, check_load_original, check_load_bytes, check_load_odd, check_load_large,
	check_nothing_loaded, check_truncated, check_surplus, check_after_refusal, check_cancel_load, check_leaks,
	check_restored; /* check_load.c */
check_fn check_region, check_reserved, check_pending, check_offset, check_size, check_section_read,
	check_mapped; /* check_registers.c */
check_fn check_fd_given, check_fd_ends; /* check_fd.c */
check_fn check_quiet, check_answers, check_log_cycle, check_log_twice, check_log_ended, check_log_exact,
	check_log_forgets, check_time_arcs, check_time_requests, check_time_reset; /* check_log.c */

#endif
