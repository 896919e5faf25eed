/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio_user.h: the vfio-user wire: messages, their bodies and our limits.
 *
 * Client (lib/device/user*.c) and server (sim/server.c) share it. The wire is
 * little-endian and so are the machines this is built for: the structs are the
 * wire's bytes. They are copied in and out with memcpy, never cast, because
 * nothing on the wire is aligned by promise.
 */
#ifndef VFMIG_UAPI_VFIO_USER_H
#define VFMIG_UAPI_VFIO_USER_H

#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "vfio-user's structs are little-endian"
#endif

enum vfio_user_command {
	VFIO_USER_VERSION = 1,
	VFIO_USER_DMA_MAP = 2,
	VFIO_USER_DMA_UNMAP = 3,
	VFIO_USER_DEVICE_GET_INFO = 4,
	VFIO_USER_DEVICE_GET_REGION_INFO = 5,
	VFIO_USER_DEVICE_GET_REGION_IO_FDS = 6,
	VFIO_USER_DEVICE_GET_IRQ_INFO = 7,
	VFIO_USER_DEVICE_SET_IRQS = 8,
	VFIO_USER_REGION_READ = 9,
	VFIO_USER_REGION_WRITE = 10,
	VFIO_USER_DMA_READ = 11,  /* server to client */
	VFIO_USER_DMA_WRITE = 12, /* server to client */
	VFIO_USER_DEVICE_RESET = 13,
	VFIO_USER_DIRTY_PAGES = 14,
	VFIO_USER_REGION_WRITE_MULTI = 15,
	VFIO_USER_DEVICE_FEATURE = 16,
	VFIO_USER_MIG_DATA_READ = 17,
	VFIO_USER_MIG_DATA_WRITE = 18,
};

#define VFIO_USER_MAJOR 0u
#define VFIO_USER_MINOR 0u

/* struct vfio_user_header.flags */
#define VFIO_USER_TYPE_MASK 0xfu
#define VFIO_USER_TYPE_COMMAND 0u
#define VFIO_USER_TYPE_REPLY 1u
#define VFIO_USER_NO_REPLY 0x10u
#define VFIO_USER_ERROR 0x20u

struct vfio_user_header {
	uint16_t id;
	uint16_t command;
	uint32_t size; /* header included */
	uint32_t flags;
	uint32_t error; /* errno, when VFIO_USER_ERROR */
};

struct vfio_user_version { /* then JSON with its NUL */
	uint16_t major, minor;
};

#define VFIO_USER_DMA_FLAG_READ 1u
#define VFIO_USER_DMA_FLAG_WRITE 2u
#define VFIO_USER_DMA_FLAG_MMAP 4u

struct vfio_user_dma_map { /* and at most one fd */
	uint32_t argsz, flags;
	uint64_t offset; /* in the fd */
	uint64_t iova, size;
};

#define VFIO_USER_UNMAP_BITMAP 1u
#define VFIO_USER_UNMAP_ALL 2u

struct vfio_user_dma_unmap { /* VFIO_USER_UNMAP_BITMAP: then a struct vfio_user_bitmap; and in the reply the bitmap */
	uint32_t argsz, flags;
	uint64_t iova, size;
};

struct vfio_user_bitmap {
	uint64_t page_size;
	uint64_t bytes;
};

struct vfio_user_device_info {
	uint32_t argsz, flags, num_regions, num_irqs;
};

#define VFIO_USER_REGION_FLAG_READ 1u
#define VFIO_USER_REGION_FLAG_WRITE 2u
#define VFIO_USER_REGION_FLAG_MMAP 4u
#define VFIO_USER_REGION_FLAG_CAPS 8u

struct vfio_user_region_info { /* reply: then capabilities, and one fd for the mappable parts */
	uint32_t argsz, flags, index, cap_offset;
	uint64_t size;
	uint64_t offset; /* of the region in the fd */
};

#define VFIO_USER_CAP_SPARSE_MMAP 1u
#define VFIO_USER_CAP_TYPE 2u

struct vfio_user_cap_header {
	uint16_t id, version;
	uint32_t next; /* from the start of struct vfio_user_region_info; 0: last */
};

struct vfio_user_cap_sparse { /* then num_areas areas */
	struct vfio_user_cap_header header;
	uint32_t num_areas, reserved;
};

struct vfio_user_cap_area {
	uint64_t offset, size;
};

struct vfio_user_cap_type {
	struct vfio_user_cap_header header;
	uint32_t type, subtype;
};

struct vfio_user_irq_info {
	uint32_t argsz, flags, index, count;
};

#define VFIO_USER_IRQ_DATA_NONE 0x01u
#define VFIO_USER_IRQ_DATA_EVENTFD 0x04u
#define VFIO_USER_IRQ_ACTION_TRIGGER 0x20u

struct vfio_user_irq_set { /* DATA_EVENTFD: `count` fds, or none to take them away */
	uint32_t argsz, flags, index, start, count;
};

struct vfio_user_region_io { /* then the data: in a write's request, in a read's reply */
	uint64_t offset;
	uint32_t region, count;
};

struct vfio_user_dma_io { /* likewise */
	uint64_t address, count;
};

/* As the ioctl's: flags are the feature's index, GET, SET and PROBE. Then its data. */
struct vfio_user_feature {
	uint32_t argsz, flags;
};

#define VFIO_USER_FEATURE_MASK 0xffffu
#define VFIO_USER_FEATURE_GET (1u << 16)
#define VFIO_USER_FEATURE_SET (1u << 17)
#define VFIO_USER_FEATURE_PROBE (1u << 18)
#define VFIO_USER_FEATURE_MIGRATION 1u
#define VFIO_USER_FEATURE_MIG_DEVICE_STATE 2u
#define VFIO_USER_FEATURE_LOGGING_START 6u
#define VFIO_USER_FEATURE_LOGGING_STOP 7u
#define VFIO_USER_FEATURE_LOGGING_REPORT 8u
#define VFIO_USER_FEATURE_MIG_DATA_SIZE 9u

struct vfio_user_device_state { /* MIG_DEVICE_STATE's data */
	uint32_t state;
	int32_t data_fd; /* means nothing here: servers answer 0 */
};

/* LOGGING_START's data; then the ranges. The ioctl has a pointer to them. */
struct vfio_user_logging_start {
	uint64_t page_size; /* wanted; and in the reply given */
	uint32_t num_ranges, reserved;
};

struct vfio_user_logging_range {
	uint64_t iova, length;
};

#define VFIO_USER_MAX_RANGES 256u /* the kernel takes no more either */

/* LOGGING_REPORT's data; in the reply the bitmap, whole words of 64 bits, is behind it. argsz has room for that. */
struct vfio_user_logging_report {
	uint64_t iova, length, page_size;
};

#define VFIO_USER_DIRTY_START 1u
#define VFIO_USER_DIRTY_STOP 2u
#define VFIO_USER_DIRTY_GET 4u

struct vfio_user_dirty_pages { /* DIRTY_GET: then a struct vfio_user_dirty_range, and in the reply the bitmap */
	uint32_t argsz, flags;
};

struct vfio_user_dirty_range {
	uint64_t iova, size;
	struct vfio_user_bitmap bitmap;
};

/* MIG_DATA_READ and MIG_DATA_WRITE; then the data. A read's reply is always as
 * long as what was asked for, of which `size` bytes count. */
struct vfio_user_mig_data {
	uint32_t argsz, size;
};

_Static_assert(sizeof(struct vfio_user_header) == 16, "wire");
_Static_assert(sizeof(struct vfio_user_dma_map) == 32, "wire");
_Static_assert(sizeof(struct vfio_user_dma_unmap) == 24, "wire");
_Static_assert(sizeof(struct vfio_user_bitmap) == 16, "wire");
_Static_assert(sizeof(struct vfio_user_logging_start) == 16, "wire");
_Static_assert(sizeof(struct vfio_user_logging_range) == 16, "wire");
_Static_assert(sizeof(struct vfio_user_logging_report) == 24, "wire");
_Static_assert(sizeof(struct vfio_user_dirty_pages) == 8, "wire");
_Static_assert(sizeof(struct vfio_user_dirty_range) == 32, "wire");
_Static_assert(sizeof(struct vfio_user_device_info) == 16, "wire");
_Static_assert(sizeof(struct vfio_user_region_info) == 32, "wire");
_Static_assert(sizeof(struct vfio_user_cap_sparse) == 16, "wire");
_Static_assert(sizeof(struct vfio_user_cap_type) == 16, "wire");
_Static_assert(sizeof(struct vfio_user_irq_info) == 16, "wire");
_Static_assert(sizeof(struct vfio_user_irq_set) == 20, "wire");
_Static_assert(sizeof(struct vfio_user_region_io) == 16, "wire");
_Static_assert(sizeof(struct vfio_user_dma_io) == 16, "wire");
_Static_assert(sizeof(struct vfio_user_feature) == 8, "wire");
_Static_assert(sizeof(struct vfio_user_device_state) == 8, "wire");
_Static_assert(sizeof(struct vfio_user_mig_data) == 8, "wire");

/* What a capability of VERSION is when the JSON does not have it. */
#define VFIO_USER_DEFAULT_MAX_FDS 1u
#define VFIO_USER_DEFAULT_MAX_DATA (1u << 20)

/* Our own limits, as announced. */
#define VFIO_USER_MAX_FDS 8u
#define VFIO_USER_MAX_DATA (1u << 20)
#define VFIO_USER_MAX_MESSAGE (VFIO_USER_MAX_DATA + 64u) /* the largest body before data has 40 bytes */
#define VFIO_USER_MAX_VERSION (16u << 10)                 /* bytes of VERSION's body */
#define VFIO_USER_MAX_REGION_INFO (64u << 10)             /* bytes of a region's info with its capabilities */
#define VFIO_USER_MAX_REGIONS 4096u
#define VFIO_USER_PAGE_SIZE 4096u
#define VFIO_USER_MAX_PAGE_SIZE (1u << 30) /* of a log of written pages */

/* Larger MIG_DATA_READs gained nothing with the reference server. */
#define VFIO_USER_MIG_READ (256u << 10)

/* The reference server takes a message with one recv(): a large one arrives
 * short there and everything after it is garbage. 32 KiB never did. It is also
 * less than half of a socket's buffer: two sides that both send only messages
 * of this size can not block each other. Who says "vfmig":{"whole_messages":true}
 * in VERSION takes all of max_data_xfer_size, and receives while it sends. */
#define VFIO_USER_SAFE_DATA (32u << 10)

#endif
