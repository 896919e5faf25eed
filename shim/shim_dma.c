/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_dma.c: the memory of the program that devices may reach, and which pages of it they wrote. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "shim.h"

#define MAPPINGS_MAX 65535u /* the kernel's dma_entry_limit */

void shim_memory_init(struct shim_memory *m)
{
	*m = (struct shim_memory){ 0 };
	pthread_mutex_init(&m->lock, NULL);
}

void shim_memory_destroy(struct shim_memory *m)
{
	for (size_t i = 0; i < m->count; i++)
		free(m->mappings[i].dirty);
	free(m->mappings);
	pthread_mutex_destroy(&m->lock);
}

size_t shim_memory_find(const struct shim_memory *m, uint64_t iova)
{
	size_t low = 0, high = m->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct shim_mapping *at = &m->mappings[middle];
		if (at->iova + (at->size - 1) < iova)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint64_t pages_of(const struct shim_mapping *m)
{
	return m->size / SHIM_PAGE;
}

static uint64_t *new_bitmap(const struct shim_mapping *m)
{
	return calloc((pages_of(m) + 63) / 64, sizeof(uint64_t));
}

static int insert(struct shim_memory *m, const struct shim_mapping *mapping)
{
	size_t at = shim_memory_find(m, mapping->iova);

	if (at < m->count && m->mappings[at].iova <= mapping->iova + (mapping->size - 1))
		return -EEXIST;
	if (m->count == MAPPINGS_MAX)
		return -ENOSPC;
	struct shim_mapping *all = reallocarray(m->mappings, m->count + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	m->mappings = all;
	uint64_t *dirty = m->tracking ? new_bitmap(mapping) : NULL;
	if (m->tracking && !dirty)
		return -ENOMEM;
	memmove(&all[at + 1], &all[at], (m->count - at) * sizeof(*all));
	all[at] = *mapping;
	all[at].dirty = dirty;
	m->count++;
	return 0;
}

int shim_memory_add(struct shim_memory *m, const struct shim_mapping *mapping)
{
	pthread_mutex_lock(&m->lock);
	int r = insert(m, mapping);
	pthread_mutex_unlock(&m->lock);
	return r;
}

int shim_memory_check_cut(const struct shim_memory *m, uint64_t iova, uint64_t last)
{
	size_t first = shim_memory_find(m, iova), end = shim_memory_find(m, last);

	if (first < m->count && m->mappings[first].iova < iova)
		return -EINVAL;
	if (end < m->count && m->mappings[end].iova <= last &&
	    m->mappings[end].iova + (m->mappings[end].size - 1) != last)
		return -EINVAL;
	return 0;
}

void shim_memory_remove(struct shim_memory *m, size_t index)
{
	pthread_mutex_lock(&m->lock);
	free(m->mappings[index].dirty);
	m->count--;
	memmove(&m->mappings[index], &m->mappings[index + 1], (m->count - index) * sizeof(m->mappings[0]));
	pthread_mutex_unlock(&m->lock);
}

int shim_memory_track(struct shim_memory *m, bool on)
{
	int r = 0;

	if (m->tracking == on)
		return 0;
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->count; i++) {
		if (on && !(m->mappings[i].dirty = new_bitmap(&m->mappings[i])))
			r = -ENOMEM;
	}
	m->tracking = on && r == 0;
	for (size_t i = 0; !m->tracking && i < m->count; i++) {
		free(m->mappings[i].dirty);
		m->mappings[i].dirty = NULL;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

static bool bit_get(const uint64_t *bitmap, uint64_t n)
{
	return bitmap[n / 64] >> n % 64 & 1;
}

static void bit_set(uint64_t *bitmap, uint64_t n)
{
	bitmap[n / 64] |= UINT64_C(1) << n % 64;
}

/* The program's bitmap need not be aligned: nothing but bytes of it are touched. */
static void user_bit_set(uint64_t *bitmap, uint64_t n)
{
	((uint8_t *)bitmap)[n / 8] |= (uint8_t)(1u << n % 8);
}

void shim_memory_take_dirty(struct shim_memory *m, uint64_t iova, uint64_t last, bool all, uint64_t *bitmap)
{
	pthread_mutex_lock(&m->lock);
	for (size_t i = shim_memory_find(m, iova); i < m->count && m->mappings[i].iova <= last; i++) {
		const struct shim_mapping *at = &m->mappings[i];
		uint64_t pages = pages_of(at), base = (at->iova - iova) / SHIM_PAGE;
		for (uint64_t n = 0; n < pages; n++)
			if (all || bit_get(at->dirty, n))
				user_bit_set(bitmap, base + n);
		memset(at->dirty, 0, (pages + 63) / 64 * sizeof(uint64_t));
	}
	pthread_mutex_unlock(&m->lock);
}

/* Not by memcpy: the program may have unmapped its memory and left the device's mapping. */
static int copy_out(uint64_t address, const void *data, size_t length)
{
	struct iovec from = { (void *)data, length }, to = { (void *)(uintptr_t)address, length };

	return process_vm_writev(getpid(), &from, 1, &to, 1, 0) == (ssize_t)length ? 0 : -EFAULT;
}

static int write_piece(const struct shim_mapping *at, uint64_t offset, const void *data, size_t length)
{
	int r = at->flags & VFIO_DMA_MAP_FLAG_WRITE ? copy_out(at->address + offset, data, length) : -EFAULT;

	for (uint64_t n = offset / SHIM_PAGE; r == 0 && at->dirty && n <= (offset + length - 1) / SHIM_PAGE; n++)
		bit_set(at->dirty, n);
	return r;
}

int shim_memory_write(struct shim_memory *m, uint64_t iova, const void *data, size_t length)
{
	const uint8_t *from = data;
	int r = 0;

	pthread_mutex_lock(&m->lock);
	while (r == 0 && length > 0) {
		size_t i = shim_memory_find(m, iova);
		if (i == m->count || m->mappings[i].iova > iova) {
			r = -EFAULT;
			break;
		}
		const struct shim_mapping *at = &m->mappings[i];
		size_t piece = (size_t)min_u64(length, at->size - (iova - at->iova));
		r = write_piece(at, iova - at->iova, from, piece);
		from += piece;
		iova += piece;
		length -= piece;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}
