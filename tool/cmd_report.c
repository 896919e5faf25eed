/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_report.c: vfmig report RUN.json... -o FILE. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "link/link.h"
#include "output.h"
#include "read_text.h"
#include "report.h"

#define EVENTS_BYTES_MAX (256u << 20)
#define RUNS_MAX 8u

struct report_arguments {
	const char *from[RUNS_MAX], *into;
	size_t count;
};

static const struct argp_option options[] = {
	{ "output", 'o', "FILE", 0, "Where to: one HTML page, or one SVG if the name ends in .svg; - for a page", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct report_arguments *a = state->input;
	switch (key) {
	case 'o':
		a->into = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (a->count == RUNS_MAX)
			argp_error(state, "more than %u runs", RUNS_MAX);
		a->from[a->count++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->count)
			argp_error(state, "of what? Expected a file that 'vfmig save --json' has written, or -");
		if (!a->into)
			argp_error(state, "where to? Expected -o FILE");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int write_all(struct vfmig_link *link, const char *text, size_t length, struct vfmig_error *err)
{
	while (length) {
		struct iovec iov = { (void *)(uintptr_t)text, length };
		ssize_t n = link_writev(link, &iov, 1, err);
		if (n == -EAGAIN) {
			struct pollfd p = { .fd = link->wait_fd, .events = link_events(link, POLLOUT) };
			(void)poll(&p, 1, -1);
			continue;
		}
		if (n < 0)
			return (int)n;
		text += n;
		length -= (size_t)n;
	}
	return link_finish(link, err);
}

/* A file takes its name once it is complete. */
static int write_report(const char *into, const char *text, size_t length, struct vfmig_error *err)
{
	struct vfmig_link *link;
	char uri[4096];
	if ((size_t)snprintf(uri, sizeof(uri), "%s%s", strcmp(into, "-") ? "file:" : "", into) >= sizeof(uri))
		return error_errno(err, -ENAMETOOLONG, "%.64s...", into);
	int r = vfmig_link_open(uri, VFMIG_SAVE, NULL, &link, err);
	if (r < 0)
		return r;
	r = write_all(link, text, length, err);
	vfmig_link_close(link);
	return r;
}

static bool ends_in(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);
	return n >= m && !strcmp(name + n - m, end);
}

static int read_run(const char *from, struct report *r, struct vfmig_error *err)
{
	char *events = NULL;
	size_t length = 0;
	int e = read_text(from, EVENTS_BYTES_MAX, &events, &length, err);
	if (e == 0 && strlen(events) != length)
		e = error_set(err, -EBADMSG, "%s: byte %zu is 0, expected text", from, strlen(events));
	if (e == 0)
		e = report_read(events, from, r, err);
	free(events);
	return e;
}

static int report(const struct report_arguments *a, struct report *runs, struct vfmig_error *err)
{
	char *document = NULL;
	size_t length = 0;
	for (size_t i = 0; i < a->count; i++) {
		int e = read_run(a->from[i], &runs[i], err);
		if (e < 0)
			return e;
	}
	FILE *f = open_memstream(&document, &length);
	if (!f)
		return error_errno(err, -ENOMEM, "report");
	(ends_in(a->into, ".svg") ? report_svg : report_html)(f, runs, a->count);
	int e = fclose(f) ? error_errno(err, -ENOMEM, "report") : write_report(a->into, document, length, err);
	free(document);
	return e;
}

int cmd_report(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "RUN.json... -o FILE",
		.doc = "Draws where a save's or a load's time went, from what it has printed by --json or --events: "
		       "one HTML "
		       "page that needs nothing else, or one SVG.",
	};
	struct report_arguments a = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	struct vfmig_error err = { 0 };
	struct report *runs = calloc(RUNS_MAX, sizeof(*runs));
	if (!runs)
		return output_fail("report", "out of memory");
	int e = report(&a, runs, &err);
	for (size_t i = 0; i < a.count; i++)
		report_clear(&runs[i]);
	free(runs);
	return e < 0 ? output_fail("report", "%s", err.message) : EXIT_OK;
}
