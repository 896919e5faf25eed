/* SPDX-License-Identifier: BSD-3-Clause */
/* journal.c: writes a session's states to disk, one line of JSON each; journal_read.c reads them. */
#include "migrate/journal_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stream/description_json.h"

const char *const journal_side_names[2] = { [HANDOVER_SOURCE] = "source", [HANDOVER_DESTINATION] = "destination" };
const char *const journal_state_names[] = {
	[HANDOVER_NONE] = "none",	    [HANDOVER_SAVING] = "saving",
	[HANDOVER_STOPPED] = "stopped",	    [HANDOVER_SENT] = "sent",
	[HANDOVER_DECIDED] = "decided",	    [HANDOVER_COMMITTED] = "committed",
	[HANDOVER_DONE] = "done",	    [HANDOVER_RUNS_ON] = "runs-on",
	[HANDOVER_RUNS] = "runs",	    [HANDOVER_SUPERSEDED] = "superseded",
	[HANDOVER_WAITING] = "waiting",	    [HANDOVER_LOADING] = "loading",
	[HANDOVER_PREPARED] = "prepared",   [HANDOVER_RUNNING] = "running",
	[HANDOVER_ABANDONED] = "abandoned", [HANDOVER_REPLACED] = "replaced",
};
const size_t journal_num_states = sizeof(journal_state_names) / sizeof(journal_state_names[0]);
const char *const journal_peer_names[] = {
	[JOURNAL_PEER_UNKNOWN] = "unknown", [JOURNAL_PEER_VFMIG] = "vfmig",	[JOURNAL_PEER_QEMU] = "qemu",
	[JOURNAL_PEER_FILE] = "file",	    [JOURNAL_PEER_ONE_WAY] = "one-way",
};
const size_t journal_num_peers = sizeof(journal_peer_names) / sizeof(journal_peer_names[0]);

const char *handover_side_name(enum handover_side side)
{
	return journal_side_names[side];
}

const char *handover_state_name(enum handover_state state)
{
	return (size_t)state < journal_num_states ? journal_state_names[state] : "unknown";
}

const char *journal_peer_name(enum journal_peer peer)
{
	return (size_t)peer < journal_num_peers ? journal_peer_names[peer] : "unknown";
}

bool session_is_valid(const char *text)
{
	return strlen(text) == SESSION_TEXT - 1 && strspn(text, "0123456789abcdef") == SESSION_TEXT - 1;
}

int session_new(char ret[SESSION_TEXT], struct vfmig_error *err)
{
	uint8_t id[(SESSION_TEXT - 1) / 2];
	if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
		return error_errno(err, -errno, "random numbers for the session's id");
	for (size_t i = 0; i < sizeof(id); i++)
		snprintf(ret + 2 * i, 3, "%02x", id[i]);
	return 0;
}

bool journal_is_promise(enum handover_state state)
{
	switch (state) {
	case HANDOVER_SENT:
	case HANDOVER_DECIDED:
	case HANDOVER_COMMITTED:
	case HANDOVER_DONE:
	case HANDOVER_SUPERSEDED:
	case HANDOVER_PREPARED:
	case HANDOVER_RUNNING:
	case HANDOVER_REPLACED:
		return true;
	case HANDOVER_NONE:
	case HANDOVER_SAVING:
	case HANDOVER_STOPPED:
	case HANDOVER_RUNS_ON:
	case HANDOVER_RUNS:
	case HANDOVER_WAITING:
	case HANDOVER_LOADING:
	case HANDOVER_ABANDONED:
		break;
	}
	return false;
}

enum handover_state journal_state(const struct journal *j)
{
	return j->state;
}

/* ------------------------------------------------------------------ lines */

static void add_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, json_object_new_string(text));
}

static void add_state(struct json_object *o, enum handover_state state)
{
	char now[32];
	struct tm tm;
	time_t t = time(NULL);
	strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	add_text(o, "state", journal_state_names[state]);
	add_text(o, "since", now);
}

static int write_line(int fd, off_t at, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t n = pwrite(fd, text, length, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		text += n;
		at += n;
		length -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* Puts o. What could not be made to last is taken out again. */
static int append(struct journal *j, struct json_object *o, struct vfmig_error *err)
{
	size_t length;
	const char *text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN, &length);
	char *line = text ? malloc(length + 1) : NULL;
	int r = -ENOMEM;
	if (line && j->doubtful && ftruncate(j->fd, j->length) < 0)
		r = -errno;
	else if (line) {
		memcpy(line, text, length);
		line[length] = '\n';
		r = write_line(j->fd, j->length, line, length + 1);
	}
	if (r == 0)
		j->length += (off_t)length + 1;
	else
		j->doubtful |= ftruncate(j->fd, j->length) < 0 || fsync(j->fd) < 0;
	free(line);
	json_object_put(o);
	return r < 0 ? error_errno(err, r, "journal %s: write", j->path) : 0;
}

static struct json_object *devices_json(const struct journal_head *head)
{
	struct json_object *devices = json_object_new_array();
	for (size_t i = 0; i < head->num_devices; i++) {
		const struct journal_device *from = &head->devices[i];
		struct json_object *d = json_object_new_object();
		add_text(d, "uri", from->uri);
		add_text(d, "id", from->id);
		if (from->who.name[0]) {
			add_text(d, "name", from->who.name);
			add_text(d, "incarnation", from->who.incarnation);
		}
		json_object_array_add(devices, d);
	}
	return devices;
}

static struct json_object *first_line(const struct journal_head *head)
{
	struct json_object *o = json_object_new_object();
	json_object_object_add(o, "vfmig-journal", json_object_new_int(JOURNAL_VERSION));
	add_text(o, "written-by", vfmig_version());
	add_text(o, "session", head->session);
	add_text(o, "side", journal_side_names[head->side]);
	json_object_object_add(o, "order", json_object_new_uint64(head->order));
	add_text(o, "link", head->link);
	if (head->tls_creds)
		add_text(o, "tls-creds", head->tls_creds);
	if (head->tls_hostname)
		add_text(o, "tls-hostname", head->tls_hostname);
	if (head->held)
		json_object_object_add(o, "held", json_object_new_boolean(true));
	if (head->others)
		add_text(o, "others", head->others);
	json_object_object_add(o, "devices", devices_json(head));
	return o;
}

/* ------------------------------------------------------------------ files */

int journal_open_dir(const char *dir, const char *session, enum handover_side side, struct journal **ret,
		     struct vfmig_error *err)
{
	if (!session_is_valid(session))
		return error_set(err, -EINVAL, "'%s' is not a session's id: 32 hexadecimal digits", session);
	struct journal *j = calloc(1, sizeof(*j));
	if (!j)
		return error_errno(err, -ENOMEM, "journal");
	j->fd = -1;
	snprintf(j->name, sizeof(j->name), "%s.%s", session, journal_side_names[side]);
	snprintf(j->dir, sizeof(j->dir), "%s", dir);
	snprintf(j->path, sizeof(j->path), "%s/%s", j->dir, j->name);
	j->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (j->dir_fd < 0) {
		int r = error_errno(err, -errno, "journal directory %s", dir);
		free(j);
		return r;
	}
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		close(j->fd);
	close(j->dir_fd);
	free(j);
}

void journal_discard(struct journal *j)
{
	if (!j)
		return;
	(void)!unlinkat(j->dir_fd, j->name, 0);
	journal_close(j);
}

int journal_lock(int fd, int command)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	if (fcntl(fd, command, &whole) < 0)
		return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
	return command == F_OFD_GETLK && whole.l_type != F_UNLCK ? -EBUSY : 0;
}

/* Its name in the folder, once the first line is there: a crash before leaves nothing that a reader takes for one. */
static int name_first(struct journal *j, const char *name, struct vfmig_error *err)
{
	if (renameat2(j->dir_fd, j->name, j->dir_fd, name, RENAME_NOREPLACE) < 0)
		return error_errno(err, -errno, "journal %s", j->path);
	snprintf(j->name, sizeof(j->name), "%s", name);
	return fsync(j->dir_fd) < 0 ? error_errno(err, -errno, "journal directory %s: fsync", j->dir) : 0;
}

int journal_create(const char *dir, const struct journal_head *head, struct journal **ret, struct vfmig_error *err)
{
	struct journal *j;
	char name[sizeof(j->name)];
	int r = journal_open_dir(dir, head->session, head->side, &j, err);
	if (r < 0)
		return r;
	memcpy(name, j->name, sizeof(name));
	strcpy(j->name, JOURNAL_NEW);
	(void)!unlinkat(j->dir_fd, j->name, 0); /* one that was killed left it: the folder is locked */
	j->fd = openat(j->dir_fd, j->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = j->fd < 0 ? -errno : journal_lock(j->fd, F_OFD_SETLK);
	if (r < 0) {
		error_errno(err, r, "journal %s", j->path);
		journal_close(j);
		return r;
	}
	struct json_object *o = first_line(head);
	j->state = head->side == HANDOVER_SOURCE ? HANDOVER_SAVING : HANDOVER_WAITING;
	add_state(o, j->state);
	r = append(j, o, err);
	if (r == 0)
		r = name_first(j, name, err);
	if (r < 0) {
		journal_discard(j);
		return r;
	}
	*ret = j;
	return 0;
}

int journal_rename(struct journal *j, const char *session, struct vfmig_error *err)
{
	char name[sizeof(j->name)];
	struct json_object *o = json_object_new_object();
	add_state(o, HANDOVER_LOADING);
	add_text(o, "session", session);
	add_text(o, "peer", journal_peer_names[JOURNAL_PEER_VFMIG]);
	int r = append(j, o, err);
	if (r < 0)
		return r;
	j->state = HANDOVER_LOADING;
	snprintf(name, sizeof(name), "%s.%s", session, journal_side_names[HANDOVER_DESTINATION]);
	if (renameat2(j->dir_fd, j->name, j->dir_fd, name, RENAME_NOREPLACE) < 0 || fsync(j->dir_fd) < 0)
		return error_errno(err, -errno, "journal %s: name it %s", j->path, name);
	strcpy(j->name, name);
	snprintf(j->path, sizeof(j->path), "%s/%s", j->dir, j->name);
	return 0;
}

int journal_write(struct journal *j, enum handover_state state, const struct journal_line *line,
		  struct vfmig_error *err)
{
	static const struct journal_line nothing;
	const struct journal_line *l = line ? line : &nothing;
	struct json_object *o = json_object_new_object();
	struct stat st;
	add_state(o, state);
	if (l->digest)
		add_text(o, "digest", l->digest);
	if (l->peer)
		add_text(o, "peer", journal_peer_names[l->peer]);
	if (l->held)
		json_object_object_add(o, "held", json_object_new_boolean(true));
	if (l->told)
		json_object_object_add(o, "told", json_object_new_boolean(true));
	if (l->by_person)
		add_text(o, "by", "a person");
	int r = append(j, o, err);
	if (r < 0)
		return r;
	if (journal_is_promise(state) && (fstat(j->fd, &st) < 0 || st.st_nlink == 0))
		return error_set(err, -ESTALE, "journal %s: the file was removed during the session, so nothing can be "
				 "promised by it", j->path);
	j->promised = journal_is_promise(state);
	j->state = state;
	return 0;
}

int journal_forget(struct journal *j, enum handover_state state, struct vfmig_error *err)
{
	int r = journal_write(j, state, NULL, err);
	if (r == 0 || (!j->promised && !j->doubtful))
		return 0;
	if (unlinkat(j->dir_fd, j->name, 0) < 0 || fsync(j->dir_fd) < 0)
		return r;
	j->promised = j->doubtful = false;
	j->state = state; /* as no journal says */
	return 0;
}
