/* SPDX-License-Identifier: BSD-3-Clause */
/* test_dirty.c: which pages are dirty, told by made-up devices whose logs the test writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bitmap.h"
#include "base/bytes.h"
#include "dirty/dirty.h"

#define PAGE ((uint64_t)DIRTY_PAGE)
#define PAGES 1000u
#define IOVA 0x100000000u

/* A device that is only its logs. */
struct fake {
	struct access access;
	struct vfmig_device device;
	bool has[2];	       /* by enum access_log */
	uint64_t page_size;    /* that it logs in */
	int start_fails, report_fails, unmap_fails;
	int started; /* which log, or -1 */
	struct access_range asked[8];
	size_t num_asked;
	bool written[4 * PAGES]; /* pages of page_size from IOVA on, not reported */
	unsigned reports, stops;
};

static struct fake *fake_of(struct access *a)
{
	return (struct fake *)a;
}

static int fake_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
		      uint64_t *page_size, struct vfmig_error *err)
{
	struct fake *f = fake_of(a);
	if (!f->has[log])
		return error_set(err, -EOPNOTSUPP, "no such log");
	if (f->start_fails)
		return error_set(err, f->start_fails, "made to fail");
	assert_true(count <= 8);
	memcpy(f->asked, ranges, count * sizeof(*ranges));
	f->num_asked = count;
	f->started = (int)log;
	*page_size = f->page_size;
	return 0;
}

static int fake_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
		       uint64_t *bitmap, struct vfmig_error *err)
{
	struct fake *f = fake_of(a);
	assert_int_equal(f->started, (int)log);
	assert_int_equal(page_size, f->page_size);
	assert_int_equal((iova | length) % page_size, 0);
	f->reports++;
	if (f->report_fails)
		return error_set(err, f->report_fails, "made to fail");
	for (uint64_t i = 0; i < length / page_size; i++) {
		bool *written = &f->written[(iova - IOVA) / page_size + i];
		if (*written)
			bitmap_set(bitmap, i, 1);
		*written = false;
	}
	return 0;
}

static int fake_stop(struct access *a, enum access_log log, struct vfmig_error *err)
{
	struct fake *f = fake_of(a);
	(void)err;
	assert_int_equal(f->started, (int)log);
	f->started = -1;
	f->stops++;
	return 0;
}

static int fake_map(struct access *a, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		    struct vfmig_error *err)
{
	(void)a, (void)iova, (void)length, (void)fd, (void)offset, (void)flags, (void)err;
	return 0;
}

/* Writes a last page on its way out. */
static int fake_unmap(struct access *a, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	struct fake *f = fake_of(a);
	(void)length;
	if (f->unmap_fails)
		return error_set(err, f->unmap_fails, "made to fail");
	if (f->started >= 0)
		f->written[(iova - IOVA) / f->page_size] = true;
	return 0;
}

static const struct access_ops fake_ops = {
	.kind = "fake", .dirty_start = fake_start, .dirty_report = fake_report, .dirty_stop = fake_stop,
	.dma_map = fake_map, .dma_unmap = fake_unmap,
};

static void fake_init(struct fake *f, bool own, bool mappings)
{
	*f = (struct fake) { .access = { .ops = &fake_ops, .name = "fake:" }, .has = { own, mappings },
			     .page_size = PAGE, .started = -1 };
	f->device.access = &f->access;
}

static void fake_clear(struct fake *f)
{
	free(f->device.dma);
}

/* Log lines, one behind the other. */
static char told[4096];

static void tell(void *opaque, enum vfmig_log_level level, const char *line)
{
	(void)opaque;
	size_t used = strlen(told);
	if (level == VFMIG_LOG_WARNING)
		snprintf(told + used, sizeof(told) - used, "%s\n", line);
}

/* One block of PAGES pages, at IOVA from its page `first` on. */
static struct dirty *tracker(struct fake *f, uint64_t first)
{
	struct dirty *d;
	told[0] = '\0';
	assert_int_equal(dirty_new(&d, NULL), 0);
	assert_int_equal(dirty_add_block(d, PAGES * PAGE, NULL), 0);
	assert_int_equal(dirty_add_window(d, 0, first * PAGE, (PAGES - first) * PAGE, IOVA, NULL), 0);
	if (f)
		assert_int_equal(dirty_add_device(d, &f->device, NULL), 0);
	return d;
}

static void start(struct dirty *d)
{
	struct vfmig_error err = { 0 };
	if (dirty_start(d, tell, NULL, &err) < 0)
		fail_msg("%s", err.message);
}

/* Takes all; each page at most once. */
static uint64_t take_all(struct dirty *d, bool unlogged, bool *ret_pages)
{
	struct dirty_run run;
	uint64_t n = 0;
	memset(ret_pages, 0, PAGES);
	while (dirty_take(d, unlogged, 7, &run)) {
		assert_true(run.block == 0 && run.count > 0 && run.count <= 7 && run.first + run.count <= PAGES);
		for (uint64_t i = run.first; i < run.first + run.count; i++) {
			assert_false(ret_pages[i]);
			ret_pages[i] = true;
		}
		n += run.count;
	}
	return n;
}

static void all_pages_are_dirty_at_the_start(void **state)
{
	struct fake f;
	bool pages[PAGES];
	uint64_t logged, unlogged;
	(void)state;
	fake_init(&f, true, false);
	struct dirty *d = tracker(&f, 0);
	start(d);
	dirty_count(d, &logged, &unlogged);
	assert_int_equal(logged, PAGES);
	assert_int_equal(unlogged, 0);
	assert_int_equal(take_all(d, false, pages), PAGES);
	assert_int_equal(take_all(d, false, pages), 0);
	dirty_free(d);
	assert_int_equal(f.stops, 1);
	assert_null(f.device.watch);
}

static void what_a_log_tells_is_dirty(void **state)
{
	struct fake f;
	bool pages[PAGES];
	(void)state;
	fake_init(&f, true, true);
	struct dirty *d = tracker(&f, 37); /* so that bits do not lie in words as they come */
	start(d);
	assert_int_equal(f.started, ACCESS_LOG_DEVICE);
	take_all(d, false, pages);
	f.written[0] = f.written[63] = f.written[64] = f.written[PAGES - 38] = true;
	assert_int_equal(dirty_sync(d, NULL), 0);
	assert_int_equal(dirty_stats(d).found, 4);
	assert_int_equal(take_all(d, false, pages), 4);
	assert_true(pages[37] && pages[100] && pages[101] && pages[PAGES - 1]);
	assert_int_equal(dirty_sync(d, NULL), 0);
	assert_int_equal(take_all(d, false, pages), 0);
	dirty_free(d);
}

/* The page is taken, then written, then read: it comes once more. */
static void a_write_after_the_taking_comes_again(void **state)
{
	struct fake f;
	bool pages[PAGES];
	struct dirty_run run;
	(void)state;
	fake_init(&f, true, false);
	struct dirty *d = tracker(&f, 0);
	start(d);
	assert_true(dirty_take(d, false, 1, &run));
	f.written[run.first] = true;
	assert_int_equal(take_all(d, false, pages), PAGES - 1);
	assert_int_equal(dirty_sync(d, NULL), 0);
	assert_int_equal(take_all(d, false, pages), 1);
	assert_true(pages[run.first]);
	dirty_free(d);
}

static void larger_pages_are_several_of_ours(void **state)
{
	struct fake f;
	bool pages[PAGES];
	(void)state;
	fake_init(&f, true, false);
	f.page_size = 8 * PAGE;
	struct dirty *d = tracker(&f, 0); /* 1000 pages are 125 of these */
	start(d);
	take_all(d, false, pages);
	f.written[1] = f.written[2] = f.written[124] = true;
	assert_int_equal(dirty_sync(d, NULL), 0);
	assert_int_equal(take_all(d, false, pages), 24);
	assert_true(!pages[7] && pages[8] && pages[23] && !pages[24] && pages[992] && pages[999]);
	dirty_free(d);

	fake_init(&f, true, false);
	f.page_size = 16 * PAGE; /* and 62 and a half of these: it is told, and not guessed at */
	d = tracker(&f, 0);
	start(d);
	assert_non_null(strstr(told, "which its memory is not made of"));
	assert_int_equal(take_all(d, false, pages), 0);
	dirty_free(d);
}

static void neighbours_are_logged_as_one_and_reported_alone(void **state)
{
	struct fake f;
	bool pages[PAGES];
	(void)state;
	fake_init(&f, true, false);
	struct dirty *d = tracker(&f, 0);
	/* mapped in any order: two that touch, one apart, one that nobody moves */
	assert_int_equal(vfmig_device_dma_map(&f.device, IOVA + 500 * PAGE, 100 * PAGE, 0, 0, 3, NULL), 0);
	assert_int_equal(vfmig_device_dma_map(&f.device, IOVA + 100 * PAGE, 100 * PAGE, 0, 0, 3, NULL), 0);
	assert_int_equal(vfmig_device_dma_map(&f.device, IOVA, 100 * PAGE, 0, 0, 3, NULL), 0);
	assert_int_equal(vfmig_device_dma_map(&f.device, 0x1000, PAGE, 0, 0, 3, NULL), 0);
	start(d);
	assert_int_equal(f.num_asked, 2);
	assert_int_equal(f.asked[0].iova, IOVA);
	assert_int_equal(f.asked[0].length, 200 * PAGE);
	assert_int_equal(f.asked[1].iova, IOVA + 500 * PAGE);
	take_all(d, false, pages);
	f.written[0] = f.written[199] = f.written[300] = f.written[599] = true;
	assert_int_equal(dirty_sync(d, NULL), 0);
	assert_int_equal(f.reports, 3);
	assert_int_equal(take_all(d, false, pages), 3);
	assert_true(pages[0] && pages[199] && !pages[300] && pages[599]);
	dirty_free(d);
	fake_clear(&f);
}

static void the_next_best_log_is_taken(void **state)
{
	struct fake f;
	bool pages[PAGES];
	uint64_t logged, unlogged;
	(void)state;
	fake_init(&f, false, true);
	struct dirty *d = tracker(&f, 0);
	start(d);
	assert_int_equal(f.started, ACCESS_LOG_MAPPINGS);
	assert_string_equal(told, "");
	dirty_free(d);

	fake_init(&f, false, false);
	d = tracker(&f, 0);
	start(d);
	assert_non_null(strstr(told, "fake:: nobody logs which pages it writes"));
	dirty_count(d, &logged, &unlogged);
	assert_true(logged == 0 && unlogged == PAGES);
	assert_int_equal(take_all(d, false, pages), 0);
	assert_int_equal(dirty_sync(d, NULL), 0);
	assert_int_equal(take_all(d, true, pages), PAGES);
	dirty_free(d);
}

static void a_failing_log_fails(void **state)
{
	struct fake f;
	struct vfmig_error err;
	(void)state;
	fake_init(&f, true, true);
	f.start_fails = -EIO;
	struct dirty *d = tracker(&f, 0);
	assert_int_equal(dirty_start(d, tell, NULL, &err), -EIO);
	assert_non_null(strstr(err.message, "fake:: logging which pages it writes: made to fail"));
	f.start_fails = 0;
	start(d);
	f.report_fails = -EPROTO;
	assert_int_equal(dirty_sync(d, &err), -EPROTO);
	assert_non_null(strstr(err.message, "fake:: which pages it wrote of 0x3e8000 bytes at IOVA 0x100000000"));
	dirty_free(d);
}

static void what_is_unmapped_is_not_lost(void **state)
{
	struct fake f;
	bool pages[PAGES];
	(void)state;
	fake_init(&f, true, false);
	struct dirty *d = tracker(&f, 0);
	assert_int_equal(vfmig_device_dma_map(&f.device, IOVA, 100 * PAGE, 0, 0, 3, NULL), 0);
	assert_int_equal(vfmig_device_dma_map(&f.device, IOVA + 500 * PAGE, 100 * PAGE, 0, 0, 3, NULL), 0);
	start(d);
	take_all(d, false, pages);
	f.written[520] = true;
	assert_int_equal(vfmig_device_dma_unmap(&f.device, IOVA + 500 * PAGE, 100 * PAGE, NULL), 0);
	assert_int_equal(take_all(d, false, pages), 2); /* and the one that it wrote last */
	assert_true(pages[500] && pages[520]);
	f.reports = 0;
	assert_int_equal(dirty_sync(d, NULL), 0);
	assert_int_equal(f.reports, 1);

	/* Mapped again inside of what is logged: as before. */
	assert_int_equal(vfmig_device_dma_map(&f.device, IOVA + 550 * PAGE, 10 * PAGE, 0, 0, 3, NULL), 0);
	f.written[555] = true;
	assert_int_equal(dirty_sync(d, NULL), 0);
	assert_int_equal(take_all(d, false, pages), 1);
	assert_true(pages[555]);
	assert_string_equal(told, "");

	/* Nobody knows what a failed one did. */
	f.unmap_fails = -EIO;
	assert_int_equal(vfmig_device_dma_unmap(&f.device, IOVA + 550 * PAGE, 10 * PAGE, NULL), -EIO);
	assert_int_equal(take_all(d, false, pages), 10);

	/* Outside: only once it is stopped. */
	assert_int_equal(vfmig_device_dma_map(&f.device, IOVA + 700 * PAGE, 10 * PAGE, 0, 0, 3, NULL), 0);
	assert_non_null(strstr(told, "mapped after its log began"));
	assert_int_equal(take_all(d, false, pages), 0);
	assert_int_equal(take_all(d, true, pages), PAGES);
	dirty_free(d);
	fake_clear(&f);
}

static int source_start_fails;
static unsigned source_stops;

static int source_start_fn(void *opaque, struct vfmig_error *err)
{
	(void)opaque;
	return source_start_fails ? error_set(err, source_start_fails, "made to fail") : 0;
}

static int source_sync_fn(void *opaque, struct vfmig_error *err)
{
	static const uint64_t bitmap[] = { 0x5 };
	int r = dirty_mark(opaque, 0, PAGE + 1, PAGE, err); /* a byte of one page, the rest of another */
	return r < 0 ? r : dirty_merge(opaque, 0, 10 * PAGE, 5 * PAGE, 2 * PAGE, bitmap, err);
}

static void source_stop_fn(void *opaque)
{
	(void)opaque;
	source_stops++;
}

static void others_tell_as_well(void **state)
{
	static const struct dirty_source_ops ops = { source_start_fn, source_sync_fn, source_stop_fn };
	bool pages[PAGES];
	(void)state;
	struct dirty *d = tracker(NULL, 0);
	source_stops = 0;
	assert_int_equal(dirty_add_source(d, &ops, d, NULL), 0);
	source_start_fails = -EPERM;
	assert_int_equal(dirty_start(d, NULL, NULL, NULL), -EPERM);
	source_start_fails = 0;
	start(d);
	take_all(d, false, pages);
	assert_int_equal(dirty_sync(d, NULL), 0);
	assert_int_equal(take_all(d, false, pages), 5);
	assert_true(pages[1] && pages[2] && pages[10] && pages[11] && pages[14]);
	dirty_stop(d);
	dirty_stop(d);
	assert_int_equal(source_stops, 1);
	dirty_free(d);
}

static void nonsense_is_refused(void **state)
{
	static const uint64_t bitmap[] = { 1 };
	struct fake f;
	(void)state;
	fake_init(&f, true, false);
	struct dirty *d = tracker(&f, 0);
	assert_int_equal(dirty_add_device(d, &f.device, NULL), -EBUSY);
	assert_int_equal(dirty_add_block(d, 0, NULL), -EINVAL);
	assert_int_equal(dirty_add_block(d, PAGE + 1, NULL), -EINVAL);
	assert_int_equal(dirty_add_block(d, UINT64_MAX - PAGE + 1, NULL), -EINVAL);
	assert_int_equal(dirty_add_window(d, 1, 0, PAGE, 0, NULL), -EINVAL);
	assert_int_equal(dirty_add_window(d, 0, PAGE, PAGES * PAGE, 0, NULL), -EINVAL);
	assert_int_equal(dirty_add_window(d, 0, 0, PAGE, UINT64_MAX - PAGE + 1, NULL), -EINVAL);
	assert_int_equal(dirty_add_window(d, 0, 0, PAGE, IOVA + PAGE, NULL), -EEXIST);
	assert_int_equal(dirty_mark(d, 1, 0, 1, NULL), -EINVAL);
	assert_int_equal(dirty_mark(d, 0, PAGES * PAGE, 1, NULL), -EINVAL);
	assert_int_equal(dirty_mark(d, 0, UINT64_MAX, 2, NULL), -EINVAL);
	assert_int_equal(dirty_merge(d, 0, 0, PAGE, 3 * PAGE, bitmap, NULL), -EINVAL);
	assert_int_equal(dirty_merge(d, 0, 0, PAGE, PAGE / 2, bitmap, NULL), -EINVAL);
	assert_int_equal(dirty_merge(d, 0, 0, PAGE + 1, PAGE, bitmap, NULL), -EINVAL);
	dirty_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_pages_are_dirty_at_the_start),
		cmocka_unit_test(what_a_log_tells_is_dirty),
		cmocka_unit_test(a_write_after_the_taking_comes_again),
		cmocka_unit_test(larger_pages_are_several_of_ours),
		cmocka_unit_test(neighbours_are_logged_as_one_and_reported_alone),
		cmocka_unit_test(the_next_best_log_is_taken),
		cmocka_unit_test(a_failing_log_fails),
		cmocka_unit_test(what_is_unmapped_is_not_lost),
		cmocka_unit_test(others_tell_as_well),
		cmocka_unit_test(nonsense_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
