/* SPDX-License-Identifier: BSD-3-Clause */
/* journal_read.c: reads a session's journal, which may be damaged or made up; journal.c writes them. */
#include "migrate/journal_impl.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stream/description_json.h"

void journal_record_clear(struct journal_record *record)
{
	free(record->devices);
	record->devices = NULL;
	record->num_devices = 0;
}

/* ------------------------------------------------------------------ lines */

static bool find_name(const char *const *names, size_t count, const char *text, int *ret)
{
	for (size_t i = 0; text && i < count; i++)
		if (!strcmp(names[i], text)) {
			*ret = (int)i;
			return true;
		}
	return false;
}

static bool take_text(struct json_object *o, const char *key, char *into, size_t size)
{
	const char *text = json_text(o, key);
	if (!text || strlen(text) >= size)
		return false;
	strcpy(into, text);
	return true;
}

/* What older journals do not have may be missing, but not be something else. */
static bool take_if_there(struct json_object *o, const char *key, char *into, size_t size)
{
	return !json_object_object_get_ex(o, key, NULL) || take_text(o, key, into, size);
}

static int read_devices(struct json_object *o, struct journal_record *ret)
{
	struct json_object *list = json_array(o, "devices");
	size_t count = list ? json_object_array_length(list) : JOURNAL_DEVICES_MAX + 1;
	if (count > JOURNAL_DEVICES_MAX)
		return -EBADMSG;
	ret->devices = calloc(count + 1, sizeof(*ret->devices));
	if (!ret->devices)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct json_object *d = json_object_array_get_idx(list, i);
		struct journal_device *into = &ret->devices[i];
		if (!json_object_is_type(d, json_type_object) || !take_text(d, "uri", into->uri, sizeof(into->uri)) ||
		    !take_text(d, "id", into->id, sizeof(into->id)) ||
		    !take_if_there(d, "name", into->who.name, sizeof(into->who.name)) ||
		    !take_if_there(d, "incarnation", into->who.incarnation, sizeof(into->who.incarnation)))
			return -EBADMSG;
		ret->num_devices++;
	}
	return 0;
}

static int read_first(struct json_object *o, struct journal_record *ret)
{
	uint64_t version;
	int side;
	if (json_u64(o, "vfmig-journal", JOURNAL_VERSION, &version) < 0 ||
	    !take_text(o, "session", ret->session, sizeof(ret->session)) || !session_is_valid(ret->session) ||
	    !find_name(journal_side_names, 2, json_text(o, "side"), &side) ||
	    !take_text(o, "link", ret->link, sizeof(ret->link)) ||
	    !take_if_there(o, "tls-creds", ret->tls_creds, sizeof(ret->tls_creds)) ||
	    !take_if_there(o, "tls-hostname", ret->tls_hostname, sizeof(ret->tls_hostname)) ||
	    !take_if_there(o, "others", ret->others, sizeof(ret->others)) ||
	    (version > 1 && json_u64(o, "order", INT64_MAX, &ret->order) < 0))
		return -EBADMSG;
	ret->side = (enum handover_side)side;
	ret->version = (unsigned)version;
	ret->peer = version > 1 ? JOURNAL_PEER_UNKNOWN : JOURNAL_PEER_VFMIG;
	return read_devices(o, ret);
}

static int read_state(struct json_object *o, struct journal_record *ret)
{
	int state, peer;
	const char *name = json_text(o, "peer");
	struct json_object *flag;
	if (!find_name(journal_state_names, journal_num_states, json_text(o, "state"), &state) ||
	    !take_text(o, "since", ret->since, sizeof(ret->since)) ||
	    !take_if_there(o, "session", ret->session, sizeof(ret->session)) || !session_is_valid(ret->session))
		return -EBADMSG;
	if (name && !find_name(journal_peer_names, journal_num_peers, name, &peer))
		return -EBADMSG;
	if (name)
		ret->peer = (enum journal_peer)peer;
	ret->state = (enum handover_state)state;
	ret->held = json_object_object_get_ex(o, "held", &flag) && json_object_get_boolean(flag);
	ret->told = json_object_object_get_ex(o, "told", &flag) && json_object_get_boolean(flag);
	ret->by_person = json_object_object_get_ex(o, "by", NULL);
	take_text(o, "digest", ret->digest, sizeof(ret->digest));
	return 0;
}

/* Every whole line; *ret_length: how far they go. first: the session that the first one names. */
static int read_lines(const char *text, size_t length, size_t *ret_length, char first[SESSION_TEXT],
		      struct journal_record *ret)
{
	const char *at = text, *end;
	while ((end = memchr(at, '\n', length - (size_t)(at - text)))) {
		struct json_object *o;
		if (json_parse(at, (size_t)(end - at), &o, NULL) < 0)
			return -EBADMSG;
		int r = at == text ? read_first(o, ret) : 0;
		if (at == text && r == 0)
			strcpy(first, ret->session);
		if (r == 0)
			r = read_state(o, ret);
		json_object_put(o);
		if (r < 0)
			return r;
		at = end + 1;
	}
	*ret_length = (size_t)(at - text);
	return 0;
}

/* ------------------------------------------------------------------ files */

/* A destination learns its session while it has the file: for a moment the name may be the earlier one. */
static int check_name(const struct journal *j, const char *first, struct journal_record *ret, struct vfmig_error *err)
{
	char names[2][sizeof(j->name)];
	snprintf(names[0], sizeof(names[0]), "%s.%s", ret->session, journal_side_names[ret->side]);
	snprintf(names[1], sizeof(names[1]), "%s.%s", first, journal_side_names[ret->side]);
	if (strcmp(j->name, names[0]) && strcmp(j->name, names[1]))
		return error_set(err, -EBADMSG, "journal %s: it is of another session inside: %s, %s", j->path,
				 ret->session, journal_side_names[ret->side]);
	if (strcmp(j->name, names[0]))
		strcpy(ret->session, first);
	return 0;
}

/* -ENOENT: not a whole line yet, so nothing was ever said by it. */
static int read_file(struct journal *j, struct journal_record *ret, struct vfmig_error *err)
{
	struct stat st;
	size_t length = 0;
	char first[SESSION_TEXT] = "";
	if (fstat(j->fd, &st) < 0)
		return error_errno(err, -errno, "journal %s", j->path);
	if (!S_ISREG(st.st_mode) || st.st_size > JOURNAL_MAX)
		return error_set(err, -EBADMSG, "journal %s: not a file of at most %u bytes", j->path, JOURNAL_MAX);
	ret->written = st.st_mtim;
	char *text = malloc((size_t)st.st_size + 1);
	if (!text)
		return error_errno(err, -ENOMEM, "journal %s", j->path);
	ssize_t n = pread(j->fd, text, (size_t)st.st_size, 0);
	int r = n < 0 ? -errno : read_lines(text, (size_t)n, &length, first, ret);
	free(text);
	j->length = (off_t)length;
	if (r == -EBADMSG || (r == 0 && length == 0))
		return error_set(err, -EBADMSG, "journal %s: not a journal of vfmig's, or damaged%s", j->path,
				 length ? "" : ": it has no whole line");
	return r < 0 ? error_errno(err, r, "journal %s", j->path) : check_name(j, first, ret, err);
}

/* What is not a whole line. The time of the last whole one stays. */
static int cut_tail(const struct journal *j)
{
	struct stat st;
	if (fstat(j->fd, &st) < 0)
		return -errno;
	return st.st_size != j->length && ftruncate(j->fd, j->length) < 0 ? -errno : 0;
}

static int open_and_read(const char *dir, const char *session, enum handover_side side, bool own, struct journal **ret,
			 struct journal_record *ret_record, struct vfmig_error *err)
{
	struct journal *j;
	struct journal_record record = { 0 };
	int r = journal_open_dir(dir, session, side, &j, err);
	if (r < 0)
		return r;
	/* Nothing that lies there in its place is waited for. */
	j->fd = openat(j->dir_fd, j->name, (own ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (j->fd < 0)
		r = error_errno(err, -errno, "journal %s", j->path);
	else
		record.busy = journal_lock(j->fd, own ? F_OFD_SETLK : F_OFD_GETLK) < 0;
	if (r == 0 && own && record.busy)
		r = error_set(err, -EBUSY, "journal %s: a program is at work on this session", j->path);
	if (r == 0)
		r = read_file(j, &record, err);
	/* What was read may be in memory only still, and something is about to be done by it. */
	if (r == 0 && own && (cut_tail(j) < 0 || fsync(j->fd) < 0 || fsync(j->dir_fd) < 0))
		r = error_errno(err, -errno, "journal %s", j->path);
	if (r < 0) {
		journal_record_clear(&record);
		journal_close(j);
		return r;
	}
	j->state = record.state;
	j->promised = journal_is_promise(record.state);
	*ret_record = record;
	*ret = j;
	return 0;
}

int journal_open(const char *dir, const char *session, enum handover_side side, struct journal **ret,
		 struct journal_record *ret_record, struct vfmig_error *err)
{
	return open_and_read(dir, session, side, true, ret, ret_record, err);
}

int journal_read(const char *dir, const char *session, enum handover_side side, struct journal_record *ret,
		 struct vfmig_error *err)
{
	struct journal *j;
	int r = open_and_read(dir, session, side, false, &j, ret, err);
	if (r == 0)
		journal_close(j);
	return r;
}

/* SESSION.SIDE; other files are somebody else's. */
static bool parse_name(const char *name, char ret_session[SESSION_TEXT], enum handover_side *ret_side)
{
	int side;
	snprintf(ret_session, SESSION_TEXT, "%.32s", name);
	if (!session_is_valid(ret_session) || name[SESSION_TEXT - 1] != '.' ||
	    !find_name(journal_side_names, 2, name + SESSION_TEXT, &side))
		return false;
	*ret_side = (enum handover_side)side;
	return true;
}

int journal_list(const char *dir, journal_list_fn *fn, void *opaque, struct vfmig_error *err)
{
	struct dirent **list;
	int n = scandir(dir, &list, NULL, alphasort), r = 0;
	if (n < 0)
		return error_errno(err, -errno, "journal directory %s", dir);
	for (int i = 0; i < n; i++) {
		char session[SESSION_TEXT];
		enum handover_side side;
		if (r == 0 && parse_name(list[i]->d_name, session, &side))
			r = fn(opaque, session, side);
		free(list[i]);
	}
	free(list);
	return r;
}

/* ------------------------------------------------------------------ whose */

static int check_one(const struct stat *st, uid_t also, const char *path, struct vfmig_error *err)
{
	if (st->st_uid != geteuid() && st->st_uid != 0 && st->st_uid != also)
		return error_set(
		    err, -EPERM,
		    "%s: it belongs to user %u, so what it says is not followed; expected "
		    "yours or root's (a load of vfmig 0.1.0 as root leaves one like this: look at it, then chown "
		    "it)",
		    path, st->st_uid);
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return error_set(err, -EPERM,
				 "%s: others may write to it (mode %04o), so what it says is not followed: "
				 "chmod go-w",
				 path, st->st_mode & 07777);
	return 0;
}

int journal_check_owner(const char *dir, const char *session, enum handover_side side, struct vfmig_error *err)
{
	char path[600];
	struct stat folder, file;
	snprintf(path, sizeof(path), "%.500s/%s.%s", dir, session, journal_side_names[side]);
	if (stat(dir, &folder) < 0)
		return error_errno(err, -errno, "journal directory %s", dir);
	if (lstat(path, &file) < 0)
		return error_errno(err, -errno, "journal %s", path);
	uid_t also = geteuid() == 0 && !strcmp(dir, JOURNAL_FOLDER) ? folder.st_uid : geteuid();
	int r = check_one(&folder, also, dir, err);
	return r < 0 ? r : check_one(&file, also, path, err);
}
