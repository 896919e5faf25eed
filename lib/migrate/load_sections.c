/* SPDX-License-Identifier: BSD-3-Clause */
/* load_sections.c: what the loader does with each record of the stream; load.c drives it. */
#include <string.h>

#include "base/bytes.h"
#include "migrate/load_impl.h"
#include "migrate/phases.h"

/* --------------------------------------------------------------- sections */

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
	if (*ret || !reader_is_vfio(record->name))
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

/* From here on a device may hold half of something. */
static int note_loading(struct vfmig_load *l, struct vfmig_error *err)
{
	struct journal *j = l->handover.journal;
	bool known = l->stage == CHECK || !j || journal_state(j) != HANDOVER_WAITING;
	return known ? 0 : load_note(l, HANDOVER_LOADING, err);
}

int load_begin_taker(struct vfmig_load *l, struct participant *p, struct vfmig_error *err)
{
	int r = p->begun || !p->protocol ? 0 : note_loading(l, err);
	if (p->begun || r < 0)
		return r;
	p->begun = true;
	return p->ops.load_setup ? error_not_again(p->ops.load_setup(p->opaque, err)) : 0;
}

static int check_marked(struct vfmig_load *l, const struct reader_record *record, struct vfmig_error *err)
{
	bool plain = reader_plain(l->reader);
	if ((reader_marked(l->reader) && !plain) || l->told_unmarked)
		return 0;
	l->told_unmarked = true;
	if (l->opts.require_digest)
		return error_set(err, -EBADMSG, "offset 0x%llx: the stream was %s no digest, but one is required",
				 (unsigned long long)record->offset,
				 plain ? "written with" : "not written by vfmig and carries");
	if (l->stage == READ)
		log_line(&l->log, plain ? VFMIG_LOG_INFO : VFMIG_LOG_WARNING,
			 "%s: written %s: no digest, so a changed byte cannot be noticed", l->link->name,
			 plain ? "with --no-digest" : "by QEMU, not vfmig");
	return 0;
}

/* Memory that nobody takes is lost with its source, if that is not a VMM whose memory is not ours. */
static int check_memory(struct vfmig_load *l, const struct reader_record *record, struct vfmig_error *err)
{
	if (strcmp(record->name, MEMORY_ID) != 0 || record->section.kind != 'S')
		return 0;
	if (l->taker && reader_ram_capability(l->reader)[0])
		return error_set(err, -EOPNOTSUPP,
				 "offset 0x%llx: memory written with the capability %s cannot be loaded: switch it off "
				 "at the source",
				 (unsigned long long)record->offset, reader_ram_capability(l->reader));
	if (!l->taker && reader_marked(l->reader) && l->return_path_open)
		return error_set(err, -ENOENT,
				 "offset 0x%llx: the source moves memory with its devices, and none was given here",
				 (unsigned long long)record->offset);
	if (!l->taker && l->stage == READ)
		log_line(&l->log, VFMIG_LOG_INFO, "the stream's memory is left out: none was given for it");
	return 0;
}

static int begin_section(struct vfmig_load *l, const struct reader_record *record, struct vfmig_error *err)
{
	char kind = record->section.kind;
	int r = check_marked(l, record, err);
	if (r == 0 && kind == 'S')
		r = load_check_alone(l, err);
	if (r == 0)
		r = find_taker(l, record, &l->taker, err);
	if (r < 0)
		return r;
	if (!l->taker && (kind == 'S' || (kind == 'F' && !reader_is_vfio(record->name))))
		log_line(&l->log, reader_is_vfio(record->name) ? VFMIG_LOG_WARNING : VFMIG_LOG_DEBUG,
			 "section %s is left out", record->name);
	r = check_memory(l, record, err);
	if (r < 0)
		return r;
	if (!l->taker && reader_is_vfio(record->name) && l->return_path_open)
		return error_set(
		    err, -ENOENT,
		    "offset 0x%llx: nobody here takes device %s, and its source would not run again: add it, or "
		    "save the others alone",
		    (unsigned long long)record->offset, record->name);
	if (l->taker && !participant_loads(l->taker))
		return error_set(err, -EINVAL, "offset 0x%llx: section %s: its participant loads nothing",
				 (unsigned long long)record->offset, record->name);
	if (kind == 'P' && l->status.phase == VFMIG_PHASE_SETUP)
		phase_enter(&l->status, "load", VFMIG_PHASE_PRECOPY);
	if (kind == 'E' && !l->downtime.started_ns) {
		downtime_start(&l->downtime, VFMIG_DOWNTIME_RECEIVE);
		l->spin = (struct spin) { 0 }; /* as the save does */
		phase_enter(&l->status, "load", VFMIG_PHASE_STOP_COPY);
	}
	if (l->taker && l->taker->set_digests)
		l->taker->set_digests(l->taker->opaque, reader_marked(l->reader) && !reader_plain(l->reader),
				      reader_plain(l->reader));
	l->record = *record;
	l->section_offset = record->offset;
	l->in_body = true;
	return l->taker ? load_begin_taker(l, l->taker, err) : 0;
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

/*
 * The source stops nothing before it is told that every device has its initial bytes. A stream says
 * that its source waits for this, but only where there are such bytes: else the caller has to know it.
 */
static int acknowledge(struct vfmig_load *l, struct vfmig_error *err)
{
	bool asked = l->opts.switchover_ack;
	if (l->acked || !l->return_path_open || l->stage == CHECK)
		return 0;
	for (size_t i = 0; i < l->participants.count; i++) {
		const struct participant *p = &l->participants.list[i];
		enum initial_loaded initial = p->initial_loaded ? p->initial_loaded(p->opaque) : INITIAL_NONE;
		if (initial == INITIAL_AWAITED)
			return 0;
		asked |= initial == INITIAL_LOADED;
	}
	l->acked = asked;
	return asked ? return_path_put(&l->return_path, WIRE_RETURN_SWITCHOVER_ACK, 0, err) : 0;
}

int load_take_body(struct vfmig_load *l, struct vfmig_error *err)
{
	const struct participant *p = l->taker;
	int r = !p	    ? reader_skip(l->reader, err) :
		p->vfio_ops ? reader_feed_vfio(l->reader, p->vfio_ops, p->opaque, err) :
			      reader_feed(l->reader, p->ops.load_state, p->opaque, err);
	if (r != 0)
		return r > 0 ? 0 : r;
	l->in_body = false;
	count_section(l);
	return acknowledge(l, err);
}

/* --------------------------------------------------------------- commands */

static int begin_handover(struct vfmig_load *l, struct vfmig_error *err)
{
	struct handover *h = &l->handover;
	memcpy(l->status.session, h->session, sizeof(h->session));
	return h->journal ? journal_rename(h->journal, h->session, err) : 0;
}

static int take_ping(struct vfmig_load *l, const struct reader_record *record, struct vfmig_error *err)
{
	uint32_t answer;
	if (record->payload_length != 4)
		return error_set(err, -EBADMSG, "offset 0x%llx: PING with %u bytes, expected 4",
				 (unsigned long long)record->offset, record->payload_length);
	if (!l->return_path_open || l->stage == CHECK)
		return 0;
	int r = handover_ping(&l->handover, get_be32(record->payload), &answer);
	if (r == 1)
		r = begin_handover(l, err);
	return r < 0 ? r : return_path_put(&l->return_path, WIRE_RETURN_PONG, answer, err);
}

static int take_command(struct vfmig_load *l, const struct reader_record *record, struct vfmig_error *err)
{
	switch (record->command) {
	case WIRE_COMMAND_OPEN_RETURN_PATH:
		l->return_path_open = l->link->two_way; /* a saved stream may hold the command, too */
		return acknowledge(l, err);
	case WIRE_COMMAND_PING:
		return take_ping(l, record, err);
	case WIRE_COMMAND_SWITCHOVER_START:
		if (l->channels)
			channels_let_state_in(l->channels);
		return 0;
	default:
		return error_set(err, -EBADMSG, "offset 0x%llx: command %u is not known; expected one of %u, %u, %u",
				 (unsigned long long)record->offset, record->command, WIRE_COMMAND_OPEN_RETURN_PATH,
				 WIRE_COMMAND_PING, WIRE_COMMAND_SWITCHOVER_START);
	}
}

int load_take_record(struct vfmig_load *l, struct vfmig_error *err)
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
