/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_files.c: memory that moves with the devices, as files: --memory and --skip-memory. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory_files.h"
#include "base/error.h"
#include "open.h"

#define FORM "expected NAME=PATH[,size=SIZE][,iova=IOVA]"
#define PAGE 4096u

static int parse_part(struct memory_argument *m, const char *part)
{
	if (!strncmp(part, "size=", 5))
		return open_parse_size(part + 5, &m->size) && m->size ? 0 : -EINVAL;
	m->has_iova = true;
	return !strncmp(part, "iova=", 5) && open_parse_size(part + 5, &m->iova) ? 0 : -EINVAL;
}

int memory_parse(struct memory_arguments *a, const char *text, struct vfmig_error *err)
{
	if (a->count == MEMORY_MAX)
		return error_set(err, -EINVAL, "more than %d --memory", MEMORY_MAX);
	struct memory_argument m = { .name = strdup(text) };
	if (!m.name)
		return error_errno(err, -ENOMEM, "--memory");
	char *path = strchr(m.name, '='), *next = path ? strchr(path, ',') : NULL;
	int r = path && path != m.name && path[1] && path[1] != ',' ? 0 : -EINVAL;
	while (r == 0 && next) {
		char *part = next + 1;
		*next = '\0';
		next = strchr(part, ',');
		if (next)
			*next = '\0';
		r = parse_part(&m, part);
	}
	if (r < 0) {
		free(m.name);
		return error_set(err, r, "'%s': " FORM, text);
	}
	*path = '\0';
	m.path = path + 1;
	a->list[a->count++] = m;
	return 0;
}

static int size_of(int fd, const struct memory_argument *m, uint64_t *ret, struct vfmig_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return error_errno(err, -errno, "%s", m->path);
	uint64_t size = m->size ? m->size : (uint64_t)st.st_size;
	if (!size || size % PAGE)
		return error_set(err, -EINVAL, "%s has %llu bytes: memory has whole pages of %u; ,size= grows it",
				 m->path, (unsigned long long)size, PAGE);
	if (size > (uint64_t)st.st_size && ftruncate(fd, (off_t)size) < 0)
		return error_errno(err, -errno, "%s: grow to %llu bytes", m->path, (unsigned long long)size);
	*ret = size;
	return 0;
}

static int add(struct vfmig_memory *memory, const struct memory_argument *m, uint64_t *next_iova,
	       struct vfmig_error *err)
{
	uint64_t size = 0;
	int fd = open(m->path, O_RDWR | O_CLOEXEC | (m->size ? O_CREAT : 0), 0600);
	if (fd < 0)
		return error_errno(err, -errno, "%s", m->path);
	int r = size_of(fd, m, &size, err);
	if (r == 0)
		r = vfmig_memory_add_fd(memory, m->name, fd, 0, size, err);
	close(fd);
	if (r < 0)
		return r;
	uint64_t iova = m->has_iova ? m->iova : *next_iova;
	r = vfmig_memory_set_iova(memory, m->name, 0, size, iova, err);
	if (r == 0)
		*next_iova = iova + size;
	return r;
}

int memory_open(const struct memory_arguments *a, struct vfmig_memory **ret, struct vfmig_error *err)
{
	struct vfmig_memory *memory;
	uint64_t next_iova = 0;
	if (!a->count && !a->num_skipped)
		return 0;
	int r = vfmig_memory_new(&memory, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < a->count && r == 0; i++)
		r = add(memory, &a->list[i], &next_iova, err);
	for (size_t i = 0; i < a->num_skipped && r == 0; i++)
		r = vfmig_memory_skip(memory, a->skipped[i], err);
	if (r < 0) {
		vfmig_memory_free(memory);
		return r;
	}
	*ret = memory;
	return 0;
}

void memory_arguments_clear(struct memory_arguments *a)
{
	for (size_t i = 0; i < a->count; i++)
		free(a->list[i].name);
}
