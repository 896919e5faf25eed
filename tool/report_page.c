/* SPDX-License-Identifier: BSD-3-Clause */
/* report_page.c: a report as one HTML page, or as one SVG; neither fetches anything or runs a script. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "output.h"
#include "report_draw.h"

#define LINES_MOST 200 /* of the log; warnings before anything else */
#define SVG_COLUMNS 125
#define SVG_LINE 20
#define BETWEEN_RUNS 50
#define FONT "font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"14\""

static report_figure_fn *const figures[] = { report_draw_timeline, report_draw_downtime, report_draw_expected,
					     report_draw_pending, report_draw_rate };
#define NUM_FIGURES (sizeof(figures) / sizeof(figures[0]))

static const char style[] =
	"body{font:15px/1.45 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;color:#1f2933;"
	"max-width:1040px;margin:24px auto;padding:0 20px}"
	"h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:28px 0 8px}"
	"table+h1{margin-top:64px}"
	".where{color:#5f6b7a;margin:0 0 16px;overflow-wrap:anywhere}"
	".good{color:#2b7a4b}.bad{color:#c0392b}"
	".error{border:1px solid #c0392b;border-left-width:6px;padding:8px 12px;margin:12px 0;overflow-wrap:anywhere}"
	"ul{margin:12px 0;padding-left:20px}li{margin:3px 0}"
	".numbers{display:flex;flex-wrap:wrap;gap:10px;margin:16px 0}"
	".numbers div{border:1px solid #cbd2d9;border-radius:4px;padding:8px 14px;min-width:105px}"
	".numbers b{display:block;font-size:20px;white-space:nowrap}.numbers span{color:#5f6b7a;font-size:13px}"
	"svg{display:block;width:100%;height:auto;margin:22px 0}"
	"table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:5px 10px 5px 0;vertical-align:top;"
	"border-bottom:1px solid #dfe3e8;overflow-wrap:anywhere}th{color:#5f6b7a;font-weight:600;font-size:13px}"
	".devices{table-layout:fixed}.devices th:nth-child(1){width:30%}.devices th:nth-child(2){width:19%}"
	".devices th:nth-child(3){width:11%}"
	".log td:first-child{white-space:nowrap;width:65px}"
	"td.n{text-align:right;white-space:nowrap}th.n{text-align:right}"
	"@page{margin:14mm}"
	"@media print{body{margin:0;padding:0;max-width:none;font-size:12px}h1{font-size:20px}"
	"svg{margin:12px 0}svg,tr,.numbers,.error{break-inside:avoid}h2{break-after:avoid}.numbers{gap:6px}"
	".numbers div{padding:4px 8px;min-width:60px}.numbers b{font-size:15px}.numbers span{font-size:11px}}";

/* ------------------------------------------------------------------- HTML */

static void put_element(FILE *f, const char *open, const char *text, const char *close)
{
	fputs(open, f);
	report_put(f, text ? text : "\xe2\x80\x94");
	fputs(close, f);
}

static void put_number(FILE *f, const char *value, const char *name)
{
	put_element(f, "<div><b>", value, "</b>");
	put_element(f, "<span>", name, "</span></div>\n");
}

static void html_numbers(FILE *f, const struct report *r)
{
	char text[64], limit[OUTPUT_NUMBER_MAX];
	double seconds = (double)r->elapsed_ns / (double)NS_PER_S;
	fputs("<div class=\"numbers\">\n", f);
	put_number(f, r->downtime_ns ? report_ns(r->downtime_ns, text) : "none", "downtime");
	if (r->expected_ns)
		put_number(f, report_ns(r->expected_ns, text), "foretold");
	if (r->downtime_limit_ns)
		put_number(f, report_ns(r->downtime_limit_ns, limit), "limit");
	put_number(f, report_ns(r->elapsed_ns, text), "in all");
	put_number(f, output_bytes(r->total_bytes, text), r->is_load ? "loaded" : "sent");
	output_bytes(seconds > 0 ? report_whole((double)r->total_bytes / seconds) : 0, text);
	put_number(f, strcat(text, "/s"), "on average");
	snprintf(text, sizeof(text), "%" PRIu64, r->rounds);
	put_number(f, text, "rounds");
	fputs("</div>\n", f);
}

static void html_head(FILE *f, const struct report *r)
{
	char text[200];
	report_outcome(r, text, sizeof(text));
	fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
	      "http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width\">\n",
	      f);
	put_element(f, "<title>vfmig: ", text, "</title>\n");
	fprintf(f, "<style>%s</style>\n</head>\n<body>\n", style);
}

static void html_summary(FILE *f, const struct report *r)
{
	char text[700];
	bool bad = r->failed || r->cancelled || !r->has_result;
	report_outcome(r, text, sizeof(text));
	put_element(f, bad ? "<h1 class=\"bad\">" : "<h1 class=\"good\">", text, "</h1>\n<p class=\"where\">");
	if (r->num_devices)
		report_put(f, r->devices[0].uri ? r->devices[0].uri : "a device");
	if (r->num_devices > 1)
		fprintf(f, " and %zu more", r->num_devices - 1);
	if (r->link)
		put_element(f, r->is_load ? " from " : " to ", r->link, "");
	if (r->time)
		put_element(f, ", ", r->time, "");
	if (r->session)
		put_element(f, ", session ", r->session, "");
	fputs("</p>\n", f);
	if (r->error)
		put_element(f, "<div class=\"error\">", r->error, "</div>\n");
	html_numbers(f, r);
	fputs("<ul>\n", f);
	for (unsigned n = 0; report_finding(r, n, text, sizeof(text)); n++)
		put_element(f, "<li>", text, "</li>\n");
	fputs("</ul>\n", f);
}

static uint64_t time_in(const struct report *r, size_t device, enum vfmig_state state)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < r->num_states; i++) {
		if (r->states[i].device != device || r->states[i].state != state)
			continue;
		size_t j = i + 1;
		while (j < r->num_states && r->states[j].device != device)
			j++;
		sum += (j < r->num_states ? r->states[j].at_ns : r->elapsed_ns) - r->states[i].at_ns;
	}
	return sum;
}

/* In the order in which it came to them. */
static void html_times(FILE *f, const struct report *r, size_t device)
{
	unsigned seen = 0;
	bool any = false;
	for (size_t i = 0; i < r->num_states; i++) {
		char ns[OUTPUT_NUMBER_MAX];
		enum vfmig_state state = r->states[i].state;
		if (r->states[i].device != device || (seen & 1u << state))
			continue;
		uint64_t in = time_in(r, device, state);
		if (in)
			fprintf(f, "%s%s %s", any ? ", " : "", vfmig_state_name(state), report_ns(in, ns));
		seen |= 1u << state;
		any |= in > 0;
	}
}

static void html_devices(FILE *f, const struct report *r)
{
	fputs("<h2>Devices</h2>\n<table class=\"devices\">\n<tr><th>device</th><th>section id</th><th>is "
	      "now</th><th>was in</th></tr>\n",
	      f);
	for (size_t i = 0; i < r->num_devices; i++) {
		const struct report_device *d = &r->devices[i];
		put_element(f, "<tr><td>", d->uri, "</td>");
		put_element(f, "<td>", d->id, "</td>");
		put_element(f, "<td>", d->state, "</td><td>");
		html_times(f, r, i);
		fputs("</td></tr>\n", f);
	}
	fputs("</table>\n", f);
}

static void html_row(FILE *f, const char *name, const char *value)
{
	put_element(f, "<tr><td>", name, "</td>");
	put_element(f, "<td class=\"n\">", value, "</td></tr>\n");
}

static void html_bytes(FILE *f, const struct report *r)
{
	char text[OUTPUT_NUMBER_MAX];
	fputs("<h2>The stream</h2>\n<table>\n<tr><th>part</th><th class=\"n\">size</th></tr>\n", f);
	html_row(f, "setup", output_bytes(r->setup_bytes, text));
	html_row(f, "pre-copy, while the devices worked", output_bytes(r->precopy_bytes, text));
	html_row(f, "stop-and-copy, while they were stopped", output_bytes(r->stop_copy_bytes, text));
	if (r->compressed_bytes)
		html_row(f, "all of it on the link, compressed", output_bytes(r->compressed_bytes, text));
	if (r->memory_pages || r->memory_zero_pages) {
		snprintf(text, sizeof(text), "%" PRIu64, r->memory_pages);
		html_row(f, "pages of memory among that", text);
		snprintf(text, sizeof(text), "%" PRIu64, r->memory_zero_pages);
		html_row(f, "pages of zeros", text);
	}
	if (r->is_load && r->has_result)
		html_row(f, "digests", r->digest_verified ? "verified" : "none in the stream");
	fputs("</table>\n", f);
}

static bool is_warning(const struct report_line *l)
{
	return l->level && !strcmp(l->level, "warning");
}

static void html_lines(FILE *f, const struct report *r)
{
	size_t shown = 0;
	if (!r->num_lines)
		return;
	fputs("<h2>Warnings and log</h2>\n<table class=\"log\">\n", f);
	for (int warnings = 1; warnings >= 0; warnings--)
		for (size_t i = 0; i < r->num_lines && shown < LINES_MOST; i++) {
			const struct report_line *l = &r->lines[i];
			if (is_warning(l) != warnings)
				continue;
			put_element(f, warnings ? "<tr><td class=\"bad\">" : "<tr><td>", l->level, "</td>");
			put_element(f, "<td>", l->message, "</td></tr>\n");
			shown++;
		}
	if (shown < r->num_lines)
		fprintf(f, "<tr><td></td><td>and %zu more</td></tr>\n", r->num_lines - shown);
	fputs("</table>\n", f);
}

static void html_run(FILE *f, const struct report *r)
{
	html_summary(f, r);
	for (size_t i = 0; i < NUM_FIGURES; i++) {
		unsigned height = figures[i](NULL, r, 0);
		if (!height)
			continue;
		fprintf(f, "<svg viewBox=\"0 0 %d %u\" role=\"img\" %s>\n", REPORT_WIDTH, height, FONT);
		figures[i](f, r, 0);
		fputs("</svg>\n", f);
	}
	html_devices(f, r);
	html_bytes(f, r);
	html_lines(f, r);
}

void report_html(FILE *f, const struct report *runs, size_t count)
{
	html_head(f, runs);
	for (size_t i = 0; i < count; i++)
		html_run(f, &runs[i]);
	fputs("</body>\n</html>\n", f);
}

/* -------------------------------------------------------------------- SVG */

/* Cut between words, or where there are none, into lines; f NULL: only counts. Returns the height. */
static unsigned svg_paragraph(FILE *f, unsigned y, const char *color, const char *text)
{
	unsigned height = 0;
	while (*text) {
		size_t length = strlen(text), cut = length;
		char line[SVG_COLUMNS + 1];
		if (length > SVG_COLUMNS) {
			cut = SVG_COLUMNS;
			while (cut > SVG_COLUMNS / 2 && text[cut] != ' ')
				cut--;
			if (text[cut] != ' ')
				cut = SVG_COLUMNS;
			while (cut > 1 && (text[cut] & 0xc0) == 0x80)
				cut--;
		}
		snprintf(line, sizeof(line), "%.*s", (int)cut, text);
		height += SVG_LINE;
		if (f)
			draw_text(f, 0, y + height - 5, "start", color, line);
		text += cut;
		text += strspn(text, " ");
	}
	return height;
}

static unsigned svg_words(FILE *f, const struct report *r, unsigned y)
{
	char text[700], outcome[200];
	bool bad = r->failed || r->cancelled || !r->has_result;
	unsigned height = 34;
	report_outcome(r, outcome, sizeof(outcome));
	if (f) {
		fprintf(f, "<text x=\"0\" y=\"%u\" font-size=\"23\" font-weight=\"600\" fill=\"%s\">", y + 24,
			bad ? DRAW_RED : "#2b7a4b");
		report_put(f, outcome);
		fputs("</text>\n", f);
	}
	if (r->link || r->time) {
		snprintf(text, sizeof(text), "%s %.500s%s%.40s", r->is_load ? "from" : "to", r->link ? r->link : "",
			 r->time ? ", " : "", r->time ? r->time : "");
		height += svg_paragraph(f, y + height, DRAW_FAINT, text);
	}
	if (r->error)
		height += svg_paragraph(f, y + height, DRAW_RED, r->error);
	for (unsigned n = 0; report_finding(r, n, text, sizeof(text)); n++)
		height += svg_paragraph(f, y + height, DRAW_TEXT, text);
	return height + 14;
}

static unsigned svg_foot(FILE *f, const struct report *r, unsigned y)
{
	char text[700];
	unsigned height = 0;
	for (size_t i = 0; i < r->num_devices; i++) {
		const struct report_device *d = &r->devices[i];
		snprintf(text, sizeof(text), "%.300s%s%.260s is now %.30s", d->uri ? d->uri : "a device",
			 d->id ? ", " : "", d->id ? d->id : "", d->state ? d->state : "in an unknown state");
		height += svg_paragraph(f, y + height, DRAW_TEXT, text);
	}
	for (size_t i = 0, shown = 0; i < r->num_lines && shown < LINES_MOST; i++) {
		if (!is_warning(&r->lines[i]))
			continue;
		snprintf(text, sizeof(text), "warning: %.600s", r->lines[i].message ? r->lines[i].message : "");
		height += svg_paragraph(f, y + height, DRAW_RED, text);
		shown++;
	}
	return height;
}

static unsigned svg_run(FILE *f, const struct report *r, unsigned top)
{
	unsigned y = top + svg_words(f, r, top);
	for (size_t i = 0; i < NUM_FIGURES; i++) {
		unsigned height = figures[i](f, r, y);
		y += height + (height ? 20 : 0);
	}
	return y + svg_foot(f, r, y) - top;
}

static unsigned svg_all(FILE *f, const struct report *runs, size_t count)
{
	unsigned y = 0;
	for (size_t i = 0; i < count; i++)
		y += svg_run(f, &runs[i], y) + (i + 1 < count ? BETWEEN_RUNS : 0);
	return y;
}

void report_svg(FILE *f, const struct report *runs, size_t count)
{
	unsigned height = svg_all(NULL, runs, count) + 40, width = REPORT_WIDTH + 40;
	fprintf(f,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" viewBox=\"-20 -20 %u %u\" %s>\n"
		"<rect x=\"-20\" y=\"-20\" width=\"%u\" height=\"%u\" fill=\"#ffffff\"/>\n",
		width, height, width, height, FONT, width, height);
	svg_all(f, runs, count);
	fputs("</svg>\n", f);
}
