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
 *   SETUP         each participant: START section (save_setup)
 *   ITERATE       each participant in turn: PART section (save_live_iterate)
 *   DECIDE        after each round: converge.c tells whether to go on
 *   STOP_PREPARE  all participants   } from here on the downtime runs;
 *   STOP          all participants   } devices at the same time (together.c)
 *   COMPLETE      each participant: END section (save_live_complete_precopy)
 *   SETTLE        all devices: out of stop-and-copy
 *   STATE         each participant: FULL section (save_state)
 *   FINISH        EOF, description, seal
 *   CONFIRM       one-way link: made to last; two-way: wait for SHUT
 *
 * Until the first byte of FINISH is offered to the link the other side cannot
 * have all of the state: a failure or cancel takes everything back and the
 * source may run. After that only the other side's refusal does; a lost link
 * leaves the source stopped, because the other side may be running.
 */
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/options.h"
#include "migrate/handlers.h"
#include "migrate/return_path.h"
#include "migrate/together.h"
#include "stream/writer.h"

#define DEFAULT_MACHINE "pc-q35-7.2"
#define DEFAULT_DOWNTIME_NS (300 * NS_PER_MS)
#define RETURN_MESSAGES 16u /* read in one step */
#define PING_VALUE 1u	    /* as QEMU's first ping */

enum stage {
	HEADER,
	SETUP,
	ITERATE,
	DECIDE,
	STOP_PREPARE,
	STOP,
	COMPLETE,
	SETTLE,
	STATE,
	FINISH,
	CONFIRM,
	DONE,
};

struct vfmig_save {
	struct vfmig_link *link;
	struct vfmig_writer *writer;
	struct vfmig_save_options opts;
	char machine[256];
	struct log log;
	struct participants participants;
	struct description description;
	struct return_path return_path;
	bool return_path_open;

	enum stage stage;
	size_t at;	      /* the participant whose turn it is */
	bool in_section;      /* its section's header is written */
	bool body_done;	      /* ... and the body, but the footer has to wait for a flush */
	int body_result;      /* what its handler said then */
	uint64_t body_offset; /* of that section's body */
	bool round_done;      /* every participant of this round had nothing left */
	bool decide_exact;
	uint32_t sections;	/* section ids that were given */
	struct converge converge;
	struct converge_pending pending;
	int pause_fd; /* timerfd: while sending pauses for max_bandwidth; -1: never */
	bool pausing;
	uint64_t finish_offset; /* in the stream, of what only FINISH puts; 0: not there yet */
	bool refused;		/* the other side said that it will not run */
	short wait_events;
	int failed; /* the errno it ended with */

	_Atomic bool cancelled;
	int cancel_fd; /* eventfd: wakes vfmig_save_run */

	struct vfmig_status status;
	uint64_t started_ns, stopped_ns, ended_ns;
};

/* May the other side have all of the state? Then only its refusal lets the source run. */
static bool end_sent(const struct vfmig_save *s)
{
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
	if (r == 0 && (s->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
		r = error_errno(err, -errno, "eventfd");
	if (r == 0 && s->opts.max_bandwidth &&
	    (s->pause_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) < 0)
		r = error_errno(err, -errno, "timerfd");
	if (r < 0) {
		vfmig_save_free(s);
		return r;
	}
	strcpy(s->machine, machine);
	s->return_path_open = link->two_way && !s->opts.no_return_path;
	s->log = (struct log) { s->opts.log, s->opts.log_opaque };
	s->converge = (struct converge) {
		.downtime_limit_ns = s->opts.downtime_limit_ns ? s->opts.downtime_limit_ns : DEFAULT_DOWNTIME_NS,
		.max_bandwidth = s->opts.max_bandwidth,
		.timeout_ns = s->opts.precopy_timeout_ns,
	};
	*ret_save = s;
	return 0;
}

void vfmig_save_free(struct vfmig_save *save)
{
	if (!save)
		return;
	struct vfmig_error ignored;
	if (save->stage != DONE && !save->failed && save->writer && !end_sent(save))
		participants_undo(&save->participants, &ignored);
	participants_cleanup(&save->participants);
	participants_clear(&save->participants);
	description_clear(&save->description);
	writer_free(save->writer);
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
	return r < 0 ? r : vfio_save_add(&save->participants, device, id, save->opts.no_precopy, &save->log, err);
}

int vfmig_save_add_participant(struct vfmig_save *save, const struct vfmig_participant_ops *ops, void *opaque,
			       const char *id, uint32_t instance_id, uint32_t version_id, struct vfmig_error *err)
{
	struct participant *added;
	int r = check_add(save, id, err);
	return r < 0 ? r : participants_add(&save->participants, ops, opaque, id, instance_id, version_id, &added, err);
}

/* ------------------------------------------------------------- the stages */

static void enter(struct vfmig_save *s, enum stage stage)
{
	s->stage = stage;
	s->at = 0;
}

/* The handler of the participant whose turn it is writes (more of) its section. */
typedef int section_fn(void *opaque, struct vfmig_writer *w, struct vfmig_error *err);

static int run_section(struct vfmig_save *s, char kind, section_fn *fn, struct vfmig_error *err)
{
	struct participant *p = &s->participants.list[s->at];
	if (p->section_id == 0) /* the first section's is the mark, whoever's it is */
		p->section_id = WIRE_VFMIG_SECTION_ID + s->sections++;
	if (!s->in_section) {
		writer_section_begin(s->writer, kind, p->section_id, p->id, p->instance_id, p->version_id);
		s->body_offset = writer_offset(s->writer);
		s->in_section = true;
	}
	int r = s->body_done ? s->body_result : fn(p->opaque, s->writer, err);
	if (r < 0 || r == VFMIG_SECTION_MORE)
		return r;
	s->body_result = r;
	s->body_done = writer_holds_ref(s->writer);
	if (s->body_done)
		return VFMIG_SECTION_MORE;
	if (kind == 'F')
		s->description.devices[s->at].full_bytes = writer_offset(s->writer) - s->body_offset;
	writer_section_end(s->writer, p->section_id);
	s->in_section = false;
	return r;
}

static int do_header(struct vfmig_save *s, struct vfmig_error *err)
{
	int r = participants_check_p2p(&s->participants, err);
	if (r < 0)
		return r;
	s->description.devices = calloc(s->participants.count + 1, sizeof(*s->description.devices));
	if (!s->description.devices)
		return error_errno(err, -ENOMEM, "description");
	s->started_ns = clock_now_ns();
	writer_header(s->writer, s->machine);
	if (s->return_path_open) {
		uint8_t ping[4];
		put_be32(ping, PING_VALUE);
		writer_command(s->writer, WIRE_COMMAND_OPEN_RETURN_PATH, NULL, 0);
		writer_command(s->writer, WIRE_COMMAND_PING, ping, sizeof(ping));
	}
	enter(s, SETUP);
	return 0;
}

static int do_setup(struct vfmig_save *s, struct vfmig_error *err)
{
	struct participant *p = &s->participants.list[s->at];
	int r = 0;
	p->begun = true;
	if (p->ops.save_setup)
		r = run_section(s, 'S', p->ops.save_setup, err);
	if (r < 0 || r == VFMIG_SECTION_MORE)
		return r;
	s->status.setup_bytes = writer_offset(s->writer);
	if (++s->at < s->participants.count)
		return 0;
	enter(s, s->opts.no_precopy ? STOP_PREPARE : ITERATE);
	s->status.phase = VFMIG_PHASE_PRECOPY;
	converge_start(&s->converge, clock_now_ns(), writer_offset(s->writer));
	s->round_done = true;
	return 0;
}

static int do_iterate(struct vfmig_save *s, struct vfmig_error *err)
{
	struct participant *p = &s->participants.list[s->at];
	if (p->ops.save_live_iterate) {
		int r = run_section(s, 'P', p->ops.save_live_iterate, err);
		if (r < 0 || r == VFMIG_SECTION_MORE)
			return r;
		s->status.rounds++;
		if (r != VFMIG_ALL_DONE)
			s->round_done = false;
	}
	if (++s->at == s->participants.count) {
		enter(s, DECIDE);
		s->decide_exact = s->round_done; /* the last look: what the downtime will be */
	}
	return 0;
}

/* Asks for what is left; what that means for the downtime goes into the status. */
static int sum_pending(struct vfmig_save *s, bool exact, struct vfmig_error *err)
{
	s->pending = (struct converge_pending) { .exact = exact, .nothing_to_send = s->round_done };
	int r = participants_pending(&s->participants, exact, &s->pending, err);
	if (r < 0)
		return r;
	uint64_t ns = converge_downtime_ns(&s->converge, &s->pending);
	s->status.pending_bytes = s->pending.bytes;
	s->status.bandwidth_bytes_per_s = s->converge.bandwidth;
	s->status.expected_downtime_ns = ns == UINT64_MAX ? 0 : ns;
	return 0;
}

/* The limit cannot be kept, and more pre-copy would not help. */
static void tell_switch(const struct vfmig_save *s)
{
	uint64_t ns = s->status.expected_downtime_ns, limit_ns = s->converge.downtime_limit_ns;
	if (ns > limit_ns)
		log_line(&s->log, VFMIG_LOG_WARNING,
			 "the device is stopped for about %.1f ms, longer than the limit of %.1f ms",
			 (double)ns / (double)NS_PER_MS, (double)limit_ns / (double)NS_PER_MS);
}

/* The caller says what is to be done; without a word from it the device is not stopped for longer than it allowed. */
static int timed_out(struct vfmig_save *s, enum stage *ret_next, struct vfmig_error *err)
{
	enum vfmig_timeout_action action = VFMIG_TIMEOUT_GIVE_UP;
	struct vfmig_status status;
	vfmig_save_status(s, &status);
	if (s->opts.precopy_timeout)
		action = s->opts.precopy_timeout(s->opts.precopy_timeout_opaque, &status);
	if (action == VFMIG_TIMEOUT_GIVE_UP)
		return error_set(err, -ETIME,
				 "pre-copy did not converge in %llu ms: %llu bytes are pending at %llu bytes/s, a "
				 "downtime of %.1f ms, and the limit is %.1f ms",
				 (unsigned long long)(s->opts.precopy_timeout_ns / NS_PER_MS),
				 (unsigned long long)s->pending.bytes, (unsigned long long)s->converge.bandwidth,
				 (double)status.expected_downtime_ns / (double)NS_PER_MS,
				 (double)s->converge.downtime_limit_ns / (double)NS_PER_MS);
	*ret_next = action == VFMIG_TIMEOUT_SWITCH ? STOP_PREPARE : ITERATE;
	converge_extend(&s->converge, clock_now_ns());
	return 0;
}

static int do_decide(struct vfmig_save *s, struct vfmig_error *err)
{
	enum stage next = ITERATE;
	uint64_t now_ns = clock_now_ns();
	converge_measure(&s->converge, now_ns, writer_offset(s->writer));
	int r = sum_pending(s, s->decide_exact, err);
	if (r < 0)
		return r;
	switch (converge_decide(&s->converge, now_ns, &s->pending)) {
	case CONVERGE_LOOK_CLOSER:
		s->decide_exact = true;
		return 0;
	case CONVERGE_TIMED_OUT:
		r = timed_out(s, &next, err);
		break;
	case CONVERGE_SWITCH:
		next = STOP_PREPARE;
		break;
	case CONVERGE_GO_ON:
		break;
	}
	if (r < 0)
		return r;
	if (next == STOP_PREPARE)
		tell_switch(s);
	enter(s, next);
	s->round_done = true;
	return 0;
}

static int do_stop(struct vfmig_save *s, enum together_phase phase, enum stage next, struct vfmig_error *err)
{
	if (s->stage == STOP_PREPARE) {
		s->stopped_ns = clock_now_ns();
		s->status.precopy_bytes = writer_offset(s->writer) - s->status.setup_bytes;
		s->status.phase = VFMIG_PHASE_STOP_COPY;
	}
	int r = participants_together(&s->participants, phase, err);
	if (r == 0)
		enter(s, next);
	return r;
}

static int do_last_sections(struct vfmig_save *s, struct vfmig_error *err)
{
	struct participant *p = &s->participants.list[s->at];
	bool state = s->stage == STATE;
	section_fn *fn = state ? p->ops.save_state : p->ops.save_live_complete_precopy;
	int r = fn ? run_section(s, state ? 'F' : 'E', fn, err) : 0;
	if (r < 0 || r == VFMIG_SECTION_MORE)
		return r;
	if (++s->at == s->participants.count)
		enter(s, state ? FINISH : SETTLE);
	return 0;
}

static int do_finish(struct vfmig_save *s, struct vfmig_error *err)
{
	struct description *d = &s->description;
	s->finish_offset = writer_offset(s->writer);
	d->version = WIRE_VFMIG_DESCRIPTION_VERSION;
	snprintf(d->machine, sizeof(d->machine), "%s", s->machine);
	d->num_devices = s->participants.count;
	for (size_t i = 0; i < s->participants.count; i++) {
		const struct participant *p = &s->participants.list[i];
		snprintf(d->devices[i].id, sizeof(d->devices[i].id), "%s", p->id);
		d->devices[i].instance_id = p->instance_id;
		if (p->describe)
			p->describe(p->opaque, &d->devices[i]);
	}
	int r = writer_finish(s->writer, d, err);
	if (r < 0)
		return r;
	s->status.stop_copy_bytes = writer_offset(s->writer) - s->status.setup_bytes - s->status.precopy_bytes;
	s->status.phase = VFMIG_PHASE_COMPLETING;
	enter(s, CONFIRM);
	return 0;
}

/* The return path may speak at any time; 1: it said SHUT, loaded. */
static int listen_return_path(struct vfmig_save *s, struct vfmig_error *err)
{
	for (unsigned n = 0;; n++) {
		uint16_t type;
		uint32_t value;
		/* A side that floods this one with messages gets its turn again at the next step. */
		int r = n < RETURN_MESSAGES ? return_path_read(&s->return_path, s->link, &type, &value, err) : -EAGAIN;
		if (r < 0)
			return r;
		if (r == 0)
			return error_set(
			    err, -ECONNRESET,
			    "%s: the other side closed the connection before it said that the state is loaded",
			    s->link->name);
		if (type != WIRE_RETURN_SHUT)
			continue;
		if (value == 0 && s->stage == CONFIRM)
			return 1;
		s->refused = true;
		return error_set(
		    err, -ECONNABORTED,
		    "%s: the other side refused the stream (return path SHUT %u); its own message says why",
		    s->link->name, value);
	}
}

static int do_confirm(struct vfmig_save *s, struct vfmig_error *err)
{
	int r;
	if (s->return_path_open) {
		s->wait_events = POLLIN;
		r = listen_return_path(s, err);
		if (r <= 0)
			return r;
	} else {
		r = link_finish(s->link, err);
		if (r < 0)
			return r;
	}
	participants_cleanup(&s->participants);
	s->ended_ns = clock_now_ns();
	s->status.phase = VFMIG_PHASE_DONE;
	enter(s, DONE);
	return 0;
}

/* ---------------------------------------------------------------- driving */

static int fail(struct vfmig_save *s, int code, struct vfmig_error *err)
{
	struct vfmig_error trouble = { 0 };
	char cause[sizeof(trouble.message)] = "";
	s->failed = code;
	s->status.phase = atomic_load(&s->cancelled) ? VFMIG_PHASE_CANCELLED : VFMIG_PHASE_FAILED;
	s->ended_ns = clock_now_ns();
	if (err) {
		err->code = code;
		memcpy(cause, err->message, sizeof(cause));
	}
	s->refused |= s->link->taken_by_nobody;
	if (end_sent(s)) {
		participants_cleanup(&s->participants);
		return error_set(err, code,
				 "%s; the end of the stream was sent, so the other side may have the state: the source "
				 "stays stopped",
				 cause);
	}
	s->status.source_may_run = participants_undo(&s->participants, &trouble);
	if (!s->status.source_may_run)
		return error_set(err, code, "%s; %s", cause, trouble.message);
	return code;
}

/* Sends what is queued. When the link broke, the other side may have said why before it went. */
static int flush(struct vfmig_save *s, struct vfmig_error *err)
{
	struct vfmig_error other;
	s->wait_events = s->return_path_open ? POLLOUT | POLLIN : POLLOUT;
	int r = writer_flush(s->writer, err);
	if (r == 0 || r == -EAGAIN)
		return r;
	if (s->return_path_open && listen_return_path(s, &other) == -ECONNABORTED) {
		if (err)
			*err = other;
		return other.code;
	}
	return r;
}

/* Keeps pre-copy to max_bandwidth: -EAGAIN while it has to pause. */
static int pause_sending(struct vfmig_save *s, struct vfmig_error *err)
{
	bool precopy = s->stage == ITERATE || s->stage == DECIDE;
	uint64_t ns = precopy ? converge_pause_ns(&s->converge, clock_now_ns(), writer_offset(s->writer)) : 0;
	s->pausing = ns > 0;
	if (!ns)
		return 0;
	struct itimerspec timer = { .it_value = { (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) } };
	return timerfd_settime(s->pause_fd, 0, &timer, NULL) < 0 ? error_errno(err, -errno, "timerfd") : -EAGAIN;
}

static int work(struct vfmig_save *s, struct vfmig_error *err)
{
	switch (s->stage) {
	case HEADER:
		return do_header(s, err);
	case SETUP:
		return do_setup(s, err);
	case ITERATE:
		return do_iterate(s, err);
	case DECIDE:
		return do_decide(s, err);
	case STOP_PREPARE:
		return do_stop(s, TOGETHER_STOP_PREPARE, STOP, err);
	case STOP:
		return do_stop(s, TOGETHER_STOP, COMPLETE, err);
	case SETTLE:
		return do_stop(s, TOGETHER_SETTLE, STATE, err);
	case COMPLETE:
	case STATE:
		return do_last_sections(s, err);
	case FINISH:
		return do_finish(s, err);
	case CONFIRM: /* waits for the link: not here */
	case DONE:
		break;
	}
	return 0;
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
	int r = 0;
	s->pausing = false;
	if (atomic_load(&s->cancelled))
		r = error_set(err, -ECANCELED, "cancelled");
	/* A refusal ends a save at once, not when the link has filled up or never again takes anything. */
	if (r == 0 && s->return_path_open && s->stage != CONFIRM && (r = listen_return_path(s, err)) == -EAGAIN)
		r = 0;
	if (r == 0)
		r = flush(s, err);
	if (r == 0)
		r = pause_sending(s, err);
	if (r == 0)
		r = s->stage == CONFIRM ? do_confirm(s, err) : error_not_again(work(s, err));
	s->status.total_bytes = writer_offset(s->writer);
	if (r == -EAGAIN)
		return VFMIG_STEP_WAIT;
	if (r < 0)
		return fail(s, r, err);
	return s->stage == DONE ? VFMIG_STEP_DONE : VFMIG_STEP_AGAIN;
}

int vfmig_save_wait(struct vfmig_save *save, short *ret_events)
{
	*ret_events = save->pausing ? POLLIN : save->wait_events;
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
	if (save->started_ns)
		ret_status->elapsed_ns = now - save->started_ns;
	if (save->stopped_ns)
		ret_status->downtime_ns = now - save->stopped_ns;
}
