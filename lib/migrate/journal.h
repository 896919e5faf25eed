/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * journal.h: what one side of a session remembers when its program is gone.
 *
 * One file a session and side, DIR/SESSION.source or .destination: a line of JSON for each state, appended and made to
 * last (fsync) before anything is done by it. A last line that is not whole was not written. The program that works on
 * a session holds a lock on its file. A new session gets its file from the ledger (ledger.h), which looks at all
 * others in the folder first.
 */
#ifndef VFMIG_MIGRATE_JOURNAL_H
#define VFMIG_MIGRATE_JOURNAL_H

#include <time.h>

#include "device/access.h"
#include "migrate/handlers.h"

#define JOURNAL_FOLDER "/var/lib/vfmig" /* where the command keeps them unless told otherwise */
#define SESSION_TEXT 33 /* 32 hexadecimal digits and a NUL */

enum handover_side { HANDOVER_SOURCE, HANDOVER_DESTINATION };

/* The states of doc/handover.md and doc/model, by the same names. */
enum handover_state {
	HANDOVER_NONE,
	HANDOVER_SAVING,     /* source: the device is at work here */
	HANDOVER_STOPPED,    /* source: nothing is decided, the state is here */
	HANDOVER_SENT,	     /* source, to whoever does not agree (QEMU, a command): the end may have arrived */
	HANDOVER_DECIDED,    /* source, journal: the destination has it */
	HANDOVER_COMMITTED,  /* source: said so; destination, journal: it starts */
	HANDOVER_DONE,	     /* source, journal: given away; a file: complete */
	HANDOVER_RUNS_ON,    /* source, journal: is being taken back */
	HANDOVER_RUNS,	     /* source, journal: ... and was */
	HANDOVER_SUPERSEDED, /* source, journal: a person has moved the device in another session */
	HANDOVER_WAITING,    /* destination: no source yet */
	HANDOVER_LOADING,    /* destination */
	HANDOVER_PREPARED,   /* destination, journal: whole, stopped, asks */
	HANDOVER_RUNNING,    /* destination, journal */
	HANDOVER_ABANDONED,  /* destination, journal: it never runs this session */
	HANDOVER_REPLACED,   /* destination, journal: a person has loaded something else over it */
};

/* Who is at the other end. */
enum journal_peer {
	JOURNAL_PEER_UNKNOWN,
	JOURNAL_PEER_VFMIG,   /* the two agree (handover.c) */
	JOURNAL_PEER_QEMU,    /* has a return path, runs before it reports */
	JOURNAL_PEER_FILE,    /* runs nothing */
	JOURNAL_PEER_ONE_WAY, /* a command, or a socket that says nothing */
};

/* "source" and "decided" and so on. Not owned. */
const char *handover_side_name(enum handover_side side);
const char *handover_state_name(enum handover_state state);
const char *journal_peer_name(enum journal_peer peer);

struct journal_device {
	char uri[512];		    /* absolute */
	char id[WIRE_ID_MAX + 1];   /* empty: not known when it was written */
	struct access_identity who; /* empty: it has no name, or an older vfmig wrote this */
};

/* What a journal says. */
struct journal_record {
	char session[SESSION_TEXT];
	enum handover_side side;
	enum handover_state state; /* the last one */
	char since[32];		   /* of that state: ISO 8601, UTC */
	char digest[DIGEST_HEX];   /* the stream's, from PREPARED on; else empty */
	unsigned version; /* of the journal; 1: runs-on was written once, and "runs" never */
	enum journal_peer peer;
	uint64_t order;		 /* in the folder; 0: written by a vfmig that did not count */
	char link[512];		 /* the URI by which the other side is met again, absolute */
	char tls_creds[512];	 /* the folder; empty: no TLS */
	char tls_hostname[256];	 /* empty: the link's host */
	char others[256];	 /* what stops and starts with the devices, by its ids (vCPUs, a command); or "" */
	bool held;		 /* of a source's lines, RUNNING: stopped, as it was before or as --no-start has it */
	bool by_person;		 /* the last line was a person's decision */
	bool told;		 /* of RUNS: the destination has said that it holds nothing */
	struct journal_device *devices;
	size_t num_devices;
	bool busy;		 /* a program is at work on the session */
	bool past;		 /* its devices were in a later session (session_look(), nobody else fills it) */
	struct timespec written; /* the last line */
};
void journal_record_clear(struct journal_record *record);

struct journal;

/* A session of its own; 128 random bits. */
int session_new(char ret[SESSION_TEXT], struct vfmig_error *err);
bool session_is_valid(const char *text);

/* What a new session's first line says. */
struct journal_head {
	const char *session;
	enum handover_side side;
	uint64_t order;
	const char *link, *tls_creds, *tls_hostname, *others; /* all but the first: NULL where there is none */
	const struct journal_device *devices;
	size_t num_devices;
	bool held; /* source: the devices are stopped already */
};
/* With the state it begins in, SAVING or WAITING. dir_fd: the folder, borrowed. */
int journal_create(const char *dir, const struct journal_head *head, struct journal **ret, struct vfmig_error *err);
/* A destination that waited: of which session it is. Its file gets that name. */
int journal_rename(struct journal *j, const char *session, struct vfmig_error *err);
/* Nothing was done: as if there had been no session. */
void journal_discard(struct journal *j);
/* One that is there, to go on with. -ENOENT; -EBUSY: a program is at work on it. */
int journal_open(const char *dir, const char *session, enum handover_side side, struct journal **ret,
		 struct journal_record *ret_record, struct vfmig_error *err);
void journal_close(struct journal *j); /* NULL is fine */

/* What it says now, as far as this process has written it. */
enum handover_state journal_state(const struct journal *j);

/* The rest of a line; zeros are fine. */
struct journal_line {
	const char *digest;	/* NULL: none */
	enum journal_peer peer; /* UNKNOWN: as before */
	bool held, by_person, told;
};
/*
 * The file says `state` when this returns 0, and what it said before otherwise. A promise (what another side or a
 * later session relies on) is written only where the file still has its name: -ESTALE. line may be NULL.
 */
int journal_write(struct journal *j, enum handover_state state, const struct journal_line *line,
		  struct vfmig_error *err);
/*
 * The same for RUNS_ON and ABANDONED, which are what no journal means, too: where
 * nothing can be written and the file may say something else, it is removed.
 */
int journal_forget(struct journal *j, enum handover_state state, struct vfmig_error *err);

/* What a journal says, whoever works on it. -ENOENT. */
int journal_read(const char *dir, const char *session, enum handover_side side, struct journal_record *ret,
		 struct vfmig_error *err);

/* All that are in dir, by their sessions, until fn gives something else than 0; what it gave, or -errno. */
typedef int journal_list_fn(void *opaque, const char *session, enum handover_side side);
int journal_list(const char *dir, journal_list_fn *fn, void *opaque, struct vfmig_error *err);

/* -EPERM: the folder or the file belongs to somebody else than the caller or root, or others may write to it. */
int journal_check_owner(const char *dir, const char *session, enum handover_side side, struct vfmig_error *err);

#endif
