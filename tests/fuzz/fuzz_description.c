/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_description.c: any bytes as a description; what is accepted must survive being written and read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stream/description.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct description *d)
{
	static const char digits[] = "0123456789abcdef0123456789abcdef" DESCRIPTION_TAIL;
	struct description back = { 0 };
	char *text, *whole;

	if (description_format(d, &text, NULL) < 0 || !(whole = malloc(strlen(text) + sizeof(digits))))
		abort();
	strcpy(stpcpy(whole, text), digits);
	if (description_parse(whole, strlen(whole), &back, NULL) != 1 || back.num_devices != d->num_devices)
		abort();
	for (size_t i = 0; i < d->num_devices; i++) {
		if (strcmp(d->devices[i].id, back.devices[i].id) != 0 ||
		    d->devices[i].data_bytes != back.devices[i].data_bytes ||
		    d->devices[i].full_bytes != back.devices[i].full_bytes)
			abort();
	}
	description_clear(&back);
	free(text);
	free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct description d = { 0 };
	struct description_sizes *sizes;

	if (description_sizes_parse((const char *)data, size, &sizes, NULL) == 0)
		description_sizes_free(sizes);
	if (description_parse((const char *)data, size, &d, NULL) == 1) {
		again(&d);
		description_clear(&d);
	}
	return 0;
}
