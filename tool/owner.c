/* SPDX-License-Identifier: BSD-3-Clause */
/* owner.c: hands a loaded kernel device to a command or to a process, or keeps it. */
#include "owner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "device/device.h"
#include "device/user_socket.h"
#include "signals.h"

#define SEND_MS 10000u

static const char unix_scheme[] = "unix:";

int owner_prepare(struct owner *o, uint32_t timeout_ms, struct vfmig_error *err)
{
	if (o->kind != OWNER_GIVE)
		return 0;
	if (strncmp(o->what, unix_scheme, strlen(unix_scheme)))
		return error_set(err, -EINVAL, "--give %s: expected unix:PATH", o->what);
	int r = user_socket_connect(o->what + strlen(unix_scheme), timeout_ms, &o->socket, err);
	return r < 0 ? error_prefix(err, r, "--give: nobody is there to have the device") : 0;
}

int owner_check(const struct owner *o, struct vfmig_device *const *devices, size_t count, struct vfmig_error *err)
{
	if (o->kind != OWNER_EXEC && o->kind != OWNER_GIVE)
		return 0;
	if (count > VFIO_USER_MAX_FDS)
		return error_set(err, -EINVAL, "%zu devices to hand over, at most are %d", count, VFIO_USER_MAX_FDS);
	for (size_t i = 0; i < count; i++)
		if (kernel_access_fd(devices[i]->access) < 0)
			return error_set(err, -EINVAL, "%s: not a kernel device: it has no fd to hand over",
					 vfmig_device_name(devices[i]));
	return 0;
}

/*
 * Has the peer the fds, or are they in a queue that dies with it? Closing a socket with the message unread resets
 * the connection; closing it after reading, or any answer, means that they were taken.
 */
static int wait_taken(int socket, struct vfmig_error *err)
{
	sigset_t set;
	signals_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigdelset(&set, SIGUSR1);
	struct pollfd fds[2] = { { .fd = socket, .events = POLLIN }, { .fd = -1, .events = POLLIN } };
	fds[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
	int n;
	do
		n = poll(fds, 2, -1);
	while (n < 0 && errno == EINTR);
	if (fds[1].fd >= 0)
		close(fds[1].fd);
	if (n > 0 && !fds[0].revents)
		return error_set(err, -ECANCELED, "a signal came before the device was taken");
	char byte;
	return recv(socket, &byte, 1, MSG_DONTWAIT) < 0 ? error_errno(err, -errno, "it did not take the device") : 0;
}

int owner_give(struct owner *o, struct vfmig_device *const *devices, size_t count, struct vfmig_error *err)
{
	int fds[VFIO_USER_MAX_FDS];
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	if (o->kind != OWNER_GIVE)
		return 0;
	for (size_t i = 0; i < count; i++)
		fds[i] = kernel_access_fd(devices[i]->access);
	int r = user_socket_send(o->socket, &iov, 1, fds, count, clock_now_ns() + SEND_MS * NS_PER_MS);
	if (r < 0)
		error_errno(err, r, "sending the device's fd");
	else
		r = wait_taken(o->socket, err);
	return r < 0 ? error_prefix(err, r, "--give %s", o->what) : 0;
}

/* The command inherits the devices' fds, their numbers in the environment, and no signal blocked. */
static int run_command(const struct owner *o, struct vfmig_device *const *devices, size_t count,
		       struct vfmig_error *err)
{
	char numbers[VFIO_USER_MAX_FDS * 12] = "";
	sigset_t set;
	for (size_t i = 0, used = 0; i < count; i++, used = strlen(numbers)) {
		int fd = kernel_access_fd(devices[i]->access);
		if (fcntl(fd, F_SETFD, 0) < 0)
			return error_errno(err, -errno, "fd %d", fd);
		snprintf(numbers + used, sizeof(numbers) - used, "%s%d", i ? " " : "", fd);
	}
	if (setenv("VFMIG_DEVICE_FD", numbers, 1) < 0)
		return error_errno(err, -errno, "VFMIG_DEVICE_FD");
	signals_set(&set);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	fflush(NULL);
	execl("/bin/sh", "sh", "-c", o->what, (char *)NULL);
	return error_errno(err, -errno, "--exec: /bin/sh");
}

static int hold(void)
{
	sigset_t set;
	int number;
	signals_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigdelset(&set, SIGUSR1);
	fflush(NULL);
	sigwait(&set, &number);
	return 0;
}

int owner_stay(struct owner *o, struct vfmig_device *const *devices, size_t count, struct vfmig_error *err)
{
	if (o->kind == OWNER_EXEC)
		return run_command(o, devices, count, err);
	return o->kind == OWNER_HOLD ? hold() : 0;
}

void owner_close(struct owner *o)
{
	if (o->socket >= 0)
		close(o->socket);
	o->socket = -1;
}
