/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_probe.c: vfmig probe URI. */
#include <stdlib.h>

#include "command.h"
#include "open.h"
#include "output.h"
#include "probe.h"
#include "transfer.h"

struct probe_arguments {
	const char *uri;
	struct vfmig_device_options options;
	bool json;
};

enum { OPT_JSON = 256, OPT_TIMEOUT };

static const struct argp_option options[] = {
	{ "json", OPT_JSON, NULL, 0, "Print one JSON object", 0 },
	{ "timeout", OPT_TIMEOUT, "MS", 0, "How long one request to the device may take (30000)", 0 },
	OPEN_OPTIONS,
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct probe_arguments *a = state->input;
	if (open_parse_option(key, arg, state, &a->options))
		return 0;
	switch (key) {
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
		if (!a->uri)
			argp_error(state, "which device? Expected a URI, vfio-user:/PATH say");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int cmd_probe(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "URI",
		.doc = "Tells what a device is, and whether and how it can migrate. Never changes the device.",
	};
	struct probe_arguments args = { .options = { .size = sizeof(args.options) } };
	if (argp_parse(&argp, argc, argv, 0, NULL, &args))
		return EXIT_USAGE;
	struct vfmig_error err = { 0 };
	struct probe *p = calloc(1, sizeof(*p));
	if (!p)
		return output_fail("probe", "out of memory");
	int r = probe_device(args.uri, &args.options, p, &err);
	if (r < 0)
		output_fail("probe", "%s", err.message);
	else if (args.json)
		probe_print_json(p);
	else
		probe_print(p);
	probe_clear(p);
	free(p);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}
