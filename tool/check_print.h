/* SPDX-License-Identifier: BSD-3-Clause */
/* check_print.h: what vfmig check found, as text, TAP, JUnit's XML or JSON. */
#ifndef VFMIG_TOOL_CHECK_PRINT_H
#define VFMIG_TOOL_CHECK_PRINT_H

#include <stdio.h>

#include "check.h"

enum check_format { CHECK_TEXT, CHECK_TAP, CHECK_JUNIT, CHECK_JSON };

struct check_print {
	enum check_format format;
	FILE *file;
	bool many; /* devices: each check is named with its own */
	unsigned int number;
};

void check_print_begin(struct check_print *p);
void check_print_device(struct check_print *p, const char *uri, const struct check_run *r);
void check_print_result(struct check_print *p, const char *uri, const struct check_result *result);
void check_print_device_end(struct check_print *p, const char *uri, const struct check_run *r,
			    const struct check_result *results, size_t count);
void check_print_end(struct check_print *p);
/* Every check there is. */
void check_print_list(FILE *file, bool json);

#endif
