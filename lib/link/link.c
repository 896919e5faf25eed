/* SPDX-License-Identifier: BSD-3-Clause */
/* link.c: what all links have in common: the table of schemes, and names before errors. */
#include "link/link.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/options.h"
#include "link/schemes.h"
#include "link/tls.h"
#include "link/zstd.h"

static const struct link_scheme {
	const char *prefix;
	const char *usage;
	link_open_fn *open;
	enum { NO_SOCKET, SOCKET, SOCKET_WITH_HOST } tls;
} schemes[] = {
	{ "file:", "file:PATH", file_link_open, NO_SOCKET },
	{ "-", "-", stdio_link_open, SOCKET },
	{ "fd:", "fd:N", fd_link_open, SOCKET },
	{ "exec:", "exec:COMMAND", exec_link_open, NO_SOCKET },
	{ "unix:", "unix:PATH", unix_link_open, SOCKET },
	{ "tcp:", "tcp:HOST:PORT", tcp_link_open, SOCKET_WITH_HOST },
	{ "null:", "null:", null_link_open, NO_SOCKET },
};

/* The part behind the scheme, or NULL: another scheme. "-" and "null:" have none. */
static const char *scheme_match(const struct link_scheme *s, const char *uri)
{
	size_t n = strlen(s->prefix);
	if (strncmp(uri, s->prefix, n))
		return NULL;
	bool wants_rest = strlen(s->usage) > n;
	return wants_rest || !uri[n] ? uri + n : NULL;
}

const char *link_usage(size_t index)
{
	return index < sizeof(schemes) / sizeof(schemes[0]) ? schemes[index].usage : NULL;
}

static int no_such_scheme(const char *uri, struct vfmig_error *err)
{
	char known[128] = "";
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t used = strlen(known);
		snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", schemes[i].usage);
	}
	return error_set(err, -EINVAL, "link %s: expected one of %s", uri, known);
}

/* What is wrong with the credentials is said before anybody is connected to or waited for. */
static int check_tls(const struct link_scheme *s, enum vfmig_direction direction, const struct vfmig_link_options *opts,
		     struct vfmig_error *err)
{
	if (!opts->tls_creds)
		return 0;
	if (s->tls == NO_SOCKET)
		return error_set(err, -EINVAL, "TLS is for sockets: tcp:, unix:, fd:");
	return tls_check(opts, direction, s->tls == SOCKET_WITH_HOST, err);
}

/* tcp:'s host, which a server's certificate has to be for. */
static void get_host(const char *rest, char *ret, size_t size)
{
	const char *end = strrchr(rest, ':');
	bool bracketed = rest[0] == '[';
	int length = end ? (int)(end - rest) - 2 * bracketed : 0;
	snprintf(ret, size, "%.*s", length, rest + bracketed);
	if (!ret[0])
		snprintf(ret, size, "localhost"); /* where an empty one connects to */
}

static int start_tls(const struct link_scheme *s, const char *rest, enum vfmig_direction direction,
		     const struct vfmig_link_options *opts, struct vfmig_link **link, struct vfmig_error *err)
{
	char host[256];
	get_host(rest, host, sizeof(host));
	return tls_link_new(*link, s->tls == SOCKET_WITH_HOST ? host : NULL, direction, opts, link, err);
}

/* For who opens the same link again later. */
static int keep_tls(struct vfmig_link *link, const struct vfmig_link_options *opts, struct vfmig_error *err)
{
	if (!opts->tls_creds)
		return 0;
	link->tls_creds = realpath(opts->tls_creds, NULL);
	if (opts->tls_hostname)
		link->tls_hostname = strdup(opts->tls_hostname);
	if (!link->tls_creds || (opts->tls_hostname && !link->tls_hostname))
		return error_errno(err, -errno, "%s", opts->tls_creds);
	return 0;
}

int vfmig_link_open(const char *uri, enum vfmig_direction direction, const struct vfmig_link_options *opts,
		    struct vfmig_link **ret_link, struct vfmig_error *err)
{
	struct vfmig_link_options o;
	int r = options_read(&o, sizeof(o), opts, "link options", err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		const char *rest = scheme_match(&schemes[i], uri);
		if (!rest)
			continue;
		if (!*rest && strlen(schemes[i].usage) > strlen(schemes[i].prefix))
			return error_set(err, -EINVAL, "link %s: expected %s", uri, schemes[i].usage);
		struct vfmig_link *link;
		r = zstd_check(&o, err);
		if (!r)
			r = check_tls(&schemes[i], direction, &o, err);
		if (!r)
			r = schemes[i].open(rest, direction, &o, &link, err);
		if (r == 0 && !link->name[0])
			snprintf(link->name, sizeof(link->name), "%s", uri);
		if (r == 0 && o.tls_creds)
			r = start_tls(&schemes[i], rest, direction, &o, &link, err);
		if (r == 0)
			r = zstd_link_new(link, direction, &o, &link, err);
		if (r == 0 && (r = keep_tls(link, &o, err)) < 0)
			vfmig_link_close(link);
		if (r < 0)
			return error_prefix(err, r, "%s", uri);
		*ret_link = link;
		return 0;
	}
	return no_such_scheme(uri, err);
}

void vfmig_link_close(struct vfmig_link *link)
{
	if (!link)
		return;
	free(link->tls_creds);
	free(link->tls_hostname);
	link->ops->close(link);
}

ssize_t link_writev(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err)
{
	ssize_t n = l->ops->writev(l, iov, count, err);
	if (n < 0 && n != -EAGAIN)
		error_prefix(err, (int)n, "%s", l->name);
	return n;
}

ssize_t link_read(struct vfmig_link *l, void *buffer, size_t length, struct vfmig_error *err)
{
	ssize_t n = l->ops->read(l, buffer, length, err);
	if (n < 0 && n != -EAGAIN)
		error_prefix(err, (int)n, "%s", l->name);
	return n;
}

int link_another(struct vfmig_link *l, struct vfmig_link **ret, struct vfmig_error *err)
{
	if (!l->ops->another)
		return error_set(err, -EOPNOTSUPP, "%s: has one connection; several need unix: or tcp:", l->name);
	int r = l->ops->another(l, ret, err);
	return r < 0 && r != -EAGAIN ? error_prefix(err, r, "%s", l->name) : r;
}

void link_watch(const struct vfmig_link *l, int epoll_fd, short events, uint32_t *watched)
{
	short wanted = events ? link_events(l, events) : 0;
	struct epoll_event event = { .events = (wanted & POLLIN ? EPOLLIN : 0u) | (wanted & POLLOUT ? EPOLLOUT : 0u) };
	if (event.events == *watched)
		return;
	int op = !*watched ? EPOLL_CTL_ADD : event.events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
	if (epoll_ctl(epoll_fd, op, l->wait_fd, &event) == 0)
		*watched = event.events;
}

int link_finish(struct vfmig_link *l, struct vfmig_error *err)
{
	int r = l->ops->finish(l, err);
	return r < 0 && r != -EAGAIN ? error_prefix(err, r, "%s", l->name) : r;
}

void link_leave_alone(struct vfmig_link *l)
{
	for (; l; l = l->under)
		l->left_alone = true;
}

int link_rewind(struct vfmig_link *l, struct vfmig_error *err)
{
	int r = l->ops->rewind ? l->ops->rewind(l, err) : 0;
	return r < 0 ? error_prefix(err, r, "%s", l->name) : 0;
}

int link_reconnect(struct vfmig_link *l, struct vfmig_error *err)
{
	if (!l->ops->reconnect)
		return error_set(err, -ENOTCONN, "%s: such a link cannot be connected again", l->name);
	int r = l->ops->reconnect(l, err);
	return r < 0 && r != -EAGAIN ? error_prefix(err, r, "%s", l->name) : r;
}
