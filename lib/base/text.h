/* SPDX-License-Identifier: BSD-3-Clause */
/* text.h: what a stream, a peer or a journal named, as something that can be printed. */
#ifndef VFMIG_BASE_TEXT_H
#define VFMIG_BASE_TEXT_H

#include <stddef.h>

/* Enough for `length` bytes and the end. */
#define TEXT_ESCAPED_SIZE(length) (4 * (length) + 1)

/*
 * Writes `length` bytes of `text` into `ret`, at most `size` bytes with the
 * final zero. The result is one line of valid UTF-8: each byte of a control
 * character (C0, DEL, C1), of a line separator or of what is not UTF-8
 * becomes \xNN. A backslash stays, so an escaped text is not changed by
 * escaping it again. What does not fit is left out, character by character.
 * Returns ret.
 */
char *text_escape(char *ret, size_t size, const char *text, size_t length);

/* A word for a shell, quoted where it has to be; size: at least 8. Cut off it is no word any more. Returns ret. */
char *text_shell(char *ret, size_t size, const char *word);

/* text_escape for a string, in its own buffer of `size` bytes. */
void text_clean(char *buffer, size_t size);

#endif
