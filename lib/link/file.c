/* SPDX-License-Identifier: BSD-3-Clause */
/* file.c: file:PATH. A save has its name only once it is complete and on the disk. */
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "link/fd.h"
#include "link/schemes.h"
#include "link/socket.h"

struct file_link {
	struct fd_link fd;
	char *path;
	char *temporary; /* where the bytes are until finish; NULL: in path */
};

static int sync_directory(const char *path, struct vfmig_error *err)
{
	char *copy = strdup(path);
	if (!copy)
		return error_errno(err, -ENOMEM, "directory");
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 || (fsync(fd) < 0 && errno != EINVAL) ? -errno : 0;
	if (fd >= 0)
		close(fd);
	free(copy);
	return r < 0 ? error_errno(err, r, "sync its directory; the file is removed") : 0;
}

static int file_finish(struct vfmig_link *l, struct vfmig_error *err)
{
	struct file_link *f = (struct file_link *)l;
	int r = fd_link_finish(l, err);
	if (r < 0 || !f->temporary)
		return r;
	if (rename(f->temporary, f->path) < 0)
		return error_errno(err, -errno, "rename %s", f->temporary);
	free(f->temporary);
	f->temporary = NULL;
	r = sync_directory(f->path, err);
	if (r < 0) /* the save has failed, and its device works on: this state is to be nobody's */
		unlink(f->path);
	return r;
}

static void file_close(struct vfmig_link *l)
{
	struct file_link *f = (struct file_link *)l;
	fd_link_done(&f->fd);
	if (f->temporary)
		unlink(f->temporary);
	free(f->temporary);
	free(f->path);
	free(f);
}

static const struct link_ops file_ops = {
	.kind = "file",
	.writev = fd_link_writev,
	.read = fd_link_read,
	.finish = file_finish,
	.close = file_close,
};

/* A fifo is waited for: nobody may have opened its other end yet. */
static int open_special(const char *path, enum vfmig_direction direction, uint32_t timeout_ms, struct vfmig_error *err)
{
	uint64_t deadline_ns = socket_deadline(timeout_ms ? timeout_ms : SOCKET_CONNECT_MS);
	for (;;) {
		int fd = direction == VFMIG_LOAD ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY) :
						   open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
		if (fd >= 0)
			return fd;
		int code = -errno;
		if (code == -EINTR || (code == -ENXIO && socket_retry(deadline_ns)))
			continue;
		return error_errno(err, code, "open");
	}
}

/* A new file beside the one it will become, readable by its owner only: a
 * device's state holds what the device knew. */
static int open_temporary(struct file_link *f, struct vfmig_error *err)
{
	if (asprintf(&f->temporary, "%s.XXXXXX", f->path) < 0) {
		f->temporary = NULL;
		return error_errno(err, -ENOMEM, "file name");
	}
	int fd = mkostemp(f->temporary, O_CLOEXEC);
	if (fd >= 0)
		return fd;
	int code = -errno;
	free(f->temporary);
	f->temporary = NULL;
	return error_errno(err, code, "create a file beside it");
}

static int open_any(struct file_link *f, enum vfmig_direction direction, uint32_t timeout_ms, struct vfmig_error *err)
{
	struct stat st;
	bool exists = stat(f->path, &st) == 0;
	if (!exists && direction == VFMIG_LOAD)
		return error_errno(err, -errno, "open");
	if (exists && S_ISDIR(st.st_mode))
		return error_errno(err, -EISDIR, "open");
	if (direction == VFMIG_LOAD || (exists && !S_ISREG(st.st_mode)))
		return open_special(f->path, direction, timeout_ms, err);
	char *target = exists ? realpath(f->path, NULL) : NULL;
	if (target) { /* a symbolic link stays one */
		free(f->path);
		f->path = target;
	}
	return open_temporary(f, err);
}

int file_link_open(const char *rest, enum vfmig_direction direction,
		   const struct vfmig_link_options *opts, struct vfmig_link **ret, struct vfmig_error *err)
{
	struct file_link *f = calloc(1, sizeof(*f));
	if (!f)
		return error_errno(err, -ENOMEM, "link");
	f->fd.fd = -1;
	f->path = strdup(rest);
	int r = f->path ? open_any(f, direction, opts->timeout_ms, err) : error_errno(err, -ENOMEM, "link");
	if (r >= 0)
		r = fd_link_init(&f->fd, r, true, direction, &file_ops, err);
	if (r < 0) {
		file_close(&f->fd.base);
		return r;
	}
	f->fd.base.taken_by_nobody = f->temporary != NULL; /* it runs nothing, and nobody sees it before finish */
	*ret = &f->fd.base;
	return 0;
}
