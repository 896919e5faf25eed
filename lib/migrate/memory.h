/* SPDX-License-Identifier: BSD-3-Clause */
/* memory.h: guest memory as its owner gives it, and the participant that a save or a load makes of it. */
#ifndef VFMIG_MIGRATE_MEMORY_H
#define VFMIG_MIGRATE_MEMORY_H

#include "dirty/dirty.h"
#include "migrate/handlers.h"

#define MEMORY_ID "ram" /* of the section; QEMU's, instance 0 */

struct memory_block {
	char name[WIRE_ID_MAX + 1];
	uint8_t *address;
	uint64_t length;
	int fd;		 /* -1: the memory is the caller's */
	uint64_t offset; /* in fd */
	uint64_t iova, iova_length; /* that vfmig_memory_map uses; length 0: none */
	bool skipped;	 /* load: not wanted; has neither address nor length */
	uint64_t incoming; /* load: its length in the stream; 0: it has not come */
};

struct memory_source;

struct vfmig_memory {
	struct memory_block *blocks; /* those that are not skipped have the tracker's numbers */
	size_t count;
	struct dirty *dirty;
	struct memory_source *sources; /* the caller's */
	uint64_t pages, zero_pages; /* sent or loaded */
};

/* The block of that name, or NULL. */
struct memory_block *memory_find(struct vfmig_memory *m, const char *name, size_t length);
/* Reads a page as it is now. */
int memory_read(const struct memory_block *b, uint64_t offset, void *buffer, size_t length, struct vfmig_error *err);
/* Is every byte zero? */
bool memory_is_zero(const uint8_t *data, size_t length);

int memory_save_add(struct participants *p, struct vfmig_memory *memory, bool no_precopy, const struct log *log,
		    struct vfmig_error *err);
int memory_load_add(struct participants *p, struct vfmig_memory *memory, const struct log *log,
		    struct vfmig_error *err);
/* What it has done, into a status. */
void memory_status(const struct vfmig_memory *memory, struct vfmig_status *ret);

#endif
