/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_prove.c: vfmig prove URI [URI2]: does a software device's work again and compares. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "command.h"
#include "open.h"
#include "output.h"
#include "sim/prove.h"

#define DEVICES_MAX 2

enum { OPT_JSON = 256, OPT_LOG, OPT_SINCE, OPT_WAIT };

struct prove_arguments {
	const char *uris[DEVICES_MAX];
	size_t count;
	const char *log_path;
	uint64_t since;
	uint64_t wait; /* steps */
	bool json;
};

static const struct argp_option options[] = {
	{ "log", OPT_LOG, "FILE", 0, "Check the log that the (last) device wrote: FILE is the memory at its log's IOVA",
	  0 },
	{ "since", OPT_SINCE, "STEP", 0, "The log must hold every step from this one on (default: its first)", 0 },
	{ "wait", OPT_WAIT, "STEPS", 0,
	  "Look when the (last) device has done as many steps more; it writes its log into "
	  "FILE meanwhile, and those steps are checked",
	  0 },
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object", 0 },
	{ 0 },
};

static uint64_t parse_step(struct argp_state *state, const char *option, const char *text)
{
	char *end;

	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || v == 0)
		argp_error(state, "%s=%s: expected a number of steps, from 1", option, text);
	return v;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct prove_arguments *a = state->input;

	switch (key) {
	case OPT_JSON:
		a->json = true;
		return 0;
	case OPT_LOG:
		a->log_path = arg;
		return 0;
	case OPT_SINCE:
		a->since = parse_step(state, "--since", arg);
		return 0;
	case OPT_WAIT:
		a->wait = parse_step(state, "--wait", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (a->count == DEVICES_MAX)
			argp_error(state, "a source and a destination: '%s' is too many", arg);
		a->uris[a->count++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->count)
			argp_error(state, "which device? Expected a URI, vfio-user:/PATH say");
		if (a->since && !a->log_path)
			argp_error(state, "--since is of a --log");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* Lets the device go on until it has done so many steps more. */
static int wait_steps(struct access *access, uint64_t steps, uint64_t *ret_from, struct vfmig_error *err)
{
	const struct timespec nap = { .tv_nsec = NS_PER_MS };
	struct prove_claim c;
	int r = prove_read(access, &c, err);
	uint64_t from = c.step;

	while (r == 0 && c.step - from < steps) {
		if (!(c.control & 1))
			return error_set(err, -EINVAL, "it does no steps: its engine is off");
		nanosleep(&nap, NULL);
		r = prove_read(access, &c, err);
	}
	*ret_from = from + 1;
	return r;
}

/* The same with the log's file as the device's memory; afterwards the log holds the steps from `since` on. */
static int wait_with_log(struct access *access, struct prove_arguments *a, struct vfmig_error *err)
{
	struct prove_claim c;
	int r = prove_read(access, &c, err);

	if (r < 0)
		return r;
	uint64_t length = c.log_entries * SIM_LOG_ENTRY;
	if (!c.log_entries || c.log_entries > SIM_LOG_ENTRIES_MAX)
		return error_set(err, -EINVAL, "its log is off");
	int fd = open(a->log_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, -errno, "%s", a->log_path);
	if (ftruncate(fd, (off_t)length) < 0)
		r = error_errno(err, -errno, "%s: %" PRIu64 " bytes", a->log_path, length);
	else
		r = access_dma_map(access, c.log_iova, length, fd, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, err);
	close(fd);
	if (r < 0)
		return r;
	r = wait_steps(access, a->wait, &a->since, err);
	int unmapped = access_dma_unmap(access, c.log_iova, length, r < 0 ? NULL : err);
	return r < 0 ? r : unmapped;
}

static int read_claim(struct prove_arguments *a, size_t i, struct prove_claim *ret, struct prove_log *log,
		      struct vfmig_error *err)
{
	struct access *access;
	int r = open_access(a->uris[i], NULL, &access, err);

	if (r < 0)
		return r;
	bool last = i + 1 == a->count;
	uint64_t from;
	if (last && a->wait)
		r = a->log_path ? wait_with_log(access, a, err) : wait_steps(access, a->wait, &from, err);
	if (r == 0)
		r = prove_read(access, ret, err);
	if (r == 0 && last && a->log_path) {
		r = prove_log_read(a->log_path, ret->log_entries, log, err);
		if (r == 0) /* again: now no step in the log can be too new */
			r = prove_read(access, ret, err);
	}
	access_close(access);
	ret->name = a->uris[i];
	return r < 0 ? error_prefix(err, r, "%s", a->uris[i]) : 0;
}

static int read_all(struct prove_arguments *a, struct prove_claim *claims, struct prove_log *log,
		    struct vfmig_error *err)
{
	int r = 0;

	for (size_t i = 0; i < a->count && r == 0; i++)
		r = read_claim(a, i, &claims[i], log, err);
	return r;
}

static void print_progress(void *opaque, uint64_t step, uint64_t last)
{
	(void)opaque;
	fprintf(stderr, "\rrecomputing: step %" PRIu64 " of %" PRIu64 "\033[K", step, last);
}

static struct json_object *hex(uint64_t v)
{
	char text[17];

	snprintf(text, sizeof(text), "%016" PRIx64, v);
	return json_object_new_string(text);
}

static struct json_object *claim_json(const struct prove_claim *c)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "uri", json_object_new_string(c->name));
	json_object_object_add(o, "seed", json_object_new_uint64(c->seed));
	json_object_object_add(o, "state_bytes", json_object_new_uint64(c->state_bytes));
	json_object_object_add(o, "engine", json_object_new_boolean(c->control & 1));
	json_object_object_add(o, "step", json_object_new_uint64(c->step));
	json_object_object_add(o, "chain", hex(c->chain));
	json_object_object_add(o, "digest", hex(c->digest));
	json_object_object_add(o, "loads", json_object_new_uint64(c->loads));
	json_object_object_add(o, "resumed_step", json_object_new_uint64(c->resumed_step));
	json_object_object_add(o, "logged", json_object_new_uint64(c->logged));
	json_object_object_add(o, "not_logged", json_object_new_uint64(c->not_logged));
	return o;
}

static void print_json(const struct prove_arguments *a, const struct prove_claim *claims, const struct prove_log *log,
		       uint64_t since, int code, const char *message)
{
	struct json_object *o = json_object_new_object(), *devices = json_object_new_array();

	json_object_object_add(o, "right", json_object_new_boolean(code == 0));
	if (code < 0)
		json_object_object_add(o, "error", json_object_new_string(message));
	for (size_t i = 0; i < a->count; i++)
		if (claims[i].name)
			json_object_array_add(devices, claim_json(&claims[i]));
	json_object_object_add(o, "devices", devices);
	if (log->entries) {
		struct json_object *l = json_object_new_object();
		json_object_object_add(l, "first", json_object_new_uint64(since ? since : log->first));
		json_object_object_add(l, "last", json_object_new_uint64(log->last));
		json_object_object_add(o, "log", l);
	}
	output_json(stdout, o, true);
}

static void print_text(const struct prove_arguments *a, const struct prove_claim *claims, const struct prove_log *log)
{
	for (size_t i = 0; i < a->count; i++)
		printf("%s: %" PRIu64 " steps, chain %016" PRIx64
		       ": right, recomputed from nothing; every page right%s\n",
		       claims[i].name, claims[i].step, claims[i].chain, claims[i].control & 1 ? "" : "; engine off");
	if (a->count == 2)
		printf("%s went on at step %" PRIu64 ", where %s had stopped: none lost, none repeated\n",
		       claims[1].name, claims[1].resumed_step, claims[0].name);
	if (log->entries)
		printf("%s: steps %" PRIu64 " to %" PRIu64 ", each there once and right\n", a->log_path,
		       a->since ? a->since : log->first, log->last);
}

int cmd_prove(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "URI [URI2]",
		.doc = "Does all the work of a software device again, from nothing, and says whether the device's own "
		       "result is right. With two: whether the second went on exactly where the first stopped.",
	};
	struct prove_claim claims[DEVICES_MAX] = { 0 };
	struct prove_arguments a = { 0 };
	struct prove_log log = { 0 };
	struct vfmig_error err = { 0 };

	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	bool progress = isatty(STDERR_FILENO) && !a.json;
	int r = read_all(&a, claims, &log, &err);
	if (r == 0)
		r = prove_run(claims, a.count, log.entries ? &log : NULL, a.since, progress ? print_progress : NULL,
			      NULL, &err);
	if (progress)
		fputs("\r\033[K", stderr);
	if (a.json)
		print_json(&a, claims, &log, a.since, r, err.message);
	else if (r == 0)
		print_text(&a, claims, &log);
	prove_log_clear(&log);
	if (r < 0)
		return a.json ? EXIT_FAILED : output_fail("prove", "%s", err.message);
	return EXIT_OK;
}
