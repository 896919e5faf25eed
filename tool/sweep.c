/* SPDX-License-Identifier: BSD-3-Clause */
/* sweep.c: a child whose only work is to remove a socket's name at the end. */
#include "sweep.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char scheme[] = "unix:";

/* The socket that was there at first, and not one that somebody else has put there since. */
static void remove_socket(const char *path, const struct stat *was)
{
	struct stat st;
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == was->st_dev && st.st_ino == was->st_ino)
		unlink(path);
}

/* Nothing of the load's is kept open: a device's last fd must be the load's. */
static void serve(int end, const char *path, const struct stat *was)
{
	sigset_t all;
	char byte;
	sigfillset(&all); /* what a terminal sends is for the load to decide about */
	sigprocmask(SIG_BLOCK, &all, NULL);
	if (dup2(end, STDIN_FILENO) < 0 || syscall(SYS_close_range, STDIN_FILENO + 1, ~0U, 0) < 0)
		_exit(1);
	while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
		;
	remove_socket(path, was);
	_exit(0);
}

int sweep_begin(const char *link_uri)
{
	struct stat was;
	int ends[2];
	const char *path = link_uri + strlen(scheme);
	if (strncmp(link_uri, scheme, strlen(scheme)) || lstat(path, &was) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0)
		serve(ends[1], path, &was);
	close(ends[1]);
	if (pid > 0)
		return ends[0];
	close(ends[0]);
	return -1;
}

void sweep_end(int sweeper)
{
	char byte;
	if (sweeper < 0)
		return;
	shutdown(sweeper, SHUT_WR);
	while (read(sweeper, &byte, 1) < 0 && errno == EINTR) /* until it has closed its end */
		;
	close(sweeper);
}
