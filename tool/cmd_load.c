/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_load.c: vfmig load URI -i LINK. */
#include <string.h>

#include "command.h"
#include "migrate/ledger.h"
#include "owner.h"
#include "sandbox.h"
#include "sweeper.h"
#include "switch_command.h"
#include "transfer.h"

struct load_arguments {
	struct transfer transfer;
	struct vfmig_load_options options;
	struct owner owner;
	struct switch_command commands;
	bool no_sandbox;
	struct sweeper sweeper;
};

enum {
	OPT_REQUIRE_DIGEST = 512, OPT_NO_START, OPT_NO_VERIFY_FIRST, OPT_SPLIT_TRANSACTIONS, OPT_EXEC, OPT_GIVE,
	OPT_HOLD, OPT_DISCARD, OPT_RESUME_COMMAND, OPT_NO_SANDBOX, OPT_MAX_QUEUED, OPT_SWITCHOVER_ACK,
	OPT_SKIP_MEMORY, OPT_REPLACE,
};

static const struct argp_option options[] = {
	{ "input", 'i', "LINK", 0,
	  "Where the stream comes from: file:PATH, - (standard input), fd:N, exec:COMMAND; unix:PATH and "
	  "tcp:HOST:PORT listen",
	  0 },
	{ "require-digest", OPT_REQUIRE_DIGEST, NULL, 0, "Refuse a stream without digests (QEMU writes none)", 0 },
	{ "no-start", OPT_NO_START, NULL, 0, "Leave the loaded device stopped", 0 },
	{ "no-verify-first", OPT_NO_VERIFY_FIRST, NULL, 0,
	  "Do not read a file once for checking before the device is touched", 0 },
	{ "split-transactions", OPT_SPLIT_TRANSACTIONS, NULL, 0,
	  "Write a transaction that is larger than the device's data section in pieces, as QEMU 7.2 does against the "
	  "interface's rules", 0 },
	{ "max-queued", OPT_MAX_QUEUED, "BYTES", 0,
	  "With --multifd: keep at most so many bytes that came before their turn (64M)", 0 },
	{ "switchover-ack", OPT_SWITCHOVER_ACK, NULL, 0,
	  "The source has QEMU's capability switchover-ack: let it go on at once if no device here has pre-copy", 0 },
	{ "skip-memory", OPT_SKIP_MEMORY, "NAME", 0,
	  "Leave out the stream's memory block NAME, a ROM say; all others need a --memory once there is one", 0 },
	{ "exec", OPT_EXEC, "COMMAND", 0,
	  "Once the kernel device is loaded, become COMMAND (by sh -c), which has its fd: $VFMIG_DEVICE_FD is the "
	  "number",
	  0 },
	{ "give", OPT_GIVE, "unix:PATH", 0,
	  "Give the loaded kernel device's fd (SCM_RIGHTS) to the process that listens on PATH", 0 },
	{ "hold", OPT_HOLD, NULL, 0, "Keep the loaded device until a signal ends it", 0 },
	{ "resume-command", OPT_RESUME_COMMAND, "COMMAND", 0,
	  "Run COMMAND (by sh -c) once the devices run; if it fails, the load fails and is taken back", 0 },
	{ "discard", OPT_DISCARD, NULL, 0, "Load a kernel device and let it go, which resets it: for tests", 0 },
	{ "replace", OPT_REPLACE, "SESSION", OPTION_HIDDEN, NULL, 0 },
	{ "no-sandbox", OPT_NO_SANDBOX, NULL, 0, "Keep privileges and system calls, for debuggers say", 0 },
	{ 0 },
};

static void set_owner(struct argp_state *state, struct owner *o, enum owner_kind kind, const char *what)
{
	if (o->kind != OWNER_NONE)
		argp_error(state, "one of --exec, --give, --hold and --discard: a device has one owner");
	o->kind = kind;
	o->what = what;
}

/* Nothing has been opened yet. */
static void check_owner(struct argp_state *state, const struct load_arguments *a)
{
	for (size_t i = 0; i < a->transfer.num_uris; i++)
		if (a->owner.kind == OWNER_NONE && device_uri_owns(a->transfer.uris[i]))
			argp_error(state, "%s: a kernel device is reset when the last fd to it is closed: what was "
					  "loaded would be lost; say who has it then: --exec COMMAND, --give "
					  "unix:PATH or --hold (or --discard)",
				   a->transfer.uris[i]);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct load_arguments *a = state->input;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &a->transfer;
		return 0;
	case 'i':
		a->transfer.link_uri = arg;
		return 0;
	case OPT_REQUIRE_DIGEST:
		a->options.require_digest = true;
		return 0;
	case OPT_NO_START:
		a->options.no_start = true;
		return 0;
	case OPT_NO_VERIFY_FIRST:
		a->options.no_verify_first = true;
		return 0;
	case OPT_SPLIT_TRANSACTIONS:
		a->transfer.device_options.split_transactions = true;
		return 0;
	case OPT_SWITCHOVER_ACK:
		a->options.switchover_ack = true;
		return 0;
	case OPT_SKIP_MEMORY:
		if (a->transfer.memory_arguments.num_skipped == MEMORY_MAX)
			argp_error(state, "more than %d --skip-memory", MEMORY_MAX);
		a->transfer.memory_arguments.skipped[a->transfer.memory_arguments.num_skipped++] = arg;
		return 0;
	case OPT_MAX_QUEUED:
		if (!open_parse_size(arg, &a->options.max_queued) || !a->options.max_queued)
			argp_error(state, "--max-queued %s: expected bytes, 64M say", arg);
		return 0;
	case OPT_EXEC:
		set_owner(state, &a->owner, OWNER_EXEC, arg);
		return 0;
	case OPT_GIVE:
		set_owner(state, &a->owner, OWNER_GIVE, arg);
		return 0;
	case OPT_HOLD:
		set_owner(state, &a->owner, OWNER_HOLD, NULL);
		return 0;
	case OPT_DISCARD:
		set_owner(state, &a->owner, OWNER_DISCARD, NULL);
		return 0;
	case OPT_REPLACE:
		a->options.replace = arg;
		return 0;
	case OPT_RESUME_COMMAND:
		a->commands.resume = arg;
		return 0;
	case OPT_NO_SANDBOX:
		a->no_sandbox = true;
		return 0;
	case ARGP_KEY_END:
		if (a->commands.resume && a->options.no_start)
			argp_error(state, "--resume-command with --no-start: nothing would run");
		check_owner(state, a);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int step(void *handle, struct vfmig_error *err)
{
	return vfmig_load_step(handle, err);
}

static int wait_fd(void *handle, short *ret_events)
{
	return vfmig_load_wait(handle, ret_events);
}

static void cancel(void *handle)
{
	vfmig_load_cancel(handle);
}

static void status(const void *handle, struct vfmig_status *ret)
{
	vfmig_load_status(handle, ret);
}

static const struct transfer_ops load_ops = { .step = step, .wait = wait_fd, .cancel = cancel, .status = status };

static const char *after(const char *uri, const char *scheme)
{
	size_t n = strlen(scheme);
	return strncmp(uri, scheme, n) ? NULL : uri + n;
}

/* Everything that has to be opened or started is: from here on a stream that nobody vouches for is looked at. */
static int enter_sandbox(struct load_arguments *a, struct vfmig_error *err)
{
	const char *uri = a->transfer.link_uri, *path = after(uri, "unix:");
	const struct sandbox_needs needs = { .command = after(uri, "exec:"), .journal = a->transfer.journal };
	const char *obstacle = a->no_sandbox		     ? "--no-sandbox" :
			       a->owner.kind == OWNER_EXEC ? "--exec: the command would be in it, too" :
							     sandbox_obstacle();
	char line[128];
	if (!obstacle) {
		int r = path ? sweeper_start(&a->sweeper, path, err) : 0;
		return r < 0 ? r : sandbox_enter(&needs, err);
	}
	snprintf(line, sizeof(line), "no sandbox: %s", obstacle);
	output_log(&a->transfer.output, VFMIG_LOG_DEBUG, line);
	return 0;
}

static int load(struct load_arguments *a, struct vfmig_status *ret_status, struct vfmig_error *err)
{
	struct transfer *t = &a->transfer;
	struct vfmig_load *handle;
	int r = transfer_open(t, err);
	transfer_opened();
	if (!r)
		r = owner_check(&a->owner, t->devices, t->num_uris, err);
	if (r < 0)
		return r;
	a->options.journal = t->journal;
	a->options.retry_for_ns = t->retry_for_ns;
	a->options.multifd_channels = t->multifd_channels;
	memcpy(a->options.multifd_uuid, t->uuid, sizeof(t->uuid));
	r = vfmig_load_new(t->link, &a->options, &handle, err);
	if (r < 0)
		return r;
	r = t->memory ? vfmig_load_add_memory(handle, t->memory, err) : 0;
	for (size_t i = 0; !r && i < t->num_uris; i++)
		r = vfmig_load_add_device(handle, t->devices[i], transfer_id(t, i), err);
	if (!r)
		r = switch_command_add_load(&a->commands, handle, err);
	if (!r)
		r = load_claim(handle, err); /* the sandbox opens no files */
	if (!r)
		r = enter_sandbox(a, err);
	if (!r)
		r = transfer_run(t, &load_ops, handle, err);
	vfmig_load_status(handle, ret_status);
	vfmig_load_free(handle);
	return r < 0 ? r : owner_give(&a->owner, t->devices, t->num_uris, err);
}

int cmd_load(int argc, char **argv)
{
	static const struct argp_child children[] = { { &transfer_argp, 0, NULL, 0 }, { 0 } };
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "URI... -i LINK",
		.doc = "Loads a device's state, checks that it is whole, and starts the device.",
		.children = children,
	};
	struct load_arguments a = { .transfer = { .command = "load", .direction = VFMIG_LOAD }, .owner = OWNER_NOBODY,
				    .commands = SWITCH_COMMAND_NONE };
	a.options.size = sizeof(a.options);
	a.options.log = output_log;
	a.options.log_opaque = &a.transfer.output;
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	struct vfmig_error err = { 0 };
	struct vfmig_status last = { .phase = VFMIG_PHASE_FAILED };
	if (switch_command_prepare_load(&a.commands, &err) < 0 || transfer_begin(&a.transfer, &err) < 0 ||
	    owner_prepare(&a.owner, a.transfer.timeout_ms ? a.transfer.timeout_ms : OPEN_TIMEOUT_MS, &err) < 0)
		return output_fail("load", "%s", err.message);
	int r = load(&a, &last, &err);
	r = transfer_report(&a.transfer, r, &err, &last);
	if (r == EXIT_OK && owner_stay(&a.owner, a.transfer.devices, a.transfer.num_uris, &err) < 0)
		r = output_fail("load", "%s", err.message);
	owner_close(&a.owner);
	switch_command_close(&a.commands);
	transfer_close(&a.transfer);
	sweeper_stop(&a.sweeper);
	return r;
}
