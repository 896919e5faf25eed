/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_device.c: vfmig device vfio-user:PATH: serves a software device. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "command.h"
#include "output.h"
#include "signals.h"
#include "sim/server.h"
#include "sim/sim_access.h"

#define OPTIONS_MAX 64
#define SCHEME "vfio-user:"

enum { OPT_JSON = 256, OPT_HELP_FAULTS, OPT_SIM = 512 };

struct device_arguments {
	const char *path;
	bool json;
	char *options; /* as for sim:OPTIONS, from all long options */
};

static void print_faults(void)
{
	printf("A fault is KIND@STEP[#N][:ARG]: every time the device comes to STEP, or only the N-th time.\n\n"
	       "Kinds, and the steps they are possible at:\n");
	for (int k = 0; k < FAULT_KINDS; k++) {
		printf("  %-12s %s\n              ", fault_kind_name((enum fault_kind)k),
		       fault_kind_help((enum fault_kind)k));
		for (int s = 0; s < FAULT_STEPS; s++)
			if (fault_possible((enum fault_kind)k, (enum fault_step)s))
				printf(" %s", fault_step_name((enum fault_step)s));
		printf("\n");
	}
	printf("\nSteps:\n");
	for (int s = 0; s < FAULT_STEPS; s++)
		printf("  %-12s %s\n", fault_step_name((enum fault_step)s), fault_step_help((enum fault_step)s));
	printf("\nA mapped data section is not read or written by calls: there data-read and data-write only know\n"
	       "wrong-bytes, which strikes once for each transaction, in the section itself.\n");
}

static void add_option(struct argp_state *state, struct device_arguments *a, const char *name, const char *value)
{
	char *text;

	if (value && strchr(value, ','))
		argp_error(state, "--%s=%s: a comma is not possible here", name, value);
	if (asprintf(&text, "%s%s%s%s%s", a->options ? a->options : "", a->options ? "," : "", name, value ? "=" : "",
		     value ? value : "") < 0)
		argp_failure(state, EXIT_FAILED, ENOMEM, "options");
	free(a->options);
	a->options = text;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct device_arguments *a = state->input;

	if (key >= OPT_SIM && key < OPT_SIM + OPTIONS_MAX) {
		add_option(state, a, sim_option_table[key - OPT_SIM].name, arg);
		return 0;
	}
	switch (key) {
	case OPT_JSON:
		a->json = true;
		return 0;
	case OPT_HELP_FAULTS:
		print_faults();
		exit(EXIT_OK);
	case ARGP_KEY_ARG:
		if (a->path)
			argp_error(state, "one socket at a time: '%s' is too many", arg);
		if (strncmp(arg, SCHEME, strlen(SCHEME)) != 0)
			argp_error(state, "'%s': expected vfio-user:PATH", arg);
		a->path = arg + strlen(SCHEME);
		return 0;
	case ARGP_KEY_END:
		if (!a->path)
			argp_error(state, "where is it to be served? Expected vfio-user:PATH");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* Whoever answers there keeps the path; a socket that nobody answers on is left over. */
static int remove_stale(const struct sockaddr_un *address, struct vfmig_error *err)
{
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : error_errno(err, -errno, "%s", path);
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, -EEXIST, "%s exists and is no socket", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(err, -errno, "socket");
	int r = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
	close(fd);
	if (r != -ECONNREFUSED)
		return error_set(err, -EADDRINUSE, "%s is in use by a running server", path);
	return unlink(path) < 0 ? error_errno(err, -errno, "%s", path) : 0;
}

static int listen_at(const char *path, int *ret_fd, struct vfmig_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (!*path || strlen(path) >= sizeof(address.sun_path))
		return error_set(err, -EINVAL, "'%s': a socket's path has 1 to %zu bytes", path,
				 sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	int r = remove_stale(&address, err);
	if (r < 0)
		return r;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0) {
		r = error_errno(err, -errno, "%s", path);
		if (fd >= 0)
			close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* What a signal says to a device that is served. */
struct served {
	const char *path;
	struct sim_device *device;
	struct server *server;
};

static void obey(void *opaque, enum signals_word word)
{
	const struct served *s = opaque;

	if (word == SIGNALS_CANCEL) {
		server_stop(s->server);
		return;
	}
	sim_device_lock(s->device);
	uint64_t step = s->device->work.step;
	sim_device_unlock(s->device);
	output_note("device", SCHEME "%s is served, at step %" PRIu64, s->path, step);
}

static void print_ready(const struct device_arguments *a, const struct sim_options *o)
{
	char size[OUTPUT_NUMBER_MAX];

	if (a->json) {
		struct json_object *ready = json_object_new_object();
		char uri[sizeof(SCHEME) + sizeof(((struct sockaddr_un *)0)->sun_path)];
		snprintf(uri, sizeof(uri), SCHEME "%s", a->path);
		json_object_object_add(ready, "event", output_string("listening"));
		json_object_object_add(ready, "uri", output_string(uri));
		json_object_object_add(ready, "state_bytes", json_object_new_uint64(o->size));
		json_object_object_add(ready, "section_bytes", json_object_new_uint64(o->section));
		json_object_object_add(ready, "pid", json_object_new_int64(getpid()));
		output_json(stdout, ready, false);
		return;
	}
	output_line("listening on " SCHEME "%s (%s of state%s)", a->path, output_bytes(o->size, size),
		    o->start ? ", at work" : "");
}

static int hook_region_fd(void *opaque, uint32_t index)
{
	return sim_access_region_fd(opaque, index);
}

static void hook_log(void *opaque, const char *line)
{
	(void)opaque;
	output_note("device", "%s", line);
}

static int send_message(void *opaque, uint64_t iova, const void *data, size_t length)
{
	uint8_t copy[SIM_SCATTER_PAGE];

	if (length > sizeof(copy))
		return -EINVAL;
	memcpy(copy, data, length);
	return server_dma(opaque, true, iova, copy, length, NULL);
}

static int serve(struct access *access, struct server *server, const struct device_arguments *a,
		 struct vfmig_error *err)
{
	int fd = -1;
	int r = listen_at(a->path, &fd, err);

	if (r < 0)
		return r;
	struct served served = { .path = a->path, .device = sim_access_device(access), .server = server };
	r = signals_watch_begin(obey, &served, err);
	if (r == 0) {
		print_ready(a, &sim_access_device(access)->options);
		r = server_run(server, fd, err);
		signals_watch_end();
	}
	unlink(a->path);
	close(fd);
	return r;
}

static int run(const struct device_arguments *a, struct vfmig_error *err)
{
	static const struct server_hooks hooks = { .region_fd = hook_region_fd, .log = hook_log };
	struct access *access;
	struct server *server;

	output_never_wait(true);
	int r = signals_take(err); /* before there is a thread */
	if (r == 0)
		r = sim_access_open(a->options ? a->options : "", &access, err);
	if (r < 0)
		return r;
	r = server_new(access, &hooks, access, &server, err);
	if (r == 0) {
		sim_access_serve(access, send_message, server);
		r = serve(access, server, a, err);
		sim_engine_stop(sim_access_device(access)); /* it may be in server_dma */
		server_free(server);
	}
	if (r == 0)
		r = sim_access_dump(access, err);
	access_close(access);
	return r;
}

/* The options of sim:OPTIONS, and two of the command's own. */
static void fill_options(struct argp_option *options)
{
	size_t n = 0;

	for (; sim_option_table[n].name && n < OPTIONS_MAX - 3; n++)
		options[n] = (struct argp_option){ .name = sim_option_table[n].name,
						   .key = OPT_SIM + (int)n,
						   .arg = sim_option_table[n].argument,
						   .doc = sim_option_table[n].help };
	options[n++] = (struct argp_option){ .name = "json", .key = OPT_JSON, .doc = "Print the line as JSON" };
	options[n++] = (struct argp_option){ .name = "help-faults", .key = OPT_HELP_FAULTS, .doc = "List the faults" };
	options[n] = (struct argp_option){ 0 };
}

int cmd_device(int argc, char **argv)
{
	struct argp_option options[OPTIONS_MAX];
	struct device_arguments a = { 0 };
	struct vfmig_error err = { 0 };
	struct sim_options parsed;

	fill_options(options);
	const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = SCHEME "PATH",
		.doc = "Serves a software device, a PCI function with a v1 migration region, until a signal ends it. "
		       "Prints one line once it listens.",
	};
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	int r = sim_options_parse(a.options ? a.options : "", &parsed, &err);
	if (r < 0) {
		output_fail("device", "%s; try 'vfmig device --help'", err.message);
		free(a.options);
		return EXIT_USAGE;
	}
	r = run(&a, &err);
	free(a.options);
	return r < 0 ? output_fail("device", "%s", err.message) : EXIT_OK;
}
