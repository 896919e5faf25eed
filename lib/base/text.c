/* SPDX-License-Identifier: BSD-3-Clause */
/* text.c: escapes what a terminal would obey and what is not UTF-8. */
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many bytes a character that begins so has by its first byte; 0: no character begins so. */
static size_t length_by_first(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		return 2;
	if (first >= 0xe0 && first <= 0xef)
		return 3;
	return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

/* The bytes of the character at the beginning; 0: it is not UTF-8 (overlong, a surrogate, cut off, ...). */
static size_t character(const unsigned char *text, size_t length, uint32_t *ret)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = length_by_first(text[0]);
	if (!n || n > length)
		return 0;
	uint32_t value = n == 1 ? text[0] : text[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (text[i] & 0x3f);
	}
	if (value < least[n] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		return 0;
	*ret = value;
	return n;
}

static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
}

char *text_escape(char *ret, size_t size, const char *text, size_t length)
{
	const unsigned char *from = (const unsigned char *)text;
	size_t used = 0;
	for (size_t at = 0; at < length;) {
		uint32_t value = 0;
		size_t n = character(from + at, length - at, &value);
		bool plain = n && !is_control(value);
		n = n ? n : 1;
		if (used + (plain ? n : 4 * n) >= size)
			break;
		if (plain) {
			memcpy(ret + used, text + at, n);
			used += n;
		}
		for (size_t i = 0; !plain && i < n; i++, used += 4)
			snprintf(ret + used, 5, "\\x%02x", from[at + i]);
		at += n;
	}
	ret[used] = '\0';
	return ret;
}

void text_clean(char *buffer, size_t size)
{
	size_t length = strlen(buffer);
	const unsigned char *c = (const unsigned char *)buffer;
	while (*c >= 0x20 && *c < 0x7f)
		c++;
	if (!*c) /* as nearly always */
		return;
	char *copy = strdup(buffer);
	if (copy)
		text_escape(buffer, size, copy, length);
	else /* nothing that is printed is worth a control character */
		for (char *p = buffer; *p; p++)
			*p = *p >= 0x20 && *p < 0x7f ? *p : '?';
	free(copy);
}

char *text_shell(char *ret, size_t size, const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,=@%+";
	static const char quote[] = "'\\''"; /* what stands for a quote inside of quotes */
	size_t used = 0;
	if (word[0] && strspn(word, plain) == strlen(word)) {
		snprintf(ret, size, "%s", word);
		return ret;
	}
	ret[used++] = '\'';
	for (; *word && used + sizeof(quote) < size; word++) {
		const char one[] = { *word, '\0' };
		used += (size_t)snprintf(ret + used, size - used, "%s", *word == '\'' ? quote : one);
	}
	snprintf(ret + used, size - used, "'");
	return ret;
}
