/* SPDX-License-Identifier: BSD-3-Clause */
/* resolve.c: one side of a session, gone on with from its journal and what its devices are in. */
#include "migrate/resolve.h"

#include <poll.h>

/* ---------------------------------------------------------------- devices */

static int set_all(struct resolve *r, enum vfmig_state state, struct vfmig_error *err)
{
	for (size_t i = 0; i < r->num_devices; i++) {
		struct protocol *p = r->devices[i]->protocol;
		int code = p->ops->set_state(p, state, err);
		if (code < 0)
			return error_prefix(err, code, "%s", vfmig_device_name(r->devices[i]));
	}
	return 0;
}

/* No device works before all others can take its DMA. */
static int run_all(struct resolve *r, struct vfmig_error *err)
{
	bool p2p = true;
	for (size_t i = 0; i < r->num_devices; i++)
		p2p = p2p && r->devices[i]->protocol->has_p2p;
	int code = p2p ? set_all(r, VFMIG_STATE_RUNNING_P2P, err) : 0;
	return code < 0 ? code : set_all(r, VFMIG_STATE_RUNNING, err);
}

static int reset_all(struct resolve *r, struct vfmig_error *err)
{
	for (size_t i = 0; i < r->num_devices; i++) {
		int code = access_reset(r->devices[i]->access, err);
		if (code < 0)
			return error_prefix(err, code, "%s: reset", vfmig_device_name(r->devices[i]));
	}
	return 0;
}

/* Are all devices in this state? A device that was reset, or whose program was started again, runs. */
static int all_are(struct resolve *r, enum vfmig_state state, bool *ret, struct vfmig_error *err)
{
	bool all = !r->state_gone;
	for (size_t i = 0; i < r->num_devices && all; i++) {
		enum vfmig_state now;
		int code = vfmig_device_state(r->devices[i], &now, err);
		if (code < 0)
			return code;
		all = now == state;
	}
	*ret = all;
	return 0;
}

/* ----------------------------------------------------------------- source */

static int enter(struct resolve *r, enum handover_state state, struct vfmig_error *err)
{
	int code = journal_write(r->journal, state, NULL, err);
	if (code == 0)
		r->state = state;
	return code;
}

/* The journal first: when it says that the source runs on, it may. */
static int source_runs_on(struct resolve *r, struct vfmig_error *err)
{
	if (r->state_gone)
		return error_set(err, -ENODATA,
				 "the source's devices ended with the program that had them, and with them their "
				 "state; if the destination is prepared: 'vfmig resolve %s destination' on both sides",
				 r->session);
	int code = r->state == HANDOVER_RUNS_ON ? 0 : enter(r, HANDOVER_RUNS_ON, err);
	return code < 0 ? code : run_all(r, err);
}

static int refuse(const struct resolve *r, const char *why, struct vfmig_error *err)
{
	return error_set(err, -EPERM, "session %s: the %s's journal says %s: %s", r->session,
			 handover_side_name(r->side), handover_state_name(r->state), why);
}

static int begin_source(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	int code = 0;
	switch (r->state) {
	case HANDOVER_STOPPED:
	case HANDOVER_RUNS_ON:
		if (decision == RESOLVE_DESTINATION && r->state == HANDOVER_RUNS_ON)
			return refuse(r, "the device runs here, so the destination must not", err);
		if (decision == RESOLVE_DESTINATION)
			return enter(r, HANDOVER_DONE, err);
		code = source_runs_on(r, err);
		return code < 0 ? code : decision == RESOLVE_MEET;
	case HANDOVER_DECIDED:
		if (decision == RESOLVE_SOURCE)
			return refuse(r, "the destination may run the device", err);
		return decision == RESOLVE_DESTINATION ? enter(r, HANDOVER_DONE, err) : 1;
	default:
		return decision == RESOLVE_SOURCE ? refuse(r, "the destination runs the device", err) : 0;
	}
}

/* ------------------------------------------------------------ destination */

static int abandon(struct resolve *r, bool reset, struct vfmig_error *err)
{
	int code = reset ? reset_all(r, err) : 0;
	if (code == 0)
		code = journal_forget(r->journal, HANDOVER_ABANDONED, err);
	if (code == 0)
		r->state = HANDOVER_ABANDONED;
	return code;
}

/* Committed: it starts, if it has not been started. */
static int start_committed(struct resolve *r, struct vfmig_error *err)
{
	bool running = false, held = false;
	int code = all_are(r, VFMIG_STATE_RUNNING, &running, err);
	if (code == 0 && !running)
		code = all_are(r, VFMIG_STATE_STOP, &held, err);
	if (code == 0 && r->state_gone)
		return error_set(err, -ENODATA,
				 "the destination was committed, and its devices ended with the program that had "
				 "them: whether they ran cannot be known, and their state is lost");
	if (code == 0 && !running)
		code = run_all(r, err);
	return code < 0 ? code : enter(r, HANDOVER_RUNNING, err);
}

static int begin_prepared(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	bool held = false;
	int code = all_are(r, VFMIG_STATE_STOP, &held, err);
	if (code < 0)
		return code;
	if (decision == RESOLVE_SOURCE)
		return abandon(r, held, err);
	if (held && decision == RESOLVE_MEET)
		return 1;
	if (held) {
		code = enter(r, HANDOVER_COMMITTED, err);
		return code < 0 ? code : start_committed(r, err);
	}
	code = abandon(r, false, err);
	if (code == 0 && decision == RESOLVE_DESTINATION)
		return error_set(err, -ENODATA,
				 "the device does not hold what was loaded any more: it was reset or started since; "
				 "the state can only be at the source");
	return code < 0 ? code : 1;
}

static int begin_destination(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	int code;
	switch (r->state) {
	case HANDOVER_LOADING:
		if (decision == RESOLVE_DESTINATION)
			return refuse(r, "what it holds is not whole", err);
		return abandon(r, true, err);
	case HANDOVER_PREPARED:
		return begin_prepared(r, decision, err);
	case HANDOVER_COMMITTED:
		if (decision == RESOLVE_SOURCE)
			return refuse(r, "the device may have been started here", err);
		code = start_committed(r, err);
		return code < 0 ? code : decision == RESOLVE_MEET;
	case HANDOVER_RUNNING:
		if (decision == RESOLVE_SOURCE)
			return refuse(r, "the device runs here", err);
		return decision == RESOLVE_MEET;
	default:
		if (decision == RESOLVE_DESTINATION)
			return refuse(r, "the source runs the device", err);
		return decision == RESOLVE_MEET;
	}
}

int resolve_begin(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	return r->side == HANDOVER_SOURCE ? begin_source(r, decision, err) : begin_destination(r, decision, err);
}

/* ---------------------------------------------------------------- meeting */

static int do_step(struct resolve *r, int step, struct vfmig_error *err)
{
	struct handover *h = &r->handover;
	int code = 0;
	if (step == HANDOVER_STEP_START) {
		code = run_all(r, err);
		if (code == 0)
			handover_running(h);
	} else if (step == HANDOVER_STEP_TAKE_BACK && r->side == HANDOVER_SOURCE) {
		code = run_all(r, err);
	}
	if (code < 0 && r->side == HANDOVER_SOURCE)
		return code;
	if (code < 0 || (step == HANDOVER_STEP_TAKE_BACK && r->side == HANDOVER_DESTINATION))
		handover_taken_back(h, reset_all(r, err) == 0);
	return 0;
}

int resolve_meet(struct resolve *r, struct vfmig_link *link, struct vfmig_error *err)
{
	struct handover *h = &r->handover;
	int code = handover_init(h, r->side, link, r->session, r->retry_ns, r->log, err);
	if (code < 0)
		return code;
	r->meets = true;
	h->journal = r->journal;
	handover_resume(h, r->state == HANDOVER_DECIDED ? HANDOVER_COMMITTED : r->state);
	while ((code = handover_step(h, err)) != HANDOVER_STEP_OVER) {
		struct pollfd p;
		if (code > 0)
			code = do_step(r, code, err);
		if (code == -EAGAIN) {
			p.fd = handover_wait(h, &p.events);
			(void)poll(&p, 1, -1);
		} else if (code < 0) {
			break;
		}
	}
	r->state = h->state;
	return code < 0 ? code : 0;
}

void resolve_end(struct resolve *r)
{
	if (r->meets)
		handover_clear(&r->handover);
	else
		journal_close(r->journal);
	r->journal = NULL;
}
