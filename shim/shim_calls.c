/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_calls.c: the C library's functions that are taken over, each a few lines before the real one. */
#undef _FORTIFY_SOURCE /* would define some of them */
#undef _FILE_OFFSET_BITS /* would make one of two of them: off_t has 64 bits anyway */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shim.h"
#include "shim_real.h"

_Static_assert(sizeof(off_t) == 8, "64-bit systems only");

#define EXPORT __attribute__((visibility("default")))

/* What fortified programs call; no header declares them. */
EXPORT int __open_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __openat_2(int folder, const char *path, int flags);
EXPORT int __openat64_2(int folder, const char *path, int flags);
EXPORT ssize_t __read_chk(int fd, void *buffer, size_t length, size_t room);
EXPORT ssize_t __pread_chk(int fd, void *buffer, size_t length, off_t offset, size_t room);
EXPORT ssize_t __pread64_chk(int fd, void *buffer, size_t length, off64_t offset, size_t room);

void *shim_real(enum shim_call call)
{
	static const char *const names[] = {
#define X(name) #name,
		SHIM_CALLS(X)
#undef X
	};
	static void *found[SHIM_CALL_COUNT];
	void *f = __atomic_load_n(&found[call], __ATOMIC_RELAXED);
	if (!f) {
		f = dlsym(RTLD_NEXT, names[call]);
		__atomic_store_n(&found[call], f, __ATOMIC_RELAXED);
	}
	return f;
}

/* -errno becomes errno. */
static long result(long r)
{
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

/* ------------------------------------------------------------------- open */

/* The third argument of open is there only then. */
static mode_t mode_of(int flags, va_list ap)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

#define DEFINE_OPEN(name)                                       \
	EXPORT int name(const char *path, int flags, ...)       \
	{                                                       \
		va_list ap;                                     \
		int fd;                                         \
		va_start(ap, flags);                            \
		mode_t mode = mode_of(flags, ap);               \
		va_end(ap);                                     \
		if (shim_machine_open(path, flags, &fd))        \
			return (int)result(fd);                 \
		return REAL(name)(path, flags, mode);           \
	}

#define DEFINE_OPENAT(name)                                           \
	EXPORT int name(int folder, const char *path, int flags, ...) \
	{                                                             \
		va_list ap;                                           \
		int fd;                                               \
		va_start(ap, flags);                                  \
		mode_t mode = mode_of(flags, ap);                     \
		va_end(ap);                                           \
		if (shim_machine_open(path, flags, &fd))              \
			return (int)result(fd);                       \
		return REAL(name)(folder, path, flags, mode);         \
	}

#define DEFINE_OPEN_2(name)                              \
	int name(const char *path, int flags)            \
	{                                                \
		int fd;                                  \
		if (shim_machine_open(path, flags, &fd)) \
			return (int)result(fd);          \
		return REAL(name)(path, flags);          \
	}

#define DEFINE_OPENAT_2(name)                             \
	int name(int folder, const char *path, int flags) \
	{                                                 \
		int fd;                                   \
		if (shim_machine_open(path, flags, &fd))  \
			return (int)result(fd);           \
		return REAL(name)(folder, path, flags);   \
	}

DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)
DEFINE_OPEN_2(__open_2)
DEFINE_OPEN_2(__open64_2)
DEFINE_OPENAT_2(__openat_2)
DEFINE_OPENAT_2(__openat64_2)

/* ---------------------------------------------------------- close and dup */

/* First forgotten: once it is closed the number may be another thread's. */
EXPORT int close(int fd)
{
	shim_file_forget(fd);
	return REAL(close)(fd);
}

EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	if (!(flags & (int)CLOSE_RANGE_CLOEXEC))
		shim_file_forget_range(first, last);
	return REAL(close_range)(first, last, flags);
}

EXPORT void closefrom(int first)
{
	shim_file_forget_range(first < 0 ? 0 : (unsigned)first, UINT_MAX);
	REAL(closefrom)(first);
}

/* newfd has become a dup of what f is behind; takes f. */
static int add_dup(struct shim_file *f, int newfd)
{
	int r = f && newfd >= 0 ? shim_file_install(f, newfd) : 0;
	int saved = errno;

	shim_file_put(f);
	errno = saved;
	if (r == 0)
		return newfd;
	REAL(close)(newfd);
	return (int)result(r);
}

EXPORT int dup(int fd)
{
	return add_dup(shim_file_get(fd), REAL(dup)(fd));
}

EXPORT int dup2(int fd, int newfd)
{
	if (fd == newfd)
		return REAL(dup2)(fd, newfd);
	if (REAL(fcntl)(fd, F_GETFD) >= 0)
		shim_file_forget(newfd);
	return add_dup(shim_file_get(fd), REAL(dup2)(fd, newfd));
}

EXPORT int dup3(int fd, int newfd, int flags)
{
	if (fd != newfd && REAL(fcntl)(fd, F_GETFD) >= 0)
		shim_file_forget(newfd);
	return add_dup(shim_file_get(fd), REAL(dup3)(fd, newfd, flags));
}

#define DEFINE_FCNTL(name)                                               \
	EXPORT int name(int fd, int command, ...)                        \
	{                                                                \
		va_list ap;                                              \
		va_start(ap, command);                                   \
		void *arg = va_arg(ap, void *);                          \
		va_end(ap);                                              \
		int r = REAL(name)(fd, command, arg);                    \
		if (command != F_DUPFD && command != F_DUPFD_CLOEXEC)    \
			return r;                                        \
		return add_dup(shim_file_get(fd), r);                    \
	}

DEFINE_FCNTL(fcntl)
DEFINE_FCNTL(fcntl64)

/* ------------------------------------------------------------------ ioctl */

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);

	struct shim_file *f = shim_file_get(fd);
	if (!f && _IOC_TYPE(request) == VFIO_TYPE && shim_machine_adopt(fd))
		f = shim_file_get(fd);
	if (!f)
		return REAL(ioctl)(fd, request, arg);
	long r = _IOC_TYPE(request) == VFIO_TYPE ? f->ops->ioctl(f, fd, (unsigned)request, arg) : -ENOTTY;
	shim_file_put(f);
	return (int)result(r);
}

/* --------------------------------------------------------- read and write */

/* true: the file is ours, and *ret is the result. */
static bool read_ours(int fd, void *buffer, size_t length, off_t offset, ssize_t *ret)
{
	struct shim_file *f = shim_file_get(fd);
	bool ours = f && f->ops->read;
	if (ours)
		*ret = result(f->ops->read(f, fd, buffer, length, offset));
	shim_file_put(f);
	return ours;
}

static bool write_ours(int fd, const void *buffer, size_t length, off_t offset, ssize_t *ret)
{
	struct shim_file *f = shim_file_get(fd);
	bool ours = f && f->ops->write;
	if (ours)
		*ret = result(f->ops->write(f, fd, buffer, length, offset));
	shim_file_put(f);
	return ours;
}

EXPORT ssize_t read(int fd, void *buffer, size_t length)
{
	ssize_t n;
	return read_ours(fd, buffer, length, -1, &n) ? n : REAL(read)(fd, buffer, length);
}

EXPORT ssize_t __read_chk(int fd, void *buffer, size_t length, size_t room)
{
	ssize_t n;
	if (length <= room && read_ours(fd, buffer, length, -1, &n))
		return n;
	return REAL(__read_chk)(fd, buffer, length, room);
}

#define DEFINE_PREAD(name, type)                                                    \
	EXPORT ssize_t name(int fd, void *buffer, size_t length, type offset)       \
	{                                                                           \
		ssize_t n;                                                          \
		if (offset >= 0 && read_ours(fd, buffer, length, offset, &n))       \
			return n;                                                   \
		return REAL(name)(fd, buffer, length, offset);                      \
	}

#define DEFINE_PREAD_CHK(name, type)                                                             \
	ssize_t name(int fd, void *buffer, size_t length, type offset, size_t room)              \
	{                                                                                        \
		ssize_t n;                                                                       \
		if (offset >= 0 && length <= room && read_ours(fd, buffer, length, offset, &n))  \
			return n;                                                                \
		return REAL(name)(fd, buffer, length, offset, room);                             \
	}

#define DEFINE_PWRITE(name, type)                                                      \
	EXPORT ssize_t name(int fd, const void *buffer, size_t length, type offset)    \
	{                                                                              \
		ssize_t n;                                                             \
		if (offset >= 0 && write_ours(fd, buffer, length, offset, &n))         \
			return n;                                                      \
		return REAL(name)(fd, buffer, length, offset);                         \
	}

DEFINE_PREAD(pread, off_t)
DEFINE_PREAD(pread64, off64_t)
DEFINE_PREAD_CHK(__pread_chk, off_t)
DEFINE_PREAD_CHK(__pread64_chk, off64_t)

EXPORT ssize_t write(int fd, const void *buffer, size_t length)
{
	ssize_t n;
	return write_ours(fd, buffer, length, -1, &n) ? n : REAL(write)(fd, buffer, length);
}

DEFINE_PWRITE(pwrite, off_t)
DEFINE_PWRITE(pwrite64, off64_t)

/* A vector is taken piece by piece until one comes short; what came before it counts. */
EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
	ssize_t n = 0, done = 0;
	for (int i = 0; i < count; i++) {
		if (!read_ours(fd, iov[i].iov_base, iov[i].iov_len, -1, &n))
			return REAL(readv)(fd, iov, count);
		if (n < 0)
			return done ? done : n;
		done += n;
		if ((size_t)n < iov[i].iov_len)
			break;
	}
	return count > 0 ? done : REAL(readv)(fd, iov, count);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
	ssize_t n = 0, done = 0;
	for (int i = 0; i < count; i++) {
		if (!write_ours(fd, iov[i].iov_base, iov[i].iov_len, -1, &n))
			return REAL(writev)(fd, iov, count);
		if (n < 0)
			return done ? done : n;
		done += n;
		if ((size_t)n < iov[i].iov_len)
			break;
	}
	return count > 0 ? done : REAL(writev)(fd, iov, count);
}

/* ------------------------------------------------------------------- mmap */

static bool mmap_ours(void *address, size_t length, int protection, int flags, int fd, off_t offset, void **ret)
{
	struct shim_file *f = flags & MAP_ANONYMOUS ? NULL : shim_file_get(fd);
	if (!f)
		return false;
	int r = f->ops->mmap ? f->ops->mmap(f, address, length, protection, flags, offset, ret) : -ENODEV;
	shim_file_put(f);
	if (result(r) < 0)
		*ret = MAP_FAILED;
	return true;
}

#define DEFINE_MMAP(name, type)                                                                                 \
	EXPORT void *name(void *address, size_t length, int protection, int flags, int fd, type offset)         \
	{                                                                                                       \
		void *p;                                                                                        \
		if (mmap_ours(address, length, protection, flags, fd, offset, &p))                              \
			return p;                                                                               \
		return REAL(name)(address, length, protection, flags, fd, offset);                              \
	}

DEFINE_MMAP(mmap, off_t)
DEFINE_MMAP(mmap64, off64_t)
