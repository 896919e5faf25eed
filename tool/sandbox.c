/* SPDX-License-Identifier: BSD-3-Clause */
/* sandbox.c: gives up privileges and, by a seccomp filter, the system calls that a load does not need. */
#include "sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

#define NOBODY 65534u	/* the kernel's own number for a user that owns nothing */
#define VFIO_IOCTLS ';' /* the type of VFIO's and iommufd's */
#define HINT "; --no-sandbox loads without"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || \
	__has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define OBSTACLE "built with a sanitizer, which looks at its own process by calls that are forbidden"
#elif defined(COVERAGE)
#define OBSTACLE "built for coverage, which is written into files at the end"
#else
#define OBSTACLE NULL
#endif

const char *sandbox_obstacle(void)
{
	return OBSTACLE;
}

static const int always[] = {
	/* devices, links, what is printed; ioctl is below */
	SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(write), SCMP_SYS(writev),
	SCMP_SYS(pwrite64), SCMP_SYS(pwritev), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendto),
	SCMP_SYS(sendmsg), SCMP_SYS(getsockopt), SCMP_SYS(shutdown), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(lseek),
	SCMP_SYS(fstat), SCMP_SYS(fcntl), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(close),
	SCMP_SYS(eventfd2), SCMP_SYS(signalfd4), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime),
	SCMP_SYS(timerfd_gettime), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	/* a connection that takes a lost one's place, by the listener that is open */
	SCMP_SYS(accept4), SCMP_SYS(setsockopt),
	/* memory; mmap and mprotect are below */
	SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(getrandom),
	/* threads, time, signals, the end */
	SCMP_SYS(clone), SCMP_SYS(clone3), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(futex),
	SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(gettid), SCMP_SYS(getpid),
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday),
	SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigpending),
	SCMP_SYS(rt_sigtimedwait), SCMP_SYS(restart_syscall), SCMP_SYS(wait4), SCMP_SYS(waitid),
	SCMP_SYS(exit), SCMP_SYS(exit_group),
};

static const int for_command[] = { SCMP_SYS(kill) };

/* Its file is open already: it gets the session's name, and is removed where it must not stay. */
static const int for_journal[] = { SCMP_SYS(renameat2), SCMP_SYS(unlinkat), SCMP_SYS(ftruncate) };

static int allow(scmp_filter_ctx filter, const int *calls, size_t count)
{
	int r = 0;
	for (size_t i = 0; i < count && r == 0; i++) {
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
		if (r == -EDOM) /* poll, say: this architecture has only what came after it */
			r = 0;
	}
	return r;
}

/* Calls that are harmless with some arguments only. */
static int allow_in_part(scmp_filter_ctx filter)
{
	const struct {
		int call;
		struct scmp_arg_cmp argument;
	} rules[] = {
		{ SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff00, VFIO_IOCTLS << 8) },
		{ SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, TCGETS) },
		{ SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
		{ SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
		{ SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()) }, /* abort() */
		/* what a C library makes of fstat() */
		{ SCMP_SYS(newfstatat), SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH) },
	};
	int r = 0;
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]) && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, rules[i].call, 1, rules[i].argument);
	return r;
}

static int fill(scmp_filter_ctx filter, const struct sandbox_needs *needs)
{
	int r = allow(filter, always, sizeof(always) / sizeof(always[0]));
	if (r == 0)
		r = allow_in_part(filter);
	if (r == 0 && needs->command)
		r = allow(filter, for_command, sizeof(for_command) / sizeof(for_command[0]));
	if (r == 0 && needs->journal)
		r = allow(filter, for_journal, sizeof(for_journal) / sizeof(for_journal[0]));
	/*
	 * What may fail need not end the process: malloc reads the kernel's overcommit setting, or the number of
	 * processors; a link removes its socket's name, which sweeper.c does.
	 */
	static const int refused[] = { SCMP_SYS(openat), SCMP_SYS(unlink), SCMP_SYS(unlinkat) };
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]) && r == 0; i++) {
		if (needs->journal && refused[i] == SCMP_SYS(unlinkat))
			continue;
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), refused[i], 0);
		if (r == -EDOM)
			r = 0;
	}
	return r;
}

static int install_filter(const struct sandbox_needs *needs, struct vfmig_error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!filter) /* the library says no more; it looks for the action first */
		return error_errno(err, -ENOSYS, "sandbox: the kernel takes no seccomp filter that kills" HINT);
	/* Threads of the library exist already: the one that receives from a vfio-user server, say. */
	int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (r == 0)
		r = fill(filter, needs);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r < 0 ? error_errno(err, r, "sandbox: this kernel takes no seccomp filter" HINT) : 0;
}

/*
 * The library's other threads lose their capabilities when they stop being root; this one keeps those of `keep`. A root
 * that is alone in its user namespace, or may not become somebody else, stays who it is.
 */
static int become_nobody(bool keep, struct vfmig_error *err)
{
	if (geteuid() != 0)
		return 0;
	if (prctl(PR_SET_KEEPCAPS, keep, 0, 0, 0) < 0)
		return error_errno(err, -errno, "sandbox: capabilities" HINT);
	if (setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0)
		return 0;
	return errno == EPERM || errno == EINVAL ? 0 : error_errno(err, -errno, "sandbox: become nobody" HINT);
}

static int drop_capabilities(uint32_t keep, struct vfmig_error *err)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct had[_LINUX_CAPABILITY_U32S_3], left[_LINUX_CAPABILITY_U32S_3] = { 0 };
	if (syscall(SYS_capget, &header, had) < 0)
		return error_errno(err, -errno, "sandbox: capabilities" HINT);
	left[0].effective = left[0].permitted = had[0].permitted & keep;
	if (syscall(SYS_capset, &header, left) < 0)
		return error_errno(err, -errno, "sandbox: capabilities" HINT);
	return 0;
}

int sandbox_enter(const struct sandbox_needs *needs, struct vfmig_error *err)
{
	/* The command may be root's; the journal's folder is whoever's it is. */
	uint32_t keep = (needs->command ? 1u << CAP_KILL : 0) | (needs->journal ? 1u << CAP_DAC_OVERRIDE : 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, -errno, "sandbox: no new privileges" HINT);
	int r = become_nobody(keep != 0, err);
	if (r == 0)
		r = drop_capabilities(keep, err);
	return r < 0 ? r : install_filter(needs, err);
}
