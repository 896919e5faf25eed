/* SPDX-License-Identifier: BSD-3-Clause */
/* journal.c: a session's states on disk, one line of JSON each. */
#include "migrate/journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "stream/description_json.h"

#define JOURNAL_VERSION 1u
#define JOURNAL_MAX (1u << 20) /* 64 devices with the longest names, and some 10 states, are less than 100 KiB */
#define DEVICES_MAX 256u

static const char *const side_names[] = { [HANDOVER_SOURCE] = "source", [HANDOVER_DESTINATION] = "destination" };
static const char *const state_names[] = {
	[HANDOVER_NONE] = "none",	  [HANDOVER_STOPPED] = "stopped",     [HANDOVER_DECIDED] = "decided",
	[HANDOVER_COMMITTED] = "committed", [HANDOVER_DONE] = "done",	      [HANDOVER_RUNS_ON] = "runs-on",
	[HANDOVER_LOADING] = "loading",	  [HANDOVER_PREPARED] = "prepared",   [HANDOVER_RUNNING] = "running",
	[HANDOVER_ABANDONED] = "abandoned",
};
#define NUM_STATES (sizeof(state_names) / sizeof(state_names[0]))

struct journal {
	int fd, dir_fd;
	off_t length;  /* of the whole lines */
	bool promised; /* they say more than no journal would */
	bool doubtful; /* a line may be there that was not written as a whole */
	char name[SESSION_TEXT + 16];
	char path[512]; /* for messages */
};

const char *handover_side_name(enum handover_side side)
{
	return side_names[side];
}

const char *handover_state_name(enum handover_state state)
{
	return (size_t)state < NUM_STATES ? state_names[state] : "unknown";
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

void journal_record_clear(struct journal_record *record)
{
	free(record->devices);
	record->devices = NULL;
	record->num_devices = 0;
}

/* ---------------------------------------------------------------- writing */

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
	add_text(o, "state", state_names[state]);
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
	if (line) {
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

static struct json_object *first_line(const char *session, enum handover_side side, const char *link,
				      const struct participants *participants)
{
	struct json_object *o = json_object_new_object(), *devices = json_object_new_array();
	json_object_object_add(o, "vfmig-journal", json_object_new_int(JOURNAL_VERSION));
	add_text(o, "session", session);
	add_text(o, "side", side_names[side]);
	add_text(o, "link", link);
	for (size_t i = 0; i < participants->count; i++) {
		const struct participant *p = &participants->list[i];
		if (!p->protocol)
			continue;
		struct json_object *d = json_object_new_object();
		add_text(d, "uri", p->name);
		add_text(d, "id", p->id);
		json_object_array_add(devices, d);
	}
	json_object_object_add(o, "devices", devices);
	return o;
}

static int open_dir(const char *dir, const char *session, enum handover_side side, struct journal **ret,
		    struct vfmig_error *err)
{
	if (!session_is_valid(session))
		return error_set(err, -EINVAL, "'%s' is not a session's id: 32 hexadecimal digits", session);
	struct journal *j = calloc(1, sizeof(*j));
	if (!j)
		return error_errno(err, -ENOMEM, "journal");
	j->fd = -1;
	snprintf(j->name, sizeof(j->name), "%s.%s", session, side_names[side]);
	snprintf(j->path, sizeof(j->path), "%s/%s", dir, j->name);
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

/* The lock that goes with the open file: 0, or -EBUSY: somebody else's. */
static int lock(int fd, int command)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	if (fcntl(fd, command, &whole) < 0)
		return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
	return command == F_OFD_GETLK && whole.l_type != F_UNLCK ? -EBUSY : 0;
}

int journal_create(const char *dir, const char *session, enum handover_side side, const char *link,
		   const struct participants *participants, struct journal **ret, struct vfmig_error *err)
{
	struct journal *j;
	int r = open_dir(dir, session, side, &j, err);
	if (r < 0)
		return r;
	j->fd = openat(j->dir_fd, j->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = j->fd < 0 ? -errno : lock(j->fd, F_OFD_SETLK);
	if (r < 0) {
		error_errno(err, r, "journal %s", j->path);
		journal_close(j);
		return r;
	}
	struct json_object *o = first_line(session, side, link, participants);
	add_state(o, side == HANDOVER_SOURCE ? HANDOVER_STOPPED : HANDOVER_LOADING);
	r = append(j, o, err);
	if (r == 0 && fsync(j->dir_fd) < 0)
		r = error_errno(err, -errno, "journal directory %s: fsync", dir);
	if (r < 0) {
		unlinkat(j->dir_fd, j->name, 0);
		journal_close(j);
		return r;
	}
	*ret = j;
	return 0;
}

/* Does this side's journal bind it? All other states mean what no journal means. */
static bool is_promise(enum handover_state state)
{
	return state == HANDOVER_DECIDED || state == HANDOVER_COMMITTED || state == HANDOVER_DONE ||
	       state == HANDOVER_PREPARED || state == HANDOVER_RUNNING;
}

int journal_write(struct journal *j, enum handover_state state, const char *digest, struct vfmig_error *err)
{
	struct json_object *o = json_object_new_object();
	add_state(o, state);
	if (digest)
		add_text(o, "digest", digest);
	int r = append(j, o, err);
	if (r == 0)
		j->promised = is_promise(state);
	return r;
}

int journal_forget(struct journal *j, enum handover_state state, struct vfmig_error *err)
{
	int r = journal_write(j, state, NULL, err);
	if (r == 0 || (!j->promised && !j->doubtful))
		return 0;
	return unlinkat(j->dir_fd, j->name, 0) == 0 && fsync(j->dir_fd) == 0 ? 0 : r;
}

/* ---------------------------------------------------------------- reading */

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

static int read_devices(struct json_object *o, struct journal_record *ret)
{
	struct json_object *list = json_array(o, "devices");
	size_t count = list ? json_object_array_length(list) : DEVICES_MAX + 1;
	if (count > DEVICES_MAX)
		return -EBADMSG;
	ret->devices = calloc(count + 1, sizeof(*ret->devices));
	if (!ret->devices)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct json_object *d = json_object_array_get_idx(list, i);
		struct journal_device *into = &ret->devices[i];
		if (!json_object_is_type(d, json_type_object) || !take_text(d, "uri", into->uri, sizeof(into->uri)) ||
		    !take_text(d, "id", into->id, sizeof(into->id)))
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
	    !find_name(side_names, 2, json_text(o, "side"), &side) ||
	    !take_text(o, "link", ret->link, sizeof(ret->link)))
		return -EBADMSG;
	ret->side = (enum handover_side)side;
	return read_devices(o, ret);
}

static int read_state(struct json_object *o, struct journal_record *ret)
{
	int state;
	if (!find_name(state_names, NUM_STATES, json_text(o, "state"), &state) ||
	    !take_text(o, "since", ret->since, sizeof(ret->since)))
		return -EBADMSG;
	ret->state = (enum handover_state)state;
	take_text(o, "digest", ret->digest, sizeof(ret->digest));
	return 0;
}

/* Every whole line; *ret_length: how far they go. */
static int read_lines(const char *text, size_t length, size_t *ret_length, struct journal_record *ret)
{
	const char *at = text, *end;
	while ((end = memchr(at, '\n', length - (size_t)(at - text)))) {
		struct json_object *o;
		if (json_parse(at, (size_t)(end - at), &o, NULL) < 0)
			return -EBADMSG;
		int r = at == text ? read_first(o, ret) : 0;
		if (r == 0)
			r = read_state(o, ret);
		json_object_put(o);
		if (r < 0)
			return r;
		at = end + 1;
	}
	*ret_length = (size_t)(at - text);
	return at == text ? -EBADMSG : 0;
}

static int read_file(struct journal *j, struct journal_record *ret, struct vfmig_error *err)
{
	struct stat st;
	size_t length = 0;
	if (fstat(j->fd, &st) < 0)
		return error_errno(err, -errno, "journal %s", j->path);
	if (!S_ISREG(st.st_mode) || st.st_size > JOURNAL_MAX)
		return error_set(err, -EBADMSG, "journal %s: not a file of at most %u bytes", j->path, JOURNAL_MAX);
	char *text = malloc((size_t)st.st_size + 1);
	if (!text)
		return error_errno(err, -ENOMEM, "journal %s", j->path);
	ssize_t n = pread(j->fd, text, (size_t)st.st_size, 0);
	int r = n < 0 ? -errno : read_lines(text, (size_t)n, &length, ret);
	free(text);
	j->length = (off_t)length;
	if (r == -EBADMSG)
		return error_set(err, r, "journal %s: not a journal of vfmig's, or damaged", j->path);
	return r < 0 ? error_errno(err, r, "journal %s", j->path) : 0;
}

static int open_and_read(const char *dir, const char *session, enum handover_side side, bool own, struct journal **ret,
			 struct journal_record *ret_record, struct vfmig_error *err)
{
	struct journal *j;
	struct journal_record record = { 0 };
	int r = open_dir(dir, session, side, &j, err);
	if (r < 0)
		return r;
	j->fd = openat(j->dir_fd, j->name, (own ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC);
	if (j->fd < 0)
		r = error_errno(err, -errno, "journal %s", j->path);
	else
		record.busy = lock(j->fd, own ? F_OFD_SETLK : F_OFD_GETLK) < 0;
	if (r == 0 && own && record.busy)
		r = error_set(err, -EBUSY, "journal %s: a program is at work on this session", j->path);
	if (r == 0)
		r = read_file(j, &record, err);
	if (r == 0 && own && ftruncate(j->fd, j->length) < 0)
		r = error_errno(err, -errno, "journal %s", j->path);
	if (r < 0) {
		journal_record_clear(&record);
		journal_close(j);
		return r;
	}
	j->promised = is_promise(record.state);
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
