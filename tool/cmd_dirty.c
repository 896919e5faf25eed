/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_dirty.c: vfmig dirty URI: how fast and where a device writes memory, and whether a migration can keep up. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "command.h"
#include "dirty_rate.h"
#include "memory_files.h"
#include "open.h"
#include "output.h"
#include "transfer.h"

#define PARTS_MAX 4096
#define HEAD_LINES 20 /* on a terminal, then what the columns are is said again */

struct dirty_arguments {
	const char *uri;
	struct vfmig_device_options options;
	struct memory_arguments memory;
	uint64_t interval_ns, count; /* count 0: for ever */
	size_t parts;
	bool watch, json;
	struct dirty_print print;
};

enum {
	OPT_MEMORY = 256,
	OPT_INTERVAL,
	OPT_WATCH,
	OPT_COUNT,
	OPT_RANGES,
	OPT_BANDWIDTH,
	OPT_LIMIT,
	OPT_JSON,
	OPT_TIMEOUT,
};

static const struct argp_option options[] = {
	{ "memory", OPT_MEMORY, "NAME=PATH[,...]", 0,
	  "Memory that the device reaches, as for save; if it was handed over (fd:), what its opener has mapped", 0 },
	{ "interval", OPT_INTERVAL, "MS", 0, "How long to count before printing (1000)", 0 },
	{ "watch", OPT_WATCH, NULL, 0, "Print a line for each interval until a signal comes", 0 },
	{ "count", OPT_COUNT, "N", 0, "With --watch: N intervals", 0 },
	{ "ranges", OPT_RANGES, "N", 0, "Count in N equal ranges of each memory block (16)", 0 },
	{ "bandwidth", OPT_BANDWIDTH, "BYTES", 0,
	  "Say what a save at so many bytes a second (K, M, G) would make of it", 0 },
	{ "downtime-limit", OPT_LIMIT, "MS", 0, "How long the device may be stopped for its memory (300)", 0 },
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object a line for each interval", 0 },
	{ "timeout", OPT_TIMEOUT, "MS", 0, "How long one request to the device may take (30000)", 0 },
	OPEN_OPTIONS,
	{ 0 },
};

static uint64_t parse_number(struct argp_state *state, const char *option, const char *text, uint64_t max)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || !value || value > max)
		argp_error(state, "%s: '%s' is not a number from 1 to %llu", option, text, (unsigned long long)max);
	return value;
}

static void check_arguments(struct argp_state *state, const struct dirty_arguments *a)
{
	if (!a->uri)
		argp_error(state, "which device? Expected a URI, vfio-user:/PATH say");
	if (!a->memory.count)
		argp_error(state, "which memory? Expected --memory NAME=PATH");
	if (a->count && !a->watch)
		argp_error(state, "--count needs --watch");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct dirty_arguments *a = state->input;
	struct vfmig_error err;
	if (open_parse_option(key, arg, state, &a->options))
		return 0;
	switch (key) {
	case OPT_MEMORY:
		if (memory_parse(&a->memory, arg, &err) < 0)
			argp_error(state, "--memory: %s", err.message);
		return 0;
	case OPT_INTERVAL:
		a->interval_ns = transfer_parse_ms(state, "--interval", arg) * NS_PER_MS;
		return 0;
	case OPT_WATCH:
		a->watch = true;
		return 0;
	case OPT_COUNT:
		a->count = parse_number(state, "--count", arg, INT64_MAX);
		return 0;
	case OPT_RANGES:
		a->parts = (size_t)parse_number(state, "--ranges", arg, PARTS_MAX);
		return 0;
	case OPT_BANDWIDTH:
		if (!open_parse_size(arg, &a->print.bandwidth_bytes_per_s) || !a->print.bandwidth_bytes_per_s)
			argp_error(state, "--bandwidth: '%s' is not a number of bytes a second", arg);
		return 0;
	case OPT_LIMIT:
		a->print.limit_ns = transfer_parse_ms(state, "--downtime-limit", arg) * NS_PER_MS;
		return 0;
	case OPT_JSON:
		a->json = true;
		return 0;
	case OPT_TIMEOUT:
		a->options.timeout_ms = transfer_parse_ms(state, "--timeout", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (a->uri)
			argp_error(state, "one device at a time: '%s' is too many", arg);
		a->uri = arg;
		return 0;
	case ARGP_KEY_END:
		check_arguments(state, a);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* --------------------------------------------------------------- measuring */

/* SIGINT and SIGTERM, which are blocked: false when one came before that time. */
static bool wait_until(const sigset_t *signals, uint64_t until_ns)
{
	for (;;) {
		uint64_t now_ns = clock_now_ns(), left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
		struct timespec left = { (time_t)(left_ns / NS_PER_S), (long)(left_ns % NS_PER_S) };
		if (sigtimedwait(signals, NULL, &left) > 0)
			return false;
		if (errno == EAGAIN)
			return true;
	}
}

static int print(const struct dirty_arguments *a, const struct dirty_rate *rate, uint64_t line, struct vfmig_error *err)
{
	if (a->json) {
		dirty_print_json(stdout, rate, &a->print);
	} else if (!a->watch) {
		dirty_print_all(stdout, rate, &a->print);
	} else {
		if (line == 0 || (line % HEAD_LINES == 0 && isatty(STDOUT_FILENO)))
			dirty_print_head(stdout, &a->print);
		dirty_print_line(stdout, rate, &a->print);
	}
	return ferror(stdout) ? error_set(err, -EIO, "standard output cannot be written") : 0;
}

static int measure(const struct dirty_arguments *a, struct dirty_rate *rate, const sigset_t *signals,
		   struct vfmig_error *err)
{
	uint64_t most = !a->watch ? 1 : a->count ? a->count : UINT64_MAX;
	uint64_t until_ns = clock_now_ns();
	for (uint64_t n = 0; n < most; n++) {
		until_ns += a->interval_ns;
		if (!wait_until(signals, until_ns))
			return a->watch ? 0 : error_set(err, -EINTR, "interrupted before the interval was over");
		int r = dirty_rate_next(rate, err);
		if (r == 0)
			r = print(a, rate, n, err);
		if (r < 0)
			return r;
		until_ns = clock_now_ns() > until_ns + a->interval_ns ? clock_now_ns() : until_ns;
	}
	return 0;
}

/* The log is ended whatever happens, so from here on a signal or a closed pipe is no reason to go without it. */
static int run(const struct dirty_arguments *a, struct vfmig_memory *memory, struct vfmig_device *device,
	       struct vfmig_error *err)
{
	struct dirty_rate rate;
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
		return error_errno(err, -errno, "signals");
	int r = dirty_rate_start(&rate, a->uri, memory, device, a->parts, err);
	if (r == 0)
		r = measure(a, &rate, &signals, err);
	dirty_rate_end(&rate);
	return r;
}

/* A device that was handed over reaches what its opener has mapped; the tracker then asks for all memory there is. */
static int reach(struct vfmig_memory *memory, struct vfmig_device *device, struct vfmig_error *err)
{
	int r = vfmig_memory_map(memory, device, err);
	return r < 0 && r != -EOPNOTSUPP ? r : vfmig_memory_add_device(memory, device, err);
}

static int dirty(struct dirty_arguments *a, struct vfmig_error *err)
{
	struct vfmig_memory *memory = NULL;
	struct vfmig_device *device = NULL;
	if (device_uri_owns(a->uri))
		fprintf(stderr,
			"vfmig dirty: %s: nobody else has the device, and opening resets most: this may see a fresh "
			"one; to see one at work, have its owner hand over its fd (fd:N, fd-from:unix:PATH)\n",
			a->uri);
	int r = memory_open(&a->memory, &memory, err);
	if (r == 0)
		r = open_device(a->uri, &a->options, &device, err);
	if (r == 0)
		r = reach(memory, device, err);
	if (r == 0)
		r = run(a, memory, device, err);
	vfmig_memory_free(memory);
	vfmig_device_close(device);
	return r;
}

int cmd_dirty(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "URI",
		.doc = "Tells how fast and where a device writes memory, by the log that a save would use. Never "
		       "changes the device's state.",
	};
	struct dirty_arguments args = {
		.options = { .size = sizeof(args.options), .timeout_ms = OPEN_TIMEOUT_MS },
		.interval_ns = 1000 * NS_PER_MS,
		.parts = 16,
		.print = { .limit_ns = DEFAULT_DOWNTIME_MS * NS_PER_MS },
	};
	if (argp_parse(&argp, argc, argv, 0, NULL, &args))
		return EXIT_USAGE;
	struct vfmig_error err = { 0 };
	int r = dirty(&args, &err);
	memory_arguments_clear(&args.memory);
	return r < 0 ? output_fail("dirty", "%s", err.message) : EXIT_OK;
}
