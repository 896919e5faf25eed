/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sim_still.c: the state that is not stored: given, moved and refused byte by byte. */
#include "by_hand.h"

#define UNIT 8192u
#define SIZE (5u * UNIT + 1024u) /* "41K", the last unit is short */
#define MADE "size=41K,section=8K,"

struct moved {
	uint8_t bytes[SIZE];
	uint64_t sizes[16];
	size_t count;
};

static struct moved save_v1(const char *options, size_t width)
{
	struct access *a = open_sim(options);
	struct moved m = { .count = 0 };
	uint64_t done = 0, n;

	assert_int_equal(set_state(a, PRE_COPY), 0);
	assert_int_equal(get_pending(a), 0);
	assert_int_equal(set_state(a, STOP_COPY), 0);
	assert_int_equal(get_pending(a), SIZE);
	while ((n = take(a, m.bytes + done, SIZE - done, width))) {
		m.sizes[m.count++] = n;
		done += n;
	}
	assert_int_equal(done, SIZE);
	access_close(a);
	return m;
}

static int load_v1(const char *options, struct moved *m, size_t width)
{
	struct access *a = open_sim(options);
	uint64_t at = 0;
	int r = set_state(a, RESUMING);

	for (size_t i = 0; r == 0 && i < m->count; i++) {
		r = give(a, m->bytes + at, m->sizes[i], width);
		at += m->sizes[i];
	}
	if (r == 0)
		r = set_state(a, RUNNING);
	access_close(a);
	return r;
}

static struct moved save_v2(const char *options, size_t most)
{
	struct access *a = open_sim(options);
	struct moved m = { .count = 0 };
	uint64_t done = 0;
	ssize_t n;

	assert_int_equal(access_mig_state_set(a, VFMIG_STATE_STOP_COPY, NULL), 0);
	while ((n = access_mig_data_read(a, m.bytes + done, min_u64(most, SIZE - done), NULL)) > 0)
		done += (uint64_t)n;
	assert_int_equal(n, 0);
	assert_int_equal(done, SIZE);
	access_close(a);
	return m;
}

static int load_v2(struct access *a, const struct moved *m, uint64_t size, size_t most)
{
	int r = access_mig_state_set(a, VFMIG_STATE_RESUMING, NULL);

	for (uint64_t at = 0, n; r == 0 && at < size; at += n) {
		n = min_u64(most, size - at);
		ssize_t took = access_mig_data_write(a, m->bytes + at, n, NULL);
		r = took < 0 ? (int)took : 0;
	}
	return r < 0 ? r : access_mig_state_set(a, VFMIG_STATE_RUNNING, NULL);
}

static int load_v2_by(const char *options, const struct moved *m, uint64_t size, size_t most)
{
	struct access *a = open_sim(options);
	int r = load_v2(a, m, size, most);

	access_close(a);
	return r;
}

/* A transaction is a whole section, at its beginning; the bytes are the same, however they are had. */
static void test_one_state_by_every_way(void **state)
{
	static const char *const v1[] = { "still=memcpy", "still=syscall", "still=memcpy,map=trapped",
					  "still=syscall,map=trapped", "still=syscall,map=mixed" };
	static const size_t widths[] = { 8, 1000, UNIT };
	char options[96];

	(void)state;
	struct moved first = save_v1(MADE "still=memcpy", UNIT);
	assert_int_equal(first.count, 6);
	assert_int_equal(first.sizes[0], UNIT);
	for (size_t i = 0; i < sizeof(v1) / sizeof(v1[0]); i++) {
		snprintf(options, sizeof(options), MADE "%s", v1[i]);
		struct moved m = save_v1(options, widths[i % 3]);
		assert_memory_equal(m.bytes, first.bytes, SIZE);
		assert_int_equal(load_v1(options, &m, widths[i % 3]), 0);
	}
	for (size_t i = 0; i < 3; i++) {
		struct moved m = save_v2(i ? MADE "still=syscall,interface=v2" : MADE "still=memcpy,interface=v2",
					 widths[i]);
		assert_memory_equal(m.bytes, first.bytes, SIZE);
		assert_int_equal(load_v2_by(MADE "still=syscall,interface=v2", &m, SIZE, 5), 0);
		assert_int_equal(load_v2_by(MADE "still=memcpy,interface=v2", &m, SIZE, 3 * UNIT + 11), 0);
	}
}

/* No two units are the same, and another seed has another pattern. */
static void test_content_follows_from_seed_and_offset(void **state)
{
	(void)state;
	struct moved one = save_v1(MADE "still=memcpy", UNIT), other = save_v1(MADE "still=memcpy,seed=2", UNIT);
	for (size_t i = 0; i < 5; i++)
		for (size_t j = 0; j < 5; j++)
			assert_int_equal(memcmp(one.bytes + i * UNIT, one.bytes + j * UNIT, UNIT) == 0, i == j);
	assert_memory_not_equal(one.bytes + 64, other.bytes + 64, UNIT - 64);
	assert_int_equal(load_v1(MADE "still=memcpy", &other, UNIT), -EINVAL);
}

static void test_every_wrong_byte_is_refused(void **state)
{
	struct moved m = save_v1(MADE "still=memcpy", UNIT);
	struct access *a = open_sim(MADE "still=memcpy,interface=v2");

	(void)state;
	for (size_t i = 0; i < SIZE; i += 7) {
		m.bytes[i] ^= 1;
		assert_int_equal(load_v2(a, &m, SIZE, 4000), -EINVAL);
		m.bytes[i] ^= 1;
		assert_int_equal(access_reset(a, NULL), 0);
	}
	assert_int_equal(load_v2(a, &m, SIZE, 4000), 0);
	access_close(a);
	m.bytes[2 * UNIT + 100] ^= 1;
	assert_int_equal(load_v1(MADE "still=memcpy", &m, UNIT), -EINVAL);
	assert_int_equal(load_v1(MADE "still=syscall,map=trapped", &m, UNIT), -EINVAL);
}

/* Stamps tell one unit from another, and sizes are counted, also where content is only spot-checked. */
static void test_order_and_size_are_checked(void **state)
{
	struct moved m = save_v1(MADE "still=memcpy", UNIT), swapped = m;

	(void)state;
	memcpy(swapped.bytes, m.bytes + UNIT, UNIT);
	memcpy(swapped.bytes + UNIT, m.bytes, UNIT);
	assert_int_equal(load_v1(MADE "still=memcpy,check=spot", &swapped, UNIT), -EINVAL);
	assert_int_equal(load_v2_by(MADE "still=memcpy,check=spot,interface=v2", &m, SIZE - 1, 999), -EINVAL);
	assert_int_equal(load_v1(MADE "still=memcpy,check=spot", &m, UNIT), 0);
	assert_int_equal(load_v1("size=40K,section=8K,still=memcpy,check=spot", &m, UNIT), -EINVAL);
	memset(m.bytes + UNIT, 0, UNIT);
	assert_int_equal(load_v2_by(MADE "still=memcpy,check=spot,interface=v2", &m, SIZE, UNIT), -EINVAL);
}

/* What it was loaded with it gives again: the section was used up meanwhile. */
static void test_saved_after_a_load(void **state)
{
	struct moved m = save_v1(MADE "still=memcpy", UNIT);
	struct access *a = open_sim(MADE "still=memcpy");
	uint8_t again[UNIT];
	uint64_t at = 0;

	(void)state;
	assert_int_equal(set_state(a, RESUMING), 0);
	for (size_t i = 0; i < m.count; i++) {
		assert_int_equal(give(a, m.bytes + at, m.sizes[i], UNIT), 0);
		at += m.sizes[i];
	}
	assert_int_equal(set_state(a, RUNNING), 0);
	assert_int_equal(bar_read(a, SIM_BAR_LOADS), 1);
	assert_int_equal(bar_read(a, SIM_BAR_STATE_BYTES), SIZE);
	bar_write(a, SIM_BAR_CONTROL, 1);
	assert_int_equal(sim_device_steps(sim_access_device(a), 1), 0);
	assert_int_equal(set_state(a, STOP_COPY), 0);
	assert_int_equal(take(a, again, UNIT, UNIT), UNIT);
	assert_memory_equal(again, m.bytes, UNIT);
	access_close(a);
}

static void test_options_that_do_not_go_together(void **state)
{
	static const char *const wrong[] = { "still=memcpy,opaque", "still=syscall,start", "still=yes", "check=some" };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct access *a = NULL;
		assert_int_equal(sim_access_open(wrong[i], &a, NULL), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_state_by_every_way),
		cmocka_unit_test(test_content_follows_from_seed_and_offset),
		cmocka_unit_test(test_every_wrong_byte_is_refused),
		cmocka_unit_test(test_order_and_size_are_checked),
		cmocka_unit_test(test_saved_after_a_load),
		cmocka_unit_test(test_options_that_do_not_go_together),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
