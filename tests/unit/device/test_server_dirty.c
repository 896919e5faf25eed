/* SPDX-License-Identifier: BSD-3-Clause */
/* test_server_dirty.c: what a client may ask the vfio-user server about written pages, and its twin socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "served_device.h"

#define PAGE 4096u
#define START (VFIO_USER_FEATURE_SET | VFIO_USER_FEATURE_LOGGING_START)
#define STOP (VFIO_USER_FEATURE_SET | VFIO_USER_FEATURE_LOGGING_STOP)
#define REPORT (VFIO_USER_FEATURE_GET | VFIO_USER_FEATURE_LOGGING_REPORT)

/* A client by hand. */
struct client {
	int fd;
	struct peer_message m;
};

static struct client *connect_client(struct device *d, const char *json)
{
	struct client *c = calloc(1, sizeof(*c));
	uint8_t version[512] = { 0 };

	assert_non_null(c);
	c->fd = peer_connect(&d->socket);
	memcpy(version + 4, json, strlen(json));
	peer_command(c->fd, 1, VFIO_USER_VERSION, version, 4 + strlen(json) + 1);
	peer_receive(c->fd, &c->m);
	assert_int_equal(c->m.header.flags, VFIO_USER_TYPE_REPLY);
	return c;
}

static void leave(struct client *c)
{
	close(c->fd);
	free(c);
}

/* The errno of the answer; 0: a reply, which is in c->m. */
static uint32_t ask(struct client *c, uint16_t command, const void *body, size_t length)
{
	peer_command(c->fd, 2, command, body, length);
	peer_receive(c->fd, &c->m);
	assert_int_equal(c->m.header.command, command);
	return c->m.header.flags & VFIO_USER_ERROR ? c->m.header.error : 0;
}

/* argsz 0: the right one for the request. */
static uint32_t ask_feature(struct client *c, uint32_t flags, uint32_t argsz, const void *data, size_t length)
{
	uint8_t body[8192 + 64];
	struct vfio_user_feature feature = { argsz ? argsz : 8 + (uint32_t)length, flags };

	memcpy(body, &feature, sizeof(feature));
	if (length)
		memcpy(body + 8, data, length);
	return ask(c, VFIO_USER_DEVICE_FEATURE, body, 8 + length);
}

struct start {
	struct vfio_user_logging_start head;
	struct vfio_user_logging_range ranges[VFIO_USER_MAX_RANGES + 1];
};

static uint32_t start(struct client *c, uint64_t page_size, uint32_t n, uint64_t iova0, uint64_t length0,
		      uint64_t iova1)
{
	struct start s = { .head = { page_size, n, 0 } };

	for (uint32_t i = 0; i < n && i <= VFIO_USER_MAX_RANGES; i++)
		s.ranges[i] = (struct vfio_user_logging_range) { i ? iova1 + i * PAGE : iova0, i ? PAGE : length0 };
	return ask_feature(c, START, 0, &s, sizeof(s.head) + n * sizeof(s.ranges[0]));
}

static void test_bad_starts(void **state)
{
	struct device *d = *state;
	struct client *c = connect_client(d, "{}");
	struct vfio_user_logging_start head = { PAGE, 0xffffffff, 0 };

	assert_int_equal(ask_feature(c, START, 0, &head, 15), EINVAL);
	assert_int_equal(ask_feature(c, START, 0, &head, 16), EINVAL); /* says ranges that are not there */
	assert_int_equal(ask_feature(c, START, 12, &head, 16), EINVAL);
	assert_int_equal(ask_feature(c, VFIO_USER_FEATURE_GET | VFIO_USER_FEATURE_LOGGING_START, 0, &head, 16), EINVAL);
	assert_int_equal(start(c, PAGE, VFIO_USER_MAX_RANGES + 1, 0, PAGE, PAGE), EINVAL);
	assert_int_equal(start(c, PAGE, 2, 0, PAGE, 1), EINVAL);
	assert_int_equal(start(c, PAGE, 1, 0x800, PAGE, 0), EINVAL);
	assert_int_equal(start(c, PAGE, 1, 0, 0, 0), EINVAL);
	assert_int_equal(start(c, PAGE, 1, UINT64_MAX - 0xfff, 2 * PAGE, 0), EINVAL);
	assert_int_equal(start(c, PAGE, 2, 0, 4 * PAGE, 0), EINVAL); /* they overlap */
	assert_int_equal(start(c, 2048, 1, 0, PAGE, 0), EINVAL);
	assert_int_equal(start(c, 3 * PAGE, 1, 0, PAGE, 0), EINVAL);
	assert_int_equal(start(c, UINT64_C(1) << 63, 1, 0, PAGE, 0), EINVAL);
	assert_int_equal(ask_feature(c, STOP, 0, NULL, 0), EINVAL); /* nothing was started */
	assert_int_equal(d->logs[ACCESS_LOG_DEVICE].starts, 0);
	assert_int_equal(start(c, PAGE, VFIO_USER_MAX_RANGES, 0, PAGE, 0), 0);
	assert_int_equal(c->m.length, 8 + 16 + VFIO_USER_MAX_RANGES * 16);
	assert_int_equal(d->logs[ACCESS_LOG_DEVICE].num_ranges, VFIO_USER_MAX_RANGES);
	assert_int_equal(start(c, PAGE, 1, 0, PAGE, 0), EINVAL);
	assert_int_equal(ask_feature(c, STOP, 0, "12345678", 8), EINVAL);
	leave(c); /* the teardown finds it stopped */
}

static uint32_t report(struct client *c, uint64_t iova, uint64_t length, uint64_t page_size, uint32_t room)
{
	struct vfio_user_logging_report r = { iova, length, page_size };
	return ask_feature(c, REPORT, 8 + sizeof(r) + room, &r, sizeof(r));
}

static void test_bad_reports(void **state)
{
	struct device *d = *state;
	struct client *c = connect_client(d, "{}");
	const uint64_t huge = UINT64_C(1) << 62;
	uint64_t word;

	assert_int_equal(report(c, DMA_IOVA, DMA_SIZE, PAGE, 32), EINVAL); /* not started */
	assert_int_equal(start(c, PAGE, 1, DMA_IOVA, DMA_SIZE, 0), 0);
	assert_int_equal(report(c, DMA_IOVA, DMA_SIZE, 2 * PAGE, 32), EINVAL);
	assert_int_equal(report(c, DMA_IOVA, DMA_SIZE, 0, 32), EINVAL);
	assert_int_equal(report(c, DMA_IOVA, 0, PAGE, 32), EINVAL);
	assert_int_equal(report(c, DMA_IOVA + 8, PAGE, PAGE, 32), EINVAL);
	assert_int_equal(report(c, DMA_IOVA, 100, PAGE, 32), EINVAL);
	assert_int_equal(report(c, UINT64_MAX - 0xfff, 2 * PAGE, PAGE, 32), EINVAL);
	assert_int_equal(report(c, 0, huge, PAGE, 0xffffff00), EINVAL); /* more than a message holds */
	assert_int_equal(report(c, DMA_IOVA, DMA_SIZE, PAGE, 31), EINVAL);
	assert_int_equal(d->logs[ACCESS_LOG_DEVICE].reports, 0);
	d->logs[ACCESS_LOG_DEVICE].dirty[1] = 1;
	assert_int_equal(report(c, DMA_IOVA, DMA_SIZE, PAGE, 32), 0);
	assert_int_equal(c->m.length, 8 + 24 + 32);
	memcpy(&word, c->m.body + 8 + 24 + 8, 8);
	assert_int_equal(word, 1);
	leave(c);
}

struct get {
	struct vfio_user_dirty_pages dirty;
	struct vfio_user_dirty_range range;
};

static uint32_t get(struct client *c, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t bytes,
		    uint32_t argsz)
{
	const struct get g = { { argsz, VFIO_USER_DIRTY_GET }, { iova, length, { page_size, bytes } } };
	return ask(c, VFIO_USER_DIRTY_PAGES, &g, sizeof(g));
}

static uint32_t turn(struct client *c, uint32_t flags, uint32_t argsz)
{
	const struct vfio_user_dirty_pages p = { argsz, flags };
	return ask(c, VFIO_USER_DIRTY_PAGES, &p, sizeof(p));
}

static void test_dirty_pages(void **state)
{
	struct device *d = *state;
	struct client *c = connect_client(d, "{}");

	assert_int_equal(get(c, DMA_IOVA, DMA_SIZE, PAGE, 32, 72), EINVAL); /* not started */
	assert_int_equal(turn(c, VFIO_USER_DIRTY_STOP, 8), EINVAL);
	assert_int_equal(turn(c, VFIO_USER_DIRTY_START | VFIO_USER_DIRTY_STOP, 8), EINVAL);
	assert_int_equal(turn(c, VFIO_USER_DIRTY_GET, 8), EINVAL);
	assert_int_equal(turn(c, VFIO_USER_DIRTY_START, 7), EINVAL);
	static const uint64_t maps[][2] = { { 0x1800, 0x800 }, { 0x3000, PAGE }, { 0x1000, 0x800 } };
	for (size_t i = 0; i < 3; i++) { /* in no order, and two share a page */
		const struct vfio_user_dma_map map = { sizeof(map), 3, 0, maps[i][0], maps[i][1] };
		assert_int_equal(ask(c, VFIO_USER_DMA_MAP, &map, sizeof(map)), 0);
	}
	assert_int_equal(turn(c, VFIO_USER_DIRTY_START, 8), 0);
	assert_int_equal(d->logs[ACCESS_LOG_MAPPINGS].num_ranges, 2);
	for (uint64_t i = 0; i < 2; i++) {
		assert_int_equal(d->logs[ACCESS_LOG_MAPPINGS].ranges[i].iova, (i ? 3 : 1) * PAGE);
		assert_int_equal(d->logs[ACCESS_LOG_MAPPINGS].ranges[i].length, PAGE);
	}
	assert_int_equal(turn(c, VFIO_USER_DIRTY_START, 8), EINVAL);
	assert_int_equal(get(c, DMA_IOVA, DMA_SIZE, PAGE, 24, 72), EINVAL);
	assert_int_equal(get(c, DMA_IOVA, DMA_SIZE, PAGE, 40, 80), EINVAL);
	assert_int_equal(get(c, DMA_IOVA, DMA_SIZE, PAGE, 32, 71), EINVAL);
	assert_int_equal(get(c, DMA_IOVA, DMA_SIZE, 2 * PAGE, 16, 72), EINVAL);
	assert_int_equal(get(c, 0, UINT64_C(1) << 62, PAGE, UINT64_C(1) << 47, 72), EINVAL);
	assert_int_equal(d->logs[ACCESS_LOG_MAPPINGS].reports, 0);
	d->logs[ACCESS_LOG_MAPPINGS].dirty[0] = 1;
	assert_int_equal(get(c, DMA_IOVA, DMA_SIZE, PAGE, 32, 72), 0);
	assert_int_equal(c->m.length, 40 + 32);
	assert_int_equal(c->m.body[40], 1);
	leave(c);
}

struct unmap {
	struct vfio_user_dma_unmap unmap;
	struct vfio_user_bitmap bitmap;
};

static uint32_t unmap(struct client *c, uint32_t flags, uint64_t length, uint64_t bytes, uint32_t argsz)
{
	const struct unmap u = { { argsz, flags, DMA_IOVA, length }, { PAGE, bytes } };
	return ask(c, VFIO_USER_DMA_UNMAP, &u, sizeof(u));
}

static void test_unmap(void **state)
{
	struct device *d = *state;
	struct client *c = connect_client(d, "{}");
	const struct vfio_user_dma_map map = { sizeof(map), 3, 0, DMA_IOVA, DMA_SIZE };

	assert_int_equal(ask(c, VFIO_USER_DMA_MAP, &map, sizeof(map)), 0);
	assert_int_equal(unmap(c, VFIO_USER_UNMAP_BITMAP, DMA_SIZE, 32, 72), EINVAL); /* nothing is logged */
	assert_int_equal(turn(c, VFIO_USER_DIRTY_START, 8), 0);
	assert_int_equal(unmap(c, 0, DMA_SIZE, 32, 72), EINVAL);
	assert_int_equal(unmap(c, VFIO_USER_UNMAP_BITMAP | VFIO_USER_UNMAP_ALL, DMA_SIZE, 32, 72), EINVAL);
	assert_int_equal(unmap(c, VFIO_USER_UNMAP_BITMAP, DMA_SIZE, 31, 72), EINVAL);
	assert_int_equal(unmap(c, VFIO_USER_UNMAP_BITMAP, DMA_SIZE, 32, 71), EINVAL);
	assert_int_equal(unmap(c, VFIO_USER_UNMAP_BITMAP, DMA_SIZE / 2, 16, 72), ENOENT);
	assert_int_equal(d->mappings, 1);
	d->logs[ACCESS_LOG_MAPPINGS].dirty[3] = 2;
	assert_int_equal(unmap(c, VFIO_USER_UNMAP_BITMAP, DMA_SIZE, 32, 72), 0);
	assert_int_equal(c->m.length, 40 + 32);
	assert_int_equal(c->m.body[40 + 24], 2);
	assert_int_equal(d->mappings, 0);
	leave(c);
}

/* ------------------------------------------------------------ twin socket */

#define OFFER "{\"capabilities\":{\"max_msg_fds\":8,\"twin_socket\":{\"supported\":true}}}"

struct dma {
	struct device *device;
	pthread_t thread;
	uint64_t data;
	int result;
};

static void *dma_thread(void *arg)
{
	struct dma *dma = arg;
	dma->result = server_dma(dma->device->server, false, 0x1000, &dma->data, 8, NULL);
	return NULL;
}

/* The server's DMA_READ has come by the twin socket, which is c->m.fds[0]; and the thread that waits for its end. */
static struct client *receive_dma(struct dma *dma, struct device *d, int *twin)
{
	struct client *c = connect_client(d, OFFER);

	assert_non_null(strstr((char *)c->m.body + 4, "\"twin_socket\":{\"supported\":true,\"fd_index\":0}"));
	assert_int_equal(c->m.num_fds, 1);
	*twin = c->m.fds[0];
	/* The server begins DMA when it has replied: its answer to the next request comes after that. */
	assert_int_equal(ask(c, VFIO_USER_DEVICE_RESET, NULL, 0), 0);
	*dma = (struct dma) { .device = d };
	assert_int_equal(pthread_create(&dma->thread, NULL, dma_thread, dma), 0);
	peer_receive(*twin, &c->m);
	assert_int_equal(c->m.header.command, VFIO_USER_DMA_READ);
	return c;
}

static void expect_dropped(struct client *c, struct dma *dma, int twin)
{
	pthread_join(dma->thread, NULL);
	assert_int_equal(dma->result, -ENOTCONN);
	assert_int_equal(peer_try_receive(c->fd, &c->m), -1);
	close(twin);
	leave(c);
}

static void test_twin(void **state)
{
	struct device *d = *state;
	uint8_t body[24];
	struct dma dma;
	int twin;

	struct client *c = receive_dma(&dma, d, &twin);
	memcpy(body, c->m.body, 16);
	memcpy(body + 16, "vfio-usr", 8);
	peer_reply(twin, &c->m, body, sizeof(body));
	pthread_join(dma.thread, NULL);
	assert_int_equal(dma.result, 0);
	assert_memory_equal(&dma.data, "vfio-usr", 8);
	close(twin);
	leave(c);

	c = receive_dma(&dma, d, &twin);
	peer_reply(c->fd, &c->m, body, sizeof(body)); /* the right answer by the wrong socket */
	expect_dropped(c, &dma, twin);
	c = receive_dma(&dma, d, &twin);
	peer_command(twin, 3, VFIO_USER_DEVICE_RESET, NULL, 0);
	expect_dropped(c, &dma, twin);
	c = receive_dma(&dma, d, &twin);
	shutdown(twin, SHUT_RDWR);
	expect_dropped(c, &dma, twin);
	c = receive_dma(&dma, d, &twin);
	close(c->fd);
	c->fd = dup(twin); /* also the other way round: whoever leaves on one leaves on both */
	expect_dropped(c, &dma, twin);
	c = receive_dma(&dma, d, &twin);
	server_stop(d->server);
	expect_dropped(c, &dma, twin);
}

/* One that cannot take an fd is not given one. */
static void test_no_twin(void **state)
{
	struct client *c = connect_client(*state, "{\"capabilities\":{\"max_msg_fds\":0,"
						  "\"twin_socket\":{\"supported\":true}}}");
	assert_int_equal(c->m.num_fds, 0);
	assert_null(strstr((char *)c->m.body + 4, "twin_socket"));
	leave(c);
	c = connect_client(*state, "{}");
	assert_int_equal(c->m.num_fds, 0);
	leave(c);
}

static void test_plain(void **state)
{
	struct client *c = connect_client(*state, OFFER);
	assert_int_equal(c->m.num_fds, 0);
	assert_null(strstr((char *)c->m.body + 4, "twin_socket"));
	assert_null(strstr((char *)c->m.body + 4, "vfmig"));
	leave(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, served_device_setup, served_device_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bad_starts),
		TEST(test_bad_reports),
		TEST(test_dirty_pages),
		TEST(test_unmap),
		TEST(test_twin),
		TEST(test_no_twin),
		cmocka_unit_test_setup_teardown(test_plain, served_device_setup_plain, served_device_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
