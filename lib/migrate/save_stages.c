/* SPDX-License-Identifier: BSD-3-Clause */
/* save_stages.c: the work of each stage of a save; save.c tells what they are. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "migrate/phases.h"
#include "migrate/save_impl.h"
#include "migrate/together.h"

#define RETURN_MESSAGES 16u /* read in one step */
#define ACK_PAUSE_NS (2 * NS_PER_MS) /* between two looks for the switchover ack, with nothing to send */
#define LAG_PING 0x6c616721u /* asks how long the way to the other side is: "lag!" */

/* Who takes the stream, as far as it is known: what the journal says of it. */
static enum journal_peer save_peer(const struct vfmig_save *s)
{
	const struct handover *h = &s->handover;
	const char *uri = s->link->name;
	if (handover_recognised(h))
		return JOURNAL_PEER_VFMIG;
	if (h->foreign)
		return JOURNAL_PEER_QEMU;
	if (strncmp(uri, "file:", 5) == 0)
		return JOURNAL_PEER_FILE;
	bool known = strncmp(uri, "exec:", 5) == 0 || strncmp(uri, "unix:", 5) == 0 || strncmp(uri, "tcp:", 4) == 0;
	return known && !s->return_path_open ? JOURNAL_PEER_ONE_WAY : JOURNAL_PEER_UNKNOWN;
}

static void enter(struct vfmig_save *s, enum save_stage stage)
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
		p->section_id = (s->opts.no_digest ? WIRE_VFMIG_PLAIN_ID : WIRE_VFMIG_SECTION_ID) + s->sections++;
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

uint64_t save_bytes(const struct vfmig_save *s)
{
	return writer_offset(s->writer) + (s->outlets ? outlets_bytes(s->outlets) : 0);
}

/* Transactions of a v1 device can be larger than a packet, and no QEMU with channels has such a device. */
static void set_outlets(struct vfmig_save *s)
{
	for (size_t i = 0; i < s->participants.count; i++) {
		struct participant *p = &s->participants.list[i];
		if (p->protocol && strcmp(p->protocol->ops->name, "v2") == 0)
			p->set_outlets(p->opaque, s->outlets, p->id);
		else if (p->protocol)
			log_line(&s->log, VFMIG_LOG_INFO,
				 "%s: speaks %s, so its state does not go over the channels", p->name,
				 p->protocol->ops->name);
	}
}

static bool are_stopped(const struct participants *p)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->list[i].protocol && p->list[i].protocol->state != VFMIG_STATE_STOP)
			return false;
	return true;
}

/* -errno: another session has one of the devices, or gave it away. */
static int claim_devices(struct vfmig_save *s, struct vfmig_error *err)
{
	struct ledger_claim claim = { .dir = s->opts.journal, .side = HANDOVER_SOURCE, .session = s->handover.session,
				      .consent = s->opts.again, .peer = save_peer(s), .link = s->link,
				      .participants = &s->participants, .log = &s->log };
	if (!s->opts.journal && s->opts.again)
		return error_set(err, -EINVAL,
				 "consent to save session %s again, without a journal that says what it was",
				 s->opts.again);
	if (!s->opts.journal)
		return 0;
	int r = ledger_claim(&claim, &s->handover.journal, err);
	s->not_ours = r == -EPERM || r == -EBUSY;
	if (r == 0)
		memcpy(s->status.session, s->handover.session, sizeof(s->handover.session));
	s->held = r == 0 && are_stopped(&s->participants);
	return r;
}

static int note(struct vfmig_save *s, enum handover_state state, struct vfmig_error *err)
{
	const struct journal_line line = { .peer = save_peer(s), .held = s->held };
	return s->handover.journal ? journal_write(s->handover.journal, state, &line, err) : 0;
}

static int do_header(struct vfmig_save *s, struct vfmig_error *err)
{
	int r = participants_check_p2p(&s->participants, err);
	if (r == 0)
		r = claim_devices(s, err);
	if (r < 0)
		return r;
	s->claimed = true;
	s->description.devices = calloc(s->participants.count + 1, sizeof(*s->description.devices));
	if (!s->description.devices)
		return error_errno(err, -ENOMEM, "description");
	if (s->outlets)
		set_outlets(s);
	for (size_t i = 0; s->opts.switchover_ack && i < s->participants.count; i++)
		if (s->participants.list[i].set_initial)
			s->participants.list[i].set_initial(s->participants.list[i].opaque, &s->initial);
	phase_enter(&s->status, "save", VFMIG_PHASE_SETUP);
	s->started_ns = clock_now_ns();
	writer_header(s->writer, s->machine);
	if (s->return_path_open) {
		writer_command(s->writer, WIRE_COMMAND_OPEN_RETURN_PATH, NULL, 0);
		for (unsigned i = 0; i < HANDOVER_HELLO; i++) {
			uint8_t ping[4];
			put_be32(ping, handover_hello(&s->handover, i));
			writer_command(s->writer, WIRE_COMMAND_PING, ping, sizeof(ping));
		}
	}
	enter(s, s->return_path_open ? GREET : SETUP);
	return 0;
}

/* No device is touched before the other side has answered, and what it is is known. */
int save_greet(struct vfmig_save *s, struct vfmig_error *err)
{
	struct handover *h = &s->handover;
	uint8_t ping[4];
	(void)err;
	s->wait_events = POLLIN;
	if (!handover_greeted(h))
		return -EAGAIN;
	s->converge.round_trip_ns = clock_now_ns() - s->started_ns;
	if (handover_recognised(h)) {
		memcpy(s->status.session, h->session, sizeof(h->session));
		s->converge.agrees = true;
		put_be32(ping, h->journal ? WIRE_HANDOVER_JOURNAL : WIRE_HANDOVER_NO_JOURNAL);
		writer_command(s->writer, WIRE_COMMAND_PING, ping, sizeof(ping));
	} else if (h->journal) {
		log_line(
		    &s->log, VFMIG_LOG_INFO,
		    "%s: the other side is QEMU, which runs the devices before it says so: once the end is sent, only "
		    "it or a person knows where they are",
		    s->link->name);
	}
	enter(s, SETUP);
	return 0;
}

static int do_setup(struct vfmig_save *s, struct vfmig_error *err)
{
	struct participant *p = &s->participants.list[s->at];
	int r = 0;
	if (s->at == 0 && !s->in_section && (r = note(s, HANDOVER_SAVING, err)) < 0)
		return r;
	p->begun = true;
	if (p->ops.save_setup)
		r = run_section(s, 'S', p->ops.save_setup, err);
	if (r < 0 || r == VFMIG_SECTION_MORE)
		return r;
	s->status.setup_bytes = save_bytes(s);
	if (++s->at < s->participants.count)
		return 0;
	enter(s, s->opts.no_precopy ? STOP_PREPARE : ITERATE);
	phase_enter(&s->status, "save", VFMIG_PHASE_PRECOPY);
	converge_start(&s->converge, clock_now_ns(), writer_offset(s->writer));
	s->round_done = s->devices_done = true;
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
		if (r != VFMIG_ALL_DONE) {
			s->round_done = false;
			s->devices_done &= !p->protocol;
		}
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
	s->pending = (struct converge_pending) { .exact = exact, .stays_unknown = s->devices_done };
	s->pending.ack_missing = s->initial.devices && !s->acked;
	int r = participants_pending(&s->participants, exact, &s->pending, err);
	if (r < 0)
		return r;
	s->pending.nothing_to_send = s->round_done && !s->pending.sendable;
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
static int timed_out(struct vfmig_save *s, enum save_stage *ret_next, struct vfmig_error *err)
{
	enum vfmig_timeout_action action = VFMIG_TIMEOUT_GIVE_UP;
	struct vfmig_status status;
	vfmig_save_status(s, &status);
	if (s->opts.precopy_timeout)
		action = s->opts.precopy_timeout(s->opts.precopy_timeout_opaque, &status);
	if (action == VFMIG_TIMEOUT_GIVE_UP && s->pending.ack_missing)
		return error_set(err, -ETIME,
				 "the other side has not acknowledged in %llu ms that it has the devices' initial "
				 "bytes (announced for %u of %u)",
				 (unsigned long long)(s->opts.precopy_timeout_ns / NS_PER_MS), s->initial.announced,
				 s->initial.devices);
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

static void measure(struct vfmig_save *s, uint64_t now_ns)
{
	uint8_t ping[4];
	converge_measure(&s->converge, now_ns, writer_offset(s->writer));
	if (!s->return_path_open || !converge_may_ask(&s->converge, now_ns))
		return;
	put_be32(ping, LAG_PING);
	writer_command(s->writer, WIRE_COMMAND_PING, ping, sizeof(ping));
	converge_ask(&s->converge, now_ns, writer_offset(s->writer));
}

static int do_decide(struct vfmig_save *s, struct vfmig_error *err)
{
	enum save_stage next = ITERATE;
	uint64_t now_ns = clock_now_ns();
	measure(s, now_ns);
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
	case CONVERGE_DRAIN:
		s->draining = true;
		break;
	case CONVERGE_GO_ON:
		if (s->pending.ack_missing && s->round_done)
			s->ack_pause_ns = now_ns + ACK_PAUSE_NS;
		break;
	}
	if (r < 0)
		return r;
	if (next == STOP_PREPARE)
		tell_switch(s);
	enter(s, next);
	s->round_done = s->devices_done = true;
	return 0;
}

static int do_stop(struct vfmig_save *s, enum together_phase phase, enum save_stage next, struct vfmig_error *err)
{
	int r = s->stage == STOP_PREPARE ? note(s, HANDOVER_STOPPED, err) : 0;
	if (r < 0)
		return r;
	if (s->stage == STOP_PREPARE) {
		downtime_start(&s->downtime, VFMIG_DOWNTIME_STOP_PREPARE);
		s->spin = (struct spin) { 0 }; /* what pre-copy was like says nothing of what comes now */
		s->status.precopy_bytes = save_bytes(s) - s->status.setup_bytes;
		phase_enter(&s->status, "save", VFMIG_PHASE_STOP_COPY);
	}
	r = participants_together(&s->participants, phase, err);
	if (r < 0)
		return r;
	if (next == COMPLETE && s->outlets)
		writer_command(s->writer, WIRE_COMMAND_SWITCHOVER_START, NULL, 0);
	enter(s, next);
	return 0;
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
	/* Whoever does not agree may run by what comes now. */
	int r = handover_recognised(&s->handover) ? 0 : note(s, HANDOVER_SENT, err);
	if (r == 0)
		r = writer_finish(s->writer, d, err);
	if (r < 0)
		return r;
	s->status.stop_copy_bytes = save_bytes(s) - s->status.setup_bytes - s->status.precopy_bytes;
	phase_enter(&s->status, "save", VFMIG_PHASE_COMPLETING);
	if (handover_recognised(&s->handover))
		handover_stopped(&s->handover);
	enter(s, CONFIRM);
	return 0;
}

int save_listen(struct vfmig_save *s, struct vfmig_error *err)
{
	for (unsigned n = 0;; n++) {
		uint16_t type;
		uint32_t value;
		/* A side that floods this one with messages gets its turn again at the next step. */
		struct return_path *path = &s->handover.from_destination;
		int r = n < RETURN_MESSAGES ? return_path_read(path, s->link, &type, &value, err) : -EAGAIN;
		if (r == -ECONNABORTED)
			s->refused = true;
		if (r < 0)
			return r;
		if (r == 0)
			return error_set(
			    err, -ECONNRESET,
			    "%s: the other side closed the connection before it said that the state is loaded",
			    s->link->name);
		s->acked |= type == WIRE_RETURN_SWITCHOVER_ACK;
		if (type == WIRE_RETURN_PONG && value == LAG_PING)
			converge_answer(&s->converge, clock_now_ns());
		if (type == WIRE_RETURN_PONG && (r = handover_pong(&s->handover, value, err)) < 0)
			return r;
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

/* Before the devices are: the journal must not say any more that somebody else may have them. */
static int note_taking_back(struct vfmig_save *s, struct vfmig_error *err)
{
	struct journal *j = s->handover.journal;
	enum handover_state now = j ? journal_state(j) : HANDOVER_SAVING;
	return now == HANDOVER_SAVING || now == HANDOVER_RUNS_ON ? 0 : journal_forget(j, HANDOVER_RUNS_ON, err);
}

static void note_taken_back(struct vfmig_save *s)
{
	const struct journal_line line = { .held = are_stopped(&s->participants), .told = s->handover.told };
	struct vfmig_error why;
	if (s->stage <= GREET) { /* no device was touched */
		journal_discard(s->handover.journal);
		s->handover.journal = NULL;
		s->status.session[0] = '\0';
	} else if (s->handover.journal && journal_write(s->handover.journal, HANDOVER_RUNS, &line, &why) < 0) {
		log_line(&s->log, VFMIG_LOG_WARNING, "%s", why.message);
	}
}

int save_take_back(struct vfmig_save *s, struct vfmig_error *err)
{
	s->taken_back = true;
	read_ahead_stop(s->ahead);
	int r = note_taking_back(s, err);
	if (r < 0) {
		participants_cleanup(&s->participants);
		return error_prefix(err, r,
				    "the devices stay stopped, as the journal may say that they were given away");
	}
	s->status.source_may_run = participants_undo(&s->participants, err);
	if (s->status.source_may_run)
		note_taken_back(s);
	return s->status.source_may_run ? 0 : err->code;
}

/* Between two vfmigs: until it is decided who runs the devices, and both know. As save_confirm. */
static int agree(struct vfmig_save *s, struct vfmig_error *err)
{
	struct handover *h = &s->handover;
	struct vfmig_error trouble;
	int r = handover_step(h, err);
	if (r == HANDOVER_STEP_TAKE_BACK) {
		if (save_take_back(s, &trouble) < 0)
			return error_set(err, h->cause.code, "%s; %s", h->cause.message, trouble.message);
		s->ended_ns = clock_now_ns(); /* of the downtime */
		return 0;
	}
	if (r == HANDOVER_STEP_OVER && h->state == HANDOVER_RUNS_ON && s->status.source_may_run && h->told)
		note_taken_back(s);
	if (r == HANDOVER_STEP_OVER && h->state != HANDOVER_DONE)
		return error_set(err, h->cause.code, "%s", h->cause.message);
	return r == HANDOVER_STEP_OVER ? 1 : r;
}

/* To a pipe whose other end nobody knows there is nothing to remember. */
static void note_given_away(struct vfmig_save *s)
{
	struct vfmig_error why;
	if (s->handover.journal && save_peer(s) == JOURNAL_PEER_UNKNOWN) {
		journal_discard(s->handover.journal);
		s->handover.journal = NULL;
	} else if (note(s, HANDOVER_DONE, &why) < 0) {
		log_line(&s->log, VFMIG_LOG_WARNING, "%s", why.message);
	}
}

int save_confirm(struct vfmig_save *s, struct vfmig_error *err)
{
	int r;
	if (handover_recognised(&s->handover) || s->handover.lost) {
		r = agree(s, err);
		if (r <= 0)
			return r;
	} else if (s->return_path_open) {
		s->wait_events = POLLIN;
		r = save_listen(s, err);
		if (r <= 0)
			return r;
	} else {
		s->wait_events = POLLOUT;
		r = link_finish(s->link, err);
		if (r < 0)
			return r;
	}
	if (!handover_recognised(&s->handover) && !s->handover.lost)
		note_given_away(s);
	participants_cleanup(&s->participants);
	s->ended_ns = clock_now_ns();
	phase_enter(&s->status, "save", VFMIG_PHASE_DONE);
	enter(s, DONE);
	return 0;
}

int save_work(struct vfmig_save *s, struct vfmig_error *err)
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
	case GREET: /* these wait for the link: not here */
	case CONFIRM:
	case DONE:
		break;
	}
	return 0;
}
