/* SPDX-License-Identifier: BSD-3-Clause */
/* reader_vfio.c: the bodies of VFIO sections: their packets one by one, and data straight to where it is wanted. */
#include <string.h>

#include "stream/reader_impl.h"

/* A packet's head comes with at most so much of its data, so that most of that begins at a page or goes where it is
 * wanted; of which so much is read at once that it is in the cache still when it is written. */
#define HEAD_READ 4096u
#define DATA_READ (256u << 10)

bool reader_is_vfio(const char *id)
{
	static const char suffix[] = "/vfio";
	size_t length = strlen(id), tail = sizeof(suffix) - 1;

	return strcmp(id, suffix + 1) == 0 || (length > tail && strcmp(id + length - tail, suffix) == 0);
}

static int tell(struct reader *r, const struct reader_vfio_ops *ops, void *opaque, const struct vfio_event *event,
		struct vfmig_error *err)
{
	r->current.offset = event->offset;
	return ops->event ? error_not_again(ops->event(opaque, &r->current, event, err)) : 0;
}

/* Data from the link into the place where its owner wants it. 1: some; 0: it has none; -errno. */
static int receive(struct reader *r, const struct reader_vfio_ops *ops, void *opaque, struct vfmig_error *err)
{
	char what[320];
	size_t length = 0;
	void *place = ops->place && r->vfio.left && !reader_have(r) ? ops->place(opaque, &length) : NULL;

	if (!place)
		return 0;
	ssize_t n = reader_read(r, place, (size_t)min_u64(length, r->vfio.left), err);
	if (n < 0)
		return (int)n;
	if (n == 0) {
		reader_describe_body(r, what, sizeof(what));
		return reader_truncated(r, r->vfio.left, what, err);
	}
	struct vfio_event event = { VFIO_EVENT_DATA, r->offset, (uint64_t)n, place, (size_t)n };
	if (r->digest)
		XXH3_128bits_update(r->digest, place, (size_t)n);
	int rc = tell(r, ops, opaque, &event, err);
	if (rc < 0)
		return rc;
	r->vfio.left -= (uint64_t)n;
	r->offset += (uint64_t)n;
	return 1;
}

/* The next packet, or what has come of its data. */
static int next(struct reader *r, const struct reader_vfio_ops *ops, void *opaque, struct vfio_event *ret,
		struct vfmig_error *err)
{
	size_t used = 0;
	int rc = vfio_parser_next(&r->vfio, r->offset, reader_bytes(r), reader_have(r), &used, ret, err);

	if (rc == 0)
		r->refused = reader_have(r);
	if (rc < 0)
		r->fault = r->vfio.fault;
	if (rc <= 0)
		return rc;
	rc = tell(r, ops, opaque, ret, err);
	if (rc < 0)
		return rc;
	if (used)
		reader_take(r, used);
	return 1;
}

int reader_feed_vfio(struct reader *r, const struct reader_vfio_ops *ops, void *opaque, struct vfmig_error *err)
{
	struct vfio_event event = { 0 };
	int rc;

	if (r->state == AT_FOOTER)
		return reader_footer(r, err);
	if (r->state != IN_BODY)
		return error_set(err, -EINVAL, "there is no section's body to read");
	rc = receive(r, ops, opaque, err);
	if (rc != 0)
		return rc;
	if ((ops->no_data || !ops->event) && r->vfio.in_data)
		r->vfio.left -= reader_pass(r, r->vfio.left);
	/* The end of a packet's data needs no byte. */
	if (!r->vfio.in_data || r->vfio.left) {
		r->read_max = r->vfio.left ? DATA_READ : HEAD_READ;
		rc = reader_more_body(r, err);
		r->read_max = 0;
	}
	if (rc == 0)
		rc = next(r, ops, opaque, &event, err);
	if (rc < 0)
		return rc;
	if (rc == 0 || !vfio_event_ends_body(event.kind))
		return 1;
	r->state = AT_FOOTER;
	return reader_footer(r, err);
}
