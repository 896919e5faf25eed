/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memory_lock.c: a save and a load of the same memory keep each other out.
 *
 * A load that is given the memory which its source is still sending writes old pages over new ones, and both sides end
 * well. It is known by OFD locks: those hold between processes and inside of one, on a memfd as on a file, and end
 * with the program that has them. The description that is locked is opened for this alone: the block's own is shared
 * with the VMM, with servers that it was sent to, and perhaps with the other side.
 */
#include "migrate/memory_lock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Far behind any file's bytes, so that it is nobody else's lock: QEMU's are on bytes 100 to 203 of images. */
#define LOCK_BASE ((uint64_t)1 << 62)

static int refuse(const struct memory_block *b, int fd, struct flock *wanted, struct vfmig_error *err)
{
	bool loading = wanted->l_type == F_WRLCK;
	bool read_by_it = loading && fcntl(fd, F_OFD_GETLK, wanted) == 0 && wanted->l_type == F_RDLCK;
	if (loading && !read_by_it)
		return error_set(err, -EBUSY,
				 "memory block \"%s\": another load into the same memory is under way, expected one at "
				 "a time: give this one its own memory, or end the other one",
				 b->name);
	return error_set(err, -EBUSY,
			 "memory block \"%s\": a %s the same memory is under way, so both sides have the same file, "
			 "and old pages would be written over new ones: leave the memory out on both sides (no "
			 "--memory), or give the destination another file",
			 b->name, loading ? "save of" : "load into");
}

/* Only a conflict counts. Files without locks, or that cannot be opened again, are as they were. */
static int lock_block(const struct memory_block *b, bool loading, int *ret_fd, struct vfmig_error *err)
{
	char path[64];
	struct stat st;
	struct flock lock = { .l_type = loading ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };
	bool fits = b->offset < LOCK_BASE && b->length <= LOCK_BASE - b->offset;
	if (b->fd < 0 || !fits || fstat(b->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	lock.l_start = (off_t)(LOCK_BASE + b->offset);
	lock.l_len = (off_t)b->length;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", b->fd);
	int fd = open(path, (loading ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return 0;
	int r = fcntl(fd, F_OFD_SETLK, &lock) < 0 ? errno : 0;
	if (r == 0) {
		*ret_fd = fd;
		return 1;
	}
	r = r == EAGAIN || r == EACCES ? refuse(b, fd, &lock, err) : 0;
	close(fd);
	return r;
}

int memory_lock(const struct vfmig_memory *m, bool loading, struct memory_lock *ret, struct vfmig_error *err)
{
	struct memory_lock lock = { .fds = calloc(m->count + 1, sizeof(int)) };
	if (!lock.fds)
		return error_errno(err, -ENOMEM, "memory");
	for (size_t i = 0; i < m->count; i++) {
		int r = lock_block(&m->blocks[i], loading, &lock.fds[lock.count], err);
		if (r < 0) {
			memory_unlock(&lock);
			return r;
		}
		lock.count += r > 0;
	}
	*ret = lock;
	return 0;
}

void memory_unlock(struct memory_lock *lock)
{
	for (size_t i = 0; i < lock->count; i++)
		close(lock->fds[i]);
	free(lock->fds);
	*lock = (struct memory_lock) { 0 };
}
