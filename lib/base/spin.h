/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * spin.h: looks again for a moment before it sleeps.
 *
 * Who is at work on another CPU is ready in a few microseconds; a thread that sleeps needs 50 to wake up, and
 * who wakes it pays, too. Where nobody was at work (a slow network, a device that thinks) looking is in
 * vain: then it sleeps at once the next times, for more and more of them.
 */
#ifndef VFMIG_BASE_SPIN_H
#define VFMIG_BASE_SPIN_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed at first. */
struct spin {
	uint64_t since_ns; /* 0: not looking */
	unsigned int skip, vain;
};

/* There is nothing to do. True: others had the CPU meanwhile, look again; false: sleep. */
bool spin_again(struct spin *s);
/* There was something to do. */
void spin_found(struct spin *s);

#endif
