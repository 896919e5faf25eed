/* SPDX-License-Identifier: BSD-3-Clause */
/* check_run.c: runs one check after the other, each on a device that runs. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "check.h"

#define FEATURE_GET (1u << 16)
#define FEATURE_MIGRATION 1u
#define MIGRATION_P2P 2u
#define MIGRATION_PRE_COPY 4u

#define MTTY 0x4348, 0x3253 /* samples/vfio-mdev/mtty.c of Linux 6.12 */

/*
 * What a driver is known to do, found by this command: a failure of that check is reported as such. By PCI identity,
 * of kernel devices only.
 */
static const struct {
	uint16_t vendor, device;
	const char *check, *what;
} quirks[] = {
	{ MTTY, "reset-flag", "mtty has a reset and does not say so" },
	{ MTTY, "pre-copy-enomsg", "mtty reads 0 in pre-copy, where it is not the end" },
	{ MTTY, "pre-copy-p2p-enomsg", "mtty reads 0 in pre-copy, where it is not the end" },
	{ MTTY, "log-twice", "mtty's log is a stub that takes anything" },
	{ MTTY, "log-ended", "mtty's log is a stub that takes anything" },
	{ 0, 0, NULL, NULL },
};

static int find_interface(struct check_run *r, const char *interface, struct vfmig_error *err)
{
	struct vfmig_error no_v1;
	uint64_t flags = 0;
	int e = -EOPNOTSUPP;

	if (!interface || !strcmp(interface, "v2"))
		e = access_feature(r->access, FEATURE_GET | FEATURE_MIGRATION, &flags, sizeof(flags), err);
	if (e == 0) {
		r->protocol = CHECK_V2;
		r->has_p2p = flags & MIGRATION_P2P;
		r->has_precopy = flags & MIGRATION_PRE_COPY;
		return 0;
	}
	if (e != -EOPNOTSUPP || (interface && !strcmp(interface, "v2")))
		return error_prefix(err, e, "no v2 migration interface");
	e = region_v1_find(r->access, &r->region, interface ? err : &no_v1);
	if (e == -EOPNOTSUPP && !interface)
		return error_prefix(err, e, "%s", no_v1.message);
	if (e < 0)
		return interface ? e : error_set(err, e, "%s", no_v1.message);
	r->protocol = CHECK_V1;
	r->has_precopy = true;
	return 0;
}

int check_run_begin(struct check_run *r, struct access *a, const char *interface, struct vfmig_error *err)
{
	r->access = a;
	r->state = VFMIG_STATE_RUNNING;
	return find_interface(r, interface, err);
}

void check_run_end(struct check_run *r)
{
	access_region_info_clear(&r->region);
	check_blob_clear(&r->kept);
	check_blob_clear(&r->one);
	check_blob_clear(&r->two);
}

static bool is_gone(int code)
{
	return code == -ENOTCONN || code == -ETIMEDOUT;
}

/* Out of resuming without a reset: with what is there, if that is a whole state, or with the one that was kept. */
static int resume(struct check_run *r, struct vfmig_error *err)
{
	int e = check_state_set(r, check_loaded_state(r), err);

	return e == 0 || is_gone(e) ? e : check_fill(r, &r->kept, r->kept.length, 0, err);
}

/* Back to running, if need be by a reset: what the next check begins with. */
static int settle(struct check_run *r, struct vfmig_error *err)
{
	enum vfmig_state state = r->state;
	int e = check_state_get(r, &state, err);

	if (e == 0 && state == VFMIG_STATE_RUNNING)
		return 0;
	if (e == 0 && state != VFMIG_STATE_ERROR && state != VFMIG_STATE_RESUMING)
		e = check_go(r, VFMIG_STATE_RUNNING, err);
	else if (e == 0)
		e = -EIO;
	if (e && !is_gone(e))
		e = check_reset(r, err);
	if (e == CHECK_SKIPPED && state == VFMIG_STATE_RESUMING && r->kept.length)
		e = resume(r, err);
	if (e == 0)
		e = check_go(r, VFMIG_STATE_RUNNING, err);
	if (e && !is_gone(e))
		e = error_prefix(err, -EIO, "the device does not come back to running from %s",
				 vfmig_state_name(state));
	return e;
}

/* The state of the check that the device does not have, or ERROR: it has them. */
static enum vfmig_state lacks(const struct check_run *r, const struct check *c)
{
	uint32_t known = check_known_states(r);

	return (enum vfmig_state)(!(known >> c->from & 1) ? c->from : !(known >> c->to & 1) ? c->to : 0);
}

/* Between checks no check is there to blame: it is the one that is about the arc. */
static bool lost_on(const struct check_run *r, const struct check *c)
{
	return c->from != c->to && c->from == r->lost_from && c->to == r->lost_to;
}

static int run_it(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	struct vfmig_error why;

	if (r->gone[0])
		return lost_on(r, c) ? error_set(err, -ENOTCONN, "%s", r->gone) : check_skip(err, "%s", r->gone);
	if (lacks(r, c))
		return check_skip(err, "the device has no %s", vfmig_state_name(lacks(r, c)));
	/* Without its state, or in one that is somebody's, nothing is done to the device. */
	uint64_t start;
	if (c->does & CHECK_TOUCHES)
		CHECK_TRY(check_op_begin(r, CHECK_OP_STATE, &start, err));
	if (c->does & CHECK_TOUCHES && settle(r, &why) != 0) {
		snprintf(r->gone, sizeof(r->gone), "%s", why.message);
		return run_it(r, c, err);
	}
	return c->run(r, c, err);
}

/* What is known to be broken is not used by other checks. */
static void blame(struct check_run *r, const struct check *c, int code)
{
	r->lost_from = r->lost_to = 0; /* blamed, now */
	if (is_gone(code))
		snprintf(r->gone, sizeof(r->gone), "the device is out of reach since %s", c->name);
	r->broken_ops |= c->proves;
	if (c->from != c->to)
		r->broken_arcs[c->from] |= (uint8_t)(1u << c->to);
}

static const char *known_quirk(struct check_run *r, const struct check *c)
{
	uint8_t id[4];
	struct vfmig_error ignored;

	if (strcmp(r->access->ops->kind, "kernel") || check_config(r, false, 0, id, sizeof(id), &ignored))
		return NULL;
	for (size_t i = 0; quirks[i].check; i++)
		if ((id[0] | id[1] << 8) == quirks[i].vendor && (id[2] | id[3] << 8) == quirks[i].device &&
		    !strcmp(quirks[i].check, c->name))
			return quirks[i].what;
	return NULL;
}

void check_run_one(struct check_run *r, const struct check *c, struct check_result *ret)
{
	struct vfmig_error err = { 0 };
	uint64_t start = clock_now_ns();

	r->note[0] = '\0';
	int e = run_it(r, c, &err);
	*ret = (struct check_result) { .check = c, .ns = clock_now_ns() - start };
	if (e == 0) {
		snprintf(ret->why, sizeof(ret->why), "%s", r->note);
		r->proven_arcs[c->from] |= (uint8_t)(1u << c->to);
		return;
	}
	ret->verdict = e < 0 ? CHECK_FAIL : CHECK_SKIP;
	snprintf(ret->why, sizeof(ret->why), "%s", err.message);
	/* An arc that could not be tried is not one to be walked. */
	if (e < 0 || c->from != c->to)
		blame(r, c, e);
	const char *quirk = e < 0 ? known_quirk(r, c) : NULL;
	if (quirk) {
		ret->verdict = CHECK_QUIRK;
		snprintf(ret->why, sizeof(ret->why), "%s (%s)", quirk, err.message);
	}
}
