/* SPDX-License-Identifier: BSD-3-Clause */
/* output.c: progress, results and JSON records. */
#include "output.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/text.h"
#include "command.h"
#include "sink.h"

#define TICK_NS (250 * NS_PER_MS)
#define FIRST_TICK_NS (5 * NS_PER_MS)
#define RED "\033[1;31m"
#define YELLOW "\033[33m"
#define PLAIN "\033[m"

/* The words say the same without it. */
static const char *colour(const char *escape)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	bool wanted = (!no_color || !*no_color) && term && strcmp(term, "dumb") && isatty(STDERR_FILENO);
	return wanted ? escape : "";
}

/* Which files are printed to by a sink: while a device may be stopped, printing must not wait for a reader. */
static struct {
	FILE *file;
	struct sink *sink;
} through[3];
static size_t num_through;

static void print_through(FILE *file)
{
	struct sink *sink = file ? sink_open(fileno(file)) : NULL;
	if (sink && num_through < sizeof(through) / sizeof(through[0])) {
		through[num_through].file = file;
		through[num_through++].sink = sink;
	}
}

void output_never_wait(bool stdout_too)
{
	fflush(stdout);
	print_through(stderr);
	print_through(stdout_too ? stdout : NULL);
}

static void put(FILE *file, enum sink_weight weight, const char *text, size_t length)
{
	for (size_t i = 0; i < num_through; i++)
		if (through[i].file == file) {
			sink_put(through[i].sink, weight, text, length);
			return;
		}
	fwrite(text, 1, length, file);
	fflush(file);
}

static void say(FILE *file, enum sink_weight weight, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void say(FILE *file, enum sink_weight weight, const char *format, ...)
{
	char *text;
	va_list ap;
	va_start(ap, format);
	int n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0)
		return;
	put(file, weight, text, (size_t)n);
	free(text);
}

/* False: a reader is behind. */
static bool flush_all(void)
{
	bool all = true;
	for (size_t i = 0; i < num_through; i++)
		all &= sink_flush(through[i].sink);
	return all;
}

static void drain_all(void)
{
	for (size_t i = 0; i < num_through; i++)
		sink_drain(through[i].sink);
}

static uint64_t dropped_from(const FILE *file)
{
	for (size_t i = 0; i < num_through; i++)
		if (through[i].file == file)
			return sink_dropped(through[i].sink);
	return 0;
}

__attribute__((format(printf, 4, 0))) static void say_line(FILE *file, enum sink_weight weight, const char *begin,
							  const char *format, va_list ap)
{
	char *text;
	int n = vasprintf(&text, format, ap);
	if (n < 0)
		return;
	char *escaped = malloc(TEXT_ESCAPED_SIZE((size_t)n));
	if (escaped)
		say(file, weight, "%s%s\n", begin,
		    text_escape(escaped, TEXT_ESCAPED_SIZE((size_t)n), text, (size_t)n));
	free(escaped);
	free(text);
}

int output_fail(const char *command, const char *format, ...)
{
	char begin[64];
	va_list ap;
	snprintf(begin, sizeof(begin), "%svfmig %s:%s ", colour(RED), command, colour(PLAIN));
	va_start(ap, format);
	say_line(stderr, SINK_RESULT, begin, format, ap);
	va_end(ap);
	drain_all();
	return EXIT_FAILED;
}

void output_note(const char *command, const char *format, ...)
{
	char begin[64];
	va_list ap;
	snprintf(begin, sizeof(begin), "vfmig %s: ", command);
	va_start(ap, format);
	say_line(stderr, SINK_LINE, begin, format, ap);
	va_end(ap);
}

void output_line(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	say_line(stdout, SINK_LINE, "", format, ap);
	va_end(ap);
}

const char *output_bytes(uint64_t bytes, char *buffer)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	if (bytes < 1024) {
		snprintf(buffer, OUTPUT_NUMBER_MAX, "%" PRIu64 " B", bytes);
		return buffer;
	}
	double value = (double)bytes / 1024;
	size_t unit = 0;
	for (; value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
		value /= 1024;
	snprintf(buffer, OUTPUT_NUMBER_MAX, "%.1f %s", value, units[unit]);
	return buffer;
}

const char *output_ns(uint64_t ns, char *buffer)
{
	if (ns < NS_PER_S)
		snprintf(buffer, OUTPUT_NUMBER_MAX, "%.1f ms", (double)ns / (double)NS_PER_MS);
	else
		snprintf(buffer, OUTPUT_NUMBER_MAX, "%.2f s", (double)ns / (double)NS_PER_S);
	return buffer;
}

static void put_json(FILE *file, enum sink_weight weight, struct json_object *object, bool pretty)
{
	int flags = JSON_C_TO_STRING_NOSLASHESCAPE | (pretty ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : 0);
	say(file, weight, "%s\n", json_object_to_json_string_ext(object, flags));
	json_object_put(object);
}

void output_json(FILE *file, struct json_object *object, bool pretty)
{
	put_json(file, SINK_LINE, object, pretty);
}

struct json_object *output_string(const char *text)
{
	size_t length = strlen(text);
	char *escaped = malloc(TEXT_ESCAPED_SIZE(length));
	if (!escaped)
		return NULL;
	text_escape(escaped, TEXT_ESCAPED_SIZE(length), text, length);
	struct json_object *o = json_object_new_string(escaped);
	free(escaped);
	return o;
}

static void add_string(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, value ? output_string(value) : NULL);
}

static void add_number(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

static void add_bool(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

static struct json_object *steps_json(const struct vfmig_status *s, bool is_save)
{
	struct json_object *o = json_object_new_object();
	for (unsigned i = 0; i < VFMIG_DOWNTIME_STEPS; i++) {
		char key[OUTPUT_NUMBER_MAX];
		if ((i <= VFMIG_DOWNTIME_CONFIRM) != is_save)
			continue;
		snprintf(key, sizeof(key), "%s_ns", vfmig_downtime_step_name(i));
		add_number(o, key, s->downtime_steps_ns[i]);
	}
	return o;
}

/* The numbers that events and the result have alike. */
static struct json_object *status_json(const char *event, bool is_save, const struct vfmig_status *s)
{
	struct json_object *o = json_object_new_object();
	add_string(o, "event", event);
	add_string(o, "phase", vfmig_phase_name(s->phase));
	add_number(o, "setup_bytes", s->setup_bytes);
	add_number(o, "precopy_bytes", s->precopy_bytes);
	add_number(o, "stop_copy_bytes", s->stop_copy_bytes);
	add_number(o, "total_bytes", s->total_bytes);
	if (s->compressed_bytes)
		add_number(o, "compressed_bytes", s->compressed_bytes);
	add_number(o, "rounds", s->rounds);
	add_number(o, "pending_bytes", s->pending_bytes);
	add_number(o, "bandwidth_bytes_per_s", s->bandwidth_bytes_per_s);
	add_number(o, "expected_downtime_ns", s->expected_downtime_ns);
	add_number(o, "elapsed_ns", s->elapsed_ns);
	add_number(o, "downtime_ns", s->downtime_ns);
	if (s->session[0])
		add_string(o, "session", s->session);
	if (s->downtime_ns)
		json_object_object_add(o, "downtime_steps", steps_json(s, is_save));
	if (s->memory_pages || s->memory_zero_pages || s->dirty_syncs) {
		add_number(o, "memory_pages", s->memory_pages);
		add_number(o, "memory_zero_pages", s->memory_zero_pages);
		add_number(o, "dirty_syncs", s->dirty_syncs);
		add_number(o, "dirty_pages", s->dirty_pages);
		add_number(o, "dirty_interval_ns", s->dirty_interval_ns);
	}
	return o;
}

void output_init(struct output *o, const char *command, bool is_save, bool json, FILE *events, bool quiet,
		 bool stdout_taken)
{
	*o = (struct output){
		.command = command,
		.file = stdout_taken ? stderr : stdout,
		.is_save = is_save,
		.json = json,
		.events = !json ? events : stdout_taken ? stderr : stdout,
		.summary = !quiet && !json,
		.progress = !quiet && !json && isatty(STDERR_FILENO),
	};
	output_never_wait(!stdout_taken);
	print_through(o->events == stdout || o->events == stderr ? NULL : o->events);
	/* Now: the C library opens files for it, which a load soon may not. */
	time_t now = time(NULL);
	struct tm tm;
	if (gmtime_r(&now, &tm))
		strftime(o->time, sizeof(o->time), "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* JSON on stderr is not mixed with lines of text. */
static bool text_allowed(const struct output *o)
{
	return !(o->json && o->file == stderr);
}

static void clear_line(struct output *o)
{
	if (o->line_open)
		say(stderr, SINK_LINE, "\r\033[K");
	o->line_open = false;
}

void output_begin(struct output *o, const char *link, uint64_t downtime_limit_ns)
{
	if (!o->events)
		return;
	struct json_object *j = json_object_new_object();
	add_string(j, "event", "begin");
	add_string(j, "command", o->command);
	add_string(j, "version", vfmig_version());
	add_string(j, "time", o->time);
	add_string(j, "link", link);
	if (o->is_save)
		add_number(j, "downtime_limit_ns", downtime_limit_ns);
	output_json(o->events, j, false);
}

static void print_progress(struct output *o, const struct vfmig_status *s)
{
	char sent[OUTPUT_NUMBER_MAX], rate[OUTPUT_NUMBER_MAX], pending[OUTPUT_NUMBER_MAX], downtime[OUTPUT_NUMBER_MAX];
	char rest[3 * OUTPUT_NUMBER_MAX] = "";
	if (o->is_save)
		snprintf(rest, sizeof(rest), ", %s pending, expected downtime %s",
			 output_bytes(s->pending_bytes, pending), output_ns(s->expected_downtime_ns, downtime));
	say(stderr, SINK_PROGRESS, "\r%s: %s, %s/s%s\033[K", vfmig_phase_name(s->phase),
	    output_bytes(s->total_bytes, sent), output_bytes(s->bandwidth_bytes_per_s, rate), rest);
	o->line_open = true;
}

bool output_wants_ticks(const struct output *o)
{
	return o->events || o->progress || o->verbose || o->behind;
}

/* A reader that was behind may have caught up. */
static void catch_up(struct output *o, uint64_t now)
{
	if (now < o->next_flush_ns)
		return;
	o->behind = !flush_all();
	o->next_flush_ns = now + (o->behind ? FIRST_TICK_NS : TICK_NS);
}

void output_status(struct output *o, const struct vfmig_status *status)
{
	if (!output_wants_ticks(o))
		return;
	uint64_t now = clock_now_ns();
	catch_up(o, now);
	bool new_phase = !o->started || status->phase != o->phase;
	if (!new_phase && now < o->next_ns)
		return;
	o->started = true;
	o->phase = status->phase;
	/* Who looks at a short run later wants more than one point of it. */
	o->next_ns = now + (o->events ? min_u64(max_u64(status->elapsed_ns / 16, FIRST_TICK_NS), TICK_NS) : TICK_NS);
	if (o->events)
		put_json(o->events, new_phase ? SINK_LINE : SINK_PROGRESS,
			 status_json(new_phase ? "phase" : "progress", o->is_save, status), false);
	if (o->verbose && new_phase) {
		clear_line(o);
		say(stderr, SINK_LINE, "vfmig %s: phase: %s\n", o->command, vfmig_phase_name(status->phase));
	}
	if (o->progress)
		print_progress(o, status);
}

void output_state(struct output *o, const char *uri, const char *id, enum vfmig_state state, uint64_t elapsed_ns)
{
	if (!o->events)
		return;
	struct json_object *j = json_object_new_object();
	add_string(j, "event", "state");
	add_string(j, "uri", uri);
	add_string(j, "id", id);
	add_string(j, "state", vfmig_state_name(state));
	add_number(j, "elapsed_ns", elapsed_ns);
	output_json(o->events, j, false);
}

void output_listening(void *opaque, const char *where)
{
	struct output *o = opaque;
	if (o->events) {
		struct json_object *j = json_object_new_object();
		add_string(j, "event", "listening");
		add_string(j, "link", where);
		output_json(o->events, j, false);
	}
	if (o->progress)
		say(stderr, SINK_LINE, "vfmig %s: waiting for the other side on %s\n", o->command, where);
}

void output_where_opening(struct output *o, const char *what, const char *name)
{
	clear_line(o);
	output_note(o->command, "%s %s", what, name);
}

void output_where(struct output *o, const struct vfmig_status *s)
{
	char total[OUTPUT_NUMBER_MAX], pending[OUTPUT_NUMBER_MAX];
	clear_line(o);
	output_note(o->command, "%s, %s %s, %s pending%s%s", vfmig_phase_name(s->phase),
		    output_bytes(s->total_bytes, total), o->is_save ? "sent" : "read",
		    output_bytes(s->pending_bytes, pending), s->session[0] ? ", session " : "", s->session);
}

static const char *level_name(enum vfmig_log_level level)
{
	static const char *const names[] = { "warning", "info", "debug" };
	return (unsigned int)level < sizeof(names) / sizeof(names[0]) ? names[level] : "unknown";
}

void output_log(void *opaque, enum vfmig_log_level level, const char *line)
{
	struct output *o = opaque;
	clear_line(o);
	if (o->events) {
		struct json_object *j = json_object_new_object();
		add_string(j, "event", "log");
		add_string(j, "level", level_name(level));
		add_string(j, "message", line);
		output_json(o->events, j, false);
	}
	if (level == VFMIG_LOG_WARNING && text_allowed(o))
		say(stderr, SINK_LINE, "vfmig %s: %swarning:%s %s\n", o->command, colour(YELLOW), colour(PLAIN), line);
	else if (level == VFMIG_LOG_INFO && o->summary)
		say(stderr, SINK_LINE, "vfmig %s: %s\n", o->command, line);
	else if (level == VFMIG_LOG_DEBUG && o->verbose)
		say(stderr, SINK_LINE, "vfmig %s: debug: %s\n", o->command, line);
}

static const char *outcome(const struct output_result *r)
{
	if (!r->code)
		return "ok";
	return r->status.phase == VFMIG_PHASE_CANCELLED ? "cancelled" : "failed";
}

static struct json_object *devices_json(const struct output_result *r)
{
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; i < r->num_devices; i++) {
		struct json_object *d = json_object_new_object();
		add_string(d, "uri", r->devices[i].uri);
		add_string(d, "id", r->devices[i].id);
		add_string(d, "state", r->devices[i].state);
		json_object_array_add(list, d);
	}
	return list;
}

static void result_json(struct output *o, const struct output_result *r)
{
	struct json_object *j = status_json("result", r->is_save, &r->status);
	add_string(j, "command", r->command);
	add_string(j, "result", outcome(r));
	add_string(j, "errno", r->code ? strerrorname_np(-r->code) : NULL);
	add_string(j, "error", r->error);
	if (r->is_save)
		add_bool(j, "source_may_run", r->status.source_may_run);
	else
		add_bool(j, "digest_verified", r->status.digest_verified);
	json_object_object_add(j, "devices", devices_json(r));
	if (r->status.outcome_unknown)
		add_string(j, "outcome", "unknown");
	uint64_t dropped = dropped_from(o->events);
	if (dropped)
		add_number(j, "dropped", dropped);
	put_json(o->events, SINK_RESULT, j, false);
}

static const char *state_text(const char *state)
{
	return state ? state : "in a state that it does not tell";
}

static void result_failure(const struct output_result *r)
{
	const struct vfmig_status *s = &r->status;
	output_fail(r->command, "%s", r->error);
	for (size_t i = 0; i < r->num_devices; i++) {
		const struct output_device *d = &r->devices[i];
		const char *note = "";
		if (!d->state && r->untouched) {
			output_fail(r->command, "%s: nothing was done to it", d->uri);
			continue;
		}
		if (r->untouched)
			note = ": nothing was done to it";
		else if (s->source_may_run && r->code != -ESTALE) /* nothing was put back over what somebody else did */
			note = r->is_save ? ": put back to what it was" : ", with nothing of the load at work in it";
		output_fail(r->command, "%s is now %s%s", d->uri, state_text(d->state), note);
	}
}

static void print_summary(FILE *f, const struct output_result *r)
{
	const struct vfmig_status *s = &r->status;
	char a[OUTPUT_NUMBER_MAX], b[OUTPUT_NUMBER_MAX], c[OUTPUT_NUMBER_MAX];
	double seconds = (double)s->elapsed_ns / (double)NS_PER_S;
	uint64_t rate = seconds > 0 ? (uint64_t)((double)s->total_bytes / seconds) : 0;
	fprintf(f, "%s %s in %s (%s/s), %" PRIu64 " round%s\n", r->is_save ? "saved" : "loaded",
		output_bytes(s->total_bytes, a), output_ns(s->elapsed_ns, b), output_bytes(rate, c), s->rounds,
		s->rounds == 1 ? "" : "s");
	if (s->compressed_bytes)
		fprintf(f, "  compressed     %s on the link (%.2f to 1)\n", output_bytes(s->compressed_bytes, a),
			(double)s->total_bytes / (double)s->compressed_bytes);
	fprintf(f, "  setup          %s\n", output_bytes(s->setup_bytes, a));
	fprintf(f, "  pre-copy       %s\n", output_bytes(s->precopy_bytes, a));
	fprintf(f, "  stop-and-copy  %s\n", output_bytes(s->stop_copy_bytes, a));
	if (s->memory_pages || s->memory_zero_pages)
		fprintf(f, "  memory         %" PRIu64 " pages (%s), %" PRIu64 " more were zero\n",
			s->memory_pages, output_bytes(s->memory_pages * 4096, a), s->memory_zero_pages);
	fprintf(f, "  downtime       %s", output_ns(s->downtime_ns, a));
	if (r->is_save && s->expected_downtime_ns)
		fprintf(f, " (expected %s)", output_ns(s->expected_downtime_ns, b));
	fputc('\n', f);
	if (!r->is_save)
		fprintf(f, "  digests        %s\n", s->digest_verified ? "verified" : "none in the stream");
	for (size_t i = 0; i < r->num_devices; i++)
		fprintf(f, "  %s is %s\n", r->devices[i].uri, state_text(r->devices[i].state));
}

static void result_summary(struct output *o, const struct output_result *r)
{
	char *text = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);
	if (!f)
		return;
	print_summary(f, r);
	if (fclose(f) == 0)
		put(o->file, SINK_RESULT, text, length);
	free(text);
}

/* Of a reader that was behind and has caught up; with events their result says it. */
static void tell_dropped(const struct output *o)
{
	uint64_t dropped = dropped_from(stderr);
	if (dropped && !o->events)
		say(stderr, SINK_LINE, "vfmig %s: %" PRIu64 " line%s not printed: nobody read in time\n", o->command,
		    dropped, dropped == 1 ? " was" : "s were");
}

void output_result(struct output *o, const struct output_result *r)
{
	clear_line(o);
	if (o->events)
		result_json(o, r);
	if (r->code && text_allowed(o))
		result_failure(r);
	else if (!r->code && o->summary)
		result_summary(o, r);
	tell_dropped(o);
	drain_all();
}
