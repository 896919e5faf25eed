/* SPDX-License-Identifier: BSD-3-Clause */
/* mock.c: makes a mock device and its page table, and marks pages of it as written, by iommufd's test ioctl. */
#include "mock.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "device/kernel_dirty.h"
#include "uapi/vfio_compat.h"

#define MOCK_PAGE 2048u /* half of a page of memory */

/* What Linux 6.12 has, with room to grow: what it does not know has to be 0. */
struct mock_command {
	uint32_t size, op, id, reserved;
	union {
		struct {
			uint32_t out_device_id, out_hwpt_id, out_iommufd_device_id, flags;
		} domain;
		struct {
			uint32_t pt_id;
		} replace;
		struct {
			uint32_t flags;
			uint64_t iova, length, page_size, bitmap, out_count;
		} dirty;
		uint8_t room[112];
	};
};
_Static_assert(sizeof(struct mock_command) == 128 && offsetof(struct mock_command, dirty.iova) == 24,
	       "as the kernel's");

#define MOCK_COMMAND _IO(VFIO_TYPE, 0xa0)
#define MOCK_REPLACE 10
#define MOCK_DOMAIN_FLAGS 12
#define MOCK_DIRTY 13

static int command(int iommufd, struct mock_command *c)
{
	c->size = sizeof(*c);
	int r = kernel_ioctl(iommufd, MOCK_COMMAND, c);
	return r < 0 ? r : 0;
}

/* A device of its own, attached to a page table that logs. */
static int attach(struct kernel_memory *memory, uint32_t flags, struct vfmig_error *err)
{
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	int r = kernel_ioctl(memory->fd, IOMMU_IOAS_ALLOC, &ioas);
	if (r < 0)
		return error_errno(err, r, "address space");
	memory->ioas_id = ioas.out_ioas_id;
	struct mock_command domain = { .op = MOCK_DOMAIN_FLAGS, .id = memory->ioas_id, .domain.flags = flags };
	r = command(memory->fd, &domain);
	if (r < 0)
		return error_errno(err, r, "mock device");
	r = kernel_hwpt_new(memory->fd, domain.domain.out_iommufd_device_id, memory->ioas_id, &memory->hwpt_id);
	if (r < 0)
		return error_errno(err, r, "page table");
	struct mock_command replace = { .op = MOCK_REPLACE, .id = domain.domain.out_device_id,
					.replace.pt_id = memory->hwpt_id };
	r = command(memory->fd, &replace);
	return r < 0 ? error_errno(err, r, "attaching the mock device") : 0;
}

int mock_open(uint32_t flags, struct access **ret, struct vfmig_error *err)
{
	struct kernel_memory memory = { .kind = KERNEL_MEMORY_IOMMUFD, .group = -1 };
	memory.fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (memory.fd < 0)
		return error_errno(err, -errno, "/dev/iommu");
	int r = attach(&memory, flags, err);
	if (r < 0) {
		kernel_memory_close(&memory);
		return r;
	}
	return kernel_access_new(fcntl(memory.fd, F_DUPFD_CLOEXEC, 3), &memory, NULL, ret, err);
}

int mock_write(struct access *a, uint64_t iova, uint64_t length)
{
	const struct kernel_memory *memory = &kernel_of(a)->memory;
	uint64_t first = iova / MOCK_PAGE, count = (iova + length - 1) / MOCK_PAGE - first + 1;
	uint64_t *bitmap = calloc(count / 64 + 1, sizeof(*bitmap));
	if (!bitmap)
		return -ENOMEM;
	for (uint64_t i = 0; i < count; i++)
		bitmap[i / 64] |= 1ull << i % 64;
	struct mock_command c = { .op = MOCK_DIRTY, .id = memory->hwpt_id,
				  .dirty = { .iova = first * MOCK_PAGE, .length = count * MOCK_PAGE,
					     .page_size = MOCK_PAGE, .bitmap = (uintptr_t)bitmap } };
	int r = command(memory->fd, &c);
	free(bitmap);
	return r < 0 ? r : c.dirty.out_count == count ? 0 : -ENOENT;
}
