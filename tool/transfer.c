/* SPDX-License-Identifier: BSD-3-Clause */
/* transfer.c: what save and load have in common. */
#include "transfer.h"

#include <ctype.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "command.h"
#include "session.h"
#include "signals.h"

#define DEFAULT_ID "0000:00:01.0/vfio"
#define POLL_MS 250

enum { OPT_ID = 256, OPT_TIMEOUT, OPT_DMA, OPT_JSON, OPT_EVENTS, OPT_JOURNAL, OPT_RETRY_FOR, OPT_MULTIFD, OPT_UUID,
	OPT_MEMORY, OPT_COMPRESS };

static const struct argp_option options[] = {
	{ "id", OPT_ID, "ID", 0,
	  "Section id of the device: once for each URI, in their order (save: " DEFAULT_ID
	  "; load: the only VFIO device in the stream)", 0 },
	{ "timeout", OPT_TIMEOUT, "MS", 0, "How long one request to a device may take (30000), and how long to wait "
	  "for the other side (connecting 10000, listening for ever)", 0 },
	{ "dma", OPT_DMA, "FILE@IOVA[:SIZE]", 0,
	  "Let the device reach FILE as memory at IOVA; SIZE creates or grows the file", 0 },
	{ "memory", OPT_MEMORY, "NAME=PATH[,...]", 0,
	  "Move the file PATH (/dev/shm, hugetlbfs) as memory block NAME; devices reach it at ,iova=IOVA (0, or behind "
	  "the block before); ,size=SIZE creates or grows the file", 0 },
	OPEN_OPTIONS,
	OPEN_LINK_OPTIONS,
	{ "compress", OPT_COMPRESS, "zstd[:LEVEL]", 0,
	  "Save: compress the stream, at level 1 (as without) to 19; QEMU does not read that. Load: refuse one that is "
	  "not compressed", 0 },
	{ "journal", OPT_JOURNAL, "DIR", 0,
	  "Keep in DIR what becomes of each device, so that no other session of it begins meanwhile, and after a crash "
	  "'vfmig resolve' knows which side may run it ($VFMIG_JOURNAL, or " JOURNAL_FOLDER " if that is there)", 0 },
	{ "retry-for", OPT_RETRY_FOR, "MS", 0,
	  "unix:, tcp: to another vfmig: when the connection is lost at the switch, try so long to have another "
	  "(60000)", 0 },
	{ "multifd", OPT_MULTIFD, "N", 0,
	  "Move the devices' state over N further connections, 1 to 64, as QEMU does with its capability multifd "
	  "(unix:, tcp:)", 0 },
	{ "uuid", OPT_UUID, "UUID", 0, "The machine's UUID, which the further connections name (zeros)", 0 },
	{ "json", OPT_JSON, NULL, 0, "Print events and the result as JSON, one object a line", 0 },
	{ "events", OPT_EVENTS, "fd:N", 0, "Print the same to file descriptor N, beside the text", 0 },
	{ "quiet", 'q', NULL, 0, "No progress and no summary", 0 },
	{ "verbose", 'v', NULL, 0, "Each phase, too, and what else may help to find a fault", 0 },
	{ 0 },
};

uint32_t transfer_parse_ms(struct argp_state *state, const char *option, const char *text)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || !value || value > INT32_MAX)
		argp_error(state, "%s: '%s' is not a number of milliseconds from 1 to %d", option, text, INT32_MAX);
	return (uint32_t)value;
}

static void add_text(struct argp_state *state, const char **list, size_t *count, const char *what, const char *text)
{
	if (*count == TRANSFER_MAX)
		argp_error(state, "more than %d %s", TRANSFER_MAX, what);
	list[(*count)++] = text;
}

static void add_dma(struct argp_state *state, struct transfer *t, const char *text)
{
	struct vfmig_error err;
	if (t->num_dma == TRANSFER_MAX)
		argp_error(state, "more than %d --dma", TRANSFER_MAX);
	if (open_dma_parse(text, &t->dma[t->num_dma], &err) < 0)
		argp_error(state, "--dma: %s", err.message);
	t->num_dma++;
}

static FILE *open_events(struct argp_state *state, const char *text)
{
	int fd = -1, end = 0;
	FILE *file = NULL;
	if (sscanf(text, "fd:%d%n", &fd, &end) == 1 && !text[end] && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
		file = fdopen(fd, "w");
	if (!file)
		argp_error(state, "--events %s: expected fd:N, N being open for writing", text);
	return file;
}

static uint32_t parse_channels(struct argp_state *state, const char *text)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || !value || value > VFMIG_MULTIFD_CHANNELS_MAX)
		argp_error(state, "--multifd: '%s' is not a number from 1 to %u", text, VFMIG_MULTIFD_CHANNELS_MAX);
	return (uint32_t)value;
}

static uint32_t parse_compress(struct argp_state *state, const char *text)
{
	static const char name[] = "zstd:";
	char *end = NULL;
	unsigned long level = 0;
	if (!strcmp(text, "zstd"))
		return 1;
	if (!strncmp(text, name, strlen(name)) && isdigit((unsigned char)text[strlen(name)]))
		level = strtoul(text + strlen(name), &end, 10);
	if (!end || *end || !level || level > VFMIG_ZSTD_LEVEL_MAX)
		argp_error(state, "--compress %s: expected zstd or zstd:LEVEL, from 1 to %u", text,
			   VFMIG_ZSTD_LEVEL_MAX);
	return (uint32_t)level;
}

/* 32 hexadecimal digits, with dashes where a UUID has them. */
static void parse_uuid(struct argp_state *state, const char *text, uint8_t uuid[16])
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t digits = 0, i;
	memset(uuid, 0, 16);
	for (i = 0; form[i] && (form[i] == '-' ? text[i] == '-' : isxdigit((unsigned char)text[i])); i++) {
		if (form[i] == '-')
			continue;
		int c = tolower((unsigned char)text[i]);
		uuid[digits / 2] = (uint8_t)(uuid[digits / 2] << 4 | (isdigit(c) ? c - '0' : c - 'a' + 10));
		digits++;
	}
	if (form[i] || text[i])
		argp_error(state, "--uuid: '%s' is no UUID (%s)", text, form);
}

static void check_arguments(struct argp_state *state, const struct transfer *t)
{
	if (t->json && t->events)
		argp_error(state, "one of --json and --events");
	if (t->verbose && (t->quiet || t->json))
		argp_error(state, "one of --verbose, --quiet and --json, which has everything");
	if (!t->num_uris)
		argp_error(state, "which device? Expected a URI, vfio-user:/PATH say");
	if (!t->link_uri)
		argp_error(state, "%s", t->direction == VFMIG_SAVE ? "where to? Expected -o LINK" :
								     "where from? Expected -i LINK");
	if (t->link_options.tls_hostname && !t->link_options.tls_creds)
		argp_error(state, "--tls-hostname needs --tls-creds");
	if (t->num_ids > t->num_uris || (t->num_uris > 1 && t->num_ids < t->num_uris))
		argp_error(state, "%zu devices and %zu --id: several devices need one each", t->num_uris, t->num_ids);
	for (size_t i = 0; i < t->num_ids; i++)
		for (size_t j = 0; j < i; j++)
			if (!strcmp(t->ids[i], t->ids[j]))
				argp_error(state, "--id %s is given twice", t->ids[i]);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct transfer *t = state->input;
	struct vfmig_error err;
	if (open_parse_option(key, arg, state, &t->device_options) ||
	    open_parse_link_option(key, arg, state, &t->link_options))
		return 0;
	switch (key) {
	case OPT_ID:
		add_text(state, t->ids, &t->num_ids, "--id", arg);
		return 0;
	case OPT_TIMEOUT:
		t->timeout_ms = transfer_parse_ms(state, "--timeout", arg);
		return 0;
	case OPT_DMA:
		add_dma(state, t, arg);
		return 0;
	case OPT_MEMORY:
		if (memory_parse(&t->memory_arguments, arg, &err) < 0)
			argp_error(state, "--memory: %s", err.message);
		return 0;
	case OPT_JOURNAL:
		t->journal = arg;
		return 0;
	case OPT_RETRY_FOR:
		t->retry_for_ns = transfer_parse_ms(state, "--retry-for", arg) * NS_PER_MS;
		return 0;
	case OPT_JSON:
		t->json = true;
		return 0;
	case OPT_EVENTS:
		t->events = open_events(state, arg);
		return 0;
	case OPT_MULTIFD:
		t->multifd_channels = parse_channels(state, arg);
		return 0;
	case OPT_COMPRESS:
		t->link_options.zstd_level = parse_compress(state, arg);
		return 0;
	case OPT_UUID:
		parse_uuid(state, arg, t->uuid);
		return 0;
	case 'q':
		t->quiet = true;
		return 0;
	case 'v':
		t->verbose = true;
		return 0;
	case ARGP_KEY_ARG:
		add_text(state, t->uris, &t->num_uris, "devices", arg);
		return 0;
	case ARGP_KEY_END:
		check_arguments(state, t);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

const struct argp transfer_argp = { .options = options, .parser = parse_option };

const char *transfer_id(const struct transfer *t, size_t i)
{
	if (i < t->num_ids)
		return t->ids[i];
	return t->direction == VFMIG_SAVE ? DEFAULT_ID : NULL;
}

/* A device has one owner, so whoever can open it has not found it at work. */
static void warn_fresh(struct transfer *t, const char *uri)
{
	char line[512];
	snprintf(line, sizeof(line), "%s: nobody else has the device, and opening resets most: this may save a fresh "
		 "one; to save one at work, have its owner hand over its fd (fd:N, fd-from:unix:PATH)", uri);
	output_log(&t->output, VFMIG_LOG_WARNING, line);
}

static int open_devices(struct transfer *t, struct vfmig_error *err)
{
	struct vfmig_device_options *opts = &t->device_options;
	opts->size = sizeof(*opts);
	opts->timeout_ms = t->timeout_ms ? t->timeout_ms : OPEN_TIMEOUT_MS;
	for (size_t i = 0; i < t->num_uris; i++) {
		t->opening = t->uris[i];
		if (t->direction == VFMIG_SAVE && device_uri_owns(t->uris[i]))
			warn_fresh(t, t->uris[i]);
		int r = open_device(t->uris[i], opts, &t->devices[i], err);
		for (size_t j = 0; !r && j < t->num_dma; j++)
			r = open_dma_map(t->devices[i], &t->dma[j], err);
		if (!r && t->memory)
			r = vfmig_memory_map(t->memory, t->devices[i], err);
		if (!r && t->memory && t->direction == VFMIG_SAVE)
			r = vfmig_memory_add_device(t->memory, t->devices[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * A kernel device's state ends with this process, so that waiting for the other
 * side ends when that is there, or when somebody says so by a signal.
 */
static uint64_t retry_for_ns(const struct transfer *t)
{
	for (size_t i = 0; i < t->num_uris; i++)
		if (device_uri_owns(t->uris[i]) && !t->retry_for_ns)
			return UINT64_MAX;
	return t->retry_for_ns;
}

/* ------------------------------------------------------ cancelled while something is opened */

static void report_cancelled(struct transfer *t, const char *message)
{
	struct vfmig_error why;
	const struct vfmig_status status = { .phase = VFMIG_PHASE_CANCELLED, .source_may_run = true };
	error_set(&why, -ECANCELED, "%s", message);
	t->untouched = true;
	(void)transfer_report(t, -ECANCELED, &why, &status);
}

/* The listener of unix: is bound before it is told of, so a cancel in between waits for that. */
static void remove_socket(const struct transfer *t)
{
	static const char scheme[] = "unix:";
	const char *path = t->link_uri + strlen(scheme);
	struct stat st;
	if (t->listening && !strncmp(t->link_uri, scheme, strlen(scheme)) && lstat(path, &st) == 0 &&
	    S_ISSOCK(st.st_mode))
		unlink(path);
}

/* In a thread of its own, while the other one waits in a call; nothing was done to a device yet. */
static void interrupt_opening(void *opaque, enum signals_word word)
{
	struct transfer *t = opaque;
	const char *what = t->listening ? "waiting for the other side on" : "opening";
	const char *name = t->opening ? t->opening : "what it needs";
	if (word == SIGNALS_ASK) {
		output_where_opening(&t->output, what, name);
		return;
	}
	char message[256];
	snprintf(message, sizeof(message), "cancelled while %s %.200s", what, name);
	report_cancelled(t, message);
	remove_socket(t);
	_exit(EXIT_FAILED);
}

static void note_listening(void *opaque, const char *where)
{
	struct transfer *t = opaque;
	t->listening = true;
	output_listening(&t->output, where);
}

int transfer_begin(struct transfer *t, struct vfmig_error *err)
{
	bool is_save = t->direction == VFMIG_SAVE;
	output_init(&t->output, t->command, is_save, t->json, t->events, t->quiet,
		    is_save && !strcmp(t->link_uri, "-"));
	t->output.verbose = t->verbose;
	int r = signals_take(err);
	return r < 0 ? r : signals_watch_begin(interrupt_opening, t, err);
}

/* A new file beside the one it becomes is made at once; cut off there, it would stay. */
static bool opens_at_once(const struct transfer *t)
{
	static const char scheme[] = "file:";
	struct stat st;
	if (t->direction != VFMIG_SAVE || strncmp(t->link_uri, scheme, strlen(scheme)))
		return false;
	return stat(t->link_uri + strlen(scheme), &st) < 0 || S_ISREG(st.st_mode);
}

static int open_all(struct transfer *t, struct vfmig_error *err)
{
	int r = memory_open(&t->memory_arguments, &t->memory, err);
	if (r == 0)
		r = open_devices(t, err);
	if (r < 0)
		return r;
	t->opened = true;
	t->opening = t->link_uri;
	if (opens_at_once(t))
		signals_watch_end();
	return vfmig_link_open(t->link_uri, t->direction, &t->link_options, &t->link, err);
}

/* The folder that nobody named is no reason not to move a device. */
static void choose_journal(struct transfer *t)
{
	const char *folder = session_folder(t->journal);
	bool unnamed = folder && !t->journal && !getenv("VFMIG_JOURNAL");
	if (unnamed && access(folder, W_OK) < 0) {
		char line[128];
		snprintf(line, sizeof(line), "no journal is kept: %s: %s", folder, error_text(errno));
		output_log(&t->output, VFMIG_LOG_WARNING, line);
		folder = NULL;
	}
	t->journal = folder;
}

int transfer_open(struct transfer *t, struct vfmig_error *err)
{
	struct vfmig_link_options *opts = &t->link_options;
	opts->size = sizeof(*opts);
	opts->timeout_ms = t->timeout_ms;
	opts->listening = note_listening;
	opts->listening_opaque = t;
	opts->further_connections = t->multifd_channels;
	t->retry_for_ns = retry_for_ns(t);
	choose_journal(t);
	return open_all(t, err);
}

void transfer_opened(void)
{
	signals_watch_end();
}

/* ------------------------------------------------------------------------------ the loop */

/* Waits for the link (WAIT) or only looks whether a signal came. */
static enum signals_word wait_step(struct transfer *t, const struct transfer_ops *ops, void *handle, bool wait)
{
	struct pollfd fds[2] = { { .fd = signals_fd(), .events = POLLIN }, { .fd = -1 } };
	if (wait)
		fds[1].fd = ops->wait(handle, &fds[1].events);
	int timeout_ms = !wait ? 0 : output_wants_ticks(&t->output) ? POLL_MS : -1;
	if (wait && fds[1].fd < 0)
		timeout_ms = 0;
	return poll(fds, 2, timeout_ms) > 0 && fds[0].revents ? signals_read() : SIGNALS_NONE;
}

/* What the devices have confirmed; nothing is asked. `told` remembers, one for each. */
static void tell_states(struct transfer *t, int *told, uint64_t elapsed_ns)
{
	for (size_t i = 0; i < t->num_uris; i++) {
		enum vfmig_state state = t->devices[i]->protocol->state;
		if (told[i] == (int)state)
			continue;
		told[i] = (int)state;
		output_state(&t->output, t->uris[i], transfer_id(t, i), state, elapsed_ns);
	}
}

int transfer_run(struct transfer *t, const struct transfer_ops *ops, void *handle, struct vfmig_error *err)
{
	int r, told[TRANSFER_MAX];
	memset(told, -1, sizeof(told));
	output_begin(&t->output, t->link_uri, t->downtime_limit_ns);
	tell_states(t, told, 0);
	for (;;) {
		struct vfmig_status status;
		r = ops->step(handle, err);
		ops->status(handle, &status);
		tell_states(t, told, status.elapsed_ns);
		if (r < 0 || r == VFMIG_STEP_DONE)
			break;
		output_status(&t->output, &status);
		enum signals_word word = wait_step(t, ops, handle, r == VFMIG_STEP_WAIT);
		if (word == SIGNALS_CANCEL)
			ops->cancel(handle);
		else if (word == SIGNALS_ASK)
			output_where(&t->output, &status);
	}
	return r < 0 ? r : 0;
}

static const char *ask_state(struct vfmig_device *device)
{
	enum vfmig_state state;
	return device && vfmig_device_state(device, &state, NULL) == 0 ? vfmig_state_name(state) : NULL;
}

int transfer_report(struct transfer *t, int code, const struct vfmig_error *err, const struct vfmig_status *status)
{
	struct output_device devices[TRANSFER_MAX];
	struct output_result result = { .command = t->command, .is_save = t->direction == VFMIG_SAVE, .code = code };
	if (code < 0)
		result.error = err->message;
	result.status = *status;
	result.devices = devices;
	result.untouched = t->untouched;
	for (size_t i = 0; i < t->num_uris && (t->untouched || t->devices[i]); i++)
		devices[result.num_devices++] = (struct output_device){
			.uri = t->uris[i],
			.id = transfer_id(t, i),
			.state = t->untouched && !t->opened ? NULL : ask_state(t->devices[i]),
		};
	output_result(&t->output, &result);
	if (code < 0 && status->outcome_unknown)
		return EXIT_UNKNOWN;
	return code < 0 ? EXIT_FAILED : EXIT_OK;
}

void transfer_close(struct transfer *t)
{
	vfmig_link_close(t->link);
	vfmig_memory_free(t->memory);
	memory_arguments_clear(&t->memory_arguments);
	for (size_t i = 0; i < t->num_uris; i++)
		vfmig_device_close(t->devices[i]);
	for (size_t i = 0; i < t->num_dma; i++)
		free(t->dma[i].file);
}
