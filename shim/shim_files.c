/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_files.c: which of the program's fds is which of our files. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim.h"
#include "shim_real.h"

#define FDS_MAX 65536u

/* An fd that is not ours costs one look into the table. */
static struct {
	pthread_mutex_t lock;
	pid_t owner;	  /* a child that shares our memory (vfork) has fds of its own */
	unsigned highest; /* and no fd above it is ours */
	struct shim_file *of[FDS_MAX];
} fds = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool may_be_ours(int fd)
{
	return (unsigned)fd < FDS_MAX && __atomic_load_n(&fds.of[fd], __ATOMIC_ACQUIRE) && fds.owner == getpid();
}

struct shim_file *shim_file_get(int fd)
{
	if (!may_be_ours(fd))
		return NULL;
	pthread_mutex_lock(&fds.lock);
	struct shim_file *f = fds.of[fd];
	if (f)
		f->refs++;
	pthread_mutex_unlock(&fds.lock);
	return f;
}

void shim_file_hold(struct shim_file *f)
{
	pthread_mutex_lock(&fds.lock);
	f->refs++;
	pthread_mutex_unlock(&fds.lock);
}

void shim_file_put(struct shim_file *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&fds.lock);
	bool last = --f->refs == 0;
	pthread_mutex_unlock(&fds.lock);
	if (!last)
		return;
	int saved = errno;
	f->ops->release(f);
	errno = saved;
}

int shim_file_install(struct shim_file *f, int newfd)
{
	if ((unsigned)newfd >= FDS_MAX)
		return -EMFILE;
	pthread_mutex_lock(&fds.lock);
	fds.owner = getpid();
	struct shim_file *old = fds.of[newfd]; /* closed behind our back */
	f->refs++;
	__atomic_store_n(&fds.of[newfd], f, __ATOMIC_RELEASE);
	if ((unsigned)newfd > fds.highest)
		fds.highest = (unsigned)newfd;
	pthread_mutex_unlock(&fds.lock);
	shim_file_put(old);
	return 0;
}

int shim_file_new_fd(struct shim_file *f, const char *name, bool cloexec)
{
	int fd = memfd_create(name, cloexec ? MFD_CLOEXEC : 0);
	if (fd < 0)
		return -errno;
	int r = shim_file_install(f, fd);
	if (r < 0) {
		REAL(close)(fd);
		return r;
	}
	return fd;
}

void shim_file_forget(int fd)
{
	if (!may_be_ours(fd))
		return;
	pthread_mutex_lock(&fds.lock);
	struct shim_file *f = fds.of[fd];
	__atomic_store_n(&fds.of[fd], NULL, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&fds.lock);
	shim_file_put(f);
}

void shim_file_forget_range(unsigned first, unsigned last)
{
	for (unsigned fd = first; fd <= last && fd <= fds.highest; fd++)
		shim_file_forget((int)fd);
}

void shim_files_clear(void)
{
	pthread_mutex_init(&fds.lock, NULL);
	for (unsigned fd = 0; fd <= fds.highest; fd++)
		fds.of[fd] = NULL;
	fds.highest = 0;
}
