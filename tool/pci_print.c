/* SPDX-License-Identifier: BSD-3-Clause */
/* pci_print.c: prints a decoded config record. */
#include <inttypes.h>
#include <stdio.h>

#include "pci_names.h"
#include "pci_text.h"

static struct json_object *get(struct json_object *o, const char *key)
{
	return json_object_object_get(o, key);
}

static uint64_t number(struct json_object *o, const char *key)
{
	return json_object_get_uint64(get(o, key));
}

static const char *text(struct json_object *o, const char *key)
{
	return json_object_get_string(get(o, key));
}

static void print_bits(struct json_object *bits)
{
	for (size_t i = 0; i < json_object_array_length(bits); i++)
		printf(" %s", json_object_get_string(json_object_array_get_idx(bits, i)));
}

static void print_registers(struct json_object *r, const char *indent)
{
	printf("%s%04x:%04x %s\n", indent, (unsigned int)number(r, "vendor"), (unsigned int)number(r, "device"),
	       get(r, "name") ? text(r, "name") : PCI_NO_NAME);
	printf("%ssubsystem %04x:%04x, class %06x %s, revision %02x\n", indent,
	       (unsigned int)number(r, "subsystem_vendor"), (unsigned int)number(r, "subsystem"),
	       (unsigned int)number(r, "class"), get(r, "class_name") ? text(r, "class_name") : "",
	       (unsigned int)number(r, "revision"));
	printf("%scommand %04x", indent, (unsigned int)number(r, "command"));
	print_bits(get(r, "command_bits"));
	printf("\n%sstatus %04x", indent, (unsigned int)number(r, "status"));
	print_bits(get(r, "status_bits"));
	printf("\n%sinterrupt pin %u, line %u\n", indent, (unsigned int)number(r, "interrupt_pin"),
	       (unsigned int)number(r, "interrupt_line"));
}

static void print_bars(struct json_object *bars, const char *indent)
{
	for (size_t i = 0; i < json_object_array_length(bars); i++) {
		struct json_object *bar = json_object_array_get_idx(bars, i);
		printf("%sBAR %u %s at 0x%" PRIx64 "%s\n", indent, (unsigned int)number(bar, "index"),
		       text(bar, "kind"), number(bar, "address"),
		       json_object_get_boolean(get(bar, "prefetchable")) ? ", prefetchable" : "");
	}
}

static void print_capabilities(struct json_object *list, const char *word, const char *indent)
{
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *c = json_object_array_get_idx(list, i);
		printf("%s%s [%02x] %s", indent, word, (unsigned int)number(c, "offset"), text(c, "name"));
		if (get(c, "vectors"))
			printf(": %u vectors, %s%s, table BAR %u+0x%x, pending bits BAR %u+0x%x",
			       (unsigned int)number(c, "vectors"),
			       json_object_get_boolean(get(c, "enabled")) ? "enabled" : "disabled",
			       json_object_get_boolean(get(c, "masked")) ? ", masked" : "",
			       (unsigned int)number(c, "table_bar"), (unsigned int)number(c, "table_offset"),
			       (unsigned int)number(c, "pending_bar"), (unsigned int)number(c, "pending_offset"));
		printf("\n");
	}
}

void pci_record_print(struct json_object *r, const char *indent)
{
	struct json_object *msix = get(r, "msix_state"), *levels = get(r, "intx_levels");

	if (number(r, "space_bytes") == 0) {
		printf("%snot a PCI config record\n", indent);
		return;
	}
	print_registers(r, indent);
	print_bars(get(r, "bars"), indent);
	print_capabilities(get(r, "capabilities"), "capability", indent);
	print_capabilities(get(r, "extended_capabilities"), "extended capability", indent);
	printf("%sINTx levels", indent);
	for (size_t i = 0; i < json_object_array_length(levels); i++)
		printf(" %" PRIu64, json_object_get_uint64(json_object_array_get_idx(levels, i)));
	printf("\n");
	if (msix)
		printf("%sMSI-X state: %" PRIu64 " vectors, %" PRIu64 " masked, %" PRIu64 " pending\n", indent,
		       number(msix, "vectors"), number(msix, "masked_vectors"), number(msix, "pending_vectors"));
}
