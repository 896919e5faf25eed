/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_status.c: vfmig status [SESSION] --journal DIR: where a handover stands, as this host's journal knows it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "command.h"
#include "output.h"
#include "session.h"

struct status {
	const char *dir, *prefix; /* prefix NULL: all */
	char session[SESSION_TEXT];
	bool json;
	struct journal_record *all;
	size_t count, failed;
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
		if (s->prefix)
			argp_error(state, "'%s' is too many: one session, or none for all", arg);
		if (!session_is_prefix(arg))
			argp_error(state, "'%s' is not a session's id, or its beginning: up to 32 hexadecimal digits",
				   arg);
		s->prefix = arg;
		return 0;
	case ARGP_KEY_END:
		s->dir = session_folder(s->dir);
		if (!s->dir)
			argp_error(state, "which journal? Expected --journal DIR, or VFMIG_JOURNAL=DIR");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* What a journal or a file is called may hold anything. */
static void print_line(const char *before, const char *text, const char *after)
{
	char clean[TEXT_ESCAPED_SIZE(2048)];
	printf("  %s%s%s\n", before, text_escape(clean, sizeof(clean), text, strlen(text)), after);
}

static void print_command(void *opaque, const char *what, const char *command)
{
	char before[64];
	(void)opaque;
	snprintf(before, sizeof(before), "%s: ", what);
	print_line(before, command, "");
}

static void print_leftover(void *opaque, const char *path)
{
	(void)opaque;
	print_line("left over: ", path, ", a part of a state: remove it");
}

static void print_text(const struct status *s, const struct journal_record *r)
{
	char since[TEXT_ESCAPED_SIZE(sizeof(r->since))], line[TEXT_ESCAPED_SIZE(1024)];
	printf("%s %s: %s since %s%s%s\n  %s\n", r->session, handover_side_name(r->side), handover_state_name(r->state),
	       text_escape(since, sizeof(since), r->since, strlen(r->since)),
	       r->by_person ? ", by a person's word" : "", r->busy ? "; a program is at work on it" : "",
	       session_meaning(r));
	for (size_t i = 0; i < r->num_devices; i++) {
		snprintf(line, sizeof(line), "%s%s%s", r->devices[i].uri, r->devices[i].id[0] ? " as " : "",
			 r->devices[i].id);
		print_line("", line, "");
	}
	print_line("other side: ", r->link, "");
	session_commands(r, s->dir, print_command, NULL);
	session_leftovers(r, print_leftover, NULL);
}

static int keep(void *opaque, const char *session, enum handover_side side)
{
	struct status *s = opaque;
	struct journal_record record;
	struct vfmig_error err;
	bool wanted = !s->prefix || !strcmp(session, s->session);
	int r = journal_read(s->dir, session, side, &record, &err);
	if (r == -ENOENT || (r < 0 && !wanted))
		return 0;
	if (r < 0) {
		output_fail("status", "%s", err.message);
		s->failed++;
		return 0;
	}
	struct journal_record *all = reallocarray(s->all, s->count + 1, sizeof(*all));
	if (!all) {
		journal_record_clear(&record);
		return -ENOMEM;
	}
	s->all = all;
	all[s->count++] = record;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct journal_record *x = a, *y = b;
	int r = strcmp(x->session, y->session);
	return r ? r : (int)x->side - (int)y->side;
}

static void show_all(struct status *s)
{
	if (s->count)
		qsort(s->all, s->count, sizeof(*s->all), compare);
	for (size_t i = 0; i < s->count; i++) {
		struct journal_record *r = &s->all[i];
		if (s->prefix && strcmp(r->session, s->session))
			continue;
		session_look(r, s->all, s->count);
		if (s->json)
			output_json(stdout, session_json(r, s->dir), false);
		else
			print_text(s, r);
	}
	if (!s->count && !s->failed && !s->json)
		printf("no sessions in %s\n", s->dir);
}

int cmd_status(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "[SESSION]",
		.doc = "Tells where the handover of a session stands, as the journal of this host knows it: whether "
		       "the device may run here, and what is to be done. Without SESSION: all in DIR. The "
		       "beginning of its id is enough.",
	};
	struct status s = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &s))
		return EXIT_USAGE;
	struct vfmig_error err;
	int r = s.prefix ? session_find(s.dir, s.prefix, s.session, &err) : 0;
	if (r == 0 && (r = journal_list(s.dir, keep, &s, &err)) == -ENOMEM)
		error_errno(&err, r, "journals");
	if (r == 0)
		show_all(&s);
	else
		output_fail("status", "%s", err.message);
	for (size_t i = 0; i < s.count; i++)
		journal_record_clear(&s.all[i]);
	free(s.all);
	return r < 0 || s.failed ? EXIT_FAILED : EXIT_OK;
}
