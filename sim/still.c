/* SPDX-License-Identifier: BSD-3-Clause */
/* still.c: a state that follows from seed and offset, given and checked without being stored; see still.h. */
#include "sim/still.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "sim/pages.h"

#define STAMP 8u
#define SPOT_STEP 4096u

/* The pattern's pages twice in a row: the second mapping goes over the second half of the first. */
static int map_twice(struct still *s, struct vfmig_error *err)
{
	uint8_t *p = mmap(NULL, 2 * s->unit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return error_errno(err, -errno, "pattern of %llu bytes", (unsigned long long)s->unit);
	s->pattern = p;
	for (int i = 0; i < 2; i++)
		if (mmap(p + (size_t)i * s->unit, s->unit, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->fd,
			 0) == MAP_FAILED)
			return error_errno(err, -errno, "pattern of %llu bytes", (unsigned long long)s->unit);
	return 0;
}

int still_init(struct still *s, int section_fd, uint64_t section_offset, uint8_t *section, struct vfmig_error *err)
{
	s->section_fd = section_fd;
	s->section_offset = section_offset;
	s->section = section;
	s->fd = memfd_create("vfmig-still", MFD_CLOEXEC);
	if (s->fd < 0 || ftruncate(s->fd, (off_t)s->unit) < 0)
		return error_errno(err, -errno, "pattern of %llu bytes", (unsigned long long)s->unit);
	int r = map_twice(s, err);
	if (r < 0)
		return r;
	sim_words_fill(sim_mix64(s->seed), (uint64_t *)(void *)s->pattern, s->unit / 8);
	memcpy(section, s->pattern, s->unit);
	s->has_pattern = true;
	return 0;
}

void still_destroy(struct still *s)
{
	if (s->pattern)
		munmap(s->pattern, 2 * s->unit);
	if (s->copies != STILL_NONE && s->fd >= 0)
		close(s->fd);
}

void still_start(struct still *s)
{
	s->at = 0;
	s->failed = false;
}

void still_load_start(struct still *s)
{
	still_start(s);
	s->has_pattern = false;
}

uint64_t still_left(const struct still *s)
{
	return s->size - s->at;
}

static void stamp_put(const struct still *s, uint64_t offset, uint8_t stamp[STAMP])
{
	put_le64(stamp, sim_mix64(s->seed + sim_mix64(offset / s->unit)));
}

/*
 * Calls fn for each part of a stamp among the state's bytes from `at` on, with where these bytes are and what they
 * should be. False: it was false once.
 */
static bool each_stamp(const struct still *s, uint64_t at, uint64_t length,
		       bool (*fn)(uint8_t *bytes, const uint8_t *stamp, size_t n), uint8_t *bytes)
{
	for (uint64_t unit = at - at % s->unit; unit < at + length; unit += s->unit) {
		uint64_t begin = max_u64(unit, at), end = min_u64(unit + STAMP, at + length);
		uint8_t stamp[STAMP];
		if (begin >= end)
			continue;
		stamp_put(s, unit, stamp);
		if (!fn(bytes + (begin - at), stamp + (begin - unit), (size_t)(end - begin)))
			return false;
	}
	return true;
}

static bool copy_stamp(uint8_t *bytes, const uint8_t *stamp, size_t n)
{
	memcpy(bytes, stamp, n);
	return true;
}

static bool same_stamp(uint8_t *bytes, const uint8_t *stamp, size_t n)
{
	return memcmp(bytes, stamp, n) == 0;
}

uint64_t still_lay_out(struct still *s)
{
	uint64_t n = min_u64(s->unit, still_left(s));

	if (!s->has_pattern) /* a load was here */
		memcpy(s->section, s->pattern, s->unit);
	s->has_pattern = true;
	each_stamp(s, s->at, n, copy_stamp, s->section);
	s->at += n;
	return n;
}

/* A copy by the kernel, whole. */
static int copy_out(int fd, uint64_t offset, uint8_t *buffer, size_t length, struct vfmig_error *err)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = pread(fd, buffer + done, length - done, (off_t)(offset + done));
		if (n <= 0)
			return error_errno(err, n < 0 ? -errno : -EIO, "reading a memfd");
		done += (size_t)n;
	}
	return 0;
}

static int copy_in(int fd, uint64_t offset, const uint8_t *data, size_t length, struct vfmig_error *err)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = pwrite(fd, data + done, length - done, (off_t)(offset + done));
		if (n <= 0)
			return error_errno(err, n < 0 ? -errno : -EIO, "writing a memfd");
		done += (size_t)n;
	}
	return 0;
}

static int copy_pattern(const struct still *s, uint64_t offset, uint8_t *buffer, size_t length,
			struct vfmig_error *err)
{
	if (s->copies == STILL_SYSCALL)
		return copy_out(s->fd, offset, buffer, length, err);
	memcpy(buffer, s->pattern + offset, length);
	return 0;
}

/* At most to the end of a unit: a driver gives what lies in one piece. */
ssize_t still_read(struct still *s, uint8_t *buffer, size_t length, struct vfmig_error *err)
{
	uint64_t offset = s->at % s->unit;
	size_t n = (size_t)min_u64(min_u64(length, still_left(s)), s->unit - offset);
	int r = n ? copy_pattern(s, offset, buffer, n, err) : 0;

	if (r < 0)
		return r;
	each_stamp(s, s->at, n, copy_stamp, buffer);
	s->at += n;
	return (ssize_t)n;
}

/* The bytes from `at` on, which are inside one unit; the stamp has been looked at. */
static bool same_pattern(const struct still *s, uint64_t at, const uint8_t *data, uint64_t length)
{
	uint64_t begin = at % s->unit, skip = begin < STAMP ? min_u64(STAMP - begin, length) : 0;

	if (s->check == STILL_CHECK_ALL)
		return memcmp(data + skip, s->pattern + begin + skip, length - skip) == 0;
	for (uint64_t i = skip; i + 8 <= length; i += SPOT_STEP)
		if (memcmp(data + i, s->pattern + begin + i, 8) != 0)
			return false;
	return true;
}

static bool is_right(const struct still *s, const uint8_t *data, uint64_t length)
{
	if (!each_stamp(s, s->at, length, same_stamp, (uint8_t *)(uintptr_t)data))
		return false;
	for (uint64_t done = 0, n; done < length; done += n) {
		n = min_u64(length - done, s->unit - (s->at + done) % s->unit);
		if (!same_pattern(s, s->at + done, data + done, n))
			return false;
	}
	return true;
}

int still_take(struct still *s, const uint8_t *data, uint64_t length, struct vfmig_error *err)
{
	if (s->failed)
		return error_set(err, -EINVAL, "the state was refused before");
	s->failed = true;
	if (length > still_left(s))
		return error_set(err, -EINVAL, "state of more than this device's %llu bytes",
				 (unsigned long long)s->size);
	if (!is_right(s, data, length))
		return error_set(err, -EINVAL, "wrong bytes in the state from 0x%llx to 0x%llx",
				 (unsigned long long)s->at, (unsigned long long)(s->at + length));
	s->failed = false;
	s->at += length;
	return 0;
}

int still_write(struct still *s, const uint8_t *data, uint64_t length, struct vfmig_error *err)
{
	s->has_pattern = false;
	for (uint64_t done = 0, n; done < length; done += n) {
		n = min_u64(length - done, s->unit);
		int r = still_section_write(s, 0, data + done, (size_t)n, err);
		if (r < 0)
			return r;
	}
	return still_take(s, data, length, err);
}

int still_finish(const struct still *s, struct vfmig_error *err)
{
	if (s->failed)
		return error_set(err, -EINVAL, "the state was refused");
	if (still_left(s))
		return error_set(err, -EINVAL, "the state is not complete: %llu of %llu bytes are missing",
				 (unsigned long long)still_left(s), (unsigned long long)s->size);
	return 0;
}

int still_section_read(const struct still *s, uint64_t offset, void *buffer, size_t length, struct vfmig_error *err)
{
	if (s->copies == STILL_SYSCALL)
		return copy_out(s->section_fd, s->section_offset + offset, buffer, length, err);
	memcpy(buffer, s->section + offset, length);
	return 0;
}

int still_section_write(const struct still *s, uint64_t offset, const void *buffer, size_t length,
			struct vfmig_error *err)
{
	if (s->copies == STILL_SYSCALL)
		return copy_in(s->section_fd, s->section_offset + offset, buffer, length, err);
	memcpy(s->section + offset, buffer, length);
	return 0;
}
