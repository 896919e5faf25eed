/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * save.c: the save loop.
 *
 * Theory of operation. A save is a row of stages, each done in steps; a step
 * first sends what is queued and, once the link has taken all of it, does one
 * piece of the next work, so that nothing ever blocks on the link and nothing
 * is put while an earlier piece still lies in a device's data section. The
 * loop knows participants and a link; it does not know what a device is.
 *
 *   HEADER        header, CONFIGURATION; with a return path: open it, ping
 *   GREET         with a return path: wait for the answer, which tells QEMU from vfmig
 *   SETUP         each participant: START section (save_setup)
 *   ITERATE       each participant in turn: PART section (save_live_iterate)
 *   DECIDE        after each round: converge.c tells whether to go on
 *   STOP_PREPARE  all participants   } from here on the downtime runs;
 *   STOP          all participants   } devices at the same time (together.c)
 *   COMPLETE      each participant: END section (save_live_complete_precopy); with
 *                 several connections a v2 device's data goes over the channels,
 *                 and command 11 stands before it
 *   SETTLE        all devices: out of stop-and-copy
 *   STATE         each participant: FULL section (save_state)
 *   FINISH        once the channels are empty: EOF, description, seal
 *   CONFIRM       one-way link: made to last; QEMU: wait for SHUT; vfmig: handover.c
 *
 * Until the first byte of FINISH is offered to the link the other side cannot
 * have all of the state: a failure or cancel takes everything back and the
 * source may run. After that, with QEMU, only the other side's refusal does; a
 * lost link leaves the source stopped, because the other side may be running.
 * With a vfmig, which asks before it runs, it is the handover that knows.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/options.h"
#include "migrate/phases.h"
#include "migrate/save_impl.h"
#include "migrate/together.h"

#define DEFAULT_MACHINE "pc-q35-7.2"
#define DEFAULT_DOWNTIME_NS (300 * NS_PER_MS)

/* May the other side run? Then only its refusal lets the source run. */
static bool may_run_there(const struct vfmig_save *s)
{
	enum handover_state state = s->handover.state;
	if (state != HANDOVER_NONE)
		return state == HANDOVER_COMMITTED || state == HANDOVER_DONE || s->handover.stuck;
	return s->finish_offset && writer_sent(s->writer) > s->finish_offset && !s->refused;
}

int vfmig_save_new(struct vfmig_link *link, const struct vfmig_save_options *opts, struct vfmig_save **ret_save,
		   struct vfmig_error *err)
{
	struct vfmig_save *s = calloc(1, sizeof(*s));
	if (!s)
		return error_errno(err, -ENOMEM, "save");
	s->link = link;
	s->cancel_fd = s->pause_fd = -1;
	int r = options_read(&s->opts, sizeof(s->opts), opts, "save options", err);
	const char *machine = s->opts.machine ? s->opts.machine : DEFAULT_MACHINE;
	if (r == 0 && (strlen(machine) == 0 || strlen(machine) >= sizeof(s->machine)))
		r = error_set(err, -EINVAL, "machine name of %zu bytes, expected 1 to %zu", strlen(machine),
			      sizeof(s->machine) - 1);
	if (r == 0)
		r = writer_new(link, &s->writer, err);
	if (r == 0 && s->opts.no_digest)
		writer_without_digest(s->writer);
	if (r == 0 && s->opts.multifd_channels > VFMIG_MULTIFD_CHANNELS_MAX)
		r = error_set(err, -EINVAL, "%u channels, at most %u are possible", s->opts.multifd_channels,
			      VFMIG_MULTIFD_CHANNELS_MAX);
	if (r == 0)
		r = read_ahead_new(1 + s->opts.multifd_channels, &s->ahead, err);
	if (r == 0 && s->opts.multifd_channels)
		r = outlets_open(link, s->opts.multifd_channels, s->opts.multifd_uuid, s->ahead, &s->outlets, err);
	if (r == 0 && (s->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
		r = error_errno(err, -errno, "eventfd");
	if (r == 0 && s->opts.switchover_ack && (!link->two_way || s->opts.no_return_path))
		r = error_set(err, -EINVAL, "%s: switchover ack needs a return path, so unix: or tcp:", link->name);
	if (r == 0 && (s->opts.max_bandwidth || s->opts.switchover_ack) &&
	    (s->pause_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) < 0)
		r = error_errno(err, -errno, "timerfd");
	log_counts_init(&s->log_counts);
	s->log = (struct log) { s->opts.log, s->opts.log_opaque, &s->log_counts };
	if (r == 0)
		r = handover_init(&s->handover, HANDOVER_SOURCE, link, NULL, s->opts.retry_for_ns, &s->log, err);
	if (r < 0) {
		vfmig_save_free(s);
		return r;
	}
	strcpy(s->machine, machine);
	s->return_path_open = link->two_way && !s->opts.no_return_path;
	s->converge = (struct converge) {
		.downtime_limit_ns = s->opts.downtime_limit_ns ? s->opts.downtime_limit_ns : DEFAULT_DOWNTIME_NS,
		.max_bandwidth = s->opts.max_bandwidth,
		.timeout_ns = s->opts.precopy_timeout_ns,
	};
	*ret_save = s;
	return 0;
}

static int cancel(struct vfmig_save *s, struct vfmig_error *err);

void vfmig_save_free(struct vfmig_save *save)
{
	if (!save)
		return;
	struct vfmig_error ignored;
	if (save->stage != DONE && !save->failed && save->writer && !save->taken_back && !may_run_there(save)) {
		(void)cancel(save, &ignored);
		if (!save->taken_back)
			(void)save_take_back(save, &ignored);
	}
	participants_cleanup(&save->participants);
	participants_clear(&save->participants);
	description_clear(&save->description);
	writer_free(save->writer);
	outlets_free(save->outlets);
	read_ahead_free(save->ahead);
	handover_clear(&save->handover);
	if (save->cancel_fd >= 0)
		close(save->cancel_fd);
	if (save->pause_fd >= 0)
		close(save->pause_fd);
	free(save);
}

static int check_add(const struct vfmig_save *save, const char *id, struct vfmig_error *err)
{
	if (!id[0])
		return error_set(err, -EINVAL, "a section id of no bytes");
	if (save->stage != HEADER)
		return error_set(err, -EBUSY, "participants are added before the first step");
	return 0;
}

int vfmig_save_add_device(struct vfmig_save *save, struct vfmig_device *device, const char *id, struct vfmig_error *err)
{
	int r = check_add(save, id, err);
	return r < 0 ? r : vfio_save_add(&save->participants, device, id, &save->opts, save->ahead, &save->log, err);
}

int vfmig_save_add_participant(struct vfmig_save *save, const struct vfmig_participant_ops *ops, void *opaque,
			       const char *id, uint32_t instance_id, uint32_t version_id, struct vfmig_error *err)
{
	struct participant *added;
	int r = check_add(save, id, err);
	return r < 0 ? r : participants_add(&save->participants, ops, opaque, id, instance_id, version_id, &added, err);
}

int vfmig_save_add_memory(struct vfmig_save *save, struct vfmig_memory *memory, struct vfmig_error *err)
{
	int r = check_add(save, MEMORY_ID, err);
	if (r == 0)
		r = memory_save_add(&save->participants, memory, save->opts.no_precopy, &save->log, err);
	if (r == 0)
		save->memory = memory;
	return r;
}

/* ---------------------------------------------------------------- driving */

static bool none_is_stopped(const struct vfmig_save *s)
{
	struct vfmig_error ignored;
	for (size_t i = 0; i < s->participants.count; i++) {
		struct protocol *p = (struct protocol *)s->participants.list[i].protocol;
		enum vfmig_state now;
		if (p && (p->ops->get_state(p, &now, &ignored) < 0 || now == VFMIG_STATE_STOP))
			return false;
	}
	return true;
}

static int fail(struct vfmig_save *s, int code, struct vfmig_error *err)
{
	struct vfmig_error trouble = { 0 };
	char cause[sizeof(trouble.message)] = "";
	s->failed = code;
	phase_enter(&s->status, "save", atomic_load(&s->cancelled) ? VFMIG_PHASE_CANCELLED : VFMIG_PHASE_FAILED);
	if (s->taken_back)
		return code;
	s->ended_ns = clock_now_ns();
	if (!s->claimed) { /* nothing was touched, and why a device is stopped is not known */
		participants_cleanup(&s->participants);
		s->status.source_may_run = !s->not_ours && none_is_stopped(s);
		return code;
	}
	if (err) {
		err->code = code;
		memcpy(cause, err->message, sizeof(cause));
	}
	s->refused |= s->link->taken_by_nobody;
	s->status.outcome_unknown = may_run_there(s);
	if (s->status.outcome_unknown) {
		link_leave_alone(s->link);
		participants_cleanup(&s->participants);
		if (s->handover.state != HANDOVER_NONE)
			return code;
		return error_set(err, code,
				 "%s; the end of the stream was sent, so the other side may have the state: the source "
				 "stays stopped",
				 cause);
	}
	if (save_take_back(s, &trouble) < 0)
		return error_set(err, code, "%s; %s", cause, trouble.message);
	return code;
}

/* The channels: -EAGAIN while the stage has to wait for them. */
static int pump(struct vfmig_save *s, struct vfmig_error *err)
{
	bool waits = s->stage >= COMPLETE && s->stage <= FINISH;
	int r = s->outlets ? outlets_pump(s->outlets, s->stage == FINISH, err) : 0;
	return r == -EAGAIN && !waits ? 0 : r;
}

/* -ECANCELED. Once all of the stream is out, another vfmig is told: it may be prepared, and asks. */
static int cancel(struct vfmig_save *s, struct vfmig_error *err)
{
	struct handover *h = &s->handover;
	struct vfmig_error trouble, ignored;
	if (s->stage != CONFIRM || h->state == HANDOVER_NONE || writer_sent(s->writer) < writer_offset(s->writer))
		return error_set(err, -ECANCELED, "cancelled");
	if (s->taken_back)
		return error_set(err, -ECANCELED, "%s", h->cause.message);
	int r = handover_cancel(h, err);
	if (r == 0)
		return error_set(err, -ECANCELED,
				 "cancelled when it was decided that the other side has the device: the source stays "
				 "stopped (vfmig status, vfmig resolve %s)", h->session);
	if (r < 0)
		return r;
	r = save_take_back(s, &trouble);
	(void)handover_step(h, &ignored);
	return error_set(err, -ECANCELED, r < 0 ? "cancelled; %s" : "cancelled", trouble.message);
}

/* Sends what is queued. When a connection broke, the other side may have said why before it went. */
static int flush(struct vfmig_save *s, struct vfmig_error *err)
{
	struct vfmig_error other;
	short answers = s->return_path_open ? POLLIN : 0;
	int r = writer_flush(s->writer, err);
	s->wait_events = (r == -EAGAIN || !s->outlets ? POLLOUT : 0) | answers;
	if (r == 0 || r == -EAGAIN) {
		int channels = pump(s, err);
		r = channels < 0 ? channels : r;
	}
	if (r == 0 || r == -EAGAIN)
		return r;
	if (s->return_path_open && save_listen(s, &other) == -ECONNABORTED) {
		if (err)
			*err = other;
		return other.code;
	}
	return r;
}

/* Keeps pre-copy to max_bandwidth, and from sending nothing over and over: -EAGAIN while it has to pause. */
static int pause_sending(struct vfmig_save *s, struct vfmig_error *err)
{
	bool precopy = s->stage == ITERATE || s->stage == DECIDE;
	uint64_t now_ns = clock_now_ns();
	uint64_t ns = precopy ? converge_pause_ns(&s->converge, now_ns, writer_offset(s->writer)) : 0;
	if (precopy && s->ack_pause_ns > now_ns)
		ns = max_u64(ns, s->ack_pause_ns - now_ns);
	s->pausing = ns > 0;
	if (!ns)
		return 0;
	struct itimerspec timer = { .it_value = { (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) } };
	return timerfd_settime(s->pause_fd, 0, &timer, NULL) < 0 ? error_errno(err, -errno, "timerfd") : -EAGAIN;
}

/* -EAGAIN while what is under way has to arrive before a round makes sense. */
static int wait_answer(struct vfmig_save *s)
{
	s->draining = s->draining && s->converge.open;
	if (s->draining)
		s->wait_events = POLLIN;
	return s->draining ? -EAGAIN : 0;
}

static int step(struct vfmig_save *s, struct vfmig_error *err)
{
	int r = 0;
	s->pausing = false;
	if (atomic_load(&s->cancelled) && s->handover.state != HANDOVER_DONE)
		r = cancel(s, err);
	/* A refusal ends a save at once, not when the link has filled up or never again takes anything. */
	if (r == 0 && s->return_path_open && s->stage != CONFIRM && (r = save_listen(s, err)) == -EAGAIN)
		r = 0;
	if (r == 0)
		r = flush(s, err);
	if (r == 0)
		r = pause_sending(s, err);
	if (r == 0)
		r = wait_answer(s);
	if (r == 0 && s->stage > STOP_PREPARE && s->stage <= CONFIRM)
		downtime_enter(&s->downtime, VFMIG_DOWNTIME_STOP_PREPARE + (s->stage - STOP_PREPARE));
	if (r == 0)
		r = s->stage == CONFIRM ? save_confirm(s, err) :
		    s->stage == GREET	? save_greet(s, err) :
					  error_not_again(save_work(s, err));
	s->status.total_bytes = save_bytes(s);
	s->status.compressed_bytes = s->link->packed_bytes + (s->outlets ? outlets_packed_bytes(s->outlets) : 0);
	if (r == -EAGAIN)
		return s->link->buffered ? VFMIG_STEP_AGAIN : VFMIG_STEP_WAIT;
	if (r < 0)
		return fail(s, r, err);
	return s->stage == DONE ? VFMIG_STEP_DONE : VFMIG_STEP_AGAIN;
}

static uint64_t bytes_sent(const struct vfmig_save *s)
{
	return writer_sent(s->writer) + (s->outlets ? outlets_sent(s->outlets) : 0);
}

int vfmig_save_step(struct vfmig_save *s, struct vfmig_error *err)
{
	if (s->stage == DONE)
		return VFMIG_STEP_DONE;
	if (s->failed)
		return error_set(err, s->failed, "the save has failed already");
	if (s->stage == HEADER && s->participants.count == 0)
		return error_set(err, -EINVAL, "nothing to save: no device was added");
	if (err)
		*err = (struct vfmig_error) { 0 };
	for (;;) {
		uint64_t before = bytes_sent(s);
		int r = step(s, err);
		if (r == VFMIG_STEP_WAIT && !s->pausing && bytes_sent(s) != before)
			r = VFMIG_STEP_AGAIN; /* there may be room again */
		if (r != VFMIG_STEP_WAIT || s->pausing)
			spin_found(&s->spin);
		else if (spin_again(&s->spin))
			continue;
		if (r < 0 || r == VFMIG_STEP_DONE)
			log_rest(&s->log);
		return r;
	}
}

int vfmig_save_wait(struct vfmig_save *save, short *ret_events)
{
	bool all_sent = writer_sent(save->writer) == writer_offset(save->writer);
	if (save->stage == CONFIRM && save->handover.state != HANDOVER_NONE && all_sent)
		return handover_wait(&save->handover, ret_events);
	if (save->outlets && !save->pausing && save->stage != CONFIRM) {
		*ret_events = POLLIN;
		return outlets_wait(save->outlets, save->wait_events);
	}
	*ret_events = save->pausing ? POLLIN : link_events(save->link, save->wait_events);
	return save->pausing ? save->pause_fd : save->link->wait_fd;
}

int vfmig_save_run(struct vfmig_save *save, struct vfmig_error *err)
{
	for (;;) {
		int r = vfmig_save_step(save, err);
		if (r < 0 || r == VFMIG_STEP_DONE)
			return r < 0 ? r : 0;
		if (r == VFMIG_STEP_AGAIN)
			continue;
		struct pollfd fds[2] = { { .fd = -1 }, { .fd = save->cancel_fd, .events = POLLIN } };
		fds[0].fd = vfmig_save_wait(save, &fds[0].events);
		(void)poll(fds, 2, -1);
	}
}

void vfmig_save_cancel(struct vfmig_save *save)
{
	uint64_t one = 1;
	atomic_store(&save->cancelled, true);
	(void)!write(save->cancel_fd, &one, sizeof(one));
}

void vfmig_save_status(const struct vfmig_save *save, struct vfmig_status *ret_status)
{
	uint64_t now = save->ended_ns ? save->ended_ns : clock_now_ns();
	*ret_status = save->status;
	if (save->memory)
		memory_status(save->memory, ret_status);
	if (save->started_ns)
		ret_status->elapsed_ns = now - save->started_ns;
	downtime_status(&save->downtime, now, ret_status);
}
