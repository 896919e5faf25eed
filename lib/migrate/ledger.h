/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ledger.h: what the journals of a folder say about a device, over all of its sessions.
 *
 * A save or a load claims its devices before it touches them: all of them or none, while it holds a lock on the
 * folder. A device that another session still has is refused, and so is one whose state the last session gave away.
 * Sessions are ordered by a number that the folder gives, never by a clock. doc/handover.md has the rules.
 */
#ifndef VFMIG_MIGRATE_LEDGER_H
#define VFMIG_MIGRATE_LEDGER_H

#include "migrate/journal.h"

struct vfmig_link;

struct ledger_claim {
	const char *dir;
	enum handover_side side;
	const char *session;	/* the new one; NULL: not known yet (a load) */
	const char *consent;	/* a person's: this session may lose the device; NULL: none */
	enum journal_peer peer; /* FILE: the save goes into a file */
	const struct vfmig_link *link;
	const struct participants *participants; /* the devices among them */
	const struct log *log;
};

/*
 * The journal of the new session, SAVING or WAITING, when nothing is against it. -EBUSY: a program is at work on one
 * of the devices, or on the folder; -EPERM: another session has one of them, or gave it away; -EBADMSG: a journal in
 * the folder cannot be read, and it may be about one of them. *ret NULL: no device of these can be told from others.
 */
int ledger_claim(const struct ledger_claim *claim, struct journal **ret, struct vfmig_error *err);

/* Does a session in this state keep other sessions from its devices, though no program is at work on it? */
bool ledger_is_open(const struct journal_record *record);

/* Was a device of this session in the other one since? */
bool ledger_came_after(const struct journal_record *later, const struct journal_record *record);
/* -EPERM: a device of this session was in a later one, whose state it has now. */
int ledger_check_last(const char *dir, const struct journal_record *record, struct vfmig_error *err);

/* The last session of a device. 1: *ret, to be cleared; 0: there is none. who: empty where it has no name. */
int ledger_last(const char *dir, const char *uri, const struct access_identity *who, struct journal_record *ret,
		struct vfmig_error *err);

/* The device as journals have it: the URI absolute, and its identity. -ENAMETOOLONG. */
int ledger_name_device(struct access *access, const char *uri, const char *id, struct journal_device *ret,
		       struct vfmig_error *err);

/* "SCHEME:PATH" with the path from the root on; what is no path stays. -ENAMETOOLONG. */
int ledger_absolute(const char *uri, char *ret, size_t size, struct vfmig_error *err);

/* What it held then is gone for certain: it is another incarnation now. */
bool ledger_is_gone(const struct access_identity *then, const struct access_identity *now);

struct vfmig_load;
/* Claims a load's devices now, for who gives up privileges before the first step, which does it otherwise. */
int load_claim(struct vfmig_load *load, struct vfmig_error *err);

#endif
