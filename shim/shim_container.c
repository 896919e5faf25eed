/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_container.c: /dev/vfio/vfio: the ioctls of a container with a type1v2 IOMMU. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "shim.h"
#include "shim_caps.h"

#define IOVA_LAST ((UINT64_C(1) << 48) - 1)
#define BITMAP_MAX (UINT64_C(1) << 28) /* bytes: the kernel's DIRTY_BITMAP_SIZE_MAX */
#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

/* The kernel's list, of what is done here. */
static long check_extension(unsigned long extension)
{
	return extension == VFIO_TYPE1v2_IOMMU || extension == VFIO_TYPE1_IOMMU || extension == VFIO_UNMAP_ALL;
}

static long set_iommu(struct shim_container *c, unsigned long type)
{
	if (!c->groups || c->has_iommu)
		return -EINVAL;
	if (type != VFIO_TYPE1v2_IOMMU && type != VFIO_TYPE1_IOMMU)
		return -ENODEV;
	c->has_iommu = true;
	return 0;
}

/* ------------------------------------------------------------------- info */

struct iova_range_cap { /* struct vfio_iommu_type1_info_cap_iova_range with one range */
	struct vfio_info_cap_header header;
	uint32_t nr_iovas, reserved;
	struct vfio_iova_range range;
};

struct dma_avail_cap {
	struct vfio_iommu_type1_info_dma_avail cap;
	uint32_t padding;
};

static void fill_caps(const struct shim_container *c, struct shim_caps *caps)
{
	struct iova_range_cap range = {
		.header.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
		.nr_iovas = 1,
		.range = { .start = 0, .end = IOVA_LAST },
	};
	struct vfio_iommu_type1_info_cap_migration migration = {
		.header.id = VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
		.pgsize_bitmap = SHIM_PAGE,
		.max_dirty_bitmap_size = BITMAP_MAX,
	};
	struct dma_avail_cap avail = {
		.cap = { .header.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, .avail = 65535 - (uint32_t)c->memory.count },
	};
	shim_caps_add(caps, &migration, sizeof(migration));
	shim_caps_add(caps, &avail, sizeof(avail));
	shim_caps_add(caps, &range, sizeof(range));
}

static long get_info(const struct shim_container *c, struct vfio_iommu_type1_info *arg)
{
	uint64_t bytes[16];
	struct shim_caps caps = { .bytes = (uint8_t *)bytes, .base = sizeof(*arg) };
	uint32_t room = arg->argsz;

	if (room < END_OF(struct vfio_iommu_type1_info, iova_pgsizes))
		return -EINVAL;
	fill_caps(c, &caps);
	struct vfio_iommu_type1_info info = {
		.argsz = room,
		.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
		.iova_pgsizes = ~(uint64_t)(SHIM_PAGE - 1),
	};
	if (room < sizeof(info) + caps.size) {
		info.argsz = (uint32_t)sizeof(info) + caps.size;
	} else {
		info.cap_offset = sizeof(info);
		memcpy((char *)arg + sizeof(info), bytes, caps.size);
	}
	memcpy(arg, &info, min_u64(room, END_OF(struct vfio_iommu_type1_info, cap_offset)));
	return 0;
}

/* -------------------------------------------------------------------- DMA */

/* What devices in the container are told of a mapping. */
static int tell_map(struct shim_device *d, const struct shim_mapping *m)
{
	pthread_mutex_lock(&d->lock);
	int r = d->access ? access_dma_map(d->access, m->iova, m->size, -1, m->address, m->flags, NULL) : 0;
	pthread_mutex_unlock(&d->lock);
	return r;
}

static void tell_unmap(struct shim_device *d, const struct shim_mapping *m)
{
	pthread_mutex_lock(&d->lock);
	if (d->access)
		access_dma_unmap(d->access, m->iova, m->size, NULL);
	pthread_mutex_unlock(&d->lock);
}

static void tell_all_unmap(const struct shim_container *c, const struct shim_group *end, const struct shim_mapping *m)
{
	for (const struct shim_group *g = c->groups; g != end; g = g->next)
		tell_unmap(g->device, m);
}

int shim_container_replay(struct shim_container *c, struct shim_device *d)
{
	int r = 0;

	for (size_t i = 0; i < c->memory.count && r == 0; i++)
		r = tell_map(d, &c->memory.mappings[i]);
	return r;
}

/* Ours first: DMA may come before a device has answered. */
static long map(struct shim_container *c, const struct shim_mapping *m)
{
	int r = shim_memory_add(&c->memory, m);
	const struct shim_group *g = c->groups;

	for (; r == 0 && g; g = g->next) {
		r = tell_map(g->device, m);
		if (r < 0)
			break;
	}
	if (r < 0 && r != -EEXIST) {
		size_t at = shim_memory_find(&c->memory, m->iova);
		tell_all_unmap(c, g, m);
		if (at < c->memory.count && c->memory.mappings[at].iova == m->iova)
			shim_memory_remove(&c->memory, at);
	}
	return shim_errno(r);
}

static long map_dma(struct shim_container *c, const struct vfio_iommu_type1_dma_map *arg)
{
	const uint32_t access = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

	if (arg->argsz < END_OF(struct vfio_iommu_type1_dma_map, size) || (arg->flags & ~access) || !arg->flags)
		return -EINVAL;
	if (!arg->size || (arg->size | arg->iova | arg->vaddr) % SHIM_PAGE)
		return -EINVAL;
	if (arg->vaddr > UINT64_MAX - arg->size || !range_inside(arg->iova, arg->size, IOVA_LAST + 1))
		return -EINVAL;
	const struct shim_mapping m = {
		.iova = arg->iova, .size = arg->size, .address = arg->vaddr, .flags = arg->flags,
	};
	return map(c, &m);
}

/* Does every device in it say which pages it writes? If not, all of them may be. */
static bool all_dirty(const struct shim_container *c)
{
	for (const struct shim_group *g = c->groups; g; g = g->next)
		if (g->device->opens && !g->device->tells_dma)
			return true;
	return false;
}

/* Is it a bitmap for so many bytes of memory? */
static int check_bitmap(const struct vfio_bitmap *b, uint64_t size)
{
	uint64_t pages = size / SHIM_PAGE;

	if (b->pgsize != SHIM_PAGE || !pages || !b->size || b->size > BITMAP_MAX)
		return -EINVAL;
	return (pages + 63) / 64 * 8 > b->size ? -EINVAL : 0;
}

static int check_unmap(const struct shim_container *c, const struct vfio_iommu_type1_dma_unmap *arg,
		       const struct vfio_bitmap *bitmap)
{
	const uint32_t known = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | VFIO_DMA_UNMAP_FLAG_ALL;

	if ((arg->flags & ~known) || (arg->flags & known) == known)
		return -EINVAL;
	if (arg->flags & VFIO_DMA_UNMAP_FLAG_ALL)
		return arg->iova || arg->size ? -EINVAL : 0;
	if (!arg->size || (arg->iova | arg->size) % SHIM_PAGE || arg->iova > UINT64_MAX - (arg->size - 1))
		return -EINVAL;
	if (bitmap) {
		if (arg->argsz < sizeof(*arg) + sizeof(*bitmap) || !c->memory.tracking)
			return -EINVAL;
		int r = check_bitmap(bitmap, arg->size);
		if (r < 0)
			return r;
	}
	return shim_memory_check_cut(&c->memory, arg->iova, arg->iova + (arg->size - 1));
}

static long unmap_dma(struct shim_container *c, struct vfio_iommu_type1_dma_unmap *arg)
{
	struct vfio_bitmap *bitmap = NULL;
	uint64_t unmapped = 0;

	if (arg->argsz < END_OF(struct vfio_iommu_type1_dma_unmap, size))
		return -EINVAL;
	if (arg->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP)
		bitmap = (void *)arg->data;
	int r = check_unmap(c, arg, bitmap);
	if (r < 0)
		return r;
	bool all = arg->flags & VFIO_DMA_UNMAP_FLAG_ALL;
	uint64_t last = all ? UINT64_MAX : arg->iova + (arg->size - 1);
	size_t at = shim_memory_find(&c->memory, arg->iova), end = at;
	for (; end < c->memory.count && c->memory.mappings[end].iova <= last; end++)
		tell_all_unmap(c, NULL, &c->memory.mappings[end]);
	if (bitmap)
		shim_memory_take_dirty(&c->memory, arg->iova, last, all_dirty(c), (void *)bitmap->data);
	for (; end > at; end--) {
		unmapped += c->memory.mappings[end - 1].size;
		shim_memory_remove(&c->memory, end - 1);
	}
	arg->size = unmapped;
	return 0;
}

static long get_dirty(struct shim_container *c, const struct vfio_iommu_type1_dirty_bitmap *arg)
{
	const struct vfio_iommu_type1_dirty_bitmap_get *get = (const void *)arg->data;

	if (arg->argsz < sizeof(*arg) + sizeof(*get))
		return -EINVAL;
	if (!get->size || (get->iova | get->size) % SHIM_PAGE || get->iova > UINT64_MAX - (get->size - 1))
		return -EINVAL;
	int r = check_bitmap(&get->bitmap, get->size);
	if (r == 0 && !c->memory.tracking)
		r = -EINVAL;
	uint64_t last = get->iova + (get->size - 1);
	if (r == 0)
		r = shim_memory_check_cut(&c->memory, get->iova, last);
	if (r == 0)
		shim_memory_take_dirty(&c->memory, get->iova, last, all_dirty(c), (void *)get->bitmap.data);
	return r;
}

static long dirty_pages(struct shim_container *c, const struct vfio_iommu_type1_dirty_bitmap *arg)
{
	if (arg->argsz < sizeof(*arg))
		return -EINVAL;
	switch (arg->flags) {
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
		return shim_memory_track(&c->memory, true);
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
		return shim_memory_track(&c->memory, false);
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
		return get_dirty(c, arg);
	default:
		return -EINVAL;
	}
}

/* ------------------------------------------------------------------- file */

static long iommu_ioctl(struct shim_container *c, unsigned long request, void *arg)
{
	if (!c->has_iommu)
		return -EINVAL;
	switch (request) {
	case VFIO_IOMMU_GET_INFO:
		return get_info(c, arg);
	case VFIO_IOMMU_MAP_DMA:
		return map_dma(c, arg);
	case VFIO_IOMMU_UNMAP_DMA:
		return unmap_dma(c, arg);
	case VFIO_IOMMU_DIRTY_PAGES:
		return dirty_pages(c, arg);
	default:
		return -ENOTTY;
	}
}

static long container_ioctl(struct shim_file *f, int fd, unsigned long request, void *arg)
{
	struct shim_container *c = (struct shim_container *)f;
	long r;

	(void)fd;
	if (request == VFIO_GET_API_VERSION)
		return VFIO_API_VERSION;
	if (request == VFIO_CHECK_EXTENSION)
		return check_extension((unsigned long)arg);
	shim_control_lock();
	r = request == VFIO_SET_IOMMU ? set_iommu(c, (unsigned long)arg) : iommu_ioctl(c, request, arg);
	shim_control_unlock();
	return r;
}

/* No group is attached any more: each holds it. */
static void container_release(struct shim_file *f)
{
	struct shim_container *c = (struct shim_container *)f;

	shim_memory_destroy(&c->memory);
	free(c);
}

static const struct shim_file_ops container_ops = { .ioctl = container_ioctl, .release = container_release };

int shim_container_open(bool cloexec)
{
	struct shim_container *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->file = (struct shim_file){ &container_ops, 1 };
	shim_memory_init(&c->memory);
	int fd = shim_file_new_fd(&c->file, "vfmig-container", cloexec);
	shim_file_put(&c->file);
	return fd;
}

int shim_container_attach(int fd, struct shim_group *g)
{
	struct shim_file *f = shim_file_get(fd);

	if (!f || f->ops != &container_ops) {
		shim_file_put(f);
		return -EINVAL;
	}
	struct shim_container *c = (struct shim_container *)f; /* g keeps what get held */
	g->container = c;
	g->next = c->groups;
	c->groups = g;
	return 0;
}

void shim_container_detach(struct shim_group *g)
{
	struct shim_container *c = g->container;

	for (struct shim_group **at = &c->groups; *at; at = &(*at)->next)
		if (*at == g) {
			*at = g->next;
			break;
		}
	g->container = NULL;
	if (!c->groups) { /* the last one takes the IOMMU with it */
		shim_memory_destroy(&c->memory);
		shim_memory_init(&c->memory);
		c->has_iommu = false;
	}
	shim_file_put(&c->file);
}
