/* SPDX-License-Identifier: BSD-3-Clause */
/* report_text.c: a report's words: what happened, what a step is, and text that is nothing but text. */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "output.h"
#include "read_text.h"
#include "report.h"

static const struct {
	const char *meaning, *hint;
} steps[] = {
	[VFMIG_DOWNTIME_STOP_PREPARE] = { "to P2P, stop command",
					  "It is the time of --stop-command (the guest) and of the driver" },
	[VFMIG_DOWNTIME_STOP] = { "devices stop", "It is the driver's time" },
	[VFMIG_DOWNTIME_COMPLETE] = { "the last data",
				      "A lower --downtime-limit leaves less of it; a faster link or --multifd sends it "
				      "sooner" },
	[VFMIG_DOWNTIME_SETTLE] = { "out of stop-and-copy", "It is the driver's time" },
	[VFMIG_DOWNTIME_STATE] = { "config space", "" },
	[VFMIG_DOWNTIME_FINISH] = { "end of the stream", "" },
	[VFMIG_DOWNTIME_CONFIRM] = { "other side's answer",
				     "The report of the load tells what the other side did with it" },
	[VFMIG_DOWNTIME_RECEIVE] = { "the last data arrives", "The report of the save tells why it took so long" },
	[VFMIG_DOWNTIME_LOAD_COMPLETE] = { "verified, config space", "" },
	[VFMIG_DOWNTIME_AGREE] = { "stop, source decides", "It is the driver's time, and the way there and back" },
	[VFMIG_DOWNTIME_START_PREPARE] = { "to P2P", "It is the driver's time" },
	[VFMIG_DOWNTIME_START] = { "start, resume command",
				   "It is the driver's time and that of --resume-command (the guest)" },
};

/* Is there nobody at the link's other end who could answer? */
static bool one_way(const struct report *r)
{
	return r->link && strncmp(r->link, "unix:", 5) && strncmp(r->link, "tcp:", 4) && strncmp(r->link, "fd:", 3);
}

const char *report_step_meaning(const struct report *r, enum vfmig_downtime_step step)
{
	return step == VFMIG_DOWNTIME_CONFIRM && one_way(r) ? "the link keeps it" : steps[step].meaning;
}

const char *report_step_hint(const struct report *r, enum vfmig_downtime_step step)
{
	return step == VFMIG_DOWNTIME_CONFIRM && one_way(r)
		   ? "It is the time of the disk, which has to have all of it, or of the link's command"
		   : steps[step].hint;
}

uint64_t report_stopped_at(const struct report *r)
{
	return r->elapsed_ns - r->downtime_ns;
}

uint64_t report_whole(double value)
{
	return value > 0 && value < 1e19 ? (uint64_t)value : value > 0 ? UINT64_C(10000000000000000000) : 0;
}

const char *report_ns(uint64_t ns, char *buffer)
{
	static const struct {
		uint64_t from, unit;
		const char *name;
	} units[] = { { 120 * NS_PER_S, 60 * NS_PER_S, "min" },
		      { NS_PER_S, NS_PER_S, "s" },
		      { NS_PER_MS, NS_PER_MS, "ms" },
		      { 1000, 1000, "µs" } };
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		double value = (double)ns / (double)units[i].unit;
		if (ns < units[i].from)
			continue;
		snprintf(buffer, OUTPUT_NUMBER_MAX, "%.*f %s",
			 value < 10    ? 2
			 : value < 100 ? 1
				       : 0,
			 value, units[i].name);
		return buffer;
	}
	snprintf(buffer, OUTPUT_NUMBER_MAX, "%" PRIu64 " ns", ns);
	return buffer;
}

void report_outcome(const struct report *r, char *text, size_t size)
{
	const char *what = r->is_load ? "The load" : "The save";
	char a[OUTPUT_NUMBER_MAX], b[OUTPUT_NUMBER_MAX];
	if (!r->has_result)
		snprintf(text, size, "%s has not ended in this file", what);
	else if (r->failed || r->cancelled)
		snprintf(text, size, "%s %s after %s", what, r->failed ? "failed" : "was cancelled",
			 report_ns(r->elapsed_ns, a));
	else
		snprintf(text, size, "%s was done in %s, the devices were stopped for %s", what,
			 report_ns(r->elapsed_ns, a), report_ns(r->downtime_ns, b));
}

static bool longest_step(const struct report *r, char *text, size_t size)
{
	char ns[OUTPUT_NUMBER_MAX];
	const struct report_step *most = NULL;
	for (size_t i = 0; i < r->num_steps; i++)
		if (!most || r->steps[i].ns > most->ns)
			most = &r->steps[i];
	if (!most || !most->ns || !r->downtime_ns)
		return false;
	const char *hint = report_step_hint(r, most->step);
	snprintf(text, size, "Most of the downtime went into %s (%s): %s, %.0f %%.%s%s%s",
		 vfmig_downtime_step_name(most->step), report_step_meaning(r, most->step), report_ns(most->ns, ns),
		 100 * (double)most->ns / (double)r->downtime_ns, *hint ? " " : "", hint, *hint ? "." : "");
	return true;
}

static bool against_limit(const struct report *r, char *text, size_t size)
{
	char got[OUTPUT_NUMBER_MAX], limit[OUTPUT_NUMBER_MAX];
	if (!r->downtime_limit_ns || r->downtime_ns <= r->downtime_limit_ns)
		return false;
	snprintf(text, size, "The downtime of %s is longer than the limit of %s.", report_ns(r->downtime_ns, got),
		 report_ns(r->downtime_limit_ns, limit));
	return true;
}

static bool against_foretold(const struct report *r, char *text, size_t size)
{
	char got[OUTPUT_NUMBER_MAX], foretold[OUTPUT_NUMBER_MAX];
	if (!r->expected_ns || !r->downtime_ns || r->failed || r->downtime_ns < 2 * r->expected_ns ||
	    r->downtime_ns - r->expected_ns < 10 * NS_PER_MS)
		return false;
	snprintf(text, size, "%s were foretold when the devices were stopped; it became %s.",
		 report_ns(r->expected_ns, foretold), report_ns(r->downtime_ns, got));
	return true;
}

static bool not_stopped(const struct report *r, char *text, size_t size)
{
	char bytes[OUTPUT_NUMBER_MAX], ns[OUTPUT_NUMBER_MAX];
	const struct report_point *last = &r->points[r->num_points - 1];
	if (r->downtime_ns || r->is_load)
		return false;
	bool above = r->downtime_limit_ns && r->expected_ns > r->downtime_limit_ns;
	snprintf(
	    text, size, "The devices were never stopped; at the end %s were pending, an expected downtime of %s.%s",
	    output_bytes(last->pending_bytes, bytes), r->expected_ns ? report_ns(r->expected_ns, ns) : "unknown length",
	    above ? " A higher --downtime-limit or --max-bandwidth, a faster link, or devices that write less would "
		    "let it come to an end."
		  : "");
	return true;
}

static bool who_runs(const struct report *r, char *text, size_t size)
{
	if (!r->failed && !r->cancelled)
		return false;
	if (r->is_load)
		snprintf(text, size, "%s",
			 r->source_may_run ? "Nothing of the load is at work in the devices."
					   : "The devices stay stopped, or with a part of the load.");
	else
		snprintf(text, size, "%s",
			 r->source_may_run ? "The devices were put back to what they were before."
					   : "The other side may have everything, so the devices stay stopped here.");
	return true;
}

static bool warnings(const struct report *r, char *text, size_t size)
{
	size_t count = 0;
	for (size_t i = 0; i < r->num_lines; i++)
		count += r->lines[i].level && !strcmp(r->lines[i].level, "warning");
	snprintf(text, size, "There %s %zu warning%s, see below.", count == 1 ? "was" : "were", count,
		 count == 1 ? "" : "s");
	return count > 0;
}

static bool ends_early(const struct report *r, char *text, size_t size)
{
	snprintf(text, size, "The file ends before the result%s: the program was killed, or it goes on.",
		 r->ends_early ? ", in the middle of a line" : "");
	return !r->has_result;
}

bool report_finding(const struct report *r, unsigned n, char *text, size_t size)
{
	static bool (*const findings[])(const struct report *, char *, size_t) = {
		ends_early, who_runs, not_stopped, against_limit, longest_step, against_foretold, warnings,
	};
	unsigned found = 0;
	for (size_t i = 0; i < sizeof(findings) / sizeof(findings[0]); i++)
		if (findings[i](r, text, size) && found++ == n)
			return true;
	return false;
}

/* ------------------------------------------------------------------- text */

static size_t put_one(FILE *f, const char *text)
{
	size_t n = text_character(text);
	if (n == 0)
		fputs("\xef\xbf\xbd", f);
	else if (strchr("&<>\"'", *text))
		fprintf(f, "&#%d;", *text);
	else
		fwrite(text, 1, n, f);
	return n ? n : 1;
}

void report_put(FILE *f, const char *text)
{
	while (*text)
		text += put_one(f, text);
}

void report_put_tail(FILE *f, const char *text, size_t most)
{
	size_t count = 0;
	for (const char *s = text; *s; count++)
		s += max_u64(text_character(s), 1);
	if (count > most)
		fputs("\xe2\x80\xa6", f);
	for (size_t skip = count > most ? count - most + 1 : 0; skip; skip--)
		text += max_u64(text_character(text), 1);
	report_put(f, text);
}
