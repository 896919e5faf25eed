/* SPDX-License-Identifier: BSD-3-Clause */
/* dirty_rate.c: how fast and where a device writes memory: the tracker's pages, counted by intervals and by parts. */
#include "dirty_rate.h"

#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/bytes.h"
#include "base/clock.h"

#define WIRE_BYTES (WIRE_PAGE_SIZE + 8.0) /* of a page in the stream */

/* The reason why there is no log is told as a warning: a save can do without. */
static void keep_warning(void *opaque, enum vfmig_log_level level, const char *line)
{
	struct dirty_rate *rate = opaque;
	if (level == VFMIG_LOG_WARNING)
		snprintf(rate->warning, sizeof(rate->warning), "%s", line);
}

static int cut_block(struct dirty_rate *rate, size_t block, size_t parts, struct vfmig_error *err)
{
	uint64_t pages = rate->memory->blocks[block].length / DIRTY_PAGE, each = (pages + parts - 1) / parts;
	uint64_t *ever = calloc(bitmap_words(pages), sizeof(*ever));
	if (!ever)
		return error_errno(err, -ENOMEM, "dirty pages");
	rate->memory_pages += pages;
	rate->blocks[block] = (struct dirty_parts) { rate->num_parts, each, ever };
	for (uint64_t first = 0; first < pages; first += each)
		rate->parts[rate->num_parts++] = (struct dirty_part) {
			.block = block, .first = first, .pages = min_u64(each, pages - first)
		};
	return 0;
}

static int cut(struct dirty_rate *rate, size_t parts, struct vfmig_error *err)
{
	size_t count = rate->memory->count;
	int r = 0;
	rate->blocks = calloc(count, sizeof(*rate->blocks));
	rate->parts = calloc(count * parts, sizeof(*rate->parts));
	if (!rate->blocks || !rate->parts)
		return error_errno(err, -ENOMEM, "dirty pages");
	for (size_t i = 0; i < count && r == 0; i++)
		r = cut_block(rate, i, parts, err);
	return r;
}

/* At the start all pages are dirty, which says nothing. */
static void forget_all(struct dirty_rate *rate)
{
	struct dirty_run run;
	while (dirty_take(rate->memory->dirty, false, UINT64_MAX, &run))
		;
}

int dirty_rate_start(struct dirty_rate *rate, const char *uri, struct vfmig_memory *memory,
		     struct vfmig_device *device, size_t parts, struct vfmig_error *err)
{
	*rate = (struct dirty_rate) { .uri = uri, .memory = memory, .device = device };
	int r = cut(rate, parts, err);
	if (r == 0)
		r = dirty_start(memory->dirty, keep_warning, rate, err);
	if (r < 0)
		return r;
	if (!dirty_device_log(memory->dirty, device, &rate->log, &rate->log_page_bytes))
		return error_set(err, -EOPNOTSUPP, "%s", rate->warning);
	forget_all(rate);
	return 0;
}

static void count_run(struct dirty_rate *rate, const struct dirty_run *run)
{
	const struct dirty_parts *block = &rate->blocks[run->block];
	uint64_t at = run->first, end = run->first + run->count;
	rate->written += run->count;
	while (at < end) {
		struct dirty_part *p = &rate->parts[block->first_part + at / block->pages_each];
		uint64_t count = min_u64(end, p->first + p->pages) - at;
		uint64_t added = bitmap_set(block->ever, at, count);
		p->written += count;
		p->ever += added;
		rate->working_set += added;
		at += count;
	}
}

int dirty_rate_next(struct dirty_rate *rate, struct vfmig_error *err)
{
	struct dirty_run run;
	int r = dirty_sync(rate->memory->dirty, err);
	if (r < 0)
		return r;
	rate->interval_ns = dirty_stats(rate->memory->dirty).interval_ns;
	rate->elapsed_ns += rate->interval_ns;
	rate->written = 0;
	for (size_t i = 0; i < rate->num_parts; i++)
		rate->parts[i].written = 0;
	while (dirty_take(rate->memory->dirty, false, UINT64_MAX, &run))
		count_run(rate, &run);
	return 0;
}

void dirty_rate_end(struct dirty_rate *rate)
{
	dirty_stop(rate->memory->dirty);
	for (size_t i = 0; rate->blocks && i < rate->memory->count; i++)
		free(rate->blocks[i].ever);
	free(rate->blocks);
	free(rate->parts);
}

/* -------------------------------------------------------------- the forecast */

static double per_s(const struct dirty_rate *rate, double count)
{
	return rate->interval_ns ? count * (double)NS_PER_S / (double)rate->interval_ns : 0;
}

uint64_t dirty_rate_per_s(const struct dirty_rate *rate, uint64_t pages)
{
	return (uint64_t)(per_s(rate, (double)pages) + 0.5);
}

static uint64_t send_ns(uint64_t pages, uint64_t bytes_per_s)
{
	double ns = (double)pages * WIRE_BYTES / (double)bytes_per_s * (double)NS_PER_S;
	return ns < (double)INT64_MAX ? (uint64_t)ns : INT64_MAX;
}

/*
 * A round leaves what is written while it is sent. Below the bandwidth that is less and less, until a round takes no
 * longer than the interval and so leaves at most the interval's pages: as many if it is the same ones all the time,
 * next to none if each is written once. From the bandwidth on a round takes an interval or more, so it leaves at least
 * as many, and at most all that are ever written.
 */
struct dirty_forecast dirty_rate_forecast(const struct dirty_rate *rate, uint64_t bandwidth_bytes_per_s)
{
	double load = per_s(rate, (double)rate->written) * WIRE_BYTES / (double)bandwidth_bytes_per_s;
	struct dirty_forecast f = {
		.bandwidth_bytes_per_s = bandwidth_bytes_per_s,
		.load = load,
		.converges = load < 1,
		.first_pass_ns = send_ns(rate->memory_pages, bandwidth_bytes_per_s),
		.least_pages = load < 1 ? 0 : rate->written,
		.most_pages = load < 1 ? rate->written : rate->working_set,
	};
	f.least_ns = send_ns(f.least_pages, bandwidth_bytes_per_s);
	f.most_ns = send_ns(f.most_pages, bandwidth_bytes_per_s);
	return f;
}

uint64_t dirty_rate_needed(const struct dirty_rate *rate, uint64_t limit_ns)
{
	double bytes = (double)rate->written * WIRE_BYTES;
	double to_converge = per_s(rate, bytes);
	double to_stop = bytes * (double)NS_PER_S / (double)limit_ns;
	return (uint64_t)(to_converge > to_stop ? to_converge : to_stop) + (rate->written != 0);
}
