/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * still.h: a state that costs next to nothing: for measuring what is around the device.
 *
 * Byte o of the state is byte o modulo `unit` of a pattern that follows from the seed, but for the first word of each
 * unit, its stamp, which follows from the seed and the unit's index. Nothing of it is stored, and yet a load knows
 * each byte. The unit is the data section's size: a v1 transaction is one unit, so that all there is to do for the
 * next one is another stamp.
 */
#ifndef VFMIG_SIM_STILL_H
#define VFMIG_SIM_STILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* Who copies what is not mapped: the device in this process, or the kernel, by a system call for each read and write
 * on a memfd, which then costs what a driver's would. */
enum still_copies { STILL_NONE, STILL_MEMCPY, STILL_SYSCALL };
/* What a load looks at: each byte, or the stamps and one word of each page. */
enum still_check { STILL_CHECK_ALL, STILL_CHECK_SPOT };

struct still {
	enum still_copies copies;
	enum still_check check;
	uint64_t size, unit, seed;
	uint64_t at; /* bytes given or taken so far */
	bool failed;
	int fd;		  /* memfd: the pattern */
	uint8_t *pattern; /* mapped twice, one behind the other, so that no part of it has to be cut */
	int section_fd;	  /* borrowed: a unit of room, at section_offset, mapped at section */
	uint64_t section_offset;
	uint8_t *section;
	bool has_pattern; /* the section */
};

/* section: `unit` bytes, at that offset of section_fd. */
int still_init(struct still *s, int section_fd, uint64_t section_offset, uint8_t *section, struct vfmig_error *err);
void still_destroy(struct still *s);

/* A save begins; a load, which uses the section up. */
void still_start(struct still *s);
void still_load_start(struct still *s);
uint64_t still_left(const struct still *s);

/* Save: puts the next unit, or what is left, into the section; returns its bytes. */
uint64_t still_lay_out(struct still *s);
/* Save: the next bytes, at most length. */
ssize_t still_read(struct still *s, uint8_t *buffer, size_t length, struct vfmig_error *err);

/* Load: the next bytes, which are checked. -EINVAL: they are not this device's, and every later call is too. */
int still_take(struct still *s, const uint8_t *data, uint64_t length, struct vfmig_error *err);
/* Load: the same by way of the section, as a driver would copy them. */
int still_write(struct still *s, const uint8_t *data, uint64_t length, struct vfmig_error *err);
/* Load: is it all there? */
int still_finish(const struct still *s, struct vfmig_error *err);

/* Part of the section out and in, for a client that has not mapped it. */
int still_section_read(const struct still *s, uint64_t offset, void *buffer, size_t length, struct vfmig_error *err);
int still_section_write(const struct still *s, uint64_t offset, const void *buffer, size_t length,
			struct vfmig_error *err);

#endif
