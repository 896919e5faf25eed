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

static int feature(struct vfio_device_feature *f)
{
	uint32_t index = f->flags & VFIO_DEVICE_FEATURE_MASK;
	if (index == VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
		return mig_state(f, (void *)f->data);
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
	return 0;
}

static int answer(unsigned long request, void *arg)
{
	const struct vfio_iommu_type1_dma_map *type1 = arg;
	const struct iommu_ioas_map *ioas = arg;
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
	case VFIO_DEVICE_FEATURE:
		return feature(arg);
	case VFIO_IOMMU_MAP_DMA:
		return map_dma(type1->iova, type1->size, type1->flags);
	case IOMMU_IOAS_MAP:
		return map_dma(ioas->iova, ioas->length, ioas->flags);
	case IOMMU_IOAS_ALLOC:
		((struct iommu_ioas_alloc *)arg)->out_ioas_id = 77;
		return 0;
	}
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	(void)fd;
	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	if (fake.num_calls < FAKE_CALLS_MAX)
		fake.calls[fake.num_calls++] = request;
	if (request == fake.fail_request)
		return fail(fake.fail_errno ? fake.fail_errno : ENOTTY);
	return answer(request, arg);
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
