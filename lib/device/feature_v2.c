/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * feature_v2.c: the v2 protocol, VFIO_DEVICE_FEATURE's migration state and its data channel.
 *
 * Source: include/uapi/linux/vfio.h of Linux 5.18 to 6.12, and what QEMU 8.0 to
 * 10.0 does with it. The kernel (or server) walks several arcs for one request
 * by its own table; a request that fails part-way leaves the device in between, so the
 * state is read back. A chunk is one read; framing carries no meaning.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "device/protocol.h"

/* From linux/vfio.h; here, because a vfio-user device has them without a kernel. */
#define FEATURE_MIGRATION 1u
#define FEATURE_MIG_DATA_SIZE 9u
#define FEATURE_MIG_PRECOPY_INFO_V2 12u
#define FEATURE_GET (1u << 16)
#define FEATURE_SET (1u << 17)
#define MIGRATION_STOP_COPY 1u
#define MIGRATION_P2P 2u
#define MIGRATION_PRE_COPY 4u

struct feature_v2 {
	struct protocol base;
	uint64_t left; /* load: bytes of the chunk that have not come */
};

static struct feature_v2 *v2(struct protocol *p)
{
	return (struct feature_v2 *)p;
}

static int v2_get_state(struct protocol *p, enum vfmig_state *ret, struct vfmig_error *err)
{
	uint32_t state;
	int e = access_mig_state_get(p->access, &state, err);
	if (e < 0)
		return error_prefix(err, e, "reading the device state");
	if (state > VFMIG_STATE_PRE_COPY_P2P)
		return error_set(err, -EPROTO, "the device says its state is %u, which is none of the interface",
				 state);
	p->state = (enum vfmig_state)state;
	*ret = p->state;
	return 0;
}

static bool is_precopy(enum vfmig_state state)
{
	return state == VFMIG_STATE_PRE_COPY || state == VFMIG_STATE_PRE_COPY_P2P;
}

/* What no driver is asked for: the interface has no way there. */
static bool forbidden(enum vfmig_state from, enum vfmig_state to)
{
	return from == VFMIG_STATE_ERROR || to == VFMIG_STATE_ERROR ||
	       (from == VFMIG_STATE_STOP_COPY && is_precopy(to));
}

/*
 * Newer kernels (seen in Linux 7.3's header) let a driver put new initial data on the stream if its user has said
 * that it expects this. Ours does: initial_bytes are asked for again at each look and never remembered, so the flag
 * that marks the change tells nothing more. A device that does not know the feature goes on as before.
 */
static void expect_new_initial_bytes(struct protocol *p)
{
	struct vfmig_error ignored;
	(void)access_feature(p->access, FEATURE_SET | FEATURE_MIG_PRECOPY_INFO_V2, NULL, 0, &ignored);
}

/*
 * The look at the state finds what somebody else did since the last transition. What is done between the look and the
 * request is found where the request opens a data channel that is not due, which only a kernel device tells
 * (kernel_migration.c). On vfio-user it is not: a reset in that one round trip goes unnoticed.
 */
static int v2_set_state(struct protocol *p, enum vfmig_state state, struct vfmig_error *err)
{
	struct vfmig_error ignored;
	enum vfmig_state expected = p->state, from = expected, now = expected;
	int e = v2_get_state(p, &from, err);
	if (e == 0)
		e = protocol_check_state(p, expected, err);
	if (e < 0 || from == state)
		return e;
	if (forbidden(from, state))
		return error_set(err, -EINVAL, "a v2 device cannot go from %s to %s%s", vfmig_state_name(from),
				 vfmig_state_name(state),
				 from == VFMIG_STATE_ERROR ? ": only a reset ends an error" : "");
	v2(p)->left = 0;
	if (is_precopy(state) && !is_precopy(from))
		expect_new_initial_bytes(p);
	const char *from_name = trace_text(vfmig_state_name(from)), *to_name = trace_text(vfmig_state_name(state));
	TRACE3(transition_begin, p->access->name, from_name, to_name);
	e = access_mig_state_set(p->access, state, err);
	TRACE4(transition_end, p->access->name, from_name, to_name, e);
	if (e == 0) {
		p->state = state;
		return 0;
	}
	int read_back = v2_get_state(p, &now, &ignored);
	return error_prefix(err, e, "transition from %s to %s (the device is now in %s)", vfmig_state_name(from),
			    vfmig_state_name(state), read_back < 0 ? "an unknown state" : vfmig_state_name(now));
}

static bool in_precopy(const struct protocol *p)
{
	return is_precopy(p->state);
}

/* What there is to send while running; a vfio-user server does not tell, there what can be read tells. */
static int ask_precopy(struct protocol *p, struct vfmig_pending *ret, struct vfmig_error *err)
{
	struct access_precopy_info info = { 0 };
	int e = access_mig_precopy_info(p->access, &info, err);
	if (e < 0 && e != -EOPNOTSUPP)
		return error_prefix(err, e, "asking for pre-copy info");
	ret->initial_bytes = info.initial_bytes;
	if (__builtin_add_overflow(info.initial_bytes, info.dirty_bytes, &ret->precopy_bytes))
		return error_set(err, -EPROTO, "initial_bytes 0x%llx and dirty_bytes 0x%llx add up to more than 2^64",
				 (unsigned long long)info.initial_bytes, (unsigned long long)info.dirty_bytes);
	return 0;
}

/*
 * The estimate is what pre-copy could send; the exact number also asks for
 * what STOP_COPY would read if it began now, which includes that. A device that
 * does not tell has an unknown size, never 0.
 */
static int v2_pending(struct protocol *p, bool exact, struct vfmig_pending *ret, struct vfmig_error *err)
{
	struct vfmig_pending pending = { 0 };
	uint64_t all = 0;
	int e = in_precopy(p) ? ask_precopy(p, &pending, err) : 0;
	if (e < 0)
		return e;
	if (exact || !in_precopy(p)) {
		e = access_feature(p->access, FEATURE_GET | FEATURE_MIG_DATA_SIZE, &all, sizeof(all), err);
		if (e < 0 && e != -EOPNOTSUPP)
			return error_prefix(err, e, "asking for the size of the state");
		pending.stop_copy_unknown = e < 0;
		if (all > pending.precopy_bytes)
			pending.stop_copy_bytes = all - pending.precopy_bytes;
	}
	*ret = pending;
	return 0;
}

static int v2_read(struct protocol *p, void *buffer, size_t capacity, struct protocol_piece *ret,
		   struct vfmig_error *err)
{
	ssize_t n = access_mig_data_read(p->access, buffer, capacity, err);
	if (n == -EAGAIN && in_precopy(p))
		n = 0;
	if (n == -EAGAIN)
		return error_set(err, -EPROTO,
				 "the stopped device says \"nothing now\" (ENOMSG), expected data or the end of it");
	if (n < 0)
		return error_prefix(err, (int)n, "reading device data");
	*ret = (struct protocol_piece) { (uint64_t)n, buffer, (size_t)n, true };
	return 0;
}

static int v2_write_begin(struct protocol *p, uint64_t size, struct vfmig_error *err)
{
	(void)err;
	v2(p)->left = size;
	return 0;
}

static int v2_write_piece(struct protocol *p, const void *data, size_t length, struct vfmig_error *err)
{
	struct feature_v2 *f = v2(p);
	const uint8_t *from = data;
	if (length > f->left)
		return error_set(err, -EINVAL, "%zu bytes for a chunk that has %llu left", length,
				 (unsigned long long)f->left);
	while (length > 0) {
		ssize_t n = access_mig_data_write(p->access, from, length, err);
		if (n < 0)
			return error_prefix(err, (int)n, "writing device data");
		if (n == 0 || (size_t)n > length)
			return error_set(err, -EIO, "writing device data: %zd of %zu bytes were taken", n, length);
		from += n;
		length -= (size_t)n;
		f->left -= (uint64_t)n;
	}
	return 0;
}

static int v2_write_end(struct protocol *p, struct vfmig_error *err)
{
	if (v2(p)->left)
		return error_set(err, -EINVAL, "a chunk ends %llu bytes early", (unsigned long long)v2(p)->left);
	return 0;
}

static void v2_free(struct protocol *p)
{
	free(p);
}

static const struct protocol_ops v2_ops = {
	.name = "v2",
	.get_state = v2_get_state,
	.set_state = v2_set_state,
	.pending = v2_pending,
	.read = v2_read,
	.write_begin = v2_write_begin,
	.write_piece = v2_write_piece,
	.write_end = v2_write_end,
	.free = v2_free,
};

int feature_v2_open(struct access *a, struct protocol **ret, struct vfmig_error *err)
{
	uint64_t flags = 0;
	enum vfmig_state state;
	int e = access_feature(a, FEATURE_GET | FEATURE_MIGRATION, &flags, sizeof(flags), err);
	if (e < 0)
		return error_prefix(err, e, "no v2 migration interface");
	if (!(flags & MIGRATION_STOP_COPY))
		return error_set(err, -EPROTO,
				 "the device's v2 migration flags are 0x%llx; every device has STOP_COPY (0x%x)",
				 (unsigned long long)flags, MIGRATION_STOP_COPY);
	struct feature_v2 *f = calloc(1, sizeof(*f));
	if (!f)
		return error_errno(err, -ENOMEM, "v2 protocol");
	f->base = (struct protocol) {
		.ops = &v2_ops, .access = a, .has_precopy = flags & MIGRATION_PRE_COPY, .has_p2p = flags & MIGRATION_P2P
	};
	e = v2_get_state(&f->base, &state, err);
	if (e < 0) {
		v2_free(&f->base);
		return e;
	}
	*ret = &f->base;
	return 0;
}
