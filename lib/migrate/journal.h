/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * journal.h: what one side of a handover remembers when its program is gone.
 *
 * One file a session and side, DIR/SESSION.source or .destination: a line of
 * JSON for each state, appended and made to last (fsync) before anything is done
 * by it. A last line that is not whole was not written. The program that works
 * on a session holds a lock on its file.
 */
#ifndef VFMIG_MIGRATE_JOURNAL_H
#define VFMIG_MIGRATE_JOURNAL_H

#include "migrate/handlers.h"

#define SESSION_TEXT 33 /* 32 hexadecimal digits and a NUL */

enum handover_side { HANDOVER_SOURCE, HANDOVER_DESTINATION };

/* The states of doc/handover.md and doc/model/handover.pml, by the same names. */
enum handover_state {
	HANDOVER_NONE,
	HANDOVER_STOPPED,   /* source: nothing is decided (in the model's journal: none) */
	HANDOVER_DECIDED,   /* source, journal: the destination has it */
	HANDOVER_COMMITTED, /* source: said so; destination, journal: it starts */
	HANDOVER_DONE,	    /* source, journal: the destination runs */
	HANDOVER_RUNS_ON,   /* source, journal: taken back */
	HANDOVER_LOADING,   /* destination (in the model's journal: none) */
	HANDOVER_PREPARED,  /* destination, journal: whole, stopped, asks */
	HANDOVER_RUNNING,   /* destination, journal */
	HANDOVER_ABANDONED, /* destination, journal: it never runs this session */
};

/* "source" and "decided" and so on. Not owned. */
const char *handover_side_name(enum handover_side side);
const char *handover_state_name(enum handover_state state);

struct journal_device {
	char uri[512];
	char id[WIRE_ID_MAX + 1]; /* empty: not known when it was written */
};

/* What a journal says. */
struct journal_record {
	char session[SESSION_TEXT];
	enum handover_side side;
	enum handover_state state; /* the last one */
	char since[32];		   /* of that state: ISO 8601, UTC */
	char digest[DIGEST_HEX];   /* the stream's, from PREPARED on; else empty */
	char link[512];		   /* the URI by which the other side is met again */
	struct journal_device *devices;
	size_t num_devices;
	bool busy; /* a program is at work on the session */
};
void journal_record_clear(struct journal_record *record);

struct journal;

/* A session of its own; 128 random bits. */
int session_new(char ret[SESSION_TEXT], struct vfmig_error *err);
bool session_is_valid(const char *text);

/* A new session's, with the state it begins in. participants: whose names are written down. */
int journal_create(const char *dir, const char *session, enum handover_side side, const char *link,
		   const struct participants *participants, struct journal **ret, struct vfmig_error *err);
/* One that is there, to go on with. -ENOENT; -EBUSY: a program is at work on it. */
int journal_open(const char *dir, const char *session, enum handover_side side, struct journal **ret,
		 struct journal_record *ret_record, struct vfmig_error *err);
void journal_close(struct journal *j);

/* The file says `state` when this returns 0, and what it said before otherwise. digest may be NULL. */
int journal_write(struct journal *j, enum handover_state state, const char *digest, struct vfmig_error *err);
/*
 * The same for RUNS_ON and ABANDONED, which are what no journal means, too: where
 * nothing can be written and the file may say something else, it is removed.
 */
int journal_forget(struct journal *j, enum handover_state state, struct vfmig_error *err);

/* What a journal says, whoever works on it. -ENOENT. */
int journal_read(const char *dir, const char *session, enum handover_side side, struct journal_record *ret,
		 struct vfmig_error *err);

#endif
