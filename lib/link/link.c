/* SPDX-License-Identifier: BSD-3-Clause */
/* link.c: what all links have in common: the table of schemes, and names before errors. */
#include "link/link.h"

#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "link/schemes.h"

static const struct link_scheme {
	const char *prefix;
	const char *usage;
	link_open_fn *open;
} schemes[] = {
	{ "file:", "file:PATH", file_link_open },
	{ "-", "-", stdio_link_open },
	{ "fd:", "fd:N", fd_link_open },
	{ "exec:", "exec:COMMAND", exec_link_open },
	{ "unix:", "unix:PATH", unix_link_open },
	{ "tcp:", "tcp:HOST:PORT", tcp_link_open },
	{ "null:", "null:", null_link_open },
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

static int no_such_scheme(const char *uri, struct vfmig_error *err)
{
	char known[128] = "";
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t used = strlen(known);
		snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", schemes[i].usage);
	}
	return error_set(err, -EINVAL, "link %s: expected one of %s", uri, known);
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
		r = schemes[i].open(rest, direction, &o, &link, err);
		if (r < 0)
			return error_prefix(err, r, "%s", uri);
		if (!link->name[0])
			snprintf(link->name, sizeof(link->name), "%s", uri);
		*ret_link = link;
		return 0;
	}
	return no_such_scheme(uri, err);
}

void vfmig_link_close(struct vfmig_link *link)
{
	if (link)
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
	return l->ops->another(l, ret, err);
}

int link_finish(struct vfmig_link *l, struct vfmig_error *err)
{
	int r = l->ops->finish(l, err);
	return r < 0 ? error_prefix(err, r, "%s", l->name) : 0;
}
