/* SPDX-License-Identifier: BSD-3-Clause */
/* server_dirty.c: a vfio-user client's requests that are about written pages. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "sim/server_internal.h"

static int bad(struct vfmig_error *err, const char *what)
{
	return error_set(err, -EINVAL, "%s", what);
}

static int start_log(struct server *s, enum access_log log, const struct access_range *ranges, size_t count,
		     uint64_t *page_size, struct vfmig_error *err)
{
	if (*page_size < VFIO_USER_PAGE_SIZE || *page_size > VFIO_USER_MAX_PAGE_SIZE || (*page_size & (*page_size - 1)))
		return error_set(err, -EINVAL, "a log in pages of 0x%llx bytes", (unsigned long long)*page_size);
	int r = access_dirty_start(s->device, log, ranges, count, page_size, err);
	if (r == 0)
		s->client.logs[log] = *page_size;
	return r;
}

static int stop_log(struct server *s, enum access_log log, struct vfmig_error *err)
{
	if (!s->client.logs[log])
		return bad(err, "the log was not started");
	s->client.logs[log] = 0;
	return access_dirty_stop(s->device, log, err);
}

void server_stop_logs(struct server *s)
{
	for (enum access_log log = ACCESS_LOG_DEVICE; log <= ACCESS_LOG_MAPPINGS; log++)
		if (s->client.logs[log])
			stop_log(s, log, NULL);
}

/* Does the device log this range so, and how many bytes has its bitmap? */
static int check_range(const struct server *s, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
		       uint64_t *ret_bytes, struct vfmig_error *err)
{
	if (!s->client.logs[log] || page_size != s->client.logs[log])
		return error_set(err, -EINVAL, "pages of 0x%llx bytes are not what is logged",
				 (unsigned long long)page_size);
	if (length == 0 || iova > UINT64_MAX - length || (iova | length) % page_size)
		return bad(err, "that is no range of whole pages");
	if ((length / page_size + 63) / 64 > VFIO_USER_MAX_DATA / 8)
		return error_set(err, -EINVAL, "the bitmap of 0x%llx bytes would be larger than max_data_xfer_size",
				 (unsigned long long)length);
	*ret_bytes = (length / page_size + 63) / 64 * 8;
	return 0;
}

/* The bitmap goes to s->buffer, where it is aligned. */
static int report(struct server *s, enum access_log log, uint64_t iova, uint64_t length, uint64_t bytes,
		  struct vfmig_error *err)
{
	memset(s->buffer, 0, bytes);
	return access_dirty_report(s->device, log, iova, length, s->client.logs[log], (uint64_t *)(void *)s->buffer,
				   err);
}

/* ------------------------------------------------------------ features */

static int logging_start(struct server *s, const uint8_t *data, size_t length, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_logging_start start;
	struct access_range ranges[VFIO_USER_MAX_RANGES];

	if (length < sizeof(start))
		return bad(err, "too short");
	memcpy(&start, data, sizeof(start));
	if (start.num_ranges > VFIO_USER_MAX_RANGES ||
	    length != sizeof(start) + start.num_ranges * sizeof(struct vfio_user_logging_range))
		return error_set(err, -EINVAL, "%u ranges in %zu bytes", start.num_ranges, length);
	for (uint32_t i = 0; i < start.num_ranges; i++) {
		struct vfio_user_logging_range range;
		memcpy(&range, data + sizeof(start) + i * sizeof(range), sizeof(range));
		if (range.length == 0 || range.iova > UINT64_MAX - range.length ||
		    (range.iova | range.length) % VFIO_USER_PAGE_SIZE)
			return bad(err, "a range is none of whole pages");
		if (i && range.iova < ranges[i - 1].iova + ranges[i - 1].length)
			return bad(err, "the ranges are not in order");
		ranges[i] = (struct access_range) { range.iova, range.length };
	}
	int e = start_log(s, ACCESS_LOG_DEVICE, ranges, start.num_ranges, &start.page_size, err);
	if (e < 0)
		return e;
	memcpy(s->buffer, data, length);
	memcpy(s->buffer, &start, sizeof(start));
	r->data_length = length;
	return 0;
}

static int logging_report(struct server *s, uint32_t argsz, const uint8_t *data, size_t length, struct reply *r,
			  struct vfmig_error *err)
{
	struct vfio_user_logging_report ask;
	uint64_t bytes = 0;

	if (length != sizeof(ask))
		return error_set(err, -EINVAL, "%zu bytes, expected were %zu", length, sizeof(ask));
	memcpy(&ask, data, sizeof(ask));
	int e = check_range(s, ACCESS_LOG_DEVICE, ask.iova, ask.length, ask.page_size, &bytes, err);
	if (e == 0 && argsz < sizeof(struct vfio_user_feature) + sizeof(ask) + bytes)
		e = bad(err, "argsz has no room for the bitmap");
	if (e == 0)
		e = report(s, ACCESS_LOG_DEVICE, ask.iova, ask.length, bytes, err);
	if (e < 0)
		return e;
	memcpy(r->body + sizeof(struct vfio_user_feature), &ask, sizeof(ask));
	r->body_length = sizeof(struct vfio_user_feature) + sizeof(ask);
	r->data_length = bytes;
	return 0;
}

bool server_is_logging(uint32_t index)
{
	return index >= VFIO_USER_FEATURE_LOGGING_START && index <= VFIO_USER_FEATURE_LOGGING_REPORT;
}

int server_handle_logging(struct server *s, const struct vfio_user_feature *feature, const uint8_t *data,
			  size_t length, struct reply *r, struct vfmig_error *err)
{
	uint32_t index = feature->flags & VFIO_USER_FEATURE_MASK;
	uint32_t op = index == VFIO_USER_FEATURE_LOGGING_REPORT ? VFIO_USER_FEATURE_GET : VFIO_USER_FEATURE_SET;
	int e;

	if (!(feature->flags & op))
		return bad(err, "flags");
	memcpy(r->body, feature, sizeof(*feature));
	r->body_length = sizeof(*feature);
	r->data = s->buffer;
	if (feature->flags & VFIO_USER_FEATURE_PROBE)
		e = access_feature(s->device, feature->flags, NULL, 0, err);
	else if (index == VFIO_USER_FEATURE_LOGGING_START)
		e = logging_start(s, data, length, r, err);
	else if (index == VFIO_USER_FEATURE_LOGGING_STOP)
		e = stop_log(s, ACCESS_LOG_DEVICE, err); /* with data, of some clients, or without */
	else
		e = logging_report(s, feature->argsz, data, length, r, err);
	return e;
}

/* ------------------------------------------------------------ DIRTY_PAGES and DMA_UNMAP */

/* May this range be asked for, into a bitmap of that size, in a reply that argsz has room for? */
static int check_bitmap(const struct server *s, const struct message *m, uint32_t argsz, uint64_t iova, uint64_t length,
			const struct vfio_user_bitmap *bitmap, struct vfmig_error *err)
{
	uint64_t bytes = 0;
	int e = check_range(s, ACCESS_LOG_MAPPINGS, iova, length, bitmap->page_size, &bytes, err);

	if (e == 0 && (bitmap->bytes != bytes || argsz < m->length + bytes))
		e = error_set(err, -EINVAL, "room for a bitmap of %llu bytes, expected were %llu",
			      (unsigned long long)bitmap->bytes, (unsigned long long)bytes);
	return e;
}

/* The request again, and the bitmap behind it. */
static int reply_bitmap(const struct server *s, const struct message *m, uint64_t bytes, struct reply *r)
{
	memcpy(r->body, m->body, m->length);
	r->body_length = m->length;
	r->data = s->buffer;
	r->data_length = bytes;
	return 0;
}

static int dirty_get(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_dirty_pages dirty;
	struct vfio_user_dirty_range range;

	if (m->length != sizeof(dirty) + sizeof(range))
		return error_set(err, -EINVAL, "%zu bytes, expected were %zu", m->length,
				 sizeof(dirty) + sizeof(range));
	memcpy(&dirty, m->body, sizeof(dirty));
	memcpy(&range, m->body + sizeof(dirty), sizeof(range));
	int e = check_bitmap(s, m, dirty.argsz, range.iova, range.size, &range.bitmap, err);
	if (e == 0)
		e = report(s, ACCESS_LOG_MAPPINGS, range.iova, range.size, range.bitmap.bytes, err);
	return e < 0 ? e : reply_bitmap(s, m, range.bitmap.bytes, r);
}

static int compare_ranges(const void *a, const void *b)
{
	const struct access_range *x = a, *y = b;
	return x->iova < y->iova ? -1 : x->iova > y->iova;
}

/* The client's mappings in whole pages, which are what DIRTY_PAGES logs. *ret is to be freed. */
static int mapped_ranges(const struct client *c, struct access_range **ret, size_t *ret_count, struct vfmig_error *err)
{
	const uint64_t mask = VFIO_USER_PAGE_SIZE - 1;
	struct access_range *ranges = calloc(c->num_mappings + 1, sizeof(*ranges));
	size_t n = 0, kept = 0;

	if (!ranges)
		return error_errno(err, -ENOMEM, "ranges");
	for (const struct client_mapping *m = c->mappings; m; m = m->next) {
		uint64_t first = m->iova & ~mask, last = (m->iova + m->size - 1) | mask;
		if (last != UINT64_MAX)
			ranges[n++] = (struct access_range) { first, last - first + 1 };
	}
	qsort(ranges, n, sizeof(*ranges), compare_ranges);
	for (size_t i = 0; i < n; i++) /* two that share a page are one */
		if (kept && ranges[i].iova < ranges[kept - 1].iova + ranges[kept - 1].length)
			ranges[kept - 1].length = ranges[i].iova + ranges[i].length - ranges[kept - 1].iova;
		else
			ranges[kept++] = ranges[i];
	*ret = ranges;
	*ret_count = kept;
	return 0;
}

static int dirty_start(struct server *s, struct vfmig_error *err)
{
	uint64_t page_size = VFIO_USER_PAGE_SIZE;
	struct access_range *ranges = NULL;
	size_t count = 0;

	int e = mapped_ranges(&s->client, &ranges, &count, err);
	if (e < 0)
		return e;
	e = start_log(s, ACCESS_LOG_MAPPINGS, ranges, count, &page_size, err);
	free(ranges);
	if (e < 0 || page_size == VFIO_USER_PAGE_SIZE)
		return e;
	stop_log(s, ACCESS_LOG_MAPPINGS, NULL); /* there is no word for it on this wire */
	return error_set(err, -EOPNOTSUPP, "the log's pages are larger than VERSION said");
}

int server_handle_dirty_pages(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_dirty_pages dirty;
	int e;

	memcpy(&dirty, m->body, sizeof(dirty));
	if (dirty.argsz < m->length)
		return bad(err, "argsz is too small");
	if (dirty.flags == VFIO_USER_DIRTY_GET)
		e = dirty_get(s, m, r, err);
	else if (dirty.flags == VFIO_USER_DIRTY_START)
		e = dirty_start(s, err);
	else if (dirty.flags == VFIO_USER_DIRTY_STOP)
		e = stop_log(s, ACCESS_LOG_MAPPINGS, err);
	else
		e = error_set(err, -EINVAL, "flags 0x%x", dirty.flags);
	return e == -EOPNOTSUPP ? -EINVAL : e; /* as for an unknown command */
}

int server_unmap_with_bitmap(struct server *s, const struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_dma_unmap unmap;
	struct vfio_user_bitmap bitmap;

	memcpy(&unmap, m->body, sizeof(unmap));
	if (m->length != sizeof(unmap) + sizeof(bitmap))
		return bad(err, "no bitmap's size");
	memcpy(&bitmap, m->body + sizeof(unmap), sizeof(bitmap));
	int e = check_bitmap(s, m, unmap.argsz, unmap.iova, unmap.size, &bitmap, err);
	if (e < 0)
		return e;
	memset(s->buffer, 0, bitmap.bytes);
	e = server_unmap_range(s, unmap.iova, unmap.size, (uint64_t *)(void *)s->buffer, err);
	return e < 0 ? e : reply_bitmap(s, m, bitmap.bytes, r);
}
