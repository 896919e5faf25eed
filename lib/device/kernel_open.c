/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_open.c: kernel devices by their URI: found in sysfs, by their file, or handed over as an fd. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "device/kernel.h"
#include "device/kernel_reasons.h"
#include "device/user_socket.h"
#include "uapi/vfio_compat.h"

int kernel_open_place(const struct kernel_place *place, const char *wanted, struct access **ret,
		      struct vfmig_error *err)
{
	struct kernel_memory memory;
	enum kernel_way way;
	int fd;
	if (wanted && strcmp(wanted, "group") && strcmp(wanted, "cdev"))
		return error_set(err, -EINVAL, "access \"%s\", expected group or cdev", wanted);
	enum kernel_reason reason = kernel_choose(place, wanted, &way);
	if (reason != KERNEL_FINE)
		return kernel_refuse(reason, place, "/dev/iommu", -ENODEV, err);
	int r = way == KERNEL_BY_CDEV ? kernel_open_cdev(place, &fd, &memory, err) :
					kernel_open_group(place, &fd, &memory, err);
	return r < 0 ? r : kernel_access_new(fd, &memory, place, ret, err);
}

int kernel_pci_open(const char *bdf, const struct vfmig_device_options *opts, struct access **ret,
		    struct vfmig_error *err)
{
	struct kernel_place place;
	int r = kernel_place_pci(&kernel_machine, bdf, &place, err);
	return r < 0 ? r : kernel_open_place(&place, opts->access, ret, err);
}

int kernel_mdev_open(const char *uuid, const struct vfmig_device_options *opts, struct access **ret,
		     struct vfmig_error *err)
{
	struct kernel_place place;
	int r = kernel_place_mdev(&kernel_machine, uuid, &place, err);
	return r < 0 ? r : kernel_open_place(&place, opts->access, ret, err);
}

int kernel_sysfs_open(const char *path, const struct vfmig_device_options *opts, struct access **ret,
		      struct vfmig_error *err)
{
	struct kernel_place place;
	int r = kernel_place_sysfs(&kernel_machine, path, &place, err);
	return r < 0 ? r : kernel_open_place(&place, opts->access, ret, err);
}

int kernel_vfio_open(const char *path, const struct vfmig_device_options *opts, struct access **ret,
		     struct vfmig_error *err)
{
	struct kernel_place place;
	int r = kernel_place_cdev(&kernel_machine, path, &place, err);
	if (r == 0 && opts->access && strcmp(opts->access, "cdev"))
		r = error_set(err, -EINVAL, "this is a device's own file, and access is to be \"%s\"", opts->access);
	return r < 0 ? r : kernel_open_place(&place, "cdev", ret, err);
}

/* Takes fd, which somebody else has opened, also on failure. */
static int adopt(int fd, struct access **ret, struct vfmig_error *err)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct kernel_memory memory = KERNEL_NO_MEMORY;
	int r = kernel_ioctl(fd, VFIO_DEVICE_GET_INFO, &info);
	if (r >= 0)
		return kernel_access_new(fd, &memory, NULL, ret, err);
	close(fd);
	if (r == -EINVAL)
		return error_set(err, r, "the fd is a VFIO device's file that is not bound yet: "
				 "VFIO_DEVICE_BIND_IOMMUFD has to come before it is handed over");
	if (r == -ENOTTY)
		return error_set(err, -EINVAL, "the fd is no VFIO device: VFIO_DEVICE_GET_INFO is not known to it");
	return error_errno(err, r, "device info");
}

int kernel_fd_open(const char *number, const struct vfmig_device_options *opts, struct access **ret,
		   struct vfmig_error *err)
{
	char *end;
	(void)opts;
	errno = 0;
	long fd = strtol(number, &end, 10);
	if (errno || *end || *number < '0' || *number > '9' || fd > INT32_MAX)
		return error_set(err, -EINVAL, "'%s' is not the number of an fd", number);
	int ours = fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
	if (ours < 0)
		return error_errno(err, -errno, "fd %ld was not handed to this process", fd);
	return adopt(ours, ret, err);
}

int kernel_receive_fd(int socket, uint64_t deadline_ns, int *ret_fd, struct vfmig_error *err)
{
	struct user_fds fds = { .count = 0 };
	char byte;
	int r = user_socket_recv(socket, &byte, 1, &fds, -1, deadline_ns);
	if (r == -ENODATA)
		r = error_set(err, -EPIPE, "the peer closed without sending an fd");
	else if (r < 0)
		r = error_errno(err, r, "waiting for the fd");
	else if (fds.count != 1)
		r = error_set(err, -EPROTO, "the peer sent %zu fds with its first byte, expected was 1", fds.count);
	if (r == 0)
		*ret_fd = user_fds_take(&fds, 0);
	user_fds_close(&fds);
	return r;
}

int kernel_fd_from_open(const char *where, const struct vfmig_device_options *opts, struct access **ret,
			struct vfmig_error *err)
{
	static const char scheme[] = "unix:";
	int socket, fd;
	uint32_t timeout_ms = opts->timeout_ms;
	if (strncmp(where, scheme, strlen(scheme)))
		return error_set(err, -EINVAL, "'%s': expected unix:PATH", where);
	int r = user_socket_connect(where + strlen(scheme), timeout_ms, &socket, err);
	if (r < 0)
		return r;
	r = kernel_receive_fd(socket, clock_now_ns() + timeout_ms * NS_PER_MS, &fd, err);
	close(socket);
	return r < 0 ? r : adopt(fd, ret, err);
}
