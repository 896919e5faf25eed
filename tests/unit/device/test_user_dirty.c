/* SPDX-License-Identifier: BSD-3-Clause */
/* test_user_dirty.c: the logs of written pages of the vfio-user client and the server, against each other. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "served_device.h"

#define PAGE 4096u
#define PAGES (DMA_SIZE / PAGE)
#define RW (VFMIG_DMA_READ | VFMIG_DMA_WRITE)

static const struct access_range whole = { DMA_IOVA, DMA_SIZE };

/* Maps all of the memory. */
static void map_memory(struct access *a)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, DMA_SIZE), 0);
	assert_int_equal(access_dma_map(a, DMA_IOVA, DMA_SIZE, fd, 0, RW, NULL), 0);
	close(fd);
}

static void write_page(struct device *d, uint64_t page)
{
	assert_int_equal(server_dma(d->server, true, DMA_IOVA + page * PAGE + 100, &page, sizeof(page), NULL), 0);
}

static uint64_t start(struct access *a, enum access_log log)
{
	uint64_t page_size = PAGE;
	assert_int_equal(access_dirty_start(a, log, &whole, 1, &page_size, NULL), 0);
	return page_size;
}

static void expect_report(struct access *a, enum access_log log, uint64_t w0, uint64_t w1, uint64_t w2, uint64_t w3)
{
	uint64_t bitmap[5] = { 0, 0, 0, 0, UINT64_C(0x5a5a) };
	const uint64_t expected[5] = { w0, w1, w2, w3, UINT64_C(0x5a5a) };
	struct vfmig_error err;

	if (access_dirty_report(a, log, DMA_IOVA, DMA_SIZE, PAGE, bitmap, &err) < 0)
		fail_msg("%s", err.message);
	assert_memory_equal(bitmap, expected, sizeof(bitmap));
}

/* What the device says and what came by messages: each once. */
static void check_log(struct device *d, enum access_log log)
{
	struct access *a = served_device_open(d);
	struct device_log *l = &d->logs[log];
	uint64_t kept = 1, page_size = PAGE;

	map_memory(a);
	write_page(d, 7); /* before it began */
	assert_int_equal(start(a, log), PAGE);
	assert_int_equal(access_dirty_start(a, log, &whole, 1, &page_size, NULL), -EINVAL);
	assert_int_equal(l->starts, 1);
	expect_report(a, log, 0, 0, 0, 0);
	l->dirty[0] = 5;
	l->dirty[3] = UINT64_C(1) << 63;
	write_page(d, 2);
	write_page(d, 65);
	expect_report(a, log, 5, 2, 0, UINT64_C(1) << 63);
	expect_report(a, log, 0, 0, 0, 0);
	/* A part of it, which leaves the rest for later. */
	write_page(d, 3);
	write_page(d, 130);
	l->dirty[2] = 1;
	assert_int_equal(access_dirty_report(a, log, DMA_IOVA + 128 * PAGE, 64 * PAGE, PAGE, &kept, NULL), 0);
	assert_int_equal(kept, 5);
	expect_report(a, log, 8, 0, 0, 0);
	/* What is no range of its. */
	assert_int_equal(access_dirty_report(a, log, DMA_IOVA, DMA_SIZE, 2 * PAGE, &kept, NULL), -EINVAL);
	assert_int_equal(access_dirty_report(a, log, DMA_IOVA + 1, PAGE, PAGE, &kept, NULL), -EINVAL);
	assert_int_equal(access_dirty_report(a, log, DMA_IOVA, 0, PAGE, &kept, NULL), -EINVAL);
	assert_int_equal(access_dirty_stop(a, log, NULL), 0);
	assert_int_equal(l->stops, 1);
	assert_int_equal(access_dirty_stop(a, log, NULL), -EINVAL);
	assert_int_equal(access_dirty_report(a, log, DMA_IOVA, DMA_SIZE, PAGE, &kept, NULL), -EINVAL);
	write_page(d, 1); /* between two logs */
	start(a, log);
	expect_report(a, log, 0, 0, 0, 0);
	access_close(a); /* and the server stops the log */
}

static void test_device_log(void **state)
{
	check_log(*state, ACCESS_LOG_DEVICE);
}

static void test_mappings_log(void **state)
{
	check_log(*state, ACCESS_LOG_MAPPINGS);
}

/* Larger pages than were asked for. */
static void test_large_pages(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	uint64_t bitmap[2] = { 0 }, page_size = PAGE;

	d->logs[ACCESS_LOG_DEVICE].page_size = 4 * PAGE;
	map_memory(a);
	assert_int_equal(start(a, ACCESS_LOG_DEVICE), 4 * PAGE);
	d->logs[ACCESS_LOG_DEVICE].dirty[0] = 1;
	write_page(d, 5);
	write_page(d, 6);
	assert_int_equal(access_dirty_report(a, ACCESS_LOG_DEVICE, DMA_IOVA, DMA_SIZE, 4 * PAGE, bitmap, NULL), 0);
	assert_int_equal(bitmap[0], 3);
	assert_int_equal(bitmap[1], 0);
	assert_int_equal(access_dirty_stop(a, ACCESS_LOG_DEVICE, NULL), 0);
	/* DIRTY_PAGES has no word for it: the pages there are VERSION's, and larger ones are made of them. */
	d->logs[ACCESS_LOG_MAPPINGS].page_size = 4 * PAGE;
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_MAPPINGS, &whole, 1, &page_size, NULL), -EOPNOTSUPP);
	d->logs[ACCESS_LOG_MAPPINGS].page_size = 0;
	page_size = 4 * PAGE;
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_MAPPINGS, &whole, 1, &page_size, NULL), 0);
	assert_int_equal(page_size, 4 * PAGE);
	d->logs[ACCESS_LOG_MAPPINGS].dirty[1] = 2;
	write_page(d, 8);
	bitmap[0] = 0;
	assert_int_equal(access_dirty_report(a, ACCESS_LOG_MAPPINGS, DMA_IOVA, DMA_SIZE, 4 * PAGE, bitmap, NULL), 0);
	assert_int_equal(bitmap[0], 1u << 16 | 4);
	access_close(a);
}

/* 300 ranges, 44 of which go: those with the smallest gaps. */
static void test_many_ranges(void **state)
{
	struct device *d = *state;
	struct device_log *l = &d->logs[ACCESS_LOG_DEVICE];
	struct access *a = served_device_open(d);
	struct access_range ranges[300];
	uint64_t page_size = PAGE, at = 0;

	for (uint64_t i = 0; i < 300; i++) {
		at += i % 6 == 5 ? PAGE : (i % 2 ? 3 : 2) * PAGE; /* 50 gaps of one page, the others larger */
		ranges[i] = (struct access_range) { at, PAGE };
		at += PAGE;
	}
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, ranges, 300, &page_size, NULL), 0);
	assert_int_equal(l->num_ranges, 256);
	assert_int_equal(l->ranges[0].iova, ranges[0].iova);
	assert_int_equal(l->ranges[4].iova, ranges[4].iova); /* and the next, a page away */
	assert_int_equal(l->ranges[4].length, 3 * PAGE);
	assert_int_equal(l->ranges[5].iova, ranges[6].iova);
	assert_int_equal(l->ranges[5].length, PAGE);
	assert_int_equal(l->ranges[255].iova, ranges[299].iova); /* more such gaps than had to go */
	uint64_t logged = 0;
	for (size_t i = 0; i < 256; i++)
		logged += l->ranges[i].length;
	assert_int_equal(logged, (300 + 44) * PAGE);
	access_close(a);
}

/* A server that reaches memory by messages only and logs nothing: what was served here is all there is. */
static void test_own_log(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	uint64_t page_size = PAGE;
	struct vfmig_error err;

	d->logs[ACCESS_LOG_DEVICE].absent = d->logs[ACCESS_LOG_MAPPINGS].absent = true;
	map_memory(a);
	assert_int_equal(d->mappings_with_fd, 0);
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, &whole, 1, &page_size, &err), -EOPNOTSUPP);
	assert_int_equal(start(a, ACCESS_LOG_MAPPINGS), PAGE);
	write_page(d, 66);
	expect_report(a, ACCESS_LOG_MAPPINGS, 0, 4, 0, 0);
	assert_int_equal(access_dirty_stop(a, ACCESS_LOG_MAPPINGS, NULL), 0);
	access_close(a);
}

/* Memory that the server has an fd of may be written by it without a word: no log without one of its own. */
static void test_no_log(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	uint64_t page_size = PAGE;
	struct vfmig_error err;

	d->logs[ACCESS_LOG_DEVICE].absent = d->logs[ACCESS_LOG_MAPPINGS].absent = true;
	assert_int_equal(start(a, ACCESS_LOG_MAPPINGS), PAGE); /* nothing is mapped yet */
	map_memory(a);
	assert_int_equal(d->mappings_with_fd, 0); /* so it gets no fd now */
	write_page(d, 0);
	expect_report(a, ACCESS_LOG_MAPPINGS, 1, 0, 0, 0);
	assert_int_equal(access_dirty_stop(a, ACCESS_LOG_MAPPINGS, NULL), 0);
	assert_int_equal(access_dma_unmap(a, DMA_IOVA, DMA_SIZE, NULL), 0);
	map_memory(a);
	assert_int_equal(d->mappings_with_fd, 1);
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_MAPPINGS, &whole, 1, &page_size, &err), -EOPNOTSUPP);
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, &whole, 1, &page_size, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.message, "starting a log of written pages: not supported"));
	page_size = 5000;
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, &whole, 1, &page_size, &err), -EINVAL);
	access_close(a);
}

static void test_unmap_mappings(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	uint64_t bitmap[4] = { 0 };

	map_memory(a);
	start(a, ACCESS_LOG_MAPPINGS);
	d->logs[ACCESS_LOG_MAPPINGS].dirty[1] = 6;
	write_page(d, 3);
	assert_int_equal(access_dma_unmap_dirty(a, ACCESS_LOG_MAPPINGS, DMA_IOVA, PAGE, PAGE, bitmap, NULL), -ENOENT);
	assert_int_equal(access_dma_unmap_dirty(a, ACCESS_LOG_MAPPINGS, DMA_IOVA, DMA_SIZE, PAGE, bitmap, NULL), 0);
	assert_int_equal(d->logs[ACCESS_LOG_MAPPINGS].unmaps, 1);
	assert_int_equal(d->mappings, 0);
	assert_int_equal(bitmap[0], 8);
	assert_int_equal(bitmap[1], 6);
	assert_int_equal(access_dma_unmap(a, DMA_IOVA, DMA_SIZE, NULL), -ENOENT);
	access_close(a);
}

/* The device's log may outlive the mapping, or not: then all of it counts as written. */
static void test_unmap_device(void **state)
{
	struct device *d = *state;
	struct device_log *l = &d->logs[ACCESS_LOG_DEVICE];
	struct access *a = served_device_open(d);
	uint64_t bitmap[4] = { 0 };

	start(a, ACCESS_LOG_DEVICE);
	map_memory(a);
	l->dirty[1] = 6;
	write_page(d, 3);
	assert_int_equal(access_dma_unmap_dirty(a, ACCESS_LOG_DEVICE, DMA_IOVA, DMA_SIZE, PAGE, bitmap, NULL), 0);
	assert_int_equal(bitmap[0], 8);
	assert_int_equal(bitmap[1], 6);
	map_memory(a);
	l->ends_with_unmap = true;
	assert_int_equal(access_dma_unmap_dirty(a, ACCESS_LOG_DEVICE, DMA_IOVA, DMA_SIZE, PAGE, bitmap, NULL), 0);
	for (int i = 0; i < 4; i++)
		assert_true(bitmap[i] == UINT64_MAX);
	access_close(a);
}

struct writer {
	struct device *device;
	int result;
};

#define ROUNDS 40u

static void *writer_thread(void *arg)
{
	struct writer *w = arg;
	uint8_t *data = calloc(2, PAGE);

	for (unsigned i = 0; i < ROUNDS * PAGES && w->result == 0; i++)
		w->result = server_dma(w->device->server, true, DMA_IOVA + i % PAGES * PAGE, data, 8, NULL);
	free(data);
	return NULL;
}

/* One thread serves while another reports: each write is in one report or the next. */
static void test_report_while_written(void **state)
{
	struct device *d = *state;
	struct access *a = served_device_open(d);
	struct writer w = { .device = d };
	uint64_t seen[4] = { 0 };
	pthread_t thread;

	map_memory(a);
	start(a, ACCESS_LOG_DEVICE);
	assert_int_equal(pthread_create(&thread, NULL, writer_thread, &w), 0);
	for (unsigned bits = 0; bits < PAGES;) {
		bits = 0;
		assert_int_equal(access_dirty_report(a, ACCESS_LOG_DEVICE, DMA_IOVA, DMA_SIZE, PAGE, seen, NULL), 0);
		for (int i = 0; i < 4; i++)
			bits += (unsigned)__builtin_popcountll(seen[i]);
	}
	pthread_join(thread, NULL);
	assert_int_equal(w.result, 0);
	memset(seen, 0, sizeof(seen));
	assert_int_equal(access_dirty_report(a, ACCESS_LOG_DEVICE, DMA_IOVA, DMA_SIZE, PAGE, seen, NULL), 0);
	write_page(d, 77); /* answered: in the next report */
	expect_report(a, ACCESS_LOG_DEVICE, 0, UINT64_C(1) << 13, 0, 0);
	access_close(a);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, served_device_setup, served_device_teardown)
#define NO_FDS(f) cmocka_unit_test_setup_teardown(f, served_device_setup_no_fds, served_device_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_device_log),
		TEST(test_mappings_log),
		TEST(test_large_pages),
		TEST(test_many_ranges),
		NO_FDS(test_own_log),
		TEST(test_no_log),
		TEST(test_unmap_mappings),
		TEST(test_unmap_device),
		TEST(test_report_while_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
