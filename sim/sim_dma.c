/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_dma.c: the client's memory, mapped or by messages, and the log in it. */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "sim/model.h"

/* A client's file that is shorter than its mapping would kill us at the first write behind its end. */
static int check_length(int fd, uint64_t offset, uint64_t length, struct vfmig_error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_errno(err, -errno, "DMA memory");
	if (S_ISREG(st.st_mode) && !range_inside(offset, length, (uint64_t)st.st_size))
		return error_set(err, -EINVAL, "DMA memory: 0x%llx bytes at 0x%llx are not inside the file's 0x%llx",
				 (unsigned long long)length, (unsigned long long)offset,
				 (unsigned long long)st.st_size);
	return 0;
}

static int map_memory(struct sim_mapping *m, int fd, uint64_t offset, struct vfmig_error *err)
{
	int r = check_length(fd, offset, m->length, err);

	if (r < 0)
		return r;
	if (!(m->flags & VFMIG_DMA_WRITE))
		return 0; /* the device only writes: nothing to map */
	void *p = mmap(NULL, m->length, PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
	if (p == MAP_FAILED)
		return error_errno(err, -errno, "DMA memory of 0x%llx bytes", (unsigned long long)m->length);
	m->address = p;
	return 0;
}

static void unmap_memory(const struct sim_mapping *m)
{
	if (m->address)
		munmap(m->address, m->length);
}

/* Another one cannot be asked for in a report. */
static bool of_whole_pages(const struct sim_mapping *m)
{
	return !((m->iova | m->length) % SIM_DIRTY_PAGE);
}

int sim_dma_map(struct sim_device *d, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
		struct vfmig_error *err)
{
	struct sim_mapping m = { .iova = iova, .length = length, .flags = flags };

	if (d->mapping_count == SIM_MAPPINGS_MAX)
		return error_set(err, -ENOSPC, "more than %u DMA mappings", SIM_MAPPINGS_MAX);
	for (size_t i = 0; i < d->mapping_count; i++) {
		const struct sim_mapping *other = &d->mappings[i];
		if (iova < other->iova + other->length && other->iova < iova + length)
			return error_set(err, -EEXIST, "DMA mapping at 0x%llx overlaps the one at 0x%llx",
					 (unsigned long long)iova, (unsigned long long)other->iova);
	}
	if (fd >= 0 && !d->options.dma_message) {
		int r = map_memory(&m, fd, offset, err);
		if (r < 0)
			return r;
	}
	if (d->dirty.on && d->options.interface == SIM_V1 && of_whole_pages(&m)) {
		int r = sim_dirty_add(&d->dirty, iova, length, err);
		if (r < 0) {
			unmap_memory(&m);
			return r;
		}
	}
	d->mappings[d->mapping_count++] = m;
	return 0;
}

static struct sim_mapping *find_mapping(struct sim_device *d, uint64_t iova, uint64_t length)
{
	for (size_t i = 0; i < d->mapping_count; i++)
		if (d->mappings[i].iova == iova && d->mappings[i].length == length)
			return &d->mappings[i];
	return NULL;
}

int sim_dma_unmap(struct sim_device *d, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	sim_engine_quiesce(d);
	struct sim_mapping *m = find_mapping(d, iova, length);
	if (!m)
		return error_set(err, -ENOENT, "no DMA mapping of 0x%llx bytes at 0x%llx", (unsigned long long)length,
				 (unsigned long long)iova);
	unmap_memory(m);
	*m = d->mappings[--d->mapping_count];
	if (d->options.interface == SIM_V1)
		sim_dirty_remove(&d->dirty, iova, length);
	return 0;
}

void sim_dma_unmap_all(struct sim_device *d)
{
	while (d->mapping_count)
		sim_dma_unmap(d, d->mappings[0].iova, d->mappings[0].length, NULL);
}

static const struct sim_mapping *find_inside(const struct sim_device *d, uint64_t iova, uint64_t length)
{
	for (size_t i = 0; i < d->mapping_count; i++) {
		const struct sim_mapping *m = &d->mappings[i];
		if (iova >= m->iova && range_inside(iova - m->iova, length, m->length))
			return m;
	}
	return NULL;
}

static const struct sim_mapping *find_writable(const struct sim_device *d, uint64_t iova, uint64_t length)
{
	const struct sim_mapping *m = find_inside(d, iova, length);

	return m && (m->flags & VFMIG_DMA_WRITE) ? m : NULL;
}

static bool send_message(struct sim_device *d, uint64_t iova, const void *data, size_t length)
{
	if (!d->message)
		return false;
	d->in_flight = true;
	sim_device_unlock(d);
	int r = d->message(d->message_opaque, iova, data, length);
	sim_device_lock(d);
	d->in_flight = false;
	pthread_cond_broadcast(&d->idle);
	return r == 0;
}

/* False: there is no memory. May drop the lock. */
static bool write_memory(struct sim_device *d, uint64_t iova, const void *data, size_t length)
{
	const struct sim_mapping *m = find_writable(d, iova, length);

	if (!m)
		return false;
	bool written = true;
	if (m->address)
		memcpy(m->address + (iova - m->iova), data, length);
	else
		written = send_message(d, iova, data, length);
	/* Not before: a report meanwhile would have told too early. And a message that failed may have arrived. */
	sim_dirty_mark(&d->dirty, iova, length);
	return written;
}

void sim_dma_log(struct sim_device *d)
{
	const struct sim_registers *r = &d->registers;
	uint64_t step = d->work.step, data[SIM_SCATTER_PAGE / 8];
	bool logged = false;

	if (r->log_entries && r->control & SIM_CONTROL_SCATTER) {
		uint64_t iova = r->log_iova + sim_scatter_slot(step, r->log_entries) * SIM_SCATTER_PAGE;
		if (find_writable(d, iova, sizeof(data))) {
			sim_scatter_put(step, d->work.chain, data);
			logged = write_memory(d, iova, data, sizeof(data));
		}
	} else if (r->log_entries) {
		sim_log_put(step, d->work.chain, (uint8_t *)data);
		logged = write_memory(d, r->log_iova + step % r->log_entries * SIM_LOG_ENTRY, data, SIM_LOG_ENTRY);
	}
	if (logged)
		d->registers.logged++;
	else
		d->registers.not_logged++;
}

/* A v1 device is logged by what its memory is mapped in, a v2 device logs itself. */
static int check_log(const struct sim_device *d, enum access_log log, struct vfmig_error *err)
{
	enum access_log own = d->options.interface == SIM_V1 ? ACCESS_LOG_MAPPINGS : ACCESS_LOG_DEVICE;

	if (!d->options.dirty_log || log != own)
		return error_set(err, -EOPNOTSUPP, "no log of written pages by %s",
				 log == ACCESS_LOG_DEVICE ? "the device" : "its mappings");
	return 0;
}

int sim_dma_dirty_start(struct sim_device *d, enum access_log log, const struct access_range *ranges, size_t count,
			uint64_t page_size, struct vfmig_error *err)
{
	struct access_range mapped[SIM_MAPPINGS_MAX];
	int r = check_log(d, log, err);

	if (r < 0)
		return r;
	if (log == ACCESS_LOG_DEVICE && !count)
		return error_set(err, -EINVAL, "no range to log");
	if (log == ACCESS_LOG_MAPPINGS) { /* whatever is asked for: all there are, and those to come */
		count = 0;
		for (size_t i = 0; i < d->mapping_count; i++)
			if (of_whole_pages(&d->mappings[i]))
				mapped[count++] = (struct access_range){ d->mappings[i].iova, d->mappings[i].length };
		ranges = mapped;
	}
	/* A client that wants larger pages gets them: a report takes any size. */
	return sim_dirty_start(&d->dirty, ranges, count, page_size, err);
}

/* 0: such a report may be taken. One that fails by a fault is lost, as the interface allows. May drop the lock. */
static int report_begin(struct sim_device *d, enum access_log log, uint64_t iova, uint64_t length,
			uint64_t page_size, struct vfmig_error *err)
{
	const struct fault *f;
	int r = check_log(d, log, err);

	if (r == 0)
		r = sim_dirty_check(&d->dirty, iova, length, page_size, err);
	if (r == 0 && log == ACCESS_LOG_MAPPINGS && !find_inside(d, iova, length))
		r = error_set(err, -EINVAL, "0x%llx bytes at 0x%llx are not inside one mapping",
			      (unsigned long long)length, (unsigned long long)iova);
	if (r < 0)
		return r;
	r = sim_device_fault(d, FAULT_DIRTY_REPORT, &f, err);
	if (r < 0)
		sim_dirty_take(&d->dirty, iova, length, page_size, NULL, false);
	d->lose_page |= f && f->kind == FAULT_LOSE_PAGE;
	return r;
}

static void report_take(struct sim_device *d, uint64_t iova, uint64_t length, uint64_t page_size, void *bitmap)
{
	if (sim_dirty_take(&d->dirty, iova, length, page_size, bitmap, d->lose_page))
		d->lose_page = false;
}

int sim_dma_dirty_report(struct sim_device *d, enum access_log log, uint64_t iova, uint64_t length,
			 uint64_t page_size, void *bitmap, struct vfmig_error *err)
{
	int r = report_begin(d, log, iova, length, page_size, err);

	if (r == 0)
		report_take(d, iova, length, page_size, bitmap);
	return r;
}

int sim_dma_dirty_stop(struct sim_device *d, enum access_log log, struct vfmig_error *err)
{
	int r = check_log(d, log, err);

	if (r == 0)
		sim_dirty_stop(&d->dirty);
	return r;
}

int sim_dma_unmap_dirty(struct sim_device *d, enum access_log log, uint64_t iova, uint64_t length,
			uint64_t page_size, void *bitmap, struct vfmig_error *err)
{
	int r = find_mapping(d, iova, length) ? 0 : sim_dma_unmap(d, iova, length, err);

	if (r == 0)
		r = report_begin(d, log, iova, length, page_size, err);
	if (r < 0)
		return r;
	/* No message is on its way from here on, and the lock stays held: nothing is written between the two. */
	sim_engine_quiesce(d);
	report_take(d, iova, length, page_size, bitmap);
	return sim_dma_unmap(d, iova, length, err);
}
