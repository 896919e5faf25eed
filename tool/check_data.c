/* SPDX-License-Identifier: BSD-3-Clause */
/* check_data.c: checks of what a device gives as its state, and of what pre-copy says and does. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "check.h"

#define FEATURE_GET (1u << 16)
#define FEATURE_MIG_DATA_SIZE 9u
#define ODD_PIECE 1021u
#define SMALL_PIECE 4096u
#define IDLE_MORE 16u /* an idle device's pre-copy ends before it has given so many times its state */

static int keep(struct check_run *r, struct vfmig_error *err)
{
	if (!r->one.length)
		return error_set(err, -EPROTO, "the state has no bytes");
	snprintf(r->note, sizeof(r->note), "%zu bytes in %zu pieces", r->one.length, r->one.count);
	return check_blob_copy(&r->kept, &r->one, err);
}

int check_data_read(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	CHECK_TRY(check_save(r, &r->one, 0, err));
	return keep(r, err);
}

/* Between the two the device is stopped, so it need not be idle otherwise. */
static int save_two(struct check_run *r, size_t piece, struct vfmig_error *err)
{
	CHECK_TRY(check_save(r, &r->one, 0, err));
	CHECK_TRY(check_go(r, VFMIG_STATE_STOP, err));
	CHECK_TRY(check_save(r, &r->two, piece, err));
	return check_blob_same(&r->one, &r->two, "the state, saved again", err);
}

int check_read_sizes(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return save_two(r, ODD_PIECE, err);
}

int check_twice(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return save_two(r, 0, err);
}

int check_end_stays(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint8_t byte;
	size_t n = 0;
	bool nothing = false;
	uint64_t pending = 0;

	(void)c;
	CHECK_TRY(check_save(r, &r->one, 0, err));
	CHECK_TRY(r->protocol == CHECK_V1 ? check_v1_pending(r, &pending, err)
					  : check_read(r, &byte, 1, &n, &nothing, err));
	if (n || nothing || pending)
		return error_set(err, -EPROTO, "at its end the state goes on when asked again");
	return check_state_is(r, VFMIG_STATE_STOP_COPY, err);
}

/* The same state again in the middle of a transfer: it goes on. */
int check_again_in_transfer(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	size_t n;
	bool nothing;
	uint8_t first[ODD_PIECE];

	(void)c;
	CHECK_TRY(check_save(r, &r->one, 0, err));
	CHECK_TRY(check_go(r, VFMIG_STATE_STOP, err));
	CHECK_TRY(check_go(r, VFMIG_STATE_STOP_COPY, err));
	CHECK_TRY(check_read(r, first, min_u64(sizeof(first), r->one.length / 2 + 1), &n, &nothing, err));
	CHECK_TRY(check_state_set(r, VFMIG_STATE_STOP_COPY, err));
	check_blob_empty(&r->two);
	CHECK_TRY(check_drain(r, &r->two, 0, err));
	if (r->two.length + n != r->one.length)
		return error_set(err, -EPROTO, "%zu bytes, the request, %zu bytes: expected %zu in all", n,
				 r->two.length, r->one.length);
	return memcmp(r->two.data, r->one.data + n, r->two.length) || memcmp(first, r->one.data, n)
		       ? error_set(err, -EPROTO, "after the request the state goes on with other bytes") : 0;
}

/* What may not be: data outside of the states that have a transfer. */
static int refused_data(struct check_run *r, bool write, const char *when, struct vfmig_error *err)
{
	uint8_t byte = 0;
	ssize_t n = write ? access_mig_data_write(r->access, &byte, 1, err)
			  : access_mig_data_read(r->access, &byte, 1, err);

	if (n == -ENOTCONN || n == -ETIMEDOUT)
		return error_prefix(err, (int)n, "%s", when);
	if (n == -EAGAIN)
		return error_set(err, -EPROTO, "%s data cannot be read now, expected never again", when);
	return n < 0 ? 0 : error_set(err, -EPROTO, "%s data can be %s", when, write ? "written" : "read");
}

int check_data_ends(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	CHECK_TRY(refused_data(r, false, "in running", err));
	CHECK_TRY(check_save(r, &r->one, 0, err));
	CHECK_TRY(check_go(r, VFMIG_STATE_STOP, err));
	CHECK_TRY(refused_data(r, false, "after stop-and-copy", err));
	CHECK_TRY(check_load(r, &r->one, 0, err));
	return refused_data(r, true, "after resuming", err);
}

int check_size_told(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint64_t told = 0;

	(void)c;
	CHECK_TRY(check_go(r, VFMIG_STATE_STOP, err));
	int e = access_feature(r->access, FEATURE_GET | FEATURE_MIG_DATA_SIZE, &told, sizeof(told), err);
	if (e == -EOPNOTSUPP)
		return check_skip(err, "the device does not tell");
	if (e < 0)
		return error_prefix(err, e, "stop_copy_length");
	CHECK_TRY(check_save(r, &r->one, 0, err));
	if (r->one.length > told)
		return error_set(err, -EPROTO, "stop_copy_length was %llu, and stop-and-copy gave %zu bytes",
				 (unsigned long long)told, r->one.length);
	snprintf(r->note, sizeof(r->note), "%llu told, %zu read", (unsigned long long)told, r->one.length);
	return 0;
}

/* ----------------------------------------------------------------- pre-copy */

/* 0 where ENOMSG is expected is for one check to find. */
static int read_some(struct check_run *r, size_t piece, bool *ret_nothing, struct vfmig_error *err)
{
	uint64_t size;
	size_t n;

	if (r->protocol == CHECK_V1) {
		CHECK_TRY(check_v1_take(r, &r->one, &size, err));
		*ret_nothing = size == 0;
		return 0;
	}
	CHECK_TRY(check_read_more(r, &r->one, piece, &n, ret_nothing, err));
	*ret_nothing |= n == 0;
	return 0;
}

/* In a pre-copy state: all that an idle device has. */
static int read_all(struct check_run *r, struct vfmig_error *err)
{
	bool nothing = false;

	check_blob_empty(&r->one);
	while (!nothing) {
		CHECK_TRY(read_some(r, CHECK_PIECE_MAX, &nothing, err));
		if (r->one.length / IDLE_MORE > r->kept.length)
			return error_set(err, -EPROTO, "%zu bytes of pre-copy from an idle device with %zu bytes of "
						       "state, and no end", r->one.length, r->kept.length);
	}
	return 0;
}

/* Idle, in that pre-copy state. */
static int begin_precopy(struct check_run *r, enum vfmig_state state, struct vfmig_error *err)
{
	uint64_t start;

	CHECK_TRY(check_op_begin(r, CHECK_OP_DRAIN, &start, err));
	if (!r->kept.length)
		return check_skip(err, "needs a state that was read to its end");
	CHECK_TRY(check_reset(r, err));
	return check_go(r, state, err);
}

/* v1 */
int check_precopy_ends(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	CHECK_TRY(begin_precopy(r, (enum vfmig_state)c->from, err));
	CHECK_TRY(read_all(r, err));
	snprintf(r->note, sizeof(r->note), "%zu bytes", r->one.length);
	return check_state_is(r, (enum vfmig_state)c->from, err);
}

int check_precopy_read(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	bool nothing = false;
	size_t n;

	CHECK_TRY(begin_precopy(r, (enum vfmig_state)c->from, err));
	CHECK_TRY(read_all(r, err));
	CHECK_TRY(check_read_more(r, &r->one, 1, &n, &nothing, err));
	/* vfio-user's replies have no ENOMSG: there 0 bytes are both. */
	if (!nothing && (n || strcmp(r->access->ops->kind, "vfio-user")))
		return error_set(err, -EPROTO, n ? "there is data again, without a change"
						 : "with nothing to read it reads 0, the end; expected ENOMSG");
	snprintf(r->note, sizeof(r->note), "%zu bytes", r->one.length);
	return check_state_is(r, (enum vfmig_state)c->from, err);
}

static int ask_info(struct check_run *r, struct access_precopy_info *ret, struct vfmig_error *err)
{
	uint64_t start, sum;

	CHECK_TRY(check_op_begin(r, CHECK_OP_PENDING, &start, err));
	int e = access_mig_precopy_info(r->access, ret, err);
	if (e == -EOPNOTSUPP)
		return check_skip(err, "this way to the device has no pre-copy info");
	if (e < 0)
		return error_prefix(err, e, "pre-copy info");
	check_op_end(r, CHECK_OP_PENDING, start, e);
	if (__builtin_add_overflow(ret->initial_bytes, ret->dirty_bytes, &sum))
		return error_set(err, -EPROTO, "initial_bytes and dirty_bytes add up to more than 2^64");
	return 0;
}

int check_precopy_info(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	struct access_precopy_info before, after;
	size_t length;
	bool nothing;

	(void)c;
	CHECK_TRY(begin_precopy(r, VFMIG_STATE_PRE_COPY, err));
	CHECK_TRY(ask_info(r, &before, err));
	CHECK_TRY(read_all(r, err));
	CHECK_TRY(ask_info(r, &after, err));
	if (after.initial_bytes || after.dirty_bytes)
		return error_set(err, -EPROTO, "all is read, and %llu initial and %llu dirty bytes are told",
				 (unsigned long long)after.initial_bytes, (unsigned long long)after.dirty_bytes);
	length = r->one.length;
	CHECK_TRY(read_some(r, SMALL_PIECE, &nothing, err));
	if (!nothing)
		return error_set(err, -EPROTO, "no bytes are told of an idle device, and %zu are read",
				 r->one.length - length);
	if (before.initial_bytes + before.dirty_bytes == 0 && length)
		return error_set(err, -EPROTO, "no bytes were told, and %zu were read", length);
	return 0;
}

int check_precopy_falls(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	struct access_precopy_info before, after;
	bool nothing = false;

	(void)c;
	CHECK_TRY(begin_precopy(r, VFMIG_STATE_PRE_COPY, err));
	CHECK_TRY(ask_info(r, &before, err));
	check_blob_empty(&r->one);
	for (unsigned int i = 0; i < 64 && !nothing; i++) {
		CHECK_TRY(read_some(r, SMALL_PIECE, &nothing, err));
		CHECK_TRY(ask_info(r, &after, err));
		if (after.initial_bytes > before.initial_bytes)
			return error_set(err, -EPROTO, "initial_bytes have risen from %llu to %llu",
					 (unsigned long long)before.initial_bytes,
					 (unsigned long long)after.initial_bytes);
		if (after.initial_bytes + after.dirty_bytes > before.initial_bytes + before.dirty_bytes)
			return error_set(err, -EPROTO, "of an idle device %llu bytes are told after a read, %llu "
						       "before",
					 (unsigned long long)(after.initial_bytes + after.dirty_bytes),
					 (unsigned long long)(before.initial_bytes + before.dirty_bytes));
		before = after;
	}
	return 0;
}

int check_precopy_outside(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	struct access_precopy_info info;

	(void)c;
	CHECK_TRY(begin_precopy(r, VFMIG_STATE_PRE_COPY, err));
	CHECK_TRY(ask_info(r, &info, err)); /* or there is none, or it has failed */
	CHECK_TRY(check_go(r, VFMIG_STATE_STOP_COPY, err));
	int e = access_mig_precopy_info(r->access, &info, err);
	if (e == 0)
		return error_set(err, -EPROTO, "pre-copy info is given in stop-and-copy");
	return e == -EINVAL ? 0 : error_prefix(err, e, "expected EINVAL");
}

/* The switch itself; by way of other states the transfer would be another. */
static int go_saving(struct check_run *r, struct vfmig_error *err)
{
	if (!check_way_is_whole(r, r->state, VFMIG_STATE_STOP_COPY))
		return check_skip(err, "needs the way from %s to stop-and-copy, which has failed",
				  vfmig_state_name(r->state));
	return check_state_set(r, VFMIG_STATE_STOP_COPY, err);
}

/* What was read before the switch and after it is one state. */
int check_transfer_goes_on(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	bool nothing = false;

	CHECK_TRY(check_work(r, err));
	CHECK_TRY(check_save(r, &r->two, 0, err));
	CHECK_TRY(check_go(r, VFMIG_STATE_RUNNING, err));
	CHECK_TRY(check_go(r, (enum vfmig_state)c->from, err));
	check_blob_empty(&r->one);
	for (unsigned int i = 0; i < 4 && !nothing; i++)
		CHECK_TRY(read_some(r, SMALL_PIECE, &nothing, err));
	CHECK_TRY(go_saving(r, err));
	CHECK_TRY(check_drain(r, &r->one, 0, err));
	CHECK_TRY(check_reset(r, err));
	CHECK_TRY(check_load_proven(r, &r->one, err));
	CHECK_TRY(check_save(r, &r->one, 0, err));
	return check_blob_same(&r->two, &r->one, "the state, saved with pre-copy, loaded and saved", err);
}

/* Half a save, taken back: the device is what it was. */
int check_cancel(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	bool nothing;

	CHECK_TRY(check_work(r, err));
	CHECK_TRY(check_save(r, &r->two, 0, err));
	CHECK_TRY(check_go(r, VFMIG_STATE_RUNNING, err));
	CHECK_TRY(check_go(r, (enum vfmig_state)c->from, err));
	check_blob_empty(&r->one);
	CHECK_TRY(read_some(r, SMALL_PIECE, &nothing, err));
	CHECK_TRY(check_go(r, VFMIG_STATE_RUNNING, err));
	CHECK_TRY(check_state_is(r, VFMIG_STATE_RUNNING, err));
	CHECK_TRY(check_save(r, &r->one, 0, err));
	return check_blob_same(&r->two, &r->one, "the state after a cancelled save", err);
}
