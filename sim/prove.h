/* SPDX-License-Identifier: BSD-3-Clause */
/* prove.h: doing all of a software device's work again, to see whether it did it right. */
#ifndef VFMIG_SIM_PROVE_H
#define VFMIG_SIM_PROVE_H

#include "device/access.h"
#include "sim/model.h"

/* What a device says of itself, all of one moment. */
struct prove_claim {
	const char *name; /* for messages: the device's URI */
	uint64_t control, rate, seed, state_bytes, step, chain, digest, resumed_step, loads;
	uint64_t log_iova, log_entries, logged, not_logged, opaque_bytes, opaque_count;
};

/* -EOPNOTSUPP: not a software device of this kind. */
int prove_read(struct access *a, struct prove_claim *ret, struct vfmig_error *err);

/* A log as it was found in memory; slot of step n: n % count. */
struct prove_log {
	uint8_t *entries;
	uint64_t count;
	uint64_t first, last; /* steps in it; last 0: none */
};

/* Reads a log of claim->log_entries from the beginning of a file. Read the
 * claim after the log: then no step in it is too new. */
int prove_log_read(const char *path, uint64_t count, struct prove_log *ret, struct vfmig_error *err);
/* Finds first and last. -EBADMSG: a slot holds what does not belong there. */
int prove_log_scan(struct prove_log *log, struct vfmig_error *err);
void prove_log_clear(struct prove_log *log);

typedef void prove_progress_fn(void *opaque, uint64_t step, uint64_t last);

/*
 * Does every step from nothing up to the last one that a claim or the log
 * holds, and compares. The claims are of one piece of work: the first stopped
 * where the second resumed. log may be NULL; of it, the steps from `since` (0:
 * its first) on must all be there. 0: all is right; -EBADMSG: what is not.
 */
int prove_run(const struct prove_claim *claims, size_t count, const struct prove_log *log, uint64_t since,
	      prove_progress_fn *progress, void *opaque, struct vfmig_error *err);

#endif
