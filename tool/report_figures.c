/* SPDX-License-Identifier: BSD-3-Clause */
/* report_figures.c: the run as a whole, and the downtime step by step. */
#include <string.h>

#include "base/bytes.h"
#include "output.h"
#include "report_draw.h"

#define PHASES 4

static const struct {
	const char *color, *name;
} phases[PHASES] = {
	[VFMIG_PHASE_SETUP] = { "#7b8794", "setup" },
	[VFMIG_PHASE_PRECOPY] = { "#2f6fb3", "pre-copy" },
	[VFMIG_PHASE_STOP_COPY] = { "#d97b29", "stop-and-copy" },
	[VFMIG_PHASE_COMPLETING] = { "#8e5bb5", "completing" },
};

static void draw_phases(FILE *f, const struct report *r, const struct draw_axis *a, double y)
{
	draw_label(f, y + 17, "phase");
	for (size_t i = 0; i < r->num_points;) {
		enum vfmig_phase phase = r->points[i].phase;
		uint64_t from = i ? r->points[i].at_ns : 0, until = r->elapsed_ns;
		for (i++; i < r->num_points; i++)
			if (r->points[i].phase != phase) {
				until = r->points[i].at_ns;
				break;
			}
		if (phase < PHASES)
			draw_named_bar(f, draw_x(a, from), draw_x(a, until), y + 3, DRAW_ROW - 6, phases[phase].color,
				       "#ffffff", phases[phase].name);
	}
}

/* The time without the devices, across all rows. */
static void draw_stopped(FILE *f, const struct report *r, const struct draw_axis *a, double top, double bottom)
{
	char ns[OUTPUT_NUMBER_MAX], text[2 * OUTPUT_NUMBER_MAX];
	if (!r->downtime_ns)
		return;
	double x = draw_x(a, report_stopped_at(r)), to = draw_x(a, r->elapsed_ns);
	fprintf(f, "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\" fill-opacity=\"0.12\"/>\n",
		x, top, to - x < 2 ? 2 : to - x, bottom - top, DRAW_RED);
	draw_line(f, x, top, x, bottom, DRAW_RED, false);
	snprintf(text, sizeof(text), "stopped for %s", report_ns(r->downtime_ns, ns));
	draw_text(f, to, top - 4, "end", DRAW_RED, text);
}

unsigned report_draw_timeline(FILE *f, const struct report *r, unsigned y)
{
	struct draw_axis a = { 0, r->elapsed_ns };
	unsigned top = y + DRAW_TITLE + 18, bottom = top + (unsigned)(1 + r->num_devices) * DRAW_ROW;
	if (f) {
		draw_title(f, y, "The run", "phases, and the states of each device");
		draw_time_axis(f, &a, 0, top, bottom);
		draw_phases(f, r, &a, top);
		draw_stopped(f, r, &a, top, bottom);
		draw_states(f, r, &a, top + DRAW_ROW);
		draw_legend(f, r, bottom + DRAW_AXIS);
	}
	return bottom - y + DRAW_AXIS + (r->num_states ? DRAW_ROW : 0);
}

/* Each step begins where the one before has ended. */
static void draw_steps(FILE *f, const struct report *r, const struct draw_axis *a, double y)
{
	uint64_t at = a->from_ns;
	for (size_t i = 0; i < r->num_steps; i++) {
		const struct report_step *s = &r->steps[i];
		char ns[OUTPUT_NUMBER_MAX], text[64], tip[160];
		double x = draw_x(a, at), to = draw_x(a, at + s->ns);
		double part = 100 * (double)s->ns / (double)max_u64(r->downtime_ns, 1);
		snprintf(text, sizeof(text), "%s · %.0f %%", report_ns(s->ns, ns), part);
		snprintf(tip, sizeof(tip), "%s: %s", report_step_meaning(r, s->step), text);
		draw_label(f, y + 17, report_step_meaning(r, s->step));
		draw_bar(f, x, to, y + 4, DRAW_ROW - 8, part >= 25 ? DRAW_RED : "#d97b29", tip);
		if (to < DRAW_RIGHT - 120)
			draw_text_over(f, to + 8, y + 17, "start", text);
		else if (x > DRAW_LEFT + 120)
			draw_text_over(f, x - 8, y + 17, "end", text);
		else
			draw_text(f, (x + to) / 2, y + 17, "middle", "#ffffff", text);
		at += s->ns;
		y += DRAW_ROW;
	}
}

static void draw_limit(FILE *f, double x, double top, double bottom)
{
	draw_line(f, x, top, x, bottom, DRAW_RED, true);
	draw_text(f, x + 4, top - 2, x < DRAW_RIGHT - 60 ? "start" : "end", DRAW_RED, "limit");
}

unsigned report_draw_downtime(FILE *f, const struct report *r, unsigned y)
{
	char got[OUTPUT_NUMBER_MAX], limit[OUTPUT_NUMBER_MAX], foretold[OUTPUT_NUMBER_MAX], note[160];
	struct draw_axis a = { report_stopped_at(r), r->elapsed_ns };
	unsigned top = y + DRAW_TITLE + 4, steps = (unsigned)r->num_steps * DRAW_ROW;
	if (!r->downtime_ns || !r->num_steps)
		return 0;
	unsigned states = (unsigned)r->num_devices * DRAW_ROW, bottom = top + steps + 8 + states;
	if (f) {
		snprintf(note, sizeof(note), "%s in all%s%s%s%s", report_ns(r->downtime_ns, got),
			 r->expected_ns ? ", foretold " : "", r->expected_ns ? report_ns(r->expected_ns, foretold) : "",
			 r->downtime_limit_ns ? ", limit " : "",
			 r->downtime_limit_ns ? report_ns(r->downtime_limit_ns, limit) : "");
		draw_title(f, y, "The downtime", note);
		draw_time_axis(f, &a, a.from_ns, top, bottom);
		if (r->downtime_limit_ns && r->downtime_limit_ns < r->downtime_ns)
			draw_limit(f, draw_x(&a, a.from_ns + r->downtime_limit_ns), top, bottom);
		draw_steps(f, r, &a, top);
		draw_states(f, r, &a, top + steps + 8);
	}
	return bottom - y + DRAW_AXIS;
}
