/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shim.h: VFIO's files inside an unmodified program.
 *
 * The shim is the inverse of lib/device/kernel.c: that one turns access calls
 * into system calls, this one turns system calls into access calls. So
 * whatever an access reaches, a software device in this process or one behind a
 * vfio-user socket, is a VFIO device to the program.
 *
 *   shim_calls.c      the C library's functions that are taken over, and which
 *   shim_files.c      which fd is which of our files
 *   shim_machine.c    the devices there are, and opening /dev/vfio/...
 *   shim_container.c  /dev/vfio/vfio: the type1 IOMMU's ioctls
 *   shim_dma.c        the memory that devices may reach, and what they wrote there
 *   shim_group.c      /dev/vfio/N
 *   shim_device.c     the device's fd: info, regions, interrupts
 *   shim_migration.c  VFIO_DEVICE_FEATURE and the data fd
 *
 * A preloaded library has no one to hand its state to, so it is global: in
 * shim_files.c the fds, in shim_machine.c the devices. Locks, outermost first:
 * the control lock (groups, containers, opening and closing), a device's lock
 * (its access takes one call at a time), a memory's lock.
 */
#ifndef VFMIG_SHIM_SHIM_H
#define VFMIG_SHIM_SHIM_H

#include <pthread.h>
#include <stddef.h>

#include "device/access.h"
#include "uapi/vfio_compat.h"

#define SHIM_ENVIRONMENT "VFMIG_SHIM" /* "GROUP TAB NAME TAB URI NEWLINE" for each device */
#define SHIM_DEVICE_FD "vfmig-device:" /* then the URI: the name of a device's memfd */
#define SHIM_PAGE 4096u

/* ------------------------------------------------------------------ files */

struct shim_file;

/* As the kernel's file_operations; results are 0, a count or -errno. NULL: the
 * real call is made on the real fd. offset -1: at the file's position. */
struct shim_file_ops {
	long (*ioctl)(struct shim_file *f, int fd, unsigned long request, void *arg);
	ssize_t (*read)(struct shim_file *f, int fd, void *buffer, size_t length, off_t offset);
	ssize_t (*write)(struct shim_file *f, int fd, const void *buffer, size_t length, off_t offset);
	/* *ret is the address. */
	int (*mmap)(struct shim_file *f, void *address, size_t length, int protection, int flags, off_t offset,
		    void **ret);
	void (*release)(struct shim_file *f); /* the last fd is closed */
};

/* An open file of ours, shared by the fds that are dups of each other. */
struct shim_file {
	const struct shim_file_ops *ops;
	unsigned refs; /* fds, calls under way, and other files that need it */
};

/* The file behind an fd, held until shim_file_put; NULL: not one of ours. */
struct shim_file *shim_file_get(int fd);
void shim_file_hold(struct shim_file *f);
void shim_file_put(struct shim_file *f); /* NULL is fine */
/* Makes an fd for a file that its maker holds: a memfd of that name. -errno. */
int shim_file_new_fd(struct shim_file *f, const char *name, bool cloexec);
/* newfd is one more fd of the file. -EMFILE: it is too large for the table. */
int shim_file_install(struct shim_file *f, int newfd);
/* fd is about to be closed. */
void shim_file_forget(int fd);
void shim_file_forget_range(unsigned first, unsigned last);
/* After fork, in the child: nothing is open. */
void shim_files_clear(void);

/* ----------------------------------------------------------------- memory */

struct shim_mapping {
	uint64_t iova, size, address;
	uint32_t flags;	 /* VFIO_DMA_MAP_FLAG_* */
	uint64_t *dirty; /* a bit for each page, while they are tracked */
};

/* A container's address space. Sorted by IOVA. */
struct shim_memory {
	pthread_mutex_t lock;
	struct shim_mapping *mappings;
	size_t count;
	bool tracking;
};

void shim_memory_init(struct shim_memory *m);
void shim_memory_destroy(struct shim_memory *m);
/* -EEXIST, -ENOSPC, -ENOMEM */
int shim_memory_add(struct shim_memory *m, const struct shim_mapping *mapping);
/* The first mapping that ends behind iova; m->count: none. */
size_t shim_memory_find(const struct shim_memory *m, uint64_t iova);
/* -EINVAL: the range begins or ends inside a mapping. last: the range's last byte. */
int shim_memory_check_cut(const struct shim_memory *m, uint64_t iova, uint64_t last);
void shim_memory_remove(struct shim_memory *m, size_t index);
int shim_memory_track(struct shim_memory *m, bool on);
/* Sets in bitmap, whose bit 0 is the page at iova, what was written since the last time, or with `all` every
 * mapped page, and forgets it. */
void shim_memory_take_dirty(struct shim_memory *m, uint64_t iova, uint64_t last, bool all, uint64_t *bitmap);
/* A device's DMA. -EFAULT: it may not write there. */
int shim_memory_write(struct shim_memory *m, uint64_t iova, const void *data, size_t length);

/* ---------------------------------------------- containers, groups, devices */

struct shim_group;
struct shim_container {
	struct shim_file file;
	bool has_iommu;
	struct shim_group *groups; /* attached */
	struct shim_memory memory;
};

struct shim_device;
struct shim_group {
	struct shim_file file;
	struct shim_group *next;	  /* of the container's */
	struct shim_container *container; /* held, or NULL */
	struct shim_device *device;
};

struct shim_map; /* an area of a region that is mapped, to be mapped again */
struct shim_device {
	/* Set once */
	unsigned number; /* of its group; unsigned -1: none, its fd came from another program */
	char name[64];
	char uri[512];

	/* Control lock */
	struct shim_group *group; /* open, or NULL */
	unsigned opens;

	pthread_mutex_t lock; /* all below */
	struct access *access; /* NULL: not open */
	bool tells_dma;	       /* its DMA comes by us: pages it writes are known */
	bool has_v2;
	struct access_device_info info;
	unsigned transfer; /* counts: a data fd is of one transfer */
	struct shim_map *maps;
};

void shim_control_lock(void);
void shim_control_unlock(void);

/* The one with that group number, or NULL. */
struct shim_device *shim_machine_device(unsigned number);
/* open(2) of one of our paths: true, and *ret is the fd or -errno. */
bool shim_machine_open(const char *path, int flags, int *ret);
/* An fd that another program under the shim opened and handed over: true, and it is one of ours now. */
bool shim_machine_adopt(int fd);

int shim_container_open(bool cloexec);
/* -EINVAL: no such container. With the control lock. */
int shim_container_attach(int fd, struct shim_group *g);
void shim_container_detach(struct shim_group *g);
/* Tells a device that has been opened what is mapped already. */
int shim_container_replay(struct shim_container *c, struct shim_device *d);

int shim_group_open(struct shim_device *d, bool cloexec);

/* With the control lock. Gives a new fd, or -errno. */
int shim_device_open(struct shim_device *d, struct shim_group *group);
/* The same with an fd that is there already, and no group. */
int shim_device_adopt(struct shim_device *d, int fd);
/* The program ends. */
void shim_device_at_exit(struct shim_device *d);
/* What the program is told of an access's failure. */
int shim_errno(int r);

/* The ioctl VFIO_DEVICE_FEATURE. With the device's lock. */
long shim_feature(struct shim_device *d, struct vfio_device_feature *f);
/* Whatever transfer went on has ended. With the device's lock. */
void shim_transfer_end(struct shim_device *d);

#endif
