/* SPDX-License-Identifier: BSD-3-Clause */
/* hostile.h: a client that has met a scripted server. */
#ifndef VFMIG_TESTS_HOSTILE_H
#define VFMIG_TESTS_HOSTILE_H

#include "device/access.h"
#include "peer.h"

#define PATIENT 20000u /* ms: longer than a test may take */
#define HASTY 1000u    /* ms: where the time-out is the test */

extern struct peer hostile_peer;

/* For cmocka: looks for leaked fds. */
int hostile_setup(void **state);
int hostile_teardown(void **state);

/* Connects to script, which comes after a good VERSION. */
struct access *hostile_start(peer_script_fn *script, uint32_t timeout_ms);
void hostile_stop(struct access *a);

/* Scripts: takes one request and says nothing; and closes. */
void hostile_silence(struct peer *p);
void hostile_close(struct peer *p);

#endif
