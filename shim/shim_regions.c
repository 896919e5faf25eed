/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_regions.c: reading, writing and mapping a device's regions by its fd. */
#include "shim_regions.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"

#define OFFSET_MASK ((UINT64_C(1) << SHIM_REGION_SHIFT) - 1)
#define IO_MAX 0x7ffff000u /* the kernel's MAX_RW_COUNT */

struct shim_map {
	struct shim_map *next;
	uint32_t region;
	struct access_area area;
	void *address;
};

/* read() and write() go by the fd's position. */
static off_t position(int fd, off_t offset)
{
	return offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR);
}

static ssize_t done(int fd, off_t offset, int r, size_t length)
{
	if (r < 0)
		return shim_errno(r);
	if (offset < 0)
		lseek(fd, (off_t)length, SEEK_CUR);
	return (ssize_t)length;
}

ssize_t shim_regions_read(struct shim_device *d, int fd, void *buffer, size_t length, off_t offset)
{
	uint64_t at = (uint64_t)position(fd, offset);

	length = min_u64(length, IO_MAX);
	pthread_mutex_lock(&d->lock);
	int r = length ? access_region_read(d->access, (uint32_t)(at >> SHIM_REGION_SHIFT), at & OFFSET_MASK, buffer,
					    length, NULL) : 0;
	pthread_mutex_unlock(&d->lock);
	return done(fd, offset, r, length);
}

ssize_t shim_regions_write(struct shim_device *d, int fd, const void *buffer, size_t length, off_t offset)
{
	uint64_t at = (uint64_t)position(fd, offset);

	length = min_u64(length, IO_MAX);
	pthread_mutex_lock(&d->lock);
	int r = length ? access_region_write(d->access, (uint32_t)(at >> SHIM_REGION_SHIFT), at & OFFSET_MASK, buffer,
					     length, NULL) : 0;
	pthread_mutex_unlock(&d->lock);
	return done(fd, offset, r, length);
}

/* The area that has all of the range. */
static int find_area(struct shim_device *d, uint32_t region, uint64_t offset, size_t length, struct access_area *ret)
{
	struct access_region_info info;
	int r = access_region_info(d->access, region, &info, NULL);

	if (r < 0)
		return r;
	r = -EINVAL;
	for (size_t i = 0; i < info.num_areas; i++) {
		const struct access_area *a = &info.areas[i];
		if (offset >= a->offset && range_inside(offset - a->offset, length, a->size)) {
			*ret = *a;
			r = 0;
		}
	}
	access_region_info_clear(&info);
	return r;
}

/* An area is mapped once, and from there as often as the program wants. */
static int map_area(struct shim_device *d, uint32_t region, const struct access_area *area, void **ret)
{
	for (const struct shim_map *m = d->maps; m; m = m->next)
		if (m->region == region && m->area.offset == area->offset) {
			*ret = m->address;
			return 0;
		}
	struct shim_map *m = malloc(sizeof(*m));
	if (!m)
		return -ENOMEM;
	*m = (struct shim_map){ .next = d->maps, .region = region, .area = *area };
	int r = access_region_map(d->access, region, area, &m->address, NULL);
	if (r < 0) {
		free(m);
		return r;
	}
	d->maps = m;
	*ret = m->address;
	return 0;
}

/* A second mapping of the same pages: mremap with an old size of 0. */
static int map_again(void *from, void *address, size_t length, int protection, int flags, void **ret)
{
	int how = MREMAP_MAYMOVE;

	if (flags & MAP_FIXED_NOREPLACE)
		return -EOPNOTSUPP;
	if (flags & MAP_FIXED)
		how |= MREMAP_FIXED;
	void *p = mremap(from, 0, length, how, address);
	if (p == MAP_FAILED)
		return -errno;
	if (mprotect(p, length, protection) < 0) {
		int r = -errno;
		munmap(p, length);
		return r;
	}
	*ret = p;
	return 0;
}

int shim_regions_mmap(struct shim_device *d, void *address, size_t length, int protection, int flags, off_t offset,
		      void **ret)
{
	uint32_t region = (uint32_t)((uint64_t)offset >> SHIM_REGION_SHIFT);
	uint64_t begin = (uint64_t)offset & OFFSET_MASK;
	struct access_area area;
	void *base;

	if (!(flags & MAP_SHARED) || !length || offset % SHIM_PAGE)
		return -EINVAL;
	length = (length + SHIM_PAGE - 1) / SHIM_PAGE * SHIM_PAGE;
	pthread_mutex_lock(&d->lock);
	int r = find_area(d, region, begin, length, &area);
	if (r == 0)
		r = map_area(d, region, &area, &base);
	if (r == 0)
		r = map_again((char *)base + (begin - area.offset), address, length, protection, flags, ret);
	pthread_mutex_unlock(&d->lock);
	return r == -EOPNOTSUPP ? r : shim_errno(r);
}

void shim_regions_unmap(struct shim_device *d)
{
	while (d->maps) {
		struct shim_map *m = d->maps;
		d->maps = m->next;
		access_region_unmap(d->access, m->address, &m->area);
		free(m);
	}
}
