/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_memory_dirty.c: which pages were written of what is mapped, as the container or the page table logs it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "device/kernel_dirty.h"

static size_t words(const struct kernel_memory *memory, const struct kernel_mapping *m)
{
	uint64_t pages = m->length / memory->log_page_size + (m->length % memory->log_page_size != 0);
	return (size_t)((pages + 63) / 64);
}

static int nothing_logged(struct vfmig_error *err)
{
	return error_set(err, -EINVAL, "the log of written pages was not started");
}

static void forget(struct kernel_memory *memory)
{
	for (struct kernel_mapping *m = memory->mappings; m; m = m->next) {
		free(m->kept);
		m->kept = NULL;
	}
	memory->log_page_size = 0;
}

/* A mapping that no query can be for: better no log at all than one with a hole. */
static int check_lengths(const struct kernel_memory *memory, const struct kernel_type1_log *log,
			 struct vfmig_error *err)
{
	for (const struct kernel_mapping *m = memory->mappings; m; m = m->next) {
		uint64_t bytes = (m->length / log->page_size + 63) / 64 * sizeof(uint64_t);
		if (bytes > log->bitmap_max)
			return error_set(err, -EOPNOTSUPP, "the container logs no mapping of 0x%llx bytes as the one "
					 "at IOVA 0x%llx: its bitmap would have 0x%llx bytes, at most are 0x%llx",
					 (unsigned long long)m->length, (unsigned long long)m->iova,
					 (unsigned long long)bytes, (unsigned long long)log->bitmap_max);
	}
	return 0;
}

static int start_container(struct kernel_memory *memory, struct vfmig_error *err)
{
	struct kernel_type1_log log = { 0 };
	int r = kernel_type1_log_info(memory->fd, &log, err);
	if (r == 0)
		r = check_lengths(memory, &log, err);
	if (r < 0)
		return r;
	r = kernel_type1_track(memory->fd, true);
	if (r < 0)
		return error_errno(err, kernel_meaning(r), "container: starting its log of written pages");
	memory->log_page_size = log.page_size;
	return 0;
}

static int start_iommufd(struct kernel_memory *memory, struct vfmig_error *err)
{
	if (!memory->hwpt_id)
		return error_set(err, -EOPNOTSUPP, "the device's page table logs no writes: its IOMMU cannot, or it is "
				 "a mediated device, which has none");
	int r = kernel_hwpt_track(memory->fd, memory->hwpt_id, true);
	if (r < 0)
		return error_errno(err, kernel_meaning(r), "page table %u: starting its log of writes",
				   memory->hwpt_id);
	/* An address space's alignment is never above it. */
	memory->log_page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

int kernel_memory_dirty_start(struct kernel_memory *memory, uint64_t *page_size, struct vfmig_error *err)
{
	if (memory->kind == KERNEL_MEMORY_FOREIGN)
		return error_set(err, -EOPNOTSUPP,
				 "what a device writes that was handed over is known to its opener's container only");
	forget(memory);
	int r = memory->kind == KERNEL_MEMORY_CONTAINER ? start_container(memory, err) : start_iommufd(memory, err);
	if (r == 0)
		*page_size = max_u64(*page_size, memory->log_page_size);
	return r;
}

/* Behind the bits that are kept is as much room for a query. */
static int make_room(const struct kernel_memory *memory, struct kernel_mapping *m)
{
	if (!m->kept)
		m->kept = calloc(words(memory, m), 2 * sizeof(*m->kept));
	return m->kept ? 0 : -ENOMEM;
}

static void keep_all(const struct kernel_memory *memory, struct kernel_mapping *m)
{
	memset(m->kept, 0xff, words(memory, m) * sizeof(*m->kept));
}

typedef int query_fn(const struct kernel_memory *memory, const struct kernel_mapping *m, uint64_t *bitmap);

static int ask(const struct kernel_memory *memory, const struct kernel_mapping *m, uint64_t *bitmap)
{
	return memory->kind == KERNEL_MEMORY_CONTAINER ?
		       kernel_type1_query(memory->fd, m->iova, m->length, memory->log_page_size, bitmap) :
		       kernel_hwpt_query(memory->fd, memory->hwpt_id, m->iova, m->length, memory->log_page_size,
					 bitmap);
}

static int ask_and_unmap(const struct kernel_memory *memory, const struct kernel_mapping *m, uint64_t *bitmap)
{
	return kernel_type1_unmap_query(memory->fd, m->iova, m->length, memory->log_page_size, bitmap);
}

/* What a query that fails may have cleared is nowhere else any more, so all is kept for written. */
static int keep_answer(const struct kernel_memory *memory, struct kernel_mapping *m, query_fn *query)
{
	size_t count = words(memory, m);
	uint64_t *answer = m->kept + count;
	memset(answer, 0, count * sizeof(*answer));
	int r = query(memory, m, answer);
	if (r < 0)
		keep_all(memory, m);
	for (size_t i = 0; r == 0 && i < count; i++)
		m->kept[i] |= answer[i];
	return r;
}

/* The bits of word `word` that stand for pages of [first, end). */
static uint64_t bits_inside(uint64_t word, uint64_t first, uint64_t end)
{
	uint64_t bits = UINT64_MAX;
	if (word == first / 64)
		bits &= UINT64_MAX << first % 64;
	if (word == end / 64)
		bits &= ~(UINT64_MAX << end % 64);
	return bits;
}

void kernel_mapping_take(const struct kernel_memory *memory, struct kernel_mapping *m, uint64_t iova, uint64_t length,
			 uint64_t page_size, uint64_t *bitmap)
{
	uint64_t first = (iova - m->iova) / memory->log_page_size, end = first + length / memory->log_page_size;
	int shift = __builtin_ctzll(page_size);
	for (uint64_t word = first / 64; word * 64 < end; word++) {
		uint64_t bits = m->kept[word] & bits_inside(word, first, end);
		m->kept[word] &= ~bits;
		for (; bits; bits &= bits - 1) {
			uint64_t page = word * 64 + (uint64_t)__builtin_ctzll(bits) - first;
			uint64_t n = page * memory->log_page_size >> shift;
			bitmap[n / 64] |= 1ull << n % 64;
		}
	}
}

static struct kernel_mapping *find_around(const struct kernel_memory *memory, uint64_t iova, uint64_t length)
{
	struct kernel_mapping *m = memory->mappings;
	while (m && (iova < m->iova || !range_inside(iova - m->iova, length, m->length)))
		m = m->next;
	return m;
}

int kernel_memory_dirty_report(struct kernel_memory *memory, uint64_t iova, uint64_t length, uint64_t page_size,
			       uint64_t *bitmap, struct vfmig_error *err)
{
	if (!memory->log_page_size)
		return nothing_logged(err);
	struct kernel_mapping *m = find_around(memory, iova, length);
	if (!m || length == 0 || page_size < memory->log_page_size || length % page_size ||
	    (iova - m->iova) % memory->log_page_size)
		return error_set(err, -EINVAL, "written pages of 0x%llx bytes at IOVA 0x%llx: expected were whole "
				 "pages of one mapping", (unsigned long long)length, (unsigned long long)iova);
	int r = make_room(memory, m);
	if (r == 0)
		r = keep_answer(memory, m, ask);
	if (r < 0)
		return error_errno(err, kernel_meaning(r), "asking for written pages of 0x%llx bytes at IOVA 0x%llx",
				   (unsigned long long)m->length, (unsigned long long)m->iova);
	kernel_mapping_take(memory, m, iova, length, page_size, bitmap);
	return 0;
}

int kernel_memory_dirty_stop(struct kernel_memory *memory, struct vfmig_error *err)
{
	if (!memory->log_page_size)
		return nothing_logged(err);
	forget(memory);
	int r = memory->kind == KERNEL_MEMORY_CONTAINER ? kernel_type1_track(memory->fd, false) :
							  kernel_hwpt_track(memory->fd, memory->hwpt_id, false);
	return r < 0 ? error_errno(err, kernel_meaning(r), "stopping the log of written pages") : 0;
}

/*
 * An iommufd gives no bitmap with an unmap, and none after it. What the device writes between a query and the unmap
 * would be lost, so every page is told as written.
 */
int kernel_mapping_unmap_dirty(const struct kernel_memory *memory, struct kernel_mapping *m, struct vfmig_error *err)
{
	if (!memory->log_page_size)
		return nothing_logged(err);
	int r = make_room(memory, m);
	if (r == 0 && memory->kind == KERNEL_MEMORY_CONTAINER) {
		r = keep_answer(memory, m, ask_and_unmap);
	} else if (r == 0) {
		keep_all(memory, m);
		r = kernel_mapping_unmap(memory, m);
	}
	if (r == 0)
		return 0;
	return error_errno(err, kernel_meaning(r), "taking back 0x%llx bytes at IOVA 0x%llx with its written pages",
			   (unsigned long long)m->length, (unsigned long long)m->iova);
}
