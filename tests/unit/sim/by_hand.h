/* SPDX-License-Identifier: BSD-3-Clause */
/* by_hand.h: a software device driven over its registers, as the interface says, without the library's protocol. */
#ifndef VFMIG_TESTS_BY_HAND_H
#define VFMIG_TESTS_BY_HAND_H

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "sim/prove.h"
#include "sim/sim_access.h"

#define STOPPED 0u
#define RUNNING 1u
#define STOP_COPY 2u
#define PRE_COPY 3u
#define RESUMING 4u
#define IN_ERROR 6u

static inline struct access *open_sim(const char *options)
{
	struct vfmig_error err = { 0 };
	struct access *a = NULL;

	if (sim_access_open(options, &a, &err) < 0)
		fail_msg("%s", err.message);
	return a;
}

static inline int reg_read(struct access *a, uint64_t offset, size_t width, uint64_t *ret)
{
	uint64_t v = 0;
	int r = access_region_read(a, SIM_REGION_INDEX, offset, &v, width, NULL);

	if (r == 0)
		*ret = v; /* little-endian machines only, as the project's */
	return r;
}

static inline int reg_write(struct access *a, uint64_t offset, size_t width, uint64_t v)
{
	return access_region_write(a, SIM_REGION_INDEX, offset, &v, width, NULL);
}

static inline int set_state(struct access *a, uint32_t state)
{
	return reg_write(a, SIM_V1_DEVICE_STATE, 4, state);
}

static inline uint32_t get_state(struct access *a)
{
	uint64_t v = 0;

	assert_int_equal(reg_read(a, SIM_V1_DEVICE_STATE, 4, &v), 0);
	return (uint32_t)v;
}

static inline uint64_t get_pending(struct access *a)
{
	uint64_t v = 0;

	assert_int_equal(reg_read(a, SIM_V1_PENDING_BYTES, 8, &v), 0);
	return v;
}

static inline uint64_t bar_read(struct access *a, uint64_t offset)
{
	uint8_t v[8];

	assert_int_equal(access_region_read(a, ACCESS_PCI_BAR0, offset, v, 8, NULL), 0);
	return get_le64(v);
}

/*
 * For loops that ask until something has happened. The device's lock is not fair, and valgrind lets one thread run at a
 * time and takes turns after a fixed number of steps: without a yield it may find this one inside the lock every time.
 */
static inline uint64_t bar_poll(struct access *a, uint64_t offset)
{
	sched_yield();
	return bar_read(a, offset);
}

static inline void bar_write(struct access *a, uint64_t offset, uint64_t value)
{
	uint8_t v[8];

	put_le64(v, value);
	assert_int_equal(access_region_write(a, ACCESS_PCI_BAR0, offset, v, 8, NULL), 0);
}

/* Data section bytes: through the mapping where there is one, by accesses of `width` elsewhere. */
static inline void move_data(struct access *a, bool write, uint64_t offset, uint8_t *buffer, uint64_t size,
			     size_t width)
{
	struct access_region_info info;

	assert_int_equal(access_region_info(a, SIM_REGION_INDEX, &info, NULL), 0);
	for (uint64_t done = 0, n; done < size; done += n) {
		uint64_t at = offset + done;
		const struct access_area *in = NULL;
		n = size - done;
		for (size_t i = 0; i < info.num_areas; i++) {
			const struct access_area *area = &info.areas[i];
			if (at >= area->offset && at - area->offset < area->size)
				in = area;
			else if (area->offset > at)
				n = min_u64(n, area->offset - at);
		}
		if (in) {
			void *p;
			n = min_u64(size - done, in->offset + in->size - at);
			assert_int_equal(access_region_map(a, SIM_REGION_INDEX, in, &p, NULL), 0);
			uint8_t *there = (uint8_t *)p + (at - in->offset);
			memcpy(write ? there : buffer + done, write ? buffer + done : there, n);
			access_region_unmap(a, p, in);
			continue;
		}
		n = min_u64(n, width);
		int r = write ? access_region_write(a, SIM_REGION_INDEX, at, buffer + done, n, NULL)
			      : access_region_read(a, SIM_REGION_INDEX, at, buffer + done, n, NULL);
		assert_int_equal(r, 0);
	}
	access_region_info_clear(&info);
}

/* One transaction out: its size, 0 when nothing is pending. */
static inline uint64_t take(struct access *a, uint8_t *buffer, uint64_t capacity, size_t width)
{
	uint64_t offset = 0, size = 0;

	if (!get_pending(a))
		return 0;
	assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &offset), 0);
	assert_int_equal(reg_read(a, SIM_V1_DATA_SIZE, 8, &size), 0);
	assert_true(size > 0 && size <= capacity);
	move_data(a, false, offset, buffer, size, width);
	return size;
}

/* One transaction in: what the device says to it. */
static inline int give(struct access *a, uint8_t *buffer, uint64_t size, size_t width)
{
	uint64_t offset = 0;

	assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &offset), 0);
	move_data(a, true, offset, buffer, size, width);
	return reg_write(a, SIM_V1_DATA_SIZE, 8, size);
}

#endif
