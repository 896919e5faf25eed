/* SPDX-License-Identifier: BSD-3-Clause */
/* pci_text.c: decodes a config record: ids with their names, registers, capabilities, MSI-X. */
#include "pci_text.h"

#include <inttypes.h>
#include <pci/pci.h>
#include <string.h>

#include "base/bytes.h"
#include "output.h"
#include "pci_names.h"
#include "stream/vfio_packets.h"

#define PCI_CONFIG_BYTES 256u

struct named {
	unsigned int number;
	const char *name;
};

static const struct named command_bits[] = {
	{ PCI_COMMAND_IO, "io" },           { PCI_COMMAND_MEMORY, "memory" },
	{ PCI_COMMAND_MASTER, "bus-master" }, { PCI_COMMAND_SPECIAL, "special" },
	{ PCI_COMMAND_INVALIDATE, "invalidate" }, { PCI_COMMAND_PARITY, "parity" },
	{ PCI_COMMAND_SERR, "serr" },       { PCI_COMMAND_DISABLE_INTx, "intx-disabled" },
};

static const struct named status_bits[] = {
	{ PCI_STATUS_INTx, "intx" },
	{ PCI_STATUS_CAP_LIST, "capabilities" },
	{ PCI_STATUS_PARITY, "parity" },
	{ PCI_STATUS_SIG_TARGET_ABORT, "signaled-target-abort" },
	{ PCI_STATUS_REC_TARGET_ABORT, "received-target-abort" },
	{ PCI_STATUS_REC_MASTER_ABORT, "received-master-abort" },
	{ PCI_STATUS_SIG_SYSTEM_ERROR, "signaled-system-error" },
	{ PCI_STATUS_DETECTED_PARITY, "detected-parity" },
};

static const struct named capabilities[] = {
	{ PCI_CAP_ID_PM, "power management" }, { PCI_CAP_ID_AGP, "AGP" },
	{ PCI_CAP_ID_VPD, "vital product data" }, { PCI_CAP_ID_SLOTID, "slot identification" },
	{ PCI_CAP_ID_MSI, "MSI" },            { PCI_CAP_ID_CHSWP, "CompactPCI hot swap" },
	{ PCI_CAP_ID_PCIX, "PCI-X" },         { PCI_CAP_ID_HT, "HyperTransport" },
	{ PCI_CAP_ID_VNDR, "vendor specific" }, { PCI_CAP_ID_DBG, "debug port" },
	{ PCI_CAP_ID_HOTPLUG, "hot plug" },   { PCI_CAP_ID_SSVID, "bridge subsystem" },
	{ PCI_CAP_ID_EXP, "PCI Express" },    { PCI_CAP_ID_MSIX, "MSI-X" },
	{ PCI_CAP_ID_SATA, "SATA" },          { PCI_CAP_ID_AF, "advanced features" },
	{ PCI_CAP_ID_EA, "enhanced allocation" },
};

static const struct named extended_capabilities[] = {
	{ PCI_EXT_CAP_ID_AER, "advanced error reporting" }, { PCI_EXT_CAP_ID_VC, "virtual channel" },
	{ PCI_EXT_CAP_ID_DSN, "device serial number" },     { PCI_EXT_CAP_ID_PB, "power budgeting" },
	{ PCI_EXT_CAP_ID_VNDR, "vendor specific" },         { PCI_EXT_CAP_ID_ACS, "access control" },
	{ PCI_EXT_CAP_ID_ARI, "alternative routing id" },   { PCI_EXT_CAP_ID_ATS, "address translation" },
	{ PCI_EXT_CAP_ID_SRIOV, "SR-IOV" },                 { PCI_EXT_CAP_ID_PRI, "page request" },
	{ PCI_EXT_CAP_ID_REBAR, "resizable BAR" },          { PCI_EXT_CAP_ID_TPH, "transaction hints" },
	{ PCI_EXT_CAP_ID_LTR, "latency tolerance" },        { PCI_EXT_CAP_ID_SECPCI, "secondary PCI Express" },
	{ PCI_EXT_CAP_ID_PASID, "process address space id" }, { PCI_EXT_CAP_ID_L1PM, "L1 PM substates" },
	{ PCI_EXT_CAP_ID_PTM, "precision time" },           { PCI_EXT_CAP_ID_DVSEC, "designated vendor specific" },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void add_number(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

static void add_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, output_string(value));
}

static const char *find_name(const struct named *table, size_t count, unsigned int number)
{
	for (size_t i = 0; i < count; i++) {
		if (table[i].number == number)
			return table[i].name;
	}
	return "unknown";
}

static struct json_object *bits_json(const struct named *table, size_t count, unsigned int value)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < count; i++) {
		if (value & table[i].number)
			json_object_array_add(a, output_string(table[i].name));
	}
	return a;
}

/* ---------------------------------------------------------------- names */

static void add_names(struct json_object *o, const uint8_t *config)
{
	struct pci_names names;

	pci_names_look_up(get_le16(config + PCI_VENDOR_ID), get_le16(config + PCI_DEVICE_ID),
			  get_le16(config + PCI_CLASS_DEVICE), &names);
	if (names.device[0])
		add_text(o, "name", names.device);
	if (names.class_name[0])
		add_text(o, "class_name", names.class_name);
}

/* ----------------------------------------------------------- registers */

static struct json_object *bar_json(const uint8_t *config, unsigned int index, unsigned int *ret_used)
{
	uint32_t low = get_le32(config + PCI_BASE_ADDRESS_0 + 4 * index);
	struct json_object *o = json_object_new_object();

	*ret_used = 1;
	add_number(o, "index", index);
	if (low & PCI_BASE_ADDRESS_SPACE_IO) {
		add_text(o, "kind", "io");
		add_number(o, "address", low & ~3u);
		return o;
	}
	uint64_t address = low & ~0xfu;
	if ((low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64 && index < 5) {
		address |= (uint64_t)get_le32(config + PCI_BASE_ADDRESS_0 + 4 * index + 4) << 32;
		*ret_used = 2;
	}
	add_text(o, "kind", *ret_used == 2 ? "memory64" : "memory32");
	json_object_object_add(o, "prefetchable", json_object_new_boolean((low & PCI_BASE_ADDRESS_MEM_PREFETCH) != 0));
	add_number(o, "address", address);
	return o;
}

static struct json_object *bars_json(const uint8_t *config)
{
	struct json_object *a = json_object_new_array();
	unsigned int used, last = (config[PCI_HEADER_TYPE] & 0x7f) == PCI_HEADER_TYPE_NORMAL ? 6 : 2;

	for (unsigned int i = 0; i < last; i += used) {
		struct json_object *bar = bar_json(config, i, &used);
		if (get_le32(config + PCI_BASE_ADDRESS_0 + 4 * i))
			json_object_array_add(a, bar);
		else
			json_object_put(bar);
	}
	return a;
}

static void add_msix(struct json_object *o, const uint8_t *config, size_t at)
{
	if (at > PCI_CONFIG_BYTES - 12)
		return;
	uint16_t control = get_le16(config + at + 2);
	uint32_t table = get_le32(config + at + 4), pending = get_le32(config + at + 8);
	add_number(o, "vectors", (control & PCI_MSIX_TABSIZE) + 1u);
	json_object_object_add(o, "enabled", json_object_new_boolean((control & PCI_MSIX_ENABLE) != 0));
	json_object_object_add(o, "masked", json_object_new_boolean((control & PCI_MSIX_MASK) != 0));
	add_number(o, "table_bar", table & PCI_MSIX_BIR);
	add_number(o, "table_offset", table & ~PCI_MSIX_BIR);
	add_number(o, "pending_bar", pending & PCI_MSIX_BIR);
	add_number(o, "pending_offset", pending & ~PCI_MSIX_BIR);
}

static struct json_object *capability_json(size_t at, unsigned int id, const char *name)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "offset", at);
	add_number(o, "id", id);
	add_text(o, "name", name);
	return o;
}

/* Each place is visited once, so a list that runs in a circle ends. */
static struct json_object *capabilities_json(const uint8_t *config)
{
	struct json_object *a = json_object_new_array();
	uint64_t visited = 0;
	size_t at = config[PCI_STATUS] & PCI_STATUS_CAP_LIST ? config[PCI_CAPABILITY_LIST] & 0xfcu : 0;

	for (; at >= 0x40 && !(visited >> at / 4 & 1); at = config[at + PCI_CAP_LIST_NEXT] & 0xfcu) {
		struct json_object *o =
		    capability_json(at, config[at], find_name(capabilities, COUNT(capabilities), config[at]));
		if (config[at] == PCI_CAP_ID_MSIX)
			add_msix(o, config, at);
		json_object_array_add(a, o);
		visited |= UINT64_C(1) << at / 4;
	}
	return a;
}

static struct json_object *extended_json(const uint8_t *config, size_t space)
{
	struct json_object *a = json_object_new_array();
	size_t at = PCI_CONFIG_BYTES;

	/* They may stand in any order; as many as could fit ends a circle. */
	for (int i = 0; i < 480 && at >= PCI_CONFIG_BYTES && at <= space - 4; i++) {
		uint32_t head = get_le32(config + at);
		if (head == 0 || head == UINT32_MAX)
			break;
		const char *name = find_name(extended_capabilities, COUNT(extended_capabilities), head & 0xffff);
		json_object_array_add(a, capability_json(at, head & 0xffff, name));
		at = head >> 20 & 0xffc;
	}
	return a;
}

static void add_registers(struct json_object *o, const uint8_t *config)
{
	static const struct { const char *key; unsigned int at; } ids[] = {
		{ "vendor", PCI_VENDOR_ID },
		{ "device", PCI_DEVICE_ID },
		{ "subsystem_vendor", PCI_SUBSYSTEM_VENDOR_ID },
		{ "subsystem", PCI_SUBSYSTEM_ID },
	};

	for (size_t i = 0; i < COUNT(ids); i++)
		add_number(o, ids[i].key, get_le16(config + ids[i].at));
	add_number(o, "class", get_le32(config + PCI_CLASS_REVISION) >> 8);
	add_number(o, "revision", config[PCI_REVISION_ID]);
	add_names(o, config);
	add_number(o, "command", get_le16(config + PCI_COMMAND));
	json_object_object_add(o, "command_bits",
			       bits_json(command_bits, COUNT(command_bits), get_le16(config + PCI_COMMAND)));
	add_number(o, "status", get_le16(config + PCI_STATUS));
	json_object_object_add(o, "status_bits",
			       bits_json(status_bits, COUNT(status_bits), get_le16(config + PCI_STATUS)));
	add_number(o, "interrupt_line", config[PCI_INTERRUPT_LINE]);
	add_number(o, "interrupt_pin", config[PCI_INTERRUPT_PIN]);
}

/* -------------------------------------------------------------- record */

size_t pci_record_space(const uint8_t *record, size_t length)
{
	static const size_t spaces[] = { WIRE_PCI_CONFIG_SMALL, WIRE_PCI_CONFIG_LARGE };

	for (size_t i = 0; i < COUNT(spaces); i++) {
		if (length >= 4 + spaces[i] && vfio_config_record_length(record + 4, spaces[i]) == length)
			return spaces[i];
	}
	return 0;
}

static unsigned int count_bits(const uint8_t *bytes, size_t length)
{
	unsigned int n = 0;

	for (size_t i = 0; i < length; i++)
		n += (unsigned int)__builtin_popcount(bytes[i]);
	return n;
}

/* Table and pending bits: n * 16 + (n + 7) / 8 bytes. */
static struct json_object *msix_json(const uint8_t *table, size_t length)
{
	size_t vectors = length * 8 / (WIRE_MSIX_ENTRY * 8 + 1);
	struct json_object *o = json_object_new_object();
	unsigned int masked = 0;

	for (size_t i = 0; i < vectors; i++)
		masked += table[i * WIRE_MSIX_ENTRY + 12] & 1;
	add_number(o, "vectors", vectors);
	add_number(o, "masked_vectors", masked);
	add_number(o, "pending_vectors", count_bits(table + vectors * WIRE_MSIX_ENTRY, (vectors + 7) / 8));
	return o;
}

struct json_object *pci_record_json(const uint8_t *record, size_t length)
{
	size_t space = pci_record_space(record, length);
	struct json_object *o = json_object_new_object(), *levels = json_object_new_array();

	add_number(o, "space_bytes", space);
	if (!space) {
		json_object_put(levels);
		return o;
	}
	const uint8_t *config = record + 4, *behind = config + space;
	add_registers(o, config);
	json_object_object_add(o, "bars", bars_json(config));
	json_object_object_add(o, "capabilities", capabilities_json(config));
	if (space > PCI_CONFIG_BYTES)
		json_object_object_add(o, "extended_capabilities", extended_json(config, space));
	for (unsigned int i = 0; i < WIRE_PCI_INTX_LEVELS; i++)
		json_object_array_add(levels, json_object_new_uint64(get_be32(behind + 4 * i)));
	json_object_object_add(o, "intx_levels", levels);
	size_t rest = length - 4 - space - 4 * WIRE_PCI_INTX_LEVELS;
	if (rest)
		json_object_object_add(o, "msix_state", msix_json(behind + 4 * WIRE_PCI_INTX_LEVELS, rest));
	return o;
}
