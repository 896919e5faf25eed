/* SPDX-License-Identifier: BSD-3-Clause */
/* dirty_print.c: what vfmig dirty has measured, as text and as JSON. */
#include <inttypes.h>

#include "base/clock.h"
#include "dirty_rate.h"
#include "output.h"

static const char *log_name(const struct dirty_rate *rate)
{
	return rate->log == ACCESS_LOG_DEVICE ? "device" : "mappings";
}

static uint64_t bytes_per_s(const struct dirty_rate *rate, uint64_t pages)
{
	return dirty_rate_per_s(rate, pages * DIRTY_PAGE);
}

/* "yes", "no", or, when that depends on which pages are written again, "perhaps". */
static const char *within_limit(const struct dirty_forecast *f, uint64_t limit_ns)
{
	return f->most_ns <= limit_ns ? "yes" : f->least_ns > limit_ns ? "no" : "perhaps";
}

/* --------------------------------------------------------------------- JSON */

static void add_number(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

static struct json_object *part_json(const struct dirty_rate *rate, const struct dirty_part *p)
{
	const struct memory_block *b = &rate->memory->blocks[p->block];
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "block", output_string(b->name));
	add_number(o, "offset", p->first * DIRTY_PAGE);
	add_number(o, "length", p->pages * DIRTY_PAGE);
	add_number(o, "iova", b->iova + p->first * DIRTY_PAGE);
	add_number(o, "pages", p->written);
	add_number(o, "pages_per_s", dirty_rate_per_s(rate, p->written));
	add_number(o, "bytes_per_s", bytes_per_s(rate, p->written));
	add_number(o, "working_set_pages", p->ever);
	return o;
}

static struct json_object *forecast_json(const struct dirty_rate *rate, const struct dirty_print *p)
{
	if (!p->bandwidth_bytes_per_s)
		return NULL;
	struct dirty_forecast f = dirty_rate_forecast(rate, p->bandwidth_bytes_per_s);
	struct json_object *o = json_object_new_object();
	add_number(o, "bandwidth_bytes_per_s", f.bandwidth_bytes_per_s);
	json_object_object_add(o, "load", json_object_new_double(f.load));
	json_object_object_add(o, "converges", json_object_new_boolean(f.converges));
	add_number(o, "first_pass_ns", f.first_pass_ns);
	add_number(o, "least_pages", f.least_pages);
	add_number(o, "most_pages", f.most_pages);
	add_number(o, "least_downtime_ns", f.least_ns);
	add_number(o, "most_downtime_ns", f.most_ns);
	json_object_object_add(o, "within_limit", output_string(within_limit(&f, p->limit_ns)));
	return o;
}

void dirty_print_json(FILE *file, const struct dirty_rate *rate, const struct dirty_print *p)
{
	struct json_object *o = json_object_new_object(), *ranges = json_object_new_array();
	json_object_object_add(o, "uri", output_string(rate->uri));
	json_object_object_add(o, "log", output_string(log_name(rate)));
	add_number(o, "log_page_bytes", rate->log_page_bytes);
	add_number(o, "interval_ns", rate->interval_ns);
	add_number(o, "elapsed_ns", rate->elapsed_ns);
	add_number(o, "pages", rate->written);
	add_number(o, "pages_per_s", dirty_rate_per_s(rate, rate->written));
	add_number(o, "bytes_per_s", bytes_per_s(rate, rate->written));
	add_number(o, "working_set_pages", rate->working_set);
	add_number(o, "memory_pages", rate->memory_pages);
	for (size_t i = 0; i < rate->num_parts; i++)
		if (rate->parts[i].ever)
			json_object_array_add(ranges, part_json(rate, &rate->parts[i]));
	json_object_object_add(o, "ranges", ranges);
	add_number(o, "downtime_limit_ns", p->limit_ns);
	add_number(o, "needed_bytes_per_s", dirty_rate_needed(rate, p->limit_ns));
	json_object_object_add(o, "forecast", forecast_json(rate, p));
	output_json(file, o, false);
}

/* --------------------------------------------------------------------- text */

/* "at most 1.20 s", "12.0 ms to 1.20 s", or one time. */
static const char *span(const struct dirty_forecast *f, char buffer[2 * OUTPUT_NUMBER_MAX + 16])
{
	char least[OUTPUT_NUMBER_MAX], most[OUTPUT_NUMBER_MAX];
	output_ns(f->most_ns, most);
	if (f->least_pages == f->most_pages)
		snprintf(buffer, 2 * OUTPUT_NUMBER_MAX + 16, "%s", most);
	else if (!f->least_pages)
		snprintf(buffer, 2 * OUTPUT_NUMBER_MAX + 16, "at most %s", most);
	else
		snprintf(buffer, 2 * OUTPUT_NUMBER_MAX + 16, "%s to %s", output_ns(f->least_ns, least), most);
	return buffer;
}

static void print_parts(FILE *file, const struct dirty_rate *rate)
{
	char speed[OUTPUT_NUMBER_MAX];
	if (!rate->working_set)
		return;
	fprintf(file, "\n  %-12s %14s %14s %14s %10s %12s %11s\n", "block", "offset", "length", "IOVA", "pages/s",
		"bytes/s", "working set");
	for (size_t i = 0; i < rate->num_parts; i++) {
		const struct dirty_part *p = &rate->parts[i];
		const struct memory_block *b = &rate->memory->blocks[p->block];
		if (!p->ever)
			continue;
		fprintf(file, "  %-12s %#14" PRIx64 " %#14" PRIx64 " %#14" PRIx64, b->name, p->first * DIRTY_PAGE,
			p->pages * DIRTY_PAGE, b->iova + p->first * DIRTY_PAGE);
		fprintf(file, " %10" PRIu64 " %10s/s %5" PRIu64 " pages\n", dirty_rate_per_s(rate, p->written),
			output_bytes(bytes_per_s(rate, p->written), speed), p->ever);
	}
}

static void print_forecast(FILE *file, const struct dirty_rate *rate, const struct dirty_print *p)
{
	char a[OUTPUT_NUMBER_MAX], b[OUTPUT_NUMBER_MAX], times[2 * OUTPUT_NUMBER_MAX + 16];
	if (rate->written)
		fprintf(file, "  needed       %s/s for pre-copy to converge with a downtime of at most %s for memory\n",
			output_bytes(dirty_rate_needed(rate, p->limit_ns), a), output_ns(p->limit_ns, b));
	if (!p->bandwidth_bytes_per_s)
		return;
	struct dirty_forecast f = dirty_rate_forecast(rate, p->bandwidth_bytes_per_s);
	const char *within = within_limit(&f, p->limit_ns);
	fprintf(file, "  at %s/s pre-copy %s: the pages written again take %.0f %% of it\n",
		output_bytes(f.bandwidth_bytes_per_s, a), f.converges ? "converges" : "does not converge",
		f.load * 100);
	fprintf(file, "               the first pass over all memory takes up to %s\n", output_ns(f.first_pass_ns, a));
	fprintf(file, "               downtime for memory %s, %s the limit of %s\n", span(&f, times),
		*within == 'y' ? "within" : *within == 'n' ? "above" : "perhaps above", output_ns(p->limit_ns, b));
}

void dirty_print_all(FILE *file, const struct dirty_rate *rate, const struct dirty_print *p)
{
	char a[OUTPUT_NUMBER_MAX], b[OUTPUT_NUMBER_MAX];
	fprintf(file, "%s\n", rate->uri);
	fprintf(file, "  log          by %s, in pages of %s\n",
		rate->log == ACCESS_LOG_DEVICE ? "the device itself" : "what its memory is mapped through",
		output_bytes(rate->log_page_bytes, a));
	fprintf(file, "  written      %" PRIu64 " pages in %s: %" PRIu64 " pages/s, %s/s\n", rate->written,
		output_ns(rate->interval_ns, a), dirty_rate_per_s(rate, rate->written),
		output_bytes(bytes_per_s(rate, rate->written), b));
	fprintf(file, "  working set  %" PRIu64 " pages, %s of %s\n", rate->working_set,
		output_bytes(rate->working_set * DIRTY_PAGE, a), output_bytes(rate->memory_pages * DIRTY_PAGE, b));
	print_forecast(file, rate, p);
	print_parts(file, rate);
	fflush(file);
}

void dirty_print_head(FILE *file, const struct dirty_print *p)
{
	char a[OUTPUT_NUMBER_MAX], title[OUTPUT_NUMBER_MAX + 16] = "";
	if (p->bandwidth_bytes_per_s)
		snprintf(title, sizeof(title), "downtime at %s/s", output_bytes(p->bandwidth_bytes_per_s, a));
	fprintf(file, "%9s %9s %9s %12s %12s  %-34s  %s\n", "time", "pages", "pages/s", "bytes/s", "working set",
		"most of it in", title);
}

/* Where most of the last interval's pages are; NULL: nowhere. */
static const struct dirty_part *hottest(const struct dirty_rate *rate)
{
	const struct dirty_part *hot = NULL;
	for (size_t i = 0; i < rate->num_parts; i++)
		if (rate->parts[i].written > (hot ? hot->written : 0))
			hot = &rate->parts[i];
	return hot;
}

void dirty_print_line(FILE *file, const struct dirty_rate *rate, const struct dirty_print *p)
{
	char a[OUTPUT_NUMBER_MAX], b[OUTPUT_NUMBER_MAX], c[OUTPUT_NUMBER_MAX], times[2 * OUTPUT_NUMBER_MAX + 16];
	char where[WIRE_ID_MAX + 64] = "-";
	const struct dirty_part *hot = hottest(rate);
	if (hot)
		snprintf(where, sizeof(where), "%s %#" PRIx64 "+%#" PRIx64 " (%.0f %%)",
			 rate->memory->blocks[hot->block].name, hot->first * DIRTY_PAGE, hot->pages * DIRTY_PAGE,
			 (double)hot->written * 100 / (double)rate->written);
	fprintf(file, "%9s %9" PRIu64 " %9" PRIu64 " %10s/s %12s  %-34s  ", output_ns(rate->elapsed_ns, a),
		rate->written, dirty_rate_per_s(rate, rate->written), output_bytes(bytes_per_s(rate, rate->written), b),
		output_bytes(rate->working_set * DIRTY_PAGE, c), where);
	if (p->bandwidth_bytes_per_s) {
		struct dirty_forecast f = dirty_rate_forecast(rate, p->bandwidth_bytes_per_s);
		fprintf(file, "%s%s", span(&f, times), f.converges ? "" : ", does not converge");
	}
	fputc('\n', file);
	fflush(file);
}
