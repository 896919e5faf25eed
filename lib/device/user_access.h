/* SPDX-License-Identifier: BSD-3-Clause */
/* user_access.h: what user.c (the device) and user_migration.c (its v2 migration) share. */
#ifndef VFMIG_DEVICE_USER_ACCESS_H
#define VFMIG_DEVICE_USER_ACCESS_H

#include "device/access.h"
#include "device/user_conn.h"
#include "device/user_reply.h"

/* What a region's mapping needs and its info does not tell. */
struct user_region {
	int fd; /* -1: none */
	uint64_t fd_offset;
	uint64_t size;
};

struct user_access {
	struct access access;
	struct user_conn *conn;
	struct user_dma *dma;
	struct user_limits limits;
	struct user_region *regions; /* those that were asked for */
	uint32_t num_regions;
};

static inline struct user_access *user_of(struct access *a)
{
	return (struct user_access *)a;
}

/* How this server says that it does not have what was asked for. */
static inline int user_absent(int r)
{
	return r == -ENOTTY || r == -ENOSYS ? -EOPNOTSUPP : r;
}

/* struct access_ops. */
int user_feature(struct access *a, uint32_t flags, void *data, size_t length, struct vfmig_error *err);
int user_mig_state_get(struct access *a, uint32_t *ret_state, struct vfmig_error *err);
int user_mig_state_set(struct access *a, uint32_t state, struct vfmig_error *err);
ssize_t user_mig_data_read(struct access *a, void *buffer, size_t length, struct vfmig_error *err);
ssize_t user_mig_data_write(struct access *a, const void *buffer, size_t length, struct vfmig_error *err);

#endif
