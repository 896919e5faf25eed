/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_iommufd_dirty.c: page tables of an iommufd that log what is written through them. */
#include "device/kernel_dirty.h"
#include "uapi/vfio_compat.h"

int kernel_hwpt_new(int iommufd, uint32_t device_id, uint32_t ioas_id, uint32_t *ret_hwpt_id)
{
	struct iommu_hwpt_alloc alloc = { .size = sizeof(alloc), .flags = IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
					  .dev_id = device_id, .pt_id = ioas_id };
	int r = kernel_ioctl(iommufd, IOMMU_HWPT_ALLOC, &alloc);
	if (r < 0)
		return r;
	*ret_hwpt_id = alloc.out_hwpt_id;
	return 0;
}

int kernel_iommufd_destroy(int iommufd, uint32_t id)
{
	struct iommu_destroy destroy = { .size = sizeof(destroy), .id = id };
	int r = kernel_ioctl(iommufd, IOMMU_DESTROY, &destroy);
	return r < 0 ? r : 0;
}

int kernel_hwpt_track(int iommufd, uint32_t hwpt_id, bool on)
{
	struct iommu_hwpt_set_dirty_tracking set = { .size = sizeof(set), .hwpt_id = hwpt_id,
						     .flags = on ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0 };
	int r = kernel_ioctl(iommufd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set);
	return r < 0 ? r : 0;
}

int kernel_hwpt_query(int iommufd, uint32_t hwpt_id, uint64_t iova, uint64_t length, uint64_t page_size,
		      uint64_t *bitmap)
{
	struct iommu_hwpt_get_dirty_bitmap get = { .size = sizeof(get), .hwpt_id = hwpt_id, .iova = iova,
						   .length = length, .page_size = page_size,
						   .data = (uintptr_t)bitmap };
	int r = kernel_ioctl(iommufd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get);
	return r < 0 ? r : 0;
}
