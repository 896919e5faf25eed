/* SPDX-License-Identifier: BSD-3-Clause */
/* served_device.c: a device for tests, served by the real server in a thread. */
#include "served_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"

static int device_info(struct access *a, struct access_device_info *ret, struct vfmig_error *err)
{
	(void)a;
	(void)err;
	*ret = (struct access_device_info) { ACCESS_DEVICE_RESET | ACCESS_DEVICE_PCI, NUM_REGIONS, 5 };
	return 0;
}

static int region_info(struct access *a, uint32_t index, struct access_region_info *ret, struct vfmig_error *err)
{
	(void)a;
	ret->flags = ACCESS_REGION_READ | ACCESS_REGION_WRITE;
	if (index == REGISTERS) {
		ret->size = REGISTERS_SIZE;
	} else if (index == SECTION) {
		ret->size = SECTION_SIZE;
		ret->flags |= ACCESS_REGION_MMAP;
		ret->has_type = true;
		ret->type = 3;
		ret->subtype = 1;
		if (access_region_info_add_area(ret, 0x8000, 0x4000, err) < 0)
			return -ENOMEM;
		return access_region_info_add_area(ret, 0x1000, 0x2000, err);
	} else if (index == LARGE) {
		ret->size = LARGE_AREAS * 0x2000u;
		ret->flags |= ACCESS_REGION_MMAP;
		for (uint32_t i = LARGE_AREAS; i-- > 0;)
			if (access_region_info_add_area(ret, i * 0x2000u, 0x1000, err) < 0)
				return -ENOMEM;
	} else if (index >= NUM_REGIONS) {
		return error_set(err, -EINVAL, "no region %u", index);
	}
	return 0;
}

static int irq_info(struct access *a, uint32_t index, struct access_irq_info *ret, struct vfmig_error *err)
{
	(void)a;
	(void)index;
	(void)err;
	*ret = (struct access_irq_info) { 1, 20 };
	return 0;
}

/* Tells by the eventfds that they have arrived: each gets its number. */
static int set_irqs(struct access *a, uint32_t index, uint32_t start, uint32_t count, const int *eventfds,
		    struct vfmig_error *err)
{
	struct device *d = (struct device *)a;

	(void)index;
	(void)err;
	d->irqs_set = count > 0;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t v = start + i + 1;
		if (eventfds[i] >= 0 && write(eventfds[i], &v, sizeof(v)) != sizeof(v))
			return -EIO;
	}
	return 0;
}

static int region_read(struct access *a, uint32_t index, uint64_t offset, void *buffer, size_t length,
		       struct vfmig_error *err)
{
	struct device *d = (struct device *)a;

	if (index == SECTION && range_inside(offset, length, SECTION_SIZE))
		return pread(d->section_fd, buffer, length, (off_t)offset) == (ssize_t)length ? 0 : -EIO;
	if (index != REGISTERS || !range_inside(offset, length, REGISTERS_SIZE))
		return error_set(err, -ERANGE, "outside");
	memcpy(buffer, d->registers + offset, length);
	return 0;
}

static void *engine(void *arg)
{
	struct device *d = arg;
	uint8_t *page = malloc(0x20000);
	uintptr_t r = 0;

	for (uint64_t i = 0; i < 8 && r == 0; i++) {
		memset(page, (int)(0xa0 + i), 0x20000);
		r = (uintptr_t)-server_dma(d->server, true, DMA_IOVA + i * 0x20000, page, 0x20000, NULL);
	}
	free(page);
	return (void *)r;
}

static int region_write(struct access *a, uint32_t index, uint64_t offset, const void *buffer, size_t length,
			struct vfmig_error *err)
{
	struct device *d = (struct device *)a;
	pthread_t thread;
	void *result;

	if (index == REGISTERS && offset == REG_DROP)
		return -ENOTCONN;
	if (index == REGISTERS && offset == REG_HANG)
		return -EINPROGRESS;
	if (index == REGISTERS && offset == REG_ENGINE) {
		if (pthread_create(&thread, NULL, engine, d) || pthread_join(thread, &result))
			return -ENOMEM;
		return result ? error_set(err, -EIO, "the engine's DMA") : 0;
	}
	if (index != REGISTERS || !range_inside(offset, length, REGISTERS_SIZE))
		return error_set(err, -ERANGE, "outside");
	memcpy(d->registers + offset, buffer, length);
	d->writes++;
	if (length > d->largest_write)
		d->largest_write = (uint32_t)length;
	return 0;
}

static int dma_map(struct access *a, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		   struct vfmig_error *err)
{
	struct device *d = (struct device *)a;

	(void)iova;
	(void)length;
	(void)offset;
	(void)flags;
	(void)err;
	d->mappings++;
	d->mappings_with_fd += fd >= 0;
	return 0;
}

static int dirty_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
		       uint64_t *page_size, struct vfmig_error *err)
{
	struct device_log *l = &((struct device *)a)->logs[log];

	if (l->absent)
		return error_set(err, -EOPNOTSUPP, "no log");
	if (count > 512 || l->starts != l->stops)
		return error_set(err, -EINVAL, "not so");
	if (count)
		memcpy(l->ranges, ranges, count * sizeof(*ranges));
	l->num_ranges = count;
	l->starts++;
	*page_size = max_u64(*page_size, l->page_size);
	return 0;
}

static int dirty_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			uint64_t *bitmap, struct vfmig_error *err)
{
	struct device *d = (struct device *)a;
	struct device_log *l = &d->logs[log];

	if (l->ends_with_unmap && d->mappings == 0)
		return error_set(err, -ENOENT, "nothing is mapped there");
	l->reports++;
	for (uint64_t at = iova; at < iova + length; at += 4096) {
		uint64_t n = (at - DMA_IOVA) / 4096, page = (at - iova) / page_size;
		if (!(l->dirty[n / 64] >> n % 64 & 1))
			continue;
		l->dirty[n / 64] &= ~(UINT64_C(1) << n % 64);
		bitmap[page / 64] |= UINT64_C(1) << page % 64;
	}
	return 0;
}

static int dirty_stop(struct access *a, enum access_log log, struct vfmig_error *err)
{
	(void)err;
	((struct device *)a)->logs[log].stops++;
	return 0;
}

static int dma_unmap(struct access *a, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	(void)iova;
	(void)length;
	(void)err;
	((struct device *)a)->mappings--;
	return 0;
}

static int dma_unmap_dirty(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			   uint64_t *bitmap, struct vfmig_error *err)
{
	((struct device *)a)->logs[log].unmaps++;
	int r = dirty_report(a, log, iova, length, page_size, bitmap, err);
	return r < 0 ? r : dma_unmap(a, iova, length, err);
}

static int reset(struct access *a, struct vfmig_error *err)
{
	(void)err;
	((struct device *)a)->resets++;
	return 0;
}

static const struct access_ops device_ops = {
	.kind = "test",
	.device_info = device_info,
	.region_info = region_info,
	.irq_info = irq_info,
	.set_irqs = set_irqs,
	.region_read = region_read,
	.region_write = region_write,
	.dma_map = dma_map,
	.dma_unmap = dma_unmap,
	.dirty_start = dirty_start,
	.dirty_report = dirty_report,
	.dirty_stop = dirty_stop,
	.dma_unmap_dirty = dma_unmap_dirty,
	.reset = reset,
};

static int region_fd(void *opaque, uint32_t index)
{
	struct device *d = opaque;
	return index == SECTION || index == LARGE ? d->section_fd : -1;
}

static const struct server_hooks hooks = { .region_fd = region_fd };

static void *serve(void *arg)
{
	struct device *d = arg;
	return (void *)(intptr_t)server_run(d->server, d->socket.fd, NULL);
}

static int setup(void **state, const struct server_options *options)
{
	size_t before = count_fds();
	struct device *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	d->fds_before = before;
	d->access.ops = &device_ops;
	d->section_fd = memfd_create("section", MFD_CLOEXEC);
	assert_int_equal(ftruncate(d->section_fd, SECTION_SIZE), 0);
	peer_socket_open(&d->socket);
	assert_int_equal(server_new(&d->access, &hooks, d, &d->server, NULL), 0);
	server_set_options(d->server, options);
	assert_int_equal(pthread_create(&d->thread, NULL, serve, d), 0);
	*state = d;
	return 0;
}

int served_device_setup(void **state)
{
	return setup(state, &(struct server_options) { 0 });
}

int served_device_setup_plain(void **state)
{
	return setup(state, &(struct server_options) { .no_twin = true, .no_whole_messages = true });
}

int served_device_setup_no_fds(void **state)
{
	return setup(state, &(struct server_options) { .no_fds = true });
}

int served_device_teardown(void **state)
{
	struct device *d = *state;
	void *result;

	server_stop(d->server);
	pthread_join(d->thread, &result);
	assert_null(result);
	server_free(d->server);
	peer_socket_close(&d->socket);
	close(d->section_fd);
	assert_int_equal(d->mappings, 0);
	assert_false(d->irqs_set);
	for (int i = 0; i < 2; i++)
		assert_int_equal(d->logs[i].starts, d->logs[i].stops);
	assert_int_equal(count_fds(), d->fds_before);
	free(d);
	return 0;
}

struct access *served_device_open(struct device *d)
{
	struct vfmig_error err = { 0 };
	struct access *a = NULL;

	if (user_access_open(d->socket.path, 20000, &a, &err) < 0)
		fail_msg("%s", err.message);
	return a;
}
