/* SPDX-License-Identifier: BSD-3-Clause */
/* handover_impl.h: what handover.c, which decides, and handover_talk.c, which talks, share. */
#ifndef VFMIG_MIGRATE_HANDOVER_IMPL_H
#define VFMIG_MIGRATE_HANDOVER_IMPL_H

#include "migrate/handover.h"

enum message { NOTHING, PREPARED, RUNNING, LOST, COMMIT, ABORT, OVER, CUT };

/* Queues a message, or a ping. */
void handover_say(struct handover *h, enum message what);
void handover_ask(struct handover *h, uint32_t value);
/* Destination: what the source says first, HANDOVER_PROOF bytes; and the answer to it, once all of it has come. */
#define HANDOVER_PROOF (HANDOVER_HELLO * sizeof(((struct handover *)NULL)->command))
void handover_proof(const struct handover *h, uint8_t ret[HANDOVER_PROOF]);
void handover_answer_proof(struct handover *h);
/* 0: all is out; -EAGAIN; -errno. */
int handover_flush(struct handover *h, struct vfmig_error *err);
/* 1: heard something (NOTHING: that matters); 0: the other side has closed; -EAGAIN; -errno. */
int handover_hear(struct handover *h, enum message *ret, struct vfmig_error *err);

#endif
