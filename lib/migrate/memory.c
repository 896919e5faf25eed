/* SPDX-License-Identifier: BSD-3-Clause */
/* memory.c: guest memory: its blocks, where devices reach them, and who tells of writes. */
#include "migrate/memory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/options.h"

typedef unsigned long long ull;

struct memory_source {
	struct memory_source *next;
	struct vfmig_memory *memory;
	struct vfmig_dirty_ops ops;
	void *opaque;
};

int vfmig_memory_new(struct vfmig_memory **ret_memory, struct vfmig_error *err)
{
	struct vfmig_memory *m = calloc(1, sizeof(*m));
	int r = m ? dirty_new(&m->dirty, err) : error_errno(err, -ENOMEM, "memory");
	if (r < 0) {
		free(m);
		return r;
	}
	*ret_memory = m;
	return 0;
}

void vfmig_memory_free(struct vfmig_memory *memory)
{
	if (!memory)
		return;
	dirty_free(memory->dirty);
	for (size_t i = 0; i < memory->count; i++) {
		if (memory->blocks[i].fd < 0)
			continue;
		munmap(memory->blocks[i].address, memory->blocks[i].length);
		close(memory->blocks[i].fd);
	}
	while (memory->sources) {
		struct memory_source *next = memory->sources->next;
		free(memory->sources);
		memory->sources = next;
	}
	free(memory->blocks);
	free(memory);
}

struct memory_block *memory_find(struct vfmig_memory *m, const char *name, size_t length)
{
	for (size_t i = 0; i < m->count; i++)
		if (strlen(m->blocks[i].name) == length && memcmp(m->blocks[i].name, name, length) == 0)
			return &m->blocks[i];
	return NULL;
}

/* Blocks that are skipped stand behind the others, whose numbers are the tracker's. */
static int append(struct vfmig_memory *m, struct memory_block *block, const char *name, struct vfmig_error *err)
{
	size_t length = strlen(name);
	if (length == 0 || length > WIRE_ID_MAX)
		return error_set(err, -EINVAL, "a memory block's name has 1 to %u bytes, \"%s\" has %zu", WIRE_ID_MAX,
				 name, length);
	if (memory_find(m, name, length))
		return error_set(err, -EEXIST, "memory block \"%s\" is given twice", name);
	struct memory_block *blocks = reallocarray(m->blocks, m->count + 1, sizeof(*blocks));
	if (!blocks)
		return error_errno(err, -ENOMEM, "memory");
	m->blocks = blocks;
	int r = block->skipped ? 0 : dirty_add_block(m->dirty, block->length, err);
	if (r < 0)
		return error_prefix(err, r, "memory block \"%s\"", name);
	memcpy(block->name, name, length + 1);
	size_t at = m->count++;
	for (; !block->skipped && at > 0 && blocks[at - 1].skipped; at--)
		blocks[at] = blocks[at - 1];
	blocks[at] = *block;
	return 0;
}

int vfmig_memory_add(struct vfmig_memory *memory, const char *name, void *address, uint64_t length,
		     struct vfmig_error *err)
{
	struct memory_block block = { .address = address, .length = length, .fd = -1 };
	return append(memory, &block, name, err);
}

/* A file that is shorter would kill us at the first page behind its end. */
static int check_file(int fd, uint64_t offset, uint64_t length, struct vfmig_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return error_errno(err, -errno, "fd %d", fd);
	if (length == 0 || (S_ISREG(st.st_mode) && !range_inside(offset, length, (uint64_t)st.st_size)))
		return error_set(err, -EINVAL, "0x%llx bytes at 0x%llx of a file of 0x%llx bytes", (ull)length,
				 (ull)offset, (ull)st.st_size);
	return 0;
}

int vfmig_memory_add_fd(struct vfmig_memory *memory, const char *name, int fd, uint64_t offset, uint64_t length,
			struct vfmig_error *err)
{
	struct memory_block block = { .length = length, .offset = offset };
	int r = check_file(fd, offset, length, err);
	if (r < 0)
		return error_prefix(err, r, "memory block \"%s\"", name);
	void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
	if (address == MAP_FAILED)
		return error_errno(err, -errno, "memory block \"%s\": mapping 0x%llx bytes", name, (ull)length);
	block.address = address;
	block.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	r = block.fd < 0 ? error_errno(err, -errno, "memory block \"%s\"", name) : append(memory, &block, name, err);
	if (r < 0) {
		munmap(address, length);
		if (block.fd >= 0)
			close(block.fd);
	}
	return r;
}

int vfmig_memory_skip(struct vfmig_memory *memory, const char *name, struct vfmig_error *err)
{
	struct memory_block block = { .fd = -1, .skipped = true };
	return append(memory, &block, name, err);
}

static int find(struct vfmig_memory *m, const char *name, struct memory_block **ret, struct vfmig_error *err)
{
	struct memory_block *b = memory_find(m, name, strlen(name));
	if (!b || b->skipped)
		return error_set(err, -ENOENT, "memory block \"%s\": there is none", name);
	*ret = b;
	return 0;
}

int vfmig_memory_set_iova(struct vfmig_memory *memory, const char *name, uint64_t offset, uint64_t length,
			  uint64_t iova, struct vfmig_error *err)
{
	struct memory_block *b = NULL;
	int r = find(memory, name, &b, err);
	if (r < 0)
		return r;
	r = dirty_add_window(memory->dirty, (size_t)(b - memory->blocks), offset, length, iova, err);
	if (r < 0)
		return error_prefix(err, r, "memory block \"%s\"", name);
	if (offset == 0 && length == b->length) {
		b->iova = iova;
		b->iova_length = length;
	}
	return 0;
}

int vfmig_memory_map(struct vfmig_memory *memory, struct vfmig_device *device, struct vfmig_error *err)
{
	for (size_t i = 0; i < memory->count; i++) {
		const struct memory_block *b = &memory->blocks[i];
		if (b->fd < 0 || !b->iova_length)
			continue;
		int r = vfmig_device_dma_map(device, b->iova, b->length, b->fd, b->offset,
					     VFMIG_DMA_READ | VFMIG_DMA_WRITE, err);
		if (r < 0)
			return error_prefix(err, r, "memory block \"%s\"", b->name);
	}
	return 0;
}

int vfmig_memory_add_device(struct vfmig_memory *memory, struct vfmig_device *device, struct vfmig_error *err)
{
	return dirty_add_device(memory->dirty, device, err);
}

/* -------------------------------------------------------------- the caller's */

static int ops_start(void *opaque, struct vfmig_error *err)
{
	struct memory_source *s = opaque;
	return s->ops.start ? s->ops.start(s->opaque, err) : 0;
}

static int ops_sync(void *opaque, struct vfmig_error *err)
{
	struct memory_source *s = opaque;
	return s->ops.sync(s->opaque, s->memory, err);
}

static void ops_stop(void *opaque)
{
	struct memory_source *s = opaque;
	if (s->ops.stop)
		s->ops.stop(s->opaque);
}

int vfmig_memory_add_dirty_ops(struct vfmig_memory *memory, const struct vfmig_dirty_ops *ops, void *opaque,
			       struct vfmig_error *err)
{
	static const struct dirty_source_ops adapter = { ops_start, ops_sync, ops_stop };
	struct memory_source *s = calloc(1, sizeof(*s));
	if (!s)
		return error_errno(err, -ENOMEM, "memory");
	int r = options_read(&s->ops, sizeof(s->ops), ops, "dirty ops", err);
	if (r == 0 && !s->ops.sync)
		r = error_set(err, -EINVAL, "dirty ops without sync");
	if (r == 0) {
		s->memory = memory;
		s->opaque = opaque;
		r = dirty_add_source(memory->dirty, &adapter, s, err);
	}
	if (r < 0) {
		free(s);
		return r;
	}
	s->next = memory->sources;
	memory->sources = s;
	return 0;
}

int vfmig_memory_set_dirty(struct vfmig_memory *memory, const char *name, uint64_t offset, uint64_t length,
			   struct vfmig_error *err)
{
	struct memory_block *b = NULL;
	int r = find(memory, name, &b, err);
	if (r == 0)
		r = dirty_mark(memory->dirty, (size_t)(b - memory->blocks), offset, length, err);
	return r < 0 ? error_prefix(err, r, "memory block \"%s\"", name) : 0;
}

int vfmig_memory_merge_dirty(struct vfmig_memory *memory, const char *name, uint64_t offset, uint64_t length,
			     uint64_t page_size, const uint64_t *bitmap, struct vfmig_error *err)
{
	struct memory_block *b = NULL;
	int r = find(memory, name, &b, err);
	if (r == 0)
		r = dirty_merge(memory->dirty, (size_t)(b - memory->blocks), offset, length, page_size, bitmap, err);
	return r < 0 ? error_prefix(err, r, "memory block \"%s\"", name) : 0;
}

/* ------------------------------------------------------------------- pages */

/* By the fd where there is one: reading a page that nobody wrote through a mapping would make it. */
int memory_read(const struct memory_block *b, uint64_t offset, void *buffer, size_t length, struct vfmig_error *err)
{
	size_t done = 0;
	while (b->fd >= 0 && done < length) {
		ssize_t n = pread(b->fd, (char *)buffer + done, length - done, (off_t)(b->offset + offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EINVAL || errno == ESPIPE)) /* no file that can be read: a device's memory */
			break;
		if (n <= 0)
			return error_errno(err, n < 0 ? -errno : -EIO,
					   "memory block \"%s\": reading 0x%llx bytes at 0x%llx", b->name,
					   (ull)(length - done), (ull)(offset + done));
		done += (size_t)n;
	}
	memcpy((char *)buffer + done, b->address + offset + done, length - done);
	return 0;
}

bool memory_is_zero(const uint8_t *data, size_t length)
{
	/* The first bytes are zero, and each byte is the one 16 before it. */
	static const uint8_t zero[16];
	return length < sizeof(zero) ? memcmp(data, zero, length) == 0 :
				       memcmp(data, zero, sizeof(zero)) == 0 &&
					       memcmp(data, data + sizeof(zero), length - sizeof(zero)) == 0;
}

void memory_status(const struct vfmig_memory *memory, struct vfmig_status *ret)
{
	struct dirty_stats stats = dirty_stats(memory->dirty);
	ret->memory_pages = memory->pages;
	ret->memory_zero_pages = memory->zero_pages;
	ret->dirty_syncs = stats.syncs;
	ret->dirty_pages = stats.found;
	ret->dirty_interval_ns = stats.interval_ns;
}
