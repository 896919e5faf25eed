/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_access.c: a device whose every register a test can set. */
#include "fake_access.h"

#include <string.h>

static struct fake_access *fake(struct access *a)
{
	return (struct fake_access *)(void *)a;
}

static void remember(struct fake_access *f, bool write, uint32_t region, uint64_t offset, size_t length)
{
	if (f->num_uses < FAKE_USES_MAX)
		f->uses[f->num_uses++] = (struct fake_use) { write, region, offset, length };
}

static int device_info(struct access *a, struct access_device_info *ret, struct vfmig_error *err)
{
	(void)err;
	*ret = (struct access_device_info) { ACCESS_DEVICE_PCI, fake(a)->num_regions, 1 };
	return 0;
}

static int region_info(struct access *a, uint32_t index, struct access_region_info *ret, struct vfmig_error *err)
{
	struct fake_access *f = fake(a);
	int r = 0;
	ret->flags = ACCESS_REGION_READ | ACCESS_REGION_WRITE;
	if (index == ACCESS_PCI_CONFIG)
		ret->size = f->config_size;
	if (index != f->migration_index)
		return 0;
	ret->size = f->region_size;
	ret->has_type = true;
	ret->type = 3;
	ret->subtype = 1;
	for (size_t i = 0; i < f->num_areas && r == 0; i++)
		r = access_region_info_add_area(ret, f->areas[i].offset, f->areas[i].size, err);
	return r;
}

static uint8_t *place(struct fake_access *f, uint32_t region, uint64_t offset, size_t length)
{
	uint8_t *base = region == ACCESS_PCI_CONFIG ? f->config : f->region;
	uint64_t size = region == ACCESS_PCI_CONFIG ? sizeof(f->config) : sizeof(f->region);
	return length <= size && offset <= size - length ? base + offset : NULL;
}

static int check_width(struct fake_access *f, uint32_t region, uint64_t offset, size_t length, struct vfmig_error *err)
{
	if (region == f->migration_index && offset >= 32 && f->max_access && length > f->max_access)
		return error_set(err, -EINVAL, "too wide");
	return 0;
}

static int region_read(struct access *a, uint32_t index, uint64_t offset, void *buffer, size_t length,
		       struct vfmig_error *err)
{
	struct fake_access *f = fake(a);
	uint8_t *p = place(f, index, offset, length);
	remember(f, false, index, offset, length);
	int r = p ? check_width(f, index, offset, length, err) : error_set(err, -EINVAL, "outside");
	if (r == 0)
		memcpy(buffer, p, length);
	return r;
}

static int region_write(struct access *a, uint32_t index, uint64_t offset, const void *buffer, size_t length,
			struct vfmig_error *err)
{
	struct fake_access *f = fake(a);
	uint8_t *p = place(f, index, offset, length);
	remember(f, true, index, offset, length);
	int r = p ? check_width(f, index, offset, length, err) : error_set(err, -EINVAL, "outside");
	bool ignored =
	    index == ACCESS_PCI_CONFIG && offset >= f->config_read_only_from && offset < f->config_read_only_to;
	if (r == 0 && !ignored)
		memcpy(p, buffer, length);
	return r;
}

static int region_map(struct access *a, uint32_t index, const struct access_area *area, void **ret_address,
		      struct vfmig_error *err)
{
	struct fake_access *f = fake(a);
	if (f->map_fails)
		return error_set(err, -EPERM, "no mapping today");
	for (size_t i = 0; i < f->num_areas; i++)
		if (f->areas[i].offset == area->offset)
			f->mapped |= 1u << i;
	*ret_address = place(f, index, area->offset, area->size);
	return 0;
}

static void region_unmap(struct access *a, void *address, const struct access_area *area)
{
	(void)address;
	for (size_t i = 0; i < fake(a)->num_areas; i++)
		if (fake(a)->areas[i].offset == area->offset)
			fake(a)->mapped &= ~(1u << i);
}

static int set_irqs(struct access *a, uint32_t index, uint32_t start, uint32_t count, const int *eventfds,
		    struct vfmig_error *err)
{
	(void)index;
	(void)start;
	(void)count;
	(void)eventfds;
	(void)err;
	fake(a)->irqs_set++;
	return 0;
}

static void close_fake(struct access *a)
{
	fake(a)->closed = true;
}

static const struct access_ops fake_ops = {
	.kind = "fake",
	.device_info = device_info,
	.region_info = region_info,
	.set_irqs = set_irqs,
	.region_read = region_read,
	.region_write = region_write,
	.region_map = region_map,
	.region_unmap = region_unmap,
	.close = close_fake,
};

void fake_access_init(struct fake_access *f)
{
	memset(f, 0, sizeof(*f));
	f->access.ops = &fake_ops;
	strcpy(f->access.name, "fake:");
	f->num_regions = 10;
	f->migration_index = 9;
	f->region_size = FAKE_REGION_BYTES;
	f->config_size = 256;
	f->region[0] = 1; /* running */
	for (size_t i = 0x1000; i < FAKE_REGION_BYTES; i++)
		f->region[i] = (uint8_t)(i * 7 + (i >> 8));
}

void fake_set_u64(struct fake_access *f, uint64_t offset, uint64_t value)
{
	memcpy(f->region + offset, &value, sizeof(value));
}
