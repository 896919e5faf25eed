/* SPDX-License-Identifier: BSD-3-Clause */
/* test_server.c: what the vfio-user server has to survive from a client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "served_device.h"

/* Whatever a client sends: an answer or the end of its connection, and the next one is served. */
static void expect_refused(struct device *d, uint16_t command, const void *body, size_t length, uint32_t error)
{
	const char version[] = "\0\0\0\0{}";
	struct peer_message *m = calloc(1, sizeof(*m));
	int fd = peer_connect(&d->socket);

	assert_non_null(m);
	peer_command(fd, 1, VFIO_USER_VERSION, version, sizeof(version));
	peer_receive(fd, m);
	assert_int_equal(m->header.flags, VFIO_USER_TYPE_REPLY);
	peer_command(fd, 2, command, body, length);
	if (error == 0) {
		assert_int_equal(peer_try_receive(fd, m), -1);
	} else {
		peer_receive(fd, m);
		assert_int_equal(m->header.id, 2);
		assert_int_equal(m->header.flags, VFIO_USER_TYPE_REPLY | VFIO_USER_ERROR);
		assert_int_equal(m->header.error, error);
		assert_int_equal(m->length, 0);
		peer_command(fd, 3, VFIO_USER_DEVICE_RESET, NULL, 0);
		peer_receive(fd, m);
		assert_int_equal(m->header.flags, VFIO_USER_TYPE_REPLY);
	}
	close(fd);
	free(m);
}

static void test_bad_requests(void **state)
{
	struct device *d = *state;
	uint8_t zero[64] = { 0 };
	struct vfio_user_region_io io = { 0, REGISTERS, 0xffffffff };
	struct vfio_user_dma_map map = { sizeof(map), 3, 0, UINT64_MAX - 0xfff, 0x2000 };
	struct vfio_user_dma_unmap unmap = { sizeof(unmap), 0, 0, 0x1000 };
	struct vfio_user_irq_set irqs = { sizeof(irqs), 0x24, 2, 0xffffffff, 2 };
	struct vfio_user_region_info info = { .argsz = sizeof(info), .index = 0xffffffff };

	expect_refused(d, 0, NULL, 0, EINVAL);
	expect_refused(d, 99, NULL, 0, EINVAL);
	expect_refused(d, 0xffff, zero, 64, EINVAL);
	expect_refused(d, VFIO_USER_VERSION, zero, 4, EINVAL);
	expect_refused(d, VFIO_USER_DEVICE_FEATURE, zero, 16, EINVAL);
	expect_refused(d, VFIO_USER_DEVICE_GET_INFO, zero, 15, EINVAL);
	expect_refused(d, VFIO_USER_DEVICE_GET_INFO, zero, 16, EINVAL);
	expect_refused(d, VFIO_USER_REGION_READ, &io, sizeof(io), EINVAL);
	expect_refused(d, VFIO_USER_REGION_WRITE, &io, sizeof(io), EINVAL);
	expect_refused(d, VFIO_USER_DMA_MAP, &map, sizeof(map), EINVAL);
	map = (struct vfio_user_dma_map) { sizeof(map), 8, 0, 0, 0x1000 };
	expect_refused(d, VFIO_USER_DMA_MAP, &map, sizeof(map), EINVAL);
	expect_refused(d, VFIO_USER_DMA_UNMAP, &unmap, sizeof(unmap), ENOENT);
	unmap.flags = VFIO_USER_UNMAP_BITMAP;
	expect_refused(d, VFIO_USER_DMA_UNMAP, &unmap, sizeof(unmap), EINVAL);
	expect_refused(d, VFIO_USER_DEVICE_SET_IRQS, &irqs, sizeof(irqs), EINVAL);
	irqs.index = 200;
	expect_refused(d, VFIO_USER_DEVICE_SET_IRQS, &irqs, sizeof(irqs), EINVAL);
	expect_refused(d, VFIO_USER_DEVICE_GET_REGION_INFO, &info, sizeof(info), EINVAL);
	info.argsz = 31;
	expect_refused(d, VFIO_USER_DEVICE_GET_REGION_INFO, &info, sizeof(info), EINVAL);
}

/* What ends a connection: each sent as it is, without VERSION before it. */
static void expect_dropped(struct device *d, const struct vfio_user_header *h, const void *body, size_t length)
{
	struct peer_message *m = calloc(1, sizeof(*m));
	int fd = peer_connect(&d->socket);

	assert_non_null(m);
	peer_send(fd, h, body, length, NULL, 0);
	while (peer_try_receive(fd, m) == 0)
		assert_int_equal(m->header.flags, VFIO_USER_TYPE_REPLY | VFIO_USER_ERROR);
	close(fd);
	free(m);
	access_close(served_device_open(d));
}

static void test_bad_messages(void **state)
{
	struct device *d = *state;
	const char text[] = "\0\0\0\0[]", deep[] = "\0\0\0\0[[[[[[[[[[[[]]]]]]]]]]]]", other[] = "\1\0\0\0{}";
	struct vfio_user_header h = { 1, VFIO_USER_DEVICE_RESET, 16, 0, 0 };

	expect_dropped(d, &h, NULL, 0); /* not VERSION */
	h = (struct vfio_user_header) { 1, VFIO_USER_VERSION, 15, 0, 0 };
	expect_dropped(d, &h, NULL, 0);
	h.size = UINT32_MAX;
	expect_dropped(d, &h, NULL, 0);
	h.size = 16; /* no body */
	expect_dropped(d, &h, NULL, 0);
	h.size = 16 + sizeof(text);
	expect_dropped(d, &h, text, sizeof(text));
	h.size = 16 + sizeof(other);
	expect_dropped(d, &h, other, sizeof(other));
	h.size = 16 + sizeof(deep);
	expect_dropped(d, &h, deep, sizeof(deep));
	h.flags = 7; /* no type */
	expect_dropped(d, &h, deep, sizeof(deep));
	h = (struct vfio_user_header) { 1, VFIO_USER_DMA_READ, 16, VFIO_USER_TYPE_REPLY, 0 };
	expect_dropped(d, &h, NULL, 0); /* a reply to nothing */
}

/* Leaves in the middle of a message, with fds on the way. */
static void test_client_leaves(void **state)
{
	struct device *d = *state;
	struct vfio_user_header h = { 1, VFIO_USER_VERSION, 4096, 0, 0 };
	int fds[3] = { d->section_fd, d->section_fd, d->section_fd };
	int fd = peer_connect(&d->socket);

	peer_send(fd, &h, "123", 3, fds, 3);
	close(fd);
	access_close(served_device_open(d));
}

/* More requests than anybody waits for, behind one that waits for this client's
 * memory, which never comes: dropped and not hoarded. */
static void test_client_floods(void **state)
{
	struct device *d = *state;
	const char version[] = "\0\0\0\0{}";
	struct vfio_user_region_io io = { REG_ENGINE, REGISTERS, 4 };
	uint8_t body[sizeof(io) + 4] = { 0 };
	struct peer_message *m = calloc(1, sizeof(*m));
	int fd = peer_connect(&d->socket);

	assert_non_null(m);
	memcpy(body, &io, sizeof(io));
	peer_command(fd, 1, VFIO_USER_VERSION, version, sizeof(version));
	for (uint16_t i = 2; i < 40; i++)
		peer_command(fd, i, VFIO_USER_REGION_WRITE, body, sizeof(body));
	while (peer_try_receive(fd, m) == 0)
		assert_true(m->header.command != VFIO_USER_REGION_WRITE || m->header.error != 0);
	close(fd);
	free(m);
	access_close(served_device_open(d));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, served_device_setup, served_device_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bad_requests),
		TEST(test_bad_messages),
		TEST(test_client_leaves),
		TEST(test_client_floods),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
