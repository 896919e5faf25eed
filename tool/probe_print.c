/* SPDX-License-Identifier: BSD-3-Clause */
/* probe_print.c: a probe's result as text and as JSON. */
#include <inttypes.h>

#include "output.h"
#include "probe.h"

const char *probe_region_name(const struct probe *p, uint32_t index)
{
	static const char *const names[] = { "BAR 0", "BAR 1", "BAR 2", "BAR 3", "BAR 4",
					     "BAR 5", "ROM",   "config space", "VGA" };
	bool known = (p->info.flags & ACCESS_DEVICE_PCI) && index < sizeof(names) / sizeof(names[0]);
	return known ? names[index] : NULL;
}

const char *probe_irq_name(const struct probe *p, uint32_t index)
{
	static const char *const names[] = { "INTx", "MSI", "MSI-X", "error", "request" };
	bool known = (p->info.flags & ACCESS_DEVICE_PCI) && index < sizeof(names) / sizeof(names[0]);
	return known ? names[index] : NULL;
}

/* linux/vfio.h: VFIO_REGION_TYPE_*, VFIO_REGION_SUBTYPE_* */
const char *probe_region_purpose(const struct access_region_info *info)
{
	if (!info->has_type)
		return NULL;
	if (info->type == 3 && info->subtype == 1)
		return "migration (v1)";
	if (info->type == 1)
		return info->subtype == 1 ? "graphics EDID" : "graphics";
	if (info->type & 1u << 31)
		return "a PCI vendor's own";
	return NULL;
}

static void print_region(const struct probe *p, const struct probe_region *r, uint32_t index)
{
	const struct access_region_info *i = &r->info;
	const char *name = probe_region_name(p, index), *purpose = probe_region_purpose(i);
	char size[OUTPUT_NUMBER_MAX];
	printf("  region %-2u ", index);
	if (r->error[0]) {
		printf("%s\n", r->error);
		return;
	}
	printf("%-14s  %-9s  %s%s", name ? name : purpose ? purpose : "", output_bytes(i->size, size),
	       i->flags & ACCESS_REGION_READ ? "r" : "-", i->flags & ACCESS_REGION_WRITE ? "w" : "-");
	if (i->has_type)
		printf("  type %#x subtype %#x", i->type, i->subtype);
	for (size_t a = 0; a < i->num_areas; a++)
		printf("%s[%#" PRIx64 ", %#" PRIx64 ")", a ? " " : "  mappable ", i->areas[a].offset,
		       i->areas[a].offset + i->areas[a].size);
	printf("\n");
}

static void print_irq(const struct probe *p, const struct probe_irq *q, uint32_t index)
{
	const char *name = probe_irq_name(p, index);
	printf("  irq %-5u %-14s  ", index, name ? name : "");
	if (q->error[0])
		printf("%s\n", q->error);
	else
		printf("%u vector%s\n", q->info.count, q->info.count == 1 ? "" : "s");
}

static void print_pci(const struct probe *p)
{
	printf("  PCI       %04x:%04x %s\n", p->vendor, p->device,
	       p->names.device[0] ? p->names.device : PCI_NO_NAME);
	printf("            subsystem %04x:%04x, revision %02x, class %06x %s\n", p->subsystem_vendor, p->subsystem,
	       p->revision, p->class_code, p->names.class_name);
}

static void print_migration(const struct probe *p)
{
	if (p->why_not[0]) {
		printf("  migration: no: %s\n", p->why_not);
		return;
	}
	printf("  migration: yes, by interface %s\n", p->interface);
	printf("    pre-copy (saving while it works): %s\n", p->has_precopy ? "yes" : "no");
	printf("    P2P states (several devices that talk to each other): %s\n", p->has_p2p ? "yes" : "no");
	printf("    it is now: %s\n", p->state ? p->state : "in a state that it does not tell");
}

/* Only what exists: a region of size 0 is one that the device does not have. */
void probe_print(const struct probe *p)
{
	printf("%s\n", p->uri);
	printf("  reached by %s; %s reset; %u regions, %u irqs\n", p->kind,
	       p->info.flags & ACCESS_DEVICE_RESET ? "can" : "cannot", p->info.num_regions, p->info.num_irqs);
	if (p->has_pci)
		print_pci(p);
	for (uint32_t i = 0; i < p->num_regions; i++)
		if (p->regions[i].info.size || p->regions[i].error[0])
			print_region(p, &p->regions[i], i);
	for (uint32_t i = 0; i < p->num_irqs; i++)
		if (p->irqs[i].info.count || p->irqs[i].error[0])
			print_irq(p, &p->irqs[i], i);
	if (p->num_regions < p->info.num_regions || p->num_irqs < p->info.num_irqs)
		printf("  regions and irqs above %u were not looked at\n", PROBE_MAX);
	print_migration(p);
}

static struct json_object *string_or_null(const char *s)
{
	return s && *s ? output_string(s) : NULL;
}

static struct json_object *region_json(const struct probe *p, const struct probe_region *r, uint32_t index)
{
	const struct access_region_info *i = &r->info;
	struct json_object *o = json_object_new_object(), *areas = json_object_new_array();
	json_object_object_add(o, "index", json_object_new_uint64(index));
	json_object_object_add(o, "name", string_or_null(probe_region_name(p, index)));
	json_object_object_add(o, "error", string_or_null(r->error));
	json_object_object_add(o, "size", json_object_new_uint64(i->size));
	json_object_object_add(o, "readable", json_object_new_boolean(i->flags & ACCESS_REGION_READ));
	json_object_object_add(o, "writable", json_object_new_boolean(i->flags & ACCESS_REGION_WRITE));
	if (i->has_type) {
		json_object_object_add(o, "type", json_object_new_uint64(i->type));
		json_object_object_add(o, "subtype", json_object_new_uint64(i->subtype));
		json_object_object_add(o, "purpose", string_or_null(probe_region_purpose(i)));
	}
	for (size_t a = 0; a < i->num_areas; a++) {
		struct json_object *area = json_object_new_object();
		json_object_object_add(area, "offset", json_object_new_uint64(i->areas[a].offset));
		json_object_object_add(area, "size", json_object_new_uint64(i->areas[a].size));
		json_object_array_add(areas, area);
	}
	json_object_object_add(o, "mappable", areas);
	return o;
}

static struct json_object *irq_json(const struct probe *p, const struct probe_irq *q, uint32_t index)
{
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "index", json_object_new_uint64(index));
	json_object_object_add(o, "name", string_or_null(probe_irq_name(p, index)));
	json_object_object_add(o, "error", string_or_null(q->error));
	json_object_object_add(o, "count", json_object_new_uint64(q->info.count));
	return o;
}

static struct json_object *pci_json(const struct probe *p)
{
	if (!p->has_pci)
		return NULL;
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "vendor", json_object_new_uint64(p->vendor));
	json_object_object_add(o, "device", json_object_new_uint64(p->device));
	json_object_object_add(o, "subsystem_vendor", json_object_new_uint64(p->subsystem_vendor));
	json_object_object_add(o, "subsystem", json_object_new_uint64(p->subsystem));
	json_object_object_add(o, "revision", json_object_new_uint64(p->revision));
	json_object_object_add(o, "class", json_object_new_uint64(p->class_code));
	json_object_object_add(o, "name", string_or_null(p->names.device));
	json_object_object_add(o, "class_name", string_or_null(p->names.class_name));
	return o;
}

static struct json_object *migration_json(const struct probe *p)
{
	struct json_object *o = json_object_new_object();
	bool can = !p->why_not[0];
	json_object_object_add(o, "possible", json_object_new_boolean(can));
	json_object_object_add(o, "why_not", string_or_null(p->why_not));
	if (can) {
		json_object_object_add(o, "interface", string_or_null(p->interface));
		json_object_object_add(o, "precopy", json_object_new_boolean(p->has_precopy));
		json_object_object_add(o, "p2p", json_object_new_boolean(p->has_p2p));
		json_object_object_add(o, "state", string_or_null(p->state));
		json_object_object_add(o, "state_bytes",
				       p->has_state_bytes ? json_object_new_uint64(p->state_bytes) : NULL);
		json_object_object_add(o, "logs_written_pages", json_object_new_boolean(p->logs_itself));
	}
	return o;
}

/* Its bytes, without the zeros at the end. */
static struct json_object *config_json(const struct probe *p)
{
	const struct pci_config *config = &p->config;
	char hex[2 * PCI_CONFIG_MAX + 1] = "";
	size_t used = config->size;
	if (!used && !p->config_error[0])
		return NULL;
	while (used && !config->bytes[used - 1])
		used--;
	for (size_t i = 0; i < used; i++)
		snprintf(hex + 2 * i, 3, "%02x", config->bytes[i]);
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "size", json_object_new_uint64(config->size));
	json_object_object_add(o, "hex", output_string(hex));
	json_object_object_add(o, "error", string_or_null(p->config_error));
	return o;
}

void probe_print_json(const struct probe *p)
{
	struct json_object *o = json_object_new_object();
	struct json_object *regions = json_object_new_array(), *irqs = json_object_new_array();
	for (uint32_t i = 0; i < p->num_regions; i++)
		json_object_array_add(regions, region_json(p, &p->regions[i], i));
	for (uint32_t i = 0; i < p->num_irqs; i++)
		json_object_array_add(irqs, irq_json(p, &p->irqs[i], i));
	json_object_object_add(o, "uri", output_string(p->uri));
	json_object_object_add(o, "access", output_string(p->kind));
	json_object_object_add(o, "resettable", json_object_new_boolean(p->info.flags & ACCESS_DEVICE_RESET));
	json_object_object_add(o, "num_regions", json_object_new_uint64(p->info.num_regions));
	json_object_object_add(o, "num_irqs", json_object_new_uint64(p->info.num_irqs));
	json_object_object_add(o, "pci", pci_json(p));
	json_object_object_add(o, "config_space", config_json(p));
	json_object_object_add(o, "regions", regions);
	json_object_object_add(o, "irqs", irqs);
	json_object_object_add(o, "migration", migration_json(p));
	output_json(stdout, o, true);
}
