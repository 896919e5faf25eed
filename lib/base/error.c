/* SPDX-License-Identifier: BSD-3-Clause */
/* error.c: the one line that says what went wrong, built from the inside out and printable whatever it names. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define NAME_MIN 64u /* of what is put before a cause */

int error_set(struct vfmig_error *err, int code, const char *format, ...)
{
	if (!err)
		return code;
	va_list ap;
	va_start(ap, format);
	vsnprintf(err->message, sizeof(err->message), format, ap);
	va_end(ap);
	text_clean(err->message, sizeof(err->message));
	err->code = code;
	return code;
}

/* The cause counts more than a long name before it, of which as much is left as there is room for. */
static void add_cause(struct vfmig_error *err, const char *cause)
{
	text_clean(err->message, sizeof(err->message));
	size_t room = sizeof(err->message) - 1, wanted = strlen(cause) + strlen(": ");
	size_t most = wanted + NAME_MIN < room ? room - wanted : NAME_MIN;
	size_t at = strlen(err->message);
	if (at > most) {
		at = most - strlen("...");
		while (at && (err->message[at] & 0xc0) == 0x80) /* not in the middle of a character */
			at--;
		memcpy(err->message + at, "...", strlen("..."));
		at += strlen("...");
	}
	memcpy(err->message + at, ": ", 2);
	at += 2;
	size_t n = strnlen(cause, sizeof(err->message) - 1 - at);
	memcpy(err->message + at, cause, n);
	err->message[at + n] = '\0';
	text_clean(err->message, sizeof(err->message));
}

const char *error_text(int number)
{
	const char *text = strerrordesc_np(number);
	static _Thread_local char unknown[24];
	if (text)
		return text;
	snprintf(unknown, sizeof(unknown), "error %d", number);
	return unknown;
}

int error_errno(struct vfmig_error *err, int code, const char *format, ...)
{
	if (!err)
		return code;
	va_list ap;
	va_start(ap, format);
	vsnprintf(err->message, sizeof(err->message), format, ap);
	va_end(ap);
	add_cause(err, error_text(-code));
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
	vsnprintf(err->message, sizeof(err->message), format, ap);
	va_end(ap);
	add_cause(err, inner);
	err->code = code;
	return code;
}
