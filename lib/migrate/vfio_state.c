/* SPDX-License-Identifier: BSD-3-Clause */
/* vfio_state.c: is the device in the state that it was last brought to? */
#include "migrate/vfio_state.h"

/* A device that vfmig opens itself begins anew when it is opened again: nothing can be recovered, nor need be. */
static int in_use(const struct vfmig_device *d, enum vfmig_state state, struct vfmig_error *err)
{
	const char *name = vfmig_device_name(d), *is = vfmig_state_name(state);
	if (state == VFMIG_STATE_ERROR)
		return error_set(err, -EBUSY,
				 "the device is in error, expected running or stopped: it has failed; vfmig recover "
				 "%s --discard resets it, and its state is lost",
				 name);
	if (device_uri_owns(name))
		return error_set(err, -EBUSY,
				 "the device is in %s just after it was opened, expected running or stopped: another "
				 "program has it open, too, and moves it; wait for that program, or end it",
				 is);
	return error_set(err, -EBUSY,
			 "the device is in %s, expected running or stopped: another migration of it is under way, or "
			 "one was killed; if so, run vfmig recover %s, which loses nothing unasked",
			 is, name);
}

int vfio_state_begin(struct vfio_state *s, struct vfmig_device *device, enum vfmig_state *ret,
		     struct vfmig_error *err)
{
	enum vfmig_state now;
	int r = device->protocol->ops->get_state(device->protocol, &now, err);
	if (r == 0 && now != VFMIG_STATE_RUNNING && now != VFMIG_STATE_STOP)
		r = in_use(device, now, err);
	if (r < 0)
		return r;
	*s = (struct vfio_state) { .device = device, .at = now };
	*ret = now;
	return 0;
}

/* By what the protocol knows, which may be from somebody's look at the device in between. */
static int compare(struct vfio_state *s, struct vfmig_error *err)
{
	int r = protocol_check_state(s->device->protocol, s->at, err);
	s->changed |= r < 0;
	return r;
}

int vfio_state_set(struct vfio_state *s, enum vfmig_state state, struct vfmig_error *err)
{
	struct protocol *p = s->device->protocol;
	int r = compare(s, err);
	if (r < 0)
		return r;
	r = p->ops->set_state(p, state, err);
	if (r == -ESTALE) {
		s->changed = true;
		return r;
	}
	s->unsure = r < 0;
	s->at = p->state;
	return r;
}

int vfio_state_check(struct vfio_state *s, struct vfmig_error *err)
{
	struct protocol *p = s->device->protocol;
	enum vfmig_state now;
	int r = p->ops->get_state(p, &now, err);
	if (r == 0)
		r = compare(s, err);
	if (r == 0 && now != s->at)
		r = error_set(err, -EIO, "the device is in error, expected %s: only a reset ends an error",
			      vfmig_state_name(s->at));
	return r;
}

int vfio_state_explain(struct vfio_state *s, int code, struct vfmig_error *err)
{
	struct protocol *p = s->device->protocol;
	struct vfmig_error why;
	enum vfmig_state now;
	if (code == -ENOTCONN || code == -ETIMEDOUT || s->changed || p->ops->get_state(p, &now, &why) < 0)
		return code;
	code = compare(s, &why) < 0 ? -ESTALE : code;
	return s->changed ? error_prefix(err, code, "%s", why.message) : code;
}

int vfio_state_take(struct vfio_state *s, enum vfmig_state *ret, struct vfmig_error *err)
{
	struct protocol *p = s->device->protocol;
	int r = p->ops->get_state(p, ret, err);
	if (r < 0)
		return r;
	s->at = *ret;
	s->unsure = false;
	return 0;
}

int vfio_state_find(struct vfio_state *s, enum vfmig_state *ret, struct vfmig_error *err)
{
	const struct vfio_state before = *s;
	int r = vfio_state_take(s, ret, err);
	if (r == 0)
		s->changed |= !before.unsure && *ret != before.at && *ret != VFMIG_STATE_ERROR;
	return r;
}
