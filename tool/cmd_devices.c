/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_devices.c: vfmig devices: the kernel devices of this machine, and whether and why not each migrates. */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "device/kernel_reasons.h"
#include "open.h"
#include "output.h"
#include "pci_names.h"

#define BRIDGE 0x06u /* base class of what is never passed through */

struct devices {
	bool open, json;
	struct json_object *list; /* NULL: text */
	unsigned count, migrate, unknown;
};

/* What is found out about one device. */
struct verdict {
	char uri[KERNEL_PATH_MAX + 8];
	const char *migrates;	/* yes, no, unknown */
	const char *reason;	/* kernel_reason_name, or NULL */
	struct vfmig_error why; /* and what to do; message "": nothing to say */
	const char *interface;	/* opened: "v1", "v2" */
	bool has_precopy, has_p2p;
};

enum { OPT_JSON = 256, OPT_OPEN };

static const struct argp_option options[] = {
	{ "open", OPT_OPEN, NULL, 0,
	  "Open the devices that can be opened, and ask them; nobody else may be using them, and most are reset by it",
	  0 },
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct devices *d = state->input;
	switch (key) {
	case OPT_OPEN:
		d->open = true;
		return 0;
	case OPT_JSON:
		d->json = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s' is too many: it lists them all; 'vfmig probe' looks at one", arg);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static void judge_open(struct verdict *v)
{
	struct vfmig_device *device;
	int r = open_device(v->uri, NULL, &device, &v->why);
	if (r < 0) {
		v->migrates = "no";
		v->reason = r == -EOPNOTSUPP ? kernel_reason_name(KERNEL_NO_MIGRATION) : "does-not-open";
		return;
	}
	v->migrates = "yes";
	v->interface = device->protocol->ops->name;
	v->has_precopy = device->protocol->has_precopy;
	v->has_p2p = device->protocol->has_p2p;
	vfmig_device_close(device);
}

static void judge(struct verdict *v, const struct kernel_place *p, bool open)
{
	enum kernel_reason reason = kernel_look(p);
	if (reason == KERNEL_FINE && !strcmp(p->driver, "vfio-pci"))
		reason = KERNEL_NO_MIGRATION;
	if (reason != KERNEL_FINE) {
		v->migrates = "no";
		v->reason = kernel_reason_name(reason);
		kernel_refuse(reason, p, "no migration interface", -ENODEV, &v->why);
	} else if (open) {
		judge_open(v);
	} else {
		v->migrates = "unknown";
		error_set(&v->why, -EAGAIN, "only the device itself tells: vfmig probe %s (it is reset by that, as a "
					    "rule)",
			  v->uri);
	}
}

static void print_text(const struct verdict *v, const struct kernel_place *p, const struct pci_names *names)
{
	printf("%s\n", v->uri);
	if (names->device[0])
		printf("  device     %s\n", names->device);
	printf("  driver     %s\n", p->driver[0] ? p->driver : "none");
	if (p->group >= 0)
		printf("  group      %d\n", p->group);
	if (p->has_cdev_node)
		printf("  file       %s/vfio/devices/%s\n", p->roots->dev, p->cdev);
	printf("  migrates   %s", v->migrates);
	if (v->interface)
		printf(", by interface %s; pre-copy (saving while it works): %s; P2P (together with others): %s",
		       v->interface, v->has_precopy ? "yes" : "no", v->has_p2p ? "yes" : "no");
	/* Why; after the first "; " what to do. */
	const char *why = v->why.message, *to_do = strstr(why, "; ");
	if (*why)
		printf(": %.*s", to_do ? (int)(to_do - why) : (int)strlen(why), why);
	printf("\n");
	if (*why && to_do)
		printf("  to do      %s\n", to_do + 2);
}

static struct json_object *text_or_null(const char *text)
{
	return text && *text ? output_string(text) : NULL;
}

static struct json_object *to_json(const struct verdict *v, const struct kernel_place *p, const struct pci_names *names)
{
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "uri", output_string(v->uri));
	json_object_object_add(o, "path", output_string(p->path));
	json_object_object_add(o, "name", text_or_null(names->device));
	json_object_object_add(o, "driver", text_or_null(p->driver));
	json_object_object_add(o, "vfio_driver", json_object_new_boolean(p->has_vfio_driver));
	json_object_object_add(o, "group", p->group >= 0 ? json_object_new_int(p->group) : NULL);
	json_object_object_add(o, "cdev", text_or_null(p->has_cdev_node ? p->cdev : NULL));
	json_object_object_add(o, "migrates", output_string(v->migrates));
	json_object_object_add(o, "reason", text_or_null(v->reason));
	json_object_object_add(o, "message", text_or_null(v->why.message));
	json_object_object_add(o, "interface", text_or_null(v->interface));
	json_object_object_add(o, "precopy", v->interface ? json_object_new_boolean(v->has_precopy) : NULL);
	json_object_object_add(o, "p2p", v->interface ? json_object_new_boolean(v->has_p2p) : NULL);
	return o;
}

static int show(void *opaque, const struct kernel_place *p)
{
	static const char *const schemes[] = {
		[KERNEL_BUS_OTHER] = "sysfs", [KERNEL_BUS_PCI] = "pci", [KERNEL_BUS_MDEV] = "mdev"
	};
	struct devices *d = opaque;
	struct verdict v = { 0 };
	struct pci_names names = { 0 };
	uint32_t class_code = kernel_place_number(p, "class");
	if (p->bus == KERNEL_BUS_PCI && class_code >> 16 == BRIDGE)
		return 0;
	snprintf(v.uri, sizeof(v.uri), "%s:%s", schemes[p->bus], p->bus == KERNEL_BUS_OTHER ? p->path : p->name);
	if (p->bus == KERNEL_BUS_PCI)
		pci_names_look_up((uint16_t)kernel_place_number(p, "vendor"),
				  (uint16_t)kernel_place_number(p, "device"), (uint16_t)(class_code >> 8), &names);
	judge(&v, p, d->open);
	d->count++;
	d->migrate += !strcmp(v.migrates, "yes");
	d->unknown += !strcmp(v.migrates, "unknown");
	if (d->list)
		json_object_array_add(d->list, to_json(&v, p, &names));
	else
		print_text(&v, p, &names);
	return 0;
}

static void print_summary(const struct devices *d)
{
	if (!d->count) {
		printf("This machine has no PCI functions but bridges, no mediated devices, and no others that VFIO "
		       "knows.\n");
		return;
	}
	printf("\n%u device%s: %u can migrate, %u cannot as things are, %u unknown until opened (--open)\n", d->count,
	       d->count == 1 ? "" : "s", d->migrate, d->count - d->migrate - d->unknown, d->unknown);
	printf("A device can migrate when a VFIO driver that knows how to is bound to it: its vendor's; vfio-pci does "
	       "not.\nFor a software device that can: vfmig probe sim:\n");
}

int cmd_devices(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.doc = "Lists the mediated devices, PCI functions and other VFIO devices of this machine, and tells "
		       "whether each can migrate, and if not, why and what to do. Changes nothing without --open.",
	};
	struct devices d = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &d))
		return EXIT_USAGE;
	d.list = d.json ? json_object_new_array() : NULL;
	kernel_list(&kernel_machine, KERNEL_BUS_MDEV, show, &d);
	kernel_list(&kernel_machine, KERNEL_BUS_OTHER, show, &d);
	kernel_list(&kernel_machine, KERNEL_BUS_PCI, show, &d);
	if (d.json) {
		struct json_object *o = json_object_new_object();
		json_object_object_add(o, "devices", d.list);
		output_json(stdout, o, true);
	} else {
		print_summary(&d);
	}
	return EXIT_OK;
}
