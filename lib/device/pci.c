/* SPDX-License-Identifier: BSD-3-Clause */
/* pci.c: a PCI function's config space: read, compare, write back. */
#include "device/pci.h"

#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

int pci_config_read(struct vfmig_device *device, struct pci_config *ret, struct vfmig_error *err)
{
	memset(ret, 0, sizeof(*ret));
	if (!(device->info.flags & ACCESS_DEVICE_PCI))
		return 0;
	struct access_region_info info;
	int r = access_region_info(device->access, ACCESS_PCI_CONFIG, &info, err);
	if (r < 0)
		return error_prefix(err, r, "config space");
	uint64_t size = info.size;
	access_region_info_clear(&info);
	if (size < PCI_STD_HEADER_SIZEOF)
		return error_set(err, -EPROTO, "config space: the region has %llu bytes, a PCI header has %d",
				 (unsigned long long)size, PCI_STD_HEADER_SIZEOF);
	r = access_region_read(device->access, ACCESS_PCI_CONFIG, 0, ret->bytes, min_u64(size, PCI_CONFIG_MAX), err);
	if (r < 0)
		return error_prefix(err, r, "config space");
	ret->size = size == PCI_CFG_SPACE_SIZE ? PCI_CFG_SPACE_SIZE : PCI_CONFIG_MAX;
	return 0;
}

/*
 * Steps through the capability list: the next one's offset, 0 at its end. The
 * list is the device's or the stream's word: `seen` (one bit a dword) ends loops.
 */
static unsigned next_capability(const uint8_t *config, unsigned at, uint64_t *seen)
{
	unsigned next;
	if (at == 0)
		next = (config[PCI_STATUS] & PCI_STATUS_CAP_LIST) ? config[PCI_CAPABILITY_LIST] : 0;
	else
		next = config[at + PCI_CAP_LIST_NEXT];
	next &= ~3u;
	if (next < PCI_STD_HEADER_SIZEOF || (*seen & UINT64_C(1) << (next / 4)))
		return 0;
	*seen |= UINT64_C(1) << (next / 4);
	return next;
}

uint32_t pci_msix_vectors(const uint8_t *config, size_t size)
{
	uint64_t seen = 0;
	if (size < PCI_CFG_SPACE_SIZE)
		return 0;
	for (unsigned at = 0; (at = next_capability(config, at, &seen));)
		if (config[at] == PCI_CAP_ID_MSIX && at + PCI_CAP_MSIX_SIZEOF <= PCI_CFG_SPACE_SIZE)
			return (get_le16(config + at + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1u;
	return 0;
}

static int compare_bytes(const uint8_t *wanted, const uint8_t *have, unsigned at, unsigned length, const char *what,
			 struct vfmig_error *err)
{
	for (unsigned i = at; i < at + length; i++)
		if (wanted[i] != have[i])
			return error_set(
			    err, -EXDEV,
			    "the stream is of another device: config space byte 0x%02x (%s) is 0x%02x in the stream "
			    "and 0x%02x here",
			    i, what, wanted[i], have[i]);
	return 0;
}

int pci_config_compare(const uint8_t *wanted, const struct pci_config *have, struct vfmig_error *err)
{
	static const struct {
		unsigned at, length;
		const char *what;
	} fields[] = {
		{ PCI_VENDOR_ID, 2, "vendor id" },	 { PCI_DEVICE_ID, 2, "device id" },
		{ PCI_REVISION_ID, 1, "revision" },	 { PCI_CLASS_PROG, 3, "class" },
		{ PCI_HEADER_TYPE, 1, "header type" },	 { PCI_SUBSYSTEM_VENDOR_ID, 2, "subsystem vendor id" },
		{ PCI_SUBSYSTEM_ID, 2, "subsystem id" },
	};
	int r = 0;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]) && r == 0; i++)
		r = compare_bytes(wanted, have->bytes, fields[i].at, fields[i].length, fields[i].what, err);
	if (r == 0 && ((wanted[PCI_STATUS] ^ have->bytes[PCI_STATUS]) & PCI_STATUS_CAP_LIST))
		r = compare_bytes(wanted, have->bytes, PCI_STATUS, 1, "capability list bit", err);
	if (r == 0 && (have->bytes[PCI_STATUS] & PCI_STATUS_CAP_LIST))
		r = compare_bytes(wanted, have->bytes, PCI_CAPABILITY_LIST, 1, "first capability", err);
	/* From here on both lists begin alike, and each step compares its links. */
	uint64_t seen = 0;
	for (unsigned at = 0; r == 0 && (at = next_capability(have->bytes, at, &seen));) {
		r = compare_bytes(wanted, have->bytes, at, 2, "capability list", err);
		if (r == 0 && have->bytes[at] == PCI_CAP_ID_MSIX && at + PCI_CAP_MSIX_SIZEOF <= PCI_CFG_SPACE_SIZE &&
		    pci_msix_vectors(wanted, have->size) != pci_msix_vectors(have->bytes, have->size))
			r = compare_bytes(wanted, have->bytes, at + PCI_MSIX_FLAGS, 2, "MSI-X table size", err);
	}
	return r;
}

/* A register that a guest's driver may have written and that is safe to write back. */
struct writable {
	unsigned at, length; /* 1, 2 or 4 bytes */
	uint32_t mask;	     /* the bits that are restored */
};

struct restore {
	struct access *access;
	const uint8_t *wanted, *have;
	vfmig_log_fn *log;
	void *log_opaque;
	struct vfmig_error *err;
};

static uint32_t value_at(const uint8_t *config, const struct writable *w)
{
	uint32_t v = 0;
	for (unsigned i = 0; i < w->length; i++)
		v |= (uint32_t)config[w->at + i] << (8 * i);
	return v;
}

static int write_value(struct restore *r, const struct writable *w, uint32_t value)
{
	uint8_t le[4];
	put_le32(le, value);
	int e = access_region_write(r->access, ACCESS_PCI_CONFIG, w->at, le, w->length, r->err);
	return e < 0 ? error_prefix(r->err, e, "config space: writing 0x%x at 0x%02x", value, w->at) : 0;
}

static int restore_register(struct restore *r, struct writable w)
{
	uint32_t have = value_at(r->have, &w), wanted = value_at(r->wanted, &w), now;
	uint8_t le[4] = { 0 };
	if (((have ^ wanted) & w.mask) == 0)
		return 0;
	wanted = (have & ~w.mask) | (wanted & w.mask);
	int e = write_value(r, &w, wanted);
	if (e < 0)
		return e;
	e = access_region_read(r->access, ACCESS_PCI_CONFIG, w.at, le, w.length, r->err);
	if (e < 0)
		return error_prefix(r->err, e, "config space: reading 0x%02x back", w.at);
	now = get_le32(le);
	if (((now ^ wanted) & w.mask) && r->log) {
		char line[160];
		snprintf(line, sizeof(line), "config space: register 0x%02x did not take 0x%x, it reads 0x%x", w.at,
			 wanted, now);
		r->log(r->log_opaque, VFMIG_LOG_WARNING, line);
	}
	return 0;
}

static int restore_capability(struct restore *r, unsigned at)
{
	const uint8_t *w = r->wanted;
	struct writable list[6];
	size_t n = 0;
	uint16_t flags;
	switch (w[at]) {
	case PCI_CAP_ID_PM: /* not the power state: the device has just been set up in D0 */
		list[n++] = (struct writable) { at + PCI_PM_CTRL, 2, PCI_PM_CTRL_PME_ENABLE };
		break;
	case PCI_CAP_ID_MSI:
		flags = get_le16(r->have + at + PCI_MSI_FLAGS); /* which registers there are is the device's word */
		list[n++] = (struct writable) { at + PCI_MSI_ADDRESS_LO, 4, ~0u };
		if (flags & PCI_MSI_FLAGS_64BIT)
			list[n++] = (struct writable) { at + PCI_MSI_ADDRESS_HI, 4, ~0u };
		list[n++] =
		    (struct writable) { at + ((flags & PCI_MSI_FLAGS_64BIT) ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), 2,
					0xffff };
		if (flags & PCI_MSI_FLAGS_MASKBIT)
			list[n++] = (struct writable) {
				at + ((flags & PCI_MSI_FLAGS_64BIT) ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32), 4, ~0u
			};
		list[n++] = (struct writable) { at + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE };
		break;
	case PCI_CAP_ID_MSIX:
		list[n++] =
		    (struct writable) { at + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL };
		break;
	case PCI_CAP_ID_EXP: /* not the bit that starts a function level reset */
		list[n++] = (struct writable) { at + PCI_EXP_DEVCTL, 2, 0xffffu & ~(uint32_t)PCI_EXP_DEVCTL_BCR_FLR };
		if ((get_le16(r->have + at + PCI_EXP_FLAGS) & PCI_EXP_FLAGS_VERS) >= 2) /* before that it is shorter */
			list[n++] = (struct writable) { at + PCI_EXP_DEVCTL2, 2, 0xffff };
		break;
	default:
		break;
	}
	int e = 0;
	for (size_t i = 0; i < n && e == 0; i++)
		if (list[i].at + list[i].length <= PCI_CFG_SPACE_SIZE)
			e = restore_register(r, list[i]);
	return e;
}

int pci_config_restore(struct vfmig_device *device, const uint8_t *wanted, const struct pci_config *have,
		       vfmig_log_fn *log, void *log_opaque, struct vfmig_error *err)
{
	struct restore r = { device->access, wanted, have->bytes, log, log_opaque, err };
	const struct writable command = { PCI_COMMAND, 2, 0xffff };
	uint32_t now = value_at(have->bytes, &command);
	int e = 0;
	if (now & (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)) {
		now &= ~(uint32_t)(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		e = write_value(&r, &command, now);
	}
	static const struct writable header[] = {
		{ PCI_CACHE_LINE_SIZE, 1, 0xff }, { PCI_LATENCY_TIMER, 1, 0xff }, { PCI_BASE_ADDRESS_0, 4, ~0u },
		{ PCI_BASE_ADDRESS_1, 4, ~0u },	  { PCI_BASE_ADDRESS_2, 4, ~0u }, { PCI_BASE_ADDRESS_3, 4, ~0u },
		{ PCI_BASE_ADDRESS_4, 4, ~0u },	  { PCI_BASE_ADDRESS_5, 4, ~0u }, { PCI_ROM_ADDRESS, 4, ~0u },
		{ PCI_INTERRUPT_LINE, 1, 0xff },
	};
	for (size_t i = 0; i < sizeof(header) / sizeof(header[0]) && e == 0; i++)
		e = restore_register(&r, header[i]);
	uint64_t seen = 0;
	for (unsigned at = 0; e == 0 && (at = next_capability(have->bytes, at, &seen));)
		e = restore_capability(&r, at);
	if (e == 0 && value_at(wanted, &command) != now)
		e = write_value(&r, &command, value_at(wanted, &command));
	return e;
}
