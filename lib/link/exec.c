/* SPDX-License-Identifier: BSD-3-Clause */
/* exec.c: exec:COMMAND. Saving writes to its standard input, loading reads its standard output. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link/fd.h"
#include "link/schemes.h"

#define GRACE_MS 2000 /* from the end of its pipe to being killed */
#define STATUS_KNOWN 125 /* above: the shell's word for what it could not run or a signal ended; 255: ssh's */
#define CAUSE_MS 200  /* how long a broken pipe waits for the command's own reason */

struct exec_link {
	struct fd_link fd;
	pid_t pid;
	int pidfd; /* readable when the command has ended; -1: reaped */
};

/* 0 when it ended well; blocks until it has ended. */
static int reap(struct exec_link *e, struct vfmig_error *err)
{
	siginfo_t info = { 0 };
	while (waitid(P_PID, (id_t)e->pid, &info, WEXITED) < 0)
		if (errno != EINTR)
			return error_errno(err, -errno, "wait for the command");
	close(e->pidfd);
	e->pidfd = -1;
	if (info.si_code != CLD_EXITED)
		return error_set(err, -EIO, "the command was killed by signal %d (%s)", info.si_status,
				 strsignal(info.si_status));
	e->fd.base.taken_by_nobody = info.si_status && info.si_status <= STATUS_KNOWN;
	if (info.si_status)
		return error_set(err, -EIO, "the command failed with exit status %d", info.si_status);
	return 0;
}

static bool ended_within(struct exec_link *e, int timeout_ms)
{
	struct pollfd p = { .fd = e->pidfd, .events = POLLIN };
	return e->pidfd >= 0 && poll(&p, 1, timeout_ms) > 0;
}

static ssize_t exec_writev(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err)
{
	struct exec_link *e = (struct exec_link *)l;
	ssize_t n = fd_link_writev(l, iov, count, err);
	/* Its pipe closes a moment before its exit status is there, which says more. */
	if (n == -EPIPE && ended_within(e, CAUSE_MS))
		reap(e, err);
	return n;
}

/* The end of the output is the stream's end only if the command ended well. */
static ssize_t exec_read(struct vfmig_link *l, void *buffer, size_t length, struct vfmig_error *err)
{
	struct exec_link *e = (struct exec_link *)l;
	ssize_t n = fd_link_read(l, buffer, length, err);
	if (n != 0 || e->pidfd < 0)
		return n;
	l->wait_fd = e->pidfd;
	if (!ended_within(e, 0))
		return -EAGAIN;
	l->wait_fd = e->fd.fd;
	return reap(e, err);
}

/* The command may take as long as it likes to end, so it is waited for as a full pipe is. */
static int exec_finish(struct vfmig_link *l, struct vfmig_error *err)
{
	struct exec_link *e = (struct exec_link *)l;
	fd_link_done(&e->fd);
	l->wait_fd = e->pidfd;
	l->only_events = POLLIN;
	if (e->pidfd >= 0 && !ended_within(e, 0))
		return -EAGAIN;
	l->wait_fd = -1;
	return e->pidfd >= 0 ? reap(e, err) : 0;
}

static void exec_close(struct vfmig_link *l)
{
	struct exec_link *e = (struct exec_link *)l;
	fd_link_done(&e->fd);
	if (e->pidfd >= 0 && l->left_alone && !ended_within(e, 0)) {
		close(e->pidfd);
	} else if (e->pidfd >= 0) {
		if (!ended_within(e, GRACE_MS))
			kill(e->pid, SIGKILL);
		reap(e, NULL);
	}
	free(e);
}

static const struct link_ops exec_ops = {
	.kind = "exec",
	.writev = exec_writev,
	.read = exec_read,
	.finish = exec_finish,
	.close = exec_close,
};

/* The command gets a process's ordinary signals back, whatever the caller's are. */
static int set_signals(posix_spawnattr_t *attr)
{
	sigset_t none, defaults;
	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	sigaddset(&defaults, SIGXFSZ);
	int r = posix_spawnattr_setsigmask(attr, &none);
	if (!r)
		r = posix_spawnattr_setsigdefault(attr, &defaults);
	return r ? r : posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

/* standard: the command's fd that `end` becomes. */
static int spawn(const char *command, int end, int standard, pid_t *ret_pid)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r = posix_spawn_file_actions_init(&actions);
	if (r)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (!r) {
		r = posix_spawn_file_actions_adddup2(&actions, end, standard);
		if (!r)
			r = set_signals(&attr);
		if (!r)
			r = posix_spawn(ret_pid, "/bin/sh", &actions, &attr, argv, environ);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int exec_start(struct exec_link *e, const char *command, enum vfmig_direction direction,
		      struct vfmig_error *err)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(err, -errno, "pipe");
	int ours = direction == VFMIG_SAVE ? ends[1] : ends[0];
	int theirs = direction == VFMIG_SAVE ? ends[0] : ends[1];
	int r = spawn(command, theirs, direction == VFMIG_SAVE ? STDIN_FILENO : STDOUT_FILENO, &e->pid);
	close(theirs);
	if (r < 0) {
		close(ours);
		return error_errno(err, r, "start /bin/sh");
	}
	e->pidfd = pidfd_open(e->pid, 0);
	if (e->pidfd < 0) {
		r = error_errno(err, -errno, "pidfd");
		close(ours);
		kill(e->pid, SIGKILL);
		waitpid(e->pid, NULL, 0);
		return r;
	}
	return fd_link_init(&e->fd, ours, true, direction, &exec_ops, err);
}

int exec_link_open(const char *rest, enum vfmig_direction direction,
		   const struct vfmig_link_options *opts, struct vfmig_link **ret, struct vfmig_error *err)
{
	(void)opts;
	struct exec_link *e = calloc(1, sizeof(*e));
	if (!e)
		return error_errno(err, -ENOMEM, "link");
	e->fd.fd = e->pidfd = -1;
	int r = exec_start(e, rest, direction, err);
	if (r < 0) {
		exec_close(&e->fd.base);
		return r;
	}
	*ret = &e->fd.base;
	return 0;
}
