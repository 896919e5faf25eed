/* SPDX-License-Identifier: BSD-3-Clause */
/* user_reply.h: the two replies of a vfio-user server that need more than a look: VERSION and region info. */
#ifndef VFMIG_DEVICE_USER_REPLY_H
#define VFMIG_DEVICE_USER_REPLY_H

#include "device/access.h"
#include "uapi/vfio_user.h"

/* What the two sides agreed on. */
struct user_limits {
	uint32_t max_data; /* bytes of data in one message */
	uint32_t max_fds;
	uint32_t page_size;  /* in which a v1-time server logs writes: migration.pgsize */
	bool whole_messages; /* the peer is vfmig and takes messages of any size whole */
	bool twin;           /* twin_socket.supported: its requests come (a client: may come) by a second socket */
	uint32_t twin_index; /* of that socket among VERSION's fds */
};

/* Bytes of data in one message that we send, which a peer must be able to take whole. */
uint32_t user_limits_write(const struct user_limits *limits);

/* What to say in VERSION. */
struct user_announcement {
	uint32_t max_fds;
	bool whole_messages;
	bool twin;
	int twin_index; /* -1: no fd is sent (a client says only that it would take one) */
};

/* VERSION's body, the same both ways: takes from JSON text (with its NUL; length 0: none) the
 * peer's limits, cut to ours. -EPROTO: not what VERSION may say. */
int user_limits_parse(const char *json, size_t length, struct user_limits *ret, struct vfmig_error *err);
/* Ours, as JSON text to be freed; NULL: no memory. */
char *user_limits_format(const struct user_announcement *ours);

/*
 * A region's info out of a whole reply body: capabilities in any order and at
 * any place, unknown ones skipped. `mappable`: an fd came with it; without one
 * nothing can be mapped. On failure ret is to be cleared all the same.
 */
int user_region_parse(const uint8_t *body, size_t length, bool mappable, struct access_region_info *ret,
		      struct vfmig_error *err);

#endif
