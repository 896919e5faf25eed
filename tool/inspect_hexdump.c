/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_hexdump.c: bytes of a stream in rows of sixteen, each with its offset. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "inspect.h"

void inspect_hexdump_end(struct inspect_hexdump *h)
{
	if (!h->count)
		return;
	printf("0x%010" PRIx64 "    ", h->offset);
	for (unsigned int i = 0; i < INSPECT_ROW; i++) {
		if (i < h->count)
			printf("%02x ", h->row[i]);
		else
			printf("   ");
	}
	for (unsigned int i = 0; i < h->count; i++)
		putchar(isascii(h->row[i]) && isprint(h->row[i]) ? h->row[i] : '.');
	putchar('\n');
	h->count = 0;
}

void inspect_hexdump(struct inspect_hexdump *h, uint64_t offset, const uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (h->count == INSPECT_ROW || h->offset + h->count != offset + i)
			inspect_hexdump_end(h);
		if (!h->count)
			h->offset = offset + i;
		h->row[h->count++] = data[i];
	}
}
