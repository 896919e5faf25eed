/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sim_v2_dirty.c: the v2 device's DMA log: exactly the pages it wrote, and every refusal of the interface. */
#include <sys/mman.h>
#include <unistd.h>

#include "by_hand.h"
#include "uapi/vfio_compat.h"

#define GET VFIO_DEVICE_FEATURE_GET
#define SET VFIO_DEVICE_FEATURE_SET
#define PROBE VFIO_DEVICE_FEATURE_PROBE
#define PAGE 4096u
#define BASE 0x100000u
#define PAGES 64u
#define ENTRIES (PAGES * PAGE / SIM_LOG_ENTRY)
#define START VFIO_DEVICE_FEATURE_DMA_LOGGING_START
#define STOP VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP
#define REPORT VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT

typedef struct vfio_device_feature_dma_logging_range range_t;

/* At work on a log of PAGES pages at BASE. */
static struct access *open_writer(void)
{
	struct access *a = open_sim("interface=v2,size=64K,rate=0,start,log=0x100000/8192");
	int fd = memfd_create("memory", MFD_CLOEXEC);

	assert_int_equal(ENTRIES, 8192);
	assert_int_equal(ftruncate(fd, PAGES * PAGE), 0);
	assert_int_equal(access_dma_map(a, BASE, PAGES * PAGE, fd, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, NULL), 0);
	close(fd);
	return a;
}

static int start(struct access *a, const range_t *ranges, uint32_t count, uint64_t page_size)
{
	struct vfio_device_feature_dma_logging_control c = { .page_size = page_size, .num_ranges = count,
							     .ranges = (uintptr_t)ranges };
	int r = access_feature(a, SET | START, &c, sizeof(c), NULL);

	assert_int_equal(c.page_size, r == 0 ? PAGE : page_size);
	return r;
}

static int report(struct access *a, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap)
{
	struct vfio_device_feature_dma_logging_report r = { .iova = iova, .length = length, .page_size = page_size,
							    .bitmap = (uintptr_t)bitmap };

	return access_feature(a, GET | REPORT, &r, sizeof(r), NULL);
}

static int stop(struct access *a)
{
	return access_feature(a, SET | STOP, NULL, 0, NULL);
}

static void test_exact_pages(void **state)
{
	static const range_t all = { BASE, PAGES * PAGE };
	struct access *a = open_writer();
	uint64_t bits = UINT64_C(1) << 63; /* bits are only ever set */

	(void)state;
	assert_int_equal(sim_device_steps(sim_access_device(a), 10), 10); /* before the log: not in it */
	assert_int_equal(start(a, &all, 1, PAGE), 0);
	assert_int_equal(report(a, BASE, PAGES * PAGE, PAGE, &bits), 0);
	assert_true(bits == UINT64_C(1) << 63);
	/* Steps 11 to 300: slots 11 to 300 of 128 a page, pages 0, 1 and 2. */
	assert_int_equal(sim_device_steps(sim_access_device(a), 290), 290);
	bits = 0;
	assert_int_equal(report(a, BASE, PAGES * PAGE, PAGE, &bits), 0);
	assert_true(bits == 7);
	bits = 0;
	assert_int_equal(report(a, BASE, PAGES * PAGE, PAGE, &bits), 0); /* reading has cleared it */
	assert_true(bits == 0);
	/* A part of it in larger pages: steps 301 to 600 are in pages 2, 3 and 4. */
	assert_int_equal(sim_device_steps(sim_access_device(a), 300), 300);
	assert_int_equal(report(a, BASE + 2 * PAGE, 2 * PAGE, 2 * PAGE, &bits), 0);
	assert_true(bits == 1);
	bits = 0;
	assert_int_equal(report(a, BASE, PAGES * PAGE, PAGE, &bits), 0); /* the rest */
	assert_true(bits == UINT64_C(1) << 4);
	assert_int_equal(stop(a), 0);
	access_close(a);
}

static void test_only_the_ranges(void **state)
{
	static const range_t two[] = { { BASE + 3 * PAGE, PAGE }, { BASE, PAGE } };
	struct access *a = open_writer();
	uint64_t bits = 0;

	(void)state;
	assert_int_equal(start(a, two, 2, PAGE), 0);
	assert_int_equal(sim_device_steps(sim_access_device(a), 600), 600);
	assert_int_equal(report(a, 0, BASE, PAGE, NULL), 0); /* nothing there: nothing is touched */
	assert_int_equal(report(a, BASE, PAGES * PAGE, PAGE, &bits), 0);
	assert_true(bits == 9);
	access_close(a); /* while logging */
}

static void test_lives(void **state)
{
	static const range_t all = { BASE, PAGES * PAGE };
	struct access *a = open_writer();
	uint64_t bits = 0;

	(void)state;
	assert_int_equal(report(a, BASE, PAGE, PAGE, &bits), -EINVAL); /* not started */
	assert_int_equal(stop(a), 0);
	assert_int_equal(start(a, &all, 1, 2 * PAGE), 0);
	assert_int_equal(start(a, &all, 1, PAGE), -EINVAL); /* twice */
	assert_int_equal(stop(a), 0);
	assert_int_equal(start(a, &all, 1, PAGE), 0);
	assert_int_equal(access_reset(a, NULL), 0);
	assert_int_equal(report(a, BASE, PAGE, PAGE, &bits), -EINVAL); /* a reset ends it */
	access_close(a);
}

static void test_refusals(void **state)
{
	static const range_t odd = { BASE + 1, PAGE }, half = { BASE, PAGE / 2 }, none = { BASE, 0 };
	static const range_t wraps = { 0 - (uint64_t)PAGE, 2 * PAGE }, huge = { 0, UINT64_C(1) << 62 };
	static const range_t twice[] = { { BASE, 4 * PAGE }, { BASE + PAGE, PAGE } };
	static range_t many[257];
	struct access *a = open_writer();
	uint64_t bits = 0;

	(void)state;
	for (unsigned i = 0; i < 257; i++)
		many[i] = (range_t){ (uint64_t)i * PAGE, PAGE };
	assert_int_equal(start(a, many, 0, PAGE), -EINVAL);
	assert_int_equal(start(a, many, 257, PAGE), -E2BIG);
	assert_int_equal(start(a, many, 2, 2 * PAGE), -EINVAL); /* not aligned to it */
	assert_int_equal(start(a, many, 1, PAGE + 1), -EINVAL);
	assert_int_equal(start(a, many, 1, 512), -EINVAL);
	assert_int_equal(start(a, many, 1, 0), -EINVAL);
	assert_int_equal(start(a, &odd, 1, PAGE), -EINVAL);
	assert_int_equal(start(a, &half, 1, PAGE), -EINVAL);
	assert_int_equal(start(a, &none, 1, PAGE), -EINVAL);
	assert_int_equal(start(a, &wraps, 1, PAGE), -EOVERFLOW);
	assert_int_equal(start(a, &huge, 1, PAGE), -ENOMEM);
	assert_int_equal(start(a, twice, 2, PAGE), -EINVAL);
	assert_int_equal(start(a, many, 256, PAGE), 0); /* the refused ones have left nothing */
	assert_int_equal(report(a, 0, PAGE, 512, &bits), -EINVAL);
	assert_int_equal(report(a, 0, PAGE, 3 * PAGE, &bits), -EINVAL);
	assert_int_equal(report(a, UINT64_MAX, PAGE, PAGE, &bits), -EOVERFLOW);
	assert_int_equal(access_feature(a, GET | REPORT, &bits, 8, NULL), -EINVAL); /* too short */
	assert_int_equal(access_feature(a, SET | START, &bits, 8, NULL), -EINVAL);
	access_close(a);
}

/* What a client asks before it uses a feature, and how a feature must not be asked for. */
static void test_probe(void **state)
{
	static const struct {
		uint32_t flags;
		int with_v2;
	} cases[] = {
		{ PROBE | GET | 1, 0 },	     { PROBE | GET | SET | 2, 0 }, { PROBE | SET | START, 0 },
		{ PROBE | SET | STOP, 0 },   { PROBE | GET | REPORT, 0 },  { PROBE | GET | 9, 0 },
		{ PROBE | SET | 1, -EINVAL }, { PROBE | GET | START, -EINVAL }, { PROBE | SET | REPORT, -EINVAL },
		{ PROBE | GET | 3, -EOPNOTSUPP }, { PROBE | SET | 12, -EOPNOTSUPP }, { STOP, -EINVAL },
		{ GET | SET | 2, -EINVAL },  { 1u << 19 | GET | 1, -EINVAL },
	};
	struct access *v2 = open_sim("interface=v2,size=64K,rate=0"), *v1 = open_sim("size=64K,rate=0");
	uint64_t data[4] = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int r = access_feature(v2, cases[i].flags, data, sizeof(data), NULL);
		if (r != cases[i].with_v2)
			fail_msg("flags 0x%x: %d, expected %d", cases[i].flags, r, cases[i].with_v2);
		assert_int_equal(access_feature(v1, cases[i].flags, data, sizeof(data), NULL), -EOPNOTSUPP);
	}
	access_close(v2);
	access_close(v1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_pages), cmocka_unit_test(test_only_the_ranges),
		cmocka_unit_test(test_lives),	    cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_probe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
