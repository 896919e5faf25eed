/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_region.c: states and transactions of the migration region, strictly by the interface. */
#include "sim/sim_region.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "sim/model.h"

#define REGISTERS_END 32u
#define MIXED_PARTS 8u

/* What each state is called, which fault is "to" it, and what it may be left for. */
#define TO(state) (1u << (state))
static const struct {
	const char *name;
	enum fault_step fault;
	uint32_t next;
} states[8] = {
	[0] = { "stopped", FAULT_TO_STOP, TO(0) | TO(1) | TO(2) | TO(4) },
	[1] = { "running", FAULT_TO_RUNNING, TO(0) | TO(1) | TO(2) | TO(3) | TO(4) },
	[2] = { "stop-and-copy", FAULT_TO_STOPCOPY, TO(0) | TO(1) | TO(2) },
	[3] = { "pre-copy", FAULT_TO_PRECOPY, TO(0) | TO(1) | TO(2) | TO(3) },
	[4] = { "resuming", FAULT_TO_RESUMING, TO(0) | TO(1) | TO(4) },
	[5] = { "invalid (101)", FAULT_STEPS, 0 },
	[6] = { "error", FAULT_STEPS, 0 },
	[7] = { "invalid (111)", FAULT_STEPS, 0 },
};

static bool is_saving(const struct sim_region *g)
{
	return g->state & SIM_V1_SAVING && g->state != SIM_V1_ERROR;
}

static bool is_still(const struct sim_device *d)
{
	return d->options.still != STILL_NONE;
}

static uint64_t section_size(const struct sim_device *d)
{
	return d->options.section;
}

/* ------------------------------------------------------------ the state moved */

static void save_start(struct sim_device *d)
{
	struct sim_region *g = &d->region;

	g->phase = SIM_PHASE_NONE;
	g->transaction_size = 0;
	g->transactions = 0;
	g->taken = NULL;
	g->endless = false;
	if (d->options.opaque)
		opaque_rewind(&g->opaque);
	else if (is_still(d))
		still_start(&g->still);
	else
		sim_saver_start(&g->saver, &d->work);
}

/* The END goes out with the last bytes of a stopped device. */
static bool save_is_last(const struct sim_region *g)
{
	return g->state == SIM_V1_SAVING && !g->endless;
}

static uint64_t save_pending(struct sim_device *d)
{
	struct sim_region *g = &d->region;

	if (!is_saving(g))
		return 0;
	if (g->state & SIM_V1_RUNNING && !d->options.precopy)
		return 0;
	uint64_t laid_out = g->transaction_size;
	if (d->options.opaque)
		return laid_out + g->opaque.left;
	if (is_still(d))
		return laid_out + still_left(&g->still);
	return laid_out + sim_saver_pending(&g->saver, &d->work, save_is_last(g));
}

/* never-falls: what was sent is to be sent again. */
static void save_refill(struct sim_device *d)
{
	if (d->options.opaque) {
		if (!d->region.opaque.left)
			opaque_rewind(&d->region.opaque);
	} else if (is_still(d)) {
		if (!still_left(&d->region.still))
			still_start(&d->region.still);
	} else if (!d->work.pages.dirty_count) {
		sim_pages_dirty_all(&d->work.pages);
	}
}

static void flip(uint8_t *bytes, uint64_t length)
{
	if (length)
		bytes[length / 2] ^= 1;
}

/* Lays out the next transaction in the data section: at its beginning and at its end, in turn. */
static int save_lay_out(struct sim_device *d, struct vfmig_error *err)
{
	struct sim_region *g = &d->region;
	uint8_t *data = g->base + SIM_REGION_DATA;
	uint64_t size = section_size(d), n;

	if (d->options.opaque) {
		const struct opaque_transaction *t = opaque_take(&g->opaque);
		n = t ? t->size : 0;
		if (n > size)
			return error_set(err, -EIO, "transaction of %llu bytes, data section of %llu",
					 (unsigned long long)n, (unsigned long long)size);
		if (t)
			memcpy(data, t->data, n);
	} else if (is_still(d)) {
		n = still_lay_out(&g->still);
	} else {
		n = sim_saver_fill(&g->saver, &d->work, &d->registers, save_is_last(g), data, size);
	}
	uint64_t shift = g->transactions++ % 2 && !is_still(d) ? (size - n) & ~UINT64_C(7) : 0;
	if (shift)
		memmove(data + shift, data, n);
	g->transaction_offset = SIM_REGION_DATA + shift;
	g->transaction_size = n;
	if (d->options.map == SIM_MAP_MAPPED) {
		const struct fault *f = faults_at(&d->options.faults, FAULT_DATA_READ);
		if (f && f->kind == FAULT_WRONG_BYTES)
			flip(data + shift, n);
	}
	return 0;
}

static void load_start(struct sim_device *d)
{
	d->registers.control &= ~(uint64_t)SIM_CONTROL_ON;
	d->region.phase = SIM_PHASE_NONE;
	if (d->options.opaque)
		opaque_clear(&d->region.opaque);
	else if (is_still(d))
		still_load_start(&d->region.still);
	else
		sim_loader_start(&d->region.loader, &d->work);
}

static int load_consume(struct sim_device *d, uint64_t size, struct vfmig_error *err)
{
	struct sim_region *g = &d->region;
	uint8_t *data = g->base + SIM_REGION_DATA;

	if (d->options.map == SIM_MAP_MAPPED) {
		const struct fault *f = faults_at(&d->options.faults, FAULT_DATA_WRITE);
		if (f && f->kind == FAULT_WRONG_BYTES)
			flip(data, size);
	}
	if (d->options.opaque)
		return opaque_append(&g->opaque, data, size, err);
	if (is_still(d))
		return still_take(&g->still, data, size, err);
	return sim_loader_take(&g->loader, &d->work, &d->registers, data, size, err);
}

static int load_finish(struct sim_device *d, struct vfmig_error *err)
{
	int r = 0;

	if (is_still(d))
		r = still_finish(&d->region.still, err);
	else if (!d->options.opaque)
		r = sim_loader_check(&d->region.loader, &d->work, err);
	if (r < 0)
		return r;
	d->resumed_step = d->work.step;
	d->loads++;
	return 0;
}

/* ---------------------------------------------------------------- device_state */

static int state_check(const struct sim_device *d, uint32_t value, struct vfmig_error *err)
{
	uint32_t now = d->region.state, to = value & SIM_V1_MASK;

	if ((value & ~SIM_V1_MASK) != d->options.reserved)
		return error_set(err, -EINVAL, "device_state: reserved bits 0x%x, expected them as read, 0x%x",
				 value & ~SIM_V1_MASK, d->options.reserved);
	if (now == SIM_V1_ERROR)
		return error_set(err, -EIO, "device_state: the error state is only left by a reset");
	if (!(states[now].next >> to & 1))
		return error_set(err, -EINVAL, "device_state: no way from %s to %s", states[now].name, states[to].name);
	return 0;
}

enum fault_step sim_region_fault_step(uint32_t to)
{
	return states[to].fault;
}

int sim_region_enter(struct sim_device *d, uint32_t to, struct vfmig_error *err)
{
	struct sim_region *g = &d->region;
	uint32_t now = g->state;

	if (now == SIM_V1_RESUMING) {
		int r = load_finish(d, err);
		if (r < 0)
			return r;
	}
	if (!(to & SIM_V1_RUNNING))
		sim_engine_quiesce(d);
	g->state = to;
	if (to == SIM_V1_RESUMING)
		load_start(d);
	if (to & SIM_V1_SAVING) {
		if (!(now & SIM_V1_SAVING))
			save_start(d);
		else if (g->phase == SIM_PHASE_SIZED) /* taken, and nothing left to ask */
			g->transaction_size = 0;
	}
	g->phase = SIM_PHASE_NONE;
	sim_engine_kick(d);
	return 0;
}

static int state_write(struct sim_device *d, uint32_t value, struct vfmig_error *err)
{
	uint32_t to = value & SIM_V1_MASK;
	const struct fault *f;
	int r = state_check(d, value, err);

	if (r < 0 || to == d->region.state)
		return r;
	r = sim_device_fault(d, states[to].fault, &f, err);
	return r < 0 ? r : sim_region_enter(d, to, err);
}

static int state_read(struct sim_device *d, uint32_t *ret, struct vfmig_error *err)
{
	const struct fault *f;
	int r = sim_device_fault(d, FAULT_STATE_READ, &f, err);

	if (r < 0)
		return r;
	*ret = d->options.reserved | (f ? SIM_V1_MASK : d->region.state); /* wrong-bytes */
	return 0;
}

/* ------------------------------------------------------------- the other registers */

static int out_of_order(const char *what, const struct sim_device *d, struct vfmig_error *err)
{
	return error_set(err, -EINVAL, "%s in state %s is out of order", what, states[d->region.state].name);
}

static int pending_read(struct sim_device *d, uint64_t *ret, struct vfmig_error *err)
{
	struct sim_region *g = &d->region;
	const struct fault *f;
	int r = sim_device_fault(d, FAULT_PENDING, &f, err);

	if (r < 0)
		return r;
	if (g->state == SIM_V1_ERROR)
		return error_set(err, -EIO, "pending_bytes: device in error");
	g->endless = f && f->kind == FAULT_NEVER_FALLS;
	if (g->endless && is_saving(g))
		save_refill(d);
	if (g->phase == SIM_PHASE_SIZED)
		g->transaction_size = 0; /* acknowledged */
	uint64_t pending = save_pending(d);
	if (is_saving(g))
		g->phase = pending ? SIM_PHASE_ASKED : SIM_PHASE_NONE;
	*ret = f && f->kind == FAULT_HUGE_SIZE ? f->arg : pending;
	return 0;
}

static int data_offset_read(struct sim_device *d, uint64_t *ret, struct vfmig_error *err)
{
	struct sim_region *g = &d->region;
	const struct fault *f;
	int r = sim_device_fault(d, FAULT_DATA_OFFSET, &f, err);

	if (r < 0)
		return r;
	if (g->state == SIM_V1_RESUMING) {
		g->transaction_offset = SIM_REGION_DATA;
		g->phase = SIM_PHASE_OPEN;
	} else if (!is_saving(g) || g->phase == SIM_PHASE_NONE) {
		return out_of_order("data_offset read", d, err);
	} else if (g->phase == SIM_PHASE_ASKED) {
		r = g->transaction_size ? 0 : save_lay_out(d, err);
		if (r < 0)
			return r;
		g->phase = SIM_PHASE_OPEN;
	}
	*ret = f ? f->arg : g->transaction_offset; /* bad-offset */
	return 0;
}

static int data_size_read(struct sim_device *d, uint64_t *ret, struct vfmig_error *err)
{
	struct sim_region *g = &d->region;
	const struct fault *f;
	int r = sim_device_fault(d, FAULT_DATA_SIZE, &f, err);

	if (r < 0)
		return r;
	if (!is_saving(g) || g->phase < SIM_PHASE_OPEN)
		return out_of_order("data_size read", d, err);
	bool zero = f && f->kind == FAULT_ZERO_SIZE;
	if (!zero) /* nobody can take what has no size: it is offered again */
		g->phase = SIM_PHASE_SIZED;
	*ret = zero ? 0 : f ? f->arg : g->transaction_size;
	return 0;
}

static int data_size_write(struct sim_device *d, uint64_t size, struct vfmig_error *err)
{
	struct sim_region *g = &d->region;
	const struct fault *f;
	int r = sim_device_fault(d, FAULT_CONSUME, &f, err);

	if (r < 0)
		return r;
	if (g->state != SIM_V1_RESUMING || g->phase != SIM_PHASE_OPEN)
		return out_of_order("data_size write", d, err);
	if (size == 0 || size > section_size(d))
		return error_set(err, -EINVAL, "data_size %llu, expected 1 to %llu", (unsigned long long)size,
				 (unsigned long long)section_size(d));
	g->phase = SIM_PHASE_NONE;
	return load_consume(d, size, err);
}

static int register_read(struct sim_device *d, uint64_t offset, void *buffer, size_t length, struct vfmig_error *err)
{
	uint32_t state = 0;
	uint64_t value = 0;
	int r;

	if (offset == SIM_V1_DEVICE_STATE && length == 4) {
		r = state_read(d, &state, err);
		memcpy(buffer, &state, 4);
		return r;
	}
	if (offset == SIM_V1_PENDING_BYTES && length == 8)
		r = pending_read(d, &value, err);
	else if (offset == SIM_V1_DATA_OFFSET && length == 8)
		r = data_offset_read(d, &value, err);
	else if (offset == SIM_V1_DATA_SIZE && length == 8)
		r = data_size_read(d, &value, err);
	else
		return error_set(err, -EINVAL, "no register of %zu bytes to read at 0x%llx", length,
				 (unsigned long long)offset);
	memcpy(buffer, &value, 8);
	return r;
}

static int register_write(struct sim_device *d, uint64_t offset, const void *buffer, size_t length,
			  struct vfmig_error *err)
{
	if (offset == SIM_V1_DEVICE_STATE && length == 4) {
		uint32_t state;
		memcpy(&state, buffer, 4);
		return state_write(d, state, err);
	}
	if (offset == SIM_V1_DATA_SIZE && length == 8) {
		uint64_t size;
		memcpy(&size, buffer, 8);
		return data_size_write(d, size, err);
	}
	return error_set(err, -EINVAL, "no register of %zu bytes to write at 0x%llx", length,
			 (unsigned long long)offset);
}

/* ---------------------------------------------------------------- the data section */

static int section_check(const struct sim_device *d, const char *what, bool in_order, size_t length,
			 struct vfmig_error *err)
{
	uint32_t width = d->options.access_width;

	if (!in_order)
		return out_of_order(what, d, err);
	if (width && length > width)
		return error_set(err, -EINVAL, "%s of %zu bytes, this device takes at most %u", what, length, width);
	return 0;
}

int sim_region_read(struct sim_device *d, uint64_t offset, void *buffer, size_t length, struct vfmig_error *err)
{
	const struct sim_region *g = &d->region;
	const struct fault *f;

	if (offset < SIM_REGION_DATA)
		return register_read(d, offset, buffer, length, err);
	int r = sim_device_fault(d, FAULT_DATA_READ, &f, err);
	if (r == 0)
		r = section_check(d, "data section read", is_saving(g) && g->phase >= SIM_PHASE_OPEN, length, err);
	if (r < 0)
		return r;
	if (is_still(d))
		r = still_section_read(&g->still, offset - SIM_REGION_DATA, buffer, length, err);
	else
		memcpy(buffer, g->base + offset, length);
	if (f && r == 0)
		flip(buffer, length);
	return r;
}

int sim_region_write(struct sim_device *d, uint64_t offset, const void *buffer, size_t length,
		     struct vfmig_error *err)
{
	const struct sim_region *g = &d->region;
	const struct fault *f;

	if (offset < SIM_REGION_DATA)
		return register_write(d, offset, buffer, length, err);
	int r = sim_device_fault(d, FAULT_DATA_WRITE, &f, err);
	if (r == 0)
		r = section_check(d, "data section write", g->state == SIM_V1_RESUMING && g->phase == SIM_PHASE_OPEN,
				  length, err);
	if (r < 0)
		return r;
	if (is_still(d))
		r = still_section_write(&g->still, offset - SIM_REGION_DATA, buffer, length, err);
	else
		memcpy(g->base + offset, buffer, length);
	if (f && r == 0)
		flip(g->base + offset, length);
	return r;
}

/* ---------------------------------------------------------------------- the region */

/* mixed: every second part can be mapped, the last one listed first. */
static int mixed_areas(uint64_t size, struct access_region_info *info, struct vfmig_error *err)
{
	uint64_t pages = size / SIM_PAGE_SIZE;
	uint64_t part = (pages + MIXED_PARTS - 1) / MIXED_PARTS;
	uint64_t parts = (pages + part - 1) / part;

	for (uint64_t i = parts; i-- > 0;) {
		if (i % 2 == 0)
			continue;
		uint64_t length = min_u64(part, pages - i * part) * SIM_PAGE_SIZE;
		int r = access_region_info_add_area(info, SIM_REGION_DATA + i * part * SIM_PAGE_SIZE, length, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int sim_region_areas(const struct sim_device *d, struct access_region_info *info, struct vfmig_error *err)
{
	switch (d->options.map) {
	case SIM_MAP_MAPPED:
		return access_region_info_add_area(info, SIM_REGION_DATA, section_size(d), err);
	case SIM_MAP_MIXED:
		return mixed_areas(section_size(d), info, err);
	default:
		return 0;
	}
}

int sim_region_init(struct sim_device *d, struct vfmig_error *err)
{
	struct sim_region *g = &d->region;

	g->state = SIM_V1_RUNNING;
	g->size = SIM_REGION_DATA + section_size(d);
	g->fd = memfd_create("vfmig-migration-region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (g->fd < 0 || ftruncate(g->fd, (off_t)g->size) < 0 ||
	    fcntl(g->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_errno(err, -errno, "migration region of %llu bytes", (unsigned long long)g->size);
	void *base = mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_SHARED, g->fd, 0);
	if (base == MAP_FAILED)
		return error_errno(err, -errno, "migration region of %llu bytes", (unsigned long long)g->size);
	g->base = base;
	if (!is_still(d))
		return 0;
	g->still = (struct still){ .copies = d->options.still, .check = d->options.check, .size = d->options.size,
				   .unit = section_size(d), .seed = d->options.seed };
	return still_init(&g->still, g->fd, SIM_REGION_DATA, g->base + SIM_REGION_DATA, err);
}

void sim_region_destroy(struct sim_device *d)
{
	struct sim_region *g = &d->region;

	opaque_clear(&g->opaque);
	still_destroy(&g->still);
	if (g->base)
		munmap(g->base, g->size);
	if (g->fd >= 0)
		close(g->fd);
}

void sim_region_reset(struct sim_device *d)
{
	struct sim_region *g = &d->region;

	opaque_clear(&g->opaque);
	g->state = SIM_V1_RUNNING;
	g->p2p = false;
	g->taken = NULL;
	g->phase = SIM_PHASE_NONE;
	g->transaction_size = 0;
}
