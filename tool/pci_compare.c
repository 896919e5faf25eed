/* SPDX-License-Identifier: BSD-3-Clause */
/* pci_compare.c: two config records, register by register. */
#include <inttypes.h>
#include <pci/pci.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "pci_text.h"
#include "stream/wire.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The header of type 0, without gaps: in order, to its end. */
static const struct pci_register {
	const char *name;
	unsigned int at, bytes;
} registers[] = {
	{ "vendor", PCI_VENDOR_ID, 2 },
	{ "device", PCI_DEVICE_ID, 2 },
	{ "command", PCI_COMMAND, 2 },
	{ "status", PCI_STATUS, 2 },
	{ "revision", PCI_REVISION_ID, 1 },
	{ "class", PCI_CLASS_PROG, 3 },
	{ "cache line size", PCI_CACHE_LINE_SIZE, 1 },
	{ "latency timer", PCI_LATENCY_TIMER, 1 },
	{ "header type", PCI_HEADER_TYPE, 1 },
	{ "BIST", PCI_BIST, 1 },
	{ "BAR 0", PCI_BASE_ADDRESS_0, 4 },
	{ "BAR 1", PCI_BASE_ADDRESS_1, 4 },
	{ "BAR 2", PCI_BASE_ADDRESS_2, 4 },
	{ "BAR 3", PCI_BASE_ADDRESS_3, 4 },
	{ "BAR 4", PCI_BASE_ADDRESS_4, 4 },
	{ "BAR 5", PCI_BASE_ADDRESS_5, 4 },
	{ "CardBus CIS", PCI_CARDBUS_CIS, 4 },
	{ "subsystem vendor", PCI_SUBSYSTEM_VENDOR_ID, 2 },
	{ "subsystem", PCI_SUBSYSTEM_ID, 2 },
	{ "expansion ROM", PCI_ROM_ADDRESS, 4 },
	{ "capabilities pointer", PCI_CAPABILITY_LIST, 1 },
	{ "reserved", PCI_CAPABILITY_LIST + 1, 3 },
	{ "reserved", PCI_CAPABILITY_LIST + 4, 4 },
	{ "interrupt line", PCI_INTERRUPT_LINE, 1 },
	{ "interrupt pin", PCI_INTERRUPT_PIN, 1 },
	{ "minimum grant", PCI_MIN_GNT, 1 },
	{ "maximum latency", PCI_MAX_LAT, 1 },
};

struct pair {
	const uint8_t *a, *b;
	pci_differ_fn *differ;
	void *opaque;
};

/* Little-endian, as many digits as the register has; with a name that may have a place in it. */
static void compare_bytes(const struct pair *p, size_t at, unsigned int bytes, const char *name)
{
	char left[16], right[16];
	uint32_t a = 0, b = 0;

	for (unsigned int i = 0; i < bytes; i++) {
		a |= (uint32_t)p->a[at + i] << 8 * i;
		b |= (uint32_t)p->b[at + i] << 8 * i;
	}
	if (a == b)
		return;
	snprintf(left, sizeof(left), "%0*" PRIx32, (int)(2 * bytes), a);
	snprintf(right, sizeof(right), "%0*" PRIx32, (int)(2 * bytes), b);
	p->differ(p->opaque, name, left, right);
}

/* The capability that the byte at `at` is in: the one that begins nearest before it, in this list. */
static struct json_object *capability_of(struct json_object *list, size_t at)
{
	struct json_object *best = NULL;

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *c = json_object_array_get_idx(list, i);
		uint64_t begin = json_object_get_uint64(json_object_object_get(c, "offset"));
		if (begin > at)
			continue;
		if (!best || begin > json_object_get_uint64(json_object_object_get(best, "offset")))
			best = c;
	}
	return best;
}

static void name_place(struct json_object *decoded, size_t at, char *name, size_t size)
{
	const char *key = at < 256 ? "capabilities" : "extended_capabilities";
	struct json_object *c = capability_of(json_object_object_get(decoded, key), at);

	if (!c) {
		snprintf(name, size, "[%03zx]", at);
		return;
	}
	size_t begin = (size_t)json_object_get_uint64(json_object_object_get(c, "offset"));
	snprintf(name, size, "%s [%03zx]+%zx", json_object_get_string(json_object_object_get(c, "name")), begin,
		 at - begin);
}

static void compare_space(const struct pair *p, size_t space, struct json_object *decoded)
{
	char name[128];

	for (size_t i = 0; i < COUNT(registers); i++)
		compare_bytes(p, registers[i].at, registers[i].bytes, registers[i].name);
	for (size_t at = 0x40; at < space; at += 4) {
		name_place(decoded, at, name, sizeof(name));
		compare_bytes(p, at, 4, name);
	}
}

static unsigned int count_bits(const uint8_t *bytes, size_t length)
{
	unsigned int n = 0;

	for (size_t i = 0; i < length; i++)
		n += (unsigned int)__builtin_popcount(bytes[i]);
	return n;
}

static void compare_pending(const struct pair *p, size_t at, size_t length)
{
	char left[32], right[32];

	if (memcmp(p->a + at, p->b + at, length) == 0)
		return;
	snprintf(left, sizeof(left), "%u", count_bits(p->a + at, length));
	snprintf(right, sizeof(right), "%u", count_bits(p->b + at, length));
	p->differ(p->opaque, "MSI-X vectors that are pending", left, right);
}

static void compare_vector(const struct pair *p, size_t at, size_t vector)
{
	char name[32], left[48], right[48];

	if (memcmp(p->a + at, p->b + at, WIRE_MSIX_ENTRY) == 0)
		return;
	snprintf(name, sizeof(name), "MSI-X vector %zu", vector);
	snprintf(left, sizeof(left), "%016" PRIx64 " %08" PRIx32 "%s", get_le64(p->a + at), get_le32(p->a + at + 8),
		 p->a[at + 12] & 1 ? " masked" : "");
	snprintf(right, sizeof(right), "%016" PRIx64 " %08" PRIx32 "%s", get_le64(p->b + at), get_le32(p->b + at + 8),
		 p->b[at + 12] & 1 ? " masked" : "");
	p->differ(p->opaque, name, left, right);
}

/* Levels, table and pending bits, as long on both sides. */
static void compare_interrupts(const struct pair *p, size_t at, size_t length)
{
	char name[32], left[32], right[32];

	for (unsigned int i = 0; i < WIRE_PCI_INTX_LEVELS; i++, at += 4) {
		snprintf(name, sizeof(name), "INT%c level", (char)('A' + i));
		snprintf(left, sizeof(left), "%" PRIu32, get_be32(p->a + at));
		snprintf(right, sizeof(right), "%" PRIu32, get_be32(p->b + at));
		if (strcmp(left, right) != 0)
			p->differ(p->opaque, name, left, right);
	}
	size_t vectors = (length - at) * 8 / (WIRE_MSIX_ENTRY * 8 + 1);
	for (size_t i = 0; i < vectors; i++, at += WIRE_MSIX_ENTRY)
		compare_vector(p, at, i);
	compare_pending(p, at, length - at);
}

void pci_records_compare(const uint8_t *a, size_t a_length, const uint8_t *b, size_t b_length, pci_differ_fn *differ,
			 void *opaque)
{
	size_t space = pci_record_space(a, a_length), other = pci_record_space(b, b_length);
	char left[32], right[32];

	if (space != other || a_length != b_length) {
		snprintf(left, sizeof(left), "%zu", a_length);
		snprintf(right, sizeof(right), "%zu", b_length);
		differ(opaque, "bytes of the config record", left, right);
	}
	space = space < other ? space : other;
	if (!space)
		return;
	struct pair p = { a + 4, b + 4, differ, opaque };
	struct json_object *decoded = pci_record_json(a, a_length);
	compare_space(&p, space, decoded);
	json_object_put(decoded);
	if (a_length == b_length)
		compare_interrupts(&p, space, a_length - 4);
}
