/* SPDX-License-Identifier: BSD-3-Clause */
/* user.c: reaches a device through a vfio-user socket. */
#include "device/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "device/identity.h"
#include "device/user_access.h"
#include "device/user_dma.h"

static int user_device_info(struct access *a, struct access_device_info *ret, struct vfmig_error *err)
{
	struct vfio_user_device_info ask = { .argsz = sizeof(ask) }, info;
	uint8_t more[8]; /* newer servers have cap_offset and padding behind it */
	struct user_request q = {
		.command = VFIO_USER_DEVICE_GET_INFO,
		.body = &ask,
		.body_length = sizeof(ask),
		.reply = &info,
		.reply_min = sizeof(info),
		.reply_max = sizeof(info),
		.reply_data = more,
		.reply_data_length = sizeof(more),
	};
	int r = user_conn_request(user_of(a)->conn, &q, err);
	if (r == -EINVAL) {
		r = user_refused_device_info(user_of(a), ret, err);
		if (r == 0)
			return 0;
	}
	if (r < 0)
		return error_prefix(err, user_absent(r), "device info");
	if (info.num_regions > VFIO_USER_MAX_REGIONS)
		return error_set(err, -EPROTO, "device info: %u regions, expected were at most %u", info.num_regions,
				 VFIO_USER_MAX_REGIONS);
	ret->flags = info.flags;
	ret->num_regions = info.num_regions;
	ret->num_irqs = info.num_irqs;
	return 0;
}

/* Remembers the region's fd (takes it, also on failure). */
static int remember_region(struct user_access *u, uint32_t index, const struct user_region *region,
			   struct vfmig_error *err)
{
	if (index >= u->num_regions) {
		struct user_region *regions = reallocarray(u->regions, index + 1, sizeof(*regions));
		if (!regions) {
			close(region->fd);
			return error_errno(err, -ENOMEM, "region %u", index);
		}
		u->regions = regions;
		for (uint32_t i = u->num_regions; i <= index; i++)
			u->regions[i] = (struct user_region) { .fd = -1 };
		u->num_regions = index + 1;
	}
	if (u->regions[index].fd >= 0)
		close(u->regions[index].fd);
	u->regions[index] = *region;
	return 0;
}

/* Asks once, with room for argsz bytes; *ret_fd is the caller's. */
static int ask_region_info(struct user_access *u, uint32_t index, uint8_t *body, uint32_t argsz, size_t *ret_length,
			   int *ret_fd, struct vfmig_error *err)
{
	struct vfio_user_region_info ask = { .argsz = argsz, .index = index };
	struct user_request q = {
		.command = VFIO_USER_DEVICE_GET_REGION_INFO,
		.body = &ask,
		.body_length = sizeof(ask),
		.reply = body,
		.reply_min = sizeof(ask),
		.reply_max = argsz,
		.max_fds = 1,
	};
	int r = user_conn_request(u->conn, &q, err);
	if (r < 0)
		return error_prefix(err, user_absent(r), "region %u: info", index);
	*ret_length = q.replied;
	*ret_fd = user_fds_take(&q.reply_fds, 0);
	return 0;
}

static uint32_t needed(const uint8_t *body)
{
	struct vfio_user_region_info info;
	memcpy(&info, body, sizeof(info));
	return info.argsz;
}

/* Asks, and asks again when the server says that it has more. *ret_body is to be freed. */
static int whole_region_info(struct user_access *u, uint32_t index, uint8_t **ret_body, size_t *ret_length, int *ret_fd,
			     struct vfmig_error *err)
{
	uint32_t room = sizeof(struct vfio_user_region_info), most = VFIO_USER_MAX_REGION_INFO;
	uint8_t *body = NULL;
	int fd = -1, r;

	for (;;) {
		free(body);
		body = malloc(room);
		r = body ? ask_region_info(u, index, body, room, ret_length, &fd, err) :
			   error_errno(err, -ENOMEM, "region %u: info", index);
		if (r < 0)
			break;
		uint32_t wanted = needed(body);
		if (wanted <= room) {
			*ret_body = body;
			*ret_fd = fd;
			return 0;
		}
		if (fd >= 0)
			close(fd);
		if (wanted > most) {
			r = error_set(err, -EPROTO, "region %u: the server wants %u bytes for its info, at most are %u",
				      index, wanted, most);
			break;
		}
		room = most = wanted; /* once */
	}
	free(body);
	return r;
}

static int user_region_info(struct access *a, uint32_t index, struct access_region_info *ret, struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	struct vfio_user_region_info info;
	uint8_t *body = NULL;
	size_t length = 0;
	int fd = -1;

	if (index >= VFIO_USER_MAX_REGIONS)
		return error_set(err, -EINVAL, "region %u: there is none", index);
	int r = whole_region_info(u, index, &body, &length, &fd, err);
	if (r == -EINVAL)
		return user_refused_region_info(u, index, ret, err);
	if (r < 0)
		return r;
	memcpy(&info, body, sizeof(info));
	r = user_region_parse(body, length, fd >= 0, ret, err);
	free(body);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return r;
	}
	return remember_region(u, index, &(struct user_region) { fd, info.offset, info.size }, err);
}

static int user_irq_info(struct access *a, uint32_t index, struct access_irq_info *ret, struct vfmig_error *err)
{
	struct vfio_user_irq_info ask = { .argsz = sizeof(ask), .index = index }, info;
	struct user_request q = {
		.command = VFIO_USER_DEVICE_GET_IRQ_INFO,
		.body = &ask,
		.body_length = sizeof(ask),
		.reply = &info,
		.reply_min = sizeof(info),
		.reply_max = sizeof(info),
	};
	int r = user_conn_request(user_of(a)->conn, &q, err);
	if (r < 0)
		return error_prefix(err, user_absent(r), "interrupt %u: info", index);
	if (info.index != index)
		return error_set(err, -EPROTO, "interrupt %u: the server answered for interrupt %u", index, info.index);
	ret->flags = info.flags;
	ret->count = info.count;
	return 0;
}

static int set_irqs_once(struct user_access *u, uint32_t index, uint32_t start, uint32_t count, uint32_t data,
			 const int *fds, size_t num_fds, struct vfmig_error *err)
{
	struct vfio_user_irq_set set = {
		.argsz = sizeof(set),
		.flags = data | VFIO_USER_IRQ_ACTION_TRIGGER,
		.index = index,
		.start = start,
		.count = count,
	};
	struct user_request q = {
		.command = VFIO_USER_DEVICE_SET_IRQS,
		.body = &set,
		.body_length = sizeof(set),
		.fds = fds,
		.num_fds = num_fds,
	};
	int r = user_conn_request(u->conn, &q, err);
	return r < 0 ? error_prefix(err, user_absent(r), "interrupt %u: setting %u from %u", index, count, start) : 0;
}

/* On the wire a message has either an fd for each of its interrupts or none at
 * all: runs of fds and runs of -1 go apart, the former within max_msg_fds. */
static int user_set_irqs(struct access *a, uint32_t index, uint32_t start, uint32_t count, const int *eventfds,
			 struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	uint32_t n;
	int r = 0;

	if (count == 0)
		return set_irqs_once(u, index, start, 0, VFIO_USER_IRQ_DATA_NONE, NULL, 0, err);
	for (uint32_t i = 0; i < count && r == 0; i += n) {
		bool with_fds = eventfds[i] >= 0;
		if (with_fds && u->limits.max_fds == 0)
			return error_set(err, -EOPNOTSUPP, "interrupt %u: the server takes no fds", index);
		n = 1;
		while (i + n < count && (eventfds[i + n] >= 0) == with_fds && (!with_fds || n < u->limits.max_fds))
			n++;
		r = set_irqs_once(u, index, start + i, n, VFIO_USER_IRQ_DATA_EVENTFD, with_fds ? eventfds + i : NULL,
				  with_fds ? n : 0, err);
	}
	return r;
}

/* One message of a read (data NULL) or a write. */
static int region_io(struct user_access *u, uint32_t index, uint64_t offset, void *buffer, const void *data,
		     uint32_t length, struct vfmig_error *err)
{
	struct vfio_user_region_io io = { offset, index, length }, reply;
	struct user_request q = {
		.command = data ? VFIO_USER_REGION_WRITE : VFIO_USER_REGION_READ,
		.body = &io,
		.body_length = sizeof(io),
		.data = data,
		.data_length = data ? length : 0,
		.reply = &reply,
		.reply_min = sizeof(reply) + (data ? 0 : length),
		.reply_max = sizeof(reply),
		.reply_data = buffer,
		.reply_data_length = data ? 0 : length,
	};
	int r = user_conn_request(u->conn, &q, err);
	if (r == 0 && (reply.count != length || reply.offset != offset || reply.region != index))
		r = error_set(err, -EPROTO, "the server answered for %u bytes at 0x%llx of region %u", reply.count,
			      (unsigned long long)reply.offset, reply.region);
	if (r < 0)
		return error_prefix(err, r, "region %u: %s %u bytes at 0x%llx", index, data ? "writing" : "reading",
				    length, (unsigned long long)offset);
	return 0;
}

static int user_region_read(struct access *a, uint32_t index, uint64_t offset, void *buffer, size_t length,
			    struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	int r = 0;

	for (size_t done = 0; done < length && r == 0;) {
		uint32_t n = (uint32_t)min_u64(length - done, u->limits.max_data);
		r = region_io(u, index, offset + done, (char *)buffer + done, NULL, n, err);
		done += n;
	}
	return r;
}

static int user_region_write(struct access *a, uint32_t index, uint64_t offset, const void *buffer, size_t length,
			     struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	int r = 0;

	for (size_t done = 0; done < length && r == 0;) {
		uint32_t n = (uint32_t)min_u64(length - done, user_limits_write(&u->limits));
		r = region_io(u, index, offset + done, NULL, (const char *)buffer + done, n, err);
		done += n;
	}
	return r;
}

/* The server's fd is as hostile as its messages: a file that ends before the
 * area does would kill who touches the mapping. (One that the server cuts
 * later still does; no check can see that coming.) */
static int check_region_file(const struct user_region *region, const struct access_area *area, struct vfmig_error *err)
{
	if (area->size == 0 || !range_inside(area->offset, area->size, region->size))
		return error_set(err, -EINVAL, "outside the region's 0x%llx", (unsigned long long)region->size);
	if (region->fd_offset > UINT64_MAX - area->offset)
		return error_set(err, -EPROTO, "the region begins at 0x%llx of its fd",
				 (unsigned long long)region->fd_offset);
	int r = user_file_check(region->fd, region->fd_offset + area->offset, area->size, err);
	return r == -EINVAL ? -EPROTO : r;
}

static int user_region_map(struct access *a, uint32_t index, const struct access_area *area, void **ret_address,
			   struct vfmig_error *err)
{
	struct user_access *u = user_of(a);

	if (index >= u->num_regions || u->regions[index].fd < 0)
		return error_set(err, -EOPNOTSUPP, "region %u: cannot be mapped", index);
	const struct user_region *region = &u->regions[index];
	int r = check_region_file(region, area, err);
	if (r < 0)
		return error_prefix(err, r, "region %u: mapping 0x%llx bytes at 0x%llx", index,
				    (unsigned long long)area->size, (unsigned long long)area->offset);
	void *address = mmap(NULL, area->size, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd,
			     (off_t)(region->fd_offset + area->offset));
	if (address == MAP_FAILED)
		return error_errno(err, -errno, "region %u: mapping 0x%llx bytes at 0x%llx", index,
				   (unsigned long long)area->size, (unsigned long long)area->offset);
	*ret_address = address;
	return 0;
}

static void user_region_unmap(struct access *a, void *address, const struct access_area *area)
{
	(void)a;
	munmap(address, area->size);
}

static int user_dma_map(struct access *a, uint64_t iova, uint64_t length, int fd, uint64_t offset, uint32_t flags,
			struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	struct vfio_user_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.offset = fd >= 0 ? offset : 0,
		.iova = iova,
		.size = length,
	};
	/* A server that takes no fds reaches the memory by messages. */
	const struct user_log *l = &u->logs[ACCESS_LOG_MAPPINGS];
	/* A log that is ours alone would miss what the server writes by itself. */
	bool share = fd >= 0 && u->limits.max_fds && (!l->started || l->remote);
	struct user_request q = {
		.command = VFIO_USER_DMA_MAP,
		.body = &map,
		.body_length = sizeof(map),
		.fds = &fd,
		.num_fds = share ? 1 : 0,
	};
	/* First ours: the server's DMA may come before its reply. */
	int r = user_dma_add(u->dma, iova, length, fd, offset, flags, share, err);
	if (r < 0)
		return r;
	r = user_conn_request(u->conn, &q, err);
	if (r < 0) {
		user_dma_remove(u->dma, iova, length, 0, NULL);
		return error_prefix(err, user_absent(r), "DMA mapping of 0x%llx bytes at IOVA 0x%llx",
				    (unsigned long long)length, (unsigned long long)iova);
	}
	return 0;
}

int user_check_mapping(struct user_access *u, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	if (user_dma_has(u->dma, iova, length))
		return 0;
	return error_set(err, -ENOENT, "DMA mapping of 0x%llx bytes at IOVA 0x%llx: there is none",
			 (unsigned long long)length, (unsigned long long)iova);
}

int user_unmap_request(struct user_access *u, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	struct vfio_user_dma_unmap unmap = { .argsz = sizeof(unmap), .iova = iova, .size = length }, reply;
	struct user_request q = {
		.command = VFIO_USER_DMA_UNMAP,
		.body = &unmap,
		.body_length = sizeof(unmap),
		.reply = &reply,
		.reply_min = sizeof(reply),
		.reply_max = sizeof(reply),
	};
	return user_conn_request(u->conn, &q, err);
}

static int user_dma_unmap(struct access *a, uint64_t iova, uint64_t length, struct vfmig_error *err)
{
	struct user_access *u = user_of(a);
	int r = user_check_mapping(u, iova, length, err);

	if (r < 0)
		return r;
	r = user_unmap_request(u, iova, length, err);
	if (r < 0)
		return error_prefix(err, user_absent(r), "taking back 0x%llx bytes at IOVA 0x%llx",
				    (unsigned long long)length, (unsigned long long)iova);
	user_dma_remove(u->dma, iova, length, 0, NULL);
	return 0;
}

static void user_close(struct access *a)
{
	struct user_access *u = user_of(a);

	user_conn_close(u->conn);
	user_dma_free(u->dma);
	for (uint32_t i = 0; i < u->num_regions; i++)
		if (u->regions[i].fd >= 0)
			close(u->regions[i].fd);
	free(u->regions);
	free(u->bitmap);
	free(u);
}

static int user_identify(struct access *a, struct access_identity *ret, struct vfmig_error *err)
{
	const struct user_access *u = user_of(a);

	if (!u->identity.name[0])
		return error_set(err, -EOPNOTSUPP, "its socket has no name in the file system");
	*ret = u->identity;
	return 0;
}

static const struct access_ops user_ops = {
	.kind = "vfio-user",
	.device_info = user_device_info,
	.region_info = user_region_info,
	.irq_info = user_irq_info,
	.set_irqs = user_set_irqs,
	.region_read = user_region_read,
	.region_write = user_region_write,
	.region_map = user_region_map,
	.region_unmap = user_region_unmap,
	.dma_map = user_dma_map,
	.dma_unmap = user_dma_unmap,
	.dirty_start = user_dirty_start,
	.dirty_report = user_dirty_report,
	.dirty_stop = user_dirty_stop,
	.dma_unmap_dirty = user_dma_unmap_dirty,
	.reset = user_reset,
	.mig_state_get = user_mig_state_get,
	.mig_state_set = user_mig_state_set,
	.mig_data_read = user_mig_data_read,
	.mig_data_write = user_mig_data_write,
	.feature = user_feature,
	.identify = user_identify,
	.close = user_close,
};

/* The socket for the server's requests came with VERSION, or it did not say so. */
static int take_twin(struct user_access *u, struct user_fds *fds, struct vfmig_error *err)
{
	int type = 0;
	socklen_t length = sizeof(type);

	if (!u->limits.twin)
		return 0;
	int fd = user_fds_take(fds, u->limits.twin_index);
	if (fd < 0)
		return error_set(err, -EPROTO, "VERSION's capabilities: the twin socket is fd %u of the message's %zu",
				 u->limits.twin_index, fds->count);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_STREAM) {
		close(fd);
		return error_set(err, -EPROTO, "VERSION's fd %u, its twin socket, is no stream socket",
				 u->limits.twin_index);
	}
	return user_conn_add_twin(u->conn, fd, err);
}

/* Says who we are and takes the server's limits. */
static int negotiate(struct user_access *u, struct vfmig_error *err)
{
	struct vfio_user_version ask = { VFIO_USER_MAJOR, VFIO_USER_MINOR }, version;
	const struct user_announcement us = { VFIO_USER_MAX_FDS, true, true, -1 };
	char *ours = user_limits_format(&us);
	char *theirs = malloc(VFIO_USER_MAX_VERSION);
	struct user_request q = {
		.command = VFIO_USER_VERSION,
		.body = &ask,
		.body_length = sizeof(ask),
		.data = ours,
		.data_length = ours ? strlen(ours) + 1 : 0,
		.reply = &version,
		.reply_min = sizeof(version),
		.reply_max = sizeof(version),
		.reply_data = theirs,
		.reply_data_length = VFIO_USER_MAX_VERSION,
		.max_fds = VFIO_USER_MAX_FDS,
	};
	int r = ours && theirs ? user_conn_request(u->conn, &q, err) : error_errno(err, -ENOMEM, "VERSION");
	if (r == 0 && (version.major != VFIO_USER_MAJOR || version.minor > VFIO_USER_MINOR))
		r = error_set(err, -EPROTO, "the server speaks vfio-user %u.%u, expected was %u.%u", version.major,
			      version.minor, VFIO_USER_MAJOR, VFIO_USER_MINOR);
	if (r == 0)
		r = user_limits_parse(theirs, q.replied - sizeof(version), &u->limits, err);
	if (r == 0)
		r = take_twin(u, &q.reply_fds, err);
	user_fds_close(&q.reply_fds);
	free(ours);
	free(theirs);
	return r;
}

int user_access_open(const char *path, uint32_t timeout_ms, struct access **ret, struct vfmig_error *err)
{
	int fd = -1;

	if (timeout_ms == 0)
		timeout_ms = 30000;
	struct user_access *u = calloc(1, sizeof(*u));
	if (!u)
		return error_errno(err, -ENOMEM, "connection");
	u->access.ops = &user_ops;
	snprintf(u->access.name, sizeof(u->access.name), "vfio-user:%s", path);
	int r = user_dma_new(&u->dma, err);
	if (r == 0)
		r = user_socket_connect(path, timeout_ms, &fd, err);
	if (r == 0)
		identity_of_socket(path, fd, &u->identity);
	if (r == 0)
		r = user_conn_new(fd, timeout_ms, user_dma_serve, u->dma, &u->conn, err);
	if (r == 0)
		r = negotiate(u, err);
	if (r < 0) {
		user_close(&u->access);
		return r;
	}
	*ret = &u->access;
	return 0;
}
