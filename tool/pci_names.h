/* SPDX-License-Identifier: BSD-3-Clause */
/* pci_names.h: what the PCI ids' list calls a device. */
#ifndef VFMIG_TOOL_PCI_NAMES_H
#define VFMIG_TOOL_PCI_NAMES_H

#include <stdint.h>

#define PCI_NAME_MAX 256
#define PCI_NO_NAME "(no name known)" /* how a text says that a device is not in the list */

struct pci_names {
	char device[PCI_NAME_MAX];     /* vendor and device; "": not in the list */
	char class_name[PCI_NAME_MAX]; /* "": not in the list */
};

/* class_code: 16 bits, base class and subclass. */
void pci_names_look_up(uint16_t vendor, uint16_t device, uint16_t class_code, struct pci_names *ret);

#endif
