/* SPDX-License-Identifier: BSD-3-Clause */
/* session.h: what the commands that look at journals have in common. */
#ifndef VFMIG_TOOL_SESSION_H
#define VFMIG_TOOL_SESSION_H

#include <json-c/json.h>

#include "migrate/journal.h"

/* What a side in this state means for its devices, and what is to be done, for a person. Not owned. */
const char *session_meaning(enum handover_side side, enum handover_state state);
/* Is there nothing more to be done in this state? */
bool session_has_ended(enum handover_state state);

struct json_object *session_json(const struct journal_record *record);

#endif
