/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_migration.c: VFIO_DEVICE_FEATURE with the kernel's checks, and the data fd of a transfer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "shim.h"
#include "shim_real.h"

#define GET VFIO_DEVICE_FEATURE_GET
#define SET VFIO_DEVICE_FEATURE_SET
#define PROBE VFIO_DEVICE_FEATURE_PROBE
#define IO_MAX 0x7ffff000u

/* A data fd: the state's bytes out of the device, or into it, as long as its transfer goes on. */
struct data_file {
	struct shim_file file;
	struct shim_device *device; /* is never freed */
	unsigned transfer;
	bool saving;
};

/* ---------------------------------------------------------------- data fd */

/* The device, locked; NULL: the transfer has ended. */
static struct shim_device *enter(struct data_file *f)
{
	pthread_mutex_lock(&f->device->lock);
	if (f->device->access && f->device->transfer == f->transfer)
		return f->device;
	pthread_mutex_unlock(&f->device->lock);
	return NULL;
}

static ssize_t data_read(struct shim_file *file, int fd, void *buffer, size_t length, off_t offset)
{
	struct data_file *f = (struct data_file *)file;

	(void)fd;
	if (!f->saving)
		return -EBADF;
	if (offset >= 0)
		return -ESPIPE;
	struct shim_device *d = enter(f);
	if (!d)
		return -ENODEV;
	ssize_t n = length ? access_mig_data_read(d->access, buffer, min_u64(length, IO_MAX), NULL) : 0;
	pthread_mutex_unlock(&d->lock);
	return n == -EAGAIN ? -ENOMSG : n < 0 ? shim_errno((int)n) : n;
}

static ssize_t data_write(struct shim_file *file, int fd, const void *buffer, size_t length, off_t offset)
{
	struct data_file *f = (struct data_file *)file;

	(void)fd;
	if (f->saving)
		return -EBADF;
	if (offset >= 0)
		return -ESPIPE;
	struct shim_device *d = enter(f);
	if (!d)
		return -ENODEV;
	ssize_t n = length ? access_mig_data_write(d->access, buffer, min_u64(length, IO_MAX), NULL) : 0;
	pthread_mutex_unlock(&d->lock);
	return n < 0 ? shim_errno((int)n) : n;
}

static bool is_precopy(uint32_t state)
{
	return state == VFMIG_STATE_PRE_COPY || state == VFMIG_STATE_PRE_COPY_P2P;
}

static long precopy_info(struct shim_device *d, struct vfio_precopy_info *arg)
{
	struct access_precopy_info info;
	uint32_t state;

	if (arg->argsz < sizeof(*arg))
		return -EINVAL;
	int r = access_mig_state_get(d->access, &state, NULL);
	if (r == 0 && !is_precopy(state))
		return -EINVAL;
	if (r == 0)
		r = access_mig_precopy_info(d->access, &info, NULL);
	if (r < 0)
		return shim_errno(r);
	arg->flags = 0;
	arg->initial_bytes = info.initial_bytes;
	arg->dirty_bytes = info.dirty_bytes;
	return 0;
}

static long data_ioctl(struct shim_file *file, int fd, unsigned long request, void *arg)
{
	struct data_file *f = (struct data_file *)file;

	(void)fd;
	if (request != VFIO_MIG_GET_PRECOPY_INFO || !f->saving)
		return -ENOTTY;
	struct shim_device *d = enter(f);
	if (!d)
		return -ENODEV;
	long r = precopy_info(d, arg);
	pthread_mutex_unlock(&d->lock);
	return r;
}

static void data_release(struct shim_file *file)
{
	free(file);
}

static const struct shim_file_ops data_ops = {
	.ioctl = data_ioctl, .read = data_read, .write = data_write, .release = data_release,
};

/* An eventfd that is always ready: what poll says of it. */
static int data_open(struct shim_device *d, bool saving)
{
	struct data_file *f = calloc(1, sizeof(*f));
	int fd = f ? eventfd(1, EFD_CLOEXEC) : -1;

	if (fd < 0) {
		free(f);
		return f ? -errno : -ENOMEM;
	}
	*f = (struct data_file){ .file = { &data_ops, 1 }, .device = d, .transfer = d->transfer, .saving = saving };
	int r = shim_file_install(&f->file, fd);
	shim_file_put(&f->file);
	if (r < 0)
		REAL(close)(fd);
	return r < 0 ? r : fd;
}

void shim_transfer_end(struct shim_device *d)
{
	d->transfer++;
}

/* ----------------------------------------------------------- device state */

enum transfer { NONE, SAVING, RESUMING };

static enum transfer transfer_of(uint32_t state)
{
	if (state == VFMIG_STATE_RESUMING)
		return RESUMING;
	return is_precopy(state) || state == VFMIG_STATE_STOP_COPY ? SAVING : NONE;
}

static int get_state(struct shim_device *d, struct vfio_device_feature_mig_state *s)
{
	uint32_t state;
	int r = access_mig_state_get(d->access, &state, NULL);

	if (r < 0)
		return shim_errno(r);
	s->device_state = state;
	s->data_fd = -1;
	return 0;
}

/* A transfer is of one stay in its set of states. */
static int set_state(struct shim_device *d, struct vfio_device_feature_mig_state *s)
{
	uint32_t old, now;
	int r = access_mig_state_get(d->access, &old, NULL);

	if (r < 0)
		return shim_errno(r);
	if (s->device_state > VFMIG_STATE_PRE_COPY_P2P || s->device_state == VFMIG_STATE_ERROR)
		return -EINVAL;
	r = access_mig_state_set(d->access, s->device_state, NULL);
	now = s->device_state;
	if (r < 0 && access_mig_state_get(d->access, &now, NULL) < 0)
		now = VFMIG_STATE_ERROR;
	s->data_fd = -1;
	if (transfer_of(now) == transfer_of(old))
		return shim_errno(r);
	shim_transfer_end(d);
	if (r < 0 || transfer_of(now) == NONE)
		return shim_errno(r);
	int fd = data_open(d, transfer_of(now) == SAVING);
	if (fd < 0)
		return fd;
	s->data_fd = fd;
	return 0;
}

/* --------------------------------------------------------------- features */

static const struct feature {
	uint32_t index, operations, size;
} features[] = {
	{ VFIO_DEVICE_FEATURE_MIGRATION, GET, sizeof(struct vfio_device_feature_migration) },
	{ VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, GET | SET, sizeof(struct vfio_device_feature_mig_state) },
	{ VFIO_DEVICE_FEATURE_DMA_LOGGING_START, SET, sizeof(struct vfio_device_feature_dma_logging_control) },
	{ VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, SET, 0 },
	{ VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, GET, sizeof(struct vfio_device_feature_dma_logging_report) },
	{ VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, GET, sizeof(struct vfio_device_feature_mig_data_size) },
};

/* 1: go on. As the kernel's vfio_check_feature. */
static int check(const struct feature *known, const struct vfio_device_feature *f)
{
	if (f->flags & (GET | SET) & ~known->operations)
		return -EINVAL;
	if (f->flags & PROBE)
		return 0;
	if (!(f->flags & (GET | SET)) || f->argsz < sizeof(*f) + known->size)
		return -EINVAL;
	return 1;
}

static int run(struct shim_device *d, const struct feature *known, struct vfio_device_feature *f)
{
	struct vfio_device_feature_mig_state s;

	if (known->index != VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
		return shim_errno(access_feature(d->access, f->flags, f->data, known->size, NULL));
	memcpy(&s, f->data, sizeof(s));
	int r = f->flags & GET ? get_state(d, &s) : set_state(d, &s);
	if (r == 0)
		memcpy(f->data, &s, sizeof(s));
	return r;
}

/* Is it there at all? The access knows, of what every migrating device does not have. */
static int probe(struct shim_device *d, const struct feature *known)
{
	if (known->index == VFIO_DEVICE_FEATURE_MIGRATION || known->index == VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
		return 0;
	return shim_errno(access_feature(d->access, known->index | known->operations | PROBE, NULL, 0, NULL));
}

long shim_feature(struct shim_device *d, struct vfio_device_feature *f)
{
	const struct feature *known = NULL;

	if (f->argsz < sizeof(*f) || (f->flags & ~(VFIO_DEVICE_FEATURE_MASK | GET | SET | PROBE)))
		return -EINVAL;
	if (!(f->flags & PROBE) && (f->flags & (GET | SET)) == (GET | SET))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		if ((f->flags & VFIO_DEVICE_FEATURE_MASK) == features[i].index)
			known = &features[i];
	if (!known || !d->has_v2)
		return -ENOTTY;
	int r = probe(d, known);
	if (r == 0)
		r = check(known, f);
	return r <= 0 ? r : run(d, known, f);
}
