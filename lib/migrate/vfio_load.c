/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio_load.c: the load side of a VFIO device: QEMU's load handlers.
 *
 * Source: vfio_load_setup, vfio_load_state and vfio_load_cleanup of QEMU 5.2 to
 * 7.2. Differences, all on purpose: what the stream announces is counted and
 * never believed, transactions keep their size, the config record is held
 * back until the whole stream is known to be intact, and a load that fails
 * leaves nothing of itself: the device is reset or, without a reset, stopped.
 */
#include <stdlib.h>
#include <string.h>

#include "migrate/handlers.h"
#include "migrate/vfio_config.h"
#include "migrate/vfio_state.h"
#include "migrate/write_behind.h"
#include "stream/reader.h"

#define SECTION_VERSION 1u /* of QEMU 5.2 to 10.0 */

struct vfio_load {
	struct vfmig_device *device;
	struct protocol *protocol;
	struct write_behind *behind;
	const struct log *log;
	bool no_start;
	bool checking; /* verify only: the device is read, never written */

	enum vfmig_state initial;
	struct vfio_state state;
	bool touched; /* it has left `initial` */
	struct pci_config config;

	/* What has come so far. */
	struct config_record record;
	bool has_config, has_end;
	bool has_initial; /* ... and the source says so */
	bool plain;  /* the stream has no digests */
	bool sealed; /* it has a seal */
	bool by_channels; /* packets have come: nothing more by the stream itself */
	uint64_t data_bytes, data_packets;
	XXH3_state_t *digest; /* of the device's data; NULL: no channels, the stream's seal says it all */
};

/* What came could not be taken: because somebody else has reset the device, perhaps. The load is over, and the device
 * is not asked while it is written to. */
static int failed(struct vfio_load *l, int code, const char *what, struct vfmig_error *err)
{
	write_behind_drop(l->behind);
	if (l->touched && !l->checking)
		code = vfio_state_explain(&l->state, code, err);
	return error_prefix(err, code, "%s: %s", vfmig_device_name(l->device), what);
}

static int named(struct vfio_load *l, int code, const char *what, struct vfmig_error *err)
{
	return error_prefix(err, code, "%s: %s", vfmig_device_name(l->device), what);
}

static int set_state(struct vfio_load *l, enum vfmig_state state, struct vfmig_error *err)
{
	int r = vfio_state_set(&l->state, state, err);
	l->touched |= !l->state.changed;
	return r;
}

static void forget(struct vfio_load *l)
{
	l->record.length = 0;
	l->has_config = l->has_end = l->has_initial = l->by_channels = false;
	l->data_bytes = l->data_packets = 0;
	if (l->digest)
		XXH3_128bits_reset(l->digest);
}

static int load_setup(void *opaque, struct vfmig_error *err)
{
	struct vfio_load *l = opaque;
	int r = vfio_state_begin(&l->state, l->device, &l->initial, err);
	if (r == 0)
		r = pci_config_read(l->device, &l->config, err);
	if (r == 0)
		forget(l);
	if (r == 0 && !l->checking)
		r = set_state(l, VFMIG_STATE_RESUMING, err);
	return r < 0 ? named(l, r, "setup", err) : 0;
}

/*
 * What is mapped is received where it belongs, by no thread but the caller's. With digests it is not: what is in
 * the device's memory is not read back to be digested.
 */
static bool is_direct(const struct vfio_load *l)
{
	return l->protocol->mapped && !l->sealed;
}

static int begin_chunk(struct vfio_load *l, uint64_t size, struct vfmig_error *err)
{
	return l->checking   ? 0 :
	       is_direct(l)  ? l->protocol->ops->write_begin(l->protocol, size, err) :
			       write_behind_chunk(l->behind, l->protocol, size, err);
}

static int end_chunk(struct vfio_load *l, struct vfmig_error *err)
{
	return l->checking  ? 0 :
	       is_direct(l) ? l->protocol->ops->write_end(l->protocol, err) :
			      write_behind_chunk_end(l->behind, err);
}

static int write_behind(struct vfio_load *l, const uint8_t *data, size_t length, struct vfmig_error *err)
{
	int r = 0;
	while (length > 0 && r == 0) {
		size_t room;
		uint8_t *place = write_behind_place(l->behind, &room);
		size_t n = length < room ? length : room;
		if (place != data)
			memcpy(place, data, n);
		r = write_behind_put(l->behind, n, err);
		data += n;
		length -= n;
	}
	return r;
}

static void count_data(struct vfio_load *l, const uint8_t *data, size_t length)
{
	if (l->digest && !l->plain)
		XXH3_128bits_update(l->digest, data, length);
	l->data_bytes += length;
}

static int take_data(struct vfio_load *l, const struct vfio_event *event, struct vfmig_error *err)
{
	count_data(l, event->data, event->length);
	return l->checking  ? 0 :
	       is_direct(l) ? l->protocol->ops->write_piece(l->protocol, event->data, event->length, err) :
			      write_behind(l, event->data, event->length, err);
}

/* Checked at once, so that a stranger's record stops the load; restored later. */
static int take_config(struct vfio_load *l, const struct vfio_event *event, struct vfmig_error *err)
{
	if (l->has_config)
		return error_set(err, -EBADMSG, "a second config record");
	if (event->length > sizeof(l->record.bytes))
		return error_set(err, -EBADMSG, "a config record of %zu bytes, at most %zu exist", event->length,
				 sizeof(l->record.bytes));
	memcpy(l->record.bytes, event->data, event->length);
	l->record.length = event->length;
	l->has_config = true;
	return config_record_check(&l->record, &l->config, err);
}

/* Are this packet and its section what a device's state is made of? */
static int check_place(const struct vfio_load *l, const struct vfmig_section *section, const struct vfio_event *event,
		       struct vfmig_error *err)
{
	bool data = event->kind == VFIO_EVENT_DATA_BEGIN || event->kind == VFIO_EVENT_DATA;
	bool config = event->kind == VFIO_EVENT_CONFIG || event->kind == VFIO_EVENT_CONFIG_READY;
	if (section->version_id != SECTION_VERSION)
		return error_set(err, -EBADMSG, "section of version %u, expected %u", section->version_id,
				 SECTION_VERSION);
	if (section->kind == 'F' ? data || event->kind == VFIO_EVENT_SETUP : config)
		return error_set(err, -EBADMSG, "this packet does not belong into a section of kind %s",
				 section->kind == 'F' ? "FULL" : "START, PART or END");
	if (l->by_channels && (data || event->kind == VFIO_EVENT_CONFIG))
		return error_set(err, -EBADMSG, "data of a device whose state comes by channels already");
	return 0;
}

static int take_event(struct vfio_load *l, const struct vfmig_section *section, const struct vfio_event *event,
		      struct vfmig_error *err)
{
	int r = check_place(l, section, event, err);
	if (r < 0)
		return r;
	switch (event->kind) {
	case VFIO_EVENT_DATA_BEGIN:
		if (l->has_config)
			return error_set(err, -EBADMSG, "data after the config record, which ends a device's state");
		if (event->size == 0)
			return 0;
		l->data_packets++;
		return begin_chunk(l, event->size, err);
	case VFIO_EVENT_DATA:
		return take_data(l, event, err);
	case VFIO_EVENT_DATA_END:
		return end_chunk(l, err);
	case VFIO_EVENT_CONFIG:
		return take_config(l, event, err);
	case VFIO_EVENT_INIT_DATA_SENT:
	case VFIO_EVENT_END:
		l->has_initial |= event->kind == VFIO_EVENT_INIT_DATA_SENT;
		l->has_end |= section->kind == 'E';
		return l->checking ? 0 : write_behind_flush(l->behind, err);
	case VFIO_EVENT_CONFIG_READY: /* of a record that a channel brings, if it has not yet */
	case VFIO_EVENT_SETUP:
		return 0;
	}
	return 0;
}

static const char *phase_of(char kind)
{
	switch (kind) {
	case 'S':
		return "loading setup";
	case 'P':
		return "loading pre-copy data";
	case 'E':
		return "loading stop-and-copy data";
	default:
		return "loading config space";
	}
}

/* The next packet of the device's section, or what has come of its data. */
static int load_state(void *opaque, const struct vfmig_section *section, const struct vfio_event *event,
		      struct vfmig_error *err)
{
	struct vfio_load *l = opaque;
	int r = take_event(l, section, event, err);
	if (r < 0)
		r = error_prefix(err, r, "offset 0x%llx", (unsigned long long)event->offset);
	return r < 0 ? failed(l, r, phase_of(section->kind), err) : 0;
}

/* Straight into the device's mapped data section, or from where the thread will write it. */
static void *load_place(void *opaque, size_t *ret_length)
{
	struct vfio_load *l = opaque;
	struct protocol *p = l->protocol;
	return l->checking  ? NULL :
	       is_direct(l) ? p->ops->write_place(p, ret_length) :
			      write_behind_place(l->behind, ret_length);
}

static const struct reader_vfio_ops vfio_ops = { load_state, load_place };

/* The config record is the content of a packet: CONFIG, record, END_OF_STATE, and nothing else. */
static int take_config_packet(struct vfio_load *l, uint8_t *data, size_t length, struct vfmig_error *err)
{
	struct vfio_parser parser = { 0 };
	struct vfio_event config = { 0 }, end = { 0 };
	size_t used = 0, more = 0;
	data[length] = WIRE_FOOTER; /* what tells a subsection's end */
	int r = vfio_parser_next(&parser, 0, data, length + 1, &used, &config, err);
	if (r > 0)
		r = vfio_parser_next(&parser, used, data + used, length - used, &more, &end, err);
	if (r < 0)
		return r;
	if (r == 0 || config.kind != VFIO_EVENT_CONFIG || end.kind != VFIO_EVENT_END || used + more != length)
		return error_set(err, -EBADMSG, "%zu bytes that are no config record and END_OF_STATE behind it",
				 length);
	return take_config(l, &config, err);
}

/* In the order of their index; each is a chunk as a DATA packet of the stream is. */
static int take_packet(void *opaque, bool config, uint8_t *data, size_t length, struct vfmig_error *err)
{
	struct vfio_load *l = opaque;
	int r = 0;
	if (l->has_config)
		r = error_set(err, -EBADMSG, "state by a channel after the config record, which ends a device's state");
	l->by_channels = true;
	if (r == 0 && !l->checking)
		r = write_behind_flush(l->behind, err); /* what came by the stream */
	if (r == 0 && config) {
		r = take_config_packet(l, data, length, err);
	} else if (r == 0 && length > 0) {
		l->data_packets++;
		count_data(l, data, length);
		r = l->protocol->ops->write_begin(l->protocol, length, err);
		if (r == 0)
			r = l->protocol->ops->write_piece(l->protocol, data, length, err);
		if (r == 0)
			r = l->protocol->ops->write_end(l->protocol, err);
	}
	return r < 0 ? failed(l, r, config ? "loading config space" : "loading stop-and-copy data", err) : 0;
}

static enum initial_loaded initial_loaded(const void *opaque)
{
	const struct vfio_load *l = opaque;
	return l->has_initial ? INITIAL_LOADED : l->protocol->has_precopy ? INITIAL_AWAITED : INITIAL_NONE;
}

static bool has_all(const void *opaque)
{
	const struct vfio_load *l = opaque;
	return l->has_config;
}

/* The stream's seal says nothing of what came by a channel. */
static int verify_config(const struct vfio_load *l, const struct description_device *d, struct vfmig_error *err)
{
	char hex[DIGEST_HEX];
	XXH128_hash_t hash = XXH3_128bits(l->record.bytes, l->record.length);
	description_hex(hash.high64, hash.low64, hex);
	if (strcmp(hex, d->config_digest) == 0)
		return 0;
	return error_set(err, -EBADMSG, "the config record's digest is %s, the stream was written with %s", hex,
			 d->config_digest[0] ? d->config_digest : "none");
}

/* Against what the saver counted and digested. */
static int verify(void *opaque, const struct description_device *d, struct vfmig_error *err)
{
	struct vfio_load *l = opaque;
	char hex[DIGEST_HEX];
	bool digests = l->digest && l->by_channels && !l->plain; /* else the seal says it */
	description_digest(l->digest, hex);
	int r = 0;
	if (d->data_bytes != l->data_bytes || d->data_packets != l->data_packets)
		r = error_set(err, -EBADMSG,
			      "%llu bytes of data in %llu packets arrived, the stream was written with %llu in %llu",
			      (unsigned long long)l->data_bytes, (unsigned long long)l->data_packets,
			      (unsigned long long)d->data_bytes, (unsigned long long)d->data_packets);
	else if (digests && strcmp(hex, d->data_digest) != 0)
		r = error_set(err, -EBADMSG, "the data's digest is %s, the stream was written with %s", hex,
			      d->data_digest);
	else if (d->config_bytes != l->record.length)
		r = error_set(err, -EBADMSG, "a config record of %zu bytes arrived, the stream was written with %llu",
			      l->record.length, (unsigned long long)d->config_bytes);
	if (r == 0 && l->by_channels && !l->plain)
		r = verify_config(l, d, err);
	return r < 0 ? named(l, r, "verifying", err) : 0;
}

/* Nothing is missing: only now the config space is written. */
static int load_complete(void *opaque, struct vfmig_error *err)
{
	struct vfio_load *l = opaque;
	int r = 0;
	if (!l->has_end)
		r = error_set(err, -EBADMSG, "the stream has no END section of this device: its state is incomplete");
	else if (l->config.size > 0 && !l->has_config)
		r = error_set(err, -EBADMSG, "the stream has no config record of this device");
	if (r == 0 && !l->checking) /* the config space is not written over a device that was reset and works */
		r = vfio_state_check(&l->state, err);
	if (r == 0 && !l->checking)
		r = config_record_restore(l->device, &l->record, l->log->fn, l->log->opaque, err);
	return r < 0 ? named(l, r, "completing", err) : 0;
}

/* Loaded, and the driver has found it right, but not at work: until the source has decided. */
static int settle(void *opaque, struct vfmig_error *err)
{
	struct vfio_load *l = opaque;
	int r = set_state(l, VFMIG_STATE_STOP, err);
	return r < 0 ? named(l, r, "ending the load", err) : 0;
}

static int start_prepare(void *opaque, struct vfmig_error *err)
{
	struct vfio_load *l = opaque;
	if (!l->protocol->has_p2p || l->no_start)
		return 0;
	int r = set_state(l, VFMIG_STATE_RUNNING_P2P, err);
	return r < 0 ? named(l, r, "starting", err) : 0;
}

/* A driver says here that what it was given is incomplete or does not fit. */
static int start(void *opaque, struct vfmig_error *err)
{
	struct vfio_load *l = opaque;
	int r = set_state(l, l->no_start ? VFMIG_STATE_STOP : VFMIG_STATE_RUNNING, err);
	return r < 0 ? named(l, r, l->no_start ? "ending the load" : "starting", err) : 0;
}

/*
 * Somebody else has reset or started the device, which of the two cannot be told: it is not reset under the hands of
 * whoever did, and nobody is told that it holds nothing of the load.
 */
static int leave(const struct vfio_load *l, enum vfmig_state now, struct vfmig_error *err)
{
	return error_set(err, -ESTALE,
			 "%s: not reset: somebody else (its guest, its driver) has brought it to %s, and it is left so",
			 vfmig_device_name(l->device), vfmig_state_name(now));
}

/*
 * The device must hold nothing of the load. A reset does that and ends in
 * running, fresh; without one it is stopped and stays so.
 */
static int undo(void *opaque, struct vfmig_error *err)
{
	struct vfio_load *l = opaque;
	struct vfmig_error first, second;
	enum vfmig_state now;
	if (!l->touched)
		return 0;
	if (vfio_state_find(&l->state, &now, &first) == 0 && l->state.changed)
		return leave(l, now, err);
	int r = access_reset(l->device->access, &first);
	if (r == 0)
		r = vfio_state_take(&l->state, &now, &first);
	if (r == 0 && now != VFMIG_STATE_RUNNING && now != VFMIG_STATE_STOP)
		r = error_set(&first, -EIO, "it is in %s after a reset", vfmig_state_name(now));
	if (r == 0 && l->initial == VFMIG_STATE_STOP && now != VFMIG_STATE_STOP)
		r = set_state(l, VFMIG_STATE_STOP, &first);
	if (r == 0)
		return 0;
	if (vfio_state_take(&l->state, &now, &second) == 0 &&
	    (now == VFMIG_STATE_STOP || set_state(l, VFMIG_STATE_STOP, &second) == 0)) {
		log_line(l->log, VFMIG_LOG_WARNING,
			 "%s: not reset (%s): stopped, with part of the load in it; reset it before use",
			 vfmig_device_name(l->device), first.message);
		return 0;
	}
	return error_set(err, r, "%s: neither reset (%s) nor stopped (%s)", vfmig_device_name(l->device), first.message,
			 second.message);
}

static void vfio_load_free(void *opaque)
{
	struct vfio_load *l = opaque;
	XXH3_freeState(l->digest);
	free(l);
}

static const struct vfmig_participant_ops vfio_load_ops = {
	.size = sizeof(vfio_load_ops),
	.load_setup = load_setup,
	.load_complete = load_complete,
	.start_prepare = start_prepare,
	.start = start,
	.undo = undo,
};

static void set_digests(void *opaque, bool sealed, bool plain)
{
	struct vfio_load *l = opaque;
	l->sealed = sealed;
	l->plain = plain;
}

static void set_checking(void *opaque, bool checking)
{
	struct vfio_load *l = opaque;
	l->checking = checking;
	forget(l);
}

int vfio_load_add(struct participants *p, struct vfmig_device *device, const char *id,
		  const struct vfmig_load_options *opts, struct write_behind *behind, const struct log *log,
		  struct vfmig_error *err)
{
	struct participant *added;
	struct vfio_load *l = calloc(1, sizeof(*l));
	if (l && opts->multifd_channels)
		l->digest = XXH3_createState();
	if (!l || (!l->digest && opts->multifd_channels)) {
		free(l);
		return error_errno(err, -ENOMEM, "device");
	}
	l->device = device;
	l->protocol = device->protocol;
	l->behind = behind;
	l->log = log;
	l->no_start = opts->no_start;
	forget(l);
	int r = participants_add(p, &vfio_load_ops, l, id ? id : "", 0, 1, &added, err);
	if (r < 0) {
		vfio_load_free(l);
		return r;
	}
	added->name = vfmig_device_name(device);
	added->protocol = device->protocol;
	added->set_checking = set_checking;
	added->set_digests = set_digests;
	added->verify = verify;
	added->settle = settle;
	added->vfio_ops = &vfio_ops;
	added->take_packet = take_packet;
	added->has_all = has_all;
	added->initial_loaded = initial_loaded;
	added->free = vfio_load_free;
	/* Now, and not in load_setup: with a device that has no pre-copy the source may be stopped by then. */
	if (l->protocol->ops->prepare)
		l->protocol->ops->prepare(l->protocol, true);
	return 0;
}
