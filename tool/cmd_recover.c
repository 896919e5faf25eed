/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_recover.c: vfmig recover URI: what a killed save or load has left a device in, and the way out of it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "command.h"
#include "device/device.h"
#include "open.h"
#include "output.h"
#include "session.h"

enum way { NOTHING, RUN, RESET, DECIDE };

/* What each state means when nobody is at work on the device any more. */
static const struct {
	enum way way;
	const char *meaning;
} states[] = {
	[VFMIG_STATE_ERROR] = { DECIDE, "the device has failed, and only a reset ends that; the state in it is lost" },
	[VFMIG_STATE_STOP] = { DECIDE, "a save has ended, or a load that was not to start it, or something else has "
				       "stopped it; if the state was moved, another device may be running with it" },
	[VFMIG_STATE_RUNNING] = { NOTHING, "it is at work" },
	[VFMIG_STATE_STOP_COPY] = { DECIDE, "a save was ended after it had stopped the device; if the other side got "
					    "all of the stream, another device may be running with the state" },
	[VFMIG_STATE_RESUMING] = { RESET, "a load was ended; what it holds is not whole" },
	[VFMIG_STATE_RUNNING_P2P] = { RUN, "a save or load was ended between working and being stopped" },
	[VFMIG_STATE_PRE_COPY] = { RUN, "a save was ended while the device worked" },
	[VFMIG_STATE_PRE_COPY_P2P] = { RUN, "a save was ended between working and being stopped" },
};

struct recover {
	const char *uri, *dir; /* dir NULL: no folder is asked */
	struct journal_record last; /* the device's last session there; session empty: none that matters */
	struct journal *journal;    /* its, opened where something is to be written */
	bool run, discard, json;
	struct vfmig_device_options device_options;
	enum vfmig_state before, after;
	const char *action; /* nothing, run, reset, none: NULL */
};

enum { OPT_RUN = 256, OPT_DISCARD, OPT_JOURNAL, OPT_JSON };

static const struct argp_option options[] = {
	{ "run", OPT_RUN, NULL, 0, "Let a stopped device work again: its state is here and nowhere else", 0 },
	{ "discard", OPT_DISCARD, NULL, 0, "Reset the device: its state is somewhere else, or not wanted", 0 },
	{ "journal", OPT_JOURNAL, "DIR", 0,
	  "Where save and load keep their journals, which may know where the state is ($VFMIG_JOURNAL, "
	  "or " JOURNAL_FOLDER " if that is there)",
	  0 },
	OPEN_OPTIONS,
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object", 0 },
	{ 0 },
};

static void check_arguments(struct argp_state *state, const struct recover *a)
{
	if (!a->uri)
		argp_error(state, "which device? Expected a URI, vfio-user:/PATH say");
	if (a->run && a->discard)
		argp_error(state, "one of --run and --discard");
	if (device_uri_owns(a->uri))
		argp_error(state, "%s: a kernel device lives as long as an fd to it: whatever state it had ended with "
				  "the program that had it, and opening it begins anew",
			   a->uri);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct recover *a = state->input;
	if (open_parse_option(key, arg, state, &a->device_options))
		return 0;
	switch (key) {
	case OPT_RUN:
		a->run = true;
		return 0;
	case OPT_DISCARD:
		a->discard = true;
		return 0;
	case OPT_JOURNAL:
		a->dir = arg;
		return 0;
	case OPT_JSON:
		a->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->uri)
			argp_error(state, "'%s' is too many: one device at a time", arg);
		a->uri = arg;
		return 0;
	case ARGP_KEY_END:
		check_arguments(state, a);
		a->dir = session_folder(a->dir);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static enum way choose(const struct recover *a)
{
	enum way way = states[a->before].way;
	if (a->discard)
		return RESET;
	if (a->run && way == DECIDE && a->before != VFMIG_STATE_ERROR)
		return RUN;
	return way;
}

/* ----------------------------------------------------------- the journals */

static int ask_folder(struct recover *a, struct vfmig_device *device, struct vfmig_error *err)
{
	struct vfmig_error ignored;
	struct access_identity who;
	if (!a->dir)
		return 0;
	if (access_identify(device->access, &who, &ignored) < 0)
		who = (struct access_identity) { .name = "" };
	int r = ledger_last(a->dir, a->uri, &who, &a->last, err);
	if (r <= 0)
		return r;
	for (size_t i = 0; i < a->last.num_devices; i++)
		if (!strcmp(a->last.devices[i].who.name, who.name) && ledger_is_gone(&a->last.devices[i].who, &who))
			a->last.session[0] = '\0'; /* that was another incarnation */
	return 0;
}

/* May a person decide here, past the session that has the device? */
static int check_session(const struct recover *a, enum way way, struct vfmig_error *err)
{
	const struct journal_record *l = &a->last;
	bool file = l->peer == JOURNAL_PEER_FILE && l->side == HANDOVER_SOURCE;
	if (!l->session[0])
		return 0;
	if (l->busy)
		return error_set(err, -EBUSY, "a program is at work on it in session %s", l->session);
	bool alone = l->num_devices == 1;
	if (!ledger_is_open(l) || (alone && file && way == RUN) ||
	    (alone && l->state == HANDOVER_PREPARED && way == RESET))
		return 0;
	char dir[256];
	const char *side = handover_side_name(l->side);
	return error_set(err, -EPERM,
			 "session %s has it (%s, %s: %s): 'vfmig resolve %s --side %s --journal %s' ends that",
			 l->session, side, handover_state_name(l->state), session_meaning(l), l->session, side,
			 text_shell(dir, sizeof(dir), a->dir));
}

/* What is written before the deed, and after it; NONE: nothing. */
struct words {
	enum handover_state before, after;
};

/* A line speaks for all devices of a session, so of one among several nothing is written. */
static struct words choose_words(const struct recover *a, enum way way)
{
	enum handover_state state = a->last.state;
	if (!a->last.session[0] || way == NOTHING || way == DECIDE || a->last.num_devices > 1)
		return (struct words) { HANDOVER_NONE, HANDOVER_NONE };
	if (way == RUN && a->last.side == HANDOVER_SOURCE)
		return (struct words) { HANDOVER_RUNS_ON, HANDOVER_RUNS };
	if (way == RUN)
		return (struct words) { HANDOVER_NONE, state == HANDOVER_RUNNING ? HANDOVER_RUNNING : HANDOVER_NONE };
	if (a->last.side == HANDOVER_SOURCE)
		return (struct words) { state == HANDOVER_DONE ? HANDOVER_NONE : HANDOVER_SUPERSEDED, HANDOVER_NONE };
	if (state == HANDOVER_PREPARED || state == HANDOVER_LOADING)
		return (struct words) { HANDOVER_NONE, HANDOVER_ABANDONED };
	return (struct words) { state == HANDOVER_RUNNING ? HANDOVER_REPLACED : HANDOVER_NONE, HANDOVER_NONE };
}

/* The session is locked before the deed: -EBUSY, a program is at work on it after all. */
static int open_journal(struct recover *a, const struct words *words, struct vfmig_error *err)
{
	struct journal_record now;
	if (words->before == HANDOVER_NONE && words->after == HANDOVER_NONE)
		return 0;
	int r = journal_open(a->dir, a->last.session, a->last.side, &a->journal, &now, err);
	if (r < 0)
		return r;
	if (now.state != a->last.state)
		r = error_set(err, -EBUSY, "session %s was %s and is %s now: look again", now.session,
			      handover_state_name(a->last.state), handover_state_name(now.state));
	journal_record_clear(&now);
	return r;
}

static int write_word(struct recover *a, enum handover_state state, struct vfmig_error *err)
{
	const struct journal_line line = { .by_person = a->run || a->discard };
	return state == HANDOVER_NONE ? 0 : journal_write(a->journal, state, &line, err);
}

static void tell_where(const struct recover *a, enum way way)
{
	const struct journal_record *l = &a->last;
	if (way != RUN || !l->session[0] || l->side != HANDOVER_SOURCE ||
	    (l->state != HANDOVER_DONE && l->state != HANDOVER_SENT) || a->json)
		return;
	output_line("session %s put its state into %s: it is there, too", l->session, l->link);
}

/* ------------------------------------------------------------------- deeds */

static int do_way(struct recover *a, struct vfmig_device *device, enum way way, struct vfmig_error *err)
{
	switch (way) {
	case NOTHING:
		a->action = "nothing";
		return 0;
	case RUN:
		a->action = "run";
		return device->protocol->ops->set_state(device->protocol, VFMIG_STATE_RUNNING, err);
	case RESET:
		a->action = "reset";
		return access_reset(device->access, err);
	case DECIDE:
		break;
	}
	return error_set(err, -EBUSY, "%s",
			 a->before == VFMIG_STATE_ERROR ?
				 "a decision is wanted: --discard resets it" :
				 "only you can know where its state is: --run if it is here alone, --discard if it "
				 "is somewhere else, too (vfmig probe there tells whether that one runs)");
}

static int act(struct recover *a, struct vfmig_device *device, struct vfmig_error *err)
{
	enum way way = choose(a);
	struct words words = choose_words(a, way);
	int r = way == NOTHING ? 0 : check_session(a, way, err);
	if (r == 0)
		r = open_journal(a, &words, err);
	if (r == 0)
		r = write_word(a, words.before, err);
	if (r == 0) {
		tell_where(a, way);
		r = do_way(a, device, way, err);
	}
	return r < 0 ? r : write_word(a, words.after, err);
}

static int recover(struct recover *a, struct vfmig_error *err)
{
	struct vfmig_device *device;
	a->device_options.size = sizeof(a->device_options);
	int r = open_device(a->uri, &a->device_options, &device, err);
	if (r < 0)
		return r;
	r = vfmig_device_state(device, &a->before, err);
	a->after = a->before;
	if (r == 0 && !a->json)
		output_line("%s is %s: %s", a->uri, vfmig_state_name(a->before), states[a->before].meaning);
	if (r == 0)
		r = ask_folder(a, device, err);
	if (r == 0)
		r = act(a, device, err);
	struct vfmig_error ignored;
	(void)vfmig_device_state(device, &a->after, r < 0 ? &ignored : err);
	if (r == 0 && !a->json)
		output_line("%s is now %s%s", a->uri, vfmig_state_name(a->after),
		       choose(a) == RESET ? ": it was reset" : "");
	journal_close(a->journal);
	journal_record_clear(&a->last);
	vfmig_device_close(device);
	return r;
}

static void print_json(const struct recover *a, int code, const struct vfmig_error *err)
{
	struct json_object *o = json_object_new_object();
	bool known = a->action || code == -EBUSY;
	json_object_object_add(o, "uri", output_string(a->uri));
	json_object_object_add(o, "before", known ? output_string(vfmig_state_name(a->before)) : NULL);
	json_object_object_add(o, "meaning", known ? output_string(states[a->before].meaning) : NULL);
	json_object_object_add(o, "action", a->action ? output_string(a->action) : NULL);
	json_object_object_add(o, "after", known ? output_string(vfmig_state_name(a->after)) : NULL);
	json_object_object_add(o, "error", code < 0 ? output_string(err->message) : NULL);
	output_json(stdout, o, true);
}

int cmd_recover(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "URI",
		.doc = "Tells what a save or load that was killed has left the device in, and puts that right where "
		       "nothing can be lost by it: a device in pre-copy works on, half a load is reset. Where the "
		       "state may be in two places it asks for --run or --discard.",
	};
	struct recover a = { 0 };
	struct vfmig_error err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	output_never_wait(true);
	signal(SIGXFSZ, SIG_IGN); /* a journal has no room: that is an error, and no end in the middle */
	int r = recover(&a, &err);
	if (a.json)
		print_json(&a, r, &err);
	else if (r < 0)
		output_fail("recover", "%s: %s", a.uri, err.message);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}
