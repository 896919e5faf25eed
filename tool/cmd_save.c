/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_save.c: vfmig save URI -o LINK. */
#include "command.h"
#include "base/clock.h"
#include "transfer.h"

struct save_arguments {
	struct transfer transfer;
	struct vfmig_save_options options;
};

enum { OPT_MACHINE = 512, OPT_DOWNTIME_LIMIT, OPT_NO_PRECOPY, OPT_NO_RETURN_PATH };

static const struct argp_option options[] = {
	{ "output", 'o', "LINK", 0,
	  "Where the stream goes: file:PATH, - (standard output), fd:N, exec:COMMAND, unix:PATH, tcp:HOST:PORT, null:",
	  0 },
	{ "machine", OPT_MACHINE, "NAME", 0, "Machine name in the stream (pc-q35-7.2); QEMU loads only its own", 0 },
	{ "downtime-limit", OPT_DOWNTIME_LIMIT, "MS", 0, "Stop the device once the rest takes at most this long (300)",
	  0 },
	{ "no-precopy", OPT_NO_PRECOPY, NULL, 0, "Stop the device first, then save everything", 0 },
	{ "no-return-path", OPT_NO_RETURN_PATH, NULL, 0,
	  "unix:, tcp:, fd: to something that only stores the stream: do not wait for \"loaded\"", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct save_arguments *a = state->input;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &a->transfer;
		return 0;
	case 'o':
		a->transfer.link_uri = arg;
		return 0;
	case OPT_MACHINE:
		a->options.machine = arg;
		return 0;
	case OPT_DOWNTIME_LIMIT:
		a->options.downtime_limit_ns = transfer_parse_ms(state, "--downtime-limit", arg) * NS_PER_MS;
		return 0;
	case OPT_NO_PRECOPY:
		a->options.no_precopy = true;
		return 0;
	case OPT_NO_RETURN_PATH:
		a->options.no_return_path = true;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int step(void *handle, struct vfmig_error *err)
{
	return vfmig_save_step(handle, err);
}

static int wait_fd(void *handle, short *ret_events)
{
	return vfmig_save_wait(handle, ret_events);
}

static void cancel(void *handle)
{
	vfmig_save_cancel(handle);
}

static void status(const void *handle, struct vfmig_status *ret)
{
	vfmig_save_status(handle, ret);
}

static const struct transfer_ops save_ops = { .step = step, .wait = wait_fd, .cancel = cancel, .status = status };

static int save(struct save_arguments *a, struct vfmig_status *ret_status, struct vfmig_error *err)
{
	struct transfer *t = &a->transfer;
	struct vfmig_save *handle;
	int r = transfer_open(t, err);
	if (r < 0)
		return r;
	r = vfmig_save_new(t->link, &a->options, &handle, err);
	if (r < 0)
		return r;
	for (size_t i = 0; !r && i < t->num_uris; i++)
		r = vfmig_save_add_device(handle, t->devices[i], transfer_id(t, i), err);
	if (!r)
		r = transfer_run(t, &save_ops, handle, err);
	vfmig_save_status(handle, ret_status);
	vfmig_save_free(handle);
	return r;
}

int cmd_save(int argc, char **argv)
{
	static const struct argp_child children[] = { { &transfer_argp, 0, NULL, 0 }, { 0 } };
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "URI... -o LINK",
		.doc = "Saves the state of a device at work: pre-copy while it works, then a short stop.",
		.children = children,
	};
	struct save_arguments a = { .transfer = { .command = "save", .direction = VFMIG_SAVE } };
	a.options.size = sizeof(a.options);
	a.options.log = output_log;
	a.options.log_opaque = &a.transfer.output;
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	struct vfmig_error err = { 0 };
	struct vfmig_status last = { .phase = VFMIG_PHASE_FAILED };
	int r = save(&a, &last, &err);
	r = transfer_report(&a.transfer, r, &err, &last);
	transfer_close(&a.transfer);
	return r;
}
