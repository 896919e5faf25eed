/* SPDX-License-Identifier: BSD-3-Clause */
/* null.c: the smallest link: what is written vanishes, reading is at its end. */
#include <stdlib.h>

#include "link/schemes.h"

static ssize_t null_writev(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err)
{
	(void)l, (void)err;
	ssize_t total = 0;
	for (int i = 0; i < count; i++)
		total += (ssize_t)iov[i].iov_len;
	return total;
}

static ssize_t null_read(struct vfmig_link *l, void *buffer, size_t length, struct vfmig_error *err)
{
	(void)l, (void)buffer, (void)length, (void)err;
	return 0;
}

static int null_finish(struct vfmig_link *l, struct vfmig_error *err)
{
	(void)l, (void)err;
	return 0;
}

static void null_close(struct vfmig_link *l)
{
	free(l);
}

static const struct link_ops null_ops = {
	.kind = "null",
	.writev = null_writev,
	.read = null_read,
	.finish = null_finish,
	.close = null_close,
};

int null_link_open(const char *rest, enum vfmig_direction direction,
		   const struct vfmig_link_options *opts, struct vfmig_link **ret, struct vfmig_error *err)
{
	(void)rest, (void)direction, (void)opts;
	struct vfmig_link *l = calloc(1, sizeof(*l));
	if (!l)
		return error_errno(err, -ENOMEM, "null link");
	l->ops = &null_ops;
	l->wait_fd = l->file_fd = -1;
	*ret = l;
	return 0;
}
