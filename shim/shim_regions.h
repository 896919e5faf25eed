/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_regions.h: reading, writing and mapping a device's regions by its fd. */
#ifndef VFMIG_SHIM_SHIM_REGIONS_H
#define VFMIG_SHIM_SHIM_REGIONS_H

#include "shim.h"

#define SHIM_REGION_SHIFT 40 /* where a region is on the fd: as vfio-pci has it */

ssize_t shim_regions_read(struct shim_device *d, int fd, void *buffer, size_t length, off_t offset);
ssize_t shim_regions_write(struct shim_device *d, int fd, const void *buffer, size_t length, off_t offset);
int shim_regions_mmap(struct shim_device *d, void *address, size_t length, int protection, int flags, off_t offset,
		      void **ret);
/* Gives back what was mapped of the access; the program's own mappings stay. With the device's lock. */
void shim_regions_unmap(struct shim_device *d);

#endif
