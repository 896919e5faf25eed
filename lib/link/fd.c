/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fd.c: links through an fd that exists already: a pipe, a socket, a file.
 *
 * Nothing may block, and O_NONBLOCK belongs to the open file description,
 * which a shell's pipe or terminal shares with other processes. So:
 *  - sockets: every call has MSG_DONTWAIT (and MSG_NOSIGNAL); no flag is set;
 *  - pipes: opened once more by /proc/self/fd, which makes a description of our
 *    own; where that fails, and for terminals and the like: poll before every call, and at
 *    most PIPE_BUF bytes, which poll's answer guarantees room for;
 *  - files never block and need nothing.
 */
#include "link/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "link/schemes.h"
#include "link/socket.h"
#include "link/socket_link.h"

/* Room in a pipe: an unprivileged process's limit. With the usual 64 KiB both
 * sides sleep and wake for every 64 KiB, and a third of the throughput is lost. */
#define PIPE_BYTES (1 << 20)

static int read_failed(int code, struct vfmig_error *err)
{
	if (code == -ECONNRESET)
		return error_set(err, code, "the connection was reset by the other side");
	return error_errno(err, code, "read");
}

static int write_failed(int code, struct vfmig_error *err)
{
	if (code == -EPIPE)
		return error_set(err, code, "the reader is gone: it closed its end before the stream was complete");
	if (code == -ECONNRESET)
		return error_set(err, code, "the connection was reset by the other side");
	return error_errno(err, code, "write");
}

static bool ready(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	return poll(&p, 1, 0) > 0;
}

/*
 * A write to a pipe without a reader sends SIGPIPE to the thread that writes,
 * and a library's user did not ask for that. Pipes have no MSG_NOSIGNAL, so the
 * signal is blocked in this thread, taken if this write caused it, and
 * the mask put back. One that was pending before belongs to somebody else.
 */
static ssize_t writev_no_sigpipe(int fd, const struct iovec *iov, int count)
{
	sigset_t sigpipe, before, pending;
	sigemptyset(&sigpipe);
	sigaddset(&sigpipe, SIGPIPE);
	sigemptyset(&pending);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
	ssize_t n = writev(fd, iov, count);
	if (n < 0)
		n = -errno;
	if (n == -EPIPE && !sigismember(&pending, SIGPIPE)) {
		const struct timespec now = { 0 };
		while (sigtimedwait(&sigpipe, NULL, &now) < 0 && errno == EINTR)
			;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return n;
}

static ssize_t socket_writev(int fd, const struct iovec *iov, int count)
{
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count };
	ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

static ssize_t shared_writev(int fd, const struct iovec *iov, int count)
{
	while (count > 1 && !iov->iov_len)
		iov++, count--;
	if (!ready(fd, POLLOUT))
		return -EAGAIN;
	struct iovec first = *iov;
	if (first.iov_len > PIPE_BUF)
		first.iov_len = PIPE_BUF;
	return writev_no_sigpipe(fd, &first, 1);
}

ssize_t fd_link_writev(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err)
{
	struct fd_link *f = (struct fd_link *)l;
	ssize_t n;
	do {
		if (f->socket)
			n = socket_writev(f->fd, iov, count);
		else if (f->shared)
			n = shared_writev(f->fd, iov, count);
		else
			n = writev_no_sigpipe(f->fd, iov, count);
	} while (n == -EINTR);
	return n >= 0 || n == -EAGAIN ? n : write_failed((int)n, err);
}

ssize_t fd_link_read(struct vfmig_link *l, void *buffer, size_t length, struct vfmig_error *err)
{
	struct fd_link *f = (struct fd_link *)l;
	ssize_t n;
	if (f->shared && !ready(f->fd, POLLIN))
		return -EAGAIN;
	do {
		n = f->socket ? recv(f->fd, buffer, length, MSG_DONTWAIT) : read(f->fd, buffer, length);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	int code = -errno;
	return code == -EAGAIN ? code : read_failed(code, err);
}

int fd_link_finish(struct vfmig_link *l, struct vfmig_error *err)
{
	struct fd_link *f = (struct fd_link *)l;
	/* EINVAL, EROFS: this is nothing that has a disk. */
	if (!f->socket && fsync(f->fd) < 0 && errno != EINVAL && errno != EROFS)
		return error_errno(err, -errno, "fsync");
	return 0;
}

void fd_link_done(struct fd_link *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

static int init_socket(struct fd_link *f, struct vfmig_error *err)
{
	int type;
	socklen_t length = sizeof(type);
	if (getsockopt(f->fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
		return error_errno(err, -errno, "socket type");
	if (type != SOCK_STREAM)
		return error_set(err, -EINVAL, "a socket of type %d, expected a stream socket", type);
	f->socket = true;
	f->base.two_way = true;
	int r = socket_set_options(f->fd);
	return r < 0 ? error_errno(err, r, "socket options") : 0;
}

/* A description of our own, so that O_NONBLOCK disturbs nobody. */
static int init_pipe(struct fd_link *f, bool own, enum vfmig_direction direction, struct vfmig_error *err)
{
	fcntl(f->fd, F_SETPIPE_SZ, PIPE_BYTES); /* it works without, too */
	if (own) {
		if (fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) | O_NONBLOCK) < 0)
			return error_errno(err, -errno, "O_NONBLOCK");
		return 0;
	}
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	int fd = open(path, (direction == VFMIG_SAVE ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENXIO && direction == VFMIG_SAVE)
		return write_failed(-EPIPE, err);
	if (fd < 0) {
		f->shared = true;
		return 0;
	}
	close(f->fd);
	f->fd = fd;
	return 0;
}

/* Only from its beginning can a file be read by several readers with pread. */
static void init_file(struct fd_link *f, const struct stat *st, enum vfmig_direction direction)
{
	f->base.wait_fd = -1;
	if (direction == VFMIG_LOAD && lseek(f->fd, 0, SEEK_CUR) == 0) {
		f->base.seekable = true;
		f->base.size = (uint64_t)st->st_size;
		f->base.file_fd = f->fd;
	}
}

static int check_direction(int fd, enum vfmig_direction direction, struct vfmig_error *err)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return error_errno(err, -errno, "fd %d", fd);
	int wrong = direction == VFMIG_SAVE ? O_RDONLY : O_WRONLY;
	if ((flags & O_ACCMODE) == wrong)
		return error_set(err, -EBADF, "fd %d is not open for %s", fd,
				 direction == VFMIG_SAVE ? "writing" : "reading");
	return 0;
}

int fd_link_init(struct fd_link *f, int fd, bool own, enum vfmig_direction direction, const struct link_ops *ops,
		 struct vfmig_error *err)
{
	f->base.ops = ops;
	f->base.file_fd = -1;
	f->fd = fd;
	struct stat st;
	int r = check_direction(fd, direction, err);
	if (!r && fstat(fd, &st) < 0)
		r = error_errno(err, -errno, "fd %d", fd);
	if (!r && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		r = error_errno(err, -errno, "fd %d", fd);
	if (r < 0)
		goto fail;
	f->base.wait_fd = fd;
	if (S_ISSOCK(st.st_mode))
		r = init_socket(f, err);
	else if (S_ISFIFO(st.st_mode))
		r = init_pipe(f, own, direction, err);
	else if (S_ISREG(st.st_mode))
		init_file(f, &st, direction);
	else if (S_ISDIR(st.st_mode))
		r = error_errno(err, -EISDIR, "fd %d", fd);
	else
		f->shared = S_ISCHR(st.st_mode);
	if (r < 0)
		goto fail;
	if (f->base.wait_fd >= 0)
		f->base.wait_fd = f->fd;
	return 0;
fail:
	fd_link_done(f);
	return r;
}

static void fd_link_close(struct vfmig_link *l)
{
	fd_link_done((struct fd_link *)l);
	free(l);
}

static const struct link_ops fd_ops = {
	.kind = "fd",
	.writev = fd_link_writev,
	.read = fd_link_read,
	.finish = fd_link_finish,
	.close = fd_link_close,
};

int fd_link_new(int fd, bool own, const char *name, enum vfmig_direction direction, struct vfmig_link **ret,
		struct vfmig_error *err)
{
	struct fd_link *f = calloc(1, sizeof(*f));
	if (!f) {
		close(fd);
		return error_errno(err, -ENOMEM, "link");
	}
	int r = fd_link_init(f, fd, own, direction, &fd_ops, err);
	if (r < 0) {
		free(f);
		return r;
	}
	f->base.listen_fd = -1;
	snprintf(f->base.name, sizeof(f->base.name), "%s", name);
	*ret = &f->base;
	return 0;
}

int link_from_fd(int fd, const char *name, enum vfmig_direction direction, struct vfmig_link **ret,
		 struct vfmig_error *err)
{
	return fd_link_new(fd, false, name, direction, ret, err);
}

static bool listens(int fd)
{
	int on = 0;
	socklen_t length = sizeof(on);
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &length) == 0 && on;
}

/* A listening socket, as systemd hands over: the next connection that comes to it. */
static int take_connection(int listener, enum vfmig_direction direction, const struct vfmig_link_options *opts,
			   struct vfmig_link **ret, struct vfmig_error *err)
{
	char where[16];
	snprintf(where, sizeof(where), "fd:%d", listener);
	int r = fcntl(listener, F_SETFD, FD_CLOEXEC) < 0 ? error_errno(err, -errno, "fd %d", listener) :
							   socket_accept(listener, where, opts, err);
	if (r >= 0)
		return socket_link_new(r, listener, NULL, "", direction, opts->timeout_ms, ret, err);
	close(listener);
	return r;
}

int fd_link_open(const char *rest, enum vfmig_direction direction,
		 const struct vfmig_link_options *opts, struct vfmig_link **ret, struct vfmig_error *err)
{
	char *end;
	errno = 0;
	long fd = strtol(rest, &end, 10);
	if (errno || *end || rest[0] < '0' || rest[0] > '9' || fd > INT_MAX)
		return error_set(err, -EINVAL, "'%s' is not the number of an fd", rest);
	int r = socket_check_plain_fd((int)fd, opts, err);
	if (r < 0) {
		close((int)fd);
		return r;
	}
	return listens((int)fd) ? take_connection((int)fd, direction, opts, ret, err) :
				  fd_link_new((int)fd, false, "", direction, ret, err);
}

int stdio_link_open(const char *rest, enum vfmig_direction direction,
		    const struct vfmig_link_options *opts, struct vfmig_link **ret, struct vfmig_error *err)
{
	(void)rest;
	const char *name = direction == VFMIG_SAVE ? "standard output" : "standard input";
	int standard = direction == VFMIG_SAVE ? STDOUT_FILENO : STDIN_FILENO;
	if (direction == VFMIG_SAVE && isatty(standard))
		return error_set(err, -ENOTTY, "%s is a terminal: the stream is binary, send it to a file or a pipe",
				 name);
	int r = socket_check_plain_fd(standard, opts, err);
	if (r < 0)
		return r;
	int fd = fcntl(standard, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (fd < 0)
		return error_errno(err, -errno, "%s", name);
	return fd_link_new(fd, false, name, direction, ret, err);
}
