/* SPDX-License-Identifier: BSD-3-Clause */
/* report_read.c: a save's or a load's events, which anybody may have written, into what is drawn. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "read_text.h"
#include "report.h"

#define LINE_MAX_BYTES (1u << 20)
#define EVENTS_MAX (1u << 18) /* of each kind */

/* Room for one more; NULL: none. */
static void *grow(void *list, size_t count, size_t *room, size_t size)
{
	if (count < *room)
		return list;
	size_t wanted = *room ? 2 * *room : 64;
	void *grown = wanted <= EVENTS_MAX ? reallocarray(list, wanted, size) : NULL;
	if (grown)
		*room = wanted;
	return grown;
}

/* A copy that replaces what was there, if there is such a string. */
static void take_text(struct json_object *o, const char *key, char **ret)
{
	struct json_object *member = json_member(o, key, json_type_string);
	char *copy = member ? strdup(json_object_get_string(member)) : NULL;
	if (!copy)
		return;
	free(*ret);
	*ret = copy;
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/* Which device an object is about; a new one if none has its uri and id. REPORT_DEVICES: there is no room. */
static size_t find_device(struct report *r, struct json_object *o)
{
	struct report_device found = { 0 };
	take_text(o, "uri", &found.uri);
	take_text(o, "id", &found.id);
	size_t i = 0;
	while (i < r->num_devices && !(same(r->devices[i].uri, found.uri) && same(r->devices[i].id, found.id)))
		i++;
	if (i == r->num_devices && i < REPORT_DEVICES) {
		r->devices[r->num_devices++] = found;
		return i;
	}
	free(found.uri);
	free(found.id);
	return i;
}

static bool find_state(const char *name, enum vfmig_state *ret)
{
	for (unsigned s = VFMIG_STATE_ERROR; name && s <= VFMIG_STATE_PRE_COPY_P2P; s++)
		if (!strcmp(name, vfmig_state_name(s))) {
			*ret = s;
			return true;
		}
	return false;
}

static bool find_phase(const char *name, enum vfmig_phase *ret)
{
	for (unsigned p = VFMIG_PHASE_SETUP; name && p <= VFMIG_PHASE_CANCELLED; p++)
		if (!strcmp(name, vfmig_phase_name(p))) {
			*ret = p;
			return true;
		}
	return false;
}

/* Time does not go back, whatever the file says. */
static uint64_t take_time(struct report *r, struct json_object *o)
{
	uint64_t at_ns = 0;
	json_member_number(o, "elapsed_ns", &at_ns);
	r->elapsed_ns = max_u64(r->elapsed_ns, at_ns);
	return r->elapsed_ns;
}

static int take_state(struct report *r, struct json_object *o)
{
	enum vfmig_state state;
	if (!find_state(json_member_text(o, "state"), &state))
		return 0;
	size_t device = find_device(r, o);
	struct report_state *list = grow(r->states, r->num_states, &r->room_states, sizeof(*list));
	if (!list)
		return -E2BIG;
	r->states = list;
	if (device == REPORT_DEVICES)
		return -E2BIG;
	list[r->num_states++] = (struct report_state) { .device = device, .state = state, .at_ns = take_time(r, o) };
	return 0;
}

static int take_line(struct report *r, struct json_object *o)
{
	struct report_line *list = grow(r->lines, r->num_lines, &r->room_lines, sizeof(*list));
	if (!list)
		return -E2BIG;
	r->lines = list;
	list[r->num_lines] = (struct report_line) { 0 };
	take_text(o, "level", &list[r->num_lines].level);
	take_text(o, "message", &list[r->num_lines].message);
	r->num_lines++;
	return 0;
}

static void take_steps(struct report *r, struct json_object *o)
{
	static const struct {
		enum vfmig_downtime_step first, last;
	} of[] = { { VFMIG_DOWNTIME_STOP_PREPARE, VFMIG_DOWNTIME_CONFIRM },
		   { VFMIG_DOWNTIME_RECEIVE, VFMIG_DOWNTIME_START } };
	struct json_object *steps = json_member(o, "downtime_steps", json_type_object);
	uint64_t ns;
	if (!steps)
		return;
	r->is_load = json_member_number(steps, "receive_ns", &ns);
	r->num_steps = 0;
	for (unsigned i = of[r->is_load].first; i <= of[r->is_load].last; i++) {
		char key[64];
		snprintf(key, sizeof(key), "%s_ns", vfmig_downtime_step_name(i));
		if (json_member_number(steps, key, &ns))
			r->steps[r->num_steps++] = (struct report_step) { i, ns };
	}
}

/* phase, progress and result have these alike. */
static int take_status(struct report *r, struct json_object *o)
{
	struct report_point p = { .at_ns = take_time(r, o) };
	struct report_point *list = grow(r->points, r->num_points, &r->room_points, sizeof(*list));
	if (!list)
		return -E2BIG;
	r->points = list;
	json_member_number(o, "total_bytes", &p.total_bytes);
	json_member_number(o, "pending_bytes", &p.pending_bytes);
	json_member_number(o, "expected_downtime_ns", &p.expected_ns);
	json_member_number(o, "downtime_ns", &r->downtime_ns);
	json_member_number(o, "setup_bytes", &r->setup_bytes);
	json_member_number(o, "precopy_bytes", &r->precopy_bytes);
	json_member_number(o, "stop_copy_bytes", &r->stop_copy_bytes);
	json_member_number(o, "rounds", &r->rounds);
	json_member_number(o, "compressed_bytes", &r->compressed_bytes);
	json_member_number(o, "memory_pages", &r->memory_pages);
	json_member_number(o, "memory_zero_pages", &r->memory_zero_pages);
	r->total_bytes = p.total_bytes;
	r->expected_ns = p.expected_ns;
	r->downtime_ns = min_u64(r->downtime_ns, r->elapsed_ns);
	take_text(o, "session", &r->session);
	take_steps(r, o);
	if (find_phase(json_member_text(o, "phase"), &p.phase))
		list[r->num_points++] = p;
	return 0;
}

static int take_result(struct report *r, struct json_object *o)
{
	const char *result = json_member_text(o, "result");
	struct json_object *devices = json_member(o, "devices", json_type_array);
	int e = take_status(r, o);
	take_text(o, "command", &r->command);
	take_text(o, "error", &r->error);
	r->has_result = true;
	r->cancelled = result && !strcmp(result, "cancelled");
	r->failed = !result || (strcmp(result, "ok") && !r->cancelled);
	r->source_may_run = json_member_bool(o, "source_may_run");
	r->digest_verified = json_member_bool(o, "digest_verified");
	for (size_t i = 0; devices && i < json_object_array_length(devices) && e == 0; i++) {
		struct json_object *one = json_object_array_get_idx(devices, i);
		size_t at = find_device(r, one);
		if (at == REPORT_DEVICES)
			e = -E2BIG;
		else
			take_text(one, "state", &r->devices[at].state);
	}
	return e;
}

static int take_event(struct report *r, struct json_object *o)
{
	const char *event = json_member_text(o, "event");
	if (!event)
		return -EBADMSG;
	if (!strcmp(event, "phase") || !strcmp(event, "progress"))
		return take_status(r, o);
	if (!strcmp(event, "result"))
		return take_result(r, o);
	if (!strcmp(event, "state"))
		return take_state(r, o);
	if (!strcmp(event, "log"))
		return take_line(r, o);
	if (!strcmp(event, "begin")) {
		take_text(o, "command", &r->command);
		take_text(o, "time", &r->time);
		take_text(o, "link", &r->link);
		json_member_number(o, "downtime_limit_ns", &r->downtime_limit_ns);
	}
	return 0; /* a later vfmig may tell more */
}

/* The last line may have been under way when the program was killed. */
static int take_json(struct report *r, const char *line, size_t length, bool last, struct vfmig_error *err)
{
	struct json_object *o;
	int e = length <= LINE_MAX_BYTES ? read_json(line, length, &o, err)
					 : error_set(err, -EFBIG, "more than %u bytes", LINE_MAX_BYTES);
	if (e < 0 && last && r->num_points) {
		r->ends_early = true;
		return 0;
	}
	if (e < 0)
		return e;
	e = take_event(r, o);
	json_object_put(o);
	if (e == -E2BIG)
		return error_set(err, e, "more than %d devices or %u events of a kind", REPORT_DEVICES, EVENTS_MAX);
	return e < 0 ? error_set(err, e, "no event, expected what 'vfmig save --json' or --events prints") : 0;
}

int report_read(const char *text, const char *name, struct report *r, struct vfmig_error *err)
{
	for (size_t number = 1; *text; number++) {
		size_t length = strcspn(text, "\n");
		bool ended = text[length] == '\n';
		int e = length ? take_json(r, text, length, !ended, err) : 0;
		if (e < 0)
			return error_prefix(err, e, "%s: line %zu", name, number);
		text += length + ended;
	}
	if (!r->num_points)
		return error_set(err, -EBADMSG,
				 "%s: no events in it, expected what 'vfmig save --json' or --events prints", name);
	if (!r->is_load && !r->downtime_ns && r->total_bytes > r->setup_bytes) /* it is added up at the stop */
		r->precopy_bytes = r->total_bytes - r->setup_bytes;
	if (r->command)
		r->is_load = !strcmp(r->command, "load");
	return 0;
}

void report_clear(struct report *r)
{
	for (size_t i = 0; i < r->num_devices; i++) {
		free(r->devices[i].uri);
		free(r->devices[i].id);
		free(r->devices[i].state);
	}
	for (size_t i = 0; i < r->num_lines; i++) {
		free(r->lines[i].level);
		free(r->lines[i].message);
	}
	free(r->points);
	free(r->states);
	free(r->lines);
	free(r->command);
	free(r->time);
	free(r->link);
	free(r->error);
	free(r->session);
}
