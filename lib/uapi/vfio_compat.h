/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio_compat.h: linux/vfio.h and linux/iommufd.h, and what an older kernel's headers lack of them.
 *
 * Where the installed headers have it, theirs is taken. A type has no #ifndef
 * of its own: it stands behind a macro that came with it.
 */
#ifndef VFMIG_UAPI_VFIO_COMPAT_H
#define VFMIG_UAPI_VFIO_COMPAT_H

#include <linux/types.h>
#include <linux/vfio.h>

#if defined(__has_include) && __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif

/* 6.2: pre-copy */
#ifndef VFIO_MIGRATION_PRE_COPY
#define VFIO_MIGRATION_PRE_COPY (1 << 2)
#define VFIO_DEVICE_STATE_PRE_COPY 6
#define VFIO_DEVICE_STATE_PRE_COPY_P2P 7
#endif

#ifndef VFIO_MIG_GET_PRECOPY_INFO
struct vfio_precopy_info {
	__u32 argsz;
	__u32 flags;
	__aligned_u64 initial_bytes;
	__aligned_u64 dirty_bytes;
};
#define VFIO_MIG_GET_PRECOPY_INFO _IO(VFIO_TYPE, VFIO_BASE + 21)
#endif

#ifndef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
struct vfio_device_feature_mig_data_size {
	__aligned_u64 stop_copy_length;
};
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9
#endif

/* 6.6: devices with a file of their own */
#ifndef VFIO_DEVICE_BIND_IOMMUFD
struct vfio_device_bind_iommufd {
	__u32 argsz;
	__u32 flags;
	__s32 iommufd;
	__u32 out_devid;
};
#define VFIO_DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)

struct vfio_device_attach_iommufd_pt {
	__u32 argsz;
	__u32 flags;
	__u32 pt_id;
};
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)
#endif

/* 6.2: iommufd */
#ifndef IOMMU_IOAS_MAP
struct iommu_ioas_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_ioas_id;
};
#define IOMMU_IOAS_ALLOC _IO(VFIO_TYPE, 0x81)

struct iommu_ioas_map {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__u32 __reserved;
	__aligned_u64 user_va;
	__aligned_u64 length;
	__aligned_u64 iova;
};
#define IOMMU_IOAS_MAP_FIXED_IOVA (1 << 0)
#define IOMMU_IOAS_MAP_WRITEABLE (1 << 1)
#define IOMMU_IOAS_MAP_READABLE (1 << 2)
#define IOMMU_IOAS_MAP _IO(VFIO_TYPE, 0x85)

struct iommu_ioas_unmap {
	__u32 size;
	__u32 ioas_id;
	__aligned_u64 iova;
	__aligned_u64 length;
};
#define IOMMU_IOAS_UNMAP _IO(VFIO_TYPE, 0x86)
#endif

/* 6.6: a page table for a device */
#ifndef IOMMU_HWPT_ALLOC
struct iommu_hwpt_alloc {
	__u32 size;
	__u32 flags;
	__u32 dev_id;
	__u32 pt_id;
	__u32 out_hwpt_id;
	__u32 __reserved;
};
_Static_assert(sizeof(struct iommu_hwpt_alloc) == 24, "as of 6.6, which later kernels take");
#define IOMMU_HWPT_ALLOC _IO(VFIO_TYPE, 0x89)
#endif

#ifndef IOMMU_DESTROY
struct iommu_destroy {
	__u32 size;
	__u32 id;
};
_Static_assert(sizeof(struct iommu_destroy) == 8, "the kernel's");
#define IOMMU_DESTROY _IO(VFIO_TYPE, 0x80)
#endif

/* 6.7: page tables that log writes */
#ifndef IOMMU_HWPT_SET_DIRTY_TRACKING
#define IOMMU_HWPT_ALLOC_DIRTY_TRACKING (1 << 1)
#define IOMMU_HWPT_DIRTY_TRACKING_ENABLE 1
struct iommu_hwpt_set_dirty_tracking {
	__u32 size;
	__u32 flags;
	__u32 hwpt_id;
	__u32 __reserved;
};
_Static_assert(sizeof(struct iommu_hwpt_set_dirty_tracking) == 16, "the kernel's");
#define IOMMU_HWPT_SET_DIRTY_TRACKING _IO(VFIO_TYPE, 0x8b)

struct iommu_hwpt_get_dirty_bitmap {
	__u32 size;
	__u32 hwpt_id;
	__u32 flags;
	__u32 __reserved;
	__aligned_u64 iova;
	__aligned_u64 length;
	__aligned_u64 page_size;
	__aligned_u64 data;
};
_Static_assert(sizeof(struct iommu_hwpt_get_dirty_bitmap) == 48, "the kernel's");
#define IOMMU_HWPT_GET_DIRTY_BITMAP _IO(VFIO_TYPE, 0x8c)
#endif

#endif
