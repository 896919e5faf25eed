/* SPDX-License-Identifier: BSD-3-Clause */
/* error.h: filling and prefixing the caller's struct vfmig_error. */
#ifndef VFMIG_BASE_ERROR_H
#define VFMIG_BASE_ERROR_H

#include <errno.h>

#include "vfmig.h"

/*
 * Sets message and code and returns code, so that failing is one line:
 * `return error_set(err, -EINVAL, "...", ...)`. err may be NULL. code is < 0.
 */
int error_set(struct vfmig_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The text of an errno; of one that has none (peers and drivers give any) its number, until the thread's next call. */
const char *error_text(int number);

/* The same with ": " and the text of the errno after it. */
int error_errno(struct vfmig_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message of a failure on its way up; returns its code. */
int error_prefix(struct vfmig_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * -EAGAIN means "the link is dry or full, wait for it" in what moves a stream. A
 * device or participant that fails with it (a server may answer any errno)
 * must not be waited for: it is an I/O error.
 */
static inline int error_not_again(int code)
{
	return code == -EAGAIN ? -EIO : code;
}

#endif
