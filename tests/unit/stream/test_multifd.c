/* SPDX-License-Identifier: BSD-3-Clause */
/* test_multifd.c: the packets of channels, there and back, cut at every byte, and hostile ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "stream/multifd.h"

#define ID "0000:00:02.0/vfio"

static void make_state(uint8_t out[MULTIFD_STATE_HEAD])
{
	struct multifd_packet packet = { .instance_id = 3, .index = 0x01020304, .config = true, .length = 77 };
	strcpy(packet.id, ID);
	multifd_packet_put(&packet, out);
}

static void test_init(void **state)
{
	struct multifd_init init = { .channel = 7 }, back;
	struct vfmig_error err;
	uint8_t bytes[WIRE_MULTIFD_INIT];
	(void)state;
	memset(init.uuid, 0xa5, sizeof(init.uuid));
	multifd_init_put(&init, bytes);
	/* As a QEMU 10.0 sends them: magic, version, uuid, number, and zeros to the end. */
	assert_memory_equal(bytes, "\x11\x22\x33\x44\0\0\0\1\xa5\xa5", 10);
	assert_int_equal(bytes[24], 7);
	assert_int_equal(multifd_init_get(bytes, &back, &err), 0);
	assert_memory_equal(back.uuid, init.uuid, sizeof(back.uuid));
	assert_int_equal(back.channel, init.channel);
	bytes[0]++;
	assert_int_equal(multifd_init_get(bytes, &back, &err), -EBADMSG);
	bytes[0]--;
	bytes[7]++;
	assert_int_equal(multifd_init_get(bytes, &back, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "version 2, expected 1"));
}

/* Everything that a head needs, and nothing that lies behind it. */
static void test_every_length(void **state)
{
	uint8_t bytes[MULTIFD_HEAD_MAX] = { 0 };
	struct multifd_packet packet;
	struct vfmig_error err;
	(void)state;
	for (int memory = 0; memory < 2; memory++) {
		size_t whole = memory ? WIRE_MULTIFD_RAM_HEADER : MULTIFD_STATE_HEAD, need;
		if (memory) {
			memset(bytes, 0, sizeof(bytes));
			put_be32(bytes, WIRE_MULTIFD_MAGIC);
			put_be32(bytes + 4, 1);
			put_be32(bytes + WIRE_MULTIFD_RAM_SIZE_AT, 4096);
			put_be32(bytes + WIRE_MULTIFD_RAM_NORMAL_AT, 1);
		} else {
			make_state(bytes);
		}
		for (size_t have = 0; have < whole; have++) {
			assert_int_equal(multifd_packet_get(bytes, have, &need, &packet, &err), 0);
			assert_true(need > have && need <= whole);
		}
		assert_int_equal(multifd_packet_get(bytes, whole, &need, &packet, &err), 1);
		assert_int_equal(need, whole);
		assert_int_equal(packet.length, memory ? 4096 : 77);
		assert_int_equal(packet.state, !memory);
	}
	assert_int_equal(WIRE_MULTIFD_RAM_HEADER, 1344);
}

/* As QEMU 7.2 marks the end of a round: no page, and the size of the packet before it. */
static void test_stale_size(void **state)
{
	uint8_t bytes[WIRE_MULTIFD_RAM_HEADER] = { 0 };
	struct multifd_packet packet;
	struct vfmig_error err;
	size_t head;
	(void)state;
	put_be32(bytes, WIRE_MULTIFD_MAGIC);
	put_be32(bytes + 4, 1);
	put_be32(bytes + 8, WIRE_MULTIFD_SYNC);
	put_be32(bytes + WIRE_MULTIFD_RAM_SIZE_AT, 4096);
	assert_int_equal(multifd_packet_get(bytes, sizeof(bytes), &head, &packet, &err), 1);
	assert_int_equal(packet.length, 0);
	assert_true(packet.sync);
}

static void test_state(void **state)
{
	uint8_t bytes[MULTIFD_STATE_HEAD];
	struct multifd_packet packet;
	struct vfmig_error err;
	size_t head;
	(void)state;
	make_state(bytes);
	assert_int_equal(multifd_packet_get(bytes, sizeof(bytes), &head, &packet, &err), 1);
	assert_string_equal(packet.id, ID);
	assert_int_equal(packet.instance_id, 3);
	assert_int_equal(packet.index, 0x01020304);
	assert_true(packet.config);
}

static void test_refused(void **state)
{
	static const struct {
		size_t at;
		uint32_t value;
		const char *expected;
	} rows[] = {
		{ 0, WIRE_MAGIC, "0x5145564d where a packet was expected" },
		{ 4, 2, "a packet of version 2, expected 1" },
		{ 8, 0x41, "flags 0x41" }, /* state and sync: not both */
		{ 8, 0x80, "flags 0x80" },
		{ 12, 0, "whose id is empty" },
		{ 272, 11, "a device's packet of 11 bytes" },
		{ 272, 0, "a device's packet of 0 bytes" },
		{ 276, 1, "a device's packet of version 1, expected 0" },
		{ 284, 3, "a device's packet with the flags 0x3" },
	};
	uint8_t bytes[MULTIFD_STATE_HEAD];
	struct multifd_packet packet;
	struct vfmig_error err;
	size_t head;
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		make_state(bytes);
		put_be32(bytes + rows[i].at, rows[i].value);
		assert_int_equal(multifd_packet_get(bytes, sizeof(bytes), &head, &packet, &err), -EBADMSG);
		if (!strstr(err.message, rows[i].expected))
			fail_msg("'%s', expected '%s'", err.message, rows[i].expected);
	}
	make_state(bytes);
	memset(bytes + 12, 'x', WIRE_MULTIFD_ID);
	assert_int_equal(multifd_packet_get(bytes, sizeof(bytes), &head, &packet, &err), -EBADMSG);
	/* The largest size there is does not wrap. */
	make_state(bytes);
	put_be32(bytes + 272, UINT32_MAX);
	assert_int_equal(multifd_packet_get(bytes, sizeof(bytes), &head, &packet, &err), 1);
	assert_int_equal(packet.length, MULTIFD_DATA_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_init),
		cmocka_unit_test(test_stale_size),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
