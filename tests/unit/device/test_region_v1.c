/* SPDX-License-Identifier: BSD-3-Clause */
/* test_region_v1.c: the v1 protocol against a device that says whatever it likes. */
#include "fake_access.h"

#include <stdlib.h>
#include <string.h>

#include "device/protocol.h"

#define STATE 0u
#define PENDING 8u
#define OFFSET 16u
#define SIZE 24u

static struct protocol *open_v1(struct fake_access *f)
{
	struct protocol *p;
	struct vfmig_error err;
	if (region_v1_open(&f->access, false, &p, &err) < 0)
		fail_msg("%s", err.message);
	f->num_uses = 0;
	return p;
}

static void begin_save(struct fake_access *f, struct protocol *p, uint64_t pending, uint64_t offset, uint64_t size)
{
	struct vfmig_error err;
	struct vfmig_pending ret;
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_STOP_COPY, &err), 0);
	fake_set_u64(f, PENDING, pending);
	fake_set_u64(f, OFFSET, offset);
	fake_set_u64(f, SIZE, size);
	assert_int_equal(p->ops->pending(p, true, &ret, &err), 0);
	assert_int_equal(ret.stop_copy_bytes, pending);
}

static void test_not_found(void **state)
{
	struct fake_access f;
	struct protocol *p;
	struct vfmig_error err;
	(void)state;
	fake_access_init(&f);
	f.num_regions = 9;
	assert_int_equal(region_v1_open(&f.access, false, &p, &err), -EOPNOTSUPP);
	f.num_regions = 12;
	f.migration_index = 12;
	assert_int_equal(region_v1_open(&f.access, false, &p, &err), -EOPNOTSUPP);
	f.num_regions = UINT32_MAX;
	assert_int_equal(region_v1_open(&f.access, false, &p, &err), -EPROTO);
	f.num_regions = 12;
	f.migration_index = 11; /* the last of them */
	p = open_v1(&f);
	p->ops->free(p);
	f.region_size = 32;
	assert_int_equal(region_v1_open(&f.access, false, &p, &err), -EPROTO);
}

static void test_illegal_state_bits(void **state)
{
	struct fake_access f;
	struct vfmig_error err;
	enum vfmig_state s;
	(void)state;
	fake_access_init(&f);
	struct protocol *p = open_v1(&f);
	for (uint8_t bits = 0; bits < 8; bits++) {
		bool legal = bits != 5 && bits != 7;
		f.region[0] = bits;
		assert_int_equal(p->ops->get_state(p, &s, &err), legal ? 0 : -EPROTO);
	}
	assert_non_null(strstr(err.message, "0x7"));
	p->ops->free(p);
}

/* Reset or stopped by somebody else since the last look: said, and nothing is written over it. */
static void test_changed_by_somebody_else(void **state)
{
	static const struct {
		uint8_t bits;
		enum vfmig_state is, to;
	} cases[] = {
		{ 1, VFMIG_STATE_RUNNING, VFMIG_STATE_STOP_COPY }, /* as if pre-copy had been */
		{ 1, VFMIG_STATE_RUNNING, VFMIG_STATE_RUNNING },
		{ 0, VFMIG_STATE_STOP, VFMIG_STATE_RUNNING },
		{ 2, VFMIG_STATE_STOP_COPY, VFMIG_STATE_STOP_COPY },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fake_access f;
		struct vfmig_error err;
		fake_access_init(&f);
		struct protocol *p = open_v1(&f);
		assert_int_equal(p->ops->set_state(p, VFMIG_STATE_PRE_COPY, &err), 0);
		f.region[0] = cases[i].bits;
		f.num_uses = 0;
		assert_int_equal(p->ops->set_state(p, cases[i].to, &err), -ESTALE);
		assert_non_null(strstr(err.message, "expected pre-copy: somebody else"));
		assert_int_equal(p->state, cases[i].is);
		for (size_t k = 0; k < f.num_uses; k++)
			assert_false(f.uses[k].write);
		/* Whoever goes on from what it is now may do so. */
		assert_int_equal(p->ops->set_state(p, VFMIG_STATE_STOP, &err), 0);
		p->ops->free(p);
	}
}

/* Reserved bits are written back as read, the state is read back, and illegal arcs never reach the device. */
static void test_read_modify_write(void **state)
{
	struct fake_access f;
	struct vfmig_error err;
	uint32_t value;
	(void)state;
	fake_access_init(&f);
	struct protocol *p = open_v1(&f);
	f.region[1] = 0xab;
	f.region[3] = 0xcd;
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_PRE_COPY, &err), 0);
	memcpy(&value, f.region, 4);
	assert_int_equal(value, 0xcd00ab03);
	assert_int_equal(p->state, VFMIG_STATE_PRE_COPY);
	f.num_uses = 0;
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_RESUMING, &err), -EINVAL);
	for (size_t i = 0; i < f.num_uses; i++)
		assert_false(f.uses[i].write);
	f.region[0] = 6;
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_RUNNING, &err), -EINVAL);
	assert_non_null(strstr(err.message, "reset"));
	p->ops->free(p);
}

static uint8_t buffer[FAKE_REGION_BYTES];

static int read_piece(struct protocol *p, struct protocol_piece *piece, struct vfmig_error *err)
{
	return p->ops->read(p, buffer, sizeof(buffer), piece, err);
}

static void test_order_of_a_transaction(void **state)
{
	struct fake_access f;
	struct vfmig_error err;
	struct protocol_piece piece;
	(void)state;
	fake_access_init(&f);
	struct protocol *p = open_v1(&f);
	begin_save(&f, p, 100, 0x1000, 100);
	f.num_uses = 0;
	struct vfmig_pending pending;
	assert_int_equal(p->ops->pending(p, true, &pending, &err), 0);
	assert_int_equal(read_piece(p, &piece, &err), 0);
	assert_int_equal(piece.chunk, 100);
	assert_int_equal(piece.length, 100);
	assert_true(piece.last);
	assert_memory_equal(piece.data, f.region + 0x1000, 100);
	static const struct fake_use expected[] = {
		{ false, 9, PENDING, 8 }, { false, 9, OFFSET, 8 }, { false, 9, SIZE, 8 }, { false, 9, 0x1000, 100 }
	};
	assert_int_equal(f.num_uses, 4);
	assert_memory_equal(f.uses, expected, sizeof(expected));
	p->ops->free(p);
}

static void test_hostile_offsets_and_sizes(void **state)
{
	static const struct {
		uint64_t offset, size;
	} bad[] = {
		{ 0x1000, UINT64_MAX },
		{ 0x1000, FAKE_REGION_BYTES },
		{ FAKE_REGION_BYTES + 1, 0 },
		{ UINT64_MAX, 2 },
		{ UINT64_MAX - 0xfff, 0x1000 },
		{ 0, 8 },
		{ 31, 1 },
		{ FAKE_REGION_BYTES, 1 },
	};
	struct fake_access f;
	struct vfmig_error err;
	struct protocol_piece piece;
	(void)state;
	fake_access_init(&f);
	struct protocol *p = open_v1(&f);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		begin_save(&f, p, 8, bad[i].offset, bad[i].size);
		assert_int_equal(read_piece(p, &piece, &err), -EPROTO);
		assert_int_equal(p->ops->set_state(p, VFMIG_STATE_RUNNING, &err), 0);
	}
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_RESUMING, &err), 0);
	for (size_t i = 2; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fake_set_u64(&f, OFFSET, bad[i].offset);
		assert_int_equal(p->ops->write_begin(p, 1, &err), -EPROTO);
	}
	p->ops->free(p);
}

/* Mapped and trapped parts in one transaction, areas listed in any order, registers never mapped. */
static void test_mixture(void **state)
{
	struct fake_access f;
	struct vfmig_error err;
	uint64_t size;
	uint8_t got[0x6000];
	size_t at = 0, length;
	struct protocol_piece piece;
	(void)state;
	fake_access_init(&f);
	f.areas[0] = (struct access_area) { 0x5000, 0x1000 };
	f.areas[1] = (struct access_area) { 0x0, 0x1000 };
	f.areas[2] = (struct access_area) { 0x2000, 0x1000 };
	f.num_areas = 3;
	struct protocol *p = open_v1(&f);
	assert_int_equal(f.mapped, 1u << 0 | 1u << 2);
	begin_save(&f, p, 0x6000, 0x1800, 0x4801);
	do {
		assert_int_equal(read_piece(p, &piece, &err), 0);
		assert_int_equal(piece.chunk, at == 0 ? 0x4801 : 0);
		memcpy(got + at, piece.data, piece.length);
		at += piece.length;
	} while (!piece.last);
	assert_int_equal(at, 0x4801);
	assert_memory_equal(got, f.region + 0x1800, 0x4801);
	for (size_t i = 0; i < f.num_uses; i++)
		if (f.uses[i].offset >= 32) {
			assert_false(f.uses[i].offset >= 0x2000 && f.uses[i].offset < 0x3000);
			assert_false(f.uses[i].offset >= 0x5000 && f.uses[i].offset < 0x6000);
		}
	/* And back in, bytes cut elsewhere. */
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_RUNNING, &err), 0);
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_RESUMING, &err), 0);
	fake_set_u64(&f, OFFSET, 0x1fff);
	assert_int_equal(p->ops->write_begin(p, 0x4801, &err), 0);
	for (at = 0; at < 0x4801; at += length) {
		length = 0x4801 - at < 1000 ? 0x4801 - at : 1000;
		assert_int_equal(p->ops->write_piece(p, got + at, length, &err), 0);
	}
	assert_int_equal(p->ops->write_end(p, &err), 0);
	assert_memory_equal(f.region + 0x1fff, got, 0x4801);
	memcpy(&size, f.region + SIZE, 8);
	assert_int_equal(size, 0x4801);
	p->ops->free(p);
	assert_int_equal(f.mapped, 0);
}

static void test_unmappable_area_is_read(void **state)
{
	struct fake_access f;
	struct vfmig_error err;
	struct protocol_piece piece;
	(void)state;
	fake_access_init(&f);
	f.areas[0] = (struct access_area) { 0x1000, 0x1000 };
	f.num_areas = 1;
	f.map_fails = true;
	struct protocol *p = open_v1(&f);
	begin_save(&f, p, 8, 0x1000, 8);
	assert_int_equal(read_piece(p, &piece, &err), 0);
	assert_memory_equal(piece.data, f.region + 0x1000, 8);
	p->ops->free(p);
}

/* A refusal of the first long access is met by the widest that works; never a second time. */
static void test_narrow(void **state)
{
	(void)state;
	for (size_t width = 8; width >= 1; width /= 2) {
		struct fake_access f;
		struct vfmig_error err;
		struct protocol_piece piece;
		fake_access_init(&f);
		f.max_access = width;
		struct protocol *p = open_v1(&f);
		begin_save(&f, p, 45, 0x1002, 45);
		for (int round = 0; round < 2; round++) {
			f.num_uses = 0;
			assert_int_equal(read_piece(p, &piece, &err), 0);
			assert_int_equal(piece.length, 45);
			assert_memory_equal(piece.data, f.region + 0x1002, 45);
			for (size_t i = 0; i < f.num_uses; i++) {
				if (f.uses[i].offset < 32)
					continue; /* a register */
				assert_int_equal(f.uses[i].offset % (f.uses[i].length < 8 ? f.uses[i].length : 1), 0);
				if (round == 1)
					assert_true(f.uses[i].length <= width);
			}
		}
		p->ops->free(p);
	}
}

static void test_wide_once_is_wide(void **state)
{
	struct fake_access f;
	struct vfmig_error err;
	struct protocol_piece piece;
	(void)state;
	fake_access_init(&f);
	struct protocol *p = open_v1(&f);
	begin_save(&f, p, 45, 0x1000, 45);
	assert_int_equal(read_piece(p, &piece, &err), 0);
	f.max_access = 8; /* from now on it fails, which is no matter of width */
	assert_int_equal(read_piece(p, &piece, &err), -EINVAL);
	p->ops->free(p);
}

static void test_pending_that_never_falls(void **state)
{
	struct fake_access f;
	struct vfmig_error err;
	struct protocol_piece piece;
	int r = 0;
	unsigned n;
	(void)state;
	fake_access_init(&f);
	struct protocol *p = open_v1(&f);
	begin_save(&f, p, 8, 0x1000, 8);
	for (n = 0; n < 5000 && r == 0; n++)
		r = read_piece(p, &piece, &err);
	assert_int_equal(r, -EPROTO);
	assert_non_null(strstr(err.message, "pending_bytes"));
	/* One that falls by a byte each time goes on for as long as it takes. */
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_RUNNING, &err), 0);
	begin_save(&f, p, 5000, 0x1000, 8);
	for (n = 5000; n > 0; n--) {
		struct vfmig_pending pending;
		fake_set_u64(&f, PENDING, n);
		assert_int_equal(p->ops->pending(p, true, &pending, &err), 0);
		assert_int_equal(read_piece(p, &piece, &err), 0);
	}
	p->ops->free(p);
}

static void test_data_size_zero(void **state)
{
	struct fake_access f;
	struct vfmig_error err;
	struct protocol_piece piece;
	(void)state;
	fake_access_init(&f);
	struct protocol *p = open_v1(&f);
	begin_save(&f, p, 8, 0x1000, 0);
	assert_int_equal(read_piece(p, &piece, &err), -EPROTO);
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_RUNNING, &err), 0);
	assert_int_equal(p->ops->set_state(p, VFMIG_STATE_PRE_COPY, &err), 0);
	assert_int_equal(read_piece(p, &piece, &err), 0); /* in pre-copy: nothing now */
	assert_int_equal(piece.length, 0);
	p->ops->free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_found),
		cmocka_unit_test(test_illegal_state_bits),
		cmocka_unit_test(test_read_modify_write),
		cmocka_unit_test(test_changed_by_somebody_else),
		cmocka_unit_test(test_order_of_a_transaction),
		cmocka_unit_test(test_hostile_offsets_and_sizes),
		cmocka_unit_test(test_mixture),
		cmocka_unit_test(test_unmappable_area_is_read),
		cmocka_unit_test(test_narrow),
		cmocka_unit_test(test_wide_once_is_wide),
		cmocka_unit_test(test_pending_that_never_falls),
		cmocka_unit_test(test_data_size_zero),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
