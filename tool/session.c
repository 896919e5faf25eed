/* SPDX-License-Identifier: BSD-3-Clause */
/* session.c: what the states of a session mean to people, and which commands lead on from them. */
#include "session.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "output.h"

const char *session_folder(const char *named)
{
	const char *folder = named ? named : getenv("VFMIG_JOURNAL");
	if (folder)
		return folder[0] ? folder : NULL;
	return access(JOURNAL_FOLDER, R_OK | X_OK) == 0 ? JOURNAL_FOLDER : NULL;
}

/* -------------------------------------------------------------------- ids */

bool session_is_prefix(const char *text)
{
	size_t length = strlen(text);
	return length > 0 && length < SESSION_TEXT && strspn(text, "0123456789abcdef") == length;
}

struct search {
	const char *prefix;
	char found[SESSION_TEXT];
	bool twice;
};

static int compare(void *opaque, const char *session, enum handover_side side)
{
	struct search *s = opaque;
	(void)side;
	if (strncmp(session, s->prefix, strlen(s->prefix)))
		return 0;
	s->twice |= s->found[0] && strcmp(s->found, session);
	strcpy(s->found, session);
	return 0;
}

int session_find(const char *dir, const char *prefix, char ret[SESSION_TEXT], struct vfmig_error *err)
{
	struct search s = { .prefix = prefix };
	int r = journal_list(dir, compare, &s, err);
	if (r < 0)
		return r;
	if (!s.found[0])
		return error_set(err, -ENOENT, "session %s: no journal of it in %s", prefix, dir);
	if (s.twice)
		return error_set(err, -ENOTUNIQ, "session %s: several in %s begin so: give more of its id", prefix,
				 dir);
	strcpy(ret, s.found);
	return 0;
}

/* --------------------------------------------------------------- meanings */

static const struct {
	const char *source, *destination;
	bool ended;
} meanings[] = {
	[HANDOVER_NONE] = { "nothing is known", "nothing is known", false },
	[HANDOVER_SAVING] = { "the device is at work here; the destination has nothing that is whole", "", false },
	[HANDOVER_STOPPED] = { "nothing is decided: the state is here, and the destination asks before it runs", "",
			       false },
	[HANDOVER_SENT] = { "the end of the state was sent: whether it is at work there is not known here", "", false },
	[HANDOVER_DECIDED] = { "the device was given away: it must not run here, and the destination is to be told", "",
			       false },
	[HANDOVER_COMMITTED] = { "", "the source has given the device away: it may have been started here", false },
	[HANDOVER_DONE] = { "the device was given away, and the destination has had it", "", true },
	[HANDOVER_RUNS_ON] = { "the device is to be taken back: it may be stopped still", "", false },
	[HANDOVER_RUNS] = { "the device was taken back and works here", "", true },
	[HANDOVER_SUPERSEDED] = { "a person has taken the device out of this session", "", false },
	[HANDOVER_WAITING] = { "", "no source has come yet: the device is untouched", true },
	[HANDOVER_LOADING] = { "", "the device holds half of a state, which is not to run", false },
	[HANDOVER_PREPARED] = { "", "the device is loaded and stopped: whether it may run only the source knows",
				false },
	[HANDOVER_RUNNING] = { "", "the device was loaded and works here", true },
	[HANDOVER_ABANDONED] = { "", "the device holds nothing of it, and never runs it", true },
	[HANDOVER_REPLACED] = { "", "a person has loaded something else over it, or reset it", true },
};

/* Of a file nobody else runs anything. */
static const char *file_meaning(const struct journal_record *r)
{
	if (r->peer != JOURNAL_PEER_FILE || r->side != HANDOVER_SOURCE)
		return NULL;
	if (r->state == HANDOVER_DONE)
		return "the state is in the file, and the device is stopped here";
	if (r->state == HANDOVER_STOPPED)
		return "the state is here, and the file is not complete";
	return r->state == HANDOVER_SENT ? "the file may be complete; the device is stopped here" : NULL;
}

/* Is the device's own work what this state tells? A later session makes that history. */
static bool tells_of_work(const struct journal_record *r)
{
	return r->state == HANDOVER_SAVING || r->state == HANDOVER_RUNS || r->state == HANDOVER_RUNNING ||
	       (r->state == HANDOVER_DONE && file_meaning(r));
}

void session_look(struct journal_record *record, const struct journal_record *all, size_t count)
{
	for (size_t i = 0; i < count && tells_of_work(record) && !record->past; i++)
		record->past = ledger_came_after(&all[i], record);
}

void session_look_in(struct journal_record *record, const char *dir)
{
	struct vfmig_error ignored;
	struct journal_record asked = *record;
	asked.state = HANDOVER_NONE; /* in this one every later session counts */
	record->past = tells_of_work(record) && ledger_check_last(dir, &asked, &ignored) == -EPERM;
}

const char *session_meaning(const struct journal_record *r)
{
	const char *file = file_meaning(r);
	if (r->past)
		return "it is over: a later session has had the device since";
	if (file)
		return file;
	if (r->held && r->state == HANDOVER_SAVING)
		return "the device is stopped here, as it was before; the destination has nothing that is whole";
	if (r->held && r->state == HANDOVER_RUNS)
		return "the device was taken back and is stopped here, as it was before";
	if (r->held && r->state == HANDOVER_RUNNING)
		return "the device was loaded and is stopped here (--no-start)";
	return r->side == HANDOVER_SOURCE ? meanings[r->state].source : meanings[r->state].destination;
}

bool session_has_ended(const struct journal_record *r)
{
	bool agreed = r->peer == JOURNAL_PEER_VFMIG;
	if (r->past && r->state == HANDOVER_SAVING)
		return true;
	if (r->state == HANDOVER_RUNS)
		return r->told || !agreed;
	if (r->state == HANDOVER_RUNS_ON)
		return r->version == 1;
	if (r->state == HANDOVER_SUPERSEDED)
		return r->told || !agreed;
	if (r->state == HANDOVER_ABANDONED && r->by_person) /* a source that has decided waits for that word */
		return r->told || !agreed;
	return meanings[r->state].ended;
}

/* --------------------------------------------------------------- commands */

static void add_word(FILE *f, const char *word)
{
	char quoted[2 * PATH_MAX];
	fputs(text_shell(quoted, sizeof(quoted), word), f);
}

static void tell(const struct journal_record *r, const char *dir, const char *what, const char *decision,
		 session_command_fn *fn, void *opaque)
{
	char *text = NULL, resolved[PATH_MAX];
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);
	if (!f)
		return;
	fprintf(f, "vfmig resolve %s%s%s --side %s --journal ", r->session, decision ? " " : "",
		decision ? decision : "", handover_side_name(r->side));
	add_word(f, realpath(dir, resolved) ? resolved : dir);
	if (!decision && r->tls_creds[0]) {
		fputs(" --tls-creds ", f);
		add_word(f, r->tls_creds);
	}
	if (!decision && r->tls_hostname[0]) {
		fputs(" --tls-hostname ", f);
		add_word(f, r->tls_hostname);
	}
	if (!decision && r->others[0])
		fputs(" --resume-command COMMAND", f);
	fclose(f);
	fn(opaque, what, text);
	free(text);
}

void session_commands(const struct journal_record *r, const char *dir, session_command_fn *fn, void *opaque)
{
	if (r->busy || session_has_ended(r))
		return;
	if (r->side == HANDOVER_SOURCE && r->state == HANDOVER_SENT) {
		tell(r, dir, "if the devices are there", "destination", fn, opaque);
		tell(r, dir, "if they certainly are not", "source", fn, opaque);
	} else if (r->state == HANDOVER_COMMITTED && r->peer == JOURNAL_PEER_QEMU) {
		tell(r, dir, "if the source does not run", "destination", fn, opaque);
		tell(r, dir, "if it runs", "source", fn, opaque);
	} else if (r->state == HANDOVER_ABANDONED) {
		tell(r, dir, "to tell the source", NULL, fn, opaque);
	} else if (r->state == HANDOVER_RUNS || r->state == HANDOVER_SUPERSEDED) {
		tell(r, dir, "to tell the destination", NULL, fn, opaque);
	} else {
		tell(r, dir, "to go on", NULL, fn, opaque);
	}
}

void session_leftovers(const struct journal_record *r, session_file_fn *fn, void *opaque)
{
	static const char scheme[] = "file:";
	char pattern[sizeof(r->link) + 16];
	glob_t found;
	if (r->busy || r->side != HANDOVER_SOURCE || strncmp(r->link, scheme, strlen(scheme)))
		return;
	/* What a pattern could mean else is taken out of the name. */
	size_t n = 0;
	for (const char *at = r->link + strlen(scheme); *at && n < sizeof(pattern) - 10; at++)
		pattern[n++] = strchr("*?[\\", *at) ? '?' : *at;
	strcpy(pattern + n, ".??????");
	if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		fn(opaque, found.gl_pathv[i]);
	globfree(&found);
}

/* ------------------------------------------------------------------- JSON */

static void add_command(void *opaque, const char *what, const char *command)
{
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "when", output_string(what));
	json_object_object_add(o, "command", output_string(command));
	json_object_array_add(opaque, o);
}

static void add_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, text[0] ? output_string(text) : NULL);
}

struct json_object *session_json(const struct journal_record *record, const char *dir)
{
	struct json_object *o = json_object_new_object(), *devices = json_object_new_array();
	struct json_object *commands = json_object_new_array();
	add_text(o, "session", record->session);
	add_text(o, "side", handover_side_name(record->side));
	add_text(o, "state", handover_state_name(record->state));
	add_text(o, "since", record->since);
	json_object_object_add(o, "ended", json_object_new_boolean(session_has_ended(record)));
	json_object_object_add(o, "busy", json_object_new_boolean(record->busy));
	add_text(o, "meaning", session_meaning(record));
	json_object_object_add(o, "held", json_object_new_boolean(record->held));
	json_object_object_add(o, "by_person", json_object_new_boolean(record->by_person));
	add_text(o, "peer", journal_peer_name(record->peer));
	json_object_object_add(o, "order", json_object_new_uint64(record->order));
	add_text(o, "link", record->link);
	add_text(o, "tls_creds", record->tls_creds);
	add_text(o, "tls_hostname", record->tls_hostname);
	add_text(o, "others", record->others);
	add_text(o, "digest", record->digest);
	for (size_t i = 0; i < record->num_devices; i++) {
		struct json_object *d = json_object_new_object();
		json_object_object_add(d, "uri", output_string(record->devices[i].uri));
		json_object_object_add(d, "id", output_string(record->devices[i].id));
		json_object_array_add(devices, d);
	}
	json_object_object_add(o, "devices", devices);
	session_commands(record, dir, add_command, commands);
	json_object_object_add(o, "commands", commands);
	return o;
}
