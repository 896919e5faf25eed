/* SPDX-License-Identifier: BSD-3-Clause */
/* pci_names.c: names from libpci's list of PCI ids. */
#include "pci_names.h"

#include <pci/pci.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The list's own file and nothing else: libpci's way to udev's database leaks. */
#define LOOKUP_FLAGS (PCI_LOOKUP_NO_NUMBERS | PCI_LOOKUP_NO_HWDB)

static void ids_message(char *format, ...)
{
	(void)format;
}

/* libpci calls it when memory runs out, and it must not return. */
static void __attribute__((noreturn)) ids_error(char *format, ...)
{
	(void)format;
	fputs("vfmig: the list of PCI names cannot be read\n", stderr);
	exit(1);
}

/* Only the list is read, never the machine's bus: so no pci_init, which would
 * also have filled in the three message functions. */
void pci_names_look_up(uint16_t vendor, uint16_t device, uint16_t class_code, struct pci_names *ret)
{
	memset(ret, 0, sizeof(*ret));
	struct pci_access *ids = pci_alloc();
	if (!ids)
		return;
	ids->error = ids_error;
	ids->warning = ids->debug = ids_message;
	pci_lookup_name(ids, ret->device, sizeof(ret->device), PCI_LOOKUP_VENDOR | PCI_LOOKUP_DEVICE | LOOKUP_FLAGS,
			vendor, device);
	pci_lookup_name(ids, ret->class_name, sizeof(ret->class_name), PCI_LOOKUP_CLASS | LOOKUP_FLAGS, class_code);
	pci_cleanup(ids);
}
