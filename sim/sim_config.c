/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_config.c: config space with its read-only and writable bits. */
#include "sim/sim_config.h"

#include <linux/pci_regs.h>
#include <string.h>

#include "base/bytes.h"

#define CAP_PM 0x40u
#define CAP_MSIX 0x50u
#define CAP_EXPRESS 0x60u
#define CLASS_COPROCESSOR 0x0b4000u
#define CAPS_MAX 48 /* no more fit into 192 bytes: also ends a loop */

static void express_put(uint8_t *p)
{
	p[PCI_CAP_LIST_ID] = PCI_CAP_ID_EXP;
	put_le16(p + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_RC_END << 4);
	put_le32(p + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR);
	put_le16(p + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN);
}

/* Bits that the registers of a capability let a write change. */
static void capability_mask(uint8_t id, uint8_t *mask, size_t room)
{
	if (id == PCI_CAP_ID_PM && room >= PCI_PM_SIZEOF)
		put_le16(mask + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK | PCI_PM_CTRL_PME_ENABLE);
	if (id == PCI_CAP_ID_MSIX && room >= PCI_CAP_MSIX_SIZEOF)
		put_le16(mask + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	if (id == PCI_CAP_ID_EXP && room >= PCI_EXP_DEVCTL + 2)
		put_le16(mask + PCI_EXP_DEVCTL, 0x7fff);
	if (id == PCI_CAP_ID_MSI && room >= PCI_MSI_ADDRESS_LO + 8) {
		put_le16(mask + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
		put_le32(mask + PCI_MSI_ADDRESS_LO, 0xfffffffc);
		put_le32(mask + PCI_MSI_ADDRESS_LO + 4, 0xffffffff);
	}
}

static void mask_build(struct sim_config *c)
{
	uint8_t *m = c->writable;

	memset(m, 0, sizeof(c->writable));
	put_le16(m + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
					  PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	m[PCI_CACHE_LINE_SIZE] = 0xff;
	m[PCI_LATENCY_TIMER] = 0xff;
	m[PCI_INTERRUPT_LINE] = 0xff;
	for (unsigned int bar = 0; bar < 6; bar++)
		if (get_le32(c->bytes + PCI_BASE_ADDRESS_0 + 4 * bar))
			put_le32(m + PCI_BASE_ADDRESS_0 + 4 * bar, ~(SIM_BAR0_SIZE - 1));
	if (!(get_le16(c->bytes + PCI_STATUS) & PCI_STATUS_CAP_LIST))
		return;
	uint8_t at = c->bytes[PCI_CAPABILITY_LIST] & 0xfc;
	for (int i = 0; i < CAPS_MAX && at >= PCI_STD_HEADER_SIZEOF; i++) {
		capability_mask(c->bytes[at + PCI_CAP_LIST_ID], m + at, 256u - at);
		at = c->bytes[at + PCI_CAP_LIST_NEXT] & 0xfc;
	}
}

void sim_config_build(struct sim_config *c, uint32_t size)
{
	uint8_t *p = c->bytes;

	memset(c, 0, sizeof(*c));
	c->size = size;
	put_le16(p + PCI_VENDOR_ID, SIM_PCI_VENDOR);
	put_le16(p + PCI_DEVICE_ID, SIM_PCI_DEVICE);
	put_le16(p + PCI_STATUS, PCI_STATUS_CAP_LIST);
	put_le32(p + PCI_CLASS_REVISION, CLASS_COPROCESSOR << 8 | 1);
	put_le32(p + PCI_BASE_ADDRESS_0, 0xfe000000u | PCI_BASE_ADDRESS_MEM_TYPE_32);
	put_le16(p + PCI_SUBSYSTEM_VENDOR_ID, SIM_PCI_VENDOR);
	put_le16(p + PCI_SUBSYSTEM_ID, 1);
	p[PCI_CAPABILITY_LIST] = CAP_PM;
	p[CAP_PM + PCI_CAP_LIST_ID] = PCI_CAP_ID_PM;
	p[CAP_PM + PCI_CAP_LIST_NEXT] = CAP_MSIX;
	put_le16(p + CAP_PM + PCI_PM_PMC, 3);
	p[CAP_MSIX + PCI_CAP_LIST_ID] = PCI_CAP_ID_MSIX;
	p[CAP_MSIX + PCI_CAP_LIST_NEXT] = size == 4096 ? CAP_EXPRESS : 0;
	put_le16(p + CAP_MSIX + PCI_MSIX_FLAGS, SIM_MSIX_VECTORS - 1);
	put_le32(p + CAP_MSIX + PCI_MSIX_TABLE, SIM_MSIX_TABLE);
	put_le32(p + CAP_MSIX + PCI_MSIX_PBA, SIM_MSIX_PBA);
	if (size == 4096)
		express_put(p + CAP_EXPRESS);
	memcpy(c->initial, p, sizeof(c->initial));
	mask_build(c);
}

int sim_config_adopt(struct sim_config *c, const uint8_t *bytes, size_t size, struct vfmig_error *err)
{
	if (size != 256 && size != 4096)
		return error_set(err, -EINVAL, "config space of %zu bytes, expected 256 or 4096", size);
	memset(c, 0, sizeof(*c));
	c->size = (uint32_t)size;
	memcpy(c->bytes, bytes, size);
	memcpy(c->initial, bytes, size);
	mask_build(c);
	return 0;
}

void sim_config_reset(struct sim_config *c)
{
	memcpy(c->bytes, c->initial, sizeof(c->bytes));
}

void sim_config_read(const struct sim_config *c, uint64_t offset, void *buffer, size_t length)
{
	memcpy(buffer, c->bytes + offset, length);
}

void sim_config_write(struct sim_config *c, uint64_t offset, const void *buffer, size_t length)
{
	const uint8_t *data = buffer;

	for (size_t i = 0; i < length; i++) {
		uint8_t mask = c->writable[offset + i];
		c->bytes[offset + i] = (uint8_t)((c->bytes[offset + i] & ~mask) | (data[i] & mask));
	}
}
