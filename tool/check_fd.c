/* SPDX-License-Identifier: BSD-3-Clause */
/* check_fd.c: checks of a kernel device's data_fd: an access hides which transfer has which. */
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "uapi/vfio_compat.h"

/* *ret_fd: -1 for none. */
static int request(struct check_run *r, enum vfmig_state to, int *ret_fd, struct vfmig_error *err)
{
	struct vfio_device_feature_mig_state set = { .device_state = to, .data_fd = -1 };

	if (!check_way_is_whole(r, r->state, to))
		return check_skip(err, "needs the way from %s to %s, which has failed", vfmig_state_name(r->state),
				  vfmig_state_name(to));
	int e = access_feature(r->access, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &set,
			       sizeof(set), err);
	if (e < 0)
		return error_prefix(err, e, "from %s to %s", vfmig_state_name(r->state), vfmig_state_name(to));
	r->state = to;
	*ret_fd = set.data_fd;
	return 0;
}

/* A request that is to give a data_fd, or none. */
static int expect_fd(struct check_run *r, enum vfmig_state to, bool wanted, struct vfmig_error *err)
{
	enum vfmig_state from = r->state;
	int fd = -1;

	CHECK_TRY(request(r, to, &fd, err));
	if (fd >= 0)
		close(fd);
	return (fd >= 0) == wanted ? 0 : error_set(err, -EPROTO, "from %s to %s data_fd is %d, expected %s",
						   vfmig_state_name(from), vfmig_state_name(to), fd,
						   wanted ? "a new one" : "-1");
}

static int begin(struct check_run *r, struct vfmig_error *err)
{
	if (kernel_access_fd(r->access) < 0)
		return check_skip(err, "only a kernel device gives descriptors");
	return check_state_is(r, VFMIG_STATE_RUNNING, err);
}

int check_fd_given(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	CHECK_TRY(begin(r, err));
	CHECK_TRY(expect_fd(r, VFMIG_STATE_STOP, false, err));
	CHECK_TRY(expect_fd(r, VFMIG_STATE_STOP_COPY, true, err));
	CHECK_TRY(expect_fd(r, VFMIG_STATE_STOP, false, err));
	CHECK_TRY(expect_fd(r, VFMIG_STATE_RESUMING, true, err));
	CHECK_TRY(check_reset(r, err));
	if (!r->has_precopy)
		return 0;
	CHECK_TRY(expect_fd(r, VFMIG_STATE_PRE_COPY, true, err));
	if (r->has_p2p) {
		CHECK_TRY(expect_fd(r, VFMIG_STATE_PRE_COPY_P2P, false, err));
		CHECK_TRY(expect_fd(r, VFMIG_STATE_PRE_COPY, false, err));
	}
	CHECK_TRY(expect_fd(r, VFMIG_STATE_STOP_COPY, false, err));
	return expect_fd(r, VFMIG_STATE_STOP, false, err);
}

static int expect_dead(int fd, bool write_end, struct vfmig_error *err)
{
	char byte = 0;
	ssize_t n = write_end ? write(fd, &byte, 1) : read(fd, &byte, 1);
	int why = n < 0 ? errno : 0;

	close(fd);
	return why == ENODEV ? 0 : error_set(err, -EPROTO, "data_fd of the transfer that has ended gives %s, expected "
							   "ENODEV", why ? strerrorname_np(why) : "no error");
}

int check_fd_ends(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	int saving = -1, resuming = -1, none;

	(void)c;
	CHECK_TRY(begin(r, err));
	CHECK_TRY(request(r, VFMIG_STATE_STOP_COPY, &saving, err));
	int e = request(r, VFMIG_STATE_STOP, &none, err);
	if (e) {
		close(saving);
		return e;
	}
	CHECK_TRY(expect_dead(saving, false, err));
	CHECK_TRY(request(r, VFMIG_STATE_RESUMING, &resuming, err));
	e = check_reset(r, err);
	if (e) {
		close(resuming);
		return e;
	}
	return expect_dead(resuming, true, err);
}
