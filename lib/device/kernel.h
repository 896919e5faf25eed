/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel.h: an open kernel device, and the memory it may reach; for kernel*.c only. */
#ifndef VFMIG_DEVICE_KERNEL_H
#define VFMIG_DEVICE_KERNEL_H

#include "device/access.h"
#include "device/kernel_sysfs.h"

/* What DMA goes through. */
enum kernel_memory_kind {
	KERNEL_MEMORY_FOREIGN, /* of whoever opened the device: nothing can be mapped */
	KERNEL_MEMORY_CONTAINER,
	KERNEL_MEMORY_IOMMUFD,
};

struct kernel_mapping {
	struct kernel_mapping *next;
	uint64_t iova, length;
	void *address;
	uint64_t *kept; /* written pages that nobody has asked for yet (kernel_memory_dirty.c); NULL: none */
};

struct kernel_memory {
	enum kernel_memory_kind kind;
	int fd;	   /* the container or /dev/iommu; -1: none */
	int group; /* its fd; -1: none */
	uint32_t ioas_id;
	uint32_t hwpt_id;	/* the page table of it that logs writes; 0: there is none */
	uint64_t log_page_size; /* 0: no log was started */
	struct kernel_mapping *mappings;
};

#define KERNEL_NO_MEMORY ((struct kernel_memory) { .fd = -1, .group = -1 })

int kernel_memory_map(struct kernel_memory *m, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		      struct vfmig_error *err);
int kernel_memory_unmap(struct kernel_memory *m, uint64_t iova, uint64_t length, struct vfmig_error *err);
/* The same, and what was written there since the last report, to bitmap as access_ops's dma_unmap_dirty. */
int kernel_memory_unmap_dirty(struct kernel_memory *m, uint64_t iova, uint64_t length, uint64_t page_size,
			      uint64_t *bitmap, struct vfmig_error *err);
/* The request alone. */
int kernel_mapping_unmap(const struct kernel_memory *memory, const struct kernel_mapping *m);
/* Closes its fds. What the device may reach lasts as long as somebody holds the device. */
void kernel_memory_close(struct kernel_memory *m);

struct kernel_region {
	bool known;
	uint64_t offset; /* on the device's fd */
	uint64_t size;
};

struct kernel_access {
	struct access access;
	struct access_identity identity;
	struct kernel_place place; /* roots NULL: not known (fd:N) */
	int fd;
	int data_fd; /* of the transfer that goes on; -1: none */
	uint32_t state; /* of the migration, when it was last asked for or set */
	struct kernel_memory memory;
	struct kernel_region *regions; /* by index */
	uint32_t num_regions;
};

static inline struct kernel_access *kernel_of(struct access *a)
{
	return (struct kernel_access *)a;
}

/* ioctl(2) that gives its result or -errno. */
int kernel_ioctl(int fd, unsigned long request, void *arg);

/* What a failed request means to those above, who know no kernel's errno. */
int kernel_meaning(int r);

/*
 * An answer that grows with its capabilities: `ask` begins with its argsz, as does the answer; it is asked again with
 * the room that the kernel wants. *ret_body is to be freed.
 */
int kernel_ask_info(int fd, unsigned long request, const void *ask, uint32_t ask_length, uint8_t **ret_body,
		    uint32_t *ret_length, struct vfmig_error *err);

/* Takes fd and *memory, also on failure. place: NULL when it is not known. */
int kernel_access_new(int fd, struct kernel_memory *memory, const struct kernel_place *place,
		      struct access **ret, struct vfmig_error *err);

/* The device's fd and the memory it was opened with, by its group (kernel_group.c) or its own file (kernel_cdev.c). */
int kernel_open_group(const struct kernel_place *place, int *ret_fd, struct kernel_memory *ret_memory,
		      struct vfmig_error *err);
int kernel_open_cdev(const struct kernel_place *place, int *ret_fd, struct kernel_memory *ret_memory,
		     struct vfmig_error *err);

/* The migration calls of access_ops (kernel_migration.c). */
int kernel_mig_state_get(struct access *a, uint32_t *ret_state, struct vfmig_error *err);
int kernel_mig_state_set(struct access *a, uint32_t state, struct vfmig_error *err);
ssize_t kernel_mig_data_read(struct access *a, void *buffer, size_t length, struct vfmig_error *err);
ssize_t kernel_mig_data_write(struct access *a, const void *buffer, size_t length, struct vfmig_error *err);
int kernel_mig_precopy_info(struct access *a, struct access_precopy_info *ret, struct vfmig_error *err);
int kernel_feature(struct access *a, uint32_t flags, void *data, size_t length, struct vfmig_error *err);
/* Ends the transfer, if one goes on. */
void kernel_mig_data_close(struct kernel_access *k);

/* kernel_open.c, for tests: a device of a made sysfs, and the one fd that a connected peer sends. */
int kernel_open_place(const struct kernel_place *place, const char *wanted, struct access **ret,
		      struct vfmig_error *err);
int kernel_receive_fd(int socket, uint64_t deadline_ns, int *ret_fd, struct vfmig_error *err);

#endif
