/* SPDX-License-Identifier: BSD-3-Clause */
/* report_draw.c: axes, bars and words of a report's figures. */
#include "report_draw.h"

#include <string.h>

#include "base/bytes.h"
#include "output.h"

#define LABEL_MOST 22 /* characters */
#define LETTER 7.6    /* about as wide, at 14 */
#define TICKS 6
#define NARROWEST 1.5

double draw_x(const struct draw_axis *a, uint64_t at_ns)
{
	uint64_t length = max_u64(a->to_ns - a->from_ns, 1);
	uint64_t at = at_ns < a->from_ns ? 0 : min_u64(at_ns - a->from_ns, length);
	return DRAW_LEFT + (DRAW_RIGHT - DRAW_LEFT) * ((double)at / (double)length);
}

void draw_text(FILE *f, double x, double y, const char *anchor, const char *color, const char *text)
{
	fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" fill=\"%s\">", x, y, anchor, color);
	report_put(f, text);
	fputs("</text>\n", f);
}

void draw_text_over(FILE *f, double x, double y, const char *anchor, const char *text)
{
	fprintf(f,
		"<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" fill=\"%s\" stroke=\"#ffffff\" stroke-width=\"4\" "
		"paint-order=\"stroke\">",
		x, y, anchor, DRAW_TEXT);
	report_put(f, text);
	fputs("</text>\n", f);
}

void draw_label(FILE *f, double y, const char *text)
{
	fprintf(f, "<text x=\"%d\" y=\"%.1f\" font-size=\"13\" text-anchor=\"end\" fill=\"%s\">", DRAW_LEFT - 8, y,
		DRAW_TEXT);
	report_put_tail(f, text, LABEL_MOST);
	fputs("</text>\n", f);
}

void draw_title(FILE *f, unsigned y, const char *title, const char *note)
{
	fprintf(f, "<text x=\"0\" y=\"%u\" font-size=\"17\" font-weight=\"600\" fill=\"%s\">%s", y + 18, DRAW_TEXT,
		title);
	fprintf(f, "<tspan font-size=\"13\" font-weight=\"400\" fill=\"%s\" dx=\"12\">", DRAW_FAINT);
	report_put(f, note);
	fputs("</tspan></text>\n", f);
}

void draw_bar(FILE *f, double x, double to, double y, double height, const char *color, const char *tip)
{
	double width = to - x < NARROWEST ? NARROWEST : to - x;
	fprintf(f, "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\">", x, y, width, height,
		color);
	if (tip) {
		fputs("<title>", f);
		report_put(f, tip);
		fputs("</title>", f);
	}
	fputs("</rect>\n", f);
}

void draw_named_bar(FILE *f, double x, double to, double y, double height, const char *color, const char *text,
		    const char *name)
{
	draw_bar(f, x, to, y, height, color, name);
	if (to - x > LETTER * (double)strlen(name) + 8)
		draw_text(f, (x + to) / 2, y + height / 2 + 5, "middle", text, name);
}

void draw_line(FILE *f, double x1, double y1, double x2, double y2, const char *color, bool dashed)
{
	fprintf(f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"%s/>\n", x1, y1, x2, y2, color,
		dashed ? " stroke-dasharray=\"5 4\" stroke-width=\"1.5\"" : "");
}

/* 1, 2 or 5 times a power of ten, so that there are about TICKS of them. */
static uint64_t tick_ns(uint64_t length_ns)
{
	static const unsigned factors[] = { 1, 2, 5 };
	uint64_t ten = 1;
	for (;; ten *= 10)
		for (size_t i = 0; i < 3; i++)
			if (length_ns / TICKS < ten * factors[i] || ten > UINT64_MAX / 100)
				return ten * factors[i];
}

const char *draw_tick(uint64_t ns, char *buffer)
{
	char *point = strchr(report_ns(ns, buffer), '.'), *unit = strchr(buffer, ' '), *end = unit;
	if (!point || !unit)
		return ns ? buffer : "0";
	while (end[-1] == '0')
		end--;
	memmove(end == point + 1 ? point : end, unit, strlen(unit) + 1);
	return buffer;
}

void draw_time_axis(FILE *f, const struct draw_axis *a, uint64_t zero_ns, double top, double bottom)
{
	char text[OUTPUT_NUMBER_MAX];
	uint64_t length = a->to_ns - a->from_ns, step = tick_ns(length);
	for (uint64_t n = 0; n <= length / step; n++) {
		double x = draw_x(a, a->from_ns + n * step);
		uint64_t at = a->from_ns + n * step - zero_ns;
		draw_line(f, x, top, x, bottom, DRAW_GRID, false);
		draw_text(f, x, bottom + 17, "middle", DRAW_FAINT, draw_tick(at, text));
	}
}

static const char *state_color(enum vfmig_state state)
{
	static const char *const colors[] = {
		[VFMIG_STATE_ERROR] = "#c0392b",    [VFMIG_STATE_STOP] = "#9aa5b1",
		[VFMIG_STATE_RUNNING] = "#3c9a5f",  [VFMIG_STATE_STOP_COPY] = "#d97b29",
		[VFMIG_STATE_RESUMING] = "#8e5bb5", [VFMIG_STATE_RUNNING_P2P] = "#8cc7a1",
		[VFMIG_STATE_PRE_COPY] = "#2f6fb3", [VFMIG_STATE_PRE_COPY_P2P] = "#8fb8e0",
	};
	return colors[state];
}

static void draw_device_states(FILE *f, const struct report *r, size_t device, const struct draw_axis *a, double y)
{
	for (size_t i = 0; i < r->num_states; i++) {
		if (r->states[i].device != device)
			continue;
		uint64_t until = r->elapsed_ns;
		for (size_t j = i + 1; j < r->num_states; j++)
			if (r->states[j].device == device) {
				until = r->states[j].at_ns;
				break;
			}
		if (until < a->from_ns || r->states[i].at_ns > a->to_ns)
			continue;
		draw_named_bar(f, draw_x(a, r->states[i].at_ns), draw_x(a, until), y + 3, DRAW_ROW - 6,
			       state_color(r->states[i].state), "#ffffff", vfmig_state_name(r->states[i].state));
	}
}

/* Names of the states that there are: bars may be too narrow for them. */
void draw_legend(FILE *f, const struct report *r, double y)
{
	unsigned seen = 0;
	double x = DRAW_LEFT;
	for (size_t i = 0; i < r->num_states; i++)
		seen |= 1u << r->states[i].state;
	for (unsigned s = 0; s <= VFMIG_STATE_PRE_COPY_P2P; s++) {
		if (!(seen & 1u << s))
			continue;
		draw_bar(f, x, x + 12, y + 6, 12, state_color(s), NULL);
		draw_text(f, x + 17, y + 17, "start", DRAW_FAINT, vfmig_state_name(s));
		x += 17 + LETTER * (double)strlen(vfmig_state_name(s)) + 14;
	}
}

void draw_states(FILE *f, const struct report *r, const struct draw_axis *a, double y)
{
	for (size_t i = 0; i < r->num_devices; i++, y += DRAW_ROW) {
		const struct report_device *d = &r->devices[i];
		draw_label(f, y + 17, r->num_devices > 1 && d->id ? d->id : d->uri ? d->uri : "a device");
		draw_device_states(f, r, i, a, y);
	}
}
