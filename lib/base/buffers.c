/* SPDX-License-Identifier: BSD-3-Clause */
/* buffers.c: memory that has its pages. */
#include "base/buffers.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGE_PAGE ((size_t)2 << 20)

/* Not malloc's: the advice would stay with what malloc makes of it later. */
int buffers_new(size_t bytes, uint8_t **ret)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = bytes + LARGE_PAGE;
	uint8_t *all = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED)
		return -errno;
	size_t before = (size_t)(-(uintptr_t)all % LARGE_PAGE), after = LARGE_PAGE - before;
	uint8_t *memory = all + before;
	if (before)
		munmap(all, before);
	munmap(memory + bytes, after);
	(void)madvise(memory, bytes, MADV_HUGEPAGE); /* it works without, too */
	for (size_t i = 0; i < bytes; i += page)
		((volatile uint8_t *)memory)[i] = 0;
	*ret = memory;
	return 0;
}

void buffers_free(uint8_t *memory, size_t bytes)
{
	if (memory)
		munmap(memory, bytes);
}
