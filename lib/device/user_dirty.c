/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * user_dirty.c: the logs of written pages behind a vfio-user socket.
 *
 * Source: the vfio-user specification and the reference server, its last version with v1 migration for DIRTY_PAGES.
 * Such a server logs what it writes to memory whose fd it has. All other memory it reaches through us by messages, and
 * what those write is marked here (user_dma.c): each report is both.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/ranges.h"
#include "device/user_access.h"
#include "device/user_dma.h"

/* Refuses what is no page size; the server's own word for it is as hostile as any. */
static int check_page_size(uint64_t size, int code, struct vfmig_error *err)
{
	if (size >= VFIO_USER_PAGE_SIZE && size <= VFIO_USER_MAX_PAGE_SIZE && (size & (size - 1)) == 0)
		return 0;
	return error_set(err, code, "a log in pages of 0x%llx bytes, expected was a power of two from 0x%x to 0x%x",
			 (unsigned long long)size, VFIO_USER_PAGE_SIZE, VFIO_USER_MAX_PAGE_SIZE);
}

static uint64_t bitmap_bytes(uint64_t length, uint64_t page_size)
{
	return (length / page_size + 63) / 64 * 8;
}

static void set_all(uint64_t *bitmap, uint64_t pages)
{
	memset(bitmap, 0xff, pages / 64 * 8);
	if (pages % 64)
		bitmap[pages / 64] |= (UINT64_C(1) << pages % 64) - 1;
}

/* Room for a reply's bitmap, kept for the next one. */
static int reserve_bitmap(struct user_access *u, uint64_t bytes, struct vfmig_error *err)
{
	if (bytes <= u->bitmap_bytes)
		return 0;
	uint64_t *bitmap = realloc(u->bitmap, bytes);
	if (!bitmap)
		return error_errno(err, -ENOMEM, "a bitmap of %llu bytes", (unsigned long long)bytes);
	u->bitmap = bitmap;
	u->bitmap_bytes = bytes;
	return 0;
}

static int another_range(uint64_t iova, uint64_t length, uint64_t page_size, struct vfmig_error *err)
{
	return error_set(err, -EPROTO, "the server answered for 0x%llx bytes at 0x%llx in pages of 0x%llx",
			 (unsigned long long)length, (unsigned long long)iova, (unsigned long long)page_size);
}

/* ------------------------------------------------------------ the device's own log */

/* START or STOP. Servers answer with all of the request again, or with its head alone: then the page size is the one
 * that was asked for. */
static int control_request(struct user_access *u, uint32_t index, const void *data, size_t length, uint64_t *page_size,
			   struct vfmig_error *err)
{
	struct vfio_user_feature feature = { (uint32_t)(sizeof(feature) + length), VFIO_USER_FEATURE_SET | index };
	struct {
		struct vfio_user_feature feature;
		uint64_t page_size;
	} reply;
	uint8_t rest[sizeof(struct vfio_user_logging_start) +
		     VFIO_USER_MAX_RANGES * sizeof(struct vfio_user_logging_range)];
	struct user_request q = {
		.command = VFIO_USER_DEVICE_FEATURE,
		.body = &feature,
		.body_length = sizeof(feature),
		.data = data,
		.data_length = length,
		.reply = &reply,
		.reply_min = sizeof(reply.feature),
		.reply_max = sizeof(feature) + min_u64(length, sizeof(reply.page_size)),
		.reply_data = rest,
		.reply_data_length = length - min_u64(length, sizeof(reply.page_size)),
	};
	int r = user_conn_request(u->conn, &q, err);
	if (r == 0)
		r = user_check_feature(reply.feature.flags, feature.flags, err);
	if (r == 0 && q.replied > sizeof(reply.feature) && q.replied < sizeof(reply))
		r = error_set(err, -EPROTO, "the server answered with %zu bytes, half a page size", q.replied);
	if (r == 0 && q.replied >= sizeof(reply) && page_size)
		*page_size = reply.page_size;
	return r;
}

/* It has no data; the reference server's own client sends START's head with it all the same. */
static int stop_device(struct user_access *u, struct vfmig_error *err)
{
	uint64_t page_size = max_u64(u->logs[ACCESS_LOG_DEVICE].wire_page, VFIO_USER_PAGE_SIZE);
	const struct vfio_user_logging_start head = { page_size, 0, 0 };
	struct vfmig_error why;
	int r = control_request(u, VFIO_USER_FEATURE_LOGGING_STOP, NULL, 0, NULL, &why);

	if (r == -EINVAL)
		r = control_request(u, VFIO_USER_FEATURE_LOGGING_STOP, &head, sizeof(head), NULL, &why);
	return r < 0 ? error_set(err, r, "%s", why.message) : 0;
}

/*
 * EINVAL means "there is no such feature" as well as "not like that" here. Once it has worked, or where the server
 * says when it is asked that it has it, it is the latter.
 */
static int why_refused(struct user_access *u, struct vfmig_error *err)
{
	struct vfmig_error ignored;
	if (!u->has_logging)
		u->has_logging = user_ask_feature(u, VFIO_USER_FEATURE_PROBE | VFIO_USER_FEATURE_SET |
						     VFIO_USER_FEATURE_LOGGING_START, NULL, 0, &ignored) == 0;
	return u->has_logging ? -EINVAL : error_prefix(err, -EOPNOTSUPP, "not supported");
}

/* START with these ranges, few enough for a message. */
static int start_merged(struct user_access *u, const struct access_range *ranges, size_t count, uint64_t *page_size,
			struct vfmig_error *err)
{
	struct {
		struct vfio_user_logging_start start;
		struct vfio_user_logging_range ranges[VFIO_USER_MAX_RANGES];
	} data;

	data.start = (struct vfio_user_logging_start) { *page_size, (uint32_t)count, 0 };
	for (size_t i = 0; i < count; i++)
		data.ranges[i] = (struct vfio_user_logging_range) { ranges[i].iova, ranges[i].length };
	int r = user_absent(control_request(u, VFIO_USER_FEATURE_LOGGING_START, &data,
					    sizeof(data.start) + count * sizeof(data.ranges[0]), page_size, err));
	if (r == -EINVAL)
		r = why_refused(u, err);
	if (r < 0)
		return r;
	u->has_logging = true;
	r = check_page_size(*page_size, -EPROTO, err);
	if (r < 0)
		(void)stop_device(u, NULL);
	return r;
}

static int start_device(struct user_access *u, const struct access_range *ranges, size_t count, uint64_t *page_size,
			struct vfmig_error *err)
{
	struct access_range *merged = calloc(count + 1, sizeof(*merged));
	if (!merged)
		return error_errno(err, -ENOMEM, "%zu ranges", count);
	if (count)
		memcpy(merged, ranges, count * sizeof(*merged));
	int r = ranges_merge(merged, &count, *page_size, VFIO_USER_MAX_RANGES);
	if (r < 0)
		error_errno(err, r, "its ranges");
	else
		r = start_merged(u, merged, count, page_size, err);
	free(merged);
	return r;
}

/* The bitmap is of whole words; of a server that counts bytes the last word may be short. */
static int report_device(struct user_access *u, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t bytes,
			 struct vfmig_error *err)
{
	struct vfio_user_logging_report ask = { iova, length, page_size };
	struct {
		struct vfio_user_feature feature;
		struct vfio_user_logging_report report;
	} reply;
	struct vfio_user_feature feature = {
		(uint32_t)(sizeof(reply) + bytes),
		VFIO_USER_FEATURE_GET | VFIO_USER_FEATURE_LOGGING_REPORT,
	};
	struct user_request q = {
		.command = VFIO_USER_DEVICE_FEATURE,
		.body = &feature,
		.body_length = sizeof(feature),
		.data = &ask,
		.data_length = sizeof(ask),
		.reply = &reply,
		.reply_min = sizeof(reply) + (length / page_size + 7) / 8,
		.reply_max = sizeof(reply),
		.reply_data = u->bitmap,
		.reply_data_length = bytes,
	};
	memset(u->bitmap, 0, bytes);
	int r = user_conn_request(u->conn, &q, err);
	if (r == 0)
		r = user_check_feature(reply.feature.flags, feature.flags, err);
	if (r < 0)
		return r;
	if (memcmp(&reply.report, &ask, sizeof(ask)))
		return another_range(reply.report.iova, reply.report.length, reply.report.page_size, err);
	return 0;
}

/* ------------------------------------------------------------ a v1-time server's log of its mappings */

/* The reply repeats the request, with the bitmap behind it. */
static int ask_bitmap(struct user_access *u, uint16_t command, const void *ask, void *reply, size_t length,
		      uint64_t bytes, struct vfmig_error *err)
{
	struct user_request q = {
		.command = command,
		.body = ask,
		.body_length = length,
		.reply = reply,
		.reply_min = length + bytes,
		.reply_max = length,
		.reply_data = u->bitmap,
		.reply_data_length = bytes,
	};
	return user_conn_request(u->conn, &q, err);
}

static int dirty_pages_switch(struct user_access *u, uint32_t flags, struct vfmig_error *err)
{
	struct vfio_user_dirty_pages ask = { sizeof(ask), flags }, reply;
	struct user_request q = {
		.command = VFIO_USER_DIRTY_PAGES,
		.body = &ask,
		.body_length = sizeof(ask),
		.reply = &reply, /* or nothing */
		.reply_max = sizeof(reply),
	};
	return user_conn_request(u->conn, &q, err);
}

static int start_mappings(struct user_access *u, uint64_t *page_size, struct vfmig_error *err)
{
	int r = user_absent(dirty_pages_switch(u, VFIO_USER_DIRTY_START, err));
	if (r == -EINVAL)
		r = error_prefix(err, -EOPNOTSUPP, "not supported");
	if (r == 0)
		*page_size = u->limits.page_size; /* VERSION's: such a server has no other */
	return r;
}

static int report_mappings(struct user_access *u, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t bytes,
			   struct vfmig_error *err)
{
	struct {
		struct vfio_user_dirty_pages dirty;
		struct vfio_user_dirty_range range;
	} ask = {
		{ (uint32_t)(sizeof(ask) + bytes), VFIO_USER_DIRTY_GET },
		{ iova, length, { page_size, bytes } },
	}, reply;
	int r = ask_bitmap(u, VFIO_USER_DIRTY_PAGES, &ask, &reply, sizeof(ask), bytes, err);
	if (r == 0 && memcmp(&reply.range, &ask.range, sizeof(ask.range)))
		r = another_range(reply.range.iova, reply.range.size, reply.range.bitmap.page_size, err);
	return r;
}

static int unmap_with_bitmap(struct user_access *u, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t bytes,
			     struct vfmig_error *err)
{
	struct {
		struct vfio_user_dma_unmap unmap;
		struct vfio_user_bitmap bitmap;
	} ask = {
		{ (uint32_t)(sizeof(ask) + bytes), VFIO_USER_UNMAP_BITMAP, iova, length },
		{ page_size, bytes },
	}, reply;
	int r = ask_bitmap(u, VFIO_USER_DMA_UNMAP, &ask, &reply, sizeof(ask), bytes, err);
	if (r == 0 && (reply.unmap.iova != iova || reply.unmap.size != length ||
		       memcmp(&reply.bitmap, &ask.bitmap, sizeof(ask.bitmap))))
		r = another_range(reply.unmap.iova, reply.unmap.size, reply.bitmap.page_size, err);
	return r;
}

/* ------------------------------------------------------------ both */

/* A reply has so much room for a bitmap. v1-time servers count all of their body. */
static uint64_t most_bitmap(const struct user_access *u, enum access_log log)
{
	uint64_t most = u->limits.max_data, around = log == ACCESS_LOG_MAPPINGS ? 64 : 0;
	return most > around + 8 ? (most - around) / 8 * 8 : 8;
}

/* Takes the reply's bitmap, whose first page lies `offset` behind the first of `bitmap` (both: a multiple of 64 of
 * them when their pages are alike). */
static int merge_bitmap(const struct user_access *u, uint64_t offset, uint64_t pages, uint64_t wire_page,
			uint64_t page_size, uint64_t *bitmap, struct vfmig_error *err)
{
	if (pages % 64 && u->bitmap[pages / 64] >> pages % 64)
		return error_set(err, -EPROTO, "the server's bitmap of %llu pages has bits behind the last one",
				 (unsigned long long)pages);
	for (uint64_t word = 0; word * 64 < pages; word++) {
		uint64_t bits = u->bitmap[word];
		if (wire_page == page_size) {
			bitmap[offset / page_size / 64 + word] |= bits;
			continue;
		}
		for (; bits; bits &= bits - 1) {
			uint64_t n = word * 64 + (uint64_t)__builtin_ctzll(bits);
			n = (offset + n * wire_page) / page_size;
			bitmap[n / 64] |= UINT64_C(1) << n % 64;
		}
	}
	return 0;
}

/* What the server has to say of the range, in as few requests as its messages allow: it may refuse a part of a
 * mapping. */
static int ask_server(struct user_access *u, enum access_log log, uint64_t iova, uint64_t length, uint64_t *bitmap,
		      struct vfmig_error *err)
{
	const struct user_log *l = &u->logs[log];
	uint64_t step = most_bitmap(u, log) * 8 * l->wire_page;
	int r = reserve_bitmap(u, bitmap_bytes(min_u64(length, step), l->wire_page), err);

	for (uint64_t done = 0, n; done < length && r == 0; done += n) {
		n = min_u64(length - done, step);
		uint64_t bytes = bitmap_bytes(n, l->wire_page);
		r = log == ACCESS_LOG_DEVICE ? report_device(u, iova + done, n, l->wire_page, bytes, err)
					     : report_mappings(u, iova + done, n, l->wire_page, bytes, err);
		if (r == 0)
			r = merge_bitmap(u, done, n / l->wire_page, l->wire_page, l->page_size, bitmap, err);
	}
	return user_absent(r);
}

static int check_range(const struct user_access *u, enum access_log log, uint64_t iova, uint64_t length,
		       uint64_t page_size, struct vfmig_error *err)
{
	const struct user_log *l = &u->logs[log];

	if (!l->started)
		return error_set(err, -EINVAL, "no log of written pages was started");
	if (page_size != l->page_size || length == 0 || iova > UINT64_MAX - length || (iova | length) % page_size)
		return error_set(err, -EINVAL, "written pages of 0x%llx bytes at 0x%llx in pages of 0x%llx, expected "
				 "were 0x%llx", (unsigned long long)length, (unsigned long long)iova,
				 (unsigned long long)page_size, (unsigned long long)l->page_size);
	return 0;
}

static bool any_started(const struct user_access *u)
{
	return u->logs[ACCESS_LOG_DEVICE].started || u->logs[ACCESS_LOG_MAPPINGS].started;
}

int user_dirty_start(struct access *a, enum access_log log, const struct access_range *ranges, size_t count,
		     uint64_t *page_size, struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	uint64_t wire_page = *page_size;
	struct vfmig_error why;

	if (u->logs[log].started)
		return error_set(err, -EINVAL, "the log of written pages was started before");
	int r = check_page_size(*page_size, -EINVAL, err);
	/* Before the server's: nothing may be written between the two. */
	if (r == 0 && !any_started(u))
		r = user_dma_mark(u->dma, true, err);
	if (r < 0)
		return r;
	r = log == ACCESS_LOG_DEVICE ? start_device(u, ranges, count, &wire_page, &why)
				     : start_mappings(u, &wire_page, &why);
	bool remote = r == 0;
	if (r == -EOPNOTSUPP && log == ACCESS_LOG_MAPPINGS && !user_dma_shared(u->dma, 0, UINT64_MAX)) {
		wire_page = VFIO_USER_PAGE_SIZE; /* all that is written comes through here */
		r = 0;
	}
	if (r < 0) {
		if (!any_started(u))
			user_dma_mark(u->dma, false, NULL);
		return error_set(err, r, "starting a log of written pages: %s", why.message);
	}
	u->logs[log] = (struct user_log) { true, remote, max_u64(*page_size, wire_page), wire_page };
	*page_size = u->logs[log].page_size;
	return 0;
}

int user_dirty_report(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
		      uint64_t *bitmap, struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	int r = check_range(u, log, iova, length, page_size, err);

	if (r == 0 && u->logs[log].remote && user_dma_shared(u->dma, iova, length))
		r = ask_server(u, log, iova, length, bitmap, err);
	if (r < 0)
		return error_prefix(err, r, "written pages of 0x%llx bytes at IOVA 0x%llx", (unsigned long long)length,
				    (unsigned long long)iova);
	user_dma_report(u->dma, iova, length, page_size, bitmap);
	return 0;
}

int user_dirty_stop(struct access *a, enum access_log log, struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	int r = 0;

	if (!u->logs[log].started)
		return error_set(err, -EINVAL, "no log of written pages was started");
	if (u->logs[log].remote)
		r = log == ACCESS_LOG_DEVICE ? stop_device(u, err) : dirty_pages_switch(u, VFIO_USER_DIRTY_STOP, err);
	u->logs[log].started = false;
	if (!any_started(u))
		user_dma_mark(u->dma, false, NULL);
	return r < 0 ? error_prefix(err, user_absent(r), "stopping the log of written pages") : 0;
}

/* Unmaps and reports in one request. 1: the server will not, or the bitmap is too large for a message. */
static int unmap_at_once(struct user_access *u, uint64_t iova, uint64_t length, uint64_t *bitmap,
			 struct vfmig_error *err)
{
	struct vfmig_error why;
	const struct user_log *l = &u->logs[ACCESS_LOG_MAPPINGS];
	uint64_t bytes = bitmap_bytes(length, l->wire_page);

	if (bytes > most_bitmap(u, ACCESS_LOG_MAPPINGS))
		return 1;
	int r = reserve_bitmap(u, bytes, err);
	if (r < 0)
		return r;
	r = unmap_with_bitmap(u, iova, length, l->wire_page, bytes, &why);
	if (r < 0)
		return user_conn_lost(r) ? error_set(err, r, "%s", why.message) : 1;
	if (merge_bitmap(u, 0, length / l->wire_page, l->wire_page, l->page_size, bitmap, &why) < 0)
		set_all(bitmap, length / l->page_size); /* it is unmapped all the same */
	return 0;
}

/*
 * The device's log goes with the mapping at the reference server, and elsewhere it may stay: what cannot be known
 * any more counts as written.
 */
int user_dma_unmap_dirty(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
			 uint64_t *bitmap, struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	struct vfmig_error ignored;
	int r = check_range(u, log, iova, length, page_size, err);

	if (r == 0)
		r = user_check_mapping(u, iova, length, err);
	if (r < 0)
		return r;
	bool remote = u->logs[log].remote && user_dma_shared(u->dma, iova, length);
	r = remote && log == ACCESS_LOG_MAPPINGS ? unmap_at_once(u, iova, length, bitmap, err) : 1;
	if (r == 1) {
		r = user_unmap_request(u, iova, length, err);
		if (r == 0 && remote &&
		    (log == ACCESS_LOG_MAPPINGS || ask_server(u, log, iova, length, bitmap, &ignored) < 0))
			set_all(bitmap, length / page_size);
	}
	if (r < 0)
		return error_prefix(err, user_absent(r), "taking back 0x%llx bytes at IOVA 0x%llx",
				    (unsigned long long)length, (unsigned long long)iova);
	user_dma_remove(u->dma, iova, length, page_size, bitmap);
	return 0;
}
