/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_v2.c: the software device as a v2 device: device features, eight states, a data channel.
 *
 * The state machine is the one of the migration region (sim_region.c); here are
 * its arcs as include/uapi/linux/vfio.h names them, and the way the
 * kernel walks over several of them for one request.
 */
#include "sim/sim_v2.h"

#include <string.h>

#include "base/bytes.h"
#include "uapi/vfio_compat.h"

#define FEATURE_MASK 0xffffu
#define FEATURE_GET (1u << 16)
#define FEATURE_SET (1u << 17)
#define FEATURE_PROBE (1u << 18)
#define FEATURE_MIGRATION 1u
#define FEATURE_MIG_DEVICE_STATE 2u
#define FEATURE_DMA_LOGGING_START 6u
#define FEATURE_DMA_LOGGING_STOP 7u
#define FEATURE_DMA_LOGGING_REPORT 8u
#define FEATURE_MIG_DATA_SIZE 9u
#define LOGGING_RANGES_MAX 256u
#define MIGRATION_STOP_COPY 1u
#define MIGRATION_P2P 2u
#define MIGRATION_PRE_COPY 4u

#define STATES 8u
#define BIT(state) (1u << VFMIG_STATE_##state)
#define P2P_STATES (BIT(RUNNING_P2P) | BIT(PRE_COPY_P2P))
#define PRE_COPY_STATES (BIT(PRE_COPY) | BIT(PRE_COPY_P2P))
/* What a way may lead through that the request does not name: never saving, never resuming. */
#define PLAIN_STATES (BIT(STOP) | BIT(RUNNING) | BIT(RUNNING_P2P))

/* Each state, its bits in the region's machine, and the arcs out of it with P2P and without. */
static const struct {
	uint32_t bits, next, next_without_p2p;
} states[STATES] = {
	[VFMIG_STATE_ERROR] = { SIM_V1_ERROR, 0, 0 },
	[VFMIG_STATE_STOP] = { 0, BIT(RUNNING_P2P) | BIT(STOP_COPY) | BIT(RESUMING),
			       BIT(RUNNING) | BIT(STOP_COPY) | BIT(RESUMING) },
	[VFMIG_STATE_RUNNING] = { SIM_V1_RUNNING, BIT(RUNNING_P2P) | BIT(PRE_COPY), BIT(STOP) | BIT(PRE_COPY) },
	[VFMIG_STATE_STOP_COPY] = { SIM_V1_SAVING, BIT(STOP), BIT(STOP) },
	[VFMIG_STATE_RESUMING] = { SIM_V1_RESUMING, BIT(STOP), BIT(STOP) },
	[VFMIG_STATE_RUNNING_P2P] = { SIM_V1_RUNNING, BIT(RUNNING) | BIT(STOP) | BIT(PRE_COPY_P2P), 0 },
	[VFMIG_STATE_PRE_COPY] = { SIM_V1_RUNNING | SIM_V1_SAVING, BIT(RUNNING) | BIT(PRE_COPY_P2P),
				   BIT(RUNNING) | BIT(STOP_COPY) },
	[VFMIG_STATE_PRE_COPY_P2P] = { SIM_V1_RUNNING | SIM_V1_SAVING,
				       BIT(RUNNING_P2P) | BIT(PRE_COPY) | BIT(STOP_COPY), 0 },
};

static int check_interface(const struct sim_device *d, struct vfmig_error *err)
{
	return d->options.interface == SIM_V1 ? error_set(err, -EOPNOTSUPP, "this device speaks v1") : 0;
}

/* The states that this device has, as bits. */
static uint32_t known_states(const struct sim_device *d)
{
	uint32_t known = (1u << STATES) - 1;

	if (!d->options.p2p)
		known &= ~P2P_STATES;
	if (!d->options.precopy)
		known &= ~PRE_COPY_STATES;
	return known;
}

static uint32_t state_now(const struct sim_device *d)
{
	const struct sim_region *g = &d->region;

	for (uint32_t s = 0; s < STATES; s++) {
		bool p2p = P2P_STATES >> s & 1;
		if (states[s].bits == g->state && p2p == g->p2p)
			return s;
	}
	return VFMIG_STATE_ERROR;
}

static uint32_t arcs(const struct sim_device *d, uint32_t from)
{
	return (d->options.p2p ? states[from].next : states[from].next_without_p2p) & known_states(d);
}

/*
 * The first arc of the shortest way, or 0 (ERROR): there is none. Searched
 * backwards from `to`, a ring of states at a time.
 */
static uint32_t first_arc(const struct sim_device *d, uint32_t from, uint32_t to)
{
	uint32_t through = PLAIN_STATES, reached = 1u << to;

	if (from == VFMIG_STATE_STOP_COPY && (PRE_COPY_STATES >> to & 1))
		return 0;
	if (from == VFMIG_STATE_PRE_COPY && to == VFMIG_STATE_STOP_COPY)
		through |= BIT(PRE_COPY_P2P);
	for (;;) {
		uint32_t ring = 0;
		if (arcs(d, from) & reached)
			return (uint32_t)__builtin_ctz(arcs(d, from) & reached);
		for (uint32_t s = 0; s < STATES; s++)
			if ((through >> s & 1) && !(reached >> s & 1) && (arcs(d, s) & reached))
				ring |= 1u << s;
		if (!ring)
			return 0;
		reached |= ring;
	}
}

static int walk_arc(struct sim_device *d, uint32_t to, struct vfmig_error *err)
{
	const struct fault *f;
	bool p2p = P2P_STATES >> to & 1;
	int r = 0;

	if (!p2p)
		r = sim_device_fault(d, sim_region_fault_step(states[to].bits), &f, err);
	if (r == 0 && p2p)
		sim_engine_quiesce(d);
	if (r == 0 && states[to].bits != d->region.state)
		r = sim_region_enter(d, states[to].bits, err);
	if (r < 0)
		return r;
	d->region.p2p = p2p;
	sim_engine_kick(d);
	return 0;
}

int sim_v2_state_set(struct sim_device *d, uint32_t state, struct vfmig_error *err)
{
	int r = check_interface(d, err);

	if (r == 0 && (state >= STATES || !(known_states(d) >> state & 1) || state == VFMIG_STATE_ERROR))
		r = error_set(err, -EINVAL, "device state %u is none that this device can be set to", state);
	while (r == 0) {
		uint32_t now = state_now(d);
		if (now == state)
			return 0;
		uint32_t next = first_arc(d, now, state);
		if (!next)
			return error_set(err, -EINVAL, "no way from state %s to %s", vfmig_state_name(now),
					 vfmig_state_name(state));
		r = walk_arc(d, next, err);
	}
	return r;
}

int sim_v2_state_get(struct sim_device *d, uint32_t *ret_state, struct vfmig_error *err)
{
	const struct fault *f = NULL;
	int r = check_interface(d, err);

	if (r == 0)
		r = sim_device_fault(d, FAULT_STATE_READ, &f, err);
	if (r == 0)
		*ret_state = f ? STATES : state_now(d); /* wrong-bytes */
	return r;
}

/* ------------------------------------------------------------ data channel */

static uint64_t pending(const struct sim_device *d, bool last)
{
	const struct sim_region *g = &d->region;

	if (d->options.opaque)
		return g->opaque.left + (g->taken ? g->taken->size - g->taken_at : 0);
	if (d->options.still != STILL_NONE)
		return still_left(&g->still);
	return sim_saver_pending(&g->saver, &d->work, last);
}

static size_t opaque_fill(struct sim_region *g, uint8_t *buffer, size_t length)
{
	size_t done = 0;

	while (done < length) {
		if (!g->taken) {
			g->taken = opaque_take(&g->opaque);
			g->taken_at = 0;
		}
		if (!g->taken)
			break;
		size_t n = min_u64(length - done, g->taken->size - g->taken_at);
		memcpy(buffer + done, g->taken->data + g->taken_at, n);
		done += n;
		g->taken_at += n;
		if (g->taken_at == g->taken->size)
			g->taken = NULL;
	}
	return done;
}

/* The next bytes into the buffer, as many as there are. */
static ssize_t fill(struct sim_device *d, void *buffer, size_t length, bool last, struct vfmig_error *err)
{
	struct sim_region *g = &d->region;

	if (d->options.opaque)
		return (ssize_t)opaque_fill(g, buffer, length);
	if (d->options.still != STILL_NONE)
		return still_read(&g->still, buffer, length, err);
	return (ssize_t)sim_saver_fill(&g->saver, &d->work, &d->registers, last, buffer, length);
}

ssize_t sim_v2_data_read(struct sim_device *d, void *buffer, size_t length, struct vfmig_error *err)
{
	struct sim_region *g = &d->region;
	const struct fault *f;
	int r = check_interface(d, err);

	if (r == 0 && (!(g->state & SIM_V1_SAVING) || g->state == SIM_V1_ERROR))
		r = error_set(err, -ENODEV, "no data to read in this state");
	if (r == 0)
		r = sim_device_fault(d, FAULT_DATA_READ, &f, err);
	if (r < 0)
		return r;
	bool last = g->state == SIM_V1_SAVING;
	ssize_t n = fill(d, buffer, length, last, err);
	if (n < 0)
		return n;
	if (n && f)
		((uint8_t *)buffer)[n / 2] ^= 1; /* wrong-bytes */
	if (n == 0 && !last)
		return error_set(err, -EAGAIN, "nothing now");
	return n;
}

static int consume(struct sim_device *d, const uint8_t *data, size_t length, struct vfmig_error *err)
{
	if (length == 0)
		return 0;
	if (d->options.opaque)
		return opaque_append(&d->region.opaque, data, length, err);
	if (d->options.still != STILL_NONE)
		return still_write(&d->region.still, data, length, err);
	return sim_loader_take(&d->region.loader, &d->work, &d->registers, data, length, err);
}

/* wrong-bytes: the byte in the middle is another one. */
static int consume_wrongly(struct sim_device *d, const uint8_t *data, size_t length, struct vfmig_error *err)
{
	size_t middle = length / 2;
	uint8_t wrong = data[middle] ^ 1;
	int r = consume(d, data, middle, err);

	if (r == 0)
		r = consume(d, &wrong, 1, err);
	return r < 0 ? r : consume(d, data + middle + 1, length - middle - 1, err);
}

ssize_t sim_v2_data_write(struct sim_device *d, const void *buffer, size_t length, struct vfmig_error *err)
{
	const struct fault *f;
	int r = check_interface(d, err);

	if (r == 0 && d->region.state != SIM_V1_RESUMING)
		r = error_set(err, -ENODEV, "no data to write in this state");
	if (r == 0)
		r = sim_device_fault(d, FAULT_DATA_WRITE, &f, err);
	if (r == 0)
		r = f && length ? consume_wrongly(d, buffer, length, err) : consume(d, buffer, length, err);
	return r < 0 ? r : (ssize_t)length;
}

int sim_v2_precopy_info(struct sim_device *d, struct access_precopy_info *ret, struct vfmig_error *err)
{
	const struct fault *f;
	int r = check_interface(d, err);

	if (r == 0 && d->region.state != (SIM_V1_RUNNING | SIM_V1_SAVING))
		r = error_set(err, -EINVAL, "pre-copy info in state %s", vfmig_state_name(state_now(d)));
	if (r == 0)
		r = sim_device_fault(d, FAULT_PENDING, &f, err);
	if (r < 0)
		return r;
	uint64_t bytes = f && f->kind == FAULT_HUGE_SIZE ? f->arg : pending(d, false);
	if (f && f->kind == FAULT_NEVER_FALLS && !bytes && !d->options.opaque)
		sim_pages_dirty_all(&d->work.pages);
	/* What is first on the channel is the initial data. */
	uint64_t given = d->region.saver.given, left = d->options.initial - min_u64(given, d->options.initial);
	uint64_t initial = d->options.opaque ? 0 : min_u64(bytes, left);
	*ret = (struct access_precopy_info) { initial, bytes - initial };
	return 0;
}

/* ---------------------------------------------------------------- features */

#define SPARE_HEADERS 8u /* as much as BEGIN and END and what is in them */

/* What stop-and-copy would read: all of it, or what is left of a save under way. */
static uint64_t stop_copy_bytes(const struct sim_device *d)
{
	const struct sim_pages *p = &d->work.pages;

	if (d->region.state & SIM_V1_SAVING)
		return pending(d, true);
	if (d->options.still != STILL_NONE)
		return d->options.size;
	return d->options.opaque ? d->region.opaque.bytes : p->bytes + (p->count + SPARE_HEADERS) * SIM_RECORD_HEADER;
}

/* Which operations a feature has; 0: there is no such feature here. */
static uint32_t feature_operations(const struct sim_device *d, uint32_t feature)
{
	switch (feature) {
	case FEATURE_MIG_DEVICE_STATE:
		return FEATURE_GET | FEATURE_SET;
	case FEATURE_MIGRATION:
	case FEATURE_MIG_DATA_SIZE:
		return FEATURE_GET;
	case FEATURE_DMA_LOGGING_REPORT:
		return d->options.dirty_log ? FEATURE_GET : 0;
	case FEATURE_DMA_LOGGING_START:
	case FEATURE_DMA_LOGGING_STOP:
		return d->options.dirty_log ? FEATURE_SET : 0;
	default:
		return 0;
	}
}

/* 1: carry it out; 0: it was a probe, and the answer is yes. As in Linux' vfio_main.c. */
static int feature_check(const struct sim_device *d, uint32_t flags, struct vfmig_error *err)
{
	uint32_t feature = flags & FEATURE_MASK, wanted = flags & (FEATURE_GET | FEATURE_SET);
	uint32_t operations = feature_operations(d, feature);
	bool probe = flags & FEATURE_PROBE;

	if (flags & ~(FEATURE_MASK | FEATURE_GET | FEATURE_SET | FEATURE_PROBE))
		return error_set(err, -EINVAL, "feature flags 0x%x", flags);
	if (!operations)
		return error_set(err, -EOPNOTSUPP, "feature %u", feature);
	if (wanted & ~operations || (!probe && wanted != FEATURE_GET && wanted != FEATURE_SET))
		return error_set(err, -EINVAL, "feature %u cannot be asked for with flags 0x%x", feature, flags);
	return !probe;
}

static int number_get(uint64_t value, void *data, size_t length, struct vfmig_error *err)
{
	if (length < sizeof(value))
		return error_set(err, -EINVAL, "%zu bytes, expected 8", length);
	memcpy(data, &value, sizeof(value));
	return 0;
}

/* The pointers in these payloads are of this process. */
static int logging_start(struct sim_device *d, void *data, size_t length, struct vfmig_error *err)
{
	struct vfio_device_feature_dma_logging_control c;
	struct access_range ranges[LOGGING_RANGES_MAX];

	if (length < sizeof(c))
		return error_set(err, -EINVAL, "%zu bytes, expected %zu", length, sizeof(c));
	memcpy(&c, data, sizeof(c));
	if (c.num_ranges > LOGGING_RANGES_MAX)
		return error_set(err, -E2BIG, "%u ranges, at most %u", c.num_ranges, LOGGING_RANGES_MAX);
	const uint8_t *from = (const void *)(uintptr_t)c.ranges;
	for (uint32_t i = 0; i < c.num_ranges; i++) {
		struct vfio_device_feature_dma_logging_range range;
		memcpy(&range, from + i * sizeof(range), sizeof(range));
		ranges[i] = (struct access_range){ range.iova, range.length };
	}
	int r = sim_dma_dirty_start(d, ACCESS_LOG_DEVICE, ranges, c.num_ranges, c.page_size, err);
	if (r < 0)
		return r;
	c.page_size = SIM_DIRTY_PAGE;
	memcpy(data, &c, sizeof(c));
	return 0;
}

static int logging_report(struct sim_device *d, const void *data, size_t length, struct vfmig_error *err)
{
	struct vfio_device_feature_dma_logging_report report;

	if (length < sizeof(report))
		return error_set(err, -EINVAL, "%zu bytes, expected %zu", length, sizeof(report));
	memcpy(&report, data, sizeof(report));
	return sim_dma_dirty_report(d, ACCESS_LOG_DEVICE, report.iova, report.length, report.page_size,
				    (void *)(uintptr_t)report.bitmap, err);
}

static int feature_do(struct sim_device *d, uint32_t feature, void *data, size_t length, struct vfmig_error *err)
{
	switch (feature) {
	case FEATURE_MIGRATION:
		return number_get(MIGRATION_STOP_COPY | (d->options.p2p ? MIGRATION_P2P : 0) |
				      (d->options.precopy ? MIGRATION_PRE_COPY : 0),
				  data, length, err);
	case FEATURE_MIG_DATA_SIZE:
		return number_get(stop_copy_bytes(d), data, length, err);
	case FEATURE_DMA_LOGGING_START:
		return logging_start(d, data, length, err);
	case FEATURE_DMA_LOGGING_STOP:
		return sim_dma_dirty_stop(d, ACCESS_LOG_DEVICE, err);
	case FEATURE_DMA_LOGGING_REPORT:
		return logging_report(d, data, length, err);
	default:
		return error_set(err, -EINVAL, "the device state has access functions of its own");
	}
}

int sim_v2_feature(struct sim_device *d, uint32_t flags, void *data, size_t length, struct vfmig_error *err)
{
	int r = check_interface(d, err);

	if (r == 0)
		r = feature_check(d, flags, err);
	if (r <= 0)
		return r;
	r = feature_do(d, flags & FEATURE_MASK, data, length, err);
	return r < 0 ? error_prefix(err, r, "feature %u", flags & FEATURE_MASK) : 0;
}
