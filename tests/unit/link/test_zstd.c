/* SPDX-License-Identifier: BSD-3-Clause */
/* test_zstd.c: what a compressed link counts as taken the other side has, however little the link below takes. */
#include "link_harness.h"

#include "../stream/memory_link.h"
#include "link/zstd.h"

#define BYTES (300u << 10)

static int lost; /* connections that were made again */

static int finish(struct vfmig_link *l, struct vfmig_error *err)
{
	return memory_is_dry((struct memory_link *)l) ? error_set(err, -EAGAIN, "dry") : 0;
}

static int reconnect(struct vfmig_link *l, struct vfmig_error *err)
{
	(void)l, (void)err;
	lost++;
	return 0;
}

static void close_memory(struct vfmig_link *l)
{
	(void)l; /* the test's */
}

static const struct link_ops below_ops = {
	.kind = "memory",
	.writev = memory_writev,
	.read = memory_read,
	.finish = finish,
	.reconnect = reconnect,
	.close = close_memory,
};

static struct vfmig_link *around(struct memory_link *m, enum vfmig_direction direction)
{
	struct vfmig_link_options opts = { .size = sizeof(opts), .zstd_level = direction == VFMIG_SAVE };
	struct vfmig_link *l;
	m->link.ops = &below_ops;
	m->link.two_way = true;
	assert_int_equal(zstd_link_new(&m->link, direction, &opts, &l, NULL), 0);
	return l;
}

static uint8_t *make_bytes(size_t length)
{
	uint8_t *bytes = malloc(length);
	uint32_t x = 1;
	for (size_t i = 0; i < length; i++) {
		x = x * 1664525u + 1013904223u;
		bytes[i] = i % 512 < 300 ? (uint8_t)(x >> 24) : 7;
	}
	return bytes;
}

/* Everything that has come so far. */
static size_t read_what_came(struct memory_link *m, struct vfmig_link *l, uint8_t *into, size_t room)
{
	struct vfmig_error err;
	size_t have = 0;
	while (have < room) {
		ssize_t n = link_read(l, into + have, room - have, &err);
		if (n == 0 || (n == -EAGAIN && m->at == m->length))
			break;
		if (n < 0 && n != -EAGAIN)
			fail_msg("%s", err.message);
		have += n > 0 ? (size_t)n : 0;
	}
	return have;
}

/* Messages of all sizes, after each of which the other side has exactly them. */
static void messages(size_t chunk, bool dry, size_t room)
{
	struct memory_link m;
	struct vfmig_error err;
	memory_init(&m);
	m.chunk = chunk;
	m.dry = dry;
	struct vfmig_link *save = around(&m, VFMIG_SAVE), *load = around(&m, VFMIG_LOAD);
	uint8_t *bytes = make_bytes(BYTES), *got = malloc(BYTES);
	size_t sent = 0, have = 0;
	for (size_t length = 1; sent < BYTES; length = length * 5 + 1) {
		size_t end = length < BYTES - sent ? sent + length : BYTES;
		while (sent < end) {
			size_t first = (end - sent) / 3;
			struct iovec iov[2] = { { bytes + sent, first }, { bytes + sent + first, end - sent - first } };
			ssize_t n = link_writev(save, iov, 2, &err);
			assert_true(n > 0 || n == -EAGAIN);
			sent += n > 0 ? (size_t)n : 0;
		}
		for (size_t n = 1; n && have < BYTES; have += n)
			n = read_what_came(&m, load, got + have, room < BYTES - have ? room : BYTES - have);
		assert_int_equal(have, sent);
	}
	assert_memory_equal(got, bytes, BYTES);
	assert_int_equal(save->packed_bytes, m.length);
	assert_int_equal(load->packed_bytes, m.length);
	assert_true(m.length < BYTES * 3 / 4);
	vfmig_link_close(save);
	vfmig_link_close(load);
	memory_clear(&m);
	free(bytes);
	free(got);
}

static void test_messages(void **state)
{
	(void)state;
	static const size_t chunks[] = { 0, 1, 2, 3, 7, 100, 4096, 70001 };
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++)
		for (int dry = 0; dry < 2; dry++)
			for (int narrow = 0; narrow < 2; narrow++)
				messages(chunks[i], dry, narrow ? 1000 : BYTES);
}

/* As soon as the link below has anything of a piece the saver knows it, and of the whole only when it has all of it. */
static void test_partly(void **state)
{
	(void)state;
	struct memory_link m;
	struct vfmig_error err;
	memory_init(&m);
	m.chunk = 20;
	struct vfmig_link *l = around(&m, VFMIG_SAVE);
	uint8_t *bytes = make_bytes(1000);
	struct iovec iov = { bytes, 1000 };
	assert_int_equal(link_writev(l, &iov, 1, &err), 1);
	assert_int_equal(m.length, 20);
	m.dry = true;
	iov = (struct iovec) { bytes + 1, 999 };
	assert_int_equal(link_writev(l, &iov, 1, &err), -EAGAIN);
	assert_int_equal(m.length, 20);
	m.dry = false;
	assert_int_equal(link_writev(l, &iov, 1, &err), 999);
	iov.iov_len = 0;
	assert_int_equal(link_writev(l, &iov, 1, &err), 0);
	vfmig_link_close(l);
	memory_clear(&m);
	free(bytes);
}

/* What is not the same as was offered before would come twice or not at all. */
static void test_fewer_bytes_than_before(void **state)
{
	(void)state;
	struct memory_link m;
	struct vfmig_error err;
	memory_init(&m);
	m.chunk = 20;
	struct vfmig_link *l = around(&m, VFMIG_SAVE);
	uint8_t *bytes = make_bytes(1000);
	struct iovec iov = { bytes, 1000 };
	assert_int_equal(link_writev(l, &iov, 1, &err), 1);
	iov.iov_len = 10;
	assert_int_equal(link_writev(l, &iov, 1, &err), -EINVAL);
	vfmig_link_close(l);
	memory_clear(&m);
	free(bytes);
}

/* The end of the frame waits like everything else. */
static void test_finish(void **state)
{
	(void)state;
	struct memory_link m;
	struct vfmig_error err;
	uint8_t byte;
	memory_init(&m);
	struct vfmig_link *save = around(&m, VFMIG_SAVE), *load = around(&m, VFMIG_LOAD);
	write_all(save, MESSAGE, strlen(MESSAGE));
	m.dry = true;
	m.chunk = 1;
	int r, waits = 0;
	while ((r = link_finish(save, &err)) == -EAGAIN)
		waits++;
	assert_int_equal(r, 0);
	assert_true(waits > 1);
	m.dry = false;
	m.chunk = 0;
	expect_message(load);
	m.link.two_way = false; /* an end in the middle would be an error now */
	assert_int_equal(link_read(load, &byte, 1, &err), 0);
	vfmig_link_close(save);
	vfmig_link_close(load);
	memory_clear(&m);
}

/* By a new connection goes what it is, whatever was half out on the old one; and a load finds out again. */
static void test_reconnect(void **state)
{
	(void)state;
	struct memory_link m;
	struct vfmig_error err;
	uint8_t *bytes = make_bytes(2000), got[1000];
	memory_init(&m);
	struct vfmig_link *save = around(&m, VFMIG_SAVE), *load = around(&m, VFMIG_LOAD);
	write_all(save, bytes, 1000);
	assert_int_equal(read_what_came(&m, load, got, 1000), 1000);
	m.chunk = 20;
	struct iovec iov = { bytes + 1000, 1000 };
	assert_int_equal(link_writev(save, &iov, 1, &err), 1);
	assert_int_equal(read_what_came(&m, load, got, 1000), 0);
	m.length = m.at = 0;
	m.chunk = 0;
	assert_int_equal(link_reconnect(save, &err), 0);
	assert_int_equal(link_reconnect(load, &err), 0);
	assert_int_equal(lost, 2);
	write_all(save, MESSAGE, strlen(MESSAGE));
	assert_int_equal(m.length, strlen(MESSAGE));
	assert_memory_equal(m.data, MESSAGE, m.length);
	expect_message(load);
	vfmig_link_close(save);
	vfmig_link_close(load);
	memory_clear(&m);
	free(bytes);
}

/* Who sends packed bytes that become nothing does not keep the reader for ever; but a file has an end. */
static void test_empty_blocks(void **state)
{
	(void)state;
	static const uint8_t header[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50 };
	struct memory_link m;
	struct vfmig_error err;
	uint8_t byte, *empty = calloc(1, 60u << 20);
	memory_init_from(&m, header, sizeof(header));
	memory_append(&m, empty, 60u << 20);
	struct vfmig_link *load = around(&m, VFMIG_LOAD);
	m.link.wait_fd = 0;
	assert_int_equal(link_read(load, &byte, 1, &err), -EAGAIN);
	assert_true(m.at < 16u << 20);
	m.link.wait_fd = -1;
	assert_int_equal(link_read(load, &byte, 1, &err), 0);
	vfmig_link_close(load);
	memory_clear(&m);
	free(empty);
}

/* What is left of a read poll does not know of. */
static void test_buffered(void **state)
{
	(void)state;
	struct memory_link m;
	struct vfmig_error err;
	uint8_t got[100], *bytes = make_bytes(1000);
	memory_init(&m);
	struct vfmig_link *save = around(&m, VFMIG_SAVE), *load = around(&m, VFMIG_LOAD);
	write_all(save, bytes, 150);
	assert_int_equal(link_read(load, got, 100, &err), 100);
	assert_true(load->buffered);
	assert_int_equal(link_read(load, got, 100, &err), 50);
	assert_false(load->buffered);
	vfmig_link_close(save);
	vfmig_link_close(load);
	memory_clear(&m);
	free(bytes);
}

static void test_levels(void **state)
{
	(void)state;
	struct vfmig_link_options opts = { .size = sizeof(opts), .zstd_level = VFMIG_ZSTD_LEVEL_MAX + 1 };
	struct vfmig_error err;
	struct vfmig_link *l;
	assert_int_equal(vfmig_link_open("null:", VFMIG_SAVE, &opts, &l, &err), -EINVAL);
	assert_error(err, "compression level 20, expected 1 to 19");
	for (opts.zstd_level = 0; opts.zstd_level <= VFMIG_ZSTD_LEVEL_MAX; opts.zstd_level += VFMIG_ZSTD_LEVEL_MAX) {
		assert_int_equal(vfmig_link_open("null:", VFMIG_SAVE, &opts, &l, &err), 0);
		write_all(l, MESSAGE, strlen(MESSAGE));
		assert_int_equal(link_finish(l, &err), 0);
		assert_int_equal(l->packed_bytes > 0, opts.zstd_level > 0);
		vfmig_link_close(l);
	}
}

/* The way back is not compressed, and no link can do what the one below cannot. */
static void test_way_back(void **state)
{
	(void)state;
	struct memory_link m;
	memory_init(&m);
	struct vfmig_link *save = around(&m, VFMIG_SAVE), *load = around(&m, VFMIG_LOAD);
	write_all(load, MESSAGE, strlen(MESSAGE));
	assert_memory_equal(m.data, MESSAGE, m.length);
	expect_message(save);
	assert_null(save->ops->another);
	assert_non_null(save->ops->reconnect);
	vfmig_link_close(save);
	vfmig_link_close(load);
	memory_clear(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages), cmocka_unit_test(test_partly),
		cmocka_unit_test(test_fewer_bytes_than_before), cmocka_unit_test(test_finish),
		cmocka_unit_test(test_reconnect), cmocka_unit_test(test_empty_blocks),
		cmocka_unit_test(test_buffered), cmocka_unit_test(test_levels),
		cmocka_unit_test(test_way_back),
	};
	return cmocka_run_group_tests_name("link zstd", tests, NULL, NULL);
}
