/* SPDX-License-Identifier: BSD-3-Clause */
/* test_window.c: packets in any order, and those that must not come. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#include "migrate/window.h"

#define LIMIT (1u << 20)

struct bench {
	struct packet_pool pool;
	struct window w;
	struct vfmig_error err;
};

static struct bench begin(void)
{
	return (struct bench) { .pool.limit = LIMIT };
}

static void end(struct bench *b)
{
	window_clear(&b->w, &b->pool);
	assert_int_equal(b->pool.held, 0);
	packet_pool_clear(&b->pool);
}

/* Announces a packet whose content is its index, and fills it. */
static int put(struct bench *b, uint32_t index, bool config)
{
	struct multifd_packet head = { .state = true, .index = index, .config = config, .length = sizeof(index) };
	struct packet *packet;
	int r = window_announce(&b->w, &b->pool, &head, &packet, &b->err);
	if (r < 0)
		return r;
	memcpy(packet->data, &index, sizeof(index));
	packet->whole = true;
	return 0;
}

/* Takes what is next; its index, or -1. */
static int64_t take(struct bench *b)
{
	struct packet *packet = window_take(&b->w);
	uint32_t index;
	if (!packet)
		return -1;
	memcpy(&index, packet->data, sizeof(index));
	assert_int_equal(index, packet->index);
	packet_release(packet, &b->pool);
	return index;
}

static void refuse(struct bench *b, uint32_t index, bool config, const char *expected)
{
	uint64_t held = b->pool.held;
	assert_int_equal(put(b, index, config), -EBADMSG);
	if (!strstr(b->err.message, expected))
		fail_msg("'%s', expected '%s'", b->err.message, expected);
	assert_int_equal(b->pool.held, held);
}

static void test_any_order(void **state)
{
	enum { COUNT = 500 };
	(void)state;
	for (unsigned int seed = 1; seed <= 20; seed++) {
		struct bench b = begin();
		uint32_t order[COUNT], taken = 0;
		srand(seed);
		for (uint32_t i = 0; i < COUNT; i++) {
			uint32_t j = (uint32_t)rand() % (i + 1);
			order[i] = order[j];
			order[j] = i;
		}
		for (uint32_t i = 0; i < COUNT; i++) {
			assert_int_equal(put(&b, order[i], order[i] == COUNT - 1), 0);
			for (int64_t got; (got = take(&b)) >= 0; taken++)
				assert_int_equal(got, taken);
		}
		assert_int_equal(taken, COUNT);
		assert_true(b.w.ended);
		end(&b);
	}
}

static void test_not_whole_is_not_taken(void **state)
{
	struct bench b = begin();
	struct multifd_packet head = { .state = true, .length = 8 };
	struct packet *packet;
	(void)state;
	assert_int_equal(window_announce(&b.w, &b.pool, &head, &packet, &b.err), 0);
	assert_int_equal(put(&b, 1, false), 0);
	assert_int_equal(take(&b), -1);
	memset(packet->data, 0, 8);
	packet->whole = true;
	assert_int_equal(take(&b), 0);
	assert_int_equal(take(&b), 1);
	end(&b);
}

static void test_twice(void **state)
{
	struct bench b = begin();
	(void)state;
	assert_int_equal(put(&b, 1, false), 0);
	refuse(&b, 1, false, "comes twice");
	assert_int_equal(put(&b, 0, false), 0);
	assert_int_equal(take(&b), 0);
	refuse(&b, 0, false, "came before: expected 1");
	end(&b);
}

/* QEMU 10.0 meets an assertion with a config record whose index was consumed, and takes a second one. */
static void test_config_records(void **state)
{
	struct bench b = begin();
	(void)state;
	assert_int_equal(put(&b, 0, false), 0);
	assert_int_equal(take(&b), 0);
	refuse(&b, 0, true, "came before");
	assert_int_equal(put(&b, 3, true), 0);
	refuse(&b, 2, true, "is a second config record, after packet 3");
	refuse(&b, 3, true, "comes twice");
	refuse(&b, 4, false, "comes behind packet 3, the config record");
	assert_int_equal(put(&b, 2, false), 0);
	assert_int_equal(put(&b, 1, false), 0);
	assert_int_equal(take(&b), 1);
	assert_int_equal(take(&b), 2);
	assert_int_equal(take(&b), 3);
	for (uint32_t i = 0; i < 6; i++)
		refuse(&b, i, i & 1, "comes behind packet 3, the config record");
	end(&b);
	b = begin();
	assert_int_equal(put(&b, 3, false), 0);
	refuse(&b, 2, true, "must be the last, but packet 3 has come");
	end(&b);
}

/* QEMU 10.0 makes an array as large as any index says. */
static void test_far_ahead(void **state)
{
	struct bench b = begin();
	(void)state;
	refuse(&b, WINDOW_PACKETS, false, "is more than 4096 ahead of packet 0");
	refuse(&b, UINT32_MAX, true, "ahead");
	assert_int_equal(put(&b, WINDOW_PACKETS - 1, false), 0);
	assert_int_equal(put(&b, 0, false), 0);
	assert_int_equal(take(&b), 0);
	assert_int_equal(put(&b, WINDOW_PACKETS, false), 0);
	refuse(&b, WINDOW_PACKETS + 1, false, "ahead of packet 1");
	end(&b);
}

/* At the end of the numbers there is only the config record. */
static void test_last_index(void **state)
{
	struct bench b = begin();
	(void)state;
	b.w.next = UINT32_MAX - 1;
	assert_int_equal(put(&b, UINT32_MAX - 1, false), 0);
	assert_int_equal(take(&b), UINT32_MAX - 1);
	refuse(&b, UINT32_MAX, false, "is not the config record");
	assert_int_equal(put(&b, UINT32_MAX, true), 0);
	assert_int_equal(take(&b), UINT32_MAX);
	refuse(&b, 0, false, "behind packet 4294967295, the config record");
	end(&b);
}

/* QEMU 10.0 allocates 4 GiB for the asking, and queues without an end. */
static void test_limit(void **state)
{
	struct bench b = begin();
	struct multifd_packet head = { .state = true, .length = MULTIFD_DATA_MAX };
	struct packet *packet;
	(void)state;
	assert_int_equal(window_announce(&b.w, &b.pool, &head, &packet, &b.err), -ENOBUFS);
	assert_int_equal(b.pool.held, 0);
	uint32_t n = 0;
	for (head.length = 64 << 10; window_announce(&b.w, &b.pool, &head, &packet, &b.err) == 0; head.index = ++n)
		assert_true(b.pool.held <= LIMIT);
	assert_int_equal(n, 15); /* what holds a packet costs, too */
	assert_non_null(strstr(b.err.message, "(--max-queued)"));
	end(&b);
	/* Packets without a byte in them are not free either. */
	b = begin();
	b.pool.limit = 64 << 10;
	for (n = 1; n < WINDOW_PACKETS; n++) {
		head = (struct multifd_packet) { .state = true, .index = n };
		if (window_announce(&b.w, &b.pool, &head, &packet, &b.err) < 0)
			break;
	}
	assert_true(n < WINDOW_PACKETS);
	end(&b);
}

/* A packet that was released is used again, whatever is asked for then, and what lies spare is bounded. */
static void test_used_again(void **state)
{
	struct bench b = begin();
	(void)state;
	for (uint32_t i = 0; i < 1000; i++) {
		struct multifd_packet head = { .state = true, .index = i, .length = 1 + i * 37 % 5000 };
		struct packet *packet;
		assert_int_equal(window_announce(&b.w, &b.pool, &head, &packet, &b.err), 0);
		assert_true(packet->capacity >= head.length);
		memset(packet->data, 0x55, packet->length + 1);
		packet->whole = true;
		packet_release(window_take(&b.w), &b.pool);
		assert_true(b.pool.spare_bytes + b.pool.held <= LIMIT);
	}
	assert_non_null(b.pool.spare);
	assert_null(b.pool.spare->next);
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_order),  cmocka_unit_test(test_not_whole_is_not_taken),
		cmocka_unit_test(test_twice),	   cmocka_unit_test(test_config_records),
		cmocka_unit_test(test_far_ahead),  cmocka_unit_test(test_last_index),
		cmocka_unit_test(test_limit),	   cmocka_unit_test(test_used_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
