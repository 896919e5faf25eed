/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * user_migration.c: a v2 device's migration through a vfio-user socket.
 *
 * Source: the vfio-user specification and the reference server, where they
 * differ both: an unsupported feature is EINVAL there; data_fd means nothing;
 * the data's end is a read of 0 bytes in one and a short read in the other, so
 * reading goes on until 0, which is right for both.
 */
#include <string.h>

#include "base/bytes.h"
#include "device/user_access.h"

int user_check_feature(uint32_t answered, uint32_t asked, struct vfmig_error *err)
{
	if ((answered ^ asked) & VFIO_USER_FEATURE_MASK)
		return error_set(err, -EPROTO, "the server answered for feature %u", answered & VFIO_USER_FEATURE_MASK);
	return 0;
}

/* GET gives data back in the same place; SET's answer may repeat it. */
int user_ask_feature(struct user_access *u, uint32_t flags, void *data, size_t length, struct vfmig_error *err)
{
	struct vfio_user_feature feature = { (uint32_t)(sizeof(feature) + length), flags }, reply;
	uint8_t answer[256];
	bool get = flags & VFIO_USER_FEATURE_GET;
	if (length > sizeof(answer))
		return error_set(err, -EINVAL, "feature %u with %zu bytes, at most %zu are known",
				 flags & VFIO_USER_FEATURE_MASK, length, sizeof(answer));
	struct user_request q = {
		.command = VFIO_USER_DEVICE_FEATURE,
		.body = &feature,
		.body_length = sizeof(feature),
		.data = data,
		.data_length = length,
		.reply = &reply,
		.reply_min = sizeof(reply) + (get ? length : 0),
		.reply_max = sizeof(reply),
		.reply_data = answer,
		.reply_data_length = length,
	};
	int r = user_conn_request(u->conn, &q, err);
	if (r == 0)
		r = user_check_feature(reply.flags, flags, err);
	if (r == 0 && get)
		memcpy(data, answer, length);
	return r < 0 ? error_prefix(err, r, "feature %u", flags & VFIO_USER_FEATURE_MASK) : 0;
}

int user_feature(struct access *a, uint32_t flags, void *data, size_t length, struct vfmig_error *err)
{
	int r = user_ask_feature(user_of(a), flags, data, length, err);
	return r == -EINVAL ? error_prefix(err, -EOPNOTSUPP, "not supported") : user_absent(r);
}

int user_mig_state_get(struct access *a, uint32_t *ret_state, struct vfmig_error *err)
{
	struct vfio_user_device_state state = { 0 };
	int r = user_feature(a, VFIO_USER_FEATURE_GET | VFIO_USER_FEATURE_MIG_DEVICE_STATE, &state, sizeof(state), err);
	if (r == 0)
		*ret_state = state.state;
	return r;
}

/* EINVAL is an answer here: there is no way to that state. */
int user_mig_state_set(struct access *a, uint32_t state, struct vfmig_error *err)
{
	struct vfio_user_device_state set = { state, -1 };
	uint32_t flags = VFIO_USER_FEATURE_SET | VFIO_USER_FEATURE_MIG_DEVICE_STATE;
	return user_ask_feature(user_of(a), flags, &set, sizeof(set), err);
}

ssize_t user_mig_data_read(struct access *a, void *buffer, size_t length, struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	uint32_t n = (uint32_t)min_u64(min_u64(length, VFIO_USER_MIG_READ), u->limits.max_data);
	struct vfio_user_mig_data ask = { (uint32_t)sizeof(ask) + n, n }, reply;
	struct user_request q = {
		.command = VFIO_USER_MIG_DATA_READ,
		.body = &ask,
		.body_length = sizeof(ask),
		.reply = &reply,
		.reply_min = sizeof(reply),
		.reply_max = sizeof(reply),
		.reply_data = buffer,
		.reply_data_length = n,
	};
	int r = user_conn_request(u->conn, &q, err);
	if (r == 0 && (reply.size > n || reply.size > q.replied - sizeof(reply)))
		r = error_set(err, -EPROTO, "the server answered with %u bytes in a message of %zu, %u were asked for",
			      reply.size, q.replied, n);
	return r < 0 ? error_prefix(err, user_absent(r), "reading migration data") : (ssize_t)reply.size;
}

ssize_t user_mig_data_write(struct access *a, const void *buffer, size_t length, struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	uint32_t n = (uint32_t)min_u64(length, user_limits_write(&u->limits));
	struct vfio_user_mig_data ask = { (uint32_t)sizeof(ask) + n, n };
	struct user_request q = {
		.command = VFIO_USER_MIG_DATA_WRITE,
		.body = &ask,
		.body_length = sizeof(ask),
		.data = buffer,
		.data_length = n,
	};
	int r = user_conn_request(u->conn, &q, err);
	return r < 0 ? error_prefix(err, user_absent(r), "writing migration data") : (ssize_t)n;
}
