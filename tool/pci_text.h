/* SPDX-License-Identifier: BSD-3-Clause */
/* pci_text.h: a PCI device's config record, decoded into a JSON object and printed from it. */
#ifndef VFMIG_TOOL_PCI_TEXT_H
#define VFMIG_TOOL_PCI_TEXT_H

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of config space in a record of that length: 256, 4096 or 0 (not a record). */
size_t pci_record_space(const uint8_t *record, size_t length);

/* record: as vfio_packets gives it. The caller owns the object. */
struct json_object *pci_record_json(const uint8_t *record, size_t length);
/* Told of each register that differs, and its two values. */
typedef void pci_differ_fn(void *opaque, const char *name, const char *a, const char *b);
void pci_records_compare(const uint8_t *a, size_t a_length, const uint8_t *b, size_t b_length, pci_differ_fn *differ,
			 void *opaque);
/* Every line begins with `indent`. */
void pci_record_print(struct json_object *record, const char *indent);

#endif
