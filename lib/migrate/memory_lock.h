/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_lock.h: memory that is saved and loaded at the same time is found out before a page is. */
#ifndef VFMIG_MIGRATE_MEMORY_LOCK_H
#define VFMIG_MIGRATE_MEMORY_LOCK_H

#include "migrate/memory.h"

struct memory_lock {
	int *fds; /* one for each locked block */
	size_t count;
};

/*
 * Marks the files behind the blocks as being saved, or being loaded into, for as long as the lock is held. Several
 * saves of a file may go on at a time, a load only alone: -EBUSY. A block without a file, or with one that takes no
 * lock, goes without.
 */
int memory_lock(const struct vfmig_memory *m, bool loading, struct memory_lock *ret, struct vfmig_error *err);
void memory_unlock(struct memory_lock *lock);

#endif
