/* SPDX-License-Identifier: BSD-3-Clause */
/* vfio_config.h: a device's config record, {version, config space, INTx levels, MSI-X table and pending bits}. */
#ifndef VFMIG_MIGRATE_VFIO_CONFIG_H
#define VFMIG_MIGRATE_VFIO_CONFIG_H

#include "device/pci.h"
#include "stream/description.h"

struct config_record {
	uint8_t bytes[WIRE_PCI_RECORD_MAX];
	size_t length; /* 0: the device is no PCI function, its record is empty */
};

/* Makes the record of a device, with the VMM's interrupt state or, without it, masked vectors. */
int config_record_make(struct vfmig_device *device, const struct pci_config *config, struct config_record *ret,
		       struct vfmig_error *err);

/* Is it well formed and of the device that has `have`? Touches nothing. */
int config_record_check(const struct config_record *record, const struct pci_config *have, struct vfmig_error *err);

/* Writes a checked record to its device: config space, interrupts, eventfds. */
int config_record_restore(struct vfmig_device *device, const struct config_record *record, vfmig_log_fn *log,
			  void *log_opaque, struct vfmig_error *err);

void config_identity(const struct pci_config *config, struct pci_identity *ret);

#endif
