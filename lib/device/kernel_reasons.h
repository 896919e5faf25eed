/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_reasons.h: every reason why a kernel device cannot be opened or migrated, with what to do about it. */
#ifndef VFMIG_DEVICE_KERNEL_REASONS_H
#define VFMIG_DEVICE_KERNEL_REASONS_H

#include "device/kernel_sysfs.h"

enum kernel_reason {
	KERNEL_FINE,
	KERNEL_NO_DRIVER,
	KERNEL_DRIVER_IN_THE_WAY,
	KERNEL_NO_GROUP,
	KERNEL_NO_GROUP_NODE,
	KERNEL_GROUP_NOT_VIABLE,
	KERNEL_NO_CDEV,
	KERNEL_NO_VFIO,
	KERNEL_NO_IOMMUFD,
	KERNEL_NO_PERMISSION,
	KERNEL_BUSY,
	KERNEL_CONTAINER_REFUSES,
	KERNEL_IOMMUFD_REFUSES,
	KERNEL_NOT_IN_GROUP,
	KERNEL_NO_MIGRATION, /* it opens; detail: what was looked for */
};

/* "driver-in-the-way"; for programs. */
const char *kernel_reason_name(enum kernel_reason reason);

/*
 * Says why and what to do, and returns code. `detail` is what it was about: the
 * file that could not be opened, the request that was refused.
 */
int kernel_refuse(enum kernel_reason reason, const struct kernel_place *place, const char *detail, int code,
		  struct vfmig_error *err);

/* What opening this file of /dev has failed with, told as its own reason. */
int kernel_refuse_node(const struct kernel_place *place, const char *path, enum kernel_reason absent, int code,
		       struct vfmig_error *err);

enum kernel_way { KERNEL_BY_GROUP, KERNEL_BY_CDEV };

/*
 * Which way the device is to be opened (`wanted` is "group", "cdev" or NULL, any),
 * and why it is clear already that it will not. KERNEL_FINE says nothing of permissions.
 */
enum kernel_reason kernel_choose(const struct kernel_place *place, const char *wanted, enum kernel_way *ret_way);

/* The same without an intention to open, so that the rest of the group is judged by sysfs, too. */
enum kernel_reason kernel_look(const struct kernel_place *place);

#endif
