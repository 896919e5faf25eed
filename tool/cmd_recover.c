/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_recover.c: vfmig recover URI: what a killed save or load has left a device in, and the way out of it. */
#include <stdio.h>

#include "command.h"
#include "device/device.h"
#include "open.h"
#include "output.h"

enum way { NOTHING, RUN, RESET, DECIDE };

/* What each state means when nobody is at work on the device any more. */
static const struct {
	enum way way;
	const char *meaning;
} states[] = {
	[VFMIG_STATE_ERROR] = { DECIDE, "the device has failed, and only a reset ends that; the state in it is lost" },
	[VFMIG_STATE_STOP] = { DECIDE, "a save has ended, or a load that was not to start it, or something else has "
				       "stopped it; if the state was moved, another device may be running with it" },
	[VFMIG_STATE_RUNNING] = { NOTHING, "it is at work" },
	[VFMIG_STATE_STOP_COPY] = { DECIDE, "a save was ended after it had stopped the device; if the other side got "
					    "all of the stream, another device may be running with the state" },
	[VFMIG_STATE_RESUMING] = { RESET, "a load was ended; what it holds is not whole" },
	[VFMIG_STATE_RUNNING_P2P] = { RUN, "a save or load was ended between working and being stopped" },
	[VFMIG_STATE_PRE_COPY] = { RUN, "a save was ended while the device worked" },
	[VFMIG_STATE_PRE_COPY_P2P] = { RUN, "a save was ended between working and being stopped" },
};

struct recover {
	const char *uri;
	bool run, discard, json;
	struct vfmig_device_options device_options;
	enum vfmig_state before, after;
	const char *action; /* nothing, run, reset, none: NULL */
};

enum { OPT_RUN = 256, OPT_DISCARD, OPT_JSON };

static const struct argp_option options[] = {
	{ "run", OPT_RUN, NULL, 0, "Let a stopped device work again: its state is here and nowhere else", 0 },
	{ "discard", OPT_DISCARD, NULL, 0, "Reset the device: its state is somewhere else, or not wanted", 0 },
	OPEN_OPTIONS,
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object", 0 },
	{ 0 },
};

static void check_arguments(struct argp_state *state, const struct recover *a)
{
	if (!a->uri)
		argp_error(state, "which device? Expected a URI, vfio-user:/PATH say");
	if (a->run && a->discard)
		argp_error(state, "one of --run and --discard");
	if (device_uri_owns(a->uri))
		argp_error(state, "%s: a kernel device lives as long as an fd to it: whatever state it had ended with "
				  "the program that had it, and opening it begins anew",
			   a->uri);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct recover *a = state->input;
	if (open_parse_option(key, arg, state, &a->device_options))
		return 0;
	switch (key) {
	case OPT_RUN:
		a->run = true;
		return 0;
	case OPT_DISCARD:
		a->discard = true;
		return 0;
	case OPT_JSON:
		a->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->uri)
			argp_error(state, "'%s' is too many: one device at a time", arg);
		a->uri = arg;
		return 0;
	case ARGP_KEY_END:
		check_arguments(state, a);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static enum way choose(const struct recover *a)
{
	enum way way = states[a->before].way;
	if (a->discard)
		return RESET;
	if (a->run && way == DECIDE && a->before != VFMIG_STATE_ERROR)
		return RUN;
	return way;
}

static int act(struct recover *a, struct vfmig_device *device, struct vfmig_error *err)
{
	int r = 0;
	switch (choose(a)) {
	case NOTHING:
		a->action = "nothing";
		break;
	case RUN:
		a->action = "run";
		r = device->protocol->ops->set_state(device->protocol, VFMIG_STATE_RUNNING, err);
		break;
	case RESET:
		a->action = "reset";
		r = access_reset(device->access, err);
		break;
	case DECIDE:
		return error_set(err, -EBUSY, "%s",
				 a->before == VFMIG_STATE_ERROR ?
				     "a decision is wanted: --discard resets it" :
				     "only you can know where its state is: --run if it is here alone, --discard if it "
				     "is somewhere else, too (vfmig probe there tells whether that one runs)");
	}
	return r;
}

static int recover(struct recover *a, struct vfmig_error *err)
{
	struct vfmig_device *device;
	a->device_options.size = sizeof(a->device_options);
	int r = open_device(a->uri, &a->device_options, &device, err);
	if (r < 0)
		return r;
	r = vfmig_device_state(device, &a->before, err);
	a->after = a->before;
	if (r == 0 && !a->json)
		printf("%s is %s: %s\n", a->uri, vfmig_state_name(a->before), states[a->before].meaning);
	if (r == 0)
		r = act(a, device, err);
	struct vfmig_error ignored;
	(void)vfmig_device_state(device, &a->after, r < 0 ? &ignored : err);
	if (r == 0 && !a->json)
		printf("%s is now %s%s\n", a->uri, vfmig_state_name(a->after),
		       choose(a) == RESET ? ": it was reset" : "");
	vfmig_device_close(device);
	return r;
}

static void print_json(const struct recover *a, int code, const struct vfmig_error *err)
{
	struct json_object *o = json_object_new_object();
	bool known = a->action || code == -EBUSY;
	json_object_object_add(o, "uri", json_object_new_string(a->uri));
	json_object_object_add(o, "before", known ? json_object_new_string(vfmig_state_name(a->before)) : NULL);
	json_object_object_add(o, "meaning", known ? json_object_new_string(states[a->before].meaning) : NULL);
	json_object_object_add(o, "action", a->action ? json_object_new_string(a->action) : NULL);
	json_object_object_add(o, "after", known ? json_object_new_string(vfmig_state_name(a->after)) : NULL);
	json_object_object_add(o, "error", code < 0 ? json_object_new_string(err->message) : NULL);
	output_json(stdout, o, true);
}

int cmd_recover(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "URI",
		.doc = "Tells what a save or load that was killed has left the device in, and puts that right where "
		       "nothing can be lost by it: a device in pre-copy works on, half a load is reset. Where the "
		       "state may be in two places it asks for --run or --discard.",
	};
	struct recover a = { 0 };
	struct vfmig_error err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	int r = recover(&a, &err);
	if (a.json)
		print_json(&a, r, &err);
	else if (r < 0)
		output_fail("recover", "%s: %s", a.uri, err.message);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}
