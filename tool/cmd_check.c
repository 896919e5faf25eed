/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_check.c: vfmig check URI...: judges a device's migration, rule by rule. */
#include <fnmatch.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "check_print.h"
#include "command.h"
#include "open.h"
#include "output.h"
#include "transfer.h"

#define DEVICES_MAX 64
#define PATTERNS_MAX 64
#define ITERATIONS_MAX 1000000u
#define LIMIT_MS 300u /* QEMU's downtime-limit */

struct check_arguments {
	const char *uris[DEVICES_MAX];
	size_t count;
	const char *patterns[PATTERNS_MAX];
	size_t num_patterns;
	struct vfmig_device_options options;
	enum check_format format;
	uint32_t iterations; /* 0: by the kind of device */
	uint64_t limit_ns;
	pid_t server;
	bool yes, list;
};

enum {
	OPT_CHECK = 256,
	OPT_LIST,
	OPT_YES,
	OPT_TAP,
	OPT_JUNIT,
	OPT_JSON,
	OPT_ITERATIONS,
	OPT_LIMIT,
	OPT_SERVER,
	OPT_TIMEOUT,
};

static const struct argp_option options[] = {
	{ "check", OPT_CHECK, "PATTERN", 0, "Only checks with such names (* and ?; may be repeated)", 0 },
	{ "list", OPT_LIST, NULL, 0, "List all checks, with the rules that they test, and do nothing", 0 },
	{ "yes", OPT_YES, NULL, 0, "Do it to a device that is not vfmig's software device", 0 },
	{ "tap", OPT_TAP, NULL, 0, "Print TAP", 0 },
	{ "junit", OPT_JUNIT, NULL, 0, "Print JUnit's XML", 0 },
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object a line for each device", 0 },
	{ "iterations", OPT_ITERATIONS, "N", 0,
	  "How often \"leaks\" saves and loads (1000; 10 if it is not the software device)", 0 },
	{ "limit", OPT_LIMIT, "MS", 0, "How long one arc or request may take, at its fastest (300)", 0 },
	{ "server", OPT_SERVER, "PID", 0, "\"leaks\": the process whose fds and memory are looked at, too", 0 },
	{ "timeout", OPT_TIMEOUT, "MS", 0, "How long one request to the device may take (30000)", 0 },
	OPEN_OPTIONS,
	{ 0 },
};

static uint32_t parse_number(struct argp_state *state, const char *option, const char *text, uint32_t max)
{
	uint64_t value;

	if (!open_parse_size(text, &value) || !value || value > max)
		argp_error(state, "%s: '%s' is not a number from 1 to %u", option, text, max);
	return (uint32_t)value;
}

static bool is_selected(const struct check_arguments *a, const struct check *c)
{
	for (size_t i = 0; i < a->num_patterns; i++)
		if (!fnmatch(a->patterns[i], c->name, 0))
			return true;
	return a->num_patterns == 0;
}

static void add_pattern(struct argp_state *state, struct check_arguments *a, const char *pattern)
{
	bool found = false;

	if (a->num_patterns == PATTERNS_MAX)
		argp_error(state, "more than %d times --check", PATTERNS_MAX);
	a->patterns[a->num_patterns++] = pattern;
	for (size_t i = 0; i < check_count && !found; i++)
		found = !fnmatch(pattern, check_table[i].name, 0);
	if (!found)
		argp_error(state, "--check %s: no check has such a name; --list lists them", pattern);
}

static error_t parse_argument(char *arg, struct argp_state *state, struct check_arguments *a)
{
	if (a->count == DEVICES_MAX)
		argp_error(state, "more than %d devices", DEVICES_MAX);
	a->uris[a->count++] = arg;
	return 0;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct check_arguments *a = state->input;
	if (open_parse_option(key, arg, state, &a->options))
		return 0;
	switch (key) {
	case OPT_CHECK:
		add_pattern(state, a, arg);
		return 0;
	case OPT_LIST:
		a->list = true;
		return 0;
	case OPT_YES:
		a->yes = true;
		return 0;
	case OPT_TAP:
	case OPT_JUNIT:
	case OPT_JSON:
		if (a->format != CHECK_TEXT)
			argp_error(state, "one of --tap, --junit and --json");
		a->format = key == OPT_TAP ? CHECK_TAP : key == OPT_JUNIT ? CHECK_JUNIT : CHECK_JSON;
		return 0;
	case OPT_ITERATIONS:
		a->iterations = parse_number(state, "--iterations", arg, ITERATIONS_MAX);
		return 0;
	case OPT_LIMIT:
		a->limit_ns = transfer_parse_ms(state, "--limit", arg) * NS_PER_MS;
		return 0;
	case OPT_SERVER:
		a->server = (pid_t)parse_number(state, "--server", arg, INT32_MAX);
		return 0;
	case OPT_TIMEOUT:
		a->options.timeout_ms = transfer_parse_ms(state, "--timeout", arg);
		return 0;
	case ARGP_KEY_ARG:
		return parse_argument(arg, state, a);
	case ARGP_KEY_END:
		if (!a->count && !a->list)
			argp_error(state, "which device? Expected a URI, vfio-user:/PATH say");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* ------------------------------------------------------- what will be done */

static bool applies(const struct check_run *r, const struct check *c)
{
	return c->protocols == CHECK_V2_NO_P2P ? r->protocol == CHECK_V2 && !r->has_p2p : c->protocols & r->protocol;
}

/* What all the selected checks do to the device. */
static uint32_t done_by(const struct check_arguments *a, const struct check_run *r)
{
	uint32_t does = 0;

	for (size_t i = 0; i < check_count; i++)
		if (applies(r, &check_table[i]) && is_selected(a, &check_table[i]))
			does |= check_table[i].does;
	return does & CHECK_TOUCHES;
}

/* *ret_exit: what the command then ends with. */
static int something_applies(const struct check_arguments *a, const struct check_run *r, int *ret_exit,
			     struct vfmig_error *err)
{
	for (size_t i = 0; i < check_count; i++)
		if (applies(r, &check_table[i]) && is_selected(a, &check_table[i]))
			return 0;
	*ret_exit = EXIT_USAGE;
	return error_set(err, -EINVAL, "no check of that name applies to a %s device%s; --list tells which do",
			 r->protocol == CHECK_V1 ? "v1" : "v2", r->has_p2p ? " with P2P states" : "");
}

static void say_what_is_done(const char *uri, uint32_t does, bool software)
{
	static const struct {
		uint32_t does;
		const char *what;
	} words[] = {
		{ CHECK_CONFIG, "write the command register what was read from it" },
		{ CHECK_MOVES, "take it from state to state; stopped, it works for nobody" },
		{ CHECK_RESETS, "reset it" },
		{ CHECK_LOADS, "load its own state, as it was read first, also cut and with 8 bytes too many" },
		{ CHECK_LOGS, "start and end its log of written pages; it is lent 2 MiB of memory for that" },
	};

	if (software || !does)
		return;
	fprintf(stderr, "vfmig check: %s: this will\n", uri);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (words[i].does & does)
			fprintf(stderr, "  - %s\n", words[i].what);
}

/* ------------------------------------------------------------------- running */

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number)
{
	(void)signal_number;
	interrupted = 1;
}

/* A device is not left in the middle: the check under way ends, and what was found is put back. */
static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void one_check(struct check_run *r, const struct check *c, struct check_result *ret)
{
	if (!interrupted || c->does & CHECK_ALWAYS)
		check_run_one(r, c, ret);
	else
		*ret = (struct check_result) { .check = c, .verdict = CHECK_SKIP, .why = "interrupted" };
}

/* *ret_failed: how many have. */
static int run_checks(const struct check_arguments *a, struct check_run *r, const char *uri, uint32_t does,
		      struct check_print *print, size_t *ret_failed, struct vfmig_error *err)
{
	struct check_result *results = calloc(check_count, sizeof(*results));
	size_t count = 0;

	if (!results)
		return error_errno(err, -ENOMEM, "results");
	*ret_failed = 0;
	check_print_device(print, uri, r);
	for (size_t i = 0; i < check_count; i++) {
		const struct check *c = &check_table[i];
		if (!applies(r, c) || !(is_selected(a, c) || (does && c->does & CHECK_ALWAYS)))
			continue;
		one_check(r, c, &results[count]);
		check_print_result(print, uri, &results[count]);
		*ret_failed += results[count++].verdict == CHECK_FAIL;
	}
	check_print_device_end(print, uri, r, results, count);
	free(results);
	/* Between two checks, with none selected that is about that. */
	return r->gone[0] && !*ret_failed ? error_set(err, -EIO, "%s", r->gone) : 0;
}

static int check_device(const struct check_arguments *a, const char *uri, struct check_print *print,
			size_t *ret_failed, int *ret_exit, struct vfmig_error *err)
{
	struct check_run *r = calloc(1, sizeof(*r));
	struct access *access = NULL;
	int e = r ? open_access(uri, &a->options, &access, err) : error_errno(err, -ENOMEM, "%s", uri);
	bool opened = e == 0; /* else the error names it already */

	if (e == 0)
		e = check_run_begin(r, access, a->options.interface, err);
	if (e == 0)
		e = something_applies(a, r, ret_exit, err);
	if (e == 0) {
		uint32_t does = done_by(a, r);
		bool software = !strcmp(access->ops->kind, "sim") || (!a->yes && check_is_software(r));
		r->iterations = a->iterations;
		r->limit_ns = a->limit_ns;
		r->server = a->server;
		r->interrupted = &interrupted;
		say_what_is_done(uri, does, software);
		if (does && !software && !a->yes) {
			*ret_exit = EXIT_USAGE;
			e = error_set(err, -EPERM, "it is not vfmig's software device: --yes does this to it");
		}
		if (e == 0)
			e = run_checks(a, r, uri, does, print, ret_failed, err);
	}
	if (r)
		check_run_end(r);
	access_close(access);
	free(r);
	return e >= 0 ? 0 : opened ? error_prefix(err, e, "%s", uri) : e;
}

static int check_all(const struct check_arguments *a)
{
	struct check_print print = { .format = a->format, .file = stdout, .many = a->count > 1 };
	struct vfmig_error err = { 0 };
	size_t failed;
	int result = EXIT_OK;

	catch_signals();
	check_print_begin(&print);
	for (size_t i = 0; i < a->count; i++) {
		int code = EXIT_FAILED;
		failed = 0;
		if (check_device(a, a->uris[i], &print, &failed, &code, &err) < 0) {
			output_fail("check", "%s", err.message);
			result = code;
		} else if (failed && result == EXIT_OK) {
			result = EXIT_FAILED;
		}
	}
	check_print_end(&print);
	if (fflush(stdout) || ferror(stdout))
		return output_fail("check", "standard output cannot be written");
	return interrupted ? EXIT_FAILED : result;
}

int cmd_check(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "URI...",
		.doc = "Judges a device's migration, rule by rule: every arc and every refusal, its data, pre-copy, "
		       "loads in all sizes, resets, its log of written pages, leaks, times. Each failure names the "
		       "rule.",
	};
	struct check_arguments a = {
		.options = { .size = sizeof(a.options), .timeout_ms = OPEN_TIMEOUT_MS },
		.limit_ns = LIMIT_MS * NS_PER_MS,
	};
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	if (!a.list)
		return check_all(&a);
	check_print_list(stdout, a.format == CHECK_JSON);
	return EXIT_OK;
}
