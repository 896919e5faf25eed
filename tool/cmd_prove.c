/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_prove.c: vfmig prove URI [URI2]: does a software device's work again and compares. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "command.h"
#include "open.h"
#include "output.h"
#include "sim/prove_pages.h"

#define DEVICES_MAX 2

enum { OPT_JSON = 256, OPT_LOG, OPT_SINCE, OPT_WAIT };

struct prove_arguments {
	const char *uris[DEVICES_MAX];
	size_t count;
	const char *log_path;
	uint64_t since;
	uint64_t wait;	      /* steps */
	uint64_t logged_then; /* with --wait: before the file became memory */
	bool json;
};

static const struct argp_option options[] = {
	{ "log", OPT_LOG, "FILE", 0,
	  "Check the log that the (last) device wrote: FILE is the memory at its log's IOVA. "
	  "Of a scattered log every page, which nobody may write meanwhile",
	  0 },
	{ "since", OPT_SINCE, "STEP", 0,
	  "The log must hold every step from this one on (default: its first). Of a scattered log: "
	  "the first step that was logged (default: as the source has it: all before were not logged; needed for one "
	  "device that has done steps without memory)",
	  0 },
	{ "wait", OPT_WAIT, "STEPS", 0,
	  "Look when the (last) device has done as many steps more; it writes its log into "
	  "FILE meanwhile, and those steps are checked; a scattered log wants a new FILE",
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
static int wait_steps(struct access *access, uint64_t steps, struct prove_claim *ret_then, struct vfmig_error *err)
{
	const struct timespec nap = { .tv_nsec = NS_PER_MS };
	struct prove_claim c;
	int r = prove_read(access, &c, err);

	if (r == 0)
		*ret_then = c;
	while (r == 0 && c.step - ret_then->step < steps) {
		if (!(c.control & 1))
			return error_set(err, -EINVAL, "it does no steps: its engine is off");
		nanosleep(&nap, NULL);
		r = prove_read(access, &c, err);
	}
	return r;
}

/* The file becomes as long as the device's log; a scattered one is of zeros at first. */
static int make_file(const char *path, bool scattered, uint64_t length, int *ret_fd, struct vfmig_error *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), r = 0;
	struct stat st;

	if (fd < 0)
		return error_errno(err, -errno, "%s", path);
	if (fstat(fd, &st) < 0)
		r = error_errno(err, -errno, "%s", path);
	else if (scattered && st.st_size)
		r = error_set(err, -EEXIST, "%s is there already: a scattered log begins with an empty file", path);
	else if (ftruncate(fd, (off_t)length) < 0)
		r = error_errno(err, -errno, "%s: %" PRIu64 " bytes", path, length);
	if (r < 0)
		close(fd);
	else
		*ret_fd = fd;
	return r;
}

/* The same with the log's file as the device's memory; afterwards the log holds the steps from `since` on. */
static int wait_with_log(struct access *access, struct prove_arguments *a, struct vfmig_error *err)
{
	struct prove_claim c, then = { 0 };
	int fd = -1, r = prove_read(access, &c, err);

	if (r < 0)
		return r;
	bool scattered = c.control & SIM_CONTROL_SCATTER;
	uint64_t length = c.log_entries * (scattered ? SIM_SCATTER_PAGE : SIM_LOG_ENTRY);
	if (!c.log_entries || c.log_entries > SIM_LOG_ENTRIES_MAX)
		return error_set(err, -EINVAL, "its log is off");
	r = make_file(a->log_path, scattered, length, &fd, err);
	if (r < 0)
		return r;
	r = access_dma_map(access, c.log_iova, length, fd, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, err);
	close(fd);
	if (r < 0)
		return r;
	r = wait_steps(access, a->wait, &then, err);
	/* Of a scattered log the very first step counts, which may have come before `then`. */
	a->logged_then = c.logged;
	a->since = then.step + 1 - (scattered ? then.logged - c.logged : 0);
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
	struct prove_claim then;
	if (last && a->wait)
		r = a->log_path ? wait_with_log(access, a, err) : wait_steps(access, a->wait, &then, err);
	if (r == 0)
		r = prove_read(access, ret, err);
	if (r == 0 && last && a->log_path) {
		r = prove_log_read(a->log_path, ret, log, err);
		if (r == 0) /* again: now no step in the log can be too new */
			r = prove_read(access, ret, err);
		if (r == 0 && log->pages && a->wait) {
			log->first = a->since;
			log->last = a->since - 1 + (ret->logged - a->logged_then);
		}
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
	return output_string(text);
}

static struct json_object *claim_json(const struct prove_claim *c)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "uri", output_string(c->name));
	json_object_object_add(o, "seed", json_object_new_uint64(c->seed));
	json_object_object_add(o, "state_bytes", json_object_new_uint64(c->state_bytes));
	json_object_object_add(o, "engine", json_object_new_boolean((c->control & SIM_CONTROL_ON) != 0));
	json_object_object_add(o, "scatter", json_object_new_boolean((c->control & SIM_CONTROL_SCATTER) != 0));
	json_object_object_add(o, "step", json_object_new_uint64(c->step));
	json_object_object_add(o, "chain", hex(c->chain));
	json_object_object_add(o, "digest", hex(c->digest));
	json_object_object_add(o, "loads", json_object_new_uint64(c->loads));
	json_object_object_add(o, "resumed_step", json_object_new_uint64(c->resumed_step));
	json_object_object_add(o, "logged", json_object_new_uint64(c->logged));
	json_object_object_add(o, "not_logged", json_object_new_uint64(c->not_logged));
	return o;
}

static uint64_t first_step(const struct prove_arguments *a, const struct prove_log *log)
{
	return a->since && !log->pages ? a->since : log->first;
}

static struct json_object *log_json(const struct prove_arguments *a, const struct prove_log *log)
{
	struct json_object *o = json_object_new_object();
	const struct prove_pages *p = log->pages;

	json_object_object_add(o, "first", json_object_new_uint64(first_step(a, log)));
	json_object_object_add(o, "last", json_object_new_uint64(log->last));
	if (!p || !p->checked)
		return o;
	json_object_object_add(o, "pages", json_object_new_uint64(log->count));
	json_object_object_add(o, "pages_written", json_object_new_uint64(p->written));
	json_object_object_add(o, "pages_wrong", json_object_new_uint64(p->wrong));
	if (!p->wrong)
		return o;
	const struct prove_wrong *w = &p->first_wrong;
	struct json_object *wrong = json_object_new_object();
	json_object_object_add(wrong, "page", json_object_new_uint64(w->page));
	json_object_object_add(wrong, "iova", json_object_new_uint64(w->iova));
	json_object_object_add(wrong, "expected_step", json_object_new_uint64(w->expected));
	json_object_object_add(wrong, "found_step", json_object_new_uint64(w->found));
	json_object_object_add(o, "first_wrong", wrong);
	return o;
}

static void print_json(const struct prove_arguments *a, const struct prove_claim *claims, const struct prove_log *log,
		       int code, const char *message)
{
	struct json_object *o = json_object_new_object(), *devices = json_object_new_array();

	json_object_object_add(o, "right", json_object_new_boolean(code == 0));
	if (code < 0)
		json_object_object_add(o, "error", output_string(message));
	for (size_t i = 0; i < a->count; i++)
		if (claims[i].name)
			json_object_array_add(devices, claim_json(&claims[i]));
	json_object_object_add(o, "devices", devices);
	if (log->count)
		json_object_object_add(o, "log", log_json(a, log));
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
	if (log->pages)
		printf("%s: steps %" PRIu64 " to %" PRIu64 ": all %" PRIu64 " pages right, %" PRIu64
		       " of them written\n",
		       a->log_path, log->first, log->last, log->count, log->pages->written);
	else if (log->count)
		printf("%s: steps %" PRIu64 " to %" PRIu64 ", each there once and right\n", a->log_path,
		       first_step(a, log), log->last);
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
		r = prove_run(claims, a.count, log.count ? &log : NULL, a.since, progress ? print_progress : NULL,
			      NULL, &err);
	if (progress)
		fputs("\r\033[K", stderr);
	if (a.json)
		print_json(&a, claims, &log, r, err.message);
	else if (r == 0)
		print_text(&a, claims, &log);
	prove_log_clear(&log);
	if (r < 0)
		return a.json ? EXIT_FAILED : output_fail("prove", "%s", err.message);
	return EXIT_OK;
}
