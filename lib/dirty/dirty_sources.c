/* SPDX-License-Identifier: BSD-3-Clause */
/* dirty_sources.c: a device as a source of dirty pages: its log, and what it maps meanwhile. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/ranges.h"
#include "dirty/dirty_impl.h"

typedef unsigned long long ull;

static void tell(const struct dirty_source *s, enum vfmig_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void tell(const struct dirty_source *s, enum vfmig_log_level level, const char *format, ...)
{
	char text[640], line[sizeof(text) + 512];
	va_list ap;
	if (!s->owner->log)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "%s: %s", vfmig_device_name(s->device), text);
	s->owner->log(s->owner->log_opaque, level, line);
}

/* ------------------------------------------------------------------ ranges */

static bool in_a_window(const struct dirty *d, uint64_t iova, uint64_t length)
{
	struct dirty_part part;
	for (size_t i = 0; i < d->num_windows; i++)
		if (dirty_window_part(&d->windows[i], iova, length, &part))
			return true;
	return false;
}

/* Keeps them sorted; there is room. */
static void insert(struct access_range *ranges, size_t *count, struct access_range r)
{
	size_t at = (*count)++;
	for (; at > 0 && ranges[at - 1].iova > r.iova; at--)
		ranges[at] = ranges[at - 1];
	ranges[at] = r;
}

/* What the device has mapped by us, as far as it is of the windows; by somebody else: all windows. */
static int find_ranges(struct dirty_source *s, struct vfmig_error *err)
{
	const struct dirty *d = s->owner;
	size_t most = s->device->num_dma ? s->device->num_dma : d->num_windows;
	s->num_ranges = 0;
	struct access_range *ranges = calloc(most + 1, sizeof(*ranges));
	if (!ranges)
		return error_errno(err, -ENOMEM, "dirty pages");
	free(s->ranges);
	s->ranges = ranges;
	for (size_t i = 0; i < s->device->num_dma; i++)
		if (in_a_window(d, s->device->dma[i].iova, s->device->dma[i].length))
			insert(ranges, &s->num_ranges, s->device->dma[i]);
	for (size_t i = 0; i < d->num_windows && !s->device->num_dma; i++)
		insert(ranges, &s->num_ranges, (struct access_range) { d->windows[i].iova, d->windows[i].length });
	return 0;
}

/* The ranges to be logged: those, with neighbours as one. */
static int join_ranges(struct dirty_source *s, struct vfmig_error *err)
{
	struct access_range *asked = calloc(s->num_ranges + 1, sizeof(*asked));
	size_t n = s->num_ranges;
	if (!asked)
		return error_errno(err, -ENOMEM, "dirty pages");
	memcpy(asked, s->ranges, n * sizeof(*asked));
	free(s->asked);
	s->asked = asked;
	int r = ranges_merge(asked, &n, DIRTY_PAGE, SIZE_MAX);
	s->num_asked = n;
	return r < 0 ? error_errno(err, r, "%s: the ranges that it has mapped", vfmig_device_name(s->device)) : 0;
}

static bool all_of_pages(const struct dirty_source *s, uint64_t page_size)
{
	for (size_t i = 0; i < s->num_ranges; i++)
		if ((s->ranges[i].iova | s->ranges[i].length) & (page_size - 1))
			return false;
	return true;
}

/* ------------------------------------------------------------------- start */

static int start_log(struct dirty_source *s, enum access_log log, struct vfmig_error *err)
{
	struct access *a = s->device->access;
	s->page_size = DIRTY_PAGE;
	if (!all_of_pages(s, DIRTY_PAGE))
		return error_set(err, -EOPNOTSUPP, "its memory is not of whole pages");
	int r = access_dirty_start(a, log, s->asked, s->num_asked, &s->page_size, err);
	if (r < 0)
		return r;
	s->log = log;
	s->started = true;
	s->kind = SOURCE_LOG;
	if (all_of_pages(s, s->page_size))
		return 0;
	source_stop(s);
	return error_set(err, -EOPNOTSUPP, "its log has pages of 0x%llx bytes, which its memory is not made of",
			 (ull)s->page_size);
}

/* The last resort. */
static void without_log(struct dirty_source *s, const char *why)
{
	uint64_t bytes = 0;
	s->kind = SOURCE_NO_LOG;
	for (size_t i = 0; i < s->num_ranges; i++) {
		dirty_set_unlogged(s->owner, s->ranges[i].iova, s->ranges[i].length);
		bytes += s->ranges[i].length;
	}
	tell(s, VFMIG_LOG_WARNING,
	     "nobody logs which pages it writes (%s): all of its memory, %llu MiB, is sent while it is stopped", why,
	     (ull)bytes >> 20);
}

static int start_device(struct dirty_source *s, struct vfmig_error *err)
{
	struct vfmig_error no_log = { 0 }, no_mappings = { 0 };
	char why[sizeof(no_log.message)];
	int r = find_ranges(s, err);
	if (r == 0)
		r = join_ranges(s, err);
	if (r < 0 || s->num_ranges == 0)
		return r;
	r = start_log(s, ACCESS_LOG_DEVICE, &no_log);
	if (r == -EOPNOTSUPP)
		r = start_log(s, ACCESS_LOG_MAPPINGS, &no_mappings);
	if (r == -EOPNOTSUPP) {
		snprintf(why, sizeof(why), "itself: %.200s; its mappings: %.200s", no_log.message, no_mappings.message);
		without_log(s, why);
		return 0;
	}
	if (r < 0)
		return error_set(err, r, "%s: logging which pages it writes: %s", vfmig_device_name(s->device),
				 no_mappings.message[0] ? no_mappings.message : no_log.message);
	tell(s, VFMIG_LOG_DEBUG, "pages of %llu bytes that it writes are logged by %s", (ull)s->page_size,
	     s->log == ACCESS_LOG_DEVICE ? "itself" : "what its memory is mapped through");
	return 0;
}

/* ------------------------------------------- what is mapped and unmapped meanwhile */

static void forget_range(struct dirty_source *s, uint64_t iova, uint64_t length)
{
	for (size_t i = 0; i < s->num_ranges; i++) {
		if (s->ranges[i].iova != iova || s->ranges[i].length != length)
			continue;
		memmove(&s->ranges[i], &s->ranges[i + 1], (--s->num_ranges - i) * sizeof(s->ranges[0]));
		return;
	}
}

/* What was written there until the mapping is gone is told with its end. */
static int watch_unmap(void *opaque, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	struct dirty_source *s = opaque;
	struct dirty *d = s->owner;
	struct access *a = s->device->access;
	if (!s->started || !in_a_window(d, iova, length))
		return access_dma_unmap(a, iova, length, err);
	int r = dirty_scratch(d, length / s->page_size + 1, err);
	if (r < 0)
		return r;
	r = access_dma_unmap_dirty(a, s->log, iova, length, s->page_size, d->scratch, err);
	if (r == 0)
		dirty_merge_iova(d, iova, length, s->page_size, d->scratch);
	else /* nobody knows whether it is gone, and what it took with it */
		dirty_mark_iova(d, iova, length);
	if (r == 0)
		forget_range(s, iova, length);
	return r;
}

static bool is_covered(const struct dirty_source *s, uint64_t iova, uint64_t length)
{
	if (!s->started || (iova | length) & (s->page_size - 1))
		return false;
	if (s->log == ACCESS_LOG_MAPPINGS)
		return true;
	for (size_t i = 0; i < s->num_asked; i++)
		if (iova >= s->asked[i].iova && range_inside(iova - s->asked[i].iova, length, s->asked[i].length))
			return true;
	return false;
}

static int watch_mapped(void *opaque, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	struct dirty_source *s = opaque;
	if (!s->owner->started || !in_a_window(s->owner, iova, length))
		return 0;
	if (!is_covered(s, iova, length)) {
		tell(s, VFMIG_LOG_WARNING,
		     "0x%llx bytes at IOVA 0x%llx were mapped after its log began, which does not cover them: the "
		     "memory there is sent while it is stopped", (ull)length, (ull)iova);
		dirty_set_unlogged(s->owner, iova, length);
		return 0;
	}
	struct access_range *ranges = reallocarray(s->ranges, s->num_ranges + 1, sizeof(*ranges));
	if (!ranges)
		return error_errno(err, -ENOMEM, "dirty pages");
	s->ranges = ranges;
	insert(s->ranges, &s->num_ranges, (struct access_range) { iova, length });
	return 0;
}

/* ----------------------------------------------------------------- driving */

int source_start(struct dirty_source *s, struct vfmig_error *err)
{
	if (s->kind != SOURCE_OPS) {
		s->watch = (struct device_watch) { s, watch_unmap, watch_mapped };
		return start_device(s, err);
	}
	int r = s->ops->start ? s->ops->start(s->opaque, err) : 0;
	s->started = r >= 0;
	return r < 0 ? r : 0;
}

static int sync_device(struct dirty_source *s, struct vfmig_error *err)
{
	struct dirty *d = s->owner;
	for (size_t i = 0; i < s->num_ranges; i++) {
		const struct access_range *range = &s->ranges[i];
		int r = dirty_scratch(d, range->length / s->page_size, err);
		if (r == 0)
			r = access_dirty_report(s->device->access, s->log, range->iova, range->length, s->page_size,
						d->scratch, err);
		if (r < 0)
			return error_prefix(err, r, "%s: which pages it wrote of 0x%llx bytes at IOVA 0x%llx",
					    vfmig_device_name(s->device), (ull)range->length, (ull)range->iova);
		dirty_merge_iova(d, range->iova, range->length, s->page_size, d->scratch);
	}
	return 0;
}

int source_sync(struct dirty_source *s, struct vfmig_error *err)
{
	if (!s->started)
		return 0;
	int r = s->kind == SOURCE_OPS ? (s->ops->sync ? s->ops->sync(s->opaque, err) : 0) : sync_device(s, err);
	return r < 0 ? r : 0;
}

void source_stop(struct dirty_source *s)
{
	if (s->started && s->kind == SOURCE_OPS && s->ops->stop)
		s->ops->stop(s->opaque);
	else if (s->started && s->kind != SOURCE_OPS)
		(void)access_dirty_stop(s->device->access, s->log, NULL);
	s->started = false;
}

void source_free(struct dirty_source *s)
{
	if (s->device)
		s->device->watch = NULL;
	free(s->ranges);
	free(s->asked);
	free(s);
}
