/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * forbidden.c: preloaded, does a system call that nobody wants of it, as code that a stream took over would:
 * $FORBIDDEN, in the main thread once it looks for signals between two steps, or with $FORBIDDEN_IN_THREAD at the next
 * message from a vfio-user server. With $NO_SECCOMP the kernel seems to take no filter.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static atomic_bool armed;
static atomic_int signals = -1;

static long do_call(const char *name)
{
	char *const argv[] = { (char *)"true", NULL };
	if (!strcmp(name, "socket"))
		return syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
	if (!strcmp(name, "execve"))
		return syscall(SYS_execve, "/bin/true", argv, NULL);
	if (!strcmp(name, "ptrace"))
		return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
	if (!strcmp(name, "kill"))
		return syscall(SYS_kill, getppid(), 0);
	if (!strcmp(name, "tgkill"))
		return syscall(SYS_tgkill, getppid(), getppid(), 0);
	if (!strcmp(name, "ioctl"))
		return syscall(SYS_ioctl, 0, FIONREAD, NULL);
	if (!strcmp(name, "mprotect"))
		return syscall(SYS_mprotect, NULL, 0, PROT_READ | PROT_EXEC);
	if (!strcmp(name, "setuid"))
		return syscall(SYS_setuid, 0);
	if (!strcmp(name, "openat"))
		return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY);
	return -1;
}

static void act(void)
{
	const char *name = getenv("FORBIDDEN");
	if (!name)
		return;
	fprintf(stderr, "calling %s\n", name);
	long r = do_call(name);
	fprintf(stderr, "%s: %s\n", name, r < 0 ? strerrorname_np(errno) : "done");
}

EXPORT int signalfd(int fd, const sigset_t *mask, int flags)
{
	int (*real)(int, const sigset_t *, int) = (int (*)(int, const sigset_t *, int))dlsym(RTLD_NEXT, "signalfd");
	int r = real(fd, mask, flags);
	atomic_store(&signals, r);
	return r;
}

/* Another thread waits for them while devices are opened. */
EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	int (*real)(struct pollfd *, nfds_t, int) = (int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll");
	if (count && fds[0].fd == atomic_load(&signals) && gettid() == getpid()) {
		atomic_store(&signals, -2);
		if (getenv("FORBIDDEN_IN_THREAD"))
			atomic_store(&armed, true);
		else
			act();
	}
	return real(fds, count, timeout_ms);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	typedef ssize_t recvmsg_fn(int, struct msghdr *, int);
	recvmsg_fn *real = (recvmsg_fn *)dlsym(RTLD_NEXT, "recvmsg");
	ssize_t n = real(fd, message, flags);
	if (atomic_exchange(&armed, false))
		act();
	return n;
}

EXPORT int seccomp_load(const scmp_filter_ctx filter)
{
	int (*real)(const scmp_filter_ctx) = (int (*)(const scmp_filter_ctx))dlsym(RTLD_NEXT, "seccomp_load");
	return getenv("NO_SECCOMP") ? -EINVAL : real(filter);
}
