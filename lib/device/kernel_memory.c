/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_memory.c: memory that a kernel device may reach, through its container (type1) or an iommufd. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/kernel_dirty.h"
#include "uapi/vfio_compat.h"

static int container_map(int fd, const struct kernel_mapping *m, uint32_t flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = (flags & VFMIG_DMA_READ ? VFIO_DMA_MAP_FLAG_READ : 0) |
			 (flags & VFMIG_DMA_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0),
		.vaddr = (uintptr_t)m->address,
		.iova = m->iova,
		.size = m->length,
	};
	return kernel_ioctl(fd, VFIO_IOMMU_MAP_DMA, &map);
}

static int ioas_map(int fd, uint32_t ioas_id, const struct kernel_mapping *m, uint32_t flags)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | (flags & VFMIG_DMA_READ ? IOMMU_IOAS_MAP_READABLE : 0) |
			 (flags & VFMIG_DMA_WRITE ? IOMMU_IOAS_MAP_WRITEABLE : 0),
		.ioas_id = ioas_id,
		.user_va = (uintptr_t)m->address,
		.length = m->length,
		.iova = m->iova,
	};
	return kernel_ioctl(fd, IOMMU_IOAS_MAP, &map);
}

static int map_failed(int r, const struct kernel_mapping *m, struct vfmig_error *err)
{
	return error_errno(err, r, "mapping 0x%llx bytes at IOVA 0x%llx for DMA%s", (unsigned long long)m->length,
			   (unsigned long long)m->iova,
			   r == -ENOMEM ? " (locked memory may be limited: ulimit -l)" :
			   r == -EINVAL ? " (both have to be multiples of the page size)" : "");
}

static int foreign(struct vfmig_error *err)
{
	return error_set(err, -EOPNOTSUPP,
			 "a device that was handed over reaches the memory that its opener maps; vfmig can map none");
}

int kernel_memory_map(struct kernel_memory *memory, uint64_t iova, uint64_t length, int fd, uint64_t offset,
		      uint32_t flags, struct vfmig_error *err)
{
	if (memory->kind == KERNEL_MEMORY_FOREIGN)
		return foreign(err);
	struct kernel_mapping *m = calloc(1, sizeof(*m));
	if (!m)
		return error_errno(err, -ENOMEM, "DMA mapping");
	*m = (struct kernel_mapping) { .iova = iova, .length = length };
	int protection = flags & VFMIG_DMA_WRITE ? PROT_READ | PROT_WRITE : PROT_READ;
	m->address = mmap(NULL, length, protection, MAP_SHARED, fd, (off_t)offset);
	if (m->address == MAP_FAILED) {
		int r = map_failed(-errno, m, err);
		free(m);
		return r;
	}
	int r = memory->kind == KERNEL_MEMORY_CONTAINER ? container_map(memory->fd, m, flags) :
							  ioas_map(memory->fd, memory->ioas_id, m, flags);
	if (r < 0) {
		map_failed(r, m, err);
		munmap(m->address, length);
		free(m);
		return r;
	}
	m->next = memory->mappings;
	memory->mappings = m;
	return 0;
}

int kernel_mapping_unmap(const struct kernel_memory *memory, const struct kernel_mapping *m)
{
	struct vfio_iommu_type1_dma_unmap type1 = { .argsz = sizeof(type1), .iova = m->iova, .size = m->length };
	struct iommu_ioas_unmap ioas = {
		.size = sizeof(ioas), .ioas_id = memory->ioas_id, .iova = m->iova, .length = m->length
	};
	return memory->kind == KERNEL_MEMORY_CONTAINER ? kernel_ioctl(memory->fd, VFIO_IOMMU_UNMAP_DMA, &type1) :
							 kernel_ioctl(memory->fd, IOMMU_IOAS_UNMAP, &ioas);
}

static void mapping_free(struct kernel_mapping *m)
{
	munmap(m->address, m->length);
	free(m->kept);
	free(m);
}

/* Where the mapping of exactly this range hangs. */
static int find_exact(struct kernel_memory *memory, uint64_t iova, uint64_t length, struct kernel_mapping ***ret,
		      struct vfmig_error *err)
{
	if (memory->kind == KERNEL_MEMORY_FOREIGN)
		return foreign(err);
	struct kernel_mapping **at = &memory->mappings;
	while (*at && ((*at)->iova != iova || (*at)->length != length))
		at = &(*at)->next;
	if (!*at)
		return error_set(err, -ENOENT, "DMA mapping of 0x%llx bytes at IOVA 0x%llx: there is none",
				 (unsigned long long)length, (unsigned long long)iova);
	*ret = at;
	return 0;
}

static void take_out(struct kernel_mapping **at)
{
	struct kernel_mapping *m = *at;
	*at = m->next;
	mapping_free(m);
}

int kernel_memory_unmap(struct kernel_memory *memory, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	struct kernel_mapping **at = NULL;
	int r = find_exact(memory, iova, length, &at, err);
	if (r < 0)
		return r;
	r = kernel_mapping_unmap(memory, *at);
	if (r < 0)
		return error_errno(err, r, "taking back 0x%llx bytes at IOVA 0x%llx", (unsigned long long)length,
				   (unsigned long long)iova);
	take_out(at);
	return 0;
}

int kernel_memory_unmap_dirty(struct kernel_memory *memory, uint64_t iova, uint64_t length, uint64_t page_size,
			      uint64_t *bitmap, struct vfmig_error *err)
{
	struct kernel_mapping **at = NULL;
	int r = find_exact(memory, iova, length, &at, err);
	if (r == 0)
		r = kernel_mapping_unmap_dirty(memory, *at, err);
	if (r < 0)
		return r;
	kernel_mapping_take(memory, *at, iova, length, page_size, bitmap);
	take_out(at);
	return 0;
}

void kernel_memory_close(struct kernel_memory *memory)
{
	while (memory->mappings) {
		struct kernel_mapping *next = memory->mappings->next;
		mapping_free(memory->mappings);
		memory->mappings = next;
	}
	if (memory->group >= 0)
		close(memory->group);
	if (memory->fd >= 0)
		close(memory->fd);
	*memory = KERNEL_NO_MEMORY;
}
