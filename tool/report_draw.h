/* SPDX-License-Identifier: BSD-3-Clause */
/* report_draw.h: what all figures of a report are drawn with. SVG's own attributes only: it stands alone, too. */
#ifndef VFMIG_TOOL_REPORT_DRAW_H
#define VFMIG_TOOL_REPORT_DRAW_H

#include "report.h"

#define DRAW_LEFT 190 /* of the axes */
#define DRAW_RIGHT 975
#define DRAW_ROW 24
#define DRAW_TITLE 30 /* of a figure, with what is below */
#define DRAW_AXIS 28  /* the times below it */

#define DRAW_TEXT "#1f2933"
#define DRAW_FAINT "#5f6b7a"
#define DRAW_GRID "#dfe3e8"
#define DRAW_BLUE "#2f6fb3"
#define DRAW_RED "#c0392b"

/* A part of the run's time, from one edge to the other. */
struct draw_axis {
	uint64_t from_ns, to_ns;
};

double draw_x(const struct draw_axis *a, uint64_t at_ns);
/* Lines from top to bottom with what time they are, since `zero_ns`, below. */
void draw_time_axis(FILE *f, const struct draw_axis *a, uint64_t zero_ns, double top, double bottom);

/* "1.50 s" and "1.00 s" as "1.5 s" and "1 s". */
const char *draw_tick(uint64_t ns, char *buffer);

/* anchor: start, middle, end. Escaped. */
void draw_text(FILE *f, double x, double y, const char *anchor, const char *color, const char *text);
/* The same over lines, which it pushes aside. */
void draw_text_over(FILE *f, double x, double y, const char *anchor, const char *text);
/* A row's name, left of the axes, right-aligned. Escaped, its tail if it is long. */
void draw_label(FILE *f, double y, const char *text);
void draw_title(FILE *f, unsigned y, const char *title, const char *note);
/* At least so wide that it is seen; `tip` (NULL: none) shows under a pointer. */
void draw_bar(FILE *f, double x, double to, double y, double height, const char *color, const char *tip);
/* The same with its name in it if that fits. */
void draw_named_bar(FILE *f, double x, double to, double y, double height, const char *color, const char *text,
		    const char *name);
void draw_line(FILE *f, double x1, double y1, double x2, double y2, const char *color, bool dashed);

/* A row for each device with its states, and which colour is which, if there are any. */
void draw_states(FILE *f, const struct report *r, const struct draw_axis *a, double y);
void draw_legend(FILE *f, const struct report *r, double y);

#endif
