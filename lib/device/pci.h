/* SPDX-License-Identifier: BSD-3-Clause */
/* pci.h: a PCI function's config space: read, compare, write back. */
#ifndef VFMIG_DEVICE_PCI_H
#define VFMIG_DEVICE_PCI_H

#include "device/device.h"

#define PCI_CONFIG_MAX 4096u

struct pci_config {
	uint8_t bytes[PCI_CONFIG_MAX];
	size_t size; /* 256 or 4096: QEMU's rule, see pci_config_read; 0: no config region */
};

/*
 * Reads the config region. As in QEMU's record, the space is 256 bytes if and
 * only if the region has exactly 256, else 4096, filled up with zeros.
 */
int pci_config_read(struct vfmig_device *device, struct pci_config *ret, struct vfmig_error *err);

/* Vectors in the MSI-X capability's table; 0: there is none. config: `size` bytes. */
uint32_t pci_msix_vectors(const uint8_t *config, size_t size);

/*
 * Is `wanted` (from a stream) the config space of the device that has `have`?
 * Compared: vendor, device, class, revision, header type, subsystem, which
 * capabilities lie where, and the MSI-X table. -EXDEV names the byte and both values.
 */
int pci_config_compare(const uint8_t *wanted, const struct pci_config *have, struct vfmig_error *err);

/*
 * Writes what a driver may have written, in an order that is safe: decoding
 * and bus mastering off, BARs and header, capabilities, command register
 * last. Then reads back; registers that did not take the value are named by `log`.
 */
int pci_config_restore(struct vfmig_device *device, const uint8_t *wanted, const struct pci_config *have,
		       vfmig_log_fn *log, void *log_opaque, struct vfmig_error *err);

#endif
