/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_preflight.c: vfmig preflight SRC DST. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "command.h"
#include "open.h"
#include "output.h"
#include "preflight.h"
#include "read_text.h"
#include "transfer.h"

#define PROBE_JSON_MAX (1u << 20)
#define TEXT_COLUMN 24u /* of the answers' texts */
#define COLUMNS 110

enum { SOURCE, DESTINATION, SIDES };

struct preflight_arguments {
	const char *sides[SIDES];
	const char *ssh;
	struct vfmig_device_options options;
	struct preflight_options preflight;
	bool json;
};

enum { OPT_BANDWIDTH = 256, OPT_DOWNTIME_LIMIT, OPT_STATE_SIZE, OPT_TOGETHER, OPT_SSH, OPT_JSON, OPT_TIMEOUT };

static const struct argp_option options[] = {
	{ "bandwidth", OPT_BANDWIDTH, "BYTES", 0, "Foretell the downtime at so many bytes a second (K, M, G, T)", 0 },
	{ "downtime-limit", OPT_DOWNTIME_LIMIT, "MS", 0, "What to compare it with, as for vfmig save (300)", 0 },
	{ "state-size", OPT_STATE_SIZE, "BYTES", 0, "How large the source's state is, if it does not tell itself", 0 },
	{ "together", OPT_TOGETHER, NULL, 0, "It is to move with other devices: then it needs the P2P states", 0 },
	{ "ssh", OPT_SSH, "COMMAND", 0, "What runs vfmig on another host, for ssh:HOST (ssh)", 0 },
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object", 0 },
	{ "timeout", OPT_TIMEOUT, "MS", 0, "How long one request to a device may take (30000)", 0 },
	OPEN_OPTIONS,
	{ 0 },
};

static void parse_bytes(struct argp_state *state, const char *option, const char *text, uint64_t *ret)
{
	if (!open_parse_size(text, ret) || !*ret)
		argp_error(state, "%s %s: expected a number of bytes, 100M say", option, text);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct preflight_arguments *a = state->input;
	if (open_parse_option(key, arg, state, &a->options))
		return 0;
	switch (key) {
	case OPT_BANDWIDTH:
		parse_bytes(state, "--bandwidth", arg, &a->preflight.bandwidth);
		return 0;
	case OPT_DOWNTIME_LIMIT:
		a->preflight.downtime_limit_ns = transfer_parse_ms(state, "--downtime-limit", arg) * NS_PER_MS;
		return 0;
	case OPT_STATE_SIZE:
		parse_bytes(state, "--state-size", arg, &a->preflight.state_bytes);
		a->preflight.has_state_bytes = true;
		return 0;
	case OPT_TOGETHER:
		a->preflight.together = true;
		return 0;
	case OPT_SSH:
		a->ssh = arg;
		return 0;
	case OPT_JSON:
		a->json = true;
		return 0;
	case OPT_TIMEOUT:
		a->options.timeout_ms = transfer_parse_ms(state, "--timeout", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num >= SIDES)
			argp_error(state, "a source and a destination: '%s' is too many", arg);
		a->sides[state->arg_num] = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->sides[DESTINATION])
			argp_error(state,
				   "from where to where? Expected a source and a destination: URIs, ssh:HOST/URI "
				   "or files of 'vfmig probe --json'");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* Appends text in quotes for a shell, which keep everything as it is. */
static void put_quoted(FILE *to, const char *text)
{
	fputc('\'', to);
	for (; *text; text++)
		fputs(*text == '\'' ? "'\\''" : (char[]) { *text, 0 }, to);
	fputc('\'', to);
}

/* What ssh runs goes through two shells: this host's and that one's. */
static char *ssh_command(const struct preflight_arguments *a, const char *host, const char *uri)
{
	char *there = NULL, *here = NULL;
	size_t size;
	FILE *f = open_memstream(&there, &size);
	if (!f)
		return NULL;
	fputs("vfmig probe --json ", f);
	if (a->options.interface)
		fprintf(f, "--interface %s ", a->options.interface);
	if (a->options.access)
		fprintf(f, "--access %s ", a->options.access);
	if (a->options.timeout_ms)
		fprintf(f, "--timeout %u ", a->options.timeout_ms);
	fputs("-- ", f);
	put_quoted(f, uri);
	if (fclose(f) == 0 && (f = open_memstream(&here, &size))) {
		fprintf(f, "exec:%s -- ", a->ssh);
		put_quoted(f, host);
		fputc(' ', f);
		put_quoted(f, there);
		fputs(" </dev/null", f); /* ours may be a probe, or a terminal */
		fclose(f);
	}
	free(there);
	return here;
}

/* uri: a link's, or NULL: the name is a path. */
static int probe_text(const char *uri, const char *name, struct probe *p, struct vfmig_error *err)
{
	char *text;
	size_t length;
	int r = uri ? read_link_text(uri, name, PROBE_JSON_MAX, &text, &length, err)
		    : read_text(name, PROBE_JSON_MAX, &text, &length, err);
	if (r < 0)
		return r;
	r = probe_read(text, length, name, p, err);
	free(text);
	return r;
}

/* ssh:HOST/URI; without a URI the other side's is meant. */
static int probe_ssh(const struct preflight_arguments *a, int side, struct probe *p, struct vfmig_error *err)
{
	const char *rest = a->sides[side] + strlen("ssh:"), *slash = strchr(rest, '/');
	const char *uri = slash ? slash + 1 : a->sides[!side];
	char *host = slash ? strndup(rest, (size_t)(slash - rest)) : strdup(rest), *command;
	if (!host)
		return error_errno(err, -ENOMEM, "ssh");
	if (!*host || !*uri || (!slash && !strncmp(uri, "ssh:", 4))) {
		free(host);
		return error_set(err, -EINVAL, "%s: expected ssh:HOST/URI, or ssh:HOST beside a URI of this host",
				 a->sides[side]);
	}
	command = ssh_command(a, host, uri);
	int r = command ? probe_text(command, a->sides[side], p, err) : error_errno(err, -ENOMEM, "ssh");
	free(command);
	free(host);
	return r;
}

/* A name without a scheme is a file's. */
static bool is_file(const char *name)
{
	size_t scheme = strcspn(name, ":/");
	return name[scheme] != ':';
}

static int probe_side(const struct preflight_arguments *a, int side, struct probe *p, struct vfmig_error *err)
{
	const char *name = a->sides[side];
	if (!strncmp(name, "ssh:", 4))
		return probe_ssh(a, side, p, err);
	if (is_file(name))
		return probe_text(NULL, name, p, err);
	return probe_device(name, &a->options, p, err);
}

static const char *conclusion(enum preflight_answer answer)
{
	return answer == PREFLIGHT_YES	     ? "nothing speaks against loading it there"
	       : answer == PREFLIGHT_PERHAPS ? "whether it loads there only a trial shows"
					     : "it will not load there";
}

/* Words until the line is full, the others below them. */
static void print_wrapped(const char *lead, const char *text)
{
	size_t at = TEXT_COLUMN + (size_t)printf("%s", lead);
	bool first = true;
	while (*text) {
		size_t word = strcspn(text, " ");
		if (!first && at + 1 + word > COLUMNS) {
			printf("\n%*s", (int)TEXT_COLUMN, "");
			at = TEXT_COLUMN;
			first = true;
		}
		at += (size_t)printf("%s%.*s", first ? "" : " ", (int)word, text);
		first = false;
		text += word + (text[word] == ' ');
	}
	putchar('\n');
}

static void print_text(const struct preflight_arguments *a, const struct preflight *p)
{
	enum preflight_answer loads = preflight_answer(p, true), all = preflight_answer(p, false);
	printf("%s -> %s\n", a->sides[SOURCE], a->sides[DESTINATION]);
	for (size_t i = 0; i < p->count; i++) {
		const struct preflight_check *c = &p->checks[i];
		printf("  %-11s  %-7s  ", c->name, preflight_answer_name(c->answer));
		print_wrapped("", c->text);
		if (c->remedy) {
			printf("%*s", (int)TEXT_COLUMN, "");
			print_wrapped("what helps: ", c->remedy);
		}
	}
	printf("%s: %s%s\n", preflight_answer_name(loads), conclusion(loads),
	       all > loads ? ", but see the downtime" : "");
}

static void print_json(const struct preflight_arguments *a, const struct probe *probes, const struct preflight *p)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	static const char *const names[] = { "source", "destination" };
	for (size_t i = 0; i < SIDES; i++) {
		struct json_object *side = json_object_new_object();
		json_object_object_add(side, "name", output_string(a->sides[i]));
		json_object_object_add(side, "uri", output_string(probes[i].uri));
		json_object_object_add(o, names[i], side);
	}
	json_object_object_add(o, "loads", output_string(preflight_answer_name(preflight_answer(p, true))));
	for (size_t i = 0; i < p->count; i++) {
		const struct preflight_check *c = &p->checks[i];
		struct json_object *one = json_object_new_object();
		json_object_object_add(one, "check", output_string(c->name));
		json_object_object_add(one, "answer", output_string(preflight_answer_name(c->answer)));
		json_object_object_add(one, "text", output_string(c->text));
		json_object_object_add(one, "remedy", c->remedy ? output_string(c->remedy) : NULL);
		json_object_array_add(list, one);
	}
	json_object_object_add(o, "checks", list);
	output_json(stdout, o, true);
}

int cmd_preflight(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "SRC DST",
		.doc = "Tells whether a device's state would load into another device, and what stands in the way. "
		       "Changes "
		       "neither. SRC and DST are URIs, files that 'vfmig probe --json' has written, or ssh:HOST/URI. "
		       "Exit status 1 if an answer is no.",
	};
	struct preflight_arguments a = { .ssh = "ssh", .options = { .size = sizeof(a.options) } };
	a.preflight.downtime_limit_ns = DEFAULT_DOWNTIME_MS * NS_PER_MS;
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	struct vfmig_error err = { 0 };
	struct probe *probes = calloc(SIDES, sizeof(*probes));
	struct preflight *found = calloc(1, sizeof(*found));
	int r = probes && found ? 0 : error_errno(&err, -ENOMEM, "probes");
	for (int i = 0; i < SIDES && r == 0; i++)
		r = probe_side(&a, i, &probes[i], &err);
	if (r < 0) {
		output_fail("preflight", "%s", err.message);
	} else {
		preflight_check(&probes[SOURCE], &probes[DESTINATION], &a.preflight, found);
		if (a.json)
			print_json(&a, probes, found);
		else
			print_text(&a, found);
		r = preflight_answer(found, false) == PREFLIGHT_NO ? -1 : 0;
	}
	for (int i = 0; probes && i < SIDES; i++)
		probe_clear(&probes[i]);
	free(probes);
	free(found);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}
