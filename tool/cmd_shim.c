/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_shim.c: vfmig shim -- PROGRAM...: runs a program that finds software devices in /dev/vfio. */
#include <ftw.h>
#include <linux/pci_regs.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "command.h"
#include "open.h"
#include "output.h"
#include "shim/shim.h"

#define DEVICES_MAX 16
#define FIRST_GROUP 1000 /* not one of this machine's */
#define LIBRARY "libvfmig-shim.so"
#define EXIT_NOT_FOUND 127 /* as a shell's */
#define EXIT_BY_SIGNAL 128

struct shim_arguments {
	const char *uris[DEVICES_MAX];
	int count;
	char **program;
	char root[64]; /* the temporary directory */
	char *paths[DEVICES_MAX];
	char *environment;
};

static const struct argp_option options[] = {
	{ "device", 'd', "URI|OPTIONS", 0,
	  "A device: vfio-user:PATH, or the options of a software device (see 'vfmig device --help'), "
	  "with or without sim: before them. May be repeated", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct shim_arguments *a = state->input;

	switch (key) {
	case 'd':
		if (a->count == DEVICES_MAX)
			argp_error(state, "more than %d devices", DEVICES_MAX);
		a->uris[a->count++] = arg;
		return 0;
	case ARGP_KEY_ARGS:
		a->program = state->argv + state->next;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which program?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ------------------------------------------------------------------ sysfs */

static int put_file(const char *folder, const char *name, const char *format, uint32_t value, struct vfmig_error *err)
{
	char *path;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		return error_errno(err, -ENOMEM, "%s", name);
	FILE *f = fopen(path, "we");
	int r = f ? 0 : -errno;
	if (f) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		fprintf(f, format, value);
#pragma GCC diagnostic pop
		if (fclose(f) != 0)
			r = -errno;
	}
	if (r < 0)
		error_errno(err, r, "%s", path);
	free(path);
	return r;
}

static int put_link(const char *folder, const char *name, const char *target, struct vfmig_error *err)
{
	char *path;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		return error_errno(err, -ENOMEM, "%s", name);
	int r = symlink(target, path) < 0 ? error_errno(err, -errno, "%s", path) : 0;
	free(path);
	return r;
}

static int make_folder(struct vfmig_error *err, const char *path)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? error_errno(err, -errno, "%s", path) : 0;
}

static int put_ids(const char *folder, const uint8_t *config, struct vfmig_error *err)
{
	const struct {
		const char *name, *format;
		uint32_t value;
	} files[] = {
		{ "vendor", "0x%04x\n", get_le16(config + PCI_VENDOR_ID) },
		{ "device", "0x%04x\n", get_le16(config + PCI_DEVICE_ID) },
		{ "subsystem_vendor", "0x%04x\n", get_le16(config + PCI_SUBSYSTEM_VENDOR_ID) },
		{ "subsystem_device", "0x%04x\n", get_le16(config + PCI_SUBSYSTEM_ID) },
		{ "revision", "0x%02x\n", config[PCI_REVISION_ID] },
		{ "class", "0x%06x\n", get_le32(config + PCI_CLASS_REVISION) >> 8 },
		{ "uevent", "DRIVER=vfio-pci\nPCI_CLASS=%X\n", get_le32(config + PCI_CLASS_REVISION) >> 8 },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(files) / sizeof(files[0]); i++)
		r = put_file(folder, files[i].name, files[i].format, files[i].value, err);
	return r;
}

/* What a program looks at in /sys: who it is, its driver, and its group by the last part of a link. */
static int make_sysfs(const struct shim_arguments *a, int index, const uint8_t *config, struct vfmig_error *err)
{
	const char *folder = a->paths[index];
	char group[96], member[128];

	snprintf(group, sizeof(group), "%s/iommu_groups/%d", a->root, FIRST_GROUP + index);
	int r = make_folder(err, folder);
	if (r == 0)
		r = make_folder(err, group);
	if (r == 0)
		r = put_link(folder, "iommu_group", group, err);
	snprintf(member, sizeof(member), "%s/devices", group);
	if (r == 0)
		r = make_folder(err, member);
	if (r == 0)
		r = put_link(member, strrchr(folder, '/') + 1, folder, err);
	if (r == 0)
		r = put_link(folder, "driver", "/sys/bus/pci/drivers/vfio-pci", err);
	if (r == 0)
		r = put_link(folder, "subsystem", "/sys/bus/pci", err);
	return r < 0 ? r : put_ids(folder, config, err);
}

static int make_root(struct shim_arguments *a, struct vfmig_error *err)
{
	static const char *const folders[] = { "devices", "iommu_groups" };
	char path[96];
	int r = 0;

	snprintf(a->root, sizeof(a->root), "/tmp/vfmig-shim-XXXXXX");
	if (!mkdtemp(a->root)) {
		a->root[0] = '\0';
		return error_errno(err, -errno, "a directory in /tmp");
	}
	for (size_t i = 0; r == 0 && i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", a->root, folders[i]);
		r = make_folder(err, path);
	}
	return r;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path);
	return 0;
}

/* ---------------------------------------------------------------- devices */

/* A look at the device: what is wrong with it is said here, where there is someone to read it. */
static int read_config(const char *uri, uint8_t *config, struct vfmig_error *err)
{
	struct access *access;
	int r = open_access(uri, NULL, &access, err);

	if (r < 0)
		return r;
	r = access_region_read(access, ACCESS_PCI_CONFIG, 0, config, PCI_STD_HEADER_SIZEOF, err);
	access_close(access);
	return r < 0 ? error_prefix(err, r, "%s", uri) : 0;
}

static int full_uri(const char *text, char **ret, struct vfmig_error *err)
{
	bool is_uri = !strncmp(text, "sim:", 4) || !strncmp(text, "vfio-user:", 10);

	if (strpbrk(text, "\t\n"))
		return error_set(err, -EINVAL, "a device's URI has a tab or a line end in it");
	if (asprintf(ret, "%s%s", is_uri ? "" : "sim:", text) < 0)
		return error_errno(err, -ENOMEM, "%s", text);
	if (strlen(*ret) < sizeof(((struct shim_device *)0)->uri))
		return 0;
	free(*ret);
	return error_set(err, -EINVAL, "%s: longer than %zu bytes", text, sizeof(((struct shim_device *)0)->uri) - 1);
}

static int add_device(struct shim_arguments *a, int index, struct vfmig_error *err)
{
	uint8_t config[PCI_STD_HEADER_SIZEOF];
	char *uri, *more, name[32], variable[32];
	int r = full_uri(a->uris[index], &uri, err);

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "0000:f0:%02x.0", index);
	snprintf(variable, sizeof(variable), SHIM_ENVIRONMENT "_%d", index);
	r = read_config(uri, config, err);
	if (r == 0 && asprintf(&a->paths[index], "%s/devices/%s", a->root, name) < 0)
		r = error_errno(err, -ENOMEM, "%s", uri);
	if (r == 0)
		r = make_sysfs(a, index, config, err);
	if (r == 0 && asprintf(&more, "%s%d\t%s\t%s\n", a->environment ? a->environment : "", FIRST_GROUP + index,
			       name, uri) < 0)
		r = error_errno(err, -ENOMEM, "%s", uri);
	free(uri);
	if (r < 0)
		return r;
	free(a->environment);
	a->environment = more;
	setenv(variable, a->paths[index], 1);
	return 0;
}

/* Beside the command where both were built, else where it was installed. */
static int find_library(char *path, size_t size, struct vfmig_error *err)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	exe[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(exe, '/');
	if (slash)
		*slash = '\0';
	int length = snprintf(path, size, "%s/shim/" LIBRARY, exe);
	if (length > 0 && (size_t)length < size && access(path, R_OK) == 0)
		return 0;
	snprintf(path, size, "%s/" LIBRARY, SHIM_FOLDER);
	return access(path, R_OK) < 0 ? error_errno(err, -errno, "%s (in Debian: the package vfmig-shim)", path) : 0;
}

static int set_environment(const struct shim_arguments *a, struct vfmig_error *err)
{
	const char *before = getenv("LD_PRELOAD");
	char library[PATH_MAX], *preload;
	int r = find_library(library, sizeof(library), err);

	if (r < 0)
		return r;
	if (asprintf(&preload, "%s%s%s", library, before && *before ? ":" : "", before ? before : "") < 0)
		return error_errno(err, -ENOMEM, "environment");
	setenv("LD_PRELOAD", preload, 1);
	setenv(SHIM_ENVIRONMENT, a->environment ? a->environment : "", 1);
	free(preload);
	return 0;
}

/* ---------------------------------------------------------------- program */

/* "{N}" is where device N's folder is. */
static char *expand(const struct shim_arguments *a, char *text)
{
	char place[16];

	for (int i = 0; text && i < a->count; i++) {
		snprintf(place, sizeof(place), "{%d}", i);
		for (char *at; text && (at = strstr(text, place));) {
			char *longer;
			if (asprintf(&longer, "%.*s%s%s", (int)(at - text), text, a->paths[i],
				     at + strlen(place)) < 0)
				longer = NULL;
			text = longer;
		}
	}
	return text;
}

static void run_program(const struct shim_arguments *a, const sigset_t *signals)
{
	for (char **arg = a->program; *arg; arg++)
		*arg = expand(a, *arg);
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* its devices' folders go with us */
	sigprocmask(SIG_SETMASK, signals, NULL);
	execvp(a->program[0], a->program);
	fprintf(stderr, "vfmig shim: %s: %s\n", a->program[0], strerror(errno));
	_exit(EXIT_NOT_FOUND);
}

/* What a process sends to us is meant for the program; a terminal has sent it to both. */
static int wait_for(pid_t pid, const sigset_t *signals)
{
	siginfo_t info;
	int status;

	for (;;) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFSIGNALED(status) ? EXIT_BY_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
		if (sigwaitinfo(signals, &info) > 0 && info.si_signo != SIGCHLD && info.si_code <= 0)
			kill(pid, info.si_signo);
	}
}

static int start_and_wait(const struct shim_arguments *a)
{
	static const int caught[] = { SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 };
	sigset_t signals, old;

	sigemptyset(&signals);
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		sigaddset(&signals, caught[i]);
	sigprocmask(SIG_BLOCK, &signals, &old);
	pid_t pid = fork();
	if (pid < 0)
		return output_fail("shim", "fork: %s", strerror(errno));
	if (pid == 0)
		run_program(a, &old);
	return wait_for(pid, &signals);
}

int cmd_shim(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "[--] PROGRAM [ARGUMENT...]",
		.doc = "Runs PROGRAM with devices that it finds in /dev/vfio. Their sysfs folders are temporary: {0}, "
		       "{1}... in its arguments become their paths, as $VFMIG_SHIM_0 and so on are.\v"
		       "The exit status is the program's; 127: it could not be started; 128 and more: a signal "
		       "ended it. The manual is vfmig-shim(1).",
	};
	struct shim_arguments a = { 0 };
	struct vfmig_error err = { 0 };

	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &a))
		return EXIT_USAGE;
	int r = make_root(&a, &err);
	for (int i = 0; r == 0 && i < a.count; i++)
		r = add_device(&a, i, &err);
	if (r == 0)
		r = set_environment(&a, &err);
	int status = r < 0 ? output_fail("shim", "%s", err.message) : start_and_wait(&a);
	if (a.root[0])
		nftw(a.root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	for (int i = 0; i < a.count; i++)
		free(a.paths[i]);
	free(a.environment);
	return status;
}
