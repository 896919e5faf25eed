/* SPDX-License-Identifier: BSD-3-Clause */
/* device.c: opens a device by its URI and finds the migration interface it speaks. */
#include "device/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"

#define DEFAULT_TIMEOUT_MS 30000u
#define IRQS_MAX 2048u /* MSI-X's limit */

struct device_irqs {
	struct device_irqs *next;
	uint32_t index, start, count;
	int eventfds[];
};

static int open_protocol(struct vfmig_device *d, const struct vfmig_device_options *opts, bool v2,
			 struct vfmig_error *err)
{
	return v2 ? feature_v2_open(d->access, &d->protocol, err)
		  : region_v1_open(d->access, opts->split_transactions, &d->protocol, err);
}

/* One that speaks the other interface only is told apart from one that speaks none. */
static int open_wanted(struct vfmig_device *d, const struct vfmig_device_options *opts, struct vfmig_error *err)
{
	bool v2 = strcmp(opts->interface, "v2") == 0;
	if (!v2 && strcmp(opts->interface, "v1") != 0)
		return error_set(err, -EINVAL, "interface \"%s\", expected v1 or v2", opts->interface);
	int r = open_protocol(d, opts, v2, err);
	if (r != -EOPNOTSUPP || open_protocol(d, opts, !v2, NULL) < 0)
		return r;
	return error_set(err, -EINVAL, "the device has migration interface %s only, and %s was asked for",
			 v2 ? "v1" : "v2", opts->interface);
}

/* A device may speak both: v2 is preferred, as nothing in the kernel speaks v1 any more. */
static int find_protocol(struct vfmig_device *d, const struct vfmig_device_options *opts, struct vfmig_error *err)
{
	struct vfmig_error no_v2 = { 0 };
	if (opts->interface)
		return open_wanted(d, opts, err);
	int r = open_protocol(d, opts, true, &no_v2);
	if (r != -EOPNOTSUPP)
		return r < 0 ? error_set(err, r, "%s", no_v2.message) : 0;
	r = open_protocol(d, opts, false, err);
	return r == -EOPNOTSUPP ? error_prefix(err, r, "%s", no_v2.message) : r;
}

int device_new(struct access *access, const struct vfmig_device_options *options, struct vfmig_device **ret,
	       struct vfmig_error *err)
{
	struct vfmig_device_options opts;
	struct vfmig_device *d = NULL;
	int r = options_read(&opts, sizeof(opts), options, "device options", err);
	if (r == 0 && !(d = calloc(1, sizeof(*d))))
		r = error_errno(err, -ENOMEM, "device");
	if (r < 0) {
		access_close(access);
		return r;
	}
	d->access = access;
	r = access_device_info(access, &d->info, err);
	if (r == 0)
		r = find_protocol(d, &opts, err);
	if (r == -EOPNOTSUPP)
		kernel_access_explain(access, err);
	if (r < 0) {
		error_prefix(err, r, "%s", access->name);
		vfmig_device_close(d);
		return r;
	}
	*ret = d;
	return 0;
}

static int open_user(const char *rest, const struct vfmig_device_options *opts, struct access **ret,
		     struct vfmig_error *err)
{
	return user_access_open(rest, opts->timeout_ms, ret, err);
}

static const struct device_scheme {
	const char *prefix;
	const char *usage;
	access_open_fn *open;
	bool owns; /* see device_uri_owns */
} schemes[] = {
	{ "vfio-user:", "vfio-user:/PATH", open_user, false },
	{ "pci:", "pci:ADDRESS", kernel_pci_open, true },
	{ "mdev:", "mdev:UUID", kernel_mdev_open, true },
	{ "sysfs:", "sysfs:PATH", kernel_sysfs_open, true },
	{ "vfio:", "vfio:/dev/vfio/devices/NAME", kernel_vfio_open, true },
	{ "fd:", "fd:N", kernel_fd_open, false },
	{ "fd-from:", "fd-from:unix:PATH", kernel_fd_from_open, false },
};

static const struct device_scheme *find_scheme(const char *uri)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (!strncmp(uri, schemes[i].prefix, strlen(schemes[i].prefix)))
			return &schemes[i];
	return NULL;
}

bool device_uri_owns(const char *uri)
{
	const struct device_scheme *s = find_scheme(uri);
	return s && s->owns;
}

const char *device_usage(size_t index)
{
	return index < sizeof(schemes) / sizeof(schemes[0]) ? schemes[index].usage : NULL;
}

static int no_such_scheme(const char *uri, struct vfmig_error *err)
{
	char known[192] = "";
	for (size_t i = 0, used = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++, used = strlen(known))
		snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", schemes[i].usage);
	return error_set(err, -EINVAL, "%s: no such kind of device, expected one of %s", uri, known);
}

int device_open_access(const char *uri, const struct vfmig_device_options *options, struct access **ret,
		       struct vfmig_error *err)
{
	struct vfmig_device_options opts;
	const struct device_scheme *s = find_scheme(uri);
	int r = options_read(&opts, sizeof(opts), options, "device options", err);
	if (r < 0)
		return r;
	if (!s)
		return no_such_scheme(uri, err);
	if (!opts.timeout_ms)
		opts.timeout_ms = DEFAULT_TIMEOUT_MS;
	r = s->open(uri + strlen(s->prefix), &opts, ret, err);
	if (r < 0)
		return error_prefix(err, r, "%s", uri);
	snprintf((*ret)->name, sizeof((*ret)->name), "%s", uri);
	return 0;
}

int vfmig_device_open(const char *uri, const struct vfmig_device_options *opts, struct vfmig_device **ret_device,
		      struct vfmig_error *err)
{
	struct access *access;
	int r = device_open_access(uri, opts, &access, err);
	return r < 0 ? r : device_new(access, opts, ret_device, err);
}

void vfmig_device_close(struct vfmig_device *device)
{
	if (!device)
		return;
	while (device->irqs) {
		struct device_irqs *next = device->irqs->next;
		free(device->irqs);
		device->irqs = next;
	}
	if (device->protocol)
		device->protocol->ops->free(device->protocol);
	access_close(device->access);
	free(device->dma);
	free(device);
}

const char *vfmig_device_name(const struct vfmig_device *device)
{
	return device->access->name;
}

int vfmig_device_state(struct vfmig_device *device, enum vfmig_state *ret_state, struct vfmig_error *err)
{
	int r = device->protocol->ops->get_state(device->protocol, ret_state, err);
	return r < 0 ? error_prefix(err, r, "%s", vfmig_device_name(device)) : 0;
}

static int remember_dma(struct vfmig_device *d, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	struct access_range *dma = reallocarray(d->dma, d->num_dma + 1, sizeof(*dma));
	if (!dma)
		return error_errno(err, -ENOMEM, "DMA mapping");
	d->dma = dma;
	d->dma[d->num_dma++] = (struct access_range) { iova, length };
	return 0;
}

static void forget_dma(struct vfmig_device *d, uint64_t iova, uint64_t length)
{
	for (size_t i = 0; i < d->num_dma; i++)
		if (d->dma[i].iova == iova && d->dma[i].length == length)
			d->dma[i] = d->dma[--d->num_dma];
}

int vfmig_device_dma_map(struct vfmig_device *device, uint64_t iova, uint64_t length, int fd, uint64_t offset,
			 uint32_t flags, struct vfmig_error *err)
{
	struct device_watch *watch = device->watch;
	int r = fd < 0 ? error_set(err, -EBADF, "DMA memory is given as an fd, %d is none", fd)
		       : access_dma_map(device->access, iova, length, fd, offset, flags, err);
	if (r < 0)
		return error_prefix(err, r, "%s", vfmig_device_name(device));
	r = remember_dma(device, iova, length, err);
	if (r == 0 && watch && watch->mapped && (flags & VFMIG_DMA_WRITE))
		r = watch->mapped(watch->opaque, iova, length, err);
	if (r == 0)
		return 0;
	forget_dma(device, iova, length);
	(void)access_dma_unmap(device->access, iova, length, NULL);
	return error_prefix(err, r, "%s", vfmig_device_name(device));
}

int vfmig_device_dma_unmap(struct vfmig_device *device, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	struct device_watch *watch = device->watch;
	int r = watch && watch->unmap ? watch->unmap(watch->opaque, iova, length, err)
				      : access_dma_unmap(device->access, iova, length, err);
	if (r < 0)
		return error_prefix(err, r, "%s", vfmig_device_name(device));
	forget_dma(device, iova, length);
	return 0;
}

int vfmig_device_set_irqs(struct vfmig_device *device, uint32_t index, uint32_t start, uint32_t count,
			  const int *eventfds, struct vfmig_error *err)
{
	if (count == 0 || count > IRQS_MAX)
		return error_set(err, -EINVAL, "%s: %u eventfds for interrupt %u; 1 to %u can be set",
				 vfmig_device_name(device), count, index, IRQS_MAX);
	struct device_irqs *irqs = malloc(sizeof(*irqs) + count * sizeof(eventfds[0]));
	if (!irqs)
		return error_errno(err, -ENOMEM, "interrupts");
	*irqs = (struct device_irqs) { .index = index, .start = start, .count = count };
	memcpy(irqs->eventfds, eventfds, count * sizeof(eventfds[0]));
	int r = access_set_irqs(device->access, index, start, count, irqs->eventfds, err);
	if (r < 0) {
		free(irqs);
		return error_prefix(err, r, "%s: interrupt %u", vfmig_device_name(device), index);
	}
	struct device_irqs **at = &device->irqs;
	while (*at) {
		struct device_irqs *old = *at;
		if (old->index != index || old->start < start ||
		    (uint64_t)old->start + old->count > (uint64_t)start + count) {
			at = &old->next;
			continue;
		}
		*at = old->next; /* replaced: its fds are the caller's to close */
		free(old);
	}
	*at = irqs;
	return 0;
}

int device_restore_irqs(struct vfmig_device *device, struct vfmig_error *err)
{
	for (const struct device_irqs *i = device->irqs; i; i = i->next) {
		int r = access_set_irqs(device->access, i->index, i->start, i->count, i->eventfds, err);
		if (r < 0)
			return error_prefix(err, r, "setting the eventfds of interrupt %u again", i->index);
	}
	return 0;
}

void vfmig_device_set_interrupt_ops(struct vfmig_device *device, const struct vfmig_interrupt_ops *ops, void *opaque)
{
	device->interrupt_ops = ops;
	device->interrupt_opaque = opaque;
}
