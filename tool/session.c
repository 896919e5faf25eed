/* SPDX-License-Identifier: BSD-3-Clause */
/* session.c: what the states of a handover mean to people. */
#include "session.h"

#include "output.h"

static const struct {
	const char *source, *destination;
	bool ended;
} meanings[] = {
	[HANDOVER_NONE] = { "nothing is known", "nothing is known", false },
	[HANDOVER_STOPPED] = { "nothing was decided: the device may run here, and the destination asks before it runs",
			       "", false },
	[HANDOVER_DECIDED] = { "the destination was told to run the device, or is to be told: it must not run here",
			       "", false },
	[HANDOVER_COMMITTED] = { "", "the source has given the device away: it may have been started here", false },
	[HANDOVER_DONE] = { "the device runs at the destination", "", true },
	[HANDOVER_RUNS_ON] = { "the device was taken back and runs here", "", true },
	[HANDOVER_LOADING] = { "", "half of a state: the device is to be reset; it runs at the source", false },
	[HANDOVER_PREPARED] = { "", "the device is loaded and stopped: whether it may run only the source knows",
				false },
	[HANDOVER_RUNNING] = { "", "the device runs here", true },
	[HANDOVER_ABANDONED] = { "", "the device holds nothing of it; it runs at the source", true },
};

const char *session_meaning(enum handover_side side, enum handover_state state)
{
	return side == HANDOVER_SOURCE ? meanings[state].source : meanings[state].destination;
}

bool session_has_ended(enum handover_state state)
{
	return meanings[state].ended;
}

struct json_object *session_json(const struct journal_record *record)
{
	struct json_object *o = json_object_new_object(), *devices = json_object_new_array();
	json_object_object_add(o, "session", json_object_new_string(record->session));
	json_object_object_add(o, "side", json_object_new_string(handover_side_name(record->side)));
	json_object_object_add(o, "state", json_object_new_string(handover_state_name(record->state)));
	json_object_object_add(o, "since", json_object_new_string(record->since));
	json_object_object_add(o, "ended", json_object_new_boolean(session_has_ended(record->state)));
	json_object_object_add(o, "busy", json_object_new_boolean(record->busy));
	json_object_object_add(o, "meaning", json_object_new_string(session_meaning(record->side, record->state)));
	json_object_object_add(o, "link", json_object_new_string(record->link));
	json_object_object_add(o, "digest", record->digest[0] ? json_object_new_string(record->digest) : NULL);
	for (size_t i = 0; i < record->num_devices; i++) {
		struct json_object *d = json_object_new_object();
		json_object_object_add(d, "uri", json_object_new_string(record->devices[i].uri));
		json_object_object_add(d, "id", json_object_new_string(record->devices[i].id));
		json_object_array_add(devices, d);
	}
	json_object_object_add(o, "devices", devices);
	return o;
}
