/* SPDX-License-Identifier: BSD-3-Clause */
/* device.h: struct vfmig_device, an access with the protocol that its device speaks. */
#ifndef VFMIG_DEVICE_DEVICE_H
#define VFMIG_DEVICE_DEVICE_H

#include "device/access.h"
#include "device/protocol.h"

struct device_irqs; /* one remembered call of vfmig_device_set_irqs */

/* Somebody who follows what a device can reach: who tracks the pages that it writes (lib/dirty). */
struct device_watch {
	void *opaque;
	/* Instead of access_dma_unmap; NULL: not now. */
	int (*unmap)(void *opaque, uint64_t iova, uint64_t length, struct vfmig_error *err);
	/* A mapping was made. If that fails it is taken back. */
	int (*mapped)(void *opaque, uint64_t iova, uint64_t length, struct vfmig_error *err);
};

struct vfmig_device {
	struct access *access;
	struct protocol *protocol;
	struct access_device_info info;
	struct device_irqs *irqs;
	struct access_range *dma; /* what vfmig_device_dma_map has made */
	size_t num_dma;
	struct device_watch *watch; /* or NULL */
	const struct vfmig_interrupt_ops *interrupt_ops; /* or NULL */
	void *interrupt_opaque;
};

/*
 * Makes a device of an access (takes it, also on failure). The way in for
 * accesses that the library does not contain.
 */
int device_new(struct access *access, const struct vfmig_device_options *opts, struct vfmig_device **ret,
	       struct vfmig_error *err);

/*
 * Opens what the URI names, whether it can migrate or not; the access has its
 * name. -EINVAL: no such kind of URI. opts may be NULL.
 */
int device_open_access(const char *uri, const struct vfmig_device_options *opts, struct access **ret,
		       struct vfmig_error *err);

/*
 * Would opening the URI make this process the kernel device's only owner? Then
 * opening may reset it, and its state is lost with the last fd.
 */
bool device_uri_owns(const char *uri);

/* "pci:ADDRESS" and so on: how the kinds of device are written. NULL: there are no more. Not owned. */
const char *device_usage(size_t index);

/* Sets the remembered interrupts again. */
int device_restore_irqs(struct vfmig_device *device, struct vfmig_error *err);

#endif
