/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_resolve.c: vfmig resolve SESSION [source|destination]: a handover whose program was killed, or gave up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "command.h"
#include "migrate/resolve.h"
#include "open.h"
#include "output.h"
#include "session.h"
#include "signals.h"
#include "switch_command.h"
#include "transfer.h"

struct arguments {
	const char *prefix, *dir, *link_uri, *resume_command;
	char session[SESSION_TEXT];
	char listening[256]; /* the socket's path, while it is there */
	enum resolve_decision decision;
	bool side_given, json;
	enum handover_side side;
	uint32_t retry_ms;
	struct vfmig_device_options device_options;
	struct vfmig_link_options link_options;
	struct vfmig_device *devices[TRANSFER_MAX];
};

enum { OPT_JOURNAL = 256, OPT_SIDE, OPT_LINK, OPT_RETRY_FOR, OPT_TLS_HOSTNAME, OPT_RESUME_COMMAND, OPT_JSON };

static const struct argp_option options[] = {
	{ "journal", OPT_JOURNAL, "DIR", 0, "Where save or load kept its journal", 0 },
	{ "side", OPT_SIDE, "source|destination", 0, "Which of the two, when DIR has the journals of both", 0 },
	{ "link", OPT_LINK, "LINK", 0, "Meet the other side here: unix:PATH, tcp:HOST:PORT (where they met before)",
	  0 },
	{ "retry-for", OPT_RETRY_FOR, "MS", 0, "How long to try to meet the other side (60000)", 0 },
	{ "resume-command", OPT_RESUME_COMMAND, "COMMAND", 0,
	  "Run COMMAND (by sh -c) once the devices run here, as save or load were to: no command is taken from a "
	  "journal",
	  0 },
	OPEN_LINK_OPTIONS,
	{ "tls-hostname", OPT_TLS_HOSTNAME, "NAME", 0,
	  "Source: whom the other side's certificate has to be for (the host of tcp:HOST:PORT)", 0 },
	OPEN_OPTIONS,
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object", 0 },
	{ 0 },
};

static enum handover_side parse_side(struct argp_state *state, const char *text)
{
	if (!strcmp(text, "source"))
		return HANDOVER_SOURCE;
	if (strcmp(text, "destination"))
		argp_error(state, "'%s': expected source or destination", text);
	return HANDOVER_DESTINATION;
}

static void add_word(struct argp_state *state, struct arguments *a, const char *word)
{
	if (a->prefix && a->decision != RESOLVE_MEET)
		argp_error(state, "'%s' is too many", word);
	if (a->prefix) {
		a->decision = parse_side(state, word) == HANDOVER_SOURCE ? RESOLVE_SOURCE : RESOLVE_DESTINATION;
		return;
	}
	if (!session_is_prefix(word))
		argp_error(state, "'%s' is not a session's id, or its beginning: up to 32 hexadecimal digits", word);
	a->prefix = word;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;
	if (open_parse_option(key, arg, state, &a->device_options) ||
	    open_parse_link_option(key, arg, state, &a->link_options))
		return 0;
	switch (key) {
	case OPT_JOURNAL:
		a->dir = arg;
		return 0;
	case OPT_TLS_HOSTNAME:
		a->link_options.tls_hostname = arg;
		return 0;
	case OPT_SIDE:
		a->side = parse_side(state, arg);
		a->side_given = true;
		return 0;
	case OPT_LINK:
		a->link_uri = arg;
		return 0;
	case OPT_RETRY_FOR:
		a->retry_ms = transfer_parse_ms(state, "--retry-for", arg);
		return 0;
	case OPT_RESUME_COMMAND:
		a->resume_command = arg;
		return 0;
	case OPT_JSON:
		a->json = true;
		return 0;
	case ARGP_KEY_ARG:
		add_word(state, a, arg);
		return 0;
	case ARGP_KEY_END:
		if (!a->prefix)
			argp_error(state, "which session? save and load print it, and so does vfmig status");
		a->dir = session_folder(a->dir);
		if (!a->dir)
			argp_error(state, "which journal? Expected --journal DIR, or VFMIG_JOURNAL=DIR");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* The side whose journal is here. */
static int find_side(struct arguments *a, struct vfmig_error *err)
{
	struct journal_record record;
	bool here[2];
	int r = 0;
	for (int side = HANDOVER_SOURCE; side <= HANDOVER_DESTINATION; side++) {
		r = journal_read(a->dir, a->session, (enum handover_side)side, &record, err);
		here[side] = r == 0;
		if (r == 0)
			journal_record_clear(&record);
		else if (r != -ENOENT)
			return r;
	}
	if (here[HANDOVER_SOURCE] && here[HANDOVER_DESTINATION])
		return error_set(err, -EINVAL, "%s has the journals of both sides: say by --side which one is meant",
				 a->dir);
	if (!here[HANDOVER_SOURCE] && !here[HANDOVER_DESTINATION])
		return error_set(err, -ENOENT, "no journal of session %s in %s", a->session, a->dir);
	a->side = here[HANDOVER_SOURCE] ? HANDOVER_SOURCE : HANDOVER_DESTINATION;
	return 0;
}

static bool is_gone(const struct journal_device *then, struct vfmig_device *now)
{
	struct vfmig_error ignored;
	struct access_identity who;
	return access_identify(now->access, &who, &ignored) == 0 && ledger_is_gone(&then->who, &who);
}

static int open_devices(struct arguments *a, const struct journal_record *record, struct resolve *r,
			struct vfmig_error *err)
{
	r->devices = a->devices;
	for (size_t i = 0; i < record->num_devices; i++) {
		const char *uri = record->devices[i].uri;
		if (device_uri_owns(uri)) { /* to open it would be to begin anew */
			r->state_gone = true;
			continue;
		}
		if (r->num_devices == TRANSFER_MAX)
			return error_set(err, -E2BIG, "more than %d devices", TRANSFER_MAX);
		a->device_options.size = sizeof(a->device_options);
		int code = open_device(uri, &a->device_options, &a->devices[r->num_devices], err);
		if (code < 0)
			return code;
		r->state_gone |= is_gone(&record->devices[i], a->devices[r->num_devices]);
		r->num_devices++;
	}
	return 0;
}

static void print_listening(void *opaque, const char *where)
{
	struct arguments *a = opaque;
	if (!strncmp(where, "unix:", 5))
		snprintf(a->listening, sizeof(a->listening), "%s", where + 5);
	output_note("resolve", "waiting for the source at %s", where);
}

/* While devices or the link are opened, which may wait: nothing has to be put back, the journal says how far it came.
 */
static void interrupt(void *opaque, enum signals_word word)
{
	struct arguments *a = opaque;
	if (word == SIGNALS_ASK) {
		output_note("resolve", "session %s: opening the devices, or waiting for the other side", a->prefix);
		return;
	}
	output_fail("resolve", "cancelled: session %s stays as it is", a->prefix);
	if (a->listening[0])
		unlink(a->listening);
	_exit(EXIT_FAILED);
}

static int meet(struct arguments *a, const struct journal_record *record, struct resolve *r, struct vfmig_error *err)
{
	struct vfmig_link_options *opts = &a->link_options;
	struct vfmig_link *link;
	/* A journal names where to meet, never a command or a file to write to. */
	if (!a->link_uri && strncmp(record->link, "unix:", 5) && strncmp(record->link, "tcp:", 4))
		return error_set(err, -EPERM, "the journal's link is %s, and only unix: and tcp: are opened from a "
				 "journal; --link LINK names where to meet the other side", record->link);
	if (!opts->tls_creds && record->tls_creds[0])
		opts->tls_creds = record->tls_creds;
	if (!opts->tls_hostname && record->tls_hostname[0] && opts->tls_creds)
		opts->tls_hostname = record->tls_hostname;
	opts->size = sizeof(*opts);
	opts->timeout_ms = a->retry_ms;
	opts->listening = print_listening;
	opts->listening_opaque = a;
	int code = signals_watch_begin(interrupt, a, err);
	if (code < 0)
		return code;
	code = vfmig_link_open(a->link_uri ? a->link_uri : record->link,
				   a->side == HANDOVER_SOURCE ? VFMIG_SAVE : VFMIG_LOAD, opts, &link, err);
	signals_watch_end(); /* from here on the meeting itself looks for them */
	/* Here all is settled; only the other side may be asking still. */
	if (code < 0 && (session_has_ended(record) || r->state == HANDOVER_RUNS || r->state == HANDOVER_SUPERSEDED ||
			 r->state == HANDOVER_ABANDONED)) {
		output_note("resolve", "the other side was not met (%s)", err->message);
		return 0;
	}
	if (code < 0)
		return code;
	code = resolve_meet(r, link, err);
	vfmig_link_close(link);
	return code;
}

static void print_log(void *opaque, enum vfmig_log_level level, const char *line)
{
	(void)opaque;
	if (level != VFMIG_LOG_DEBUG)
		output_note("resolve", "%s", line);
}

static int resume(void *opaque, struct vfmig_error *err)
{
	const struct arguments *a = opaque;
	return switch_command_resume(a->resume_command, err);
}

/* The devices alone would run without what was stopped or started with them. */
static int check_others(const struct arguments *a, const struct journal_record *record, struct vfmig_error *err)
{
	bool source = a->side == HANDOVER_SOURCE;
	bool elsewhere = a->decision == (source ? RESOLVE_DESTINATION : RESOLVE_SOURCE);
	if (!record->others[0] || a->resume_command || elsewhere || session_has_ended(record))
		return 0;
	return error_set(
	    err, -EPERM,
	    "session %s: its devices stopped and start together with %s: --resume-command COMMAND says how that "
	    "goes on once they run here",
	    a->session, record->others);
}

static bool is_cancelled(void)
{
	enum signals_word word = signals_read();
	if (word == SIGNALS_ASK)
		output_note("resolve", "meeting the other side");
	return word == SIGNALS_CANCEL;
}

static int resolve(struct arguments *a, struct journal_record *record, struct vfmig_error *err)
{
	const struct log log = { print_log, NULL };
	struct resolve r = { .session = a->session, .retry_ns = a->retry_ms * NS_PER_MS, .log = &log,
			     .cancel_fd = signals_fd(), .cancels = is_cancelled };
	int code = session_find(a->dir, a->prefix, a->session, err);
	if (code == 0 && !a->side_given)
		code = find_side(a, err);
	if (code == 0)
		code = journal_check_owner(a->dir, a->session, a->side, err);
	if (code == 0)
		code = journal_open(a->dir, a->session, a->side, &r.journal, record, err);
	if (code == 0 && ((code = ledger_check_last(a->dir, record, err)) < 0 ||
			  (code = check_others(a, record, err)) < 0))
		journal_close(r.journal);
	if (code < 0)
		return code;
	r.side = a->side;
	r.resume = a->resume_command ? resume : NULL;
	r.resume_opaque = a;
	r.state = record->state;
	r.peer = record->peer;
	r.held = record->held && a->side == HANDOVER_SOURCE;
	r.by_person = record->by_person;
	if (!a->json)
		output_line("session %s, %s: %s since %s", a->session, handover_side_name(a->side),
			    handover_state_name(record->state), record->since);
	code = signals_watch_begin(interrupt, a, err);
	if (code == 0)
		code = open_devices(a, record, &r, err);
	signals_watch_end();
	if (code == 0)
		code = resolve_begin(&r, a->decision, err);
	record->state = r.state;
	if (code > 0)
		code = meet(a, record, &r, err);
	record->state = r.state;
	record->told |= r.handover.told;
	resolve_end(&r);
	session_look_in(record, a->dir);
	return code;
}

static void print_devices(const struct arguments *a)
{
	for (size_t i = 0; i < TRANSFER_MAX && a->devices[i]; i++) {
		enum vfmig_state state;
		bool told = vfmig_device_state(a->devices[i], &state, NULL) == 0;
		output_line("  %s is %s", vfmig_device_name(a->devices[i]),
			    told ? vfmig_state_name(state) : "in a state that it does not tell");
	}
}

static void report(const struct arguments *a, const struct journal_record *record, int code,
		   const struct vfmig_error *err)
{
	if (a->json && record->session[0]) {
		struct json_object *o = session_json(record, a->dir);
		json_object_object_add(o, "error", code < 0 ? output_string(err->message) : NULL);
		output_json(stdout, o, true);
		return;
	}
	if (code == 0) {
		output_line("now %s: %s", handover_state_name(record->state), session_meaning(record));
		print_devices(a);
	}
}

int cmd_resolve(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "SESSION [source|destination]",
		.doc = "Goes on with a handover whose program was killed or has given up. Without a decision it meets "
		       "the other side (run it there, too) and both do what their journals say. With one, a person "
		       "says who has the device; that is refused where the journal has promised otherwise, and it is "
		       "to be said on both sides.",
	};
	struct arguments a = { .retry_ms = HANDOVER_RETRY_NS / NS_PER_MS };
	struct journal_record record = { 0 };
	struct vfmig_error err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	output_never_wait(true); /* nobody who does not read keeps a device stopped */
	int r = signals_take(&err);
	if (r == 0)
		r = resolve(&a, &record, &err);
	report(&a, &record, r, &err);
	if (r < 0)
		output_fail("resolve", "%s", err.message);
	for (size_t i = 0; i < TRANSFER_MAX; i++)
		vfmig_device_close(a.devices[i]);
	journal_record_clear(&record);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}
