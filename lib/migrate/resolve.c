/* SPDX-License-Identifier: BSD-3-Clause */
/* resolve.c: one side of a session, gone on with from its journal and what its devices are in. */
#include "migrate/resolve.h"

#include <poll.h>
#include <string.h>

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
	if (code == 0)
		code = set_all(r, VFMIG_STATE_RUNNING, err);
	return code == 0 && r->resume ? r->resume(r->resume_opaque, err) : code;
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

/* Which states are the devices in? One bit each. A device that was reset, or whose program was started again, runs. */
static int ask_states(struct resolve *r, unsigned *ret, struct vfmig_error *err)
{
	*ret = 0;
	for (size_t i = 0; i < r->num_devices; i++) {
		enum vfmig_state now;
		int code = vfmig_device_state(r->devices[i], &now, err);
		if (code < 0)
			return code;
		*ret |= 1u << now;
	}
	return 0;
}

/* ----------------------------------------------------------------- source */

/* In these a device is at work, or a save was killed between that and being stopped. */
#define AT_WORK                                                                                                        \
	(1u << VFMIG_STATE_RUNNING | 1u << VFMIG_STATE_RUNNING_P2P | 1u << VFMIG_STATE_PRE_COPY |                      \
	 1u << VFMIG_STATE_PRE_COPY_P2P)

/* To what the devices were before the save. */
static int put_back(struct resolve *r, struct vfmig_error *err)
{
	return r->held ? set_all(r, VFMIG_STATE_STOP, err) : run_all(r, err);
}

static int write_state(struct resolve *r, enum handover_state state, bool by_person, struct vfmig_error *err)
{
	const struct journal_line line = { .by_person = by_person, .held = r->held };
	int code = journal_write(r->journal, state, &line, err);
	if (code == 0)
		r->state = state;
	return code;
}

/* The journal first, then the deed, then that it was done: a crash in between is found by what the journal says. */
static int run_on(struct resolve *r, bool by_person, struct vfmig_error *err)
{
	unsigned states;
	int code = ask_states(r, &states, err);
	r->held &= code == 0 && !(states & 1u << VFMIG_STATE_RUNNING); /* else somebody let it run since */
	if (code == 0 && r->state != HANDOVER_RUNS_ON)
		code = write_state(r, HANDOVER_RUNS_ON, by_person, err);
	if (code == 0 && states != 1u << VFMIG_STATE_RUNNING)
		code = put_back(r, err);
	return code < 0 ? code : write_state(r, HANDOVER_RUNS, by_person, err);
}

static int refuse(const struct resolve *r, const char *why, struct vfmig_error *err)
{
	return error_set(err, -EPERM, "session %s: the %s's journal says %s: %s", r->session,
			 handover_side_name(r->side), handover_state_name(r->state), why);
}

static int gone_here(const struct resolve *r, struct vfmig_error *err)
{
	return error_set(
	    err, -ENODATA,
	    "session %s: the state is not here any more: the devices ended with the program that had them, or "
	    "were started anew; if the destination has it: 'vfmig resolve %s destination' on both sides",
	    r->session, r->session);
}

/* Nothing is decided, so that the source has it, if it still has. */
static int begin_stopped(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	unsigned states;
	bool person = decision == RESOLVE_SOURCE;
	int code = ask_states(r, &states, err);
	if (code < 0)
		return code;
	if (decision == RESOLVE_DESTINATION && r->peer != JOURNAL_PEER_VFMIG)
		return refuse(r, "the end of the state was not sent, so nobody else can have all of it", err);
	if (decision == RESOLVE_DESTINATION) /* not done: the destination may turn out to have lost it */
		return write_state(r, HANDOVER_DECIDED, true, err);
	if (r->state_gone)
		return gone_here(r, err);
	if (states & 1u << VFMIG_STATE_RUNNING && !person)
		return error_set(
		    err, -EPERM,
		    "session %s: a device that was left stopped is running: if it was started again with its "
		    "work, by somebody or by a save that could not write so: 'vfmig resolve %s source' on both "
		    "sides; if it was reset, and the destination has the state: 'vfmig resolve %s destination' "
		    "on both sides",
		    r->session, r->session, r->session);
	code = run_on(r, person, err);
	return code < 0 ? code : !person && r->peer == JOURNAL_PEER_VFMIG;
}

static int begin_sent(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	if (decision == RESOLVE_MEET)
		return error_set(
		    err, -EPERM,
		    "session %s: the end of the state was sent, and whether it arrived is not "
		    "known here: look there, then say 'vfmig resolve %s destination' if the devices are there, "
		    "or 'vfmig resolve %s source' if they certainly are not",
		    r->session, r->session, r->session);
	if (decision == RESOLVE_DESTINATION)
		return write_state(r, HANDOVER_DONE, true, err);
	if (r->state_gone)
		return gone_here(r, err);
	return run_on(r, true, err);
}

static int begin_runs_on(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	int code = 0;
	if (decision == RESOLVE_DESTINATION)
		return refuse(r, "the device runs here, so the destination must not", err);
	if (r->state == HANDOVER_RUNS_ON && r->state_gone)
		return gone_here(r, err);
	if (r->state == HANDOVER_RUNS_ON)
		code = run_on(r, false, err);
	return code < 0 ? code : decision == RESOLVE_MEET && r->peer == JOURNAL_PEER_VFMIG;
}

/* Killed before anything was stopped: the other side has nothing that is whole. */
static int begin_saving(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	if (decision == RESOLVE_DESTINATION)
		return refuse(r, "the destination cannot have all of the state", err);
	if (r->state_gone)
		return error_set(err, -ENODATA, "session %s: the devices ended with the program that had them, or were "
				 "started anew; nothing is left to be done", r->session);
	unsigned states;
	int code = ask_states(r, &states, err);
	if (code < 0)
		return code;
	if (states & ~AT_WORK && !r->held && decision == RESOLVE_MEET)
		return error_set(
		    err, -EPERM,
		    "session %s: a device that was at work is stopped, and not by this session: if its state is "
		    "here alone, 'vfmig resolve %s source' lets it work",
		    r->session, r->session);
	return run_on(r, decision == RESOLVE_SOURCE, err);
}

static int begin_source(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	switch (r->state) {
	case HANDOVER_SAVING:
		return begin_saving(r, decision, err);
	case HANDOVER_STOPPED:
		return begin_stopped(r, decision, err);
	case HANDOVER_SENT:
		return begin_sent(r, decision, err);
	case HANDOVER_RUNS_ON:
	case HANDOVER_RUNS:
		return begin_runs_on(r, decision, err);
	case HANDOVER_DECIDED:
		if (decision == RESOLVE_SOURCE)
			return refuse(r, "the destination may run the device", err);
		return decision == RESOLVE_MEET;
	case HANDOVER_SUPERSEDED:
		if (decision != RESOLVE_MEET)
			return refuse(r, "a later session has moved the device", err);
		return r->peer == JOURNAL_PEER_VFMIG;
	default:
		return decision == RESOLVE_SOURCE ? refuse(r, "the destination has the device", err) : 0;
	}
}

/* ------------------------------------------------------------ destination */

/* Only a device that holds nothing of the session lets the source run. One that is not what it was is left alone. */
static int abandon(struct resolve *r, bool reset, bool by_person, struct vfmig_error *err)
{
	int code = reset ? reset_all(r, err) : 0;
	if (code == 0 && by_person)
		code = write_state(r, HANDOVER_ABANDONED, true, err);
	else if (code == 0)
		code = journal_forget(r->journal, HANDOVER_ABANDONED, err);
	if (code == 0)
		r->state = HANDOVER_ABANDONED;
	return code;
}

/* What a device may be in that still holds what was loaded: v1 knows no way from resuming to stopped and back. */
static unsigned holding(const struct resolve *r)
{
	unsigned states = 1u << VFMIG_STATE_STOP;
	for (size_t i = 0; i < r->num_devices; i++)
		if (!strcmp(r->devices[i]->protocol->ops->name, "v1") || r->peer != JOURNAL_PEER_VFMIG)
			states |= 1u << VFMIG_STATE_RESUMING;
	return states;
}

/* Committed: it starts, if it has not been started. */
static int start_committed(struct resolve *r, struct vfmig_error *err)
{
	const unsigned startable = holding(r) | 1u << VFMIG_STATE_RUNNING_P2P | 1u << VFMIG_STATE_RUNNING;
	unsigned states;
	int code = ask_states(r, &states, err);
	if (code < 0)
		return code;
	if (r->state_gone || (states & ~startable))
		return error_set(err, -ENODATA,
				 "the destination was committed, and its devices do not hold the state any more: "
				 "whether they ran cannot be known");
	if (states == 1u << VFMIG_STATE_RUNNING)
		log_line(
		    r->log, VFMIG_LOG_WARNING,
		    "the device runs already: as it was started, unless it was reset since, which nobody can tell");
	else
		code = run_all(r, err);
	return code < 0 ? code : write_state(r, HANDOVER_RUNNING, false, err);
}

/* What runs may be somebody's work, and what was stopped may have been reset: a person knows which. */
static int found_running(const struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	if (decision == RESOLVE_DESTINATION)
		return error_set(
		    err, -ENODATA,
		    "the device does not hold what was loaded any more: it runs, so it was reset or started "
		    "since; the state can only be at the source");
	return error_set(
	    err, -EPERM,
	    "session %s: the device was left stopped with the state, and it runs: it was reset, or started by "
	    "somebody; if nothing of the state runs here: 'vfmig resolve %s source' on both sides",
	    r->session, r->session);
}

static int begin_prepared(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	unsigned states;
	int code = ask_states(r, &states, err);
	bool held = !r->state_gone && states && !(states & ~holding(r));
	bool person = decision == RESOLVE_SOURCE;
	if (code < 0)
		return code;
	if (held && decision == RESOLVE_MEET)
		return 1;
	if (held && decision == RESOLVE_DESTINATION) {
		code = write_state(r, HANDOVER_COMMITTED, true, err);
		return code < 0 ? code : start_committed(r, err);
	}
	if (!r->state_gone && states & 1u << VFMIG_STATE_RUNNING && !person)
		return found_running(r, decision, err);
	code = abandon(r, !r->state_gone && !(states & 1u << VFMIG_STATE_RUNNING), person, err);
	if (code == 0 && decision == RESOLVE_DESTINATION)
		return error_set(err, -ENODATA,
				 "the device does not hold what was loaded any more: it was reset or started since; "
				 "the state can only be at the source");
	return code < 0 ? code : decision == RESOLVE_MEET;
}

/* A QEMU that heard nothing may have gone on by itself: then the device must not be started here. */
static int begin_committed(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	unsigned states;
	bool agreed = r->peer == JOURNAL_PEER_VFMIG;
	if (decision == RESOLVE_SOURCE && agreed)
		return refuse(r, "the device may have been started here", err);
	int code = ask_states(r, &states, err);
	if (code < 0)
		return code;
	if (decision == RESOLVE_SOURCE)
		return states & 1u << VFMIG_STATE_RUNNING ? refuse(r, "the device runs here", err) :
							    abandon(r, !r->state_gone, true, err);
	if (r->peer == JOURNAL_PEER_QEMU && decision == RESOLVE_MEET)
		return error_set(err, -EPERM,
				 "session %s: whether the QEMU that sent the state runs on is not known here: "
				 "look there, then say 'vfmig resolve %s source' if it does, or 'vfmig resolve %s "
				 "destination' if it certainly does not",
				 r->session, r->session, r->session);
	code = start_committed(r, err);
	return code < 0 ? code : decision == RESOLVE_MEET && agreed;
}

static int begin_loading(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	unsigned states;
	if (decision == RESOLVE_DESTINATION)
		return refuse(r, "what it holds is not whole", err);
	int code = ask_states(r, &states, err);
	/* What runs was reset, or is somebody's: it has nothing of a state that was not whole. */
	bool reset = !r->state_gone && states & ~(1u << VFMIG_STATE_RUNNING);
	return code < 0 ? code : abandon(r, reset, decision == RESOLVE_SOURCE, err);
}

static int begin_destination(struct resolve *r, enum resolve_decision decision, struct vfmig_error *err)
{
	bool meets = decision == RESOLVE_MEET && r->peer == JOURNAL_PEER_VFMIG;
	switch (r->state) {
	case HANDOVER_WAITING:
	case HANDOVER_LOADING:
		return begin_loading(r, decision, err);
	case HANDOVER_PREPARED:
		return begin_prepared(r, decision, err);
	case HANDOVER_COMMITTED:
		return begin_committed(r, decision, err);
	case HANDOVER_RUNNING:
	case HANDOVER_REPLACED:
		if (decision == RESOLVE_SOURCE)
			return refuse(r, "the device ran here", err);
		return meets;
	default:
		if (decision == RESOLVE_DESTINATION)
			return refuse(r, "the source has the device", err);
		return meets;
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
	const struct journal_line told = { .told = h->told, .held = r->held };
	struct vfmig_error trouble;
	int code = 0;
	if (r->side == HANDOVER_SOURCE && r->state_gone)
		return error_set(err, -ENODATA,
				 "the destination has lost the state, and the source's ended with the program that had "
				 "it");
	if (r->side == HANDOVER_SOURCE) {
		r->state = HANDOVER_RUNS_ON; /* as handover.c has written */
		code = put_back(r, err);
		return code < 0 ? code : journal_write(r->journal, HANDOVER_RUNS, &told, err);
	}
	if (step == HANDOVER_STEP_START)
		code = run_all(r, err);
	if (step == HANDOVER_STEP_START && code == 0) {
		handover_running(h, false);
		return 0;
	}
	if (code < 0 && err)
		log_line(r->log, VFMIG_LOG_WARNING, "%s", err->message);
	if (journal_state(r->journal) == HANDOVER_COMMITTED) /* as load.c does */
		(void)journal_write(r->journal, HANDOVER_LOADING, NULL, &trouble);
	code = reset_all(r, &trouble);
	handover_taken_back(h, code == 0);
	return code < 0 ? error_set(err, code, "%s", trouble.message) : 0;
}

int resolve_meet(struct resolve *r, struct vfmig_link *link, struct vfmig_error *err)
{
	const struct journal_line told = { .told = true, .held = r->held }, gone = { .told = true, .by_person = true };
	struct handover *h = &r->handover;
	int code = handover_init(h, r->side, link, r->session, r->retry_ns, r->log, err);
	if (code < 0)
		return code;
	h->journal = r->journal;
	handover_resume(h, r->state);
	while ((code = handover_step(h, err)) != HANDOVER_STEP_OVER) {
		struct pollfd p[2] = { { .fd = -1 }, { .fd = r->cancel_fd, .events = POLLIN } };
		if (code > 0)
			code = do_step(r, code, err);
		if (code == -EAGAIN) {
			p[0].fd = handover_wait(h, &p[0].events);
			(void)poll(p, 2, -1);
			if (p[1].revents && r->cancels()) {
				code = error_set(err, -ECANCELED, "cancelled: session %s stays as it is", r->session);
				break;
			}
		} else if (code < 0) {
			break;
		}
	}
	if (code > 0 && h->told && journal_state(r->journal) == HANDOVER_RUNS)
		code = journal_write(r->journal, HANDOVER_RUNS, &told, err);
	if (code > 0 && h->told && journal_state(r->journal) == HANDOVER_SUPERSEDED)
		code = journal_write(r->journal, HANDOVER_SUPERSEDED, &gone, err);
	if (code > 0 && h->over && r->by_person && journal_state(r->journal) == HANDOVER_ABANDONED)
		code = journal_write(r->journal, HANDOVER_ABANDONED, &gone, err);
	r->state = journal_state(r->journal);
	handover_clear(h);
	r->journal = NULL;
	return code < 0 ? code : 0;
}

void resolve_end(struct resolve *r)
{
	journal_close(r->journal);
	r->journal = NULL;
}
