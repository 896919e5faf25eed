/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_save.c: vfmig save URI -o LINK. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "base/clock.h"
#include "signals.h"
#include "switch_command.h"
#include "transfer.h"

#define ASK_POLL_MS 250

struct save_arguments {
	struct transfer transfer;
	struct vfmig_save_options options;
	struct switch_command commands;
	enum on_timeout { NOT_GIVEN, GIVE_UP, SWITCH, ASK } on_timeout;
};

enum {
	OPT_MACHINE = 512,
	OPT_DOWNTIME_LIMIT,
	OPT_MAX_BANDWIDTH,
	OPT_PRECOPY_TIMEOUT,
	OPT_ON_TIMEOUT,
	OPT_STOP_COMMAND,
	OPT_RESUME_COMMAND,
	OPT_NO_PRECOPY,
	OPT_NO_RETURN_PATH,
	OPT_TLS_HOSTNAME,
	OPT_SWITCHOVER_ACK,
	OPT_NO_DIGEST,
	OPT_AGAIN,
};

static const struct argp_option options[] = {
	{ "output", 'o', "LINK", 0,
	  "Where the stream goes: file:PATH, - (standard output), fd:N, exec:COMMAND, unix:PATH, tcp:HOST:PORT, null:",
	  0 },
	{ "machine", OPT_MACHINE, "NAME", 0, "Machine name in the stream (pc-q35-7.2); QEMU loads only its own", 0 },
	{ "downtime-limit", OPT_DOWNTIME_LIMIT, "MS", 0, "Stop the device once the rest takes at most this long (300)",
	  0 },
	{ "max-bandwidth", OPT_MAX_BANDWIDTH, "BYTES", 0,
	  "Send at most so many bytes a second (K, M, G) while the device works (no limit)", 0 },
	{ "precopy-timeout", OPT_PRECOPY_TIMEOUT, "MS", 0,
	  "Try for so long to come below the downtime limit (for ever)", 0 },
	{ "on-timeout", OPT_ON_TIMEOUT, "give-up|switch|ask", 0,
	  "Then: the device works on, is stopped all the same, or the terminal is asked (give-up)", 0 },
	{ "stop-command", OPT_STOP_COMMAND, "COMMAND", 0,
	  "Run COMMAND (by sh -c) right before the devices stop; its time is part of the downtime", 0 },
	{ "resume-command", OPT_RESUME_COMMAND, "COMMAND", 0,
	  "Run COMMAND if the devices were stopped and work here again after all", 0 },
	{ "no-precopy", OPT_NO_PRECOPY, NULL, 0, "Stop the device first, then save everything", 0 },
	{ "no-return-path", OPT_NO_RETURN_PATH, NULL, 0,
	  "unix:, tcp:, fd: to something that only stores the stream: do not wait for \"loaded\"", 0 },
	{ "switchover-ack", OPT_SWITCHOVER_ACK, NULL, 0,
	  "Stop nothing before the other side has the devices' initial bytes and says so (QEMU 8.1's capability)", 0 },
	{ "no-digest", OPT_NO_DIGEST, NULL, 0,
	  "Put no digests into the stream, to save their time: a byte that is changed on the way is not noticed", 0 },
	{ "again", OPT_AGAIN, "SESSION", OPTION_HIDDEN, NULL, 0 },
	{ "tls-hostname", OPT_TLS_HOSTNAME, "NAME", 0,
	  "Whom the other side's certificate has to be for (the host of tcp:HOST:PORT)", 0 },
	{ 0 },
};

static const char *const on_timeout_names[] = { "", [GIVE_UP] = "give-up", [SWITCH] = "switch", [ASK] = "ask" };

static enum on_timeout parse_on_timeout(struct argp_state *state, const char *text)
{
	for (size_t i = GIVE_UP; i < sizeof(on_timeout_names) / sizeof(on_timeout_names[0]); i++)
		if (!strcmp(text, on_timeout_names[i])) {
			if (i == ASK && !isatty(STDIN_FILENO))
				argp_error(state, "--on-timeout ask: standard input is no terminal, so nobody can be "
						  "asked");
			return (enum on_timeout)i;
		}
	argp_error(state, "--on-timeout %s: expected give-up, switch or ask", text);
	return GIVE_UP;
}

/* False: a signal came, which are blocked while a save goes on. */
static bool wait_for_answer(void)
{
	struct pollfd fd = { .fd = STDIN_FILENO, .events = POLLIN };
	while (poll(&fd, 1, ASK_POLL_MS) == 0)
		if (signals_cancel_waits())
			return false;
	return true;
}

/* The device works on while the question is open; the end of the input gives up. */
static enum vfmig_timeout_action ask(const struct vfmig_status *status)
{
	char line[16], bytes[OUTPUT_NUMBER_MAX], downtime[OUTPUT_NUMBER_MAX];
	for (;;) {
		fprintf(stderr, "\nNot below the downtime limit yet: %s pending, expected downtime %s.\n"
				"Stop the device now (s), give up (g), or try as long again (t)? ",
			output_bytes(status->pending_bytes, bytes),
			status->expected_downtime_ns ? output_ns(status->expected_downtime_ns, downtime) : "unknown");
		if (!wait_for_answer() || !fgets(line, sizeof(line), stdin) || line[0] == 'g')
			return VFMIG_TIMEOUT_GIVE_UP;
		if (line[0] == 's' || line[0] == 't')
			return line[0] == 's' ? VFMIG_TIMEOUT_SWITCH : VFMIG_TIMEOUT_GO_ON;
	}
}

static enum vfmig_timeout_action precopy_timeout(void *opaque, const struct vfmig_status *status)
{
	const struct save_arguments *a = opaque;
	if (a->on_timeout == ASK)
		return ask(status);
	return a->on_timeout == SWITCH ? VFMIG_TIMEOUT_SWITCH : VFMIG_TIMEOUT_GIVE_UP;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct save_arguments *a = state->input;
	switch (key) {
	case ARGP_KEY_END:
		if (a->on_timeout && !a->options.precopy_timeout_ns)
			argp_error(state, "--on-timeout needs --precopy-timeout");
		return 0;
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
	case OPT_MAX_BANDWIDTH:
		if (!open_parse_size(arg, &a->options.max_bandwidth) || !a->options.max_bandwidth)
			argp_error(state, "--max-bandwidth %s: expected bytes a second, 100M say", arg);
		return 0;
	case OPT_PRECOPY_TIMEOUT:
		a->options.precopy_timeout_ns = transfer_parse_ms(state, "--precopy-timeout", arg) * NS_PER_MS;
		return 0;
	case OPT_ON_TIMEOUT:
		a->on_timeout = parse_on_timeout(state, arg);
		return 0;
	case OPT_STOP_COMMAND:
		a->commands.stop = arg;
		return 0;
	case OPT_RESUME_COMMAND:
		a->commands.resume = arg;
		return 0;
	case OPT_NO_PRECOPY:
		a->options.no_precopy = true;
		return 0;
	case OPT_TLS_HOSTNAME:
		a->transfer.link_options.tls_hostname = arg;
		return 0;
	case OPT_SWITCHOVER_ACK:
		a->options.switchover_ack = true;
		return 0;
	case OPT_AGAIN:
		a->options.again = arg;
		return 0;
	case OPT_NO_DIGEST:
		a->options.no_digest = true;
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
	t->downtime_limit_ns = a->options.downtime_limit_ns;
	int r = transfer_begin(t, err);
	if (r == 0)
		r = transfer_open(t, err);
	if (r < 0) {
		transfer_opened();
		return r;
	}
	a->options.journal = t->journal;
	a->options.retry_for_ns = t->retry_for_ns;
	a->options.multifd_channels = t->multifd_channels;
	memcpy(a->options.multifd_uuid, t->uuid, sizeof(t->uuid));
	r = vfmig_save_new(t->link, &a->options, &handle, err); /* its further connections may be waited for */
	transfer_opened();
	if (r < 0)
		return r;
	r = switch_command_add_save(&a->commands, handle, err);
	if (!r && t->memory)
		r = vfmig_save_add_memory(handle, t->memory, err);
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
	struct save_arguments a = { .transfer = { .command = "save", .direction = VFMIG_SAVE },
				    .commands = SWITCH_COMMAND_NONE };
	a.options.size = sizeof(a.options);
	a.options.downtime_limit_ns = DEFAULT_DOWNTIME_MS * NS_PER_MS;
	a.options.log = output_log;
	a.options.log_opaque = &a.transfer.output;
	a.options.precopy_timeout = precopy_timeout;
	a.options.precopy_timeout_opaque = &a;
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	struct vfmig_error err = { 0 };
	struct vfmig_status last = { .phase = VFMIG_PHASE_FAILED };
	int r = save(&a, &last, &err);
	r = transfer_report(&a.transfer, r, &err, &last);
	transfer_close(&a.transfer);
	return r;
}
