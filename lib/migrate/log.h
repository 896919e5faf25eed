/* SPDX-License-Identifier: BSD-3-Clause */
/* log.h: lines for the caller's log, of which a peer or a stream cannot cause any number. */
#ifndef VFMIG_MIGRATE_LOG_H
#define VFMIG_MIGRATE_LOG_H

#include <pthread.h>

#include "base/error.h"

#define LOG_FEW 8u     /* lines of one place that are passed on; the others are counted */
#define LOG_PLACES 32u /* more places than a save or a load has */

/* What was said at one place in the code, which its format names. */
struct log_place {
	const char *format;
	enum vfmig_log_level level;
	uint64_t seen;
	char last[200];
};

struct log_counts {
	pthread_mutex_t lock;
	struct log_place places[LOG_PLACES];
	size_t used;
};

struct log {
	vfmig_log_fn *fn;
	void *opaque;
	struct log_counts *counts; /* NULL: every line is passed on */
};

void log_counts_init(struct log_counts *c);
/* One printable line. Devices that change together log from several threads. */
void log_line(const struct log *log, enum vfmig_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* At the end: "and N more like it" for each place that said more than a few lines; then they count from zero. */
void log_rest(const struct log *log);

#endif
