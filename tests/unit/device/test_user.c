/* SPDX-License-Identifier: BSD-3-Clause */
/* test_user.c: the vfio-user client and the server, against each other. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "served_device.h"

static void test_device_info(void **state)
{
	struct access *a = served_device_open(*state);
	struct access_device_info info;
	struct access_irq_info irq;

	assert_int_equal(access_device_info(a, &info, NULL), 0);
	assert_int_equal(info.flags, ACCESS_DEVICE_RESET | ACCESS_DEVICE_PCI);
	assert_int_equal(info.num_regions, NUM_REGIONS);
	assert_int_equal(info.num_irqs, 5);
	assert_int_equal(access_irq_info(a, 2, &irq, NULL), 0);
	assert_int_equal(irq.count, 20);
	access_close(a);
}

static void test_region_info(void **state)
{
	struct access *a = served_device_open(*state);
	struct access_region_info info;
	struct vfmig_error err;

	assert_int_equal(access_region_info(a, REGISTERS, &info, NULL), 0);
	assert_int_equal(info.size, REGISTERS_SIZE);
	assert_int_equal(info.flags, ACCESS_REGION_READ | ACCESS_REGION_WRITE);
	assert_int_equal(info.num_areas, 0);
	assert_false(info.has_type);
	access_region_info_clear(&info);

	assert_int_equal(access_region_info(a, SECTION, &info, NULL), 0);
	assert_true(info.has_type);
	assert_int_equal(info.type, 3);
	assert_int_equal(info.subtype, 1);
	assert_int_equal(info.num_areas, 2);
	assert_int_equal(info.areas[0].offset, 0x8000);
	assert_int_equal(info.areas[1].offset, 0x1000);
	assert_int_equal(info.areas[1].size, 0x2000);
	assert_true(info.flags & ACCESS_REGION_MMAP);
	access_region_info_clear(&info);

	assert_int_equal(access_region_info(a, LARGE, &info, NULL), 0);
	assert_int_equal(info.num_areas, LARGE_AREAS);
	access_region_info_clear(&info);

	assert_int_equal(access_region_info(a, NUM_REGIONS, &info, &err), -EINVAL);
	assert_non_null(strstr(err.message, "region 11"));
	access_close(a);
}

static void test_read_write(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	uint8_t *out = malloc(3u << 20), *in = malloc(3u << 20);
	uint64_t reg = UINT64_C(0x1122334455667788);
	struct vfmig_error err;

	assert_true(out && in);
	assert_int_equal(access_region_write(a, REGISTERS, 8, &reg, 8, NULL), 0);
	assert_int_equal(d->writes, 1);
	reg = 0;
	assert_int_equal(access_region_read(a, REGISTERS, 8, &reg, 8, NULL), 0);
	assert_int_equal(reg, UINT64_C(0x1122334455667788));

	for (size_t i = 0; i < 3u << 20; i++)
		out[i] = (uint8_t)(i * 7 + (i >> 12));
	assert_int_equal(access_region_write(a, REGISTERS, 0x1001, out, (3u << 20) - 5, NULL), 0);
	assert_int_equal(d->largest_write, VFIO_USER_MAX_DATA); /* the server has said that it takes that */
	assert_int_equal(access_region_read(a, REGISTERS, 0x1001, in, (3u << 20) - 5, NULL), 0);
	assert_memory_equal(in, out, (3u << 20) - 5);

	assert_int_equal(access_region_read(a, REGISTERS, REGISTERS_SIZE - 2, in, 4, &err), -ERANGE);
	assert_non_null(strstr(err.message, "region 0: reading 4 bytes at 0x3ffffe"));
	assert_int_equal(access_region_read(a, REGISTERS, 0, in, 4, NULL), 0);
	free(out);
	free(in);
	access_close(a);
}

static void test_map(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	struct access_region_info info;
	const struct access_area outside = { SECTION_SIZE - 0x1000, 0x2000 };
	struct vfmig_error err;
	void *memory;
	char seen[4];

	assert_int_equal(access_region_info(a, SECTION, &info, NULL), 0);
	assert_int_equal(access_region_map(a, SECTION, &info.areas[0], &memory, NULL), 0);
	memcpy(memory, "vfio", 4);
	assert_int_equal(pread(d->section_fd, seen, 4, 0x8000), 4);
	assert_memory_equal(seen, "vfio", 4);
	access_region_unmap(a, memory, &info.areas[0]);
	assert_int_equal(access_region_map(a, SECTION, &outside, &memory, &err), -EINVAL);
	assert_int_equal(access_region_map(a, REGISTERS, &outside, &memory, &err), -EOPNOTSUPP);
	access_region_info_clear(&info);
	/* The file behind it is shorter than the region says. */
	assert_int_equal(access_region_info(a, LARGE, &info, NULL), 0);
	assert_int_equal(access_region_map(a, LARGE, &info.areas[0], &memory, &err), -EPROTO);
	assert_non_null(strstr(err.message, "file of 0x10000 bytes"));
	access_region_info_clear(&info);
	access_close(a);
}

static void test_irqs_and_reset(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	int fds[20];
	uint64_t v;

	for (int i = 0; i < 20; i++)
		fds[i] = i == 3 || i == 4 ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_int_equal(access_set_irqs(a, 2, 0, 20, fds, NULL), 0);
	assert_true(d->irqs_set);
	for (int i = 0; i < 20; i++) {
		if (fds[i] < 0)
			continue;
		assert_int_equal(read(fds[i], &v, sizeof(v)), sizeof(v));
		assert_int_equal(v, i + 1);
		close(fds[i]);
		fds[i] = -1;
	}
	assert_int_equal(access_set_irqs(a, 2, 1, 20, fds, NULL), -EINVAL);
	fds[0] = 999; /* open nowhere: a mistake, but not the connection's end */
	assert_int_equal(access_set_irqs(a, 2, 0, 1, fds, NULL), -EBADF);
	assert_int_equal(access_set_irqs(a, 2, 0, 0, NULL, NULL), 0);
	assert_false(d->irqs_set);
	for (int i = 0; i < 2; i++)
		fds[i] = -1;
	assert_int_equal(access_set_irqs(a, 2, 0, 2, fds, NULL), 0); /* the client leaves with it set */
	assert_int_equal(access_reset(a, NULL), 0);
	assert_int_equal(d->resets, 1);
	access_close(a);
}

static int guest_memory(uint64_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* The test is the device's engine: the client is idle while it is served. */
static void test_dma_idle(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	int fd = guest_memory(DMA_SIZE + 0x1000);
	uint8_t *page = malloc(DMA_SIZE), *back = malloc(DMA_SIZE);
	uint64_t n = 0;

	assert_true(page && back);
	for (uint32_t i = 0, at = DMA_SIZE / 2; i < 2; i++, at = 0) /* the upper half first */
		assert_int_equal(access_dma_map(a, DMA_IOVA + at, DMA_SIZE / 2, fd, 0x1000 + at,
						VFMIG_DMA_READ | VFMIG_DMA_WRITE, NULL), 0);
	assert_int_equal(d->mappings_with_fd, 2);
	for (size_t i = 0; i < DMA_SIZE; i++)
		page[i] = (uint8_t)(i * 13 + (i >> 9));
	/* across both mappings, in many messages, one of which has a piece of each */
	assert_int_equal(server_dma(d->server, true, DMA_IOVA + 0x123, page, DMA_SIZE - 0x123, NULL), 0);
	assert_int_equal(pread(fd, back, DMA_SIZE - 0x123, 0x1123), DMA_SIZE - 0x123);
	assert_memory_equal(back, page, DMA_SIZE - 0x123);
	memset(back, 0, DMA_SIZE);
	assert_int_equal(server_dma(d->server, false, DMA_IOVA + 0x123, back, DMA_SIZE - 0x123, NULL), 0);
	assert_memory_equal(back, page, DMA_SIZE - 0x123);

	assert_int_equal(server_dma(d->server, true, DMA_IOVA + DMA_SIZE - 4, &n, 8, NULL), -EINVAL);
	assert_int_equal(server_dma(d->server, true, DMA_IOVA - 4, &n, 8, NULL), -EINVAL);
	assert_int_equal(server_dma(d->server, false, UINT64_MAX - 3, &n, 8, NULL), -EINVAL);
	assert_int_equal(access_dma_unmap(a, DMA_IOVA, DMA_SIZE / 2, NULL), 0);
	assert_int_equal(server_dma(d->server, false, DMA_IOVA, &n, 8, NULL), -EINVAL);
	assert_int_equal(access_dma_unmap(a, DMA_IOVA, DMA_SIZE / 2, NULL), -ENOENT);
	access_close(a);
	assert_int_equal(server_dma(d->server, false, DMA_IOVA, &n, 8, NULL), -ENOTCONN);
	free(page);
	free(back);
	close(fd);
}

static void test_dma_flags(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	int fd = guest_memory(0x3000);
	uint64_t n = 1;

	assert_int_equal(access_dma_map(a, 0, 0x1000, fd, 0, VFMIG_DMA_READ, NULL), 0);
	assert_int_equal(access_dma_map(a, 0x1000, 0x1000, fd, 0x1000, VFMIG_DMA_WRITE, NULL), 0);
	assert_int_equal(access_dma_map(a, 0x1000, 0x1000, fd, 0x1000, VFMIG_DMA_WRITE, NULL), -EEXIST);
	assert_int_equal(access_dma_map(a, 0x2000, 0x2000, fd, 0x2000, VFMIG_DMA_WRITE, NULL), -EINVAL); /* too short */
	assert_int_equal(access_dma_map(a, 0x2000, 0x1000, fd, 0x2000, 0, NULL), -EINVAL);
	assert_int_equal(server_dma(d->server, false, 0x100, &n, 8, NULL), 0);
	assert_int_equal(server_dma(d->server, true, 0x100, &n, 8, NULL), -EINVAL);
	assert_int_equal(server_dma(d->server, true, 0x1100, &n, 8, NULL), 0);
	assert_int_equal(server_dma(d->server, false, 0x1100, &n, 8, NULL), -EINVAL);
	assert_int_equal(server_dma(d->server, true, 0xffc, &n, 8, NULL), -EINVAL);
	access_close(a);
	close(fd);
}

/* A register write whose reply waits for the engine, which waits for DMA. */
static void test_dma_while_waiting(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	int fd = guest_memory(DMA_SIZE);
	uint32_t go = 1;

	assert_int_equal(access_dma_map(a, DMA_IOVA, DMA_SIZE, fd, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, NULL), 0);
	for (int round = 0; round < 5; round++) {
		assert_int_equal(access_region_write(a, REGISTERS, REG_ENGINE, &go, 4, NULL), 0);
		for (int i = 0; i < 8; i++) {
			uint8_t seen[2];
			assert_int_equal(pread(fd, &seen[0], 1, i * 0x20000), 1);
			assert_int_equal(pread(fd, &seen[1], 1, i * 0x20000 + 0x1ffff), 1);
			assert_int_equal(seen[0], 0xa0 + i);
			assert_int_equal(seen[1], 0xa0 + i);
		}
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(ftruncate(fd, DMA_SIZE), 0);
	}
	access_close(a);
	close(fd);
}

struct hammer {
	struct device *device;
	unsigned done;
	int result;
};

static void *hammer_thread(void *arg)
{
	struct hammer *h = arg;
	uint8_t *page = calloc(1, 0x40000);

	for (h->done = 0; h->done < 50 && h->result == 0; h->done++)
		h->result = server_dma(h->device->server, h->done & 1, DMA_IOVA, page, 0x40000, NULL);
	free(page);
	return NULL;
}

/* Large reads and writes in both directions at once: nobody waits for ever for a full socket. */
static void test_dma_and_requests(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	struct hammer h = { .device = d };
	int fd = guest_memory(DMA_SIZE);
	uint8_t *data = calloc(1, 2u << 20);
	pthread_t thread;

	assert_int_equal(access_dma_map(a, DMA_IOVA, DMA_SIZE, fd, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, hammer_thread, &h), 0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(access_region_read(a, REGISTERS, 0x1000, data, 2u << 20, NULL), 0);
		assert_int_equal(access_region_write(a, REGISTERS, 0x1000, data, 1u << 20, NULL), 0);
	}
	pthread_join(thread, NULL);
	assert_int_equal(h.result, 0);
	assert_int_equal(h.done, 50);
	free(data);
	access_close(a);
	close(fd);
}

/* State outlives the connection, mappings and interrupts do not. */
static void test_reconnect(void **state)
{
	struct device *d = *state;
	uint32_t v = 42;
	int fd = guest_memory(0x1000);

	struct access *a = served_device_open(d);
	assert_int_equal(access_region_write(a, REGISTERS, 0x100, &v, 4, NULL), 0);
	assert_int_equal(access_dma_map(a, 0, 0x1000, fd, 0, VFMIG_DMA_READ, NULL), 0);
	access_close(a);
	a = served_device_open(d);
	assert_int_equal(d->mappings, 0);
	v = 0;
	assert_int_equal(access_region_read(a, REGISTERS, 0x100, &v, 4, NULL), 0);
	assert_int_equal(v, 42);
	assert_int_equal(access_dma_map(a, 0, 0x1000, fd, 0, VFMIG_DMA_READ, NULL), 0);
	access_close(a);
	close(fd);
}

static void test_faults(void **state)
{
	struct device *d = *state;
	struct vfmig_error err = { 0 };
	uint32_t v = 1;

	struct access *a = served_device_open(d);
	assert_int_equal(access_region_write(a, REGISTERS, REG_DROP, &v, 4, &err), -ENOTCONN);
	assert_non_null(strstr(err.message, "closed the connection"));
	assert_int_equal(access_region_read(a, REGISTERS, 0, &v, 4, &err), -ENOTCONN);
	assert_non_null(strstr(err.message, "closed the connection"));
	access_close(a);

	assert_int_equal(user_access_open(d->socket.path, 1000, &a, &err), 0);
	assert_int_equal(access_region_write(a, REGISTERS, REG_HANG, &v, 4, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.message, "REGION_WRITE within 1000 ms"));
	assert_int_equal(access_reset(a, &err), -ENOTCONN);
	assert_non_null(strstr(err.message, "within 1000 ms"));
	access_close(a);

	a = served_device_open(d); /* and the next client is served */
	assert_int_equal(access_reset(a, NULL), 0);
	access_close(a);
}

static void test_stop_with_client(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	struct vfmig_error err;
	uint32_t v;

	server_stop(d->server);
	while (access_region_read(a, REGISTERS, 0, &v, 4, &err) == 0)
		;
	assert_int_equal(err.code, -ENOTCONN);
	access_close(a);
}

static void test_no_server(void **state)
{
	struct access *a;
	struct vfmig_error err;
	char path[200];

	(void)state;
	assert_int_equal(user_access_open("/nonexistent/sock", 1000, &a, &err), -ENOENT);
	memset(path, 'x', sizeof(path));
	path[199] = 0;
	assert_int_equal(user_access_open(path, 1000, &a, &err), -ENAMETOOLONG);
}

static void test_safe_writes(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	uint8_t *data = calloc(1, 1u << 20);

	assert_int_equal(access_region_write(a, REGISTERS, 0x1000, data, 1u << 20, NULL), 0);
	assert_int_equal(d->largest_write, VFIO_USER_SAFE_DATA);
	free(data);
	access_close(a);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, served_device_setup, served_device_teardown)
#define PLAIN(f) { #f "_plain", f, served_device_setup_plain, served_device_teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_device_info),
		TEST(test_region_info),
		TEST(test_read_write),
		TEST(test_map),
		TEST(test_irqs_and_reset),
		TEST(test_dma_idle),
		TEST(test_dma_flags),
		TEST(test_dma_while_waiting),
		TEST(test_dma_and_requests),
		PLAIN(test_safe_writes),
		PLAIN(test_dma_idle),
		PLAIN(test_dma_while_waiting),
		PLAIN(test_dma_and_requests),
		TEST(test_reconnect),
		TEST(test_faults),
		TEST(test_stop_with_client),
		cmocka_unit_test(test_no_server),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
