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

/* A log as it was found in memory. All zeros: there is none. */
struct prove_log {
	uint8_t *entries; /* a ring: slot of step n is n % count */
	struct prove_pages *pages; /* scattered; prove_pages.h */
	uint64_t count;
	uint64_t first, last; /* steps in it; last 0: none, or not known yet */
};

/*
 * Reads a log of claim->log_entries from the beginning of a file. A ring is copied: read the claim again
 * afterwards, then no step in it is too new. A scattered log's file is read when all is recomputed: by then nobody
 * may write there.
 */
int prove_log_read(const char *path, const struct prove_claim *claim, struct prove_log *ret, struct vfmig_error *err);
/* Finds first and last. -EBADMSG: a slot holds what does not belong there. */
int prove_log_scan(struct prove_log *log, struct vfmig_error *err);
void prove_log_clear(struct prove_log *log);

typedef void prove_progress_fn(void *opaque, uint64_t step, uint64_t last);

/*
 * Does every step from nothing up to the last one that a claim or the log
 * holds, and compares. The claims are of one piece of work: the first stopped
 * where the second resumed. log may be NULL; of it, the steps from `since` (0:
 * its first) on must all be there. 0: all is right; -EBADMSG: what is not.
 *
 * Of a scattered log all pages are checked. It was all zeros when the first step was logged, and from that one on
 * every step was, up to the last. With two claims the first one's last step was still logged, and its steps that
 * were not logged came before all that were (or `since` is the first); with one, `since` is the first step ever logged,
 * needed only if some were not. -EINVAL: the claims cannot be so.
 */
int prove_run(const struct prove_claim *claims, size_t count, struct prove_log *log, uint64_t since,
	      prove_progress_fn *progress, void *opaque, struct vfmig_error *err);

#endif
