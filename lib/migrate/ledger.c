/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ledger.c: which session a device belongs to.
 *
 * Theory of operation. A claim locks the folder, reads every journal in it, and keeps those that name one of its
 * devices. A session that is still open refuses the claim, unless a person has named it; of those that are over the
 * last one tells what the device may hold. Only then is the new journal made, with the next number, and what a
 * person's word ends is written into the older ones. The folder is locked for as long as that takes and no longer.
 */
#include "migrate/ledger.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "link/link.h"
#include "migrate/memory.h"

#define LOCK_NS (2 * NS_PER_S) /* for the folder, which others have for a moment */
#define LOCK_PAUSE_MS 5
#define COMMAND_MAX 384 /* of a command in a message */

struct past {
	struct journal_record *list; /* sessions that share a device with the claim */
	size_t count;
	uint64_t order; /* the highest of all */
};

struct asking {
	const struct ledger_claim *claim;
	struct journal_device *devices;
	const struct participant **whose; /* of devices[i] */
	enum vfmig_state *states;	  /* that it was found in */
	size_t num_devices;
	struct past past;
	struct vfmig_error *err;
};

/* ---------------------------------------------------------------- devices */

/* One without a name, as older journals have all, is known by its URI alone, where that means the same to all. */
static bool is_same(const struct journal_device *a, const struct journal_device *b)
{
	/* A hard link or a bind mount is another path to the same socket, which no other has the inode and birth of. */
	bool sockets = strstr(a->who.name, ":socket:") && strstr(b->who.name, ":socket:");
	if (sockets && strcmp(a->who.incarnation, b->who.incarnation) == 0)
		return true;
	if (a->who.name[0] && b->who.name[0])
		return strcmp(a->who.name, b->who.name) == 0;
	return strncmp(a->uri, "sim:", 4) && strncmp(a->uri, "fd:", 3) && strcmp(a->uri, b->uri) == 0;
}

static const struct journal_device *find_device(const struct journal_record *r, const struct journal_device *d)
{
	for (size_t i = 0; i < r->num_devices; i++)
		if (is_same(&r->devices[i], d))
			return &r->devices[i];
	return NULL;
}

/* Before the folder is locked: a device may take its time. */
static int ask_state(struct asking *a, size_t i)
{
	struct protocol *p = (struct protocol *)a->whose[i]->protocol;
	int r = a->devices[i].who.name[0] ? p->ops->get_state(p, &a->states[i], a->err) : 0;
	return r < 0 ? error_prefix(a->err, error_not_again(r), "%s", a->devices[i].uri) : 0;
}

static int name_devices(struct asking *a)
{
	const struct participants *p = a->claim->participants;
	a->devices = calloc(p->count + 1, sizeof(*a->devices));
	a->whose = calloc(p->count + 1, sizeof(const struct participant *));
	a->states = calloc(p->count + 1, sizeof(*a->states));
	if (!a->devices || !a->whose || !a->states)
		return error_errno(a->err, -ENOMEM, "journal");
	for (size_t i = 0; i < p->count; i++) {
		const struct participant *one = &p->list[i];
		struct journal_device *d = &a->devices[a->num_devices];
		if (!one->protocol)
			continue;
		int r = ledger_name_device(one->protocol->access, one->name, one->id, d, a->err);
		if (r < 0)
			return r;
		if (!d->who.name[0] && strncmp(d->uri, "sim:", 4))
			log_line(
			    a->claim->log, VFMIG_LOG_WARNING,
			    "%s: it cannot be told from other devices later, so the journals in %s do not keep two "
			    "sessions of it apart",
			    one->name, a->claim->dir);
		a->whose[a->num_devices++] = one;
		r = ask_state(a, a->num_devices - 1);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --------------------------------------------------------------- the past */

static int keep(void *opaque, const char *session, enum handover_side side)
{
	struct asking *a = opaque;
	struct journal_record r = { 0 };
	bool shared = false;
	int code = journal_read(a->claim->dir, session, side, &r, a->err);
	if (code == -ENOENT)
		return 0;
	if (code < 0)
		return error_prefix(a->err, code, "another session may have the device");
	a->past.order = r.order > a->past.order ? r.order : a->past.order;
	for (size_t i = 0; i < a->num_devices; i++)
		shared |= find_device(&r, &a->devices[i]) != NULL;
	struct journal_record *list =
	    shared ? reallocarray(a->past.list, a->past.count + 1, sizeof(*list)) : NULL;
	if (list) {
		a->past.list = list;
		list[a->past.count++] = r;
		return 0;
	}
	journal_record_clear(&r);
	return shared ? error_errno(a->err, -ENOMEM, "journal") : 0;
}

static void forget(struct past *past)
{
	for (size_t i = 0; i < past->count; i++)
		journal_record_clear(&past->list[i]);
	free(past->list);
	*past = (struct past) { 0 };
}

/* Those of a vfmig that did not count come before all that have a number, by their files' times. */
static bool is_later(const struct journal_record *a, const struct journal_record *b)
{
	if (a->order != b->order)
		return a->order > b->order;
	return a->written.tv_sec != b->written.tv_sec ? a->written.tv_sec > b->written.tv_sec :
							a->written.tv_nsec > b->written.tv_nsec;
}

static const struct journal_record *find_last(const struct past *past, const struct journal_device *d)
{
	const struct journal_record *last = NULL;
	for (size_t i = 0; i < past->count; i++)
		if (find_device(&past->list[i], d) && (!last || is_later(&past->list[i], last)))
			last = &past->list[i];
	return last;
}

/* Did it leave a stopped device as it was? A load that was abandoned is no reason to be stopped, either. */
static bool left_alone(const struct journal_record *r)
{
	return r->state == HANDOVER_WAITING || r->state == HANDOVER_ABANDONED ||
	       (r->held && (r->state == HANDOVER_SAVING || r->state == HANDOVER_RUNS));
}

/* The last one that can have stopped it. */
static const struct journal_record *find_stopper(const struct past *past, const struct journal_device *d)
{
	const struct journal_record *last = NULL;
	for (size_t i = 0; i < past->count; i++) {
		const struct journal_record *r = &past->list[i];
		if (!left_alone(r) && find_device(r, d) && (!last || is_later(r, last)))
			last = r;
	}
	return last;
}

/* -------------------------------------------------------------- judgement */

static bool consents(const struct asking *a, const struct journal_record *r)
{
	return a->claim->consent && r->side == a->claim->side && strcmp(a->claim->consent, r->session) == 0;
}

static bool is_gone(const struct asking *a, const struct journal_record *r)
{
	for (size_t i = 0; i < a->num_devices; i++) {
		const struct journal_device *d = find_device(r, &a->devices[i]);
		if (d && !ledger_is_gone(&d->who, &a->devices[i].who))
			return false;
	}
	return true;
}

/* Are all of the session's devices among those that are claimed? */
static bool has_all(const struct asking *a, const struct journal_record *r)
{
	for (size_t i = 0; i < r->num_devices; i++) {
		bool found = false;
		for (size_t k = 0; k < a->num_devices; k++)
			found |= is_same(&r->devices[i], &a->devices[k]);
		if (!found)
			return false;
	}
	return true;
}

/* May the session be left behind? */
static int judge_session(const struct asking *a, const struct journal_record *r)
{
	const char *uri = r->devices[0].uri, *side = handover_side_name(r->side),
		   *state = handover_state_name(r->state);
	char dir[COMMAND_MAX / 3];
	for (size_t i = 0; i < r->num_devices; i++)
		for (size_t k = 0; k < a->num_devices; k++)
			if (is_same(&r->devices[i], &a->devices[k]))
				uri = a->devices[k].uri;
	if (r->busy)
		return error_set(a->err, -EBUSY, "%s: a program is at work on it in session %s (%s, %s)", uri,
				 r->session, side, state);
	if (!ledger_is_open(r) || is_gone(a, r))
		return 0;
	if (!consents(a, r))
		return error_set(a->err, -EPERM,
				 "%s: session %s still has it (%s, %s): 'vfmig resolve %s --side %s --journal %s' ends "
				 "that",
				 uri, r->session, side, state, r->session, side,
				 text_shell(dir, sizeof(dir), a->claim->dir));
	if (!has_all(a, r))
		return error_set(a->err, -EPERM, "%s: session %s has other devices, too: all of them or none", uri,
				 r->session);
	return 0;
}

/* "recover URI --run --journal DIR", to be typed. */
static const char *recover_command(const struct asking *a, const struct journal_device *d, const char *option,
				   char ret[COMMAND_MAX])
{
	char uri[COMMAND_MAX / 3], dir[COMMAND_MAX / 3];
	snprintf(ret, COMMAND_MAX, "vfmig recover %s %s --journal %s", text_shell(uri, sizeof(uri), d->uri), option,
		 text_shell(dir, sizeof(dir), a->claim->dir));
	return ret;
}

static int unexplained(const struct asking *a, const struct journal_device *d, const char *who)
{
	char command[COMMAND_MAX];
	return error_set(a->err, -EPERM,
			 "%s: it is stopped, and %s in %s tells why: its state may be at work somewhere else; if it is "
			 "here alone, '%s' lets it work",
			 d->uri, who, a->claim->dir, recover_command(a, d, "--run", command));
}

/* The device is stopped: is its state here and nowhere else? Only what is listed here says so. */
static int judge_stopped(const struct asking *a, const struct journal_device *d, const struct journal_record *last)
{
	char command[COMMAND_MAX];
	bool known = last && !ledger_is_gone(&find_device(last, d)->who, &d->who);
	bool given_away = known && last->side == HANDOVER_SOURCE &&
			  (last->state == HANDOVER_DONE || last->state == HANDOVER_SUPERSEDED);
	bool file = given_away && last->peer == JOURNAL_PEER_FILE;
	if (known && (consents(a, last) || (last->state == HANDOVER_RUNNING && last->held)))
		return 0;
	if (file && a->claim->peer == JOURNAL_PEER_FILE)
		return 0;
	if (!known)
		return unexplained(a, d, "no session");
	if (file)
		return error_set(a->err, -EPERM,
				 "%s: session %s put its state into %s and left it stopped; '%s' lets it work again",
				 d->uri, last->session, last->link, recover_command(a, d, "--run", command));
	if (given_away && last->state == HANDOVER_SUPERSEDED)
		return unexplained(a, d, "a person took it out of its last session, and nothing");
	if (given_away)
		return error_set(a->err, -EPERM,
				 "%s: it was given away in session %s and is stopped since: its state went to the "
				 "destination (%s)",
				 d->uri, last->session, last->link);
	if (last->state == HANDOVER_LOADING)
		return error_set(a->err, -EPERM,
				 "%s: it is stopped with what session %s was loading, which is not whole", d->uri,
				 last->session);
	return unexplained(a, d, "not even its last session");
}

static void tell_given_away(const struct asking *a, const struct journal_device *d, const struct journal_record *last)
{
	if (last && last->side == HANDOVER_SOURCE && last->state == HANDOVER_DONE)
		log_line(
		    a->claim->log, VFMIG_LOG_WARNING,
		    "%s: session %s gave it away, and it runs again: what it holds is taken for a state of its own",
		    d->uri, last->session);
}

/* Is what the device is stopped with the only copy? */
static int judge_load_stopped(const struct asking *a, const struct journal_device *d, const struct journal_record *last)
{
	char command[COMMAND_MAX];
	bool only = last && ((last->held && last->state == HANDOVER_RUNNING) || last->state == HANDOVER_SUPERSEDED);
	if (!only || ledger_is_gone(&find_device(last, d)->who, &d->who) || consents(a, last))
		return 0;
	return error_set(
	    a->err, -EPERM,
	    "%s: it is stopped here with the state of session %s (%s, %s), and a load would end that; if that "
	    "is not wanted any more: '%s'",
	    d->uri, last->session, handover_side_name(last->side), handover_state_name(last->state),
	    recover_command(a, d, "--discard", command));
}

/* Would the load end a work that goes on here? */
static int judge_load_running(const struct asking *a, const struct journal_device *d, const struct journal_record *last)
{
	char command[COMMAND_MAX];
	bool works = last && (last->state == HANDOVER_RUNNING || last->state == HANDOVER_RUNS ||
			      last->state == HANDOVER_SAVING);
	if (!works || ledger_is_gone(&find_device(last, d)->who, &d->who) || consents(a, last))
		return 0;
	return error_set(a->err, -EPERM,
			 "%s: it works here since session %s (%s, %s), and a load would end that; if its "
			 "work is not wanted any more: '%s'",
			 d->uri, last->session, handover_side_name(last->side), handover_state_name(last->state),
			 recover_command(a, d, "--discard", command));
}

/* In any other state something is under way with it: the save or the load itself refuses that. */
static int judge_device(const struct asking *a, const struct journal_device *d, enum vfmig_state now)
{
	bool save = a->claim->side == HANDOVER_SOURCE;
	const struct journal_record *last = find_last(&a->past, d), *stopper = find_stopper(&a->past, d);
	if (now == VFMIG_STATE_STOP)
		return save ? judge_stopped(a, d, stopper) : judge_load_stopped(a, d, stopper);
	if (now == VFMIG_STATE_RUNNING && !save)
		return judge_load_running(a, d, last);
	if (now == VFMIG_STATE_RUNNING)
		tell_given_away(a, d, last);
	return 0;
}

static int judge(struct asking *a)
{
	bool found = !a->claim->consent;
	for (size_t i = 0; i < a->past.count; i++)
		found |= consents(a, &a->past.list[i]);
	if (!found)
		return error_set(a->err, -ENOENT,
				 "session %s: no %s's journal in %s says that it had one of these devices",
				 a->claim->consent, handover_side_name(a->claim->side), a->claim->dir);
	for (size_t i = 0; i < a->past.count; i++) {
		int r = judge_session(a, &a->past.list[i]);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < a->num_devices; i++) {
		const struct journal_device *d = &a->devices[i];
		int r = d->who.name[0] ? judge_device(a, d, a->states[i]) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* ------------------------------------------------- what ends by this claim */

static int reset_devices(const struct asking *a, const struct journal_record *r)
{
	for (size_t i = 0; i < a->num_devices; i++) {
		struct access *access = a->whose[i]->protocol->access;
		int code = find_device(r, &a->devices[i]) ? access_reset(access, a->err) : 0;
		if (code < 0)
			return error_prefix(a->err, error_not_again(code), "%s: reset", a->devices[i].uri);
	}
	return 0;
}

/* Half of a state that a load was killed over: nothing may take it for a whole one. */
static bool is_half(const struct asking *a, const struct journal_record *r)
{
	return a->claim->side == HANDOVER_DESTINATION && r->state == HANDOVER_LOADING && !is_gone(a, r) &&
	       has_all(a, r) && find_last(&a->past, &r->devices[0]) == r;
}

static int end_session(const struct asking *a, const struct journal_record *r)
{
	struct journal_record now;
	struct journal *j;
	const struct journal_line person = { .by_person = consents(a, r) };
	enum handover_state next = r->side == HANDOVER_SOURCE	      ? HANDOVER_SUPERSEDED :
				   r->state == HANDOVER_PREPARED ||
					   r->state == HANDOVER_LOADING ? HANDOVER_ABANDONED :
									HANDOVER_REPLACED;
	int code = journal_open(a->claim->dir, r->session, r->side, &j, &now, a->err);
	if (code < 0)
		return code;
	if (r->state == HANDOVER_PREPARED) /* *lost* may be said of it, so first it has to be */
		code = reset_devices(a, r);
	if (code == 0)
		code = journal_write(j, next, &person, a->err);
	if (code == 0 && r->state == HANDOVER_LOADING)
		code = reset_devices(a, r);
	journal_record_clear(&now);
	journal_close(j);
	return code;
}

static int end_sessions(const struct asking *a)
{
	for (size_t i = 0; i < a->past.count; i++) {
		const struct journal_record *r = &a->past.list[i];
		bool ended = r->state == HANDOVER_ABANDONED || r->state == HANDOVER_DONE ||
			     r->state == HANDOVER_SUPERSEDED || r->state == HANDOVER_REPLACED;
		int code = is_half(a, r) || (consents(a, r) && !ended) ? end_session(a, r) : 0;
		if (code < 0)
			return code;
	}
	return 0;
}

/* ------------------------------------------------------------------ claim */

static int lock_folder(const char *dir, int *ret, struct vfmig_error *err)
{
	uint64_t until_ns = clock_now_ns() + LOCK_NS;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : 0;
	while (r == 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			r = -errno;
		else if (clock_now_ns() >= until_ns)
			r = -EBUSY;
		else
			(void)poll(NULL, 0, LOCK_PAUSE_MS);
	}
	if (r < 0 && fd >= 0)
		close(fd);
	if (r == -EBUSY)
		return error_set(err, r, "journal directory %s: another program has it locked for 2 s", dir);
	if (r < 0)
		return error_errno(err, r, "journal directory %s", dir);
	*ret = fd;
	return 0;
}

/* As they were found by this claim. */
static bool are_stopped(const struct asking *a)
{
	for (size_t i = 0; i < a->num_devices; i++)
		if (a->whose[i]->protocol->state != VFMIG_STATE_STOP)
			return false;
	return a->num_devices > 0;
}

/* What does not come back with the devices when these are let run from a journal. Cut where it does not fit. */
static void name_others(const struct participants *p, char *ret, size_t size)
{
	ret[0] = '\0';
	for (size_t i = 0, used = 0; i < p->count && used < size; i++) {
		const struct participant *one = &p->list[i];
		bool stops = one->ops.stop_prepare || one->ops.stop || one->ops.start_prepare || one->ops.start;
		if (!one->protocol && stops && strcmp(one->id, MEMORY_ID))
			used += (size_t)snprintf(ret + used, size - used, "%s%s", used ? ", " : "", one->id);
	}
}

static int make_journal(const struct asking *a, struct journal **ret)
{
	const struct ledger_claim *c = a->claim;
	char session[SESSION_TEXT], link[512], others[256];
	struct journal_head head = { .session = c->session, .side = c->side, .order = a->past.order + 1, .link = link,
				     .tls_creds = c->link->tls_creds, .tls_hostname = c->link->tls_hostname,
				     .devices = a->devices, .num_devices = a->num_devices,
				     .held = c->side == HANDOVER_SOURCE && are_stopped(a) };
	name_others(c->participants, others, sizeof(others));
	head.others = others[0] ? others : NULL;
	int r = ledger_absolute(c->link->name, link, sizeof(link), a->err);
	if (r == 0 && !c->session) {
		r = session_new(session, a->err);
		head.session = session;
	}
	return r < 0 ? r : journal_create(c->dir, &head, ret, a->err);
}

/* A load that was killed before anybody came has left a file that says nothing. */
static void remove_waiting(const struct asking *a, int dir_fd)
{
	for (size_t i = 0; i < a->past.count; i++) {
		const struct journal_record *r = &a->past.list[i];
		char name[SESSION_TEXT + 16];
		snprintf(name, sizeof(name), "%s.%s", r->session, handover_side_name(r->side));
		if (r->state == HANDOVER_WAITING && !r->busy)
			(void)!unlinkat(dir_fd, name, 0);
	}
}

int ledger_claim(const struct ledger_claim *claim, struct journal **ret, struct vfmig_error *err)
{
	struct vfmig_error own;
	struct asking a = { .claim = claim, .err = err ? err : &own };
	struct journal *j = NULL;
	int dir_fd = -1;
	int r = name_devices(&a);
	if (r == 0)
		r = lock_folder(claim->dir, &dir_fd, a.err);
	if (r == 0)
		r = journal_list(claim->dir, keep, &a, a.err);
	if (r == 0)
		r = judge(&a);
	if (r == 0)
		r = make_journal(&a, &j);
	if (r == 0)
		r = end_sessions(&a);
	if (r == 0)
		remove_waiting(&a, dir_fd);
	if (dir_fd >= 0)
		close(dir_fd);
	forget(&a.past);
	free(a.devices);
	free(a.whose);
	free(a.states);
	if (r < 0) {
		journal_discard(j);
		return r;
	}
	*ret = j;
	return 0;
}

/* ---------------------------------------------------------------- looking */

static int look(const char *dir, const struct journal_device *d, size_t count, struct past *ret,
		struct vfmig_error *err)
{
	struct vfmig_error own;
	const struct ledger_claim claim = { .dir = dir };
	struct asking a = { .claim = &claim, .devices = (struct journal_device *)d, .num_devices = count,
			    .err = err ? err : &own };
	int r = journal_list(dir, keep, &a, a.err);
	*ret = a.past;
	if (r < 0)
		forget(ret);
	return r;
}

bool ledger_came_after(const struct journal_record *later, const struct journal_record *record)
{
	bool shared = false;
	for (size_t i = 0; i < record->num_devices && !shared; i++)
		shared = find_device(later, &record->devices[i]) != NULL;
	return shared && later->state != HANDOVER_WAITING && strcmp(later->session, record->session) &&
	       is_later(later, record);
}

int ledger_check_last(const char *dir, const struct journal_record *record, struct vfmig_error *err)
{
	struct past past = { 0 };
	/* What is over here is only told to the other side, who may wait for it. */
	if ((record->state == HANDOVER_RUNS && !record->told) || record->state == HANDOVER_SUPERSEDED ||
	    record->state == HANDOVER_REPLACED ||
	    (record->state == HANDOVER_DECIDED && record->side == HANDOVER_SOURCE) || /* only says commit */
	    (record->state == HANDOVER_ABANDONED && record->by_person))
		return 0;
	int r = look(dir, record->devices, record->num_devices, &past, err);
	for (size_t i = 0; r == 0 && i < past.count; i++) {
		const struct journal_record *later = &past.list[i];
		if (ledger_came_after(later, record))
			r = error_set(
			    err, -EPERM,
			    "the device was in a later session, %s, and what it holds is that one's: nothing is "
			    "left to be done in %s",
			    later->session, record->session);
	}
	forget(&past);
	return r;
}

int ledger_last(const char *dir, const char *uri, const struct access_identity *who, struct journal_record *ret,
		struct vfmig_error *err)
{
	struct journal_device d = { .who = *who };
	struct past past = { 0 };
	int r = ledger_absolute(uri, d.uri, sizeof(d.uri), err);
	if (r == 0)
		r = look(dir, &d, 1, &past, err);
	if (r < 0)
		return r;
	const struct journal_record *last = find_last(&past, &d);
	for (size_t i = 0; i < past.count && last; i++)
		if (&past.list[i] == last) {
			*ret = past.list[i];
			past.list[i] = past.list[--past.count];
			r = 1;
			break;
		}
	forget(&past);
	return r;
}
