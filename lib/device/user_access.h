/* SPDX-License-Identifier: BSD-3-Clause */
/* user_access.h: what user.c (the device), user_migration.c (its v2 migration) and user_dirty.c (its logs) share. */
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

/* A log of written pages, by enum access_log. */
struct user_log {
	bool started;
	bool remote; /* the server has one; else all that is written comes through user_dma */
	uint64_t page_size, wire_page; /* the caller's, and what the server logs in: not larger */
};

struct user_access {
	struct access access;
	struct access_identity identity;
	struct user_conn *conn;
	struct user_dma *dma;
	struct user_limits limits;
	struct user_region *regions; /* those that were asked for */
	uint32_t num_regions;
	struct user_log logs[2];
	bool tells_nothing; /* the server's device was stopped when it was asked what it is */
	bool has_logging; /* the server has shown that it knows DMA_LOGGING_* */
	uint64_t *bitmap; /* for a reply's */
	uint64_t bitmap_bytes;
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

/* Does this result of user_conn_request mean that the connection is lost? */
static inline bool user_conn_lost(int r)
{
	return r == -ENOTCONN || r == -ETIMEDOUT || r == -EPROTO;
}

/* The bare requests, errnos as the server gave them. */
int user_ask_feature(struct user_access *u, uint32_t flags, void *data, size_t length, struct vfmig_error *err);
/* Is a reply's feature the one that was asked for? -EPROTO. */
int user_check_feature(uint32_t answered, uint32_t asked, struct vfmig_error *err);
int user_unmap_request(struct user_access *u, uint64_t iova, uint64_t length, struct vfmig_error *err);
/* -ENOENT: there is no such DMA mapping. */
int user_check_mapping(struct user_access *u, uint64_t iova, uint64_t length, struct vfmig_error *err);

/* What is known of a device or a region whose info was refused (EINVAL, which err says already). */
int user_refused_device_info(struct user_access *u, struct access_device_info *ret, struct vfmig_error *err);
int user_refused_region_info(struct user_access *u, uint32_t index, struct access_region_info *ret,
			     struct vfmig_error *err);

/* struct access_ops. */
int user_reset(struct access *a, struct vfmig_error *err);
int user_dirty_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
		     uint64_t *page_size, struct vfmig_error *err);
int user_dirty_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
		      uint64_t *bitmap, struct vfmig_error *err);
int user_dirty_stop(struct access *a, enum access_log log, struct vfmig_error *err);
int user_dma_unmap_dirty(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			 uint64_t *bitmap, struct vfmig_error *err);
int user_feature(struct access *a, uint32_t flags, void *data, size_t length, struct vfmig_error *err);
int user_mig_state_get(struct access *a, uint32_t *ret_state, struct vfmig_error *err);
int user_mig_state_set(struct access *a, uint32_t state, struct vfmig_error *err);
ssize_t user_mig_data_read(struct access *a, void *buffer, size_t length, struct vfmig_error *err);
ssize_t user_mig_data_write(struct access *a, const void *buffer, size_t length, struct vfmig_error *err);

#endif
