/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_status.c: vfmig status [SESSION] --journal DIR: where a handover stands, as this host's journal knows it. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "output.h"
#include "session.h"

struct status {
	const char *dir, *session; /* session NULL: all */
	bool json;
	size_t shown, failed;
};

enum { OPT_JOURNAL = 256, OPT_JSON };

static const struct argp_option options[] = {
	{ "journal", OPT_JOURNAL, "DIR", 0, "Where save or load kept its journal", 0 },
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object a line for each session and side", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct status *s = state->input;
	switch (key) {
	case OPT_JOURNAL:
		s->dir = arg;
		return 0;
	case OPT_JSON:
		s->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (s->session)
			argp_error(state, "'%s' is too many: one session, or none for all", arg);
		if (!session_is_valid(arg))
			argp_error(state, "'%s' is not a session's id: 32 hexadecimal digits", arg);
		s->session = arg;
		return 0;
	case ARGP_KEY_END:
		if (!s->dir)
			argp_error(state, "which journal? Expected --journal DIR");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static void print_text(const struct status *s, const struct journal_record *r)
{
	printf("%s %s: %s since %s%s\n  %s\n", r->session, handover_side_name(r->side), handover_state_name(r->state),
	       r->since, r->busy ? ", a program is at work on it" : "", session_meaning(r->side, r->state));
	for (size_t i = 0; i < r->num_devices; i++)
		printf("  %s%s%s\n", r->devices[i].uri, r->devices[i].id[0] ? " as " : "", r->devices[i].id);
	printf("  other side: %s\n", r->link);
	if (!session_has_ended(r->state) && !r->busy)
		printf("  to go on: vfmig resolve %s --journal %s\n", r->session, s->dir);
}

static void show(struct status *s, const char *session, enum handover_side side)
{
	struct journal_record record;
	struct vfmig_error err;
	int r = journal_read(s->dir, session, side, &record, &err);
	if (r == -ENOENT)
		return;
	if (r < 0) {
		output_fail("status", "%s", err.message);
		s->failed++;
		return;
	}
	s->shown++;
	if (s->json)
		output_json(stdout, session_json(&record), false);
	else
		print_text(s, &record);
	journal_record_clear(&record);
}

static void session_of(const struct dirent *entry, char ret[SESSION_TEXT])
{
	snprintf(ret, SESSION_TEXT, "%.32s", entry->d_name);
}

/* SESSION.source, SESSION.destination; other files are somebody else's. */
static int is_journal(const struct dirent *entry)
{
	char session[SESSION_TEXT];
	session_of(entry, session);
	const char *side = entry->d_name + strlen(session);
	return session_is_valid(session) && (!strcmp(side, ".source") || !strcmp(side, ".destination"));
}

static int show_all(struct status *s)
{
	struct dirent **list;
	int n = scandir(s->dir, &list, is_journal, alphasort);
	if (n < 0)
		return output_fail("status", "journal directory %s: %s", s->dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		char session[SESSION_TEXT];
		session_of(list[i], session);
		show(s, session, strcmp(list[i]->d_name + SESSION_TEXT - 1, ".source") ? HANDOVER_DESTINATION :
											 HANDOVER_SOURCE);
		free(list[i]);
	}
	free(list);
	return s->failed ? EXIT_FAILED : EXIT_OK;
}

int cmd_status(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "[SESSION] --journal DIR",
		.doc = "Tells where the handover of a session stands, as the journal of this host knows it: whether "
		       "the device may run here, and what is to be done. Without SESSION: all in DIR.",
	};
	struct status s = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &s))
		return EXIT_USAGE;
	if (!s.session)
		return show_all(&s);
	show(&s, s.session, HANDOVER_SOURCE);
	show(&s, s.session, HANDOVER_DESTINATION);
	if (!s.shown && !s.failed)
		return output_fail("status", "session %s: no journal of it in %s", s.session, s.dir);
	return s.failed ? EXIT_FAILED : EXIT_OK;
}
