/* SPDX-License-Identifier: BSD-3-Clause */
/* check_states.c: checks of states: what is told of them, arcs, ways, refusals, resets. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "check.h"

#define FEATURE_GET (1u << 16)
#define FEATURE_SET (1u << 17)
#define FEATURE_PROBE (1u << 18)
#define FEATURE_MIGRATION 1u
#define FEATURE_MIG_DEVICE_STATE 2u
#define FEATURE_NONE 0xfffeu
#define MIGRATION_STOP_COPY 1u
#define MIGRATION_KNOWN 7u

#define PRE_COPY_STATES (CHECK_BIT(PRE_COPY) | CHECK_BIT(PRE_COPY_P2P))

/* ------------------------------------------------------------ the interface */

int check_flags(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint64_t flags = 0;
	int e = access_feature(r->access, FEATURE_GET | FEATURE_MIGRATION, &flags, sizeof(flags), err);

	(void)c;
	if (e == 0 && (!(flags & MIGRATION_STOP_COPY) || flags & ~(uint64_t)MIGRATION_KNOWN))
		e = error_set(err, -EPROTO, "the flags are 0x%llx, expected STOP_COPY (0x1), P2P (0x2), PRE_COPY (0x4)",
			      (unsigned long long)flags);
	return e;
}

int check_features(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	static const uint32_t wanted[] = { FEATURE_GET | FEATURE_MIGRATION, FEATURE_GET | FEATURE_MIG_DEVICE_STATE,
					   FEATURE_SET | FEATURE_MIG_DEVICE_STATE };
	uint64_t data = 0;

	(void)c;
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		int e = access_feature(r->access, FEATURE_PROBE | wanted[i], &data, sizeof(data), err);
		if (e < 0)
			return error_prefix(err, e, "PROBE with flags 0x%x", wanted[i]);
	}
	return 0;
}

static int expect_refusal(int e, const char *what, struct vfmig_error *err)
{
	if (e == -ENOTCONN || e == -ETIMEDOUT)
		return error_prefix(err, e, "%s", what);
	return e < 0 ? 0 : error_set(err, -EPROTO, "%s was accepted", what);
}

int check_unknown_feature(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint64_t data = 0;
	int e = access_feature(r->access, FEATURE_GET | FEATURE_NONE, &data, sizeof(data), err);

	(void)c;
	return e == -EOPNOTSUPP ? 0 : e < 0 ? error_prefix(err, e, "expected ENOTTY") :
	       error_set(err, -EPROTO, "feature 0x%x, which does not exist, was answered", FEATURE_NONE);
}

int check_wrong_operation(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint64_t data = 0;

	(void)c;
	return expect_refusal(access_feature(r->access, FEATURE_SET | FEATURE_MIGRATION, &data, sizeof(data), err),
			      "SET of the migration flags", err);
}

/* What was not found running is somebody's work; one that is stopped may have been moved, and run elsewhere. */
int check_state_read(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	enum vfmig_state state;

	(void)c;
	CHECK_TRY(check_state_get(r, &state, err));
	if (state != VFMIG_STATE_RUNNING)
		return error_set(err, -EBUSY, "the device is in %s, expected running: vfmig recover puts right what "
					      "a save or load has left behind", vfmig_state_name(state));
	return check_state_is(r, VFMIG_STATE_RUNNING, err);
}

/* --------------------------------------------------------------------- arcs */

/* To a state that may be on the other side of a load. */
static int go_there(struct check_run *r, enum vfmig_state state, struct vfmig_error *err)
{
	CHECK_TRY(check_go(r, state, err));
	if (state != VFMIG_STATE_RESUMING)
		return 0;
	if (!r->kept.length)
		return check_skip(err, "needs a state that was read to its end");
	return check_fill(r, &r->kept, r->kept.length, 0, err);
}

int check_arc(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	CHECK_TRY(go_there(r, (enum vfmig_state)c->from, err));
	CHECK_TRY(check_state_is(r, (enum vfmig_state)c->from, err));
	CHECK_TRY(check_state_set(r, (enum vfmig_state)c->to, err));
	return check_state_is(r, (enum vfmig_state)c->to, err);
}

int check_same_state(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	enum vfmig_state state = (enum vfmig_state)c->from;

	CHECK_TRY(check_go(r, state, err));
	CHECK_TRY(check_state_set(r, state, err));
	return check_state_is(r, state, err);
}

/* Linux 6.12 itself never returns from that request: it looks for a way for ever. */
static bool hangs_the_kernel(const struct check_run *r, uint32_t from, uint32_t to)
{
	return !strcmp(r->access->ops->kind, "kernel") && from == VFMIG_STATE_STOP_COPY && PRE_COPY_STATES >> to & 1;
}

static bool is_allowed(const struct check_run *r, uint32_t from, uint32_t to)
{
	return to < CHECK_STATES && to != VFMIG_STATE_ERROR && check_known_states(r) >> to & 1 &&
	       !(from == VFMIG_STATE_STOP_COPY && PRE_COPY_STATES >> to & 1);
}

int check_walk(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	enum vfmig_state from = (enum vfmig_state)c->from;
	unsigned int walked = 0, broken = 0;

	for (uint32_t to = 1; to < CHECK_STATES; to++) {
		bool direct = check_arcs(r, from) >> to & 1;
		if (to == from || direct || !is_allowed(r, from, to))
			continue;
		if (!check_way_is_whole(r, from, (enum vfmig_state)to)) {
			broken++;
			continue;
		}
		/* What comes before begins where the last way has ended, which may be a saving state. */
		if (r->state == VFMIG_STATE_RESUMING)
			CHECK_TRY(check_reset(r, err));
		CHECK_TRY(go_there(r, from, err));
		CHECK_TRY(check_state_set(r, (enum vfmig_state)to, err));
		CHECK_TRY(check_state_is(r, (enum vfmig_state)to, err));
		walked++;
	}
	if (!walked)
		return check_skip(err, broken ? "needs arcs that have failed" : "each is one arc away");
	snprintf(r->note, sizeof(r->note), "%u ways", walked);
	return 0;
}

static int refuse_one(struct check_run *r, enum vfmig_state from, uint32_t number, struct vfmig_error *err)
{
	char what[64];

	snprintf(what, sizeof(what), "a request for %s %u in %s",
		 r->protocol == CHECK_V1 ? "device_state" : "state", number, vfmig_state_name(from));
	CHECK_TRY(expect_refusal(check_state_ask(r, number, err), what, err));
	int e = check_state_is(r, from, err);
	return e < 0 ? error_prefix(err, e, "after %s was refused", what) : e;
}

int check_refused(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	static const uint32_t v1_bits[] = { 5, 6, 7 };
	static const uint32_t v2_more[] = { 8, 0x7fffffff, 0xffffffff };
	enum vfmig_state from = (enum vfmig_state)c->from;
	bool left_out = false;

	CHECK_TRY(check_go(r, from, err));
	for (size_t i = 0; i < 3; i++)
		CHECK_TRY(refuse_one(r, from, r->protocol == CHECK_V1 ? v1_bits[i] : v2_more[i], err));
	for (uint32_t to = 0; r->protocol == CHECK_V2 && to < CHECK_STATES; to++) {
		if (to == from || is_allowed(r, from, to))
			continue;
		if (hangs_the_kernel(r, from, to))
			left_out = true;
		else
			CHECK_TRY(refuse_one(r, from, to, err));
	}
	if (left_out)
		snprintf(r->note, sizeof(r->note), "pre-copy was not asked for: Linux 6.12 never returns from that");
	return 0;
}

/* ------------------------------------------------------------------- resets */

int check_reset_from(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	enum vfmig_state from = (enum vfmig_state)c->from;

	CHECK_TRY(check_go(r, from, err));
	CHECK_TRY(check_reset(r, err));
	return check_state_is(r, VFMIG_STATE_RUNNING, err);
}

int check_reset_flag(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	struct access_device_info info;
	int e = access_device_info(r->access, &info, err);

	(void)c;
	if (e < 0)
		return e;
	e = check_reset(r, err);
	if (e == 0 && !(info.flags & ACCESS_DEVICE_RESET))
		return error_set(err, -EPROTO, "the reset works, but the device's flags are 0x%x, without "
					       "VFIO_DEVICE_FLAGS_RESET", info.flags);
	if (r->has_no_reset && info.flags & ACCESS_DEVICE_RESET)
		return error_set(err, -EPROTO, "the device's flags are 0x%x, with VFIO_DEVICE_FLAGS_RESET, "
					       "but it has none", info.flags);
	return e;
}

/* ------------------------------------------------------------- config space */

#define CONFIG_HEADER 64u
#define CONFIG_COMMAND 4u

int check_config_read(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint8_t whole[CONFIG_HEADER], words[CONFIG_HEADER];

	(void)c;
	CHECK_TRY(check_needs_pci(r, err));
	CHECK_TRY(check_config(r, false, 0, whole, sizeof(whole), err));
	for (size_t at = 0; at < CONFIG_HEADER; at += 4)
		CHECK_TRY(check_config(r, false, at, words + at, 4, err));
	for (size_t at = 0; at < CONFIG_HEADER; at++)
		if (whole[at] != words[at])
			return error_set(err, -EPROTO, "config space at 0x%zx is 0x%02x in one read of all, 0x%02x "
						       "in words", at, whole[at], words[at]);
	return 0;
}

int check_config_write(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint16_t before, after;

	(void)c;
	CHECK_TRY(check_needs_pci(r, err));
	CHECK_TRY(check_config(r, false, CONFIG_COMMAND, &before, sizeof(before), err));
	after = before;
	CHECK_TRY(check_config(r, true, CONFIG_COMMAND, &after, sizeof(after), err));
	CHECK_TRY(check_config(r, false, CONFIG_COMMAND, &after, sizeof(after), err));
	if (after != before)
		return error_set(err, -EPROTO, "the command register was 0x%04x, is 0x%04x after that was written",
				 le16toh(before), le16toh(after));
	return 0;
}
