/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_kernel.c: takes the place of libc's functions in a test program, and answers for VFIO. */
#include "fake_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "uapi/vfio_compat.h"

struct fake_kernel fake;

size_t fake_called(unsigned long request)
{
	size_t n = 0;
	for (size_t i = 0; i < fake.num_calls; i++)
		n += fake.calls[i] == request;
	return n;
}

static int fail(int code)
{
	errno = code;
	return -1;
}

static int device_info(struct vfio_device_info *info)
{
	info->flags = VFIO_DEVICE_FLAGS_PCI;
	info->num_regions = VFIO_PCI_NUM_REGIONS;
	info->num_irqs = VFIO_PCI_NUM_IRQS;
	return 0;
}

static int region_info(struct vfio_region_info *info)
{
	struct vfio_region_info made;
	memcpy(&made, fake.region_info, sizeof(made));
	if (!made.argsz) {
		*info = (struct vfio_region_info) { .argsz = sizeof(*info), .flags = 7, .index = info->index,
						    .size = 4096, .offset = info->index * 4096ull };
	} else if (info->argsz < made.argsz) {
		uint32_t index = info->index;
		*info = made;
		info->cap_offset = 0;
		info->index = index;
	} else {
		memcpy(info, fake.region_info, made.argsz);
	}
	return 0;
}

static int mig_state(const struct vfio_device_feature *feature, struct vfio_device_feature_mig_state *state)
{
	if (feature->flags & VFIO_DEVICE_FEATURE_SET) {
		fake.mig_state = state->device_state;
		state->data_fd = fake.next_data_fd ? fake.next_data_fd : -1;
		fake.next_data_fd = 0;
	} else {
		*state = (struct vfio_device_feature_mig_state) { fake.mig_state, -1 };
	}
	return 0;
}

void fake_write(uint64_t first, uint64_t count)
{
	for (uint64_t page = first; page < first + count; page++)
		fake.written[page / 64] |= 1ull << page % 64;
}

/* Pages of 4096 bytes into bits of page_size; what is written is forgotten in steps of clear_size. */
static int query(uint64_t iova, uint64_t length, uint64_t page_size, uint64_t clear_size, uint64_t *bitmap)
{
	for (uint64_t at = 0; at < length; at += 4096) {
		uint64_t page = (iova + at) / 4096, bit = at / page_size;
		if (page < FAKE_PAGES && fake.written[page / 64] >> page % 64 & 1)
			bitmap[bit / 64] |= 1ull << bit % 64;
	}
	uint64_t begin = iova / clear_size * clear_size;
	uint64_t end = (iova + length + clear_size - 1) / clear_size * clear_size;
	for (uint64_t page = begin / 4096; page < end / 4096 && page < FAKE_PAGES; page++)
		fake.written[page / 64] &= ~(1ull << page % 64);
	if (!fake.query_errno)
		return 0;
	errno = fake.query_errno;
	fake.query_errno = 0;
	return -1;
}

static int log_start(struct vfio_device_feature_dma_logging_control *control)
{
	const struct fake_range *ranges = (const void *)(uintptr_t)control->ranges;
	if (control->num_ranges > FAKE_RANGES_MAX)
		return fail(E2BIG);
	if (fake.logging || !control->num_ranges)
		return fail(EINVAL);
	for (uint32_t i = 0; i < control->num_ranges; i++)
		if (ranges[i].iova % control->page_size || ranges[i].length % control->page_size)
			return fail(EINVAL);
	memcpy(fake.log_ranges, ranges, control->num_ranges * sizeof(*ranges));
	fake.num_log_ranges = control->num_ranges;
	fake.logging = true;
	if (fake.device_page_size)
		control->page_size = fake.device_page_size;
	return 0;
}

static int log_report(const struct vfio_device_feature_dma_logging_report *report)
{
	if (fake.no_report)
		return fail(EOPNOTSUPP);
	if (!fake.logging || report->page_size < 4096 || (report->page_size & (report->page_size - 1)))
		return fail(EINVAL);
	return query(report->iova, report->length, report->page_size, 4096, (uint64_t *)(uintptr_t)report->bitmap);
}

static int log_feature(struct vfio_device_feature *f, uint32_t index)
{
	if (index == VFIO_DEVICE_FEATURE_DMA_LOGGING_START)
		return log_start((void *)f->data);
	if (index == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)
		return log_report((void *)f->data);
	fake.logging = false;
	return 0;
}

static int feature(struct vfio_device_feature *f)
{
	uint32_t index = f->flags & VFIO_DEVICE_FEATURE_MASK;
	if (index == VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
		return mig_state(f, (void *)f->data);
	if (index >= VFIO_DEVICE_FEATURE_DMA_LOGGING_START && index <= VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)
		return log_feature(f, index);
	if (f->flags == (VFIO_DEVICE_FEATURE_SET | FAKE_PRECOPY_INFO_V2) && fake.has_precopy_info_v2)
		return fake.opted_in = true, 0;
	if (index != VFIO_DEVICE_FEATURE_MIGRATION || !fake.migration_flags)
		return fail(ENOTTY);
	memcpy(f->data, &fake.migration_flags, sizeof(fake.migration_flags));
	return 0;
}

static int set_irqs(const struct vfio_irq_set *set)
{
	fake.irq_flags = set->flags;
	fake.irq_count = set->count;
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		memcpy(fake.irq_fds, set->data, (set->count < 4 ? set->count : 4) * sizeof(int));
	return 0;
}

static int map_dma(uint64_t iova, uint64_t length, uint32_t flags)
{
	fake.map_iova = iova;
	fake.map_length = length;
	fake.map_flags = flags;
	for (int i = 0; i < FAKE_MAPPINGS_MAX; i++)
		if (!fake.mappings[i].length) {
			fake.mappings[i] = (struct fake_range) { iova, length };
			break;
		}
	return 0;
}

static struct fake_range *mapping(uint64_t iova, uint64_t length)
{
	for (int i = 0; i < FAKE_MAPPINGS_MAX; i++)
		if (fake.mappings[i].iova == iova && fake.mappings[i].length == length)
			return &fake.mappings[i];
	return NULL;
}

static int unmap_dma(uint64_t iova, uint64_t length)
{
	struct fake_range *m = mapping(iova, length);
	if (m)
		m->length = 0;
	return 0;
}

static int container_info(struct vfio_iommu_type1_info *info)
{
	uint32_t argsz;
	memcpy(&argsz, fake.container_info, sizeof(argsz));
	if (argsz > info->argsz)
		info->argsz = argsz;
	else if (argsz)
		memcpy(info, fake.container_info, argsz);
	return 0;
}

/* The words of the bitmap are overwritten, by type1. */
static int type1_query(uint64_t iova, uint64_t length, const struct vfio_bitmap *bitmap)
{
	uint64_t bytes = (length / 4096 + 63) / 64 * 8;
	if (!fake.tracking || bitmap->pgsize != 4096 || bitmap->size < bytes || !mapping(iova, length))
		return fail(EINVAL);
	memset((void *)bitmap->data, 0, bytes);
	return query(iova, length, 4096, 4096, (uint64_t *)bitmap->data);
}

static int type1_dirty(struct vfio_iommu_type1_dirty_bitmap *dirty)
{
	struct vfio_iommu_type1_dirty_bitmap_get get;
	if (dirty->flags != VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP) {
		fake.tracking = dirty->flags == VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
		return 0;
	}
	memcpy(&get, dirty->data, sizeof(get));
	return type1_query(get.iova, get.size, &get.bitmap);
}

static int type1_unmap(const struct vfio_iommu_type1_dma_unmap *unmap)
{
	struct vfio_bitmap bitmap;
	if (unmap->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) {
		memcpy(&bitmap, unmap->data, sizeof(bitmap));
		if (type1_query(unmap->iova, unmap->size, &bitmap) < 0)
			return -1;
	}
	return unmap_dma(unmap->iova, unmap->size);
}

static int hwpt_alloc(struct iommu_hwpt_alloc *alloc)
{
	if (fake.no_hwpt)
		return fail(ENOENT);
	fake.hwpt_flags = alloc->flags;
	alloc->out_hwpt_id = 78;
	return 0;
}

static int hwpt_query(const struct iommu_hwpt_get_dirty_bitmap *get)
{
	uint64_t clear_size = fake.iommu_page_size ? fake.iommu_page_size : 4096;
	if (!fake.tracking || get->hwpt_id != 78)
		return fail(EINVAL);
	return query(get->iova, get->length, get->page_size, clear_size, (uint64_t *)(uintptr_t)get->data);
}

static int iommufd_answer(unsigned long request, void *arg)
{
	const struct iommu_ioas_map *map = arg;
	const struct iommu_ioas_unmap *unmap = arg;
	switch (request) {
	case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
		fake.attached_to = ((struct vfio_device_attach_iommufd_pt *)arg)->pt_id;
		return fake.attached_to == 78 && fake.no_hwpt_attach ? fail(EINVAL) : 0;
	case IOMMU_IOAS_ALLOC:
		((struct iommu_ioas_alloc *)arg)->out_ioas_id = 77;
		return 0;
	case IOMMU_IOAS_MAP:
		return map_dma(map->iova, map->length, map->flags);
	case IOMMU_IOAS_UNMAP:
		return unmap_dma(unmap->iova, unmap->length);
	case IOMMU_HWPT_ALLOC:
		return hwpt_alloc(arg);
	case IOMMU_HWPT_SET_DIRTY_TRACKING:
		fake.tracking = ((struct iommu_hwpt_set_dirty_tracking *)arg)->flags & IOMMU_HWPT_DIRTY_TRACKING_ENABLE;
		return 0;
	case IOMMU_HWPT_GET_DIRTY_BITMAP:
		return hwpt_query(arg);
	}
	return 0;
}

static int answer(int fd, unsigned long request, void *arg)
{
	const struct vfio_iommu_type1_dma_map *type1 = arg;
	switch (request) {
	case VFIO_CHECK_EXTENSION:
		return !fake.no_type1v2;
	case VFIO_GROUP_GET_STATUS:
		((struct vfio_group_status *)arg)->flags = fake.not_viable ? 0 : VFIO_GROUP_FLAGS_VIABLE;
		return 0;
	case VFIO_GROUP_GET_DEVICE_FD:
		return fcntl(fake.device_fd, F_DUPFD, 3);
	case VFIO_DEVICE_GET_INFO:
		return device_info(arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return region_info(arg);
	case VFIO_DEVICE_SET_IRQS:
		return set_irqs(arg);
	case VFIO_DEVICE_FEATURE: /* and VFIO_IOMMU_DIRTY_PAGES, which has the same number */
		return fake.container_fd && fd == fake.container_fd ? type1_dirty(arg) : feature(arg);
	case VFIO_IOMMU_MAP_DMA:
		return map_dma(type1->iova, type1->size, type1->flags);
	case VFIO_IOMMU_UNMAP_DMA:
		return type1_unmap(arg);
	case VFIO_IOMMU_GET_INFO:
		return container_info(arg);
	}
	return iommufd_answer(request, arg);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	if (fake.num_calls < FAKE_CALLS_MAX)
		fake.calls[fake.num_calls++] = request;
	if (request == fake.fail_request)
		return fail(fake.fail_errno ? fake.fail_errno : ENOTTY);
	return answer(fd, request, arg);
}

int open(const char *path, int flags, ...)
{
	size_t n = strlen(path), tail = fake.fail_open ? strlen(fake.fail_open) : 0;
	if (tail && n >= tail && !strcmp(path + n - tail, fake.fail_open))
		return fail(fake.fail_open_errno);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
}

ssize_t read(int fd, void *buffer, size_t length)
{
	int code = fake.read_errno;
	fake.read_errno = 0;
	return code ? fail(code) : syscall(SYS_read, fd, buffer, length);
}

static size_t at_most(size_t length)
{
	return fake.most && fake.most < length ? fake.most : length;
}

ssize_t pread(int fd, void *buffer, size_t length, off_t offset)
{
	return syscall(SYS_pread64, fd, buffer, at_most(length), offset);
}

ssize_t pwrite(int fd, const void *buffer, size_t length, off_t offset)
{
	return syscall(SYS_pwrite64, fd, buffer, at_most(length), offset);
}
