/* SPDX-License-Identifier: BSD-3-Clause */
/* log.c: passes the first few lines of each place on, counts the others, and tells their number at the end. */
#include "migrate/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

void log_counts_init(struct log_counts *c)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
}

/* With the lock. NULL: no room, the line is passed on. */
static struct log_place *find_place(struct log_counts *c, const char *format, enum vfmig_log_level level)
{
	for (size_t i = 0; i < c->used; i++)
		if (c->places[i].format == format)
			return &c->places[i];
	if (c->used == LOG_PLACES)
		return NULL;
	c->places[c->used] = (struct log_place) { .format = format, .level = level };
	return &c->places[c->used++];
}

static bool is_one_of_few(struct log_counts *c, const char *format, enum vfmig_log_level level, const char *line)
{
	pthread_mutex_lock(&c->lock);
	struct log_place *place = find_place(c, format, level);
	bool few = !place || ++place->seen <= LOG_FEW;
	if (!few)
		text_escape(place->last, sizeof(place->last), line, strlen(line));
	pthread_mutex_unlock(&c->lock);
	return few;
}

void log_line(const struct log *log, enum vfmig_log_level level, const char *format, ...)
{
	char line[512];
	if (!log->fn)
		return;
	va_list ap;
	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	text_clean(line, sizeof(line));
	if (!log->counts || is_one_of_few(log->counts, format, level, line))
		log->fn(log->opaque, level, line);
}

void log_rest(const struct log *log)
{
	struct log_counts *c = log->counts;
	for (size_t i = 0; c && log->fn && i < c->used; i++) {
		const struct log_place *place = &c->places[i];
		char line[sizeof(place->last) + 64];
		if (place->seen <= LOG_FEW)
			continue;
		snprintf(line, sizeof(line), "and %" PRIu64 " more like it; the last one: %s", place->seen - LOG_FEW,
			 place->last);
		log->fn(log->opaque, place->level, line);
	}
	if (c)
		c->used = 0;
}
