/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_inspect.c: vfmig inspect: what is in a migration stream, and parts of it into files. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "inspect.h"
#include "inspect_compare.h"
#include "lint.h"
#include "open.h"
#include "output.h"
#include "pci_text.h"

struct inspect_arguments {
	const char *from, *other; /* other: to be compared with; NULL: none */
	const char *into;
	const char *id; /* to be extracted; NULL: nothing is */
	bool config;    /* its config space, not its data */
	bool json, packets, lint, rules;
	const char *hexdump; /* id of the sections; NULL: none */
	uint64_t begin;	     /* of the stream, in its file */
	const char *machine; /* to be compared with; NULL: not */
	struct vfmig_link_options link_options;
};

enum {
	OPT_JSON = 256, OPT_EXTRACT, OPT_EXTRACT_CONFIG, OPT_HEXDUMP, OPT_LINT, OPT_MACHINE, OPT_OFFSET, OPT_PACKETS,
	OPT_RULES,
};

static const struct argp_option options[] = {
	{ "json", OPT_JSON, NULL, 0, "Print one JSON document", 0 },
	{ "packets", OPT_PACKETS, NULL, 0, "Print each packet, also of many in a row", 0 },
	{ "hexdump", OPT_HEXDUMP, "ID", 0, "Print the bytes of the sections with this id as well", 0 },
	{ "offset", OPT_OFFSET, "BYTES", 0, "The stream begins there in its file", 0 },
	{ "lint", OPT_LINT, NULL, 0, "Say which rules the stream breaks, and what helps; exit status 1 if it does", 0 },
	{ "machine", OPT_MACHINE, "NAME", 0, "With --lint: the destination's machine", 0 },
	{ "rules", OPT_RULES, NULL, 0, "Print the rules", 0 },
	{ "extract", OPT_EXTRACT, "ID", 0, "Write the data of the device with this section id to -o FILE", 0 },
	{ "extract-config", OPT_EXTRACT_CONFIG, "ID", 0, "Write its config space to -o FILE", 0 },
	{ "output", 'o', "FILE", 0, "Where to extract to: a path or a link's URI", 0 },
	OPEN_LINK_OPTIONS,
	{ 0 },
};

static void set_extract(struct inspect_arguments *a, const char *id, bool config, struct argp_state *state)
{
	if (a->id)
		argp_error(state, "one --extract or --extract-config at a time");
	a->id = id;
	a->config = config;
}

static void check_arguments(const struct inspect_arguments *a, struct argp_state *state)
{
	if (!a->from && !a->rules)
		argp_error(state, "which stream? Expected a file or a link's URI");
	if (!a->id != !a->into)
		argp_error(state, "--extract ID and -o FILE belong together");
	if (a->lint && a->id)
		argp_error(state, "--lint or --extract, not both");
	if (a->hexdump && (a->json || a->lint || a->id))
		argp_error(state, "--hexdump is for text");
	if (a->other && (a->lint || a->id || a->hexdump))
		argp_error(state, "two streams can only be compared");
	if (a->machine && !a->lint)
		argp_error(state, "--machine is for --lint");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct inspect_arguments *a = state->input;

	if (open_parse_link_option(key, arg, state, &a->link_options))
		return 0;
	switch (key) {
	case OPT_JSON:
		a->json = true;
		return 0;
	case OPT_EXTRACT:
	case OPT_EXTRACT_CONFIG:
		set_extract(a, arg, key == OPT_EXTRACT_CONFIG, state);
		return 0;
	case OPT_PACKETS:
		a->packets = true;
		return 0;
	case OPT_HEXDUMP:
		a->hexdump = arg;
		return 0;
	case OPT_OFFSET:
		if (!open_parse_size(arg, &a->begin) || a->begin > INT64_MAX)
			argp_error(state, "--offset %s: expected a number of bytes", arg);
		return 0;
	case OPT_LINT:
		a->lint = true;
		return 0;
	case OPT_MACHINE:
		a->machine = arg;
		return 0;
	case OPT_RULES:
		a->rules = true;
		return 0;
	case 'o':
		a->into = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (a->other)
			argp_error(state, "two streams can be compared: '%s' is too many", arg);
		if (a->from)
			a->other = arg;
		else
			a->from = arg;
		return 0;
	case ARGP_KEY_END:
		check_arguments(a, state);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* ------------------------------------------------------------- printing */

struct text_sink {
	struct inspect_sink sink; /* first */
	struct inspect_printer printer;
	const char *hexdump; /* id of the sections whose bytes are printed; NULL: none */
	struct inspect_hexdump bytes;
};

static void text_record(struct inspect_sink *sink, struct json_object *record)
{
	struct text_sink *t = (struct text_sink *)sink;

	inspect_hexdump_end(&t->bytes);
	inspect_print(&t->printer, record);
}

static bool wants_bytes(struct inspect_sink *sink, const struct reader_record *section)
{
	const char *id = ((struct text_sink *)sink)->hexdump;

	return id && strcmp(id, section->name) == 0;
}

static void print_bytes(struct inspect_sink *sink, uint64_t offset, const uint8_t *data, size_t length)
{
	struct text_sink *t = (struct text_sink *)sink;

	inspect_print_end(&t->printer);
	inspect_hexdump(&t->bytes, offset, data, length);
}

static void no_record(struct inspect_sink *sink, struct json_object *record)
{
	(void)sink, (void)record;
}

struct json_sink {
	struct inspect_sink sink; /* first */
	bool any;
};

/* One line each, as they come: a stream may have millions. */
static void json_record(struct inspect_sink *sink, struct json_object *record)
{
	struct json_sink *j = (struct json_sink *)sink;

	printf("%s\n  %s", j->any ? "," : "", json_object_to_json_string_ext(record, JSON_C_TO_STRING_NOSLASHESCAPE));
	j->any = true;
}

static struct json_object *result_json(const struct inspect_result *result, int rc, const struct vfmig_error *err)
{
	struct json_object *o = json_object_new_object();
	char text[INSPECT_TEXT_MAX];

	json_object_object_add(o, "intact", json_object_new_boolean(rc == 0));
	json_object_object_add(o, "bytes", json_object_new_uint64(result->bytes));
	json_object_object_add(o, "vfmig", json_object_new_boolean(result->marked));
	json_object_object_add(o, "layout", output_string(result->channel ? "channel" :
								   result->mapped ? "mapped-ram" : "stream"));
	json_object_object_add(o, "verified", json_object_new_boolean(result->verified));
	json_object_object_add(o, "error", rc < 0 ? output_string(inspect_text(err->message, text)) : NULL);
	return o;
}

static int print_json(struct vfmig_link *link, const struct inspect_arguments *a, struct vfmig_error *err)
{
	struct json_sink j = { .sink.record = json_record, .sink.begin = a->begin };
	struct inspect_result result = { 0 };

	printf("{\"records\": [");
	int rc = inspect_walk(link, &j.sink, &result, err);
	struct json_object *o = result_json(&result, rc, err);
	printf("\n],\n\"result\": %s}\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return rc;
}

static int print_text(struct vfmig_link *link, const struct inspect_arguments *a, struct vfmig_error *err)
{
	struct text_sink t = { .hexdump = a->hexdump, .printer.packets = a->packets || a->hexdump };
	struct inspect_result result;

	t.sink = (struct inspect_sink) { .record = text_record, .wants_bytes = wants_bytes, .bytes = print_bytes,
					 .begin = a->begin };
	int rc = inspect_walk(link, &t.sink, &result, err);
	inspect_hexdump_end(&t.bytes);
	inspect_print_end(&t.printer);
	if (rc == 0)
		printf("intact: %" PRIu64 " bytes%s%s\n", result.bytes,
		       result.mapped ? " with memory in its place in the file" : "",
		       result.channel ? " of one channel" : result.verified ? ", verified" : ", without digests");
	return rc;
}

/* ----------------------------------------------------------- extracting */

struct extract_sink {
	struct inspect_sink sink; /* first */
	const struct inspect_arguments *arguments;
	struct vfmig_link *into;
	bool found;
	uint32_t section_id;
	uint64_t bytes;
};

static int write_all(struct extract_sink *x, const uint8_t *data, size_t length, struct vfmig_error *err)
{
	while (length) {
		struct iovec iov = { (void *)(uintptr_t)data, length };
		ssize_t n = link_writev(x->into, &iov, 1, err);
		if (n == -EAGAIN)
			inspect_wait(x->into, POLLOUT);
		else if (n < 0)
			return (int)n;
		else
			data += n, length -= (size_t)n, x->bytes += (uint64_t)n;
	}
	return 0;
}

/* 1: this section is of the device that is wanted. */
static int is_wanted(struct extract_sink *x, const struct reader_record *section, struct vfmig_error *err)
{
	if (strcmp(section->name, x->arguments->id) != 0)
		return 0;
	if (x->found && x->section_id != section->section.section_id)
		return error_set(err, -EINVAL, "the stream has more than one instance of %s", x->arguments->id);
	x->found = true;
	x->section_id = section->section.section_id;
	return 1;
}

static int extract_data(struct inspect_sink *sink, const struct reader_record *section, const uint8_t *data,
			size_t length, struct vfmig_error *err)
{
	struct extract_sink *x = (struct extract_sink *)sink;
	int rc = is_wanted(x, section, err);

	return rc == 1 ? write_all(x, data, length, err) : rc;
}

static int extract_config(struct inspect_sink *sink, const struct reader_record *section, uint64_t offset,
			  const uint8_t *data, size_t length, struct vfmig_error *err)
{
	struct extract_sink *x = (struct extract_sink *)sink;
	int rc = is_wanted(x, section, err);

	(void)offset;
	if (rc <= 0)
		return rc;
	size_t space = pci_record_space(data, length);
	if (!space)
		return error_set(err, -EINVAL, "%s has no PCI config space in this stream", section->name);
	return write_all(x, data + 4, space, err);
}

/* What has a link's scheme is a link; everything else is a path. */
static int open_link(const char *name, enum vfmig_direction direction, const struct vfmig_link_options *opts,
		     struct vfmig_link **ret, struct vfmig_error *err)
{
	static const char *const schemes[] = { "file:", "fd:", "exec:", "unix:", "tcp:", "null:" };
	char uri[4096];

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		if (strncmp(name, schemes[i], strlen(schemes[i])) == 0)
			return vfmig_link_open(name, direction, opts, ret, err);
	}
	if (strcmp(name, "-") == 0)
		return vfmig_link_open(name, direction, opts, ret, err);
	if ((size_t)snprintf(uri, sizeof(uri), "file:%s", name) >= sizeof(uri))
		return error_errno(err, -ENAMETOOLONG, "%.64s...", name);
	return vfmig_link_open(uri, direction, opts, ret, err);
}

/* Only a stream that is right to its end leaves a file behind. */
static int extract(struct vfmig_link *link, const struct inspect_arguments *a, struct vfmig_error *err)
{
	struct extract_sink x = { .sink.record = no_record, .sink.begin = a->begin, .arguments = a };
	struct inspect_result result;

	if (a->config)
		x.sink.config = extract_config;
	else
		x.sink.data = extract_data;
	int rc = open_link(a->into, VFMIG_SAVE, NULL, &x.into, err);
	if (rc < 0)
		return rc;
	rc = inspect_walk(link, &x.sink, &result, err);
	if (rc == 0 && !x.found)
		rc = error_set(err, -ENOENT, "%s: no %s of a device %s in this stream", a->from,
			       a->config ? "config" : "data", a->id);
	if (rc == 0)
		rc = link_finish(x.into, err);
	vfmig_link_close(x.into);
	if (rc == 0)
		fprintf(stderr, "%" PRIu64 " bytes of %s written to %s\n", x.bytes, a->id, a->into);
	return rc;
}

static int compare(struct vfmig_link *link, const struct inspect_arguments *a)
{
	struct compare_options how = { { a->from, a->other }, a->json, a->begin };
	struct vfmig_link *links[2] = { link };
	struct vfmig_error err = { 0 };
	char text[INSPECT_TEXT_MAX];
	size_t differences;

	int rc = open_link(a->other, VFMIG_LOAD, &a->link_options, &links[1], &err);
	if (rc == 0) {
		rc = compare_streams(links, &how, &differences, &err);
		vfmig_link_close(links[1]);
	}
	fflush(stdout);
	if (rc < 0)
		return output_fail("inspect", "%s", inspect_text(err.message, text));
	if (differences)
		return output_fail("inspect", "%s and %s differ", a->from, a->other);
	return EXIT_OK;
}

static int lint(struct vfmig_link *link, const struct inspect_arguments *a)
{
	struct lint_options how = { a->machine, a->json, a->begin };
	struct vfmig_error err = { 0 };
	char text[INSPECT_TEXT_MAX];
	size_t broken;

	int rc = lint_stream(link, &how, &broken, &err);
	fflush(stdout);
	if (rc < 0)
		return output_fail("inspect", "%s", inspect_text(err.message, text));
	if (broken)
		return output_fail("inspect", "%s: %zu rule%s broken", a->from, broken, broken == 1 ? " is" : "s are");
	return EXIT_OK;
}

int cmd_inspect(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "FILE|LINK [FILE|LINK]",
		.doc = "Show what is in a migration stream: every section, every VFIO packet, the devices' config "
		       "space, and whether the stream is intact. Of two streams: in what they differ.",
	};
	struct inspect_arguments a = { .link_options.size = sizeof(a.link_options) };
	struct vfmig_error err = { 0 };
	struct vfmig_link *link;
	char text[INSPECT_TEXT_MAX];

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (a.rules) {
		lint_print_rules(a.json);
		return EXIT_OK;
	}
	int rc = open_link(a.from, VFMIG_LOAD, &a.link_options, &link, &err);
	if (rc < 0)
		return output_fail("inspect", "%s", err.message);
	if (a.lint || a.other) {
		rc = a.lint ? lint(link, &a) : compare(link, &a);
		vfmig_link_close(link);
		return rc;
	}
	if (a.id)
		rc = extract(link, &a, &err);
	else
		rc = a.json ? print_json(link, &a, &err) : print_text(link, &a, &err);
	vfmig_link_close(link);
	fflush(stdout);
	if (rc < 0)
		return output_fail("inspect", "%s", inspect_text(err.message, text));
	return EXIT_OK;
}
