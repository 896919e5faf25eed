/* SPDX-License-Identifier: BSD-3-Clause */
/* session.h: what the commands that look at journals have in common. */
#ifndef VFMIG_TOOL_SESSION_H
#define VFMIG_TOOL_SESSION_H

#include <json-c/json.h>

#include "migrate/ledger.h"

/*
 * The folder of journals: what was named; else $VFMIG_JOURNAL (empty: none); else /var/lib/vfmig where it exists.
 * NULL: none. Not owned.
 */
const char *session_folder(const char *named);

/* The only session in dir whose id begins so: 0; -ENOENT; -ENOTUNIQ. */
int session_find(const char *dir, const char *prefix, char ret[SESSION_TEXT], struct vfmig_error *err);
/* Could it be the beginning of a session's id? */
bool session_is_prefix(const char *text);

/* Was it the last session of its devices? Only then its words tell what they are in now. all: of the folder. */
void session_look(struct journal_record *record, const struct journal_record *all, size_t count);
void session_look_in(struct journal_record *record, const char *dir);

/* What a side in this state means for its devices, for a person. Not owned. */
const char *session_meaning(const struct journal_record *record);
/* Is there nothing more to be done? */
bool session_has_ended(const struct journal_record *record);

/*
 * Whole commands, each of which does no harm or is a person's decision, with a word before it: "to go on". Calls fn
 * for each; none for a session that has ended or is at work.
 */
typedef void session_command_fn(void *opaque, const char *what, const char *command);
void session_commands(const struct journal_record *record, const char *dir, session_command_fn *fn, void *opaque);

/* Files that a save into record->link was killed over: calls fn for each. */
typedef void session_file_fn(void *opaque, const char *path);
void session_leftovers(const struct journal_record *record, session_file_fn *fn, void *opaque);

struct json_object *session_json(const struct journal_record *record, const char *dir);

#endif
