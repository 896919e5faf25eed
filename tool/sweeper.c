/* SPDX-License-Identifier: BSD-3-Clause */
/* sweeper.c: a process that waits for another one's end, and then removes the name of its socket. */
#include "sweeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

/* What is there now may be another one's. Only calls that are safe after a fork of a process with threads. */
static void sweep(int fd, const char *path, const struct stat *ours)
{
	struct stat st;
	char byte;
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	/* It must not hold what the other one has: a device is reset when its last fd is closed. */
	if (dup2(fd, STDIN_FILENO) < 0 || close_range(STDIN_FILENO + 1, ~0u, 0) < 0)
		_exit(1);
	while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
		;
	if (lstat(path, &st) == 0 && st.st_dev == ours->st_dev && st.st_ino == ours->st_ino)
		unlink(path);
	_exit(0);
}

int sweeper_start(struct sweeper *s, const char *path, struct vfmig_error *err)
{
	struct stat st;
	int ends[2];
	if (lstat(path, &st) < 0) /* gone already: nothing to do */
		return 0;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(err, -errno, "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[1]);
		sweep(ends[0], path, &st);
	}
	close(ends[0]);
	if (pid < 0) {
		int r = error_errno(err, -errno, "fork");
		close(ends[1]);
		return r;
	}
	*s = (struct sweeper) { .pid = pid, .fd = ends[1] };
	return 0;
}

void sweeper_stop(struct sweeper *s)
{
	if (!s->pid)
		return;
	close(s->fd);
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
	s->pid = 0;
}
