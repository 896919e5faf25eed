/* SPDX-License-Identifier: BSD-3-Clause */
/* server_requests.c: a vfio-user client's requests, checked and given to the device. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "sim/server_internal.h"

#define MAX_MAPPINGS 1024
#define MAX_IRQS 2048u /* of one index: what MSI-X can have */

static int put_body(struct reply *r, const void *body, size_t length)
{
	memcpy(r->body, body, length);
	r->body_length = length;
	return 0;
}

static int bad(struct vfmig_error *err, const char *what)
{
	return error_set(err, -EINVAL, "%s", what);
}

/* A client that would take its twin socket gets one. */
static int offer_twin(struct server *s, struct vfmig_error *err)
{
	int fds[2];

	if (s->options.no_twin || !s->client.limits.twin || s->client.limits.max_fds == 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return error_errno(err, -errno, "twin socket");
	s->client.twin_fd = fds[1];
	pthread_mutex_lock(&s->lock);
	s->twin_fd = fds[0];
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int handle_version(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_version version;

	memcpy(&version, m->body, sizeof(version));
	if (version.major != VFIO_USER_MAJOR)
		return error_set(err, -EPROTO, "it speaks version %u.%u", version.major, version.minor);
	if (user_limits_parse((const char *)m->body + sizeof(version), m->length - sizeof(version), &s->client.limits,
			      err) < 0)
		return -EPROTO;
	int e = offer_twin(s, err);
	if (e < 0)
		return e;
	const struct user_announcement us = {
		.max_fds = s->options.no_fds ? 0 : VFIO_USER_MAX_FDS,
		.whole_messages = !s->options.no_whole_messages,
		.twin = s->client.twin_fd >= 0,
	};
	char *ours = user_limits_format(&us);
	if (!ours)
		return error_errno(err, -ENOMEM, "VERSION");
	r->fd = s->client.twin_fd;
	r->data_length = strlen(ours) + 1;
	memcpy(s->buffer, ours, r->data_length);
	r->data = s->buffer;
	free(ours);
	s->client.negotiated = true;
	version.minor = (uint16_t)min_u64(version.minor, VFIO_USER_MINOR);
	return put_body(r, &version, sizeof(version));
}

static int handle_device_info(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct access_device_info device = { 0 };
	struct vfio_user_device_info info;

	memcpy(&info, m->body, sizeof(info));
	if (info.argsz < sizeof(info))
		return bad(err, "argsz is too small");
	int e = access_device_info(s->device, &device, err);
	if (e < 0)
		return e;
	info = (struct vfio_user_device_info) { sizeof(info), device.flags, device.num_regions, device.num_irqs };
	return put_body(r, &info, sizeof(info));
}

/* Does it need saying where the region can be mapped? */
static bool is_sparse(const struct access_region_info *info)
{
	return info->num_areas > 0 && !(info->num_areas == 1 && info->areas[0].size == info->size);
}

static size_t caps_length(const struct access_region_info *info)
{
	size_t length = info->has_type ? sizeof(struct vfio_user_cap_type) : 0;
	if (is_sparse(info))
		length += sizeof(struct vfio_user_cap_sparse) + info->num_areas * sizeof(struct vfio_user_cap_area);
	return length;
}

static void put_caps(const struct access_region_info *info, uint8_t *p)
{
	uint32_t next = sizeof(struct vfio_user_region_info);

	if (info->has_type) {
		struct vfio_user_cap_type cap = { { VFIO_USER_CAP_TYPE, 1, 0 }, info->type, info->subtype };
		next += (uint32_t)sizeof(cap);
		cap.header.next = is_sparse(info) ? next : 0;
		memcpy(p, &cap, sizeof(cap));
		p += sizeof(cap);
	}
	if (!is_sparse(info))
		return;
	struct vfio_user_cap_sparse cap = { { VFIO_USER_CAP_SPARSE_MMAP, 1, 0 }, (uint32_t)info->num_areas, 0 };
	memcpy(p, &cap, sizeof(cap));
	p += sizeof(cap);
	for (size_t i = 0; i < info->num_areas; i++) {
		struct vfio_user_cap_area area = { info->areas[i].offset, info->areas[i].size };
		memcpy(p, &area, sizeof(area));
		p += sizeof(area);
	}
}

static int put_region_info(struct server *s, const struct access_region_info *info, uint32_t argsz, int fd,
			   struct reply *r, struct vfmig_error *err)
{
	size_t caps = caps_length(info);
	struct vfio_user_region_info out = {
		.argsz = (uint32_t)(sizeof(out) + caps),
		.flags = info->flags & (VFIO_USER_REGION_FLAG_READ | VFIO_USER_REGION_FLAG_WRITE),
		.index = info->index,
		.size = info->size,
	};
	if (caps > VFIO_USER_MAX_REGION_INFO - sizeof(out))
		return error_set(err, -ENOSPC, "the region has too many areas");
	if (info->num_areas)
		out.flags |= VFIO_USER_REGION_FLAG_MMAP;
	if (argsz >= out.argsz) {
		r->fd = fd;
		if (caps) {
			out.flags |= VFIO_USER_REGION_FLAG_CAPS;
			out.cap_offset = sizeof(out);
			put_caps(info, s->buffer);
			r->data = s->buffer;
			r->data_length = caps;
		}
	}
	return put_body(r, &out, sizeof(out));
}

static int handle_region_info(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct access_region_info region = { 0 };
	struct vfio_user_region_info info;

	memcpy(&info, m->body, sizeof(info));
	if (info.argsz < sizeof(info))
		return bad(err, "argsz is too small");
	int e = access_region_info(s->device, info.index, &region, err);
	if (e < 0)
		return e;
	int fd = region.num_areas && s->hooks->region_fd ? s->hooks->region_fd(s->opaque, info.index) : -1;
	if (fd < 0 || s->client.limits.max_fds == 0)
		region.num_areas = 0; /* nobody can map without one */
	e = put_region_info(s, &region, info.argsz, region.num_areas ? fd : -1, r, err);
	access_region_info_clear(&region);
	return e;
}

static int handle_irq_info(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct access_irq_info irq = { 0 };
	struct vfio_user_irq_info info;

	memcpy(&info, m->body, sizeof(info));
	if (info.argsz < sizeof(info))
		return bad(err, "argsz is too small");
	int e = access_irq_info(s->device, info.index, &irq, err);
	if (e < 0)
		return e;
	info.argsz = sizeof(info);
	info.flags = irq.flags;
	info.count = irq.count;
	return put_body(r, &info, sizeof(info));
}

static int set_eventfds(struct server *s, const struct vfio_user_irq_set *set, const struct user_fds *fds,
			struct vfmig_error *err)
{
	int eventfds[MAX_IRQS];

	if (fds->count != 0 && fds->count != set->count)
		return error_set(err, -EINVAL, "%zu fds for %u interrupts", fds->count, set->count);
	for (uint32_t i = 0; i < set->count; i++)
		eventfds[i] = fds->count ? fds->fd[i] : -1;
	int e = access_set_irqs(s->device, set->index, set->start, set->count, eventfds, err);
	if (e == 0)
		s->client.irqs |= UINT64_C(1) << set->index;
	return e;
}

static int handle_set_irqs(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct access_irq_info irq = { 0 };
	struct vfio_user_irq_set set;

	(void)r;
	memcpy(&set, m->body, sizeof(set));
	if (set.argsz < sizeof(set) || set.index >= 64)
		return bad(err, "no such interrupt");
	int e = access_irq_info(s->device, set.index, &irq, err);
	if (e < 0)
		return e;
	if (!range_inside(set.start, set.count, irq.count) || set.count > MAX_IRQS)
		return error_set(err, -EINVAL, "interrupts %u from %u of %u", set.count, set.start, irq.count);
	if (set.flags == (VFIO_USER_IRQ_DATA_NONE | VFIO_USER_IRQ_ACTION_TRIGGER) && set.count == 0)
		return access_set_irqs(s->device, set.index, 0, 0, NULL, err);
	if (set.flags == (VFIO_USER_IRQ_DATA_EVENTFD | VFIO_USER_IRQ_ACTION_TRIGGER) && set.count > 0)
		return set_eventfds(s, &set, &m->fds, err);
	return error_set(err, -EINVAL, "interrupt flags 0x%x", set.flags);
}

static int handle_region_read(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_region_io io;

	memcpy(&io, m->body, sizeof(io));
	if (io.count > VFIO_USER_MAX_DATA)
		return bad(err, "more bytes than max_data_xfer_size");
	int e = io.count ? access_region_read(s->device, io.region, io.offset, s->buffer, io.count, err) : 0;
	if (e < 0)
		return e;
	r->data = s->buffer;
	r->data_length = io.count;
	return put_body(r, &io, sizeof(io));
}

static int handle_region_write(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_region_io io;

	memcpy(&io, m->body, sizeof(io));
	if (io.count != m->length - sizeof(io))
		return error_set(err, -EINVAL, "%u bytes announced, %zu sent", io.count, m->length - sizeof(io));
	const uint8_t *data = m->body + sizeof(io);
	int e = io.count ? access_region_write(s->device, io.region, io.offset, data, io.count, err) : 0;
	return e < 0 ? e : put_body(r, &io, sizeof(io));
}

static int check_mapping(const struct client *c, const struct vfio_user_dma_map *map, struct vfmig_error *err)
{
	const uint32_t access = VFIO_USER_DMA_FLAG_READ | VFIO_USER_DMA_FLAG_WRITE;

	if (map->argsz < sizeof(*map) || !(map->flags & access) || (map->flags & ~(access | VFIO_USER_DMA_FLAG_MMAP)))
		return bad(err, "argsz or flags");
	if (map->size == 0 || map->iova > UINT64_MAX - map->size)
		return bad(err, "that is no range");
	if (c->num_mappings == MAX_MAPPINGS)
		return error_set(err, -ENOSPC, "more than %d mappings", MAX_MAPPINGS);
	for (const struct client_mapping *o = c->mappings; o; o = o->next)
		if (map->iova < o->iova + o->size && o->iova < map->iova + map->size)
			return error_set(err, -EEXIST, "it overlaps an earlier one");
	return 0;
}

static int handle_dma_map(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_dma_map map;

	(void)r;
	memcpy(&map, m->body, sizeof(map));
	int fd = m->fds.count ? m->fds.fd[0] : -1;
	int e = check_mapping(&s->client, &map, err);
	if (e == 0 && fd >= 0)
		e = user_file_check(fd, map.offset, map.size, err);
	if (e < 0)
		return e;
	struct client_mapping *mapping = calloc(1, sizeof(*mapping));
	if (!mapping)
		return error_errno(err, -ENOMEM, "mapping");
	e = access_dma_map(s->device, map.iova, map.size, fd, map.offset,
			   map.flags & (VFMIG_DMA_READ | VFMIG_DMA_WRITE), err);
	if (e < 0) {
		free(mapping);
		return e;
	}
	*mapping = (struct client_mapping) { s->client.mappings, map.iova, map.size };
	s->client.mappings = mapping;
	s->client.num_mappings++;
	return 0;
}

static int unmap_one(struct server *s, struct client_mapping **at, uint64_t *bitmap, struct vfmig_error *err)
{
	struct client_mapping *mapping = *at;
	int e = bitmap ? access_dma_unmap_dirty(s->device, ACCESS_LOG_MAPPINGS, mapping->iova, mapping->size,
						s->client.logs[ACCESS_LOG_MAPPINGS], bitmap, err)
		       : access_dma_unmap(s->device, mapping->iova, mapping->size, err);

	*at = mapping->next;
	s->client.num_mappings--;
	free(mapping);
	return e;
}

static int unmap_all(struct server *s, struct vfmig_error *err)
{
	int e = 0;
	while (s->client.mappings) {
		int one = unmap_one(s, &s->client.mappings, NULL, err);
		e = e ? e : one;
	}
	return e;
}

int server_unmap_range(struct server *s, uint64_t iova, uint64_t size, uint64_t *bitmap, struct vfmig_error *err)
{
	struct client_mapping **at = &s->client.mappings;
	while (*at && ((*at)->iova != iova || (*at)->size != size))
		at = &(*at)->next;
	return *at ? unmap_one(s, at, bitmap, err) : error_set(err, -ENOENT, "there is no such mapping");
}

static int handle_dma_unmap(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_dma_unmap unmap;
	int e;

	memcpy(&unmap, m->body, sizeof(unmap));
	if (unmap.argsz < m->length)
		return bad(err, "argsz is too small");
	if (unmap.flags == VFIO_USER_UNMAP_BITMAP)
		return server_unmap_with_bitmap(s, m, r, err);
	if (m->length > sizeof(unmap))
		return bad(err, "more bytes than that takes");
	if (unmap.flags == VFIO_USER_UNMAP_ALL && unmap.iova == 0 && unmap.size == 0)
		e = unmap_all(s, err);
	else if (unmap.flags == 0)
		e = server_unmap_range(s, unmap.iova, unmap.size, NULL, err);
	else
		e = error_set(err, -EINVAL, "flags 0x%x", unmap.flags);
	return e < 0 ? e : put_body(r, &unmap, sizeof(unmap));
}

static int handle_reset(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	(void)m;
	(void)r;
	return access_reset(s->device, err);
}

/* Features whose data is only numbers. The others of the ioctl's hold pointers, which a client must never set. */
static bool is_plain(uint32_t index)
{
	return index == VFIO_USER_FEATURE_MIGRATION || index == VFIO_USER_FEATURE_MIG_DATA_SIZE;
}

static int device_state(struct server *s, uint32_t flags, uint8_t *data, struct vfmig_error *err)
{
	struct vfio_user_device_state state;

	memcpy(&state, data, sizeof(state));
	if (flags & VFIO_USER_FEATURE_SET)
		return access_mig_state_set(s->device, state.state, err);
	int e = access_mig_state_get(s->device, &state.state, err);
	state.data_fd = 0;
	memcpy(data, &state, sizeof(state));
	return e;
}

static int handle_feature(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_feature feature;
	size_t length = m->length - sizeof(feature);
	int e;

	memcpy(&feature, m->body, sizeof(feature));
	uint32_t index = feature.flags & VFIO_USER_FEATURE_MASK;
	uint32_t ops = feature.flags & (VFIO_USER_FEATURE_GET | VFIO_USER_FEATURE_SET);
	if (feature.argsz < m->length || !ops)
		return bad(err, "argsz or flags");
	if (server_is_logging(index)) {
		e = server_handle_logging(s, &feature, m->body + sizeof(feature), length, r, err);
		return e == -EOPNOTSUPP ? -EINVAL : e;
	}
	memcpy(s->buffer, m->body + sizeof(feature), length);
	bool probe = feature.flags & VFIO_USER_FEATURE_PROBE;
	if (is_plain(index) || (probe && index == VFIO_USER_FEATURE_MIG_DEVICE_STATE))
		e = access_feature(s->device, feature.flags, s->buffer, length, err);
	else if (index != VFIO_USER_FEATURE_MIG_DEVICE_STATE)
		e = bad(err, "no such feature");
	else if (length < sizeof(struct vfio_user_device_state))
		e = bad(err, "too short for a device state");
	else
		e = device_state(s, feature.flags, s->buffer, err);
	if (e < 0)
		return e == -EOPNOTSUPP ? -EINVAL : e; /* as the reference server says it */
	r->data = s->buffer;
	r->data_length = ops & VFIO_USER_FEATURE_GET ? length : 0;
	return put_body(r, &feature, sizeof(feature));
}

static int handle_mig_data_read(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_mig_data io;

	memcpy(&io, m->body, sizeof(io));
	if (io.size > VFIO_USER_MAX_DATA)
		return bad(err, "more bytes than max_data_xfer_size");
	memset(s->buffer, 0, io.size);
	ssize_t n = access_mig_data_read(s->device, s->buffer, io.size, err);
	if (n < 0 && n != -EAGAIN)
		return (int)n;
	r->data = s->buffer;
	r->data_length = io.size; /* always as long as what was asked for */
	io.size = n == -EAGAIN ? 0 : (uint32_t)n;
	return put_body(r, &io, sizeof(io));
}

static int handle_mig_data_write(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	struct vfio_user_mig_data io;

	(void)r;
	memcpy(&io, m->body, sizeof(io));
	if (io.size != m->length - sizeof(io))
		return error_set(err, -EINVAL, "%u bytes announced, %zu sent", io.size, m->length - sizeof(io));
	for (uint32_t done = 0; done < io.size;) {
		ssize_t n = access_mig_data_write(s->device, m->body + sizeof(io) + done, io.size - done, err);
		if (n <= 0)
			return n < 0 ? (int)n : error_set(err, -EIO, "the device takes no more");
		done += (uint32_t)n;
	}
	return 0;
}

#define FEATURE_DATA_MAX 8192u /* the largest is LOGGING_START's */
#define EXACTLY(type, handler) { sizeof(type), sizeof(type), handler }

/* How many bytes a request's body has, and what does it. */
static const struct request_kind {
	size_t least, most;
	int (*handle)(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err);
} kinds[] = {
	[VFIO_USER_VERSION] = { sizeof(struct vfio_user_version), VFIO_USER_MAX_VERSION, handle_version },
	[VFIO_USER_DMA_MAP] = EXACTLY(struct vfio_user_dma_map, handle_dma_map),
	[VFIO_USER_DMA_UNMAP] = { sizeof(struct vfio_user_dma_unmap),
				  sizeof(struct vfio_user_dma_unmap) + sizeof(struct vfio_user_bitmap),
				  handle_dma_unmap },
	[VFIO_USER_DEVICE_GET_INFO] = EXACTLY(struct vfio_user_device_info, handle_device_info),
	[VFIO_USER_DEVICE_GET_REGION_INFO] = EXACTLY(struct vfio_user_region_info, handle_region_info),
	[VFIO_USER_DEVICE_GET_IRQ_INFO] = EXACTLY(struct vfio_user_irq_info, handle_irq_info),
	[VFIO_USER_DEVICE_SET_IRQS] = EXACTLY(struct vfio_user_irq_set, handle_set_irqs),
	[VFIO_USER_REGION_READ] = EXACTLY(struct vfio_user_region_io, handle_region_read),
	[VFIO_USER_REGION_WRITE] = { sizeof(struct vfio_user_region_io),
				     sizeof(struct vfio_user_region_io) + VFIO_USER_MAX_DATA, handle_region_write },
	[VFIO_USER_DEVICE_RESET] = { 0, 0, handle_reset },
	[VFIO_USER_DIRTY_PAGES] = { sizeof(struct vfio_user_dirty_pages),
				    sizeof(struct vfio_user_dirty_pages) + sizeof(struct vfio_user_dirty_range),
				    server_handle_dirty_pages },
	[VFIO_USER_DEVICE_FEATURE] = { sizeof(struct vfio_user_feature),
				       sizeof(struct vfio_user_feature) + FEATURE_DATA_MAX, handle_feature },
	[VFIO_USER_MIG_DATA_READ] = EXACTLY(struct vfio_user_mig_data, handle_mig_data_read),
	[VFIO_USER_MIG_DATA_WRITE] = { sizeof(struct vfio_user_mig_data),
				       sizeof(struct vfio_user_mig_data) + VFIO_USER_MAX_DATA, handle_mig_data_write },
};

int server_handle(struct server *s, struct message *m, struct reply *r, struct vfmig_error *err)
{
	uint32_t command = m->header.command;

	if (s->client.negotiated == (command == VFIO_USER_VERSION))
		return s->client.negotiated ? bad(err, "VERSION has come before") :
					      error_set(err, -EPROTO, "it did not begin with VERSION");
	const struct request_kind *kind = command < sizeof(kinds) / sizeof(kinds[0]) ? &kinds[command] : NULL;
	if (!kind || !kind->handle)
		return bad(err, "not known here");
	if (m->length < kind->least || m->length > kind->most)
		return error_set(err, -EINVAL, "%zu bytes, expected were %zu to %zu", m->length, kind->least,
				 kind->most);
	return kind->handle(s, m, r, err);
}

void server_forget_client(struct server *s)
{
	server_stop_logs(s);
	unmap_all(s, NULL);
	for (uint32_t i = 0; i < 64; i++)
		if (s->client.irqs & UINT64_C(1) << i)
			access_set_irqs(s->device, i, 0, 0, NULL, NULL);
	if (s->client.twin_fd >= 0)
		close(s->client.twin_fd);
	s->client = (struct client) { .twin_fd = -1 };
}
