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
	d->mappings[d->mapping_count++] = m;
	return 0;
}

int sim_dma_unmap(struct sim_device *d, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	sim_engine_quiesce(d);
	for (size_t i = 0; i < d->mapping_count; i++) {
		struct sim_mapping *m = &d->mappings[i];
		if (m->iova != iova || m->length != length)
			continue;
		if (m->address)
			munmap(m->address, m->length);
		*m = d->mappings[--d->mapping_count];
		return 0;
	}
	return error_set(err, -ENOENT, "no DMA mapping of 0x%llx bytes at 0x%llx", (unsigned long long)length,
			 (unsigned long long)iova);
}

void sim_dma_unmap_all(struct sim_device *d)
{
	while (d->mapping_count)
		sim_dma_unmap(d, d->mappings[0].iova, d->mappings[0].length, NULL);
}

static const struct sim_mapping *find_writable(const struct sim_device *d, uint64_t iova, uint64_t length)
{
	for (size_t i = 0; i < d->mapping_count; i++) {
		const struct sim_mapping *m = &d->mappings[i];
		if ((m->flags & VFMIG_DMA_WRITE) && iova >= m->iova && range_inside(iova - m->iova, length, m->length))
			return m;
	}
	return NULL;
}

static bool send_message(struct sim_device *d, uint64_t iova, const uint8_t *entry)
{
	if (!d->message)
		return false;
	d->in_flight = true;
	sim_device_unlock(d);
	int r = d->message(d->message_opaque, iova, entry, SIM_LOG_ENTRY);
	sim_device_lock(d);
	d->in_flight = false;
	pthread_cond_broadcast(&d->idle);
	return r == 0;
}

void sim_dma_log(struct sim_device *d)
{
	const struct sim_registers *r = &d->registers;
	const struct sim_mapping *m = NULL;
	uint8_t entry[SIM_LOG_ENTRY];
	uint64_t iova = 0;
	bool logged = false;

	if (r->log_entries) {
		iova = r->log_iova + d->work.step % r->log_entries * SIM_LOG_ENTRY;
		m = find_writable(d, iova, SIM_LOG_ENTRY);
	}
	sim_log_put(&d->work, entry);
	if (m && m->address) {
		memcpy(m->address + (iova - m->iova), entry, SIM_LOG_ENTRY);
		logged = true;
	} else if (m) {
		logged = send_message(d, iova, entry);
	}
	if (!logged) {
		d->registers.not_logged++;
		return;
	}
	d->registers.logged++;
	sim_dirty_mark(&d->dirty, iova, SIM_LOG_ENTRY);
}
