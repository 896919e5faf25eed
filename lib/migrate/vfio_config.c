/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio_config.c: a device's config record, as QEMU 7.2 and 10.0 write it.
 *
 * Levels, table and pending bits are the VMM's emulated ones: a kernel device's
 * table holds the host's vectors. Without a VMM they are written as nothing
 * pending and everything masked.
 */
#include "migrate/vfio_config.h"

#include <linux/pci_regs.h>
#include <string.h>

#include "base/bytes.h"
#include "stream/vfio_packets.h"

#define LEVELS_BYTES (4u * WIRE_PCI_INTX_LEVELS)

static void interrupts_at(uint8_t *at, uint32_t vectors, struct vfmig_interrupts *ret)
{
	ret->msix_vectors = vectors;
	ret->msix_table = at + LEVELS_BYTES;
	ret->msix_pending = ret->msix_table + (size_t)vectors * WIRE_MSIX_ENTRY;
}

int config_record_make(struct vfmig_device *device, const struct pci_config *config, struct config_record *ret,
		       struct vfmig_error *err)
{
	memset(ret, 0, sizeof(*ret));
	if (config->size == 0)
		return 0;
	put_be32(ret->bytes, WIRE_PCI_VERSION);
	memcpy(ret->bytes + 4, config->bytes, config->size);
	uint8_t *levels = ret->bytes + 4 + config->size;
	struct vfmig_interrupts interrupts = { 0 };
	interrupts_at(levels, pci_msix_vectors(config->bytes, config->size), &interrupts);
	for (uint32_t i = 0; i < interrupts.msix_vectors; i++)
		put_le32(interrupts.msix_table + i * WIRE_MSIX_ENTRY + PCI_MSIX_ENTRY_VECTOR_CTRL,
			 PCI_MSIX_ENTRY_CTRL_MASKBIT);
	if (device->interrupt_ops && device->interrupt_ops->get) {
		int r = device->interrupt_ops->get(device->interrupt_opaque, &interrupts, err);
		if (r < 0)
			return error_prefix(err, r, "interrupt state");
	}
	for (unsigned i = 0; i < WIRE_PCI_INTX_LEVELS; i++)
		put_be32(levels + 4 * i, interrupts.intx_levels[i] ? 1 : 0);
	ret->length = vfio_config_record_length(config->bytes, config->size);
	return 0;
}

int config_record_check(const struct config_record *record, const struct pci_config *have, struct vfmig_error *err)
{
	size_t expected = have->size ? vfio_config_record_length(have->bytes, have->size) : 0;
	int r = 0;
	if (record->length > PCI_CFG_SPACE_SIZE && have->size)
		r = pci_config_compare(record->bytes + 4, have, err);
	if (r == 0 && record->length != expected)
		r = error_set(err, -EXDEV,
			      "the stream is of another device: its config record has %zu bytes, this one's %zu",
			      record->length, expected);
	if (r < 0 || expected == 0)
		return r;
	uint32_t version = get_be32(record->bytes);
	if (version != WIRE_PCI_VERSION)
		return error_set(err, -EBADMSG, "config record of version %u, expected %u", version, WIRE_PCI_VERSION);
	const uint8_t *levels = record->bytes + 4 + have->size;
	for (unsigned i = 0; i < WIRE_PCI_INTX_LEVELS; i++)
		if (get_be32(levels + 4 * i) > 1)
			return error_set(err, -EBADMSG, "config record: INTx level %u is %u, expected 0 or 1", i,
					 get_be32(levels + 4 * i));
	return 0;
}

/* Nobody is there to take the emulated interrupts: say so where that loses something. */
static void tell_interrupts(const struct vfmig_interrupts *i, vfmig_log_fn *log, void *log_opaque)
{
	bool active = false;
	for (unsigned n = 0; n < WIRE_PCI_INTX_LEVELS; n++)
		active |= i->intx_levels[n] != 0;
	for (uint32_t n = 0; n < i->msix_vectors; n++) {
		uint32_t control = get_le32(i->msix_table + n * WIRE_MSIX_ENTRY + PCI_MSIX_ENTRY_VECTOR_CTRL);
		active |= !(control & PCI_MSIX_ENTRY_CTRL_MASKBIT) || (i->msix_pending[n / 8] >> (n % 8) & 1);
	}
	if (active && log)
		log(log_opaque, VFMIG_LOG_WARNING,
		    "the stream carries interrupt state (levels raised or vectors unmasked) that no VMM takes here; it "
		    "is dropped");
}

int config_record_restore(struct vfmig_device *device, const struct config_record *record, vfmig_log_fn *log,
			  void *log_opaque, struct vfmig_error *err)
{
	if (record->length == 0)
		return 0;
	struct pci_config have;
	int r = pci_config_read(device, &have, err);
	if (r == 0)
		r = config_record_check(record, &have, err);
	if (r == 0)
		r = pci_config_restore(device, record->bytes + 4, &have, log, log_opaque, err);
	if (r < 0)
		return r;

	struct config_record copy = *record;
	uint8_t *levels = copy.bytes + 4 + have.size;
	struct vfmig_interrupts interrupts = { 0 };
	interrupts_at(levels, pci_msix_vectors(have.bytes, have.size), &interrupts);
	for (unsigned i = 0; i < WIRE_PCI_INTX_LEVELS; i++)
		interrupts.intx_levels[i] = get_be32(levels + 4 * i);
	if (device->interrupt_ops && device->interrupt_ops->set)
		r = device->interrupt_ops->set(device->interrupt_opaque, &interrupts, err);
	else
		tell_interrupts(&interrupts, log, log_opaque);
	return r < 0 ? error_prefix(err, r, "interrupt state") : device_restore_irqs(device, err);
}

void config_identity(const struct pci_config *config, struct pci_identity *ret)
{
	const uint8_t *c = config->bytes;
	*ret = (struct pci_identity) {
		.vendor = get_le16(c + PCI_VENDOR_ID),
		.device = get_le16(c + PCI_DEVICE_ID),
		.subsystem_vendor = get_le16(c + PCI_SUBSYSTEM_VENDOR_ID),
		.subsystem = get_le16(c + PCI_SUBSYSTEM_ID),
		.class_code = get_le32(c + PCI_CLASS_REVISION) >> 8,
		.revision = c[PCI_REVISION_ID],
	};
}
