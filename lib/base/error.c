/* SPDX-License-Identifier: BSD-3-Clause */
/* error.c: the one line that says what went wrong, built from the inside out. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct vfmig_error *err, int code, const char *format, ...)
{
	if (!err)
		return code;
	va_list ap;
	va_start(ap, format);
	vsnprintf(err->message, sizeof(err->message), format, ap);
	va_end(ap);
	err->code = code;
	return code;
}

int error_errno(struct vfmig_error *err, int code, const char *format, ...)
{
	if (!err)
		return code;
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(err->message, sizeof(err->message), format, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(err->message))
		snprintf(err->message + n, sizeof(err->message) - (size_t)n, ": %s", strerrordesc_np(-code));
	err->code = code;
	return code;
}

int error_prefix(struct vfmig_error *err, int code, const char *format, ...)
{
	if (!err)
		return code;
	char inner[sizeof(err->message)];
	memcpy(inner, err->message, sizeof(inner));
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(err->message, sizeof(err->message), format, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(err->message))
		snprintf(err->message + n, sizeof(err->message) - (size_t)n, ": %s", inner);
	err->code = code;
	return code;
}
