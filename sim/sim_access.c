/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_access.c: the access functions of a software device. */
#include "sim/sim_access.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "sim/sim_v2.h"

#define NUM_IRQS 5u
#define IRQ_MSIX 2u
#define IRQ_EVENTFD 1u

struct sim_access {
	struct access access;
	struct sim_device *device;
};

struct sim_device *sim_access_device(struct access *a)
{
	return ((struct sim_access *)(void *)a)->device;
}

/* Every call begins here: the device with its lock held, or NULL: -ENOTCONN. */
static struct sim_device *enter(struct access *a, struct vfmig_error *err)
{
	struct sim_device *d = sim_access_device(a);

	sim_device_lock(d);
	if (!d->gone)
		return d;
	sim_device_unlock(d);
	error_set(err, -ENOTCONN, "the device is gone");
	return NULL;
}

static int leave(struct sim_device *d, int r)
{
	sim_device_unlock(d);
	return r;
}

/* A device of v2 alone has no migration region behind PCI's own. */
static uint32_t num_regions(const struct sim_device *d)
{
	return d->options.interface == SIM_V2 ? SIM_REGION_INDEX : SIM_REGION_INDEX + 1;
}

static int op_device_info(struct access *a, struct access_device_info *ret, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	if (!d)
		return -ENOTCONN;
	*ret = (struct access_device_info){ ACCESS_DEVICE_RESET | ACCESS_DEVICE_PCI, num_regions(d), NUM_IRQS };
	return leave(d, 0);
}

static uint64_t region_size(const struct sim_device *d, uint32_t index)
{
	switch (index) {
	case ACCESS_PCI_BAR0:
		return SIM_BAR0_SIZE;
	case ACCESS_PCI_CONFIG:
		return d->config.size;
	case SIM_REGION_INDEX:
		return d->options.interface == SIM_V2 ? 0 : d->region.size;
	default:
		return 0;
	}
}

static int migration_info(const struct sim_device *d, struct access_region_info *ret, struct vfmig_error *err)
{
	ret->has_type = true;
	ret->type = 3; /* VFIO_REGION_TYPE_MIGRATION_DEPRECATED */
	ret->subtype = 1;
	int r = sim_region_areas(d, ret, err);
	if (r == 0 && ret->num_areas)
		ret->flags |= ACCESS_REGION_MMAP;
	return r;
}

static int op_region_info(struct access *a, uint32_t index, struct access_region_info *ret, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	if (!d)
		return -ENOTCONN;
	if (index >= num_regions(d))
		return leave(d, error_set(err, -EINVAL, "no region %u", index));
	ret->index = index;
	ret->size = region_size(d, index);
	if (ret->size)
		ret->flags = ACCESS_REGION_READ | ACCESS_REGION_WRITE;
	return leave(d, index == SIM_REGION_INDEX ? migration_info(d, ret, err) : 0);
}

static int op_irq_info(struct access *a, uint32_t index, struct access_irq_info *ret, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	if (!d)
		return -ENOTCONN;
	if (index >= NUM_IRQS)
		return leave(d, error_set(err, -EINVAL, "no interrupt index %u", index));
	*ret = (struct access_irq_info){ 0 };
	if (index == IRQ_MSIX)
		*ret = (struct access_irq_info){ IRQ_EVENTFD, SIM_MSIX_VECTORS };
	return leave(d, 0);
}

/* The device raises no interrupts: the eventfds are checked and forgotten. */
static int op_set_irqs(struct access *a, uint32_t index, uint32_t start, uint32_t count, const int *eventfds,
		       struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);
	int r = 0;

	(void)eventfds;
	if (!d)
		return -ENOTCONN;
	if (!range_inside(start, count, index == IRQ_MSIX ? SIM_MSIX_VECTORS : 0))
		r = error_set(err, -EINVAL, "interrupt index %u: no vectors %u to %u", index, start, start + count);
	return leave(d, r);
}

static int check_range(const struct sim_device *d, uint32_t index, uint64_t offset, size_t length,
		       struct vfmig_error *err)
{
	if (length == 0 || !range_inside(offset, length, region_size(d, index)))
		return error_set(err, -EINVAL, "region %u: %zu bytes at 0x%llx are not inside its 0x%llx", index,
				 length, (unsigned long long)offset, (unsigned long long)region_size(d, index));
	return 0;
}

static int config_read(struct sim_device *d, uint64_t offset, void *buffer, size_t length, struct vfmig_error *err)
{
	const struct fault *f;
	int r = sim_device_fault(d, FAULT_CONFIG_READ, &f, err);

	if (r < 0)
		return r;
	sim_config_read(&d->config, offset, buffer, length);
	if (f)
		((uint8_t *)buffer)[length / 2] ^= 1; /* wrong-bytes */
	return 0;
}

static int op_region_read(struct access *a, uint32_t index, uint64_t offset, void *buffer, size_t length,
			  struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	if (!d)
		return -ENOTCONN;
	int r = check_range(d, index, offset, length, err);
	if (r < 0)
		return leave(d, r);
	if (index == ACCESS_PCI_BAR0)
		r = sim_bar_read(d, offset, buffer, length, err);
	else if (index == ACCESS_PCI_CONFIG)
		r = config_read(d, offset, buffer, length, err);
	else
		r = sim_region_read(d, offset, buffer, length, err);
	return leave(d, r);
}

static int config_write(struct sim_device *d, uint64_t offset, const void *buffer, size_t length,
			struct vfmig_error *err)
{
	const struct fault *f;
	int r = sim_device_fault(d, FAULT_CONFIG_WRITE, &f, err);

	if (r == 0)
		sim_config_write(&d->config, offset, buffer, length);
	return r;
}

static int op_region_write(struct access *a, uint32_t index, uint64_t offset, const void *buffer, size_t length,
			   struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	if (!d)
		return -ENOTCONN;
	int r = check_range(d, index, offset, length, err);
	if (r < 0)
		return leave(d, r);
	if (index == ACCESS_PCI_BAR0)
		r = sim_bar_write(d, offset, buffer, length, err);
	else if (index == ACCESS_PCI_CONFIG)
		r = config_write(d, offset, buffer, length, err);
	else
		r = sim_region_write(d, offset, buffer, length, err);
	return leave(d, r);
}

int sim_access_region_fd(struct access *a, uint32_t index)
{
	const struct sim_device *d = sim_access_device(a);

	return index == SIM_REGION_INDEX && d->options.map != SIM_MAP_TRAPPED ? d->region.fd : -1;
}

static int check_area(const struct sim_device *d, uint32_t index, const struct access_area *area,
		      struct vfmig_error *err)
{
	struct access_region_info info = { .index = index, .size = region_size(d, index) };
	int r = index == SIM_REGION_INDEX ? sim_region_areas(d, &info, err) : 0;
	bool found = false;

	for (size_t i = 0; r == 0 && i < info.num_areas; i++)
		found |= info.areas[i].offset == area->offset && info.areas[i].size == area->size;
	access_region_info_clear(&info);
	if (r == 0 && !found)
		r = error_set(err, -EINVAL, "region %u: no mappable area of 0x%llx bytes at 0x%llx", index,
			      (unsigned long long)area->size, (unsigned long long)area->offset);
	return r;
}

static int op_region_map(struct access *a, uint32_t index, const struct access_area *area, void **ret_address,
			 struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	if (!d)
		return -ENOTCONN;
	int r = check_area(d, index, area, err);
	if (r < 0)
		return leave(d, r);
	void *p = mmap(NULL, area->size, PROT_READ | PROT_WRITE, MAP_SHARED, d->region.fd, (off_t)area->offset);
	if (p == MAP_FAILED)
		return leave(d, error_errno(err, -errno, "mapping region %u", index));
	*ret_address = p;
	return leave(d, 0);
}

static void op_region_unmap(struct access *a, void *address, const struct access_area *area)
{
	(void)a;
	munmap(address, area->size);
}

static int op_dma_map(struct access *a, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		      struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	return !d ? -ENOTCONN : leave(d, sim_dma_map(d, iova, length, fd, offset, flags, err));
}

static int op_dma_unmap(struct access *a, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	return !d ? -ENOTCONN : leave(d, sim_dma_unmap(d, iova, length, err));
}

static int op_dirty_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
			  uint64_t *page_size, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	return !d ? -ENOTCONN : leave(d, sim_dma_dirty_start(d, log, ranges, count, *page_size, err));
}

static int op_dirty_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			   uint64_t *bitmap, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	return !d ? -ENOTCONN : leave(d, sim_dma_dirty_report(d, log, iova, length, page_size, bitmap, err));
}

static int op_dirty_stop(struct access *a, enum access_log log, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	return !d ? -ENOTCONN : leave(d, sim_dma_dirty_stop(d, log, err));
}

static int op_dma_unmap_dirty(struct access *a, enum access_log log, uint64_t iova, uint64_t length,
			      uint64_t page_size, uint64_t *bitmap, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	return !d ? -ENOTCONN : leave(d, sim_dma_unmap_dirty(d, log, iova, length, page_size, bitmap, err));
}

static int op_reset(struct access *a, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);
	const struct fault *f;

	if (!d)
		return -ENOTCONN;
	int r = sim_device_fault(d, FAULT_RESET, &f, err);
	if (r == 0)
		sim_device_reset(d);
	return leave(d, r);
}

static int op_mig_state_get(struct access *a, uint32_t *ret_state, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	return !d ? -ENOTCONN : leave(d, sim_v2_state_get(d, ret_state, err));
}

static int op_mig_state_set(struct access *a, uint32_t state, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	return !d ? -ENOTCONN : leave(d, sim_v2_state_set(d, state, err));
}

static ssize_t op_mig_data_read(struct access *a, void *buffer, size_t length, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	if (!d)
		return -ENOTCONN;
	ssize_t n = sim_v2_data_read(d, buffer, length, err);
	sim_device_unlock(d);
	return n;
}

static ssize_t op_mig_data_write(struct access *a, const void *buffer, size_t length, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	if (!d)
		return -ENOTCONN;
	ssize_t n = sim_v2_data_write(d, buffer, length, err);
	sim_device_unlock(d);
	return n;
}

static int op_mig_precopy_info(struct access *a, struct access_precopy_info *ret, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	return !d ? -ENOTCONN : leave(d, sim_v2_precopy_info(d, ret, err));
}

static int op_feature(struct access *a, uint32_t flags, void *data, size_t length, struct vfmig_error *err)
{
	struct sim_device *d = enter(a, err);

	return !d ? -ENOTCONN : leave(d, sim_v2_feature(d, flags, data, length, err));
}

static void op_close(struct access *a)
{
	sim_device_free(sim_access_device(a));
	free(a);
}

static const struct access_ops sim_ops = {
	.kind = "sim",
	.device_info = op_device_info,
	.region_info = op_region_info,
	.irq_info = op_irq_info,
	.set_irqs = op_set_irqs,
	.region_read = op_region_read,
	.region_write = op_region_write,
	.region_map = op_region_map,
	.region_unmap = op_region_unmap,
	.dma_map = op_dma_map,
	.dma_unmap = op_dma_unmap,
	.dirty_start = op_dirty_start,
	.dirty_report = op_dirty_report,
	.dirty_stop = op_dirty_stop,
	.dma_unmap_dirty = op_dma_unmap_dirty,
	.reset = op_reset,
	.mig_state_get = op_mig_state_get,
	.mig_state_set = op_mig_state_set,
	.mig_data_read = op_mig_data_read,
	.mig_data_write = op_mig_data_write,
	.mig_precopy_info = op_mig_precopy_info,
	.feature = op_feature,
	.close = op_close,
};

int sim_access_open(const char *options, struct access **ret, struct vfmig_error *err)
{
	struct sim_options *parsed = malloc(sizeof(*parsed));
	struct sim_access *s = calloc(1, sizeof(*s));
	int r = parsed && s ? 0 : error_errno(err, -ENOMEM, "software device");

	if (r == 0)
		r = sim_options_parse(options, parsed, err);
	if (r == 0)
		r = sim_device_new(parsed, &s->device, err);
	free(parsed);
	if (r == 0)
		r = sim_engine_start(s->device, err);
	if (r < 0) {
		if (s)
			sim_device_free(s->device);
		free(s);
		return r;
	}
	s->access.ops = &sim_ops;
	snprintf(s->access.name, sizeof(s->access.name), "sim:%s", options);
	*ret = &s->access;
	return 0;
}

void sim_access_serve(struct access *a, sim_message_fn *message, void *opaque)
{
	struct sim_device *d = sim_access_device(a);

	sim_device_lock(d);
	d->served = true;
	d->message = message;
	d->message_opaque = opaque;
	sim_device_unlock(d);
}

int sim_access_dump(struct access *a, struct vfmig_error *err)
{
	struct sim_device *d = sim_access_device(a);

	if (!d->options.dump[0])
		return 0;
	sim_device_lock(d);
	int r = opaque_dump(&d->region.opaque, d->options.dump, err);
	return leave(d, r);
}
