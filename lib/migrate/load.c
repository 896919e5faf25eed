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
 *   START_PREPARE  all participants, devices at the same time (together.c)
 *   START          the same
 *   REPORT         return path: SHUT, 0 (after the start: the source must not
 *                  run once anything here may)
 *
 * A failure or cancel before the end takes every participant back (undo) and
 * says SHUT, 1, upon which the source may run again.
 */
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/options.h"
#include "migrate/handlers.h"
#include "migrate/return_path.h"
#include "migrate/together.h"
#include "stream/reader.h"

enum stage { CHECK, READ, COMPLETE, START_PREPARE, START, REPORT, DONE };

struct vfmig_load {
	struct vfmig_link *link;
	struct reader *reader;
	struct vfmig_load_options opts;
	struct log log;
	struct participants participants;
	struct return_path return_path;
	bool return_path_open;

	enum stage stage;
	size_t at;
	bool begun;		     /* the first step was taken */
	bool in_body;		     /* the reader stands at a section's body */
	struct participant *taker;   /* of that section; NULL: skipped */
	struct reader_record record; /* that section's */
	uint64_t section_offset;     /* where its record began */
	bool told_unmarked;
	int failed;
	short wait_events;

	_Atomic bool cancelled;
	int cancel_fd;

	struct vfmig_status status;
	uint64_t started_ns, stopped_ns, ended_ns;
};

int vfmig_load_new(struct vfmig_link *link, const struct vfmig_load_options *opts, struct vfmig_load **ret_load,
		   struct vfmig_error *err)
{
	struct vfmig_load *l = calloc(1, sizeof(*l));
	if (!l)
		return error_errno(err, -ENOMEM, "load");
	l->link = link;
	l->cancel_fd = -1;
	int r = options_read(&l->opts, sizeof(l->opts), opts, "load options", err);
	if (r == 0 && (l->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
		r = error_errno(err, -errno, "eventfd");
	if (r < 0) {
		vfmig_load_free(l);
		return r;
	}
	l->participants.loading = true;
	l->log = (struct log) { l->opts.log, l->opts.log_opaque };
	*ret_load = l;
	return 0;
}

static int fail(struct vfmig_load *l, int code, struct vfmig_error *err);

void vfmig_load_free(struct vfmig_load *load)
{
	if (!load)
		return;
	if (load->begun && load->stage < REPORT && !load->failed)
		fail(load, -ECANCELED, NULL);
	participants_clear(&load->participants);
	reader_free(load->reader);
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
	return r < 0 ? r : vfio_load_add(&load->participants, device, id, load->opts.no_start, &load->log, err);
}

int vfmig_load_add_participant(struct vfmig_load *load, const struct vfmig_participant_ops *ops, void *opaque,
			       const char *id, uint32_t instance_id, struct vfmig_error *err)
{
	struct participant *added;
	int r = id[0] ? check_not_begun(load, err) : error_set(err, -EINVAL, "a section id of no bytes");
	return r < 0 ? r : participants_add(&load->participants, ops, opaque, id, instance_id, 0, &added, err);
}

/* --------------------------------------------------------------- sections */

static bool is_vfio_id(const char *id)
{
	size_t n = strlen(id);
	return strcmp(id, "vfio") == 0 || (n > 5 && strcmp(id + n - 5, "/vfio") == 0);
}

/* Whose section is it? A device added without an id takes the stream's only VFIO one. */
static int find_taker(struct vfmig_load *l, const struct reader_record *record, struct participant **ret,
		      struct vfmig_error *err)
{
	struct participant *unnamed = NULL;
	*ret = NULL;
	for (size_t i = 0; i < l->participants.count; i++) {
		struct participant *p = &l->participants.list[i];
		if (p->id[0] == '\0')
			unnamed = p;
		else if (strcmp(p->id, record->name) == 0 && p->instance_id == record->section.instance_id)
			*ret = p;
	}
	if (*ret || !is_vfio_id(record->name))
		return 0;
	if (unnamed) {
		strcpy(unnamed->id, record->name);
		unnamed->instance_id = record->section.instance_id;
		unnamed->adopted = true;
		*ret = unnamed;
		return 0;
	}
	for (size_t i = 0; i < l->participants.count; i++)
		if (l->participants.list[i].adopted)
			return error_set(
			    err, -EINVAL,
			    "offset 0x%llx: the stream holds the devices %s and %s: say by its id which one is meant",
			    (unsigned long long)record->offset, l->participants.list[i].id, record->name);
	return 0;
}

static int begin_taker(struct participant *p, struct vfmig_error *err)
{
	if (p->begun)
		return 0;
	p->begun = true;
	return p->ops.load_setup ? error_not_again(p->ops.load_setup(p->opaque, err)) : 0;
}

static int check_marked(struct vfmig_load *l, const struct reader_record *record, struct vfmig_error *err)
{
	if (reader_marked(l->reader) || l->told_unmarked)
		return 0;
	l->told_unmarked = true;
	if (l->opts.require_digest)
		return error_set(
		    err, -EBADMSG,
		    "offset 0x%llx: the stream was not written by vfmig and carries no digest, but one is required",
		    (unsigned long long)record->offset);
	if (l->stage == READ)
		log_line(&l->log, VFMIG_LOG_WARNING,
			 "%s: written by QEMU, not vfmig: no digest, so a changed byte cannot be noticed",
			 l->link->name);
	return 0;
}

static int begin_section(struct vfmig_load *l, const struct reader_record *record, struct vfmig_error *err)
{
	char kind = record->section.kind;
	int r = check_marked(l, record, err);
	if (r == 0)
		r = find_taker(l, record, &l->taker, err);
	if (r < 0)
		return r;
	if (!l->taker && (kind == 'S' || (kind == 'F' && !is_vfio_id(record->name))))
		log_line(&l->log, is_vfio_id(record->name) ? VFMIG_LOG_WARNING : VFMIG_LOG_DEBUG,
			 "section %s is left out", record->name);
	if (!l->taker && is_vfio_id(record->name) && l->return_path_open)
		return error_set(
		    err, -ENOENT,
		    "offset 0x%llx: nobody here takes device %s, and its source would not run again: add it, or "
		    "save the others alone",
		    (unsigned long long)record->offset, record->name);
	if (l->taker && !l->taker->ops.load_state)
		return error_set(err, -EINVAL, "offset 0x%llx: section %s: its participant loads nothing",
				 (unsigned long long)record->offset, record->name);
	if (kind == 'P' && l->status.phase == VFMIG_PHASE_SETUP)
		l->status.phase = VFMIG_PHASE_PRECOPY;
	if (kind == 'E' && !l->stopped_ns) {
		l->stopped_ns = clock_now_ns();
		l->status.phase = VFMIG_PHASE_STOP_COPY;
	}
	l->record = *record;
	l->section_offset = record->offset;
	l->in_body = true;
	return l->taker ? begin_taker(l->taker, err) : 0;
}

static void count_section(struct vfmig_load *l)
{
	uint64_t n = reader_offset(l->reader) - l->section_offset;
	if (l->record.section.kind == 'S')
		l->status.setup_bytes += n;
	else if (l->record.section.kind == 'P')
		l->status.precopy_bytes += n;
	else
		l->status.stop_copy_bytes += n;
	l->status.rounds += l->record.section.kind == 'P' && l->taker;
}

static int take_body(struct vfmig_load *l, struct vfmig_error *err)
{
	int r = l->taker ? reader_feed(l->reader, l->taker->ops.load_state, l->taker->opaque, err)
			 : reader_skip(l->reader, err);
	if (r != 0)
		return r > 0 ? 0 : r;
	l->in_body = false;
	count_section(l);
	return 0;
}

/* --------------------------------------------------------------- commands */

static int take_command(struct vfmig_load *l, const struct reader_record *record, struct vfmig_error *err)
{
	switch (record->command) {
	case WIRE_COMMAND_OPEN_RETURN_PATH:
		l->return_path_open = l->link->two_way; /* a saved stream may hold the command, too */
		return 0;
	case WIRE_COMMAND_PING:
		if (record->payload_length != 4)
			return error_set(err, -EBADMSG, "offset 0x%llx: PING with %u bytes, expected 4",
					 (unsigned long long)record->offset, record->payload_length);
		if (!l->return_path_open || l->stage == CHECK)
			return 0;
		return return_path_put(&l->return_path, WIRE_RETURN_PONG, get_be32(record->payload), err);
	case WIRE_COMMAND_SWITCHOVER_START:
		return 0;
	default:
		return error_set(err, -EBADMSG, "offset 0x%llx: command %u is not known; expected one of %u, %u, %u",
				 (unsigned long long)record->offset, record->command, WIRE_COMMAND_OPEN_RETURN_PATH,
				 WIRE_COMMAND_PING, WIRE_COMMAND_SWITCHOVER_START);
	}
}

/* 1: the stream has ended well. */
static int take_record(struct vfmig_load *l, struct vfmig_error *err)
{
	struct reader_record record;
	int r = reader_next(l->reader, &record, err);
	if (r < 0)
		return r;
	switch (record.kind) {
	case READER_SECTION:
		return begin_section(l, &record, err);
	case READER_COMMAND:
		return take_command(l, &record, err);
	case READER_END:
		return 1;
	case READER_HEADER:
	case READER_CONFIGURATION:
	case READER_EOF:
	case READER_DESCRIPTION:
		break;
	}
	return 0;
}

/* ----------------------------------------------------------------- stages */

static int open_reader(struct vfmig_load *l, struct vfmig_error *err)
{
	reader_free(l->reader);
	l->reader = NULL;
	l->in_body = false;
	l->status.phase = VFMIG_PHASE_SETUP;
	l->status.setup_bytes = l->status.precopy_bytes = l->status.stop_copy_bytes = l->status.rounds = 0;
	l->stopped_ns = 0;
	return reader_new(l->link, &l->reader, err);
}

static void set_checking(struct vfmig_load *l, bool checking)
{
	for (size_t i = 0; i < l->participants.count; i++)
		vfio_load_set_checking(&l->participants.list[i], checking);
}

/* A participant of the VMM's has bodies that only it can read, so it cannot be checked beforehand. */
static int begin(struct vfmig_load *l, struct vfmig_error *err)
{
	bool check = l->link->seekable && !l->opts.no_verify_first;
	for (size_t i = 0; i < l->participants.count; i++)
		check = check && l->participants.list[i].protocol;
	l->begun = true;
	l->started_ns = clock_now_ns();
	l->stage = check ? CHECK : READ;
	if (check)
		set_checking(l, true);
	int r = participants_check_p2p(&l->participants, err);
	/* One without sections of its own (vCPUs) takes part from the beginning. */
	for (size_t i = 0; i < l->participants.count && r == 0; i++)
		if (!l->participants.list[i].ops.load_state)
			r = begin_taker(&l->participants.list[i], err);
	return r < 0 ? r : open_reader(l, err);
}

static int verify_one(struct vfmig_load *l, struct participant *p, struct vfmig_error *err)
{
	if (!p->begun)
		return error_set(err, -ENOENT, "%s: the stream has no section %s%s", p->name,
				 p->id[0] ? p->id : "of a VFIO device", p->id[0] ? "" : " (\".../vfio\")");
	const struct description *d = reader_description(l->reader);
	if (p->verify && d && reader_verified(l->reader)) {
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
	int r = l->in_body ? take_body(l, err) : take_record(l, err);
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
	return open_reader(l, err);
}

static int do_read(struct vfmig_load *l, struct vfmig_error *err)
{
	int r = l->in_body ? take_body(l, err) : take_record(l, err);
	if (r <= 0)
		return r;
	l->status.digest_verified = reader_verified(l->reader);
	l->stage = COMPLETE;
	l->at = 0;
	return 0;
}

static int do_start(struct vfmig_load *l, struct vfmig_error *err)
{
	int r;
	if (l->stage == COMPLETE)
		r = verify_one(l, &l->participants.list[l->at], err);
	else
		r = participants_together(&l->participants,
					  l->stage == START ? TOGETHER_START : TOGETHER_START_PREPARE, err);
	if (r < 0)
		return error_not_again(r);
	if (l->stage == COMPLETE && ++l->at < l->participants.count)
		return 0;
	l->stage++;
	if (l->stage != REPORT)
		return 0;
	l->ended_ns = clock_now_ns();
	l->status.phase = VFMIG_PHASE_COMPLETING;
	participants_cleanup(&l->participants);
	return l->return_path_open ? return_path_put(&l->return_path, WIRE_RETURN_SHUT, 0, err) : 0;
}

/* The load has succeeded: what can still go wrong is that the source does not hear of it. */
static int do_report(struct vfmig_load *l)
{
	struct vfmig_error e;
	l->wait_events = POLLOUT;
	int r = l->return_path_open ? return_path_flush(&l->return_path, l->link, &e) : 0;
	if (r == -EAGAIN && !atomic_load(&l->cancelled))
		return r;
	if (r == -EAGAIN)
		error_set(&e, r, "cancelled while it does not read");
	if (r < 0)
		log_line(&l->log, VFMIG_LOG_WARNING,
			 "%s: loaded, but the source could not be told (%s); it stays stopped", l->link->name,
			 e.message);
	l->status.phase = VFMIG_PHASE_DONE;
	l->stage = DONE;
	return 0;
}

/* ---------------------------------------------------------------- driving */

static int fail(struct vfmig_load *l, int code, struct vfmig_error *err)
{
	struct vfmig_error trouble, ignored;
	char cause[sizeof(trouble.message)] = "";
	l->failed = code;
	l->ended_ns = clock_now_ns();
	l->status.phase = atomic_load(&l->cancelled) ? VFMIG_PHASE_CANCELLED : VFMIG_PHASE_FAILED;
	bool undone = participants_undo(&l->participants, &trouble);
	l->status.source_may_run = undone;
	if (err) {
		err->code = code;
		memcpy(cause, err->message, sizeof(cause));
	}
	if (!undone)
		error_set(err, code, "%s; %s", cause, trouble.message);
	/* Only a device that certainly holds nothing of the load lets the source run again. */
	if (undone && l->return_path_open && return_path_put(&l->return_path, WIRE_RETURN_SHUT, 1, &ignored) == 0)
		(void)return_path_flush(&l->return_path, l->link, &ignored);
	return code;
}

int vfmig_load_step(struct vfmig_load *l, struct vfmig_error *err)
{
	int r = 0;
	if (err)
		*err = (struct vfmig_error) { 0 };
	if (l->stage == DONE)
		return VFMIG_STEP_DONE;
	if (l->failed)
		return error_set(err, l->failed, "the load has failed already");
	if (l->participants.count == 0)
		return error_set(err, -EINVAL, "nothing to load into: no device was added");
	if (atomic_load(&l->cancelled) && l->stage < REPORT)
		r = error_set(err, -ECANCELED, "cancelled");
	else if (!l->begun)
		r = begin(l, err);
	else if (l->stage == CHECK || l->stage == READ) {
		l->wait_events = POLLIN;
		r = return_path_flush(&l->return_path, l->link, err);
		if (r == 0 || r == -EAGAIN)
			r = l->stage == CHECK ? do_check(l, err) : do_read(l, err);
		if (l->return_path.queued)
			l->wait_events |= POLLOUT;
	} else
		r = l->stage == REPORT ? do_report(l) : do_start(l, err);
	if (l->reader)
		l->status.total_bytes = reader_offset(l->reader);
	if (r == -EAGAIN)
		return VFMIG_STEP_WAIT;
	if (r < 0)
		return fail(l, r, err);
	return l->stage == DONE ? VFMIG_STEP_DONE : VFMIG_STEP_AGAIN;
}

int vfmig_load_wait(struct vfmig_load *load, short *ret_events)
{
	*ret_events = load->wait_events;
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
	if (load->started_ns)
		ret_status->elapsed_ns = now - load->started_ns;
	if (load->stopped_ns)
		ret_status->downtime_ns = now - load->stopped_ns;
}
