/* SPDX-License-Identifier: BSD-3-Clause */
/* made_machine.h: a sysfs, /dev and /proc of a test's own, with the devices that the test wants. */
#ifndef VFMIG_TESTS_MADE_MACHINE_H
#define VFMIG_TESTS_MADE_MACHINE_H

#include "device/kernel_sysfs.h"

struct made_machine {
	char top[32];
	char sysfs[64], dev[64], proc[64];
	struct kernel_roots roots;
};

/* Empty but for /dev/vfio/vfio. */
void made_machine_init(struct made_machine *m);
void made_machine_remove(struct made_machine *m);

/* bus: "pci" or "mdev". driver NULL: none. group -1: none. cdev NULL: VFIO does not know it. */
void made_device(const struct made_machine *m, const char *bus, const char *name, const char *driver, int group,
		 const char *cdev);
/* An empty or filled file below top, with its folders; a link. */
void made_file(const struct made_machine *m, const char *path, const char *content);
void made_link(const struct made_machine *m, const char *path, const char *target);
void made_unlink(const struct made_machine *m, const char *path);

#endif
