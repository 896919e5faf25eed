/* SPDX-License-Identifier: BSD-3-Clause */
/* switch_command.c: a participant that runs the user's commands where a VMM would stop and start its vCPUs. */
#include "switch_command.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "output.h"
#include "signals.h"

#define ID "vfmig/command"
#define GRACE_MS 2000 /* from the signal that asks a command to end to the one that ends it */

/* What the helper is told, a byte each. */
enum { RUN, END };

/* What ends a command before it has ended by itself: cancelled(opaque) is asked when fd is readable. */
struct interrupt {
	int fd;
	bool (*cancelled)(void *opaque);
	void *opaque;
};

/* True: it was cancelled, and the command is about to end. */
static bool wait_or_cancel(pid_t pid, const struct interrupt *i)
{
	struct pollfd fds[2] = { { .fd = pidfd_open(pid, 0), .events = POLLIN }, { .fd = i->fd, .events = POLLIN } };
	bool cancelled = false;
	while (fds[0].fd >= 0 && !fds[0].revents && !cancelled)
		if (poll(fds, 2, -1) > 0 && !fds[0].revents && fds[1].revents)
			cancelled = i->cancelled(i->opaque);
	if (cancelled) {
		kill(pid, SIGTERM);
		if (poll(fds, 1, GRACE_MS) <= 0)
			kill(pid, SIGKILL);
	}
	if (fds[0].fd >= 0)
		close(fds[0].fd);
	return cancelled;
}

static int wait_for(pid_t pid, const char *option, const char *command, const struct interrupt *interrupt,
		    struct vfmig_error *err)
{
	int status;
	pid_t r;
	bool cancelled = interrupt && wait_or_cancel(pid, interrupt);
	do
		r = waitpid(pid, &status, 0);
	while (r < 0 && errno == EINTR);
	if (cancelled)
		return error_set(err, -ECANCELED, "cancelled while %s '%s' ran: it was ended", option, command);
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
static int run(const char *option, const char *command, const struct interrupt *interrupt, struct vfmig_error *err)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, ignored;
	pid_t pid;
	sigemptyset(&none);
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	sigaddset(&ignored, SIGXFSZ);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attributes, &ignored);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	int r = posix_spawn(&pid, "/bin/sh", &actions, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return r ? error_errno(err, -r, "%s: /bin/sh", option) : wait_for(pid, option, command, interrupt, err);
}

/* END, or the end of the load. */
static bool told_to_end(void *opaque)
{
	char byte;
	return recv(*(int *)opaque, &byte, 1, MSG_DONTWAIT) >= 0;
}

/* The helper: runs the command for RUN, ends it for END, answers with how it went, ends with the socket. */
static void serve(int socket, const char *command)
{
	sigset_t all;
	char byte;
	sigfillset(&all); /* what a terminal sends is for the load to decide about */
	sigprocmask(SIG_BLOCK, &all, NULL);
	while (recv(socket, &byte, 1, 0) == 1) {
		if (byte != RUN) /* it had ended by itself */
			continue;
		struct vfmig_error answer = { 0 };
		const struct interrupt interrupt = { .fd = socket, .cancelled = told_to_end, .opaque = &socket };
		run("--resume-command", command, &interrupt, &answer);
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

/* Has a signal come that cancels? The save or the load is told. */
static bool cancelled_by_signal(void *opaque)
{
	const struct switch_command *c = opaque;
	enum signals_word word = signals_read();
	if (word == SIGNALS_ASK)
		output_note(c->save ? "save" : "load", "running %s", c->save ? "--stop-command" : "--resume-command");
	if (word == SIGNALS_CANCEL && c->save)
		vfmig_save_cancel(c->save);
	if (word == SIGNALS_CANCEL && c->load)
		vfmig_load_cancel(c->load);
	return word == SIGNALS_CANCEL;
}

static int ask_helper(struct switch_command *c, struct vfmig_error *err)
{
	struct vfmig_error answer;
	struct pollfd fds[2] = { { .fd = c->helper, .events = POLLIN }, { .fd = signals_fd(), .events = POLLIN } };
	char byte = RUN;
	ssize_t n = send(c->helper, &byte, 1, MSG_NOSIGNAL);
	bool told = false;
	while (n >= 0 && !fds[0].revents)
		if (poll(fds, told ? 1 : 2, -1) > 0 && !fds[0].revents && cancelled_by_signal(c)) {
			byte = END;
			n = send(c->helper, &byte, 1, MSG_NOSIGNAL);
			told = true;
		}
	n = n < 0 ? n : recv(c->helper, &answer, sizeof(answer), 0);
	if (n != sizeof(answer))
		return error_set(err, -ECHILD, "--resume-command: the process that was to run it is gone");
	return answer.code ? error_set(err, answer.code, "%s", answer.message) : 0;
}

static int stop_prepare(void *opaque, struct vfmig_error *err)
{
	struct switch_command *c = opaque;
	c->stopped = true; /* also if it fails half-way */
	const struct interrupt interrupt = { .fd = signals_fd(), .cancelled = cancelled_by_signal, .opaque = c };
	return c->stop ? run("--stop-command", c->stop, &interrupt, err) : 0;
}

static int resume(void *opaque, struct vfmig_error *err)
{
	struct switch_command *c = opaque;
	if (c->helper >= 0)
		return ask_helper(c, err);
	return c->resume ? run("--resume-command", c->resume, NULL, err) : 0; /* owed: nothing ends it */
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

int switch_command_resume(const char *command, struct vfmig_error *err)
{
	return run("--resume-command", command, NULL, err);
}

int switch_command_add_save(struct switch_command *c, struct vfmig_save *save, struct vfmig_error *err)
{
	static const struct vfmig_participant_ops ops = {
		.size = sizeof(ops), .stop_prepare = stop_prepare, .undo = undo_stop
	};
	c->save = save;
	return c->stop || c->resume ? vfmig_save_add_participant(save, &ops, c, ID, 0, 1, err) : 0;
}

int switch_command_add_load(struct switch_command *c, struct vfmig_load *load, struct vfmig_error *err)
{
	static const struct vfmig_participant_ops ops = { .size = sizeof(ops), .start = resume, .undo = undo_resume };
	c->load = load;
	return c->resume ? vfmig_load_add_participant(load, &ops, c, ID, 0, err) : 0;
}
