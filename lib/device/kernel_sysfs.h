/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_sysfs.h: what sysfs tells of a device without opening it, which would reset it. */
#ifndef VFMIG_DEVICE_KERNEL_SYSFS_H
#define VFMIG_DEVICE_KERNEL_SYSFS_H

#include "base/error.h"

#define KERNEL_NAME_MAX 64
#define KERNEL_PATH_MAX 512

/* Where the machine's file systems are; tests have made ones. */
struct kernel_roots {
	const char *sysfs, *dev, *proc;
};
extern const struct kernel_roots kernel_machine;

enum kernel_bus { KERNEL_BUS_OTHER, KERNEL_BUS_PCI, KERNEL_BUS_MDEV };

struct kernel_place {
	const struct kernel_roots *roots; /* borrowed */
	enum kernel_bus bus;
	char path[KERNEL_PATH_MAX];   /* its folder */
	char name[KERNEL_NAME_MAX];   /* 0000:3b:00.2, a mdev's UUID: what VFIO calls it */
	char driver[KERNEL_NAME_MAX]; /* "": none */
	char cdev[KERNEL_NAME_MAX];   /* vfio0; "": VFIO has no device here, or the kernel is older than 6.1 */
	bool has_vfio_driver;
	bool has_cdev_node; /* /dev/vfio/devices/vfio0 is there */
	int group;	    /* -1: in none */
};

/* bdf: with or without its domain. -EINVAL: no address; -ENOENT: no such device. */
int kernel_place_pci(const struct kernel_roots *roots, const char *bdf, struct kernel_place *ret,
		     struct vfmig_error *err);
int kernel_place_mdev(const struct kernel_roots *roots, const char *uuid, struct kernel_place *ret,
		      struct vfmig_error *err);
/* Any device's folder in sysfs, or a link to it. */
int kernel_place_sysfs(const struct kernel_roots *roots, const char *path, struct kernel_place *ret,
		       struct vfmig_error *err);

/* A device's own file, /dev/vfio/devices/vfio0, which has to be the machine's. */
int kernel_place_cdev(const struct kernel_roots *roots, const char *path, struct kernel_place *ret,
		      struct vfmig_error *err);

/* A file of the device's folder that holds a number, "0x8086" say; 0 when there is none. */
uint32_t kernel_place_number(const struct kernel_place *p, const char *file);

/*
 * The devices of a group, but for `self`, whose driver keeps VFIO from giving
 * the group away: "0000:3b:00.0 (nvme), ..." into text, cut at size. Their number.
 */
unsigned kernel_group_blockers(const struct kernel_place *self, char *text, size_t size);

/* "process 4711 (qemu-system-x86)", who but this process has `path` open, as far as one may see; "" when nobody is
 * seen. */
void kernel_holder(const struct kernel_roots *roots, const char *path, char *text, size_t size);

/* "DEV/vfio/GROUP" and "DEV/vfio/devices/CDEV"; false: does not fit. */
bool kernel_group_node(const struct kernel_place *p, char *path, size_t size);
bool kernel_cdev_node(const struct kernel_place *p, char *path, size_t size);
bool kernel_node_exists(const char *path);

/* Each device of the bus in the order of their names; of other buses, those that VFIO knows.
 * Stops at the first that is not 0 and returns that. */
typedef int kernel_list_fn(void *opaque, const struct kernel_place *p);
int kernel_list(const struct kernel_roots *roots, enum kernel_bus bus, kernel_list_fn *each, void *opaque);

#endif
