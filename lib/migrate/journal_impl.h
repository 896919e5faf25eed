/* SPDX-License-Identifier: BSD-3-Clause */
/* journal_impl.h: what journal.c, which writes, and journal_read.c, which reads, share. */
#ifndef VFMIG_MIGRATE_JOURNAL_IMPL_H
#define VFMIG_MIGRATE_JOURNAL_IMPL_H

#include "migrate/journal.h"

#define JOURNAL_VERSION 2u /* 1: without order, peer and the devices' names */
#define JOURNAL_MAX (1u << 20) /* 64 devices with the longest names, and some 10 states, are less than 200 KiB */
#define JOURNAL_DEVICES_MAX 256u
#define JOURNAL_NEW ".new" /* the file's name until its first line is there */

struct journal {
	int fd, dir_fd;
	enum handover_state state;
	off_t length;  /* of the whole lines */
	bool promised; /* they say more than no journal would */
	bool doubtful; /* a line may be there that was not written as a whole */
	char name[SESSION_TEXT + 16];
	char dir[512], path[600]; /* for messages */
};

extern const char *const journal_side_names[2], *const journal_state_names[], *const journal_peer_names[];
extern const size_t journal_num_states, journal_num_peers;

/* Does a journal that says this bind its side? All other states mean what no journal means. */
bool journal_is_promise(enum handover_state state);
int journal_open_dir(const char *dir, const char *session, enum handover_side side, struct journal **ret,
		     struct vfmig_error *err);
/* The lock that goes with the open file: 0, or -EBUSY: somebody else's. */
int journal_lock(int fd, int command);

#endif
