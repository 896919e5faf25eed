/* SPDX-License-Identifier: BSD-3-Clause */
/* probe.c: looks at a device and changes nothing. */
#include "probe.h"

#include <linux/pci_regs.h>
#include <string.h>

#include "base/bytes.h"
#include "open.h"

/* linux/vfio.h: may VFIO_DEVICE_FEATURE_DMA_LOGGING_START be set? */
#define FEATURE_PROBE_LOG (1u << 18 | 1u << 17 | 6u)

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

/* A v2 device tells it at any time, a v1 device only while it is saved. */
static int probe_size(struct probe *p, struct vfmig_device *device, struct vfmig_error *err)
{
	struct vfmig_pending pending;
	const struct protocol_ops *ops = device->protocol->ops;
	if (strcmp(ops->name, "v2") || (p->state && strcmp(p->state, "running") && strcmp(p->state, "stopped")))
		return 0;
	int r = ops->pending(device->protocol, true, &pending, err);
	if (r == 0 && !pending.stop_copy_unknown) {
		p->has_state_bytes = true;
		p->state_bytes = pending.stop_copy_bytes;
	}
	return r == -ENOTCONN || r == -ETIMEDOUT ? r : 0;
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
	r = pci_config_read(device, &p->config, err);
	if (r < 0)
		r = keep_error(r, p->config_error, err);
	if (r == 0)
		r = probe_size(p, device, err);
	if (r == 0)
		p->logs_itself = access_feature(device->access, FEATURE_PROBE_LOG, NULL, 0, err) == 0;
	vfmig_device_close(device);
	return r < 0 ? error_prefix(err, r, "%s", p->uri) : 0;
}

int probe_device(const char *uri, const struct vfmig_device_options *opts, struct probe *p, struct vfmig_error *err)
{
	struct access *a;
	int r = open_access(uri, opts, &a, err);
	if (r < 0)
		return r;
	p->uri = uri;
	p->kind = a->ops->kind;
	r = access_device_info(a, &p->info, err);
	if (r < 0)
		error_prefix(err, r, "%s", uri);
	else
		r = probe_parts(p, a, err);
	if (!r && (p->info.flags & ACCESS_DEVICE_PCI))
		r = probe_pci(p, a, err);
	if (r < 0) {
		access_close(a);
		return r;
	}
	return probe_migration(p, a, opts, err);
}

void probe_clear(struct probe *p)
{
	for (uint32_t i = 0; i < p->num_regions; i++)
		access_region_info_clear(&p->regions[i].info);
	json_object_put(p->json);
}
