/* SPDX-License-Identifier: BSD-3-Clause */
/* model.c: making, resetting and faulting a software device, and its BAR 0. */
#include "sim/model.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"

void sim_device_lock(struct sim_device *d)
{
	__atomic_add_fetch(&d->callers, 1, __ATOMIC_ACQ_REL);
	pthread_mutex_lock(&d->lock);
	while (d->engine_turn)
		pthread_cond_wait(&d->turn, &d->lock);
	__atomic_sub_fetch(&d->callers, 1, __ATOMIC_ACQ_REL);
}

void sim_device_unlock(struct sim_device *d)
{
	if (d->giving_way) {
		d->engine_turn = true;
		pthread_cond_broadcast(&d->turn);
	}
	pthread_mutex_unlock(&d->lock);
}

static int config_init(struct sim_device *d, struct vfmig_error *err)
{
	const char *path = d->options.config;
	uint8_t bytes[4096 + 1];

	if (!*path) {
		sim_config_build(&d->config, d->options.config_size);
		return 0;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, -errno, "option config=%s", path);
	ssize_t n = read(fd, bytes, sizeof(bytes));
	int r = n < 0 ? error_errno(err, -errno, "read") : sim_config_adopt(&d->config, bytes, (size_t)n, err);
	close(fd);
	return r < 0 ? error_prefix(err, r, "option config=%s", path) : 0;
}

static void locks_init(struct sim_device *d)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->wake, &attr);
	pthread_cond_init(&d->idle, &attr);
	pthread_cond_init(&d->turn, &attr);
	pthread_condattr_destroy(&attr);
}

static void registers_reset(struct sim_device *d)
{
	d->registers = (struct sim_registers){
		.control = d->options.scatter ? SIM_CONTROL_SCATTER : 0,
		.rate = d->options.rate,
		.log_iova = d->options.log_iova,
		.log_entries = d->options.log_entries,
	};
	d->resumed_step = d->loads = 0;
	memset(d->latched, 0, sizeof(d->latched));
	memset(d->msix, 0, sizeof(d->msix));
}

/* A still device has no pages to speak of. */
static uint64_t work_size(const struct sim_options *options)
{
	return options->still == STILL_NONE ? options->size : SIM_STATE_MIN;
}

int sim_device_new(const struct sim_options *options, struct sim_device **ret, struct vfmig_error *err)
{
	struct sim_device *d = calloc(1, sizeof(*d));

	if (!d)
		return error_errno(err, -ENOMEM, "software device");
	locks_init(d);
	d->options = *options;
	d->region.fd = -1;
	registers_reset(d);
	d->registers.control |= options->start ? SIM_CONTROL_ON : 0;
	int r = config_init(d, err);
	if (r == 0 && sim_work_init(&d->work, work_size(options), options->seed) < 0)
		r = error_errno(err, -ENOMEM, "state of %llu bytes", (unsigned long long)options->size);
	if (r == 0)
		r = sim_region_init(d, err);
	if (r < 0) {
		sim_device_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

void sim_device_free(struct sim_device *d)
{
	if (!d)
		return;
	sim_engine_stop(d);
	sim_dma_unmap_all(d);
	sim_dirty_stop(&d->dirty);
	sim_region_destroy(d);
	sim_work_destroy(&d->work);
	pthread_cond_destroy(&d->turn);
	pthread_cond_destroy(&d->idle);
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

void sim_device_reset(struct sim_device *d)
{
	sim_engine_quiesce(d);
	sim_work_reset(&d->work, d->options.seed);
	registers_reset(d);
	sim_config_reset(&d->config);
	sim_region_reset(d);
	if (d->options.interface != SIM_V1) /* else what logs is not the device */
		sim_dirty_stop(&d->dirty);
	sim_engine_kick(d);
}

static void fault_sleep(struct sim_device *d, uint64_t ms)
{
	struct timespec ts = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * NS_PER_MS) };

	sim_device_unlock(d);
	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
	sim_device_lock(d);
}

int sim_device_fault(struct sim_device *d, enum fault_step step, const struct fault **ret_fault,
		     struct vfmig_error *err)
{
	const struct fault *f = faults_at(&d->options.faults, step);
	const char *name = fault_step_name(step);

	*ret_fault = NULL;
	if (!f)
		return 0;
	switch (f->kind) {
	case FAULT_ERRNO:
		return error_errno(err, -(int)f->arg, "fault at %s", name);
	case FAULT_ERROR_STATE:
		d->region.state = SIM_V1_ERROR;
		sim_engine_quiesce(d);
		return step == FAULT_STATE_READ ? 0 : error_set(err, -EIO, "fault at %s: device in error", name);
	case FAULT_SLOW:
		fault_sleep(d, f->arg);
		return 0;
	case FAULT_HANG:
		d->gone = !d->served;
		return error_set(err, d->served ? -EINPROGRESS : -ETIMEDOUT, "fault at %s: no answer", name);
	case FAULT_DISCONNECT:
		d->gone = !d->served;
		return error_set(err, -ENOTCONN, "fault at %s: connection lost", name);
	default:
		*ret_fault = f;
		return 0;
	}
}

static uint64_t register_get(const struct sim_device *d, uint64_t offset)
{
	switch ((enum sim_register)offset) {
	case SIM_BAR_MAGIC:
		return SIM_BAR_MAGIC_VALUE;
	case SIM_BAR_CONTROL:
		return d->registers.control;
	case SIM_BAR_RATE:
		return d->registers.rate;
	case SIM_BAR_SEED:
		return d->work.pages.seed;
	case SIM_BAR_STATE_BYTES:
		return d->options.size;
	case SIM_BAR_STEP:
		return d->work.step;
	case SIM_BAR_CHAIN:
		return d->work.chain;
	case SIM_BAR_DIGEST:
		return d->work.pages.digest;
	case SIM_BAR_RESUMED_STEP:
		return d->resumed_step;
	case SIM_BAR_LOADS:
		return d->loads;
	case SIM_BAR_LOG_IOVA:
		return d->registers.log_iova;
	case SIM_BAR_LOG_ENTRIES:
		return d->registers.log_entries;
	case SIM_BAR_LOGGED:
		return d->registers.logged;
	case SIM_BAR_NOT_LOGGED:
		return d->registers.not_logged;
	case SIM_BAR_OPAQUE_BYTES:
		return d->region.opaque.bytes;
	case SIM_BAR_OPAQUE_COUNT:
		return d->region.opaque.count;
	default:
		break;
	}
	if (offset >= SIM_BAR_LATCHED && offset < SIM_BAR_LATCHED + sizeof(d->latched))
		return d->latched[(offset - SIM_BAR_LATCHED) / 8];
	if (offset >= SIM_MSIX_TABLE && offset < SIM_MSIX_TABLE + sizeof(d->msix))
		return get_le64(d->msix + (offset - SIM_MSIX_TABLE));
	return 0;
}

int sim_bar_read(struct sim_device *d, uint64_t offset, void *buffer, size_t length, struct vfmig_error *err)
{
	uint8_t *out = buffer;

	if (offset % 4 || length % 4)
		return error_set(err, -EINVAL, "BAR 0: access of %zu bytes at 0x%llx is not of whole words", length,
				 (unsigned long long)offset);
	for (size_t i = 0; i < length; i += 4) {
		uint8_t word[8];
		put_le64(word, register_get(d, (offset + i) & ~UINT64_C(7)));
		memcpy(out + i, word + ((offset + i) & 4), 4);
	}
	return 0;
}

static int register_set(struct sim_device *d, uint64_t offset, uint64_t v, struct vfmig_error *err)
{
	switch ((enum sim_register)offset) {
	case SIM_BAR_CONTROL:
		d->registers.control = v & SIM_CONTROL_MASK;
		sim_engine_kick(d);
		return 0;
	case SIM_BAR_RATE:
		d->registers.rate = min_u64(v, SIM_RATE_MAX);
		sim_engine_kick(d);
		return 0;
	case SIM_BAR_LOG_IOVA:
		d->registers.log_iova = v;
		return 0;
	case SIM_BAR_LOG_ENTRIES:
		d->registers.log_entries = min_u64(v, SIM_LOG_ENTRIES_MAX);
		return 0;
	case SIM_BAR_LATCH:
		sim_engine_quiesce(d); /* a step whose message is on its way is done, and not logged yet */
		for (unsigned int i = 0; i < SIM_BAR_REGISTERS; i++)
			d->latched[i] = register_get(d, 8 * i);
		return 0;
	default:
		return error_set(err, -EINVAL, "BAR 0: no writable register at 0x%llx", (unsigned long long)offset);
	}
}

int sim_bar_write(struct sim_device *d, uint64_t offset, const void *buffer, size_t length, struct vfmig_error *err)
{
	if (range_inside(offset - SIM_MSIX_TABLE, length, sizeof(d->msix))) {
		memcpy(d->msix + (offset - SIM_MSIX_TABLE), buffer, length);
		return 0;
	}
	if (offset % 8 || length != 8)
		return error_set(err, -EINVAL, "BAR 0: write of %zu bytes at 0x%llx, expected a register of 8", length,
				 (unsigned long long)offset);
	return register_set(d, offset, get_le64(buffer), err);
}
