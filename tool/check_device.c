/* SPDX-License-Identifier: BSD-3-Clause */
/* check_device.c: what checks ask of a device: its state, ways from one to another, reset, config space. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "check.h"
#include "sim/model.h"

#define V1_MASK 7u

/* What a request may lead through without naming it. */
#define PLAIN_STATES (CHECK_BIT(STOP) | CHECK_BIT(RUNNING) | CHECK_BIT(RUNNING_P2P))
#define PRE_COPY_STATES (CHECK_BIT(PRE_COPY) | CHECK_BIT(PRE_COPY_P2P))
#define P2P_STATES (CHECK_BIT(RUNNING_P2P) | CHECK_BIT(PRE_COPY_P2P))

/* v2's arcs, with P2P and without (enum vfio_device_mig_state), and those of v1 that its users walk. */
static const struct {
	uint32_t p2p, no_p2p, v1;
	uint32_t bits; /* v1's device_state */
} arcs[CHECK_STATES] = {
	[VFMIG_STATE_ERROR] = { .bits = 6 },
	[VFMIG_STATE_STOP] = { CHECK_BIT(RUNNING_P2P) | CHECK_BIT(STOP_COPY) | CHECK_BIT(RESUMING),
			       CHECK_BIT(RUNNING) | CHECK_BIT(STOP_COPY) | CHECK_BIT(RESUMING),
			       CHECK_BIT(RUNNING) | CHECK_BIT(STOP_COPY), 0 },
	[VFMIG_STATE_RUNNING] = { CHECK_BIT(RUNNING_P2P) | CHECK_BIT(PRE_COPY),
				  CHECK_BIT(STOP) | CHECK_BIT(PRE_COPY),
				  CHECK_BIT(STOP) | CHECK_BIT(STOP_COPY) | CHECK_BIT(PRE_COPY) | CHECK_BIT(RESUMING),
				  1 },
	[VFMIG_STATE_STOP_COPY] = { CHECK_BIT(STOP), CHECK_BIT(STOP), CHECK_BIT(STOP) | CHECK_BIT(RUNNING), 2 },
	[VFMIG_STATE_RESUMING] = { CHECK_BIT(STOP), CHECK_BIT(STOP), CHECK_BIT(RUNNING), 4 },
	[VFMIG_STATE_RUNNING_P2P] = { CHECK_BIT(RUNNING) | CHECK_BIT(STOP) | CHECK_BIT(PRE_COPY_P2P), 0, 0,
				      UINT32_MAX },
	[VFMIG_STATE_PRE_COPY] = { CHECK_BIT(RUNNING) | CHECK_BIT(PRE_COPY_P2P),
				   CHECK_BIT(RUNNING) | CHECK_BIT(STOP_COPY),
				   CHECK_BIT(RUNNING) | CHECK_BIT(STOP_COPY), 3 },
	[VFMIG_STATE_PRE_COPY_P2P] = { CHECK_BIT(RUNNING_P2P) | CHECK_BIT(PRE_COPY) | CHECK_BIT(STOP_COPY), 0, 0,
				       UINT32_MAX },
};

int check_skip(struct vfmig_error *err, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(err->message, sizeof(err->message), format, ap);
	va_end(ap);
	return CHECK_SKIPPED;
}

/* ------------------------------------------------------------ what is asked */

static const char *const op_names[CHECK_OPS] = {
	[CHECK_OP_STATE] = "reading the state",
	[CHECK_OP_RESET] = "the reset",
	[CHECK_OP_CONFIG_READ] = "reading config space",
	[CHECK_OP_CONFIG_WRITE] = "writing config space",
	[CHECK_OP_PENDING] = "what is pending",
	[CHECK_OP_OFFSET] = "data_offset",
	[CHECK_OP_SIZE] = "data_size",
	[CHECK_OP_READ] = "reading data",
	[CHECK_OP_WRITE] = "writing data",
	[CHECK_OP_CONSUME] = "writing data_size",
	[CHECK_OP_DRAIN] = "reading a state to its end",
	[CHECK_OP_LOAD] = "loading a state",
	[CHECK_OP_LOG] = "the log of written pages",
};

const char *check_op_name(enum check_op op)
{
	return op_names[op];
}

int check_op_begin(struct check_run *r, enum check_op op, uint64_t *ret_start_ns, struct vfmig_error *err)
{
	*ret_start_ns = clock_now_ns();
	if (r->broken_ops >> op & 1)
		return check_skip(err, "needs %s, which has failed", op_names[op]);
	return 0;
}

static void shortest(uint64_t *ns, uint64_t start_ns)
{
	uint64_t took = clock_now_ns() - start_ns + 1;

	if (!*ns || took < *ns)
		*ns = took;
}

int check_op_end(struct check_run *r, enum check_op op, uint64_t start_ns, int result)
{
	if (result >= 0)
		shortest(&r->op_ns[op], start_ns);
	return result;
}

/* ------------------------------------------------------------------- states */

uint32_t check_known_states(const struct check_run *r)
{
	uint32_t known = (1u << CHECK_STATES) - 1;

	if (!r->has_p2p)
		known &= ~P2P_STATES;
	if (!r->has_precopy)
		known &= ~PRE_COPY_STATES;
	return known;
}

uint32_t check_arcs(const struct check_run *r, enum vfmig_state from)
{
	uint32_t next = r->protocol == CHECK_V1 ? arcs[from].v1 : r->has_p2p ? arcs[from].p2p : arcs[from].no_p2p;

	return next & check_known_states(r);
}

static int v1_get(struct check_run *r, uint32_t *ret_number, struct vfmig_error *err)
{
	uint32_t value;
	int e = access_region_read(r->access, r->region.index, 0, &value, sizeof(value), err);

	if (e < 0)
		return error_prefix(err, e, "device_state");
	r->reserved = value & ~V1_MASK;
	for (uint32_t s = 0; s < CHECK_STATES; s++) {
		if (arcs[s].bits == (value & V1_MASK)) {
			*ret_number = s;
			return 0;
		}
	}
	return error_set(err, -EPROTO, "device_state reads 0x%x, whose bits are no state of the interface", value);
}

int check_state_get(struct check_run *r, enum vfmig_state *ret, struct vfmig_error *err)
{
	uint64_t start;
	uint32_t number = 0;

	CHECK_TRY(check_op_begin(r, CHECK_OP_STATE, &start, err));
	int e = r->protocol == CHECK_V1 ? v1_get(r, &number, err) : access_mig_state_get(r->access, &number, err);
	if (e == 0 && number >= CHECK_STATES)
		e = error_set(err, -EPROTO, "the device says its state is %u, which is none of the interface", number);
	if (e < 0)
		return error_prefix(err, e, "reading the state");
	check_op_end(r, CHECK_OP_STATE, start, e);
	r->state = *ret = (enum vfmig_state)number;
	return 0;
}

/* v1: number is what the three bits are to be. */
int check_state_ask(struct check_run *r, uint32_t number, struct vfmig_error *err)
{
	if (r->protocol == CHECK_V2)
		return access_mig_state_set(r->access, number, err);
	uint32_t value = r->reserved | number;
	return access_region_write(r->access, r->region.index, 0, &value, sizeof(value), err);
}

int check_state_set(struct check_run *r, enum vfmig_state to, struct vfmig_error *err)
{
	enum vfmig_state from = r->state;
	uint64_t start = clock_now_ns();
	int e = check_state_ask(r, r->protocol == CHECK_V1 ? arcs[to].bits : to, err);

	if (e < 0)
		return error_prefix(err, e, "from %s to %s", vfmig_state_name(from), vfmig_state_name(to));
	if (check_arcs(r, from) >> to & 1)
		shortest(&r->arc_ns[from][to], start);
	r->state = to;
	return 0;
}

int check_state_is(struct check_run *r, enum vfmig_state expected, struct vfmig_error *err)
{
	enum vfmig_state state = VFMIG_STATE_ERROR;

	CHECK_TRY(check_state_get(r, &state, err));
	if (state != expected)
		return error_set(err, -EPROTO, "the device is in %s, expected %s", vfmig_state_name(state),
				 vfmig_state_name(expected));
	return 0;
}

/* The shortest way over such states, the first arc in path[0]; 0: there is none. */
static size_t find_way(const struct check_run *r, uint32_t from, uint32_t to, uint32_t through, bool whole,
		       uint32_t path[CHECK_STATES])
{
	uint32_t before[CHECK_STATES] = { 0 }, queue[CHECK_STATES], seen = 1u << from;
	size_t head = 0, tail = 0, length = 0;

	queue[tail++] = from;
	while (head < tail && !(seen >> to & 1)) {
		uint32_t s = queue[head++];
		uint32_t next = check_arcs(r, (enum vfmig_state)s) & ~seen & (through | 1u << to);
		if (whole)
			next &= ~(uint32_t)r->broken_arcs[s];
		for (; next; next &= next - 1) {
			uint32_t n = (uint32_t)__builtin_ctz(next);
			before[n] = s;
			seen |= 1u << n;
			queue[tail++] = n;
		}
	}
	if (!(seen >> to & 1))
		return 0;
	for (uint32_t s = to; s != from; s = before[s])
		length++;
	for (uint32_t s = to, i = (uint32_t)length; s != from; s = before[s])
		path[--i] = s;
	return length;
}

bool check_way_is_whole(const struct check_run *r, enum vfmig_state from, enum vfmig_state to)
{
	uint32_t path[CHECK_STATES], at = from, through = PLAIN_STATES;

	if (from == VFMIG_STATE_PRE_COPY && to == VFMIG_STATE_STOP_COPY)
		through |= CHECK_BIT(PRE_COPY_P2P);
	size_t n = find_way(r, from, to, through, false, path);
	for (size_t i = 0; i < n; at = path[i++])
		if (r->broken_arcs[at] >> path[i] & 1)
			return false;
	return n > 0;
}

/* -EXDEV: an arc that nothing is known of has failed, which is for its own check to say; there may be other ways. */
static int go_arc(struct check_run *r, enum vfmig_state to, struct vfmig_error *err)
{
	enum vfmig_state from = r->state;
	int e = check_state_set(r, to, err);

	if (e == -ENOTCONN || e == -ETIMEDOUT) {
		r->lost_from = from;
		r->lost_to = to;
	}
	if (e >= 0 || e == -ENOTCONN || e == -ETIMEDOUT || r->proven_arcs[from] >> to & 1)
		return e;
	r->broken_arcs[from] |= (uint8_t)(1u << to);
	return -EXDEV;
}

int check_go(struct check_run *r, enum vfmig_state to, struct vfmig_error *err)
{
	enum vfmig_state from;
	uint32_t path[CHECK_STATES];

	CHECK_TRY(check_state_get(r, &from, err));
	if (from == to)
		return 0;
	size_t n = find_way(r, from, to, PLAIN_STATES, true, path);
	if (!n)
		n = find_way(r, from, to, PLAIN_STATES | PRE_COPY_STATES, true, path);
	if (!n)
		return check_skip(err, "needs a way from %s to %s, which has failed", vfmig_state_name(from),
				  vfmig_state_name(to));
	int e = 0;
	for (size_t i = 0; i < n && e == 0; i++)
		e = go_arc(r, (enum vfmig_state)path[i], err);
	return e == -EXDEV ? check_go(r, to, err) : e;
}

int check_reset(struct check_run *r, struct vfmig_error *err)
{
	uint64_t start;

	if (r->has_no_reset)
		return check_skip(err, "the device has no reset");
	CHECK_TRY(check_op_begin(r, CHECK_OP_RESET, &start, err));
	int e = access_reset(r->access, err);
	if (e == -EOPNOTSUPP) {
		r->has_no_reset = true;
		r->broken_ops |= CHECK_OP(RESET);
		return check_skip(err, "the device has no reset");
	}
	if (e < 0)
		return error_prefix(err, e, "reset");
	check_op_end(r, CHECK_OP_RESET, start, e);
	r->state = VFMIG_STATE_RUNNING;
	return 0;
}

/* ------------------------------------------------------------- config space */

int check_needs_pci(struct check_run *r, struct vfmig_error *err)
{
	struct access_device_info info;
	int e = access_device_info(r->access, &info, err);

	if (e < 0)
		return e;
	return info.flags & ACCESS_DEVICE_PCI ? 0 : check_skip(err, "it is no PCI device");
}

int check_config(struct check_run *r, bool write, uint64_t offset, void *data, size_t length,
		 struct vfmig_error *err)
{
	enum check_op op = write ? CHECK_OP_CONFIG_WRITE : CHECK_OP_CONFIG_READ;
	uint64_t start;

	CHECK_TRY(check_op_begin(r, op, &start, err));
	int e = write ? access_region_write(r->access, ACCESS_PCI_CONFIG, offset, data, length, err)
		      : access_region_read(r->access, ACCESS_PCI_CONFIG, offset, data, length, err);
	if (e < 0)
		return error_prefix(err, e, "%s config space at 0x%llx", write ? "writing" : "reading",
				    (unsigned long long)offset);
	return check_op_end(r, op, start, e);
}

bool check_is_software(struct check_run *r)
{
	struct vfmig_error ignored;
	uint8_t id[4], magic[8];

	if (!strcmp(r->access->ops->kind, "sim"))
		return true;
	/* Nobody else's registers are read: that may do something. */
	return check_config(r, false, 0, id, sizeof(id), &ignored) == 0 && get_le16(id) == SIM_PCI_VENDOR &&
	       get_le16(id + 2) == SIM_PCI_DEVICE &&
	       access_region_read(r->access, ACCESS_PCI_BAR0, SIM_BAR_MAGIC, magic, sizeof(magic), &ignored) == 0 &&
	       get_le64(magic) == SIM_BAR_MAGIC_VALUE;
}
