/* SPDX-License-Identifier: BSD-3-Clause */
/* test_kernel_dirty.c: the logs of written pages of kernel devices: the device's, a container's, a page table's. */
#include "fake_kernel.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "device/kernel_dirty.h"
#include "device/ranges.h"
#include "uapi/vfio_compat.h"

#define PAGE 4096ull
#define WORDS 16

static struct vfmig_error err;

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.device_fd = memfd_create("memory", MFD_CLOEXEC);
	assert_true(fake.device_fd >= 0);
	assert_int_equal(ftruncate(fake.device_fd, FAKE_PAGES * PAGE), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(fake.device_fd);
	return 0;
}

/* A container's capabilities: an unknown one at 24, the migration capability at 40. */
static void make_container_info(uint64_t page_sizes, uint64_t bitmap_max)
{
	struct vfio_iommu_type1_info info = { .argsz = 128, .flags = VFIO_IOMMU_INFO_CAPS, .cap_offset = 24 };
	struct vfio_info_cap_header other = { VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 1, 40 };
	struct vfio_iommu_type1_info_cap_migration cap = { { VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, 1, 0 }, 0,
							   page_sizes, bitmap_max };
	memset(fake.container_info, 0, sizeof(fake.container_info));
	memcpy(fake.container_info, &info, sizeof(info));
	memcpy(fake.container_info + 24, &other, sizeof(other));
	memcpy(fake.container_info + 40, &cap, sizeof(cap));
}

static struct access *open_with(enum kernel_memory_kind kind)
{
	struct kernel_memory memory = KERNEL_NO_MEMORY;
	struct access *a = NULL;
	memory.kind = kind;
	memory.fd = kind == KERNEL_MEMORY_FOREIGN ? -1 : fcntl(fake.device_fd, F_DUPFD_CLOEXEC, 3);
	if (kind == KERNEL_MEMORY_CONTAINER) {
		fake.container_fd = memory.fd;
		make_container_info(PAGE | PAGE << 9, 1 << 20);
	}
	if (kind == KERNEL_MEMORY_IOMMUFD) {
		memory.ioas_id = 77;
		memory.hwpt_id = 78;
	}
	assert_int_equal(kernel_access_new(fcntl(fake.device_fd, F_DUPFD_CLOEXEC, 3), &memory, NULL, &a, &err), 0);
	return a;
}

static void map(struct access *a, uint64_t page, uint64_t pages)
{
	assert_int_equal(access_dma_map(a, page * PAGE, pages * PAGE, fake.device_fd, (off_t)(page * PAGE),
					VFMIG_DMA_READ | VFMIG_DMA_WRITE, &err), 0);
}

static void start(struct access *a, enum access_log log, uint64_t page_size, uint64_t expected)
{
	const struct access_range all = { 0, FAKE_PAGES * PAGE };
	if (access_dirty_start(a, log, &all, 1, &page_size, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(page_size, expected);
}

/* The report of these pages of 4096 bytes tells exactly these, counted from the first. -1 ends the list. */
#define REPORTS(a, log, page, pages, ...) \
	reports(a, log, page, pages, PAGE, (const int[]) { __VA_ARGS__ __VA_OPT__(,) -1 })

static void expect_bits(const uint64_t *bitmap, const int *bits)
{
	uint64_t expected[WORDS] = { 0 };
	for (; *bits >= 0; bits++)
		expected[*bits / 64] |= 1ull << *bits % 64;
	assert_memory_equal(bitmap, expected, sizeof(expected));
}

static void reports(struct access *a, enum access_log log, uint64_t page, uint64_t pages, uint64_t page_size,
		    const int *bits)
{
	uint64_t bitmap[WORDS] = { 0 };
	if (access_dirty_report(a, log, page * PAGE, pages * PAGE, page_size, bitmap, &err) < 0)
		fail_msg("%s", err.message);
	expect_bits(bitmap, bits);
}

static int report_fails(struct access *a, enum access_log log, uint64_t page, uint64_t pages)
{
	uint64_t bitmap[WORDS] = { 0 }, before[WORDS] = { 0 };
	int r = access_dirty_report(a, log, page * PAGE, pages * PAGE, PAGE, bitmap, &err);
	assert_memory_equal(bitmap, before, sizeof(before));
	return r;
}

/* ------------------------------------------------------------- ranges */

static void merges(struct access_range *ranges, size_t count, uint64_t page_size, size_t most,
		   const struct access_range *expected, size_t expected_count)
{
	assert_int_equal(ranges_merge(ranges, &count, page_size, most), 0);
	assert_int_equal(count, expected_count);
	assert_memory_equal(ranges, expected, count * sizeof(*ranges));
}

static void test_ranges(void **state)
{
	(void)state;
	struct access_range touching[] = { { 0, PAGE }, { PAGE, PAGE }, { 4 * PAGE, PAGE } };
	merges(touching, 3, PAGE, 9, (const struct access_range[]) { { 0, 2 * PAGE }, { 4 * PAGE, PAGE } }, 2);
	struct access_range widened[] = { { PAGE, PAGE }, { 15 * PAGE, 2 * PAGE }, { 0x30000, PAGE } };
	merges(widened, 3, 0x10000, 9, (const struct access_range[]) { { 0, 0x20000 }, { 0x30000, 0x10000 } }, 2);
	/* gaps of 3, 1, 2, 1, 5 pages */
	struct access_range near[] = { { 0, PAGE }, { 4 * PAGE, PAGE }, { 6 * PAGE, PAGE }, { 9 * PAGE, PAGE },
				       { 11 * PAGE, PAGE }, { 17 * PAGE, PAGE } };
	struct access_range again[6];
	memcpy(again, near, sizeof(near));
	merges(near, 6, PAGE, 3, (const struct access_range[]) { { 0, PAGE }, { 4 * PAGE, 8 * PAGE },
								 { 17 * PAGE, PAGE } }, 3);
	memcpy(near, again, sizeof(near)); /* one of the two gaps of a page has to go, no matter which */
	merges(near, 6, PAGE, 5, (const struct access_range[]) { { 0, PAGE }, { 4 * PAGE, 3 * PAGE },
								 { 9 * PAGE, PAGE }, { 11 * PAGE, PAGE },
								 { 17 * PAGE, PAGE } }, 5);
	merges(again, 6, PAGE, 1, (const struct access_range[]) { { 0, 18 * PAGE } }, 1);
	struct access_range top[] = { { 0, PAGE }, { -2 * PAGE, PAGE } };
	merges(top, 2, PAGE, 1, (const struct access_range[]) { { 0, -PAGE } }, 1);
}

static void test_ranges_refused(void **state)
{
	const struct access_range bad[][2] = {
		{ { 0, PAGE }, { PAGE, 0 } },		       { { PAGE, PAGE }, { 0, PAGE } },
		{ { 0, 2 * PAGE }, { PAGE, PAGE } },	       { { 0, PAGE }, { -PAGE, PAGE } },
		{ { 0, PAGE }, { UINT64_MAX - PAGE, 4 * PAGE } },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct access_range ranges[2];
		size_t count = 2;
		memcpy(ranges, bad[i], sizeof(ranges));
		assert_int_equal(ranges_merge(ranges, &count, PAGE, 9), -EINVAL);
		assert_memory_equal(ranges, bad[i], sizeof(ranges));
	}
	struct access_range top = { -8 * PAGE, PAGE }; /* whose larger page would end at 2^64 */
	size_t count = 1;
	assert_int_equal(ranges_merge(&top, &count, 16 * PAGE, 9), -EINVAL);
}

/* ------------------------------------------------------ the device's log */

static void test_device_log(void **state)
{
	struct access *a = open_with(KERNEL_MEMORY_FOREIGN);
	uint64_t bitmap[WORDS] = { [1] = 4 };
	(void)state;
	start(a, ACCESS_LOG_DEVICE, PAGE, PAGE);
	REPORTS(a, ACCESS_LOG_DEVICE, 0, FAKE_PAGES);
	fake_write(70, 2);
	fake_write(1023, 1);
	assert_int_equal(access_dirty_report(a, ACCESS_LOG_DEVICE, 64 * PAGE, 960 * PAGE, PAGE, bitmap, &err), 0);
	expect_bits(bitmap, (const int[]) { 6, 7, 66, 959, -1 }); /* 66 was there */
	REPORTS(a, ACCESS_LOG_DEVICE, 0, FAKE_PAGES);
	assert_int_equal(access_dirty_stop(a, ACCESS_LOG_DEVICE, &err), 0);
	assert_false(fake.logging);
	assert_int_equal(report_fails(a, ACCESS_LOG_DEVICE, 0, 1), -EINVAL);
	access_close(a);
}

static void test_device_log_ranges(void **state)
{
	struct access_range ranges[300];
	struct access *a = open_with(KERNEL_MEMORY_FOREIGN);
	uint64_t page_size = PAGE;
	(void)state;
	for (size_t i = 0; i < 300; i++)
		ranges[i] = (struct access_range) { i * 16 * PAGE, (i % 2 ? 8 : 12) * PAGE };
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, ranges, 300, &page_size, &err), 0);
	assert_int_equal(fake.num_log_ranges, 256);
	/* The first 44 gaps of 4 pages are gone, and all that was asked for is there. */
	assert_int_equal(fake.log_ranges[0].length, 24 * PAGE);
	assert_int_equal(fake.log_ranges[43].iova, 86 * 16 * PAGE);
	assert_int_equal(fake.log_ranges[44].length, 12 * PAGE);
	assert_int_equal(fake.log_ranges[255].iova, 299 * 16 * PAGE);
	assert_int_equal(ranges[0].length, 12 * PAGE);
	assert_int_equal(access_dirty_stop(a, ACCESS_LOG_DEVICE, &err), 0);
	page_size = 0x10000;
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, ranges + 1, 1, &page_size, &err), 0);
	assert_int_equal(fake.log_ranges[0].iova, 0x10000);
	assert_int_equal(fake.log_ranges[0].length, 0x10000);
	access_close(a);
}

static void test_device_log_page_sizes(void **state)
{
	struct access *a = open_with(KERNEL_MEMORY_FOREIGN);
	const struct access_range all = { 0, FAKE_PAGES * PAGE };
	uint64_t page_size = PAGE;
	(void)state;
	fake.device_page_size = 4 * PAGE;
	start(a, ACCESS_LOG_DEVICE, PAGE, 4 * PAGE);
	fake_write(7, 2);
	reports(a, ACCESS_LOG_DEVICE, 4, 8, 4 * PAGE, (const int[]) { 0, 1, -1 });
	assert_int_equal(access_dirty_stop(a, ACCESS_LOG_DEVICE, &err), 0);
	fake.device_page_size = PAGE; /* smaller than asked for: reports are as large as asked for */
	start(a, ACCESS_LOG_DEVICE, 2 * PAGE, 2 * PAGE);
	fake_write(5, 1);
	reports(a, ACCESS_LOG_DEVICE, 0, 8, 2 * PAGE, (const int[]) { 2, -1 });
	assert_int_equal(access_dirty_stop(a, ACCESS_LOG_DEVICE, &err), 0);
	fake.device_page_size = 3 * PAGE;
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, &all, 1, &page_size, &err), -EPROTO);
	assert_int_equal(page_size, PAGE);
	assert_false(fake.logging);
	access_close(a);
}

static void test_device_log_refused(void **state)
{
	struct access *a = open_with(KERNEL_MEMORY_FOREIGN);
	const struct access_range all = { 0, FAKE_PAGES * PAGE };
	uint64_t page_size = PAGE;
	(void)state;
	fake.no_report = true; /* a kernel whose VFIO cannot fill bitmaps */
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, &all, 1, &page_size, &err), -EOPNOTSUPP);
	assert_false(fake.logging);
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, &all, 0, &page_size, &err), -EINVAL);
	fake.fail_request = VFIO_DEVICE_FEATURE;
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, &all, 1, &page_size, &err), -EOPNOTSUPP);
	fake.fail_errno = EBUSY;
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, &all, 1, &page_size, &err), -EBUSY);
	assert_non_null(strstr(err.message, "log of written pages: start"));
	fake.fail_errno = ENODEV;
	assert_int_equal(access_dirty_stop(a, ACCESS_LOG_DEVICE, &err), -ENOTCONN);
	access_close(a);
}

/* -------------------------------------------------- the mappings' log */

static const enum kernel_memory_kind kinds[] = { KERNEL_MEMORY_CONTAINER, KERNEL_MEMORY_IOMMUFD };

static void test_mappings_log(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct access *a = open_with(kinds[i]);
		memset(fake.mappings, 0, sizeof(fake.mappings));
		map(a, 0, 100);
		map(a, 200, 130);
		start(a, ACCESS_LOG_MAPPINGS, PAGE, PAGE);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 0, 100);
		fake_write(99, 1);
		fake_write(200, 1);
		fake_write(263, 2);
		fake_write(329, 1);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 0, 100, 99);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 200, 130, 0, 63, 64, 129);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 200, 130);
		map(a, 400, 2); /* while it is logged */
		fake_write(401, 1);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 400, 2, 1);
		assert_int_equal(access_dirty_stop(a, ACCESS_LOG_MAPPINGS, &err), 0);
		assert_false(fake.tracking);
		assert_int_equal(report_fails(a, ACCESS_LOG_MAPPINGS, 0, 100), -EINVAL);
		access_close(a);
	}
}

/* The kernel clears a mapping whole, or its IOMMU's page; what was not asked for must not be lost. */
static void test_parts_of_a_mapping(void **state)
{
	(void)state;
	fake.iommu_page_size = 512 * PAGE;
	for (int i = 0; i < 2; i++) {
		struct access *a = open_with(kinds[i]);
		memset(fake.mappings, 0, sizeof(fake.mappings));
		map(a, 0, 512);
		start(a, ACCESS_LOG_MAPPINGS, PAGE, PAGE);
		fake_write(0, 1);
		fake_write(70, 60);
		fake_write(511, 1);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 71, 2, 0, 1);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 64, 10, 6, 9); /* 71 and 72 were told */
		fake_write(71, 1);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 64, 64, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
			25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48,
			49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 0, 512, 0, 128, 129, 511);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 0, 512);
		fake_write(5, 1);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 6, 1);
		assert_int_equal(access_dirty_stop(a, ACCESS_LOG_MAPPINGS, &err), 0);
		start(a, ACCESS_LOG_MAPPINGS, PAGE, PAGE); /* of which 5 is none */
		REPORTS(a, ACCESS_LOG_MAPPINGS, 0, 512);
		access_close(a);
	}
}

static void test_larger_pages_than_logged(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct access *a = open_with(kinds[i]);
		memset(fake.mappings, 0, sizeof(fake.mappings));
		map(a, 4, 300);
		start(a, ACCESS_LOG_MAPPINGS, 4 * PAGE, 4 * PAGE);
		fake_write(10, 1);
		fake_write(12, 1);
		fake_write(301, 2);
		reports(a, ACCESS_LOG_MAPPINGS, 8, 296, 4 * PAGE, (const int[]) { 0, 1, 73, -1 });
		uint64_t bitmap[WORDS] = { 0 };
		int r = access_dirty_report(a, ACCESS_LOG_MAPPINGS, 4 * PAGE, 5 * PAGE, 4 * PAGE, bitmap, &err);
		assert_int_equal(r, -EINVAL);
		access_close(a);
	}
}

static void test_failed_query(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct access *a = open_with(kinds[i]);
		memset(fake.mappings, 0, sizeof(fake.mappings));
		map(a, 8, 4);
		map(a, 0, 4);
		start(a, ACCESS_LOG_MAPPINGS, PAGE, PAGE);
		fake_write(1, 1);
		fake_write(8, 1);
		fake.query_errno = EFAULT;
		assert_int_equal(report_fails(a, ACCESS_LOG_MAPPINGS, 0, 1), -EFAULT);
		/* The rest of the mapping may have been cleared, too; other mappings have nothing to do with it. */
		REPORTS(a, ACCESS_LOG_MAPPINGS, 1, 3, 0, 1, 2);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 8, 4, 0);
		access_close(a);
	}
}

static void test_ranges_of_reports(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct access *a = open_with(kinds[i]);
		memset(fake.mappings, 0, sizeof(fake.mappings));
		map(a, 8, 4);
		map(a, 12, 4);
		start(a, ACCESS_LOG_MAPPINGS, PAGE, PAGE);
		assert_int_equal(report_fails(a, ACCESS_LOG_MAPPINGS, 8, 8), -EINVAL); /* two */
		assert_int_equal(report_fails(a, ACCESS_LOG_MAPPINGS, 7, 4), -EINVAL);
		assert_int_equal(report_fails(a, ACCESS_LOG_MAPPINGS, 8, 0), -EINVAL);
		assert_int_equal(report_fails(a, ACCESS_LOG_MAPPINGS, 9, UINT64_MAX / PAGE - 8), -EINVAL);
		REPORTS(a, ACCESS_LOG_MAPPINGS, 12, 4);
		access_close(a);
	}
}

static int unmap_dirty(struct access *a, enum access_log log, uint64_t page, uint64_t pages, const int *bits)
{
	uint64_t bitmap[WORDS] = { 0 };
	int r = access_dma_unmap_dirty(a, log, page * PAGE, pages * PAGE, PAGE, bitmap, &err);
	expect_bits(bitmap, bits);
	return r;
}

static const int none[] = { -1 };

static void test_unmap_of_a_container(void **state)
{
	struct access *a = open_with(KERNEL_MEMORY_CONTAINER);
	(void)state;
	map(a, 0, 8);
	map(a, 8, 8);
	assert_int_equal(unmap_dirty(a, ACCESS_LOG_MAPPINGS, 0, 8, none), -EINVAL); /* no log */
	start(a, ACCESS_LOG_MAPPINGS, PAGE, PAGE);
	fake_write(1, 1);
	fake_write(7, 3);
	REPORTS(a, ACCESS_LOG_MAPPINGS, 0, 1); /* keeps 1 and 7 */
	fake_write(2, 1);
	assert_int_equal(unmap_dirty(a, ACCESS_LOG_MAPPINGS, 0, 4, none), -ENOENT);
	fake.query_errno = EFAULT;
	fake_write(3, 1);
	assert_int_equal(unmap_dirty(a, ACCESS_LOG_MAPPINGS, 0, 8, none), -EFAULT);
	assert_int_equal(unmap_dirty(a, ACCESS_LOG_MAPPINGS, 0, 8, (const int[]) { 0, 1, 2, 3, 4, 5, 6, 7, -1 }), 0);
	assert_int_equal(unmap_dirty(a, ACCESS_LOG_MAPPINGS, 0, 8, none), -ENOENT);
	fake_write(15, 1);
	assert_int_equal(unmap_dirty(a, ACCESS_LOG_MAPPINGS, 8, 8, (const int[]) { 0, 1, 7, -1 }), 0);
	assert_int_equal(report_fails(a, ACCESS_LOG_MAPPINGS, 8, 8), -EINVAL);
	access_close(a);
}

/* No request gives a bitmap with an unmap: so all of it, also what nobody wrote. */
static void test_unmap_of_an_iommufd(void **state)
{
	struct access *a = open_with(KERNEL_MEMORY_IOMMUFD);
	(void)state;
	map(a, 0, 3);
	start(a, ACCESS_LOG_MAPPINGS, PAGE, PAGE);
	fake.fail_request = IOMMU_IOAS_UNMAP;
	fake.fail_errno = EBUSY;
	assert_int_equal(unmap_dirty(a, ACCESS_LOG_MAPPINGS, 0, 3, none), -EBUSY);
	fake.fail_request = 0;
	assert_int_equal(unmap_dirty(a, ACCESS_LOG_MAPPINGS, 0, 3, (const int[]) { 0, 1, 2, -1 }), 0);
	assert_int_equal(fake_called(IOMMU_IOAS_UNMAP), 2);
	assert_int_equal(fake.mappings[0].length, 0);
	access_close(a);
}

static void test_unmap_with_the_devices_log(void **state)
{
	struct access *a = open_with(KERNEL_MEMORY_IOMMUFD);
	(void)state;
	map(a, 0, 8);
	start(a, ACCESS_LOG_DEVICE, PAGE, PAGE);
	fake_write(3, 1);
	assert_int_equal(unmap_dirty(a, ACCESS_LOG_DEVICE, 0, 8, (const int[]) { 3, -1 }), 0);
	assert_int_equal(fake.mappings[0].length, 0);
	access_close(a);
}

static int start_code(struct access *a)
{
	uint64_t page_size = PAGE;
	int r = access_dirty_start(a, ACCESS_LOG_MAPPINGS, &(struct access_range) { 0, PAGE }, 1, &page_size, &err);
	assert_int_equal(page_size, PAGE);
	return r;
}

static void put32(size_t at, uint32_t value)
{
	memcpy(fake.container_info + at, &value, sizeof(value));
}

static void test_container_capabilities(void **state)
{
	struct access *a = open_with(KERNEL_MEMORY_CONTAINER);
	(void)state;
	put32(28, 24); /* next: itself */
	assert_int_equal(start_code(a), -EPROTO);
	assert_non_null(strstr(err.message, "in a circle"));
	put32(28, 124); /* a header that is cut off */
	assert_int_equal(start_code(a), -EPROTO);
	put32(28, 100); /* a capability that is cut off */
	put32(100, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION);
	assert_int_equal(start_code(a), -EPROTO);
	assert_non_null(strstr(err.message, "cut off"));
	put32(28, 8); /* in the info itself */
	assert_int_equal(start_code(a), -EPROTO);
	put32(28, UINT32_MAX);
	assert_int_equal(start_code(a), -EPROTO);
	put32(0, 1u << 31); /* more than anybody has */
	assert_int_equal(start_code(a), -EPROTO);
	make_container_info(PAGE, 1 << 20);
	put32(28, 0); /* without it */
	assert_int_equal(start_code(a), -EOPNOTSUPP);
	make_container_info(2048, 1 << 20);
	assert_int_equal(start_code(a), -EPROTO);
	make_container_info(0, 1 << 20);
	assert_int_equal(start_code(a), -EPROTO);
	memset(fake.container_info, 0, sizeof(fake.container_info)); /* no capabilities: before 5.8 */
	assert_int_equal(start_code(a), -EOPNOTSUPP);
	assert_false(fake.tracking);
	make_container_info(4 * PAGE | 64 * PAGE, 1 << 20);
	start(a, ACCESS_LOG_MAPPINGS, PAGE, 4 * PAGE);
	access_close(a);
}

static void test_logs_that_do_not_start(void **state)
{
	struct access *a = open_with(KERNEL_MEMORY_CONTAINER);
	(void)state;
	map(a, 0, 65);
	make_container_info(PAGE, 8); /* for 64 pages */
	assert_int_equal(start_code(a), -EOPNOTSUPP);
	assert_non_null(strstr(err.message, "at most are 0x8"));
	assert_false(fake.tracking);
	make_container_info(PAGE, 16);
	assert_int_equal(start_code(a), 0);
	fake.fail_request = VFIO_IOMMU_DIRTY_PAGES;
	fake.fail_errno = ENOMEM;
	assert_int_equal(start_code(a), -ENOMEM);
	assert_int_equal(report_fails(a, ACCESS_LOG_MAPPINGS, 0, 65), -EINVAL);
	fake.fail_request = 0;
	access_close(a);
	a = open_with(KERNEL_MEMORY_IOMMUFD);
	kernel_of(a)->memory.hwpt_id = 0;
	assert_int_equal(start_code(a), -EOPNOTSUPP);
	assert_int_equal(access_dirty_stop(a, ACCESS_LOG_MAPPINGS, &err), -EINVAL);
	kernel_of(a)->memory.hwpt_id = 78;
	fake.fail_request = IOMMU_HWPT_SET_DIRTY_TRACKING;
	fake.fail_errno = ENOTTY; /* before 6.7 */
	assert_int_equal(start_code(a), -EOPNOTSUPP);
	access_close(a);
	a = open_with(KERNEL_MEMORY_FOREIGN);
	assert_int_equal(start_code(a), -EOPNOTSUPP);
	access_close(a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ranges),	   TEST(test_ranges_refused),	   TEST(test_device_log),
		TEST(test_device_log_ranges), TEST(test_device_log_page_sizes), TEST(test_device_log_refused),
		TEST(test_mappings_log),   TEST(test_parts_of_a_mapping),  TEST(test_larger_pages_than_logged),
		TEST(test_failed_query),   TEST(test_ranges_of_reports),   TEST(test_unmap_of_a_container),
		TEST(test_unmap_of_an_iommufd), TEST(test_unmap_with_the_devices_log),
		TEST(test_container_capabilities), TEST(test_logs_that_do_not_start),
	};
	return cmocka_run_group_tests_name("kernel_dirty", tests, NULL, NULL);
}
