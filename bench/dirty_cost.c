/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty_cost.c [--json] [GIB...]: what a report of dirty pages and a round of pre-copy cost, against memcpy.
 *
 * A report is dirty_sync of a device whose log has so many pages set. A round is a save's: the report merged, pages
 * taken, read, looked at for zeros, written as a section, digested, and taken by a link that throws them away. The
 * measure is memcpy of the same pages into a buffer of 1 MiB. All by turns: A B A B; medians, least and most. Nothing
 * waits, so it is the processor's time: what else a machine does counts less. Only pages that are ever dirty have
 * memory, a fifth of all.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "dirty/dirty.h"

#define TURNS 7
#define TAKE_PAGES 64 /* as memory_save.c */
#define COPY_BYTES (1u << 20)

enum { REPORT, TAKE, ROUND, MEASURES };
static const char *const measure_names[] = { [REPORT] = "report", [TAKE] = "take", [ROUND] = "round" };

static struct config {
	unsigned int permille;
	bool scattered;
	uint64_t pages;
	uint64_t *bits;
	double ns[MEASURES][TURNS], ratio[MEASURES][TURNS]; /* to memcpy right behind it */
	double copy_ns[MEASURES][TURNS];
} configs[] = { { 1, true }, { 1, false }, { 10, true }, { 10, false }, { 100, true }, { 100, false } };

#define CONFIGS (sizeof(configs) / sizeof(configs[0]))

struct bench {
	uint64_t bytes;
	int fd;
	uint8_t *memory, *buffer;
	uint64_t words; /* of a bitmap */
	/* of a save's rounds */
	struct vfmig_save *save;
	size_t round; /* how many have begun: turn * CONFIGS + config, the first turn not counted */
	uint64_t begun_ns, done_pages;
};

static void die(const char *what, const struct vfmig_error *err)
{
	fprintf(stderr, "dirty_cost: %s%s%s\n", what, err ? ": " : "", err ? err->message : "");
	exit(1);
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* ------------------------------------------------------------------- memory */

static uint64_t mix(uint64_t n)
{
	n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
	return n ^ n >> 31;
}

/* Scattered pages of a smaller part are among those of a larger one; the others are the first ones. */
static bool is_dirty(const struct config *c, uint64_t page, uint64_t pages)
{
	return c->scattered ? mix(page + 1) % 1000 < c->permille : page < pages * c->permille / 1000;
}

static void open_memory(struct bench *b)
{
	uint64_t pages = b->bytes / DIRTY_PAGE;
	b->fd = memfd_create("dirty_cost", MFD_CLOEXEC);
	if (b->fd < 0 || ftruncate(b->fd, (off_t)b->bytes) < 0)
		die("memfd", NULL);
	b->memory = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	b->buffer = malloc(COPY_BYTES);
	b->words = bitmap_words(pages);
	if (b->memory == MAP_FAILED || !b->buffer)
		die("no memory", NULL);
	memset(b->buffer, 0, COPY_BYTES);
	for (size_t i = 0; i < CONFIGS; i++) {
		struct config *c = &configs[i];
		c->pages = 0;
		c->bits = calloc(b->words, sizeof(*c->bits));
		if (!c->bits)
			die("no memory", NULL);
		for (uint64_t page = 0; page < pages; page++)
			if (is_dirty(c, page, pages)) {
				c->pages += bitmap_set(c->bits, page, 1);
				memset(b->memory + page * DIRTY_PAGE, (int)(page % 255 + 1), DIRTY_PAGE);
			}
	}
}

static void close_memory(struct bench *b)
{
	for (size_t i = 0; i < CONFIGS; i++)
		free(configs[i].bits);
	munmap(b->memory, b->bytes);
	close(b->fd);
	free(b->buffer);
}

/* What it is measured by. */
static double copy_ns(const struct bench *b, const struct config *c)
{
	uint64_t from_ns = cpu_ns(), first, count, used = 0;
	for (uint64_t at = 0; bitmap_next_run(c->bits, at, b->bytes / DIRTY_PAGE, &first, &count); at = first + count)
		for (uint64_t page = first; page < first + count; page++) {
			memcpy(b->buffer + used, b->memory + page * DIRTY_PAGE, DIRTY_PAGE);
			__asm__ volatile("" : : "r"(b->buffer) : "memory");
			used = (used + DIRTY_PAGE) % COPY_BYTES;
		}
	return (double)(cpu_ns() - from_ns);
}

static void keep(struct bench *b, struct config *c, int measure, size_t turn, double ns)
{
	c->ns[measure][turn] = ns;
	c->copy_ns[measure][turn] = copy_ns(b, c);
	c->ratio[measure][turn] = ns / c->copy_ns[measure][turn];
}

/* ------------------------------------------------------------------ reports */

/* A device that knows at once which pages it has written. */
struct made_device {
	struct access access;
	const uint64_t *bits;
};

static int made_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
		      uint64_t *page_size, struct vfmig_error *err)
{
	(void)a, (void)log, (void)ranges, (void)count, (void)err;
	*page_size = DIRTY_PAGE;
	return 0;
}

static int made_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
		       uint64_t *bitmap, struct vfmig_error *err)
{
	const struct made_device *d = (const void *)a;
	(void)log, (void)iova, (void)err;
	for (uint64_t i = 0; i < bitmap_words(length / page_size); i++)
		bitmap[i] |= d->bits[i];
	return 0;
}

static int made_stop(struct access *a, enum access_log log, struct vfmig_error *err)
{
	(void)a, (void)log, (void)err;
	return 0;
}

static const struct access_ops made_ops = {
	.kind = "made", .dirty_start = made_start, .dirty_report = made_report, .dirty_stop = made_stop,
};

static uint64_t take_all(struct dirty *d, uint64_t most)
{
	struct dirty_run run;
	uint64_t pages = 0;
	while (dirty_take(d, false, most, &run))
		pages += run.count;
	return pages;
}

static void measure_report(struct bench *b, struct dirty *d, struct config *c, size_t turn)
{
	struct vfmig_error err;
	uint64_t from_ns = cpu_ns();
	if (dirty_sync(d, &err) < 0)
		die("report", &err);
	uint64_t to_ns = cpu_ns();
	keep(b, c, REPORT, turn, (double)(to_ns - from_ns));
	from_ns = cpu_ns();
	uint64_t pages = take_all(d, TAKE_PAGES);
	to_ns = cpu_ns();
	if (pages != c->pages)
		die("a report lost pages", NULL);
	keep(b, c, TAKE, turn, (double)(to_ns - from_ns));
}

static void measure_reports(struct bench *b)
{
	struct made_device made = { .access = { .ops = &made_ops, .name = "made" } };
	struct vfmig_device device = { .access = &made.access };
	struct vfmig_error err;
	struct dirty *d;
	if (dirty_new(&d, &err) < 0 || dirty_add_block(d, b->bytes, &err) < 0 ||
	    dirty_add_window(d, 0, 0, b->bytes, 0, &err) < 0 || dirty_add_device(d, &device, &err) < 0 ||
	    dirty_start(d, NULL, NULL, &err) < 0)
		die("tracker", &err);
	take_all(d, UINT64_MAX);
	for (size_t turn = 0; turn <= TURNS; turn++) /* the first one warms up and is overwritten */
		for (size_t i = 0; i < CONFIGS; i++) {
			made.bits = configs[i].bits;
			measure_report(b, d, &configs[i], turn ? turn - 1 : 0);
		}
	dirty_free(d);
}

/* ------------------------------------------------------------------- rounds */

static uint64_t pages_done(const struct bench *b)
{
	struct vfmig_status status;
	vfmig_save_status(b->save, &status);
	return status.memory_pages + status.memory_zero_pages;
}

static void end_round(struct bench *b)
{
	struct config *c = &configs[(b->round - 1) % CONFIGS];
	size_t turn = (b->round - 1) / CONFIGS;
	double ns = (double)(cpu_ns() - b->begun_ns);
	if (pages_done(b) - b->done_pages != c->pages)
		die("a round was cut short", NULL);
	keep(b, c, ROUND, turn ? turn - 1 : 0, ns);
}

/* A save asks when nothing is left to be sent: there a round ends, and another one begins. */
static int next_round(void *opaque, struct vfmig_memory *memory, struct vfmig_error *err)
{
	struct bench *b = opaque;
	if (b->round)
		end_round(b);
	const struct config *c = &configs[b->round++ % CONFIGS];
	b->done_pages = pages_done(b);
	b->begun_ns = cpu_ns();
	return vfmig_memory_merge_dirty(memory, "ram", 0, b->bytes, DIRTY_PAGE, c->bits, err);
}

static void measure_rounds(struct bench *b)
{
	static const struct vfmig_dirty_ops ops = { .size = sizeof(ops), .sync = next_round };
	/* A downtime that is never foreseen: round follows round. */
	struct vfmig_save_options options = { .size = sizeof(options), .downtime_limit_ns = 1 };
	struct vfmig_memory *memory;
	struct vfmig_link *link;
	struct vfmig_error err;
	if (vfmig_memory_new(&memory, &err) < 0 || vfmig_memory_add_fd(memory, "ram", b->fd, 0, b->bytes, &err) < 0 ||
	    vfmig_memory_add_dirty_ops(memory, &ops, b, &err) < 0 ||
	    vfmig_link_open("null:", VFMIG_SAVE, NULL, &link, &err) < 0 ||
	    vfmig_save_new(link, &options, &b->save, &err) < 0 || vfmig_save_add_memory(b->save, memory, &err) < 0)
		die("save", &err);
	b->round = 0;
	while (b->round <= (TURNS + 1) * CONFIGS) {
		int r = vfmig_save_step(b->save, &err);
		if (r != VFMIG_STEP_AGAIN)
			die("save", r < 0 ? &err : NULL);
	}
	vfmig_save_free(b->save);
	vfmig_link_close(link);
	vfmig_memory_free(memory);
}

/* ------------------------------------------------------------------ results */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* Least, median, most. */
static void spread(const double values[TURNS], double ret[3])
{
	double sorted[TURNS];
	memcpy(sorted, values, sizeof(sorted));
	qsort(sorted, TURNS, sizeof(sorted[0]), compare);
	ret[0] = sorted[0];
	ret[1] = sorted[TURNS / 2];
	ret[2] = sorted[TURNS - 1];
}

static void print_text(uint64_t gib, const struct config *c, int measure)
{
	double ns[3], copy[3], ratio[3];
	spread(c->ns[measure], ns);
	spread(c->copy_ns[measure], copy);
	spread(c->ratio[measure], ratio);
	printf("%4llu %6.1f %-10s %-6s %11.3f %11.3f %11.3f %11.3f %9.4f %8.4f to %.4f\n", (unsigned long long)gib,
	       c->permille / 10.0, c->scattered ? "scattered" : "contiguous", measure_names[measure], ns[1] / 1e6,
	       ns[0] / 1e6, ns[2] / 1e6, copy[1] / 1e6, ratio[1], ratio[0], ratio[2]);
	fflush(stdout);
}

static void add_spread(struct json_object *o, const char *name, const double values[TURNS])
{
	double least_median_most[3];
	struct json_object *a = json_object_new_array();
	spread(values, least_median_most);
	for (int i = 0; i < 3; i++)
		json_object_array_add(a, json_object_new_double(least_median_most[i]));
	json_object_object_add(o, name, a);
}

static struct json_object *config_json(uint64_t gib, const struct config *c, int measure)
{
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "memory_bytes", json_object_new_uint64(gib << 30));
	json_object_object_add(o, "dirty_permille", json_object_new_uint64(c->permille));
	json_object_object_add(o, "dirty_pages", json_object_new_uint64(c->pages));
	json_object_object_add(o, "layout", json_object_new_string(c->scattered ? "scattered" : "contiguous"));
	json_object_object_add(o, "measure", json_object_new_string(measure_names[measure]));
	add_spread(o, "ns", c->ns[measure]);
	add_spread(o, "memcpy_ns", c->copy_ns[measure]);
	add_spread(o, "ratio", c->ratio[measure]);
	return o;
}

static void run(uint64_t gib, struct json_object *results)
{
	struct bench b = { .bytes = gib << 30 };
	open_memory(&b);
	measure_reports(&b);
	measure_rounds(&b);
	for (size_t i = 0; i < CONFIGS; i++)
		for (int measure = 0; measure < MEASURES; measure++)
			if (results)
				json_object_array_add(results, config_json(gib, &configs[i], measure));
			else
				print_text(gib, &configs[i], measure);
	close_memory(&b);
}

int main(int argc, char **argv)
{
	static const char *const usual[] = { "1", "4", "16" };
	struct json_object *results = NULL;
	if (argc > 1 && !strcmp(argv[1], "--json")) {
		results = json_object_new_array();
		argc--;
		argv++;
	} else {
		printf("dirty pages: least, median and most of %d turns, and their ratio to memcpy of the pages\n",
		       TURNS);
		printf("%4s %6s %-10s %-6s %11s %11s %11s %11s %9s %18s\n", "GiB", "dirty%", "", "", "median ms",
		       "least ms", "most ms", "memcpy ms", "ratio", "least to most");
	}
	const char *const *sizes = argc > 1 ? (const char *const *)argv + 1 : usual;
	for (int i = 0; i < (argc > 1 ? argc - 1 : 3); i++) {
		uint64_t gib = strtoull(sizes[i], NULL, 10);
		if (gib < 1 || gib > 1024)
			die("expected [--json] [GIB...]", NULL);
		run(gib, results);
	}
	if (results)
		printf("%s\n", json_object_to_json_string_ext(results, JSON_C_TO_STRING_PLAIN));
	json_object_put(results);
	return 0;
}
