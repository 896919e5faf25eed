/* SPDX-License-Identifier: BSD-3-Clause */
/* liar.c: the access functions of a device that breaks a rule, each as the software device has it but for that. */
#include "liar.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "sim/model.h"
#include "sim/sim_access.h"
#include "tool/check.h"

#define FEATURE_GET (1u << 16)
#define FEATURE_SET (1u << 17)
#define FEATURE_PROBE (1u << 18)
#define LEAKED_BYTES 64u
#define V1_STATE 0u
#define V1_PENDING 8u

static struct liar *liar(struct access *a)
{
	return (struct liar *)(void *)a;
}

static bool lies(const struct liar *l, enum lie lie)
{
	return l->lie == lie;
}

static unsigned int state_of(struct liar *l)
{
	struct sim_device *d = sim_access_device(l->real);
	uint32_t state = 0;

	if (d->options.interface != SIM_V1)
		(void)access_mig_state_get(l->real, &state, NULL);
	return state;
}

/* ---------------------------------------------------------------- v2's calls */

static int op_state_get(struct access *a, uint32_t *ret, struct vfmig_error *err)
{
	return access_mig_state_get(liar(a)->real, ret, err);
}

static void leak(struct liar *l)
{
	if (lies(l, LEAKS_FDS) && l->num_fds < LEAKED_MAX)
		l->fds[l->num_fds++] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	if (lies(l, LEAKS_MEMORY) && l->num_leaked < LEAKED_MAX)
		l->leaked[l->num_leaked++] = malloc(LEAKED_BYTES);
}

/* 1: as the device has it. */
static int lie_about_request(struct liar *l, unsigned int from, uint32_t to, struct vfmig_error *err)
{
	bool arc = l->a == from && l->b == to;

	if (lies(l, ARC_FAILS) && arc)
		return error_set(err, -EIO, "lie");
	if (lies(l, ARC_DOES_NOTHING) && arc)
		return 0;
	if (lies(l, SAME_REFUSED) && from == to && from == l->a)
		return error_set(err, -EINVAL, "lie");
	if (lies(l, SAME_BEGINS_ANEW) && from == VFMIG_STATE_STOP_COPY && to == from)
		return access_mig_state_set(l->real, VFMIG_STATE_STOP, err) ? -EIO : 1;
	struct check_run all = { .protocol = CHECK_V2, .has_p2p = true, .has_precopy = true };
	bool is_arc = to < CHECK_STATES && check_arcs(&all, (enum vfmig_state)from) >> to & 1;
	if (lies(l, WAYS_REFUSED) && from == l->a && from != to && !is_arc)
		return error_set(err, -EINVAL, "lie");
	if (lies(l, CANCEL_RESETS) && from == l->a && is_arc && (from == VFMIG_STATE_PRE_COPY ?
	    to == VFMIG_STATE_RUNNING : from == VFMIG_STATE_PRE_COPY_P2P ? to == VFMIG_STATE_RUNNING_P2P :
	    to == VFMIG_STATE_STOP && l->read < l->whole))
		return access_reset(l->real, err) ? -EIO : 1;
	return 1;
}

static void note_request(struct liar *l, unsigned int from, uint32_t to)
{
	if (to == VFMIG_STATE_STOP_COPY && from != to) {
		l->from_precopy = from == VFMIG_STATE_PRE_COPY || from == VFMIG_STATE_PRE_COPY_P2P;
		l->read = 0;
		l->saves++;
		leak(l);
	}
	if (to == VFMIG_STATE_RESUMING && from != to)
		l->written = 0;
}

static int op_state_set(struct access *a, uint32_t to, struct vfmig_error *err)
{
	struct liar *l = liar(a);
	unsigned int from = state_of(l);
	int e = lie_about_request(l, from, to, err);

	if (e <= 0)
		return e;
	if (lies(l, LOAD_FAILS) && from == VFMIG_STATE_RESUMING && to != from)
		return error_set(err, -EIO, "lie");
	e = access_mig_state_set(l->real, to, err);
	if (e < 0 && lies(l, ANY_REQUEST) && from == l->a)
		return 0;
	if (e < 0 && lies(l, MOVED_BY_REFUSAL) && from == l->a && from != VFMIG_STATE_RUNNING) {
		(void)access_reset(l->real, NULL);
		return e;
	}
	if (e < 0 && lies(l, ANYTHING_LOADED) && from == VFMIG_STATE_RESUMING && to == VFMIG_STATE_STOP) {
		(void)access_reset(l->real, NULL);
		return access_mig_state_set(l->real, to, err);
	}
	if (e == 0)
		note_request(l, from, to);
	return e;
}

static ssize_t op_read(struct access *a, void *buffer, size_t length, struct vfmig_error *err)
{
	struct liar *l = liar(a);
	unsigned int state = state_of(l);
	bool last = state == VFMIG_STATE_STOP_COPY;
	ssize_t n = access_mig_data_read(l->real, buffer, min_u64(length, 16384), err);

	if (lies(l, STATE_GOES_ON) && last && n == 0 && l->ended)
		return 1;
	l->ended = last && n == 0;
	if (lies(l, STATE_CHANGES) && last && n > 0 && l->read == 0)
		((uint8_t *)buffer)[n - 1] ^= (uint8_t)l->saves;
	if (lies(l, DATA_OUTSIDE) && n == -ENODEV)
		return 0;
	if (lies(l, END_IN_PRECOPY) && n == -EAGAIN)
		return 0;
	if (lies(l, PRECOPY_ENDLESS) && n == -EAGAIN)
		return memset(buffer, 0, length), (ssize_t)length;
	if (lies(l, PRECOPY_LOST) && last && l->from_precopy && n > 0 && l->read == 0)
		n = access_mig_data_read(l->real, buffer, min_u64(length, 16384), err);
	if (n > 0 && last)
		l->read += (uint64_t)n;
	l->whole = max_u64(l->whole, last && !l->from_precopy ? l->read : 0);
	return n;
}

static ssize_t op_write(struct access *a, const void *buffer, size_t length, struct vfmig_error *err)
{
	struct liar *l = liar(a);

	if (lies(l, WRITES_REFUSED) && length >= l->a && length <= l->b)
		return error_set(err, -EIO, "lie");
	if (lies(l, WRITE_OUTSIDE) && state_of(l) != VFMIG_STATE_RESUMING)
		return (ssize_t)length;
	if (lies(l, SURPLUS_TAKEN) && state_of(l) == VFMIG_STATE_RESUMING && l->written >= l->whole)
		return (ssize_t)length;
	if (l->half_reset) {
		l->half_reset = false;
		return error_set(err, -EIO, "lie");
	}
	ssize_t n = access_mig_data_write(l->real, buffer, length, err);
	l->written += n > 0 ? (uint64_t)n : 0;
	return n;
}

static int op_info(struct access *a, struct access_precopy_info *ret, struct vfmig_error *err)
{
	struct liar *l = liar(a);
	int e = access_mig_precopy_info(l->real, ret, err);

	if (lies(l, INFO_OUTSIDE) && e < 0)
		return 0;
	if (lies(l, INITIAL_RISES) && e == 0) {
		uint64_t all = ret->initial_bytes + ret->dirty_bytes;
		ret->initial_bytes = min_u64(all, ++l->asked * 8);
		ret->dirty_bytes = all - ret->initial_bytes;
	}
	return e;
}

static int op_feature(struct access *a, uint32_t flags, void *data, size_t length, struct vfmig_error *err)
{
	struct liar *l = liar(a);
	uint32_t index = flags & 0xffff;
	int e = access_feature(l->real, flags, data, length, err);

	if (lies(l, PROBE_REFUSED) && flags & FEATURE_PROBE)
		return error_set(err, -EOPNOTSUPP, "lie");
	if ((lies(l, UNKNOWN_ANSWERED) && index > 100) || (lies(l, SET_FLAGS_TAKEN) && flags == (FEATURE_SET | 1)))
		return 0;
	uint64_t more = lies(l, FLAGS_UNKNOWN) && flags == (FEATURE_GET | 1) ? 0x10 : 0;
	uint64_t told;
	if (e == 0 && more) {
		memcpy(&told, data, sizeof(told));
		told |= more;
		memcpy(data, &told, sizeof(told));
	}
	if (e == 0 && lies(l, SIZE_TOO_SMALL) && index == 9)
		memset(data, 0, length);
	return e;
}

/* ------------------------------------------------------------- the log, reset */

static int op_dirty_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
			  uint64_t *page_size, struct vfmig_error *err)
{
	struct liar *l = liar(a);
	int e = access_dirty_start(l->real, log, ranges, count, page_size, err);

	l->stopped_log = false;
	return e < 0 && lies(l, LOG_TWICE) ? 0 : e;
}

static int op_dirty_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			   uint64_t *bitmap, struct vfmig_error *err)
{
	struct liar *l = liar(a);
	size_t words = length / page_size / 64;
	int e = access_dirty_report(l->real, log, iova, length, page_size, bitmap, err);

	if (lies(l, LOG_AFTER_END) && l->stopped_log)
		return 0;
	if (e == 0 && lies(l, LOG_TOO_MUCH) && words)
		bitmap[0] |= 1; /* nobody writes there */
	if (e < 0 || !lies(l, LOG_REPEATS))
		return e;
	for (size_t i = 0; l->reported && i < words && i < l->reported_words; i++)
		bitmap[i] |= l->reported[i];
	l->reported = realloc(l->reported, words * 8 + 8);
	memcpy(l->reported, bitmap, words * 8);
	l->reported_words = words;
	return 0;
}

static int op_dirty_stop(struct access *a, enum access_log log, struct vfmig_error *err)
{
	liar(a)->stopped_log = true;
	liar(a)->reported_words = 0;
	return access_dirty_stop(liar(a)->real, log, err);
}

static int op_reset(struct access *a, struct vfmig_error *err)
{
	struct liar *l = liar(a);
	unsigned int state = state_of(l);

	if (lies(l, RESET_DOES_NOTHING) && state == l->a)
		return 0;
	l->half_reset = lies(l, RESET_BREAKS_LOAD) && state == VFMIG_STATE_RESUMING && l->written > 1 &&
			l->written < l->whole - 1;
	return access_reset(l->real, err);
}

static int op_dma_map(struct access *a, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		      struct vfmig_error *err)
{
	return access_dma_map(liar(a)->real, iova, length, fd, offset, flags, err);
}

static int op_dma_unmap(struct access *a, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	return access_dma_unmap(liar(a)->real, iova, length, err);
}

/* ------------------------------------------------------------------- regions */

static int op_device_info(struct access *a, struct access_device_info *ret, struct vfmig_error *err)
{
	int e = access_device_info(liar(a)->real, ret, err);

	if (e == 0 && lies(liar(a), RESET_UNSAID))
		ret->flags &= ~ACCESS_DEVICE_RESET;
	return e;
}

static int op_region_info(struct access *a, uint32_t index, struct access_region_info *ret, struct vfmig_error *err)
{
	int e = access_region_info(liar(a)->real, index, ret, err);

	if (e == 0 && lies(liar(a), REGION_READ_ONLY))
		ret->flags &= ~ACCESS_REGION_WRITE;
	return e;
}

static void lie_in_region(struct liar *l, uint64_t offset, void *buffer, struct vfmig_error *err)
{
	uint32_t state;
	uint64_t pending;

	(void)access_region_read(l->real, SIM_REGION_INDEX, V1_STATE, &state, sizeof(state), err);
	if (lies(l, RESERVED_CHANGES) && offset == V1_STATE && (state & 7) == 0)
		*(uint8_t *)buffer |= 0x10;
	memcpy(&pending, buffer, offset == V1_PENDING ? 8 : 0);
	if (lies(l, PENDING_IN_PRECOPY) && offset == V1_PENDING && (state & 7) == 3 && pending == 0)
		*(uint8_t *)buffer = 8;
}

static int op_region_read(struct access *a, uint32_t index, uint64_t offset, void *buffer, size_t length,
			  struct vfmig_error *err)
{
	struct liar *l = liar(a);
	int e = access_region_read(l->real, index, offset, buffer, length, err);

	if (e < 0)
		return e;
	if (index == ACCESS_PCI_BAR0 && offset == SIM_BAR_STEP && lies(l, WORKS_ON) && state_of(l) == l->a)
		*(uint8_t *)buffer ^= (uint8_t)++l->steps;
	if (index == ACCESS_PCI_CONFIG && lies(l, NO_ANSWER) && state_of(l) == l->a)
		memset(buffer, 0xff, length);
	if (index == SIM_REGION_INDEX && (offset == V1_STATE || offset == V1_PENDING))
		lie_in_region(l, offset, buffer, err);
	return 0;
}

static int op_region_write(struct access *a, uint32_t index, uint64_t offset, const void *buffer, size_t length,
			   struct vfmig_error *err)
{
	struct liar *l = liar(a);
	uint32_t state = 0;

	if (index == SIM_REGION_INDEX && offset == V1_STATE) {
		memcpy(&state, buffer, sizeof(state));
		if (lies(l, RESERVED_CHANGES))
			state &= ~0x10u;
		buffer = &state;
		if (lies(l, V1_ANY_STATE) && (state & 7) > 4)
			return 0;
	}
	return access_region_write(l->real, index, offset, buffer, length, err);
}

static int op_region_map(struct access *a, uint32_t index, const struct access_area *area, void **ret_address,
			 struct vfmig_error *err)
{
	int e = access_region_map(liar(a)->real, index, area, ret_address, err);

	if (e == 0 && lies(liar(a), MAPPED_OTHERWISE))
		memset(*ret_address, 0xee, area->size);
	return e;
}

static void op_region_unmap(struct access *a, void *address, const struct access_area *area)
{
	access_region_unmap(liar(a)->real, address, area);
}

const struct access_ops liar_ops = {
	.kind = "sim",
	.device_info = op_device_info,
	.region_info = op_region_info,
	.region_read = op_region_read,
	.region_write = op_region_write,
	.region_map = op_region_map,
	.region_unmap = op_region_unmap,
	.dma_map = op_dma_map,
	.dma_unmap = op_dma_unmap,
	.dirty_start = op_dirty_start,
	.dirty_report = op_dirty_report,
	.dirty_stop = op_dirty_stop,
	.reset = op_reset,
	.mig_state_get = op_state_get,
	.mig_state_set = op_state_set,
	.mig_data_read = op_read,
	.mig_data_write = op_write,
	.mig_precopy_info = op_info,
	.feature = op_feature,
};
