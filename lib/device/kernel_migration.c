/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_migration.c: a kernel device's v2 calls: VFIO_DEVICE_FEATURE, and the data fd in its lives. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/kernel.h"
#include "uapi/vfio_compat.h"

#define FEATURE_MAX 4096u /* bytes of data; the largest has 32 */

/* The flags' payload in and out; -errno as the kernel gave it. */
static int device_feature(int fd, uint32_t flags, void *data, size_t length)
{
	uint64_t aligned[(sizeof(struct vfio_device_feature) + FEATURE_MAX) / sizeof(uint64_t)];
	struct vfio_device_feature *feature = (void *)aligned;
	if (length > FEATURE_MAX)
		return -E2BIG;
	feature->argsz = (uint32_t)(sizeof(*feature) + length);
	feature->flags = flags;
	if (length)
		memcpy(feature->data, data, length);
	int r = kernel_ioctl(fd, VFIO_DEVICE_FEATURE, feature);
	if (r >= 0 && length)
		memcpy(data, feature->data, length);
	return r < 0 ? r : 0;
}

int kernel_feature(struct access *a, uint32_t flags, void *data, size_t length, struct vfmig_error *err)
{
	uint32_t index = flags & VFIO_DEVICE_FEATURE_MASK;
	int r = device_feature(kernel_of(a)->fd, flags, data, length);
	/* Drivers from before the interface answered EINVAL to what they did not know. */
	if (r == -ENOTTY || (r == -EINVAL && index == VFIO_DEVICE_FEATURE_MIGRATION))
		return error_set(err, -EOPNOTSUPP, "feature %u is not supported by the device", index);
	if (r == -ENODEV)
		r = -ENOTCONN;
	return r < 0 ? error_errno(err, r, "feature %u", index) : 0;
}

int kernel_mig_state_get(struct access *a, uint32_t *ret_state, struct vfmig_error *err)
{
	struct vfio_device_feature_mig_state state = { .data_fd = -1 };
	int r = kernel_feature(a, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &state, sizeof(state),
			       err);
	if (r == 0)
		*ret_state = kernel_of(a)->state = state.device_state;
	return r;
}

void kernel_mig_data_close(struct kernel_access *k)
{
	if (k->data_fd >= 0)
		close(k->data_fd);
	k->data_fd = -1;
}

static bool saves(uint32_t state)
{
	return state == VFMIG_STATE_PRE_COPY || state == VFMIG_STATE_PRE_COPY_P2P || state == VFMIG_STATE_STOP_COPY;
}

static bool transfers(uint32_t state)
{
	return saves(state) || state == VFMIG_STATE_RESUMING;
}

/* Does the way between two states begin a transfer, or another one? */
static bool begins_transfer(uint32_t from, uint32_t to)
{
	return transfers(to) && !(saves(from) && saves(to)) && from != to;
}

static int not_due(int fd, uint32_t from, uint32_t to, struct vfmig_error *err)
{
	close(fd);
	return error_set(err, -EPROTO,
			 "the device opened a data channel on the way from %s to %s, where none is due: somebody else "
			 "(its guest, its driver) has reset it or changed its state at that moment; start again",
			 vfmig_state_name((enum vfmig_state)from), vfmig_state_name((enum vfmig_state)to));
}

/*
 * An fd comes when a transfer begins, and by no other way: where none is due the device was not in the state that it
 * was last seen in. A transfer goes on from one state of it to the next, and ends with any other state.
 */
int kernel_mig_state_set(struct access *a, uint32_t state, struct vfmig_error *err)
{
	struct kernel_access *k = kernel_of(a);
	struct vfio_device_feature_mig_state set = { .device_state = state, .data_fd = -1 };
	int r = kernel_feature(a, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &set, sizeof(set),
			       err);
	if (r < 0)
		return r; /* the transfer may go on: the caller will read the state */
	uint32_t from = k->state;
	k->state = state;
	bool begins = begins_transfer(from, state);
	if (begins || !transfers(state))
		kernel_mig_data_close(k);
	if (set.data_fd >= 0 && !begins)
		return not_due(set.data_fd, from, state, err);
	if (set.data_fd < 0)
		return 0;
	fcntl(set.data_fd, F_SETFD, FD_CLOEXEC);
	k->data_fd = set.data_fd;
	return 0;
}

static int no_channel(const struct access *a, struct vfmig_error *err)
{
	return error_set(err, -EPROTO,
			 "there is no data channel: the device was in this state before it was opened, and the program "
			 "that brought it there has the channel; vfmig recover %s puts the device right",
			 a->name);
}

ssize_t kernel_mig_data_read(struct access *a, void *buffer, size_t length, struct vfmig_error *err)
{
	int fd = kernel_of(a)->data_fd;
	ssize_t n;
	if (fd < 0)
		return no_channel(a, err);
	do
		n = read(fd, buffer, length);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	if (errno == ENOMSG || errno == EAGAIN)
		return error_set(err, -EAGAIN, "nothing to read now");
	return error_errno(err, -errno, "reading the data fd");
}

ssize_t kernel_mig_data_write(struct access *a, const void *buffer, size_t length, struct vfmig_error *err)
{
	int fd = kernel_of(a)->data_fd;
	ssize_t n;
	if (fd < 0)
		return no_channel(a, err);
	do
		n = write(fd, buffer, length);
	while (n < 0 && errno == EINTR);
	return n < 0 ? error_errno(err, -errno, "writing the data fd") : n;
}

int kernel_mig_precopy_info(struct access *a, struct access_precopy_info *ret, struct vfmig_error *err)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) };
	int fd = kernel_of(a)->data_fd;
	if (fd < 0)
		return no_channel(a, err);
	int r = kernel_ioctl(fd, VFIO_MIG_GET_PRECOPY_INFO, &info);
	if (r == -ENOTTY)
		return error_set(err, -EOPNOTSUPP, "the device has no pre-copy info");
	if (r < 0)
		return error_errno(err, r, "pre-copy info");
	ret->initial_bytes = info.initial_bytes;
	ret->dirty_bytes = info.dirty_bytes;
	return 0;
}
