/* SPDX-License-Identifier: BSD-3-Clause */
/* report_charts.c: what was pending, how fast it was sent and which downtime that meant, over the run's time. */
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "output.h"
#include "report_draw.h"

#define PLOT 130    /* height of a chart's axes */
#define COLUMNS 400 /* points that are drawn at most: one for each two pixels */
#define GRID 4

struct chart {
	const char *title, *note, *color;
	double values[COLUMNS]; /* < 0: none there */
	double top, tick;	/* of the axis */
	bool area, logarithmic;
	double bottom; /* of a logarithmic axis */
};

typedef const char *chart_unit_fn(uint64_t value, char *buffer);

static const char *per_second(uint64_t value, char *buffer)
{
	output_bytes(value, buffer);
	return strncat(buffer, "/s", OUTPUT_NUMBER_MAX - strlen(buffer) - 1);
}

static size_t column_of(const struct report *r, uint64_t at_ns)
{
	return (size_t)((double)(COLUMNS - 1) * ((double)at_ns / (double)max_u64(r->elapsed_ns, 1)));
}

static double column_x(size_t column)
{
	return DRAW_LEFT + (DRAW_RIGHT - DRAW_LEFT) * ((double)column / (COLUMNS - 1));
}

static double chart_y(const struct chart *c, double value, double top)
{
	double part =
	    c->logarithmic ? log(fmax(value, c->bottom) / c->bottom) / log(c->top / c->bottom) : value / c->top;
	return top + PLOT * (1 - fmin(fmax(part, 0), 1));
}

static double most_of(const struct chart *c)
{
	double most = 0;
	for (size_t i = 0; i < COLUMNS; i++)
		most = fmax(most, c->values[i]);
	return most;
}

/* A power of two between two lines, and room for all values. */
static void fit_linear(struct chart *c)
{
	double most = fmax(most_of(c), 1024);
	c->tick = 1;
	while (c->tick * GRID < most)
		c->tick *= 2;
	c->top = c->tick * ceil(most / c->tick);
}

/* Powers of ten around all values and the limit, if there is one. */
static void fit_logarithmic(struct chart *c, double limit)
{
	double least = limit > 0 ? limit : 1e19;
	for (size_t i = 0; i < COLUMNS; i++)
		if (c->values[i] > 0)
			least = fmin(least, c->values[i]);
	c->bottom = pow(10, floor(log10(0.7 * least))); /* nothing lies on the edge */
	c->top = fmax(pow(10, ceil(log10(fmax(most_of(c), limit)))), 10 * c->bottom);
}

static void draw_grid(FILE *f, const struct chart *c, double top, chart_unit_fn *unit)
{
	char text[OUTPUT_NUMBER_MAX];
	if (c->logarithmic) {
		for (double v = c->bottom; v <= c->top * 1.01; v *= 10) {
			draw_line(f, DRAW_LEFT, chart_y(c, v, top), DRAW_RIGHT, chart_y(c, v, top), DRAW_GRID, false);
			draw_text(f, DRAW_LEFT - 8, chart_y(c, v, top) + 4, "end", DRAW_FAINT,
				  unit(report_whole(v), text));
		}
		return;
	}
	for (double v = 0; v <= c->top; v += c->tick) {
		double y = chart_y(c, v, top);
		draw_line(f, DRAW_LEFT, y, DRAW_RIGHT, y, DRAW_GRID, false);
		draw_text(f, DRAW_LEFT - 8, y + 4, "end", DRAW_FAINT, v > 0 ? unit(report_whole(v), text) : "0");
	}
}

/* Values that are known, joined by straight lines; a path in one go. */
static void draw_curve(FILE *f, const struct chart *c, double top)
{
	size_t first = COLUMNS, last = 0;
	fputs("<path d=\"", f);
	for (size_t i = 0; i < COLUMNS; i++) {
		if (c->values[i] < 0)
			continue;
		fprintf(f, "%c%.1f %.1f", first == COLUMNS ? 'M' : 'L', column_x(i), chart_y(c, c->values[i], top));
		first = first == COLUMNS ? i : first;
		last = i;
	}
	if (c->area && first < COLUMNS)
		fprintf(f, "L%.1f %.1fL%.1f %.1fZ", column_x(last), top + PLOT, column_x(first), top + PLOT);
	fprintf(f,
		"\" fill=\"%s\" fill-opacity=\"0.15\" stroke=\"%s\" stroke-width=\"%d\" stroke-linejoin=\"round\"/>\n",
		c->area ? c->color : "none", c->color, 2);
}

static unsigned draw_chart(FILE *f, const struct report *r, const struct chart *c, unsigned y, chart_unit_fn *unit)
{
	struct draw_axis a = { 0, r->elapsed_ns };
	double top = y + DRAW_TITLE + 8;
	if (f) {
		draw_title(f, y, c->title, c->note);
		draw_grid(f, c, top, unit);
		draw_time_axis(f, &a, 0, top, top + PLOT);
		if (r->downtime_ns) {
			double x = draw_x(&a, report_stopped_at(r));
			fprintf(f,
				"<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%d\" fill=\"%s\" "
				"fill-opacity=\"0.12\"><title>stopped</title></rect>\n",
				x, top, fmax(DRAW_RIGHT - x, 2), PLOT, DRAW_RED);
		}
		draw_curve(f, c, top);
	}
	return DRAW_TITLE + 8 + PLOT + DRAW_AXIS;
}

static void clear(struct chart *c)
{
	for (size_t i = 0; i < COLUMNS; i++)
		c->values[i] = -1;
}

/* When the last data was out, if the run tells it. */
static uint64_t all_sent_at(const struct report *r)
{
	uint64_t at_ns = report_stopped_at(r);
	for (size_t i = 0; i < r->num_steps && r->steps[i].step <= VFMIG_DOWNTIME_COMPLETE; i++)
		at_ns += min_u64(r->steps[i].ns, r->elapsed_ns - min_u64(at_ns, r->elapsed_ns));
	return min_u64(at_ns, r->elapsed_ns);
}

/* Once the devices are stopped nobody looks again: all of it is sent. */
unsigned report_draw_pending(FILE *f, const struct report *r, unsigned y)
{
	struct chart c = { .title = "Pending",
			   .note = "what was still to be sent, by each look at it",
			   .color = DRAW_BLUE,
			   .area = true };
	uint64_t last = 0;
	clear(&c);
	for (size_t i = 0; i < r->num_points && !r->is_load; i++) {
		const struct report_point *p = &r->points[i];
		if (p->pending_bytes && p->phase == VFMIG_PHASE_PRECOPY)
			c.values[column_of(r, p->at_ns)] = (double)p->pending_bytes;
		if (p->pending_bytes && p->phase <= VFMIG_PHASE_STOP_COPY)
			last = p->pending_bytes;
	}
	if (!last)
		return 0;
	if (r->downtime_ns)
		c.values[column_of(r, report_stopped_at(r))] = (double)last;
	if (r->has_result && !r->failed && !r->cancelled)
		c.values[column_of(r, all_sent_at(r))] = 0;
	fit_linear(&c);
	return draw_chart(f, r, &c, y, output_bytes);
}

/* Between two columns that have a point: the bytes that came in between, through that time. */
unsigned report_draw_rate(FILE *f, const struct report *r, unsigned y)
{
	struct chart c = { .title = "Rate",
			   .note = r->is_load ? "bytes of the stream that came, each second"
					      : "bytes of the stream that went out, each second",
			   .color = "#3c9a5f",
			   .area = true };
	const struct report_point *from = &r->points[0];
	clear(&c);
	for (size_t i = 1; i < r->num_points; i++) {
		const struct report_point *p = &r->points[i];
		size_t first = column_of(r, from->at_ns), last = column_of(r, p->at_ns);
		if (last == first && i + 1 < r->num_points)
			continue;
		double bytes = p->total_bytes > from->total_bytes ? (double)(p->total_bytes - from->total_bytes) : 0;
		double seconds = (double)max_u64(p->at_ns - from->at_ns, 1) / (double)NS_PER_S;
		for (size_t at = first; at < last; at++)
			c.values[at] = bytes / seconds;
		from = p;
	}
	c.values[COLUMNS - 1] = c.values[COLUMNS - 2];
	fit_linear(&c);
	return most_of(&c) > 0 ? draw_chart(f, r, &c, y, per_second) : 0;
}

/* What a stop would have meant at each time, against the limit. */
unsigned report_draw_expected(FILE *f, const struct report *r, unsigned y)
{
	char limit[OUTPUT_NUMBER_MAX], note[128] = "had the devices been stopped then";
	struct chart c = { .title = "Expected downtime", .note = note, .color = "#8e5bb5", .logarithmic = true };
	unsigned known = 0;
	clear(&c);
	for (size_t i = 0; i < r->num_points; i++)
		if (r->points[i].expected_ns && r->points[i].phase == VFMIG_PHASE_PRECOPY) {
			c.values[column_of(r, r->points[i].at_ns)] = (double)r->points[i].expected_ns;
			known++;
		}
	if (known < 2)
		return 0;
	fit_logarithmic(&c, (double)r->downtime_limit_ns);
	if (r->downtime_limit_ns)
		snprintf(note, sizeof(note), "had the devices been stopped then; the dashed line is the limit, %s",
			 report_ns(r->downtime_limit_ns, limit));
	unsigned height = draw_chart(f, r, &c, y, draw_tick);
	double at = chart_y(&c, (double)r->downtime_limit_ns, y + DRAW_TITLE + 8);
	if (f && r->downtime_limit_ns)
		draw_line(f, DRAW_LEFT, at, DRAW_RIGHT, at, DRAW_RED, true);
	return height;
}
