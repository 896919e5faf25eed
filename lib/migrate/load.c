/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load.c: the load loop.
 *
 * Theory of operation. The stream is taken record by record; a section goes to
 * the participant that its id names, anybody else's is skipped. Nothing is
 * started before the last byte has arrived and been found right.
 *
 *   CHECK          a file only: the whole stream is read once with nothing
 *                  touched, so that a damaged or a stranger's is refused first
 *   READ           sections to load_state; commands; the description
 *   COMPLETE       each participant: verified against the description, then
 *                  load_complete (config space)
 *   HOLD, AGREE    from a vfmig only: devices stopped, and nothing started before
 *                  the source has decided (handover.c)
 *   START_PREPARE  all participants, devices at the same time (together.c)
 *   START          the same
 *   REPORT         return path: SHUT, 0 (after the start: the source must not
 *                  run once anything here may)
 *
 * A failure or cancel before the end takes every participant back (undo) and
 * says SHUT, 1, upon which the source may run again.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/options.h"
#include "migrate/load_impl.h"
#include "migrate/phases.h"
#include "migrate/together.h"

int vfmig_load_new(struct vfmig_link *link, const struct vfmig_load_options *opts, struct vfmig_load **ret_load,
		   struct vfmig_error *err)
{
	struct vfmig_load *l = calloc(1, sizeof(*l));
	if (!l)
		return error_errno(err, -ENOMEM, "load");
	l->link = link;
	l->cancel_fd = -1;
	int r = options_read(&l->opts, sizeof(l->opts), opts, "load options", err);
	if (r == 0 && l->opts.multifd_channels > VFMIG_MULTIFD_CHANNELS_MAX)
		r = error_set(err, -EINVAL, "%u channels, at most %u are possible", l->opts.multifd_channels,
			      VFMIG_MULTIFD_CHANNELS_MAX);
	if (r == 0 && l->opts.multifd_channels && !(link->two_way && link->ops->another))
		r = error_set(err, -EINVAL, "%s: has one connection; several need unix: or tcp:", link->name);
	if (r == 0 && (l->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
		r = error_errno(err, -errno, "eventfd");
	log_counts_init(&l->log_counts);
	l->log = (struct log) { l->opts.log, l->opts.log_opaque, &l->log_counts };
	if (r == 0)
		r = write_behind_new(&l->behind, err);
	if (r == 0)
		r = handover_init(&l->handover, HANDOVER_DESTINATION, link, NULL, l->opts.retry_for_ns, &l->log, err);
	if (r < 0) {
		vfmig_load_free(l);
		return r;
	}
	l->participants.loading = true;
	*ret_load = l;
	return 0;
}

static int fail(struct vfmig_load *l, int code, struct vfmig_error *err);

void vfmig_load_free(struct vfmig_load *load)
{
	if (!load)
		return;
	struct vfmig_error ignored;
	if (load->begun && load->stage < REPORT && !load->failed)
		fail(load, -ECANCELED, NULL);
	if (load->handover.state == HANDOVER_ABANDONED) /* the source may be waiting */
		(void)handover_step(&load->handover, &ignored);
	if (!load->begun && load->handover.journal) {
		journal_discard(load->handover.journal);
		load->handover.journal = NULL;
	}
	participants_clear(&load->participants);
	reader_free(load->reader);
	handover_clear(&load->handover);
	channels_free(load->channels);
	write_behind_free(load->behind);
	if (load->cancel_fd >= 0)
		close(load->cancel_fd);
	free(load);
}

static int check_not_begun(const struct vfmig_load *load, struct vfmig_error *err)
{
	return load->begun ? error_set(err, -EBUSY, "participants are added before the first step") : 0;
}

int vfmig_load_add_device(struct vfmig_load *load, struct vfmig_device *device, const char *id, struct vfmig_error *err)
{
	int r = check_not_begun(load, err);
	return r < 0 ? r : vfio_load_add(&load->participants, device, id, &load->opts, load->behind,
				    &load->log, err);
}

int vfmig_load_add_participant(struct vfmig_load *load, const struct vfmig_participant_ops *ops, void *opaque,
			       const char *id, uint32_t instance_id, struct vfmig_error *err)
{
	struct participant *added;
	int r = id[0] ? check_not_begun(load, err) : error_set(err, -EINVAL, "a section id of no bytes");
	return r < 0 ? r : participants_add(&load->participants, ops, opaque, id, instance_id, 0, &added, err);
}

int vfmig_load_add_memory(struct vfmig_load *load, struct vfmig_memory *memory, struct vfmig_error *err)
{
	int r = check_not_begun(load, err);
	if (r == 0)
		r = memory_load_add(&load->participants, memory, &load->log, err);
	if (r == 0)
		load->memory = memory;
	return r;
}

/* ----------------------------------------------------------------- stages */

int load_claim(struct vfmig_load *l, struct vfmig_error *err)
{
	const struct ledger_claim claim = { .dir = l->opts.journal, .side = HANDOVER_DESTINATION,
					    .consent = l->opts.replace, .link = l->link,
					    .participants = &l->participants, .log = &l->log };
	if (l->handover.journal)
		return 0;
	if (!l->opts.journal)
		return l->opts.replace ? error_set(err, -EINVAL, "consent to load over session %s, without a journal "
						   "that says what it was", l->opts.replace) : 0;
	return ledger_claim(&claim, &l->handover.journal, err);
}

static int open_reader(struct vfmig_load *l, struct vfmig_error *err)
{
	reader_free(l->reader);
	l->reader = NULL;
	l->in_body = false;
	phase_enter(&l->status, "load", VFMIG_PHASE_SETUP);
	l->status.setup_bytes = l->status.precopy_bytes = l->status.stop_copy_bytes = l->status.rounds = 0;
	l->downtime = (struct downtime){ 0 };
	return reader_new(l->link, &l->reader, err);
}

static void set_checking(struct vfmig_load *l, bool checking)
{
	for (size_t i = 0; i < l->participants.count; i++)
		l->participants.list[i].set_checking(l->participants.list[i].opaque, checking);
}

/* A participant of the VMM's has bodies that only it can read, so it cannot be checked beforehand. */
static int begin(struct vfmig_load *l, struct vfmig_error *err)
{
	bool check = link_is_file(l->link) && !l->opts.no_verify_first;
	for (size_t i = 0; i < l->participants.count; i++)
		check = check && l->participants.list[i].set_checking;
	l->begun = true;
	l->started_ns = clock_now_ns();
	l->stage = check ? CHECK : READ;
	if (check)
		set_checking(l, true);
	int r = participants_check_p2p(&l->participants, err);
	if (r == 0)
		r = load_claim(l, err);
	/* One without sections of its own (vCPUs) takes part from the beginning. */
	for (size_t i = 0; i < l->participants.count && r == 0; i++)
		if (!participant_loads(&l->participants.list[i]))
			r = load_begin_taker(l, &l->participants.list[i], err);
	if (r < 0)
		return r;
	return l->opts.multifd_channels ? load_open_channels(l, err) : open_reader(l, err);
}

static int verify_one(struct vfmig_load *l, struct participant *p, struct vfmig_error *err)
{
	if (!p->begun)
		return error_set(err, -ENOENT, "%s: the stream has no section %s%s", p->name,
				 p->id[0] ? p->id : "of a VFIO device", p->id[0] ? "" : " (\".../vfio\")");
	const struct description *d = reader_description(l->reader);
	if (p->verify && d && reader_marked(l->reader)) {
		const struct description_device *device = description_find(d, p->id, p->instance_id);
		if (!device)
			return error_set(err, -EBADMSG, "%s: the stream's description does not list %s", p->name,
					 p->id);
		int r = p->verify(p->opaque, device, err);
		if (r < 0)
			return r;
	}
	return p->ops.load_complete ? p->ops.load_complete(p->opaque, err) : 0;
}

static int do_check(struct vfmig_load *l, struct vfmig_error *err)
{
	int r = l->in_body ? load_take_body(l, err) : load_take_record(l, err);
	if (r <= 0)
		return r;
	for (size_t i = 0; i < l->participants.count; i++) {
		r = verify_one(l, &l->participants.list[i], err);
		if (r < 0)
			return error_not_again(r);
	}
	set_checking(l, false);
	for (size_t i = 0; i < l->participants.count; i++)
		l->participants.list[i].begun = false;
	l->stage = READ;
	l->told_unmarked = false;
	int rewound = link_rewind(l->link, err);
	return rewound < 0 ? rewound : open_reader(l, err);
}

static int do_read(struct vfmig_load *l, struct vfmig_error *err)
{
	int r = l->channels ? load_take_any(l, err) :
		l->in_body  ? load_take_body(l, err) :
			      load_take_record(l, err);
	if (r <= 0)
		return r;
	l->status.digest_verified = reader_verified(l->reader);
	l->stage = COMPLETE;
	l->at = 0;
	return 0;
}

static int verify_all(struct vfmig_load *l, struct vfmig_error *err)
{
	int r = verify_one(l, &l->participants.list[l->at], err);
	if (r < 0)
		return error_not_again(r);
	if (++l->at == l->participants.count)
		l->stage = handover_recognised(&l->handover) ? HOLD : START_PREPARE;
	return 0;
}

static int do_hold(struct vfmig_load *l, struct vfmig_error *err)
{
	int r = participants_together(&l->participants, TOGETHER_SETTLE, err);
	if (r == 0)
		r = handover_prepared(&l->handover, reader_seal(l->reader), reader_rest(l->reader), err);
	if (r < 0)
		return error_not_again(r);
	l->stage = AGREE;
	return 0;
}

/* Nothing runs here before the source has said so. */
static int do_agree(struct vfmig_load *l, struct vfmig_error *err)
{
	int r = handover_step(&l->handover, err);
	if (r == HANDOVER_STEP_START)
		l->stage = START_PREPARE;
	if (r == HANDOVER_STEP_TAKE_BACK)
		return error_set(err, l->handover.cause.code, "%s", l->handover.cause.message);
	l->kept = r < 0 && r != -EAGAIN; /* given up: only the source, or a person, knows what is to become of it */
	return r < 0 ? r : 0;
}

/* Of a source that does not agree, and what is read from a file. */
int load_note(struct vfmig_load *l, enum handover_state state, struct vfmig_error *err)
{
	struct journal_line line = { .held = state == HANDOVER_RUNNING && l->opts.no_start };
	if (!handover_recognised(&l->handover))
		line.peer = link_is_file(l->link) ? JOURNAL_PEER_FILE :
			    l->return_path_open	  ? JOURNAL_PEER_QEMU :
						    JOURNAL_PEER_ONE_WAY;
	return l->handover.journal ? journal_write(l->handover.journal, state, &line, err) : 0;
}

static int do_start(struct vfmig_load *l, struct vfmig_error *err)
{
	struct vfmig_error why;
	bool prepare = l->stage == START_PREPARE;
	int r = prepare && l->handover.state == HANDOVER_NONE ? load_note(l, HANDOVER_COMMITTED, err) : 0;
	if (r < 0)
		return r;
	r = participants_together(&l->participants, prepare ? TOGETHER_START_PREPARE : TOGETHER_START, err);
	if (r < 0)
		return error_not_again(r);
	l->stage = prepare ? START : REPORT;
	if (prepare)
		return 0;
	l->ended_ns = clock_now_ns();
	phase_enter(&l->status, "load", VFMIG_PHASE_COMPLETING);
	participants_cleanup(&l->participants);
	if (l->handover.state == HANDOVER_COMMITTED) {
		handover_running(&l->handover, l->opts.no_start);
		return 0;
	}
	if (load_note(l, HANDOVER_RUNNING, &why) < 0)
		log_line(&l->log, VFMIG_LOG_WARNING, "%s", why.message);
	return l->return_path_open ? return_path_put(&l->return_path, WIRE_RETURN_SHUT, 0, err) : 0;
}

static int report(struct vfmig_load *l, struct vfmig_error *err)
{
	if (l->handover.state != HANDOVER_NONE)
		return handover_step(&l->handover, err);
	l->wait_events = POLLOUT;
	return l->return_path_open ? return_path_flush(&l->return_path, l->link, err) : 0;
}

/* What can still go wrong is that the source does not hear of it. */
static int do_report(struct vfmig_load *l, struct vfmig_error *err)
{
	struct vfmig_error e;
	int r = report(l, &e);
	bool more = r == -EAGAIN || (r == 0 && l->handover.state != HANDOVER_NONE);
	if (more && !atomic_load(&l->cancelled))
		return r;
	if (l->taken_back)
		return error_set(err, l->cause.code, "%s", l->cause.message);
	if (r == -EAGAIN)
		error_set(&e, r, "cancelled while it does not read");
	if (r < 0)
		log_line(&l->log, VFMIG_LOG_WARNING,
			 "%s: loaded, but the source could not be told (%s); it stays stopped", l->link->name,
			 e.message);
	phase_enter(&l->status, "load", VFMIG_PHASE_DONE);
	l->stage = DONE;
	return 0;
}

/* ---------------------------------------------------------------- driving */

static void tell_refused(struct vfmig_load *l)
{
	struct vfmig_error ignored;
	if (l->return_path_open && return_path_put(&l->return_path, WIRE_RETURN_SHUT, 1, &ignored) == 0)
		(void)return_path_flush(&l->return_path, l->link, &ignored);
}

/* Nothing was prepared. A load that no source came to, or that touched nothing, was none. */
static void note_taken_back(struct vfmig_load *l)
{
	struct journal *j = l->handover.journal;
	struct vfmig_error ignored;
	if (j && journal_state(j) != HANDOVER_WAITING) {
		(void)journal_forget(j, HANDOVER_ABANDONED, &ignored);
		return;
	}
	journal_discard(j);
	l->handover.journal = NULL;
}

/* The devices as they were, with nothing of the load. What could not be put back is added to the error. */
static void take_back(struct vfmig_load *l, int code, struct vfmig_error *err)
{
	struct vfmig_error trouble;
	char cause[sizeof(trouble.message)] = "";
	struct journal *j = l->handover.journal;
	write_behind_drop(l->behind);
	/* After the reset it must not say any more that the device was started. */
	if (j && journal_state(j) == HANDOVER_COMMITTED && journal_write(j, HANDOVER_LOADING, NULL, &trouble) < 0)
		log_line(&l->log, VFMIG_LOG_WARNING, "%s", trouble.message);
	bool undone = participants_undo(&l->participants, &trouble);
	l->status.source_may_run = undone;
	if (err) {
		err->code = code;
		memcpy(cause, err->message, sizeof(cause));
	}
	if (!undone)
		error_set(err, code, "%s; %s", cause, trouble.message);
	/* Only a device that certainly holds nothing of the load lets the source run again. */
	if (l->handover.state != HANDOVER_NONE)
		handover_taken_back(&l->handover, undone);
	else if (undone)
		tell_refused(l);
	if (undone && l->handover.state == HANDOVER_NONE)
		note_taken_back(l);
}

static int fail(struct vfmig_load *l, int code, struct vfmig_error *err)
{
	l->failed = code;
	l->ended_ns = clock_now_ns();
	phase_enter(&l->status, "load", atomic_load(&l->cancelled) ? VFMIG_PHASE_CANCELLED : VFMIG_PHASE_FAILED);
	l->status.outcome_unknown = l->kept;
	if (l->kept)
		participants_cleanup(&l->participants);
	else if (!l->taken_back)
		take_back(l, code, err);
	return code;
}

/* The source may have decided that the devices are here: it is told that they are not before this side ends. */
static int fail_prepared(struct vfmig_load *l, int code, struct vfmig_error *err)
{
	struct vfmig_error ignored;
	take_back(l, code, err);
	l->taken_back = true;
	l->stage = REPORT;
	error_set(&l->cause, code, "%s", err ? err->message : "");
	if (atomic_load(&l->cancelled))
		(void)handover_step(&l->handover, &ignored);
	return 0;
}

static int do_stage(struct vfmig_load *l, struct vfmig_error *err)
{
	static const enum vfmig_downtime_step steps[] = {
		[COMPLETE] = VFMIG_DOWNTIME_LOAD_COMPLETE, [HOLD] = VFMIG_DOWNTIME_AGREE,
		[AGREE] = VFMIG_DOWNTIME_AGREE,		   [START_PREPARE] = VFMIG_DOWNTIME_START_PREPARE,
		[START] = VFMIG_DOWNTIME_START,
	};
	if (l->stage >= COMPLETE && l->stage <= START)
		downtime_enter(&l->downtime, steps[l->stage]);
	int r;
	switch (l->stage) {
	case CHECK:
	case READ:
		l->wait_events = POLLIN;
		r = return_path_flush(&l->return_path, l->link, err);
		if (r == 0 || r == -EAGAIN)
			r = l->stage == CHECK ? do_check(l, err) : do_read(l, err);
		if (l->return_path.queued)
			l->wait_events |= POLLOUT;
		return r;
	case COMPLETE:
		return verify_all(l, err);
	case HOLD:
		return do_hold(l, err);
	case AGREE:
		return do_agree(l, err);
	case START_PREPARE:
	case START:
		return do_start(l, err);
	case REPORT:
		return do_report(l, err);
	case DONE:
		break;
	}
	return 0;
}

static int step(struct vfmig_load *l, struct vfmig_error *err)
{
	int r;
	if (atomic_load(&l->cancelled) && l->stage < REPORT)
		r = error_set(err, -ECANCELED, "cancelled");
	else
		r = l->begun ? do_stage(l, err) : begin(l, err);
	if (r < 0 && r != -EAGAIN && !l->taken_back && !l->kept && l->handover.state != HANDOVER_NONE)
		r = fail_prepared(l, r, err);
	if (l->reader)
		l->status.total_bytes = reader_offset(l->reader) + (l->channels ? channels_bytes(l->channels) : 0);
	l->status.compressed_bytes = l->channels ? channels_packed_bytes(l->channels) : l->link->packed_bytes;
	if (r == -EAGAIN)
		return VFMIG_STEP_WAIT;
	if (r < 0)
		return fail(l, r, err);
	return l->stage == DONE ? VFMIG_STEP_DONE : VFMIG_STEP_AGAIN;
}

int vfmig_load_step(struct vfmig_load *l, struct vfmig_error *err)
{
	if (err)
		*err = (struct vfmig_error) { 0 };
	if (l->stage == DONE)
		return VFMIG_STEP_DONE;
	if (l->failed)
		return error_set(err, l->failed, "the load has failed already");
	if (l->participants.count == 0)
		return error_set(err, -EINVAL, "nothing to load into: no device was added");
	for (;;) {
		uint64_t before = l->status.total_bytes;
		int r = step(l, err);
		if (r == VFMIG_STEP_WAIT && l->status.total_bytes != before)
			r = VFMIG_STEP_AGAIN; /* there may be more */
		if (r != VFMIG_STEP_WAIT)
			spin_found(&l->spin);
		else if (spin_again(&l->spin))
			continue;
		if (r < 0 || r == VFMIG_STEP_DONE)
			log_rest(&l->log);
		return r;
	}
}

int vfmig_load_wait(struct vfmig_load *load, short *ret_events)
{
	if (load->stage > HOLD && load->handover.state != HANDOVER_NONE)
		return handover_wait(&load->handover, ret_events);
	if (load->channels && load->stage == READ) {
		*ret_events = POLLIN;
		return channels_wait(load->channels, load->wait_events & (load->stream_ended ? ~POLLIN : ~0));
	}
	*ret_events = link_events(load->link, load->wait_events);
	return load->link->wait_fd;
}

int vfmig_load_run(struct vfmig_load *load, struct vfmig_error *err)
{
	for (;;) {
		int r = vfmig_load_step(load, err);
		if (r < 0 || r == VFMIG_STEP_DONE)
			return r < 0 ? r : 0;
		if (r == VFMIG_STEP_AGAIN)
			continue;
		struct pollfd fds[2] = { { .fd = -1 }, { .fd = load->cancel_fd, .events = POLLIN } };
		fds[0].fd = vfmig_load_wait(load, &fds[0].events);
		(void)poll(fds, 2, -1);
	}
}

void vfmig_load_cancel(struct vfmig_load *load)
{
	uint64_t one = 1;
	atomic_store(&load->cancelled, true);
	(void)!write(load->cancel_fd, &one, sizeof(one));
}

void vfmig_load_status(const struct vfmig_load *load, struct vfmig_status *ret_status)
{
	uint64_t now = load->ended_ns ? load->ended_ns : clock_now_ns();
	*ret_status = load->status;
	if (load->memory)
		memory_status(load->memory, ret_status);
	if (load->started_ns)
		ret_status->elapsed_ns = now - load->started_ns;
	downtime_status(&load->downtime, now, ret_status);
}
