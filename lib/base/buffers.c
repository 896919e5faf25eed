/* SPDX-License-Identifier: BSD-3-Clause */
/* buffers.c: memory that has its pages. */
#include "base/buffers.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGE_PAGE ((size_t)2 << 20)

int buffers_new(size_t bytes, uint8_t **ret)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *memory;
	int r = posix_memalign(&memory, LARGE_PAGE, bytes);
	if (r != 0)
		return -r;
	(void)madvise(memory, bytes - bytes % LARGE_PAGE, MADV_HUGEPAGE); /* it works without, too */
	*ret = memory;
	for (size_t i = 0; i < bytes; i += page)
		((volatile uint8_t *)memory)[i] = 0;
	return 0;
}
