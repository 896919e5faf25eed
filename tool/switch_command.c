/* SPDX-License-Identifier: BSD-3-Clause */
/* switch_command.c: a participant that runs the user's commands where a VMM would stop and start its vCPUs. */
#include "switch_command.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

#define ID "vfmig/command"

static int wait_for(pid_t pid, const char *option, const char *command, struct vfmig_error *err)
{
	int status;
	pid_t r;
	do
		r = waitpid(pid, &status, 0);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return error_errno(err, -errno, "%s '%s'", option, command);
	if (WIFSIGNALED(status))
		return error_set(err, -EINTR, "%s '%s' was ended by signal %d, expected exit status 0", option, command,
				 WTERMSIG(status));
	if (WEXITSTATUS(status))
		return error_set(err, -ECHILD, "%s '%s' ended with exit status %d, expected 0", option, command,
				 WEXITSTATUS(status));
	return 0;
}

/* What it prints goes to stderr: stdout may be the stream or JSON. It has no signal blocked or ignored. */
static int run(const char *option, const char *command, struct vfmig_error *err)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, ignored;
	pid_t pid;
	sigemptyset(&none);
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attributes, &ignored);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	int r = posix_spawn(&pid, "/bin/sh", &actions, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return r ? error_errno(err, -r, "%s: /bin/sh", option) : wait_for(pid, option, command, err);
}

/* The helper: runs the command for each byte, answers with how it went, ends with the socket. */
static void serve(int socket, const char *command)
{
	sigset_t all;
	char byte;
	sigfillset(&all); /* what a terminal sends is for the load to decide about */
	sigprocmask(SIG_BLOCK, &all, NULL);
	while (recv(socket, &byte, 1, 0) == 1) {
		struct vfmig_error answer = { 0 };
		run("--resume-command", command, &answer);
		if (send(socket, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

int switch_command_prepare_load(struct switch_command *c, struct vfmig_error *err)
{
	int ends[2];
	if (!c->resume)
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_errno(err, -errno, "--resume-command: socket");
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[0]);
		serve(ends[1], c->resume);
	}
	close(ends[1]);
	if (pid < 0) {
		int r = error_errno(err, -errno, "--resume-command: fork");
		close(ends[0]);
		return r;
	}
	c->helper = ends[0];
	return 0;
}

void switch_command_close(struct switch_command *c)
{
	if (c->helper >= 0)
		close(c->helper);
	c->helper = -1;
}

static int ask_helper(int socket, struct vfmig_error *err)
{
	struct vfmig_error answer;
	char byte = 0;
	ssize_t n = send(socket, &byte, 1, MSG_NOSIGNAL);
	do
		n = n < 0 ? n : recv(socket, &answer, sizeof(answer), 0);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(answer))
		return error_set(err, -ECHILD, "--resume-command: the process that was to run it is gone");
	return answer.code ? error_set(err, answer.code, "%s", answer.message) : 0;
}

static int stop_prepare(void *opaque, struct vfmig_error *err)
{
	struct switch_command *c = opaque;
	c->stopped = true; /* also if it fails half-way */
	return c->stop ? run("--stop-command", c->stop, err) : 0;
}

static int resume(void *opaque, struct vfmig_error *err)
{
	struct switch_command *c = opaque;
	if (c->helper >= 0)
		return ask_helper(c->helper, err);
	return c->resume ? run("--resume-command", c->resume, err) : 0;
}

static int undo_stop(void *opaque, struct vfmig_error *err)
{
	struct switch_command *c = opaque;
	bool owed = c->stopped;
	c->stopped = false;
	return owed ? resume(c, err) : 0;
}

static int undo_resume(void *opaque, struct vfmig_error *err)
{
	(void)opaque;
	(void)err;
	return 0;
}

int switch_command_add_save(struct switch_command *c, struct vfmig_save *save, struct vfmig_error *err)
{
	static const struct vfmig_participant_ops ops = {
		.size = sizeof(ops), .stop_prepare = stop_prepare, .undo = undo_stop
	};
	return c->stop || c->resume ? vfmig_save_add_participant(save, &ops, c, ID, 0, 1, err) : 0;
}

int switch_command_add_load(struct switch_command *c, struct vfmig_load *load, struct vfmig_error *err)
{
	static const struct vfmig_participant_ops ops = { .size = sizeof(ops), .start = resume, .undo = undo_resume };
	return c->resume ? vfmig_load_add_participant(load, &ops, c, ID, 0, err) : 0;
}
