/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_probe.c: vfmig probe URI: looks at a device and changes nothing. */
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "command.h"
#include "open.h"
#include "output.h"
#include "probe.h"
#include "transfer.h"

struct probe_arguments {
	const char *uri;
	struct vfmig_device_options options;
	bool json;
};

enum { OPT_JSON = 256, OPT_TIMEOUT };

static const struct argp_option options[] = {
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object", 0 },
	{ "timeout", OPT_TIMEOUT, "MS", 0, "How long one request to the device may take (30000)", 0 },
	OPEN_OPTIONS,
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct probe_arguments *a = state->input;
	if (open_parse_option(key, arg, state, &a->options))
		return 0;
	switch (key) {
	case OPT_JSON:
		a->json = true;
		return 0;
	case OPT_TIMEOUT:
		a->options.timeout_ms = transfer_parse_ms(state, "--timeout", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (a->uri)
			argp_error(state, "one device at a time: '%s' is too many", arg);
		a->uri = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->uri)
			argp_error(state, "which device? Expected a URI, vfio-user:/PATH say");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int probe_pci(struct probe *p, struct access *a, struct vfmig_error *err)
{
	uint8_t header[64];
	int r = access_region_read(a, ACCESS_PCI_CONFIG, 0, header, sizeof(header), err);
	if (r < 0)
		return error_prefix(err, r, "%s: read its config space", p->uri);
	p->has_pci = true;
	p->vendor = get_le16(header + PCI_VENDOR_ID);
	p->device = get_le16(header + PCI_DEVICE_ID);
	p->revision = header[PCI_REVISION_ID];
	p->class_code = get_le32(header + PCI_REVISION_ID) >> 8;
	p->subsystem_vendor = get_le16(header + PCI_SUBSYSTEM_VENDOR_ID);
	p->subsystem = get_le16(header + PCI_SUBSYSTEM_ID);
	pci_names_look_up(p->vendor, p->device, (uint16_t)(p->class_code >> 8), &p->names);
	return 0;
}

/* One that cannot be described is shown so; a device that is gone ends the probe. */
static int keep_error(int code, char *text, const struct vfmig_error *err)
{
	snprintf(text, PROBE_ERROR_MAX, "%.*s", PROBE_ERROR_MAX - 1, err->message);
	return code == -ENOTCONN || code == -ETIMEDOUT ? code : 0;
}

static int probe_parts(struct probe *p, struct access *a, struct vfmig_error *err)
{
	p->num_regions = (uint32_t)min_u64(p->info.num_regions, PROBE_MAX);
	for (uint32_t i = 0; i < p->num_regions; i++) {
		int r = access_region_info(a, i, &p->regions[i].info, err);
		if (r < 0)
			r = keep_error(r, p->regions[i].error, err);
		if (r < 0)
			return error_prefix(err, r, "%s: region %u", p->uri, i);
	}
	p->num_irqs = (uint32_t)min_u64(p->info.num_irqs, PROBE_MAX);
	for (uint32_t i = 0; i < p->num_irqs; i++) {
		int r = access_irq_info(a, i, &p->irqs[i].info, err);
		if (r < 0)
			r = keep_error(r, p->irqs[i].error, err);
		if (r < 0)
			return error_prefix(err, r, "%s: irq %u", p->uri, i);
	}
	return 0;
}

/* Takes the access. That a device cannot migrate is an answer and no failure. */
static int probe_migration(struct probe *p, struct access *a, const struct vfmig_device_options *opts,
			   struct vfmig_error *err)
{
	struct vfmig_device *device;
	int r = device_new(a, opts, &device, err);
	if (r == -ENOTCONN || r == -ETIMEDOUT)
		return r;
	if (r < 0) {
		snprintf(p->why_not, sizeof(p->why_not), "%s", err->message);
		return 0;
	}
	enum vfmig_state state;
	p->interface = device->protocol->ops->name;
	p->has_precopy = device->protocol->has_precopy;
	p->has_p2p = device->protocol->has_p2p;
	if (vfmig_device_state(device, &state, err) == 0)
		p->state = vfmig_state_name(state);
	vfmig_device_close(device);
	return 0;
}

static int probe(struct probe *p, const struct probe_arguments *args, struct vfmig_error *err)
{
	struct access *a;
	int r = open_access(args->uri, &args->options, &a, err);
	if (r < 0)
		return r;
	p->uri = args->uri;
	p->kind = a->ops->kind;
	r = access_device_info(a, &p->info, err);
	if (r < 0)
		error_prefix(err, r, "%s", args->uri);
	else
		r = probe_parts(p, a, err);
	if (!r && (p->info.flags & ACCESS_DEVICE_PCI))
		r = probe_pci(p, a, err);
	if (r < 0) {
		access_close(a);
		return r;
	}
	return probe_migration(p, a, &args->options, err);
}

int cmd_probe(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "URI",
		.doc = "Tells what a device is, and whether and how it can migrate. Never changes the device.",
	};
	struct probe_arguments args = { .options = { .size = sizeof(args.options) } };
	if (argp_parse(&argp, argc, argv, 0, NULL, &args))
		return EXIT_USAGE;
	struct vfmig_error err = { 0 };
	struct probe *p = calloc(1, sizeof(*p));
	if (!p)
		return output_fail("probe", "out of memory");
	int r = probe(p, &args, &err);
	if (r < 0)
		output_fail("probe", "%s", err.message);
	else if (args.json)
		probe_print_json(p);
	else
		probe_print(p);
	for (uint32_t i = 0; i < p->num_regions; i++)
		access_region_info_clear(&p->regions[i].info);
	free(p);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}
