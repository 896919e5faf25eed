/* SPDX-License-Identifier: BSD-3-Clause */
/* main.c: the table of commands. */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "vfmig.h"

static const struct command {
	const char *name;
	const char *summary; /* NULL: for programs, not in the help */
	command_fn *run;
} commands[] = {
	{ "probe", "what a device is, and whether and how it can migrate", cmd_probe },
	{ "devices", "what devices this machine has, and whether they can migrate", cmd_devices },
	{ "preflight", "would this device's state load there, and if not, why", cmd_preflight },
	{ "check", "judge a driver's migration, rule by rule", cmd_check },
	{ "dirty", "how fast and where a device writes memory, and what a save makes of it", cmd_dirty },
	{ "save", "save the state of a device at work into a link", cmd_save },
	{ "load", "load a device's state from a link and start the device", cmd_load },
	{ "recover", "put right what a killed save or load has left a device in", cmd_recover },
	{ "status", "where a handover between two hosts stands", cmd_status },
	{ "resolve", "finish a handover whose program was killed or gave up", cmd_resolve },
	{ "inspect", "show what is in a migration stream", cmd_inspect },
	{ "report", "draw where a save's or a load's time went, as a page", cmd_report },
	{ "device", "serve a software device on a vfio-user socket", cmd_device },
	{ "shim", "run a program that finds software devices in /dev/vfio", cmd_shim },
	{ "prove", "prove that a software device lost no step of its work", cmd_prove },
	{ "complete", NULL, cmd_complete },
};

static void print_help(void)
{
	printf("Usage: vfmig COMMAND [OPTION...]\n"
	       "Save, move and restore the state of VFIO devices, live, in QEMU's migration stream format.\n\n"
	       "Commands (vfmig COMMAND --help tells more):\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (commands[i].summary)
			printf("  %-9s %s\n", commands[i].name, commands[i].summary);
	printf("\nDevices: pci:ADDRESS, mdev:UUID, vfio:/dev/vfio/devices/NAME, vfio-user:/PATH, ...\n"
	       "Links:   file:PATH, -, fd:N, exec:COMMAND, unix:PATH, tcp:HOST:PORT, null:\n"
	       "Example: vfmig save vfio-user:/run/a.sock -o tcp:there:4444 --tls-creds DIR\n"
	       "Exit status: 0 done, 1 failed, 2 wrong usage, 3 outcome not known. The manual is vfmig(1).\n");
}

static int run(const struct command *c, int argc, char **argv)
{
	char name[64];
	snprintf(name, sizeof(name), "vfmig %s", c->name);
	argv[0] = name;
	argp_err_exit_status = EXIT_USAGE;
	return c->run(argc, argv);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "vfmig: no command given; try 'vfmig --help'\n");
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help();
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("vfmig %s\n", vfmig_version());
		return EXIT_OK;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[1], commands[i].name))
			return run(&commands[i], argc - 1, argv + 1);
	fprintf(stderr, "vfmig: no command '%s'; try 'vfmig --help'\n", argv[1]);
	return EXIT_USAGE;
}
