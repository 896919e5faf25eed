/* SPDX-License-Identifier: BSD-3-Clause */
/* reader_skip.c: gets past the bodies that nobody wants. */
#include <string.h>

#include "stream/reader_impl.h"

static int skip_ram(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
		    size_t *ret_used, struct vfmig_error *err)
{
	struct reader *r = opaque;
	int rc = ram_skip_body(&r->ram, section, data, length, ret_used, err);

	if (rc < 0)
		r->fault = r->ram.fault;
	return rc;
}

static int skip_sized(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
		      size_t *ret_used, struct vfmig_error *err)
{
	struct reader *r = opaque;

	(void)section, (void)data, (void)err;
	*ret_used = (size_t)min_u64(r->sized_left, length);
	r->sized_left -= *ret_used;
	return r->sized_left == 0;
}

/* FULLs come behind the last END; one that does not (virtio-mem's) would have
 * to be held together with all of the memory behind it. */
static int check_place(struct reader *r, struct vfmig_error *err)
{
	for (size_t i = 0; i < r->num_sections; i++) {
		if (r->sections[i].started && !r->sections[i].ended)
			return reader_broken(r, FAULT_UNDESCRIBED, 0, err,
					     "section '%s' (FULL) stands before the END of '%s': where it ends is only "
					     "known in a file that has a description",
					     r->current_section->id, r->sections[i].id);
	}
	return 0;
}

static int choose_sized(struct reader *r, struct vfmig_error *err)
{
	const char *id = r->current_section->id;

	if (r->current.kind != 'F')
		return reader_broken(
		    r, FAULT_UNKNOWN_SECTION, 0, err,
		    "section '%s' is neither ram nor a VFIO device's: how to read past it is not known", id);
	if (!r->sizes) {
		int rc = check_place(r, err);
		if (rc == 0)
			rc = reader_hold(r, err);
		if (rc < 0)
			return rc;
	}
	if (description_sizes_find(r->sizes, id, r->current.instance_id, &r->sized_left) < 0)
		return reader_broken(r, FAULT_UNDESCRIBED, 0, err,
				     "the description does not tell how long section '%s' instance %" PRIu32 " is", id,
				     r->current.instance_id);
	r->skip = skip_sized;
	return 0;
}

static int choose(struct reader *r, struct vfmig_error *err)
{
	const char *id = r->current_section->id;

	if (strcmp(id, "ram") != 0)
		return choose_sized(r, err);
	r->skip = skip_ram;
	return 0;
}

void reader_watch_ram(struct reader *r, const struct ram_watcher *watcher)
{
	r->ram.watcher = *watcher;
}

uint64_t reader_pass(struct reader *r, uint64_t n)
{
	uint64_t end = r->link->size;

	if (!r->link->seekable || r->digest || r->watch || reader_have(r) || r->offset >= end)
		return 0;
	n = min_u64(n, end - r->offset);
	r->start = r->end = 0;
	r->offset += n;
	return n;
}

int reader_skip(struct reader *r, struct vfmig_error *err)
{
	static const struct reader_vfio_ops nothing = { 0 };
	if (r->current_section && reader_is_vfio(r->current_section->id))
		return reader_feed_vfio(r, &nothing, NULL, err);
	int rc = r->state == IN_BODY && !r->skip ? choose(r, err) : 0;

	if (rc == 0)
		rc = reader_feed(r, r->skip, r, err);
	if (rc == 1 && r->skip == skip_ram && !r->ram.gap_left && !r->ram.bitmap_left)
		r->ram.bytes_left -= reader_pass(r, r->ram.bytes_left);
	if (rc == 1 && r->skip == skip_sized)
		r->sized_left -= reader_pass(r, r->sized_left);
	return rc;
}
