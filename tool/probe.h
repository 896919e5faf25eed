/* SPDX-License-Identifier: BSD-3-Clause */
/* probe.h: what vfmig probe finds out, before it is printed as text or as JSON. */
#ifndef VFMIG_TOOL_PROBE_H
#define VFMIG_TOOL_PROBE_H

#include <json-c/json.h>

#include "device/pci.h"
#include "pci_names.h"

#define PROBE_MAX 64 /* regions and irqs that are looked at; a PCI device has 9 and 5 */
#define PROBE_ERROR_MAX 256

struct probe_region {
	struct access_region_info info;
	char error[PROBE_ERROR_MAX]; /* why there is no info */
};

struct probe_irq {
	struct access_irq_info info;
	char error[PROBE_ERROR_MAX];
};

struct probe {
	const char *uri;
	const char *kind; /* how it is reached */
	struct access_device_info info;
	struct probe_region regions[PROBE_MAX];
	struct probe_irq irqs[PROBE_MAX];
	uint32_t num_regions, num_irqs; /* of those above */
	bool has_pci;
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code;
	uint8_t revision;
	struct pci_names names;
	char why_not[508]; /* it cannot migrate; "": it can */
	const char *interface;
	bool has_precopy, has_p2p;
	const char *state; /* NULL: could not be asked */
	struct pci_config config; /* size 0: none, or it cannot migrate */
	char config_error[PROBE_ERROR_MAX]; /* why it could not be read */
	bool has_state_bytes, logs_itself; /* pages that it writes */
	uint64_t state_bytes;
	struct json_object *json; /* NULL, or what it was read from, which has its strings */
};

/* Opens the device, asks and closes it. p is all zero; uri has to last. That a device cannot migrate is no failure. */
int probe_device(const char *uri, const struct vfmig_device_options *opts, struct probe *p, struct vfmig_error *err);
/* From what probe_print_json has printed, somewhere (from: for messages). Of regions, irqs: none. */
int probe_read(const char *text, size_t length, const char *from, struct probe *p, struct vfmig_error *err);
void probe_clear(struct probe *p);

/* Names of the indexes of a PCI device; NULL: has none. */
const char *probe_region_name(const struct probe *p, uint32_t index);
const char *probe_irq_name(const struct probe *p, uint32_t index);
/* What a typed region is for, or NULL. */
const char *probe_region_purpose(const struct access_region_info *info);

void probe_print(const struct probe *p);
void probe_print_json(const struct probe *p);

#endif
