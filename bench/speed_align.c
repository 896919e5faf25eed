/* SPDX-License-Identifier: BSD-3-Clause */
/* speed_align.c: preloaded into a QEMU: large buffers begin at a page, which its data buffer does not by itself. */
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LARGE (512u << 10)

/* glibc's own, under the names that are for those who replace the others. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	return size >= LARGE ? __libc_memalign(4096, size) : __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes) || bytes < LARGE)
		return __libc_calloc(count, size);
	void *p = __libc_memalign(4096, bytes);
	return p ? memset(p, 0, bytes) : NULL;
}
