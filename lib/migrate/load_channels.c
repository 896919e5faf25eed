/* SPDX-License-Identifier: BSD-3-Clause */
/* load_channels.c: a load from several connections: the stream by one of them, devices' state by the others too. */
#include <string.h>

#include "base/bytes.h"
#include "migrate/load_impl.h"
#include "migrate/phases.h"

/* Whose packet is it? The STARTs of all sections have come before any. */
static int find(void *opaque, const struct multifd_packet *head, size_t *ret_taker, struct vfmig_error *err)
{
	struct vfmig_load *l = opaque;
	for (size_t i = 0; i < l->participants.count; i++) {
		const struct participant *p = &l->participants.list[i];
		if (!p->begun || p->instance_id != head->instance_id || strcmp(p->id, head->id) != 0)
			continue;
		if (!p->take_packet)
			return error_set(err, -EBADMSG, "its participant takes no packets, only a VFIO device does");
		*ret_taker = i;
		return 1;
	}
	if (l->reader && reader_is_vfio(head->id) && reader_has_section(l->reader, head->id, head->instance_id))
		return 0;
	return error_set(err, -EBADMSG, "no VFIO section of the stream has this id and instance %u",
			 head->instance_id);
}

static int take(void *opaque, size_t taker, const struct packet *packet, struct vfmig_error *err)
{
	struct vfmig_load *l = opaque;
	struct participant *p = &l->participants.list[taker];
	l->status.stop_copy_bytes += MULTIFD_STATE_HEAD + packet->length;
	int r = p->take_packet(p->opaque, packet->config, packet->data, packet->length, err);
	return r < 0 ? error_prefix(err, r, "%s: packet %u", l->link->name, packet->index) : 0;
}

int load_open_channels(struct vfmig_load *l, struct vfmig_error *err)
{
	struct channels_options opts = {
		.count = l->opts.multifd_channels,
		.max_queued = l->opts.max_queued,
		.num_takers = l->participants.count,
		.find = find,
		.take = take,
		.opaque = l,
		.refuse_memory = l->memory,
		.log = &l->log,
	};
	memcpy(opts.uuid, l->opts.multifd_uuid, sizeof(opts.uuid));
	phase_enter(&l->status, "load", VFMIG_PHASE_SETUP);
	return channels_new(l->link, &opts, &l->channels, err);
}

/* A source connects its channels before it begins. One whose packets nobody reads would wait for ever, stopped. */
int load_check_alone(struct vfmig_load *l, struct vfmig_error *err)
{
	struct vfmig_link *other;
	struct vfmig_error ignored;
	uint8_t head[4];
	if (l->channels || !l->link->ops->another || link_another(l->link, &other, &ignored) < 0)
		return 0;
	ssize_t n = link_read(other, head, sizeof(head), &ignored);
	vfmig_link_close(other);
	if (n != sizeof(head) || get_be32(head) != WIRE_MULTIFD_MAGIC)
		return 0;
	if (l->memory)
		return error_set(err, -EOPNOTSUPP,
				 "%s: the source has connected channels, too, by which memory cannot be loaded: switch "
				 "the capability multifd off at the source, or load without memory",
				 l->link->name);
	return error_set(err, -EBADMSG, "%s: the source has connected channels, too: say how many (--multifd)",
			 l->link->name);
}

/* The connection that carries the stream is known now. */
static int begin_stream(struct vfmig_load *l, struct vfmig_error *err)
{
	struct vfmig_link *stream = channels_main(l->channels);
	if (!stream)
		return -EAGAIN;
	l->link = l->handover.link = stream;
	int r = reader_new(stream, &l->reader, err);
	if (r == 0)
		reader_put_back_magic(l->reader);
	return r;
}

static int take_stream(struct vfmig_load *l, struct vfmig_error *err)
{
	if (l->stream_ended)
		return -EAGAIN;
	if (!l->reader)
		return begin_stream(l, err);
	int r = l->in_body ? load_take_body(l, err) : load_take_record(l, err);
	if (r <= 0)
		return r;
	l->stream_ended = true;
	channels_let_state_in(l->channels);
	return 0;
}

static bool all_complete(const struct vfmig_load *l)
{
	for (size_t i = 0; i < l->participants.count; i++) {
		const struct participant *p = &l->participants.list[i];
		if (p->begun && p->has_all && !p->has_all(p->opaque))
			return false;
	}
	return true;
}

/*
 * The stream goes first as far as it has come: what is on the channels is only of use after it. A
 * source that waits for an answer keeps its channels open until then; another one closes
 * them when it is done, so there one that is closed proves nothing while others are open.
 */
int load_take_any(struct vfmig_load *l, struct vfmig_error *err)
{
	int r = take_stream(l, err);
	if (r != -EAGAIN)
		return r;
	if (l->stream_ended && all_complete(l))
		return 1;
	r = channels_step(l->channels, err);
	if (r != -EAGAIN)
		return r;
	bool ended = (l->return_path_open || l->stream_ended) && !all_complete(l) &&
		     channels_ended(l->channels, l->return_path_open, err);
	return ended ? -EBADMSG : -EAGAIN;
}
