/* SPDX-License-Identifier: BSD-3-Clause */
/* schemes.h: the kinds of link, one opener each. */
#ifndef VFMIG_LINK_SCHEMES_H
#define VFMIG_LINK_SCHEMES_H

#include "link/link.h"

/*
 * `rest` is the URI without its scheme; opts->timeout_ms 0: the scheme's default.
 * An opener may set the link's name; vfmig_link_open does it otherwise.
 */
typedef int link_open_fn(const char *rest, enum vfmig_direction direction,
			 const struct vfmig_link_options *opts, struct vfmig_link **ret, struct vfmig_error *err);

link_open_fn null_link_open, file_link_open, fd_link_open, stdio_link_open, exec_link_open, unix_link_open,
	tcp_link_open;

#endif
