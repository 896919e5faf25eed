/* SPDX-License-Identifier: BSD-3-Clause */
/* acceptor.h: finds the expected peer among all that connect to a listener, without blocking and without a thread. */
#ifndef VFMIG_LINK_ACCEPTOR_H
#define VFMIG_LINK_ACCEPTOR_H

#include "base/clock.h"
#include "link/link.h"

/*
 * The acceptor judges connections in parallel, each by its first bytes: the expected peer says the proof. It drops a
 * connection at once that says anything else, or is closed, and after ACCEPTOR_JUDGE_NS one that has not said all of
 * the proof. When ACCEPTOR_MAX connections are not judged yet and another comes, it drops the oldest silent one, but
 * none younger than ACCEPTOR_KEEP_NS: strangers who come faster than the peer can speak must not push the peer out.
 */
#define ACCEPTOR_MAX 64u
#define ACCEPTOR_PROOF_MAX 64u
#define ACCEPTOR_JUDGE_NS (5 * NS_PER_S)
#define ACCEPTOR_KEEP_NS (200 * NS_PER_MS)

struct acceptor;

/* listener: a loading link (borrowed), which gives the connections by link_another; it need not listen. */
int acceptor_new(struct vfmig_link *listener, const void *proof, size_t length, struct acceptor **ret,
		 struct vfmig_error *err);
void acceptor_free(struct acceptor *a);
/* Judges a connection that exists already, too (borrowed). */
void acceptor_add(struct acceptor *a, struct vfmig_link *link);

/*
 * 0: *ret has said the proof, and nothing after it is read; the caller closes it, unless it was added. -EAGAIN: call
 * again when acceptor_fd can be read, or at acceptor_wake_ns. -ENOTCONN: no candidate is left, and none can come.
 */
int acceptor_step(struct acceptor *a, struct vfmig_link **ret);
int acceptor_fd(const struct acceptor *a);
uint64_t acceptor_wake_ns(const struct acceptor *a); /* UINT64_MAX: never */
/* How many connections were taken that have not said the proof. */
uint64_t acceptor_strangers(const struct acceptor *a);

#endif
