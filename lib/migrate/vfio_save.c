/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio_save.c: the save side of a VFIO device: QEMU's SaveVMHandlers.
 *
 * Source: QEMU 5.2, "VFIO: add save state functions to SaveVMHandlers" and the
 * changes around it, up to 7.2. What each handler puts:
 *
 *   save_setup                  SETUP_STATE END_OF_STATE
 *   save_live_iterate           DATA_STATE size data END_OF_STATE, one transaction
 *   save_live_complete_precopy  {DATA_STATE size data}... END_OF_STATE
 *   save_state                  CONFIG_STATE record END_OF_STATE
 *
 * A transaction is put piece by piece, each from where it lies or where read_ahead.c has
 * read it to; a handler that has more says VFMIG_SECTION_MORE and is called again
 * when the piece is out. A transaction whose bytes are sent from the device's own memory is
 * acknowledged (v1: by reading pending_bytes) only after that.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "migrate/handlers.h"
#include "migrate/outlets.h"
#include "migrate/vfio_config.h"
#include "migrate/vfio_state.h"

struct vfio_save {
	struct vfmig_device *device;
	struct protocol *protocol;
	const struct log *log;
	bool no_precopy;
	bool no_journal; /* that would know why a device is stopped */
	enum vfmig_state initial; /* what undo goes back to */
	struct vfio_state state;

	struct read_ahead *ahead;
	struct protocol_piece piece; /* that is being sent; length 0: none */
	bool in_chunk;		     /* a transaction is being put */
	uint64_t transition_ns; /* the longest that it has shown */

	struct initial_sent *initial_sent; /* NULL: nobody asks for the announcement */
	bool announced;
	struct outlets *outlets; /* where the last data and the config record go; NULL: into the stream */
	const char *id;
	uint32_t index; /* of the next packet */

	struct pci_config config;
	struct config_record record;
	uint8_t config_packet[2 * sizeof(uint64_t) + WIRE_PCI_RECORD_MAX]; /* the record as a channel's packet */
	uint64_t data_bytes, data_packets;
	XXH3_state_t *digest; /* of what goes over channels, of which the seal says nothing; NULL: none is wanted */
};

/* What the device was asked for and did not do: because somebody else has reset it, perhaps. */
static int failed(struct vfio_save *s, int code, const char *phase, struct vfmig_error *err)
{
	code = vfio_state_explain(&s->state, code, err);
	return error_prefix(err, code, "%s: %s", vfmig_device_name(s->device), phase);
}

static int named(struct vfio_save *s, int code, const char *phase, struct vfmig_error *err)
{
	return error_prefix(err, code, "%s: %s", vfmig_device_name(s->device), phase);
}

static int set_state(struct vfio_save *s, enum vfmig_state state, struct vfmig_error *err)
{
	uint64_t began_ns = clock_now_ns();
	int r = vfio_state_set(&s->state, state, err);
	s->transition_ns = max_u64(s->transition_ns, clock_now_ns() - began_ns);
	return r;
}

static bool in_precopy(const struct vfio_save *s)
{
	return s->protocol->state == VFMIG_STATE_PRE_COPY || s->protocol->state == VFMIG_STATE_PRE_COPY_P2P;
}

/* Running to pre-copy. A device that is stopped already is saved as it stands. */
static int save_setup(void *opaque, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct vfio_save *s = opaque;
	int r = vfio_state_begin(&s->state, s->device, &s->initial, err);
	if (r == 0 && s->initial == VFMIG_STATE_STOP && s->no_journal)
		log_line(
		    s->log, VFMIG_LOG_WARNING,
		    "%s: it is stopped, and no journal tells why: if its state was moved, another device may be at "
		    "work with it",
		    vfmig_device_name(s->device));
	if (r == 0)
		r = pci_config_read(s->device, &s->config, err);
	bool precopy = s->initial == VFMIG_STATE_RUNNING && !s->no_precopy;
	if (r == 0 && precopy && s->protocol->has_precopy)
		r = set_state(s, VFMIG_STATE_PRE_COPY, err);
	else if (r == 0 && precopy)
		log_line(s->log, VFMIG_LOG_INFO,
			 "%s: has no pre-copy: it is stopped while all of its state is sent (a newer driver or "
			 "firmware may have it)",
			 vfmig_device_name(s->device));
	if (r < 0)
		return named(s, r, "setup", err);
	if (s->protocol->ops->prepare)
		s->protocol->ops->prepare(s->protocol, false);
	if (s->initial_sent && in_precopy(s))
		s->initial_sent->devices++;
	vfmig_put_be64(w, WIRE_VFIO_SETUP_STATE);
	vfmig_put_be64(w, WIRE_VFIO_END_OF_STATE);
	return VFMIG_SECTION_DONE;
}

static int save_live_pending(void *opaque, bool exact, struct vfmig_pending *ret, struct vfmig_error *err)
{
	struct vfio_save *s = opaque;
	int r = s->protocol->ops->pending(s->protocol, exact, ret, err);
	/* Into P2P where there is one, into stop-and-copy, and into stopped. */
	ret->stop_ns = s->transition_ns * (s->protocol->has_p2p ? 3 : 2);
	return r < 0 ? failed(s, r, "pre-copy", err) : 0;
}

/* The piece is out, or nobody needs it any more. */
static void release_piece(struct vfio_save *s)
{
	if (s->piece.length)
		read_ahead_release(s->ahead, &s->piece);
	s->piece.length = 0;
}

/* Reads the next piece. Its length is 0 when there is none. */
static int next_piece(struct vfio_save *s, struct vfmig_error *err)
{
	release_piece(s);
	int r = read_ahead_next(s->ahead, s->protocol, &s->piece, err);
	if (r < 0 || s->piece.length == 0)
		return r;
	s->data_packets += s->piece.chunk > 0;
	s->data_bytes += s->piece.length;
	if (s->digest)
		XXH3_128bits_update(s->digest, s->piece.data, s->piece.length);
	return 0;
}

/* Puts the next piece, a DATA_STATE packet's head before it where one begins; in_chunk is false when there was none. */
static int put_piece(struct vfio_save *s, struct vfmig_writer *w, struct vfmig_error *err)
{
	int r = next_piece(s, err);
	s->in_chunk = r == 0 && s->piece.length > 0;
	if (!s->in_chunk)
		return r;
	if (s->piece.chunk) {
		vfmig_put_be64(w, WIRE_VFIO_DATA_STATE);
		vfmig_put_be64(w, s->piece.chunk);
	}
	vfmig_put_ref(w, s->piece.data, s->piece.length);
	return 0;
}

/* The end of a PART: once the initial bytes are out, this is said in the end's place. */
static int end_part(struct vfio_save *s, struct vfmig_writer *w, int result, struct vfmig_error *err)
{
	bool announce = s->initial_sent && !s->announced && in_precopy(s);
	if (announce) {
		struct vfmig_pending pending;
		int r = s->protocol->ops->pending(s->protocol, false, &pending, err);
		if (r < 0)
			return failed(s, r, "pre-copy", err);
		announce = pending.initial_bytes == 0;
	}
	if (announce) {
		s->announced = true;
		s->initial_sent->announced++;
	}
	vfmig_put_be64(w, announce ? WIRE_VFIO_INIT_DATA_SENT : WIRE_VFIO_END_OF_STATE);
	return result;
}

/* One transaction, or with nothing to give (v1: a packet of size 0 and) "done". */
static int save_live_iterate(void *opaque, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct vfio_save *s = opaque;
	if (s->in_chunk && s->piece.last) {
		s->in_chunk = false;
		release_piece(s);
		return end_part(s, w, VFMIG_SECTION_DONE, err);
	}
	int r = s->in_chunk || in_precopy(s) ? put_piece(s, w, err) : 0;
	if (r < 0)
		return failed(s, r, "pre-copy", err);
	if (s->in_chunk)
		return VFMIG_SECTION_MORE;
	if (s->protocol->empty_packet) {
		vfmig_put_be64(w, WIRE_VFIO_DATA_STATE);
		vfmig_put_be64(w, 0);
	}
	return end_part(s, w, VFMIG_ALL_DONE, err);
}

/* To the P2P state where there is one: from here on no device starts DMA to another. */
static int stop_prepare(void *opaque, struct vfmig_error *err)
{
	struct vfio_save *s = opaque;
	if (!s->protocol->has_p2p || s->initial != VFMIG_STATE_RUNNING)
		return 0;
	int r = set_state(s, in_precopy(s) ? VFMIG_STATE_PRE_COPY_P2P : VFMIG_STATE_RUNNING_P2P, err);
	return r < 0 ? named(s, r, "stop", err) : 0;
}

/* RUNNING cleared: from here on the device does nothing but give its state. */
static int stop(void *opaque, struct vfmig_error *err)
{
	struct vfio_save *s = opaque;
	int r = set_state(s, VFMIG_STATE_STOP_COPY, err);
	return r < 0 ? named(s, r, "stop", err) : 0;
}

static void put_packet(struct vfio_save *s, bool config, const struct protocol_piece *piece)
{
	struct multifd_packet packet = { .index = s->index++, .config = config, .length = piece->length };
	memcpy(packet.id, s->id, strlen(s->id));
	outlets_put(s->outlets, &packet, piece);
}

/* The next chunk as a packet, which owns it then. */
static int put_chunk(struct vfio_save *s, struct vfmig_error *err)
{
	int r = next_piece(s, err);
	if (r < 0 || s->piece.length == 0)
		return r;
	put_packet(s, false, &s->piece);
	s->piece.length = 0;
	return 1;
}

/* Everything that is left, to the end of the state. */
static int save_live_complete_precopy(void *opaque, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct vfio_save *s = opaque;
	int r = s->outlets ? put_chunk(s, err) : put_piece(s, w, err);
	if (r < 0)
		return failed(s, r, "stop-and-copy", err);
	if (r > 0 || s->in_chunk)
		return VFMIG_SECTION_MORE;
	vfmig_put_be64(w, WIRE_VFIO_END_OF_STATE);
	return VFMIG_SECTION_DONE;
}

/* Then SAVING cleared: the end of save_live_complete_precopy, but for all devices at the same time. */
static int settle(void *opaque, struct vfmig_error *err)
{
	struct vfio_save *s = opaque;
	int r = set_state(s, VFMIG_STATE_STOP, err);
	return r < 0 ? named(s, r, "stop-and-copy", err) : 0;
}

static void put_config_packet(struct vfio_save *s)
{
	uint8_t *p = s->config_packet;
	put_be64(p, WIRE_VFIO_CONFIG_STATE);
	memcpy(p + 8, s->record.bytes, s->record.length);
	put_be64(p + 8 + s->record.length, WIRE_VFIO_END_OF_STATE);
	const struct protocol_piece piece = { .data = p, .length = 16 + s->record.length };
	put_packet(s, true, &piece);
}

static int save_state(void *opaque, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct vfio_save *s = opaque;
	int r = pci_config_read(s->device, &s->config, err);
	if (r == 0) /* is that the stopped device's, or one's that was reset? */
		r = vfio_state_check(&s->state, err);
	if (r == 0)
		r = config_record_make(s->device, &s->config, &s->record, err);
	if (r < 0)
		return named(s, r, "saving config space", err);
	if (!s->device->interrupt_ops)
		log_line(s->log, VFMIG_LOG_INFO,
			 "%s: no VMM gives its interrupt state: INTx levels are saved as 0, %u MSI-X vectors as masked",
			 vfmig_device_name(s->device), pci_msix_vectors(s->config.bytes, s->config.size));
	if (s->outlets)
		put_config_packet(s);
	else
		vfmig_put_be64(w, WIRE_VFIO_CONFIG_STATE);
	if (!s->outlets)
		vfmig_put_bytes(w, s->record.bytes, s->record.length);
	vfmig_put_be64(w, WIRE_VFIO_END_OF_STATE);
	return VFMIG_SECTION_DONE;
}

/* In error only a reset helps, and it costs the state: that is said, and counts as not being as before. */
static int undo_by_reset(struct vfio_save *s, struct vfmig_error *err)
{
	struct vfmig_error why;
	enum vfmig_state now;
	int r = access_reset(s->device->access, &why);
	if (r == 0)
		r = s->protocol->ops->get_state(s->protocol, &now, &why);
	if (r < 0)
		return error_set(err, r, "%s: the device is in error and could not be reset: %s",
				 vfmig_device_name(s->device), why.message);
	return error_set(err, -EIO, "%s: the device went into error and was reset: it is %s, its state is lost",
			 vfmig_device_name(s->device), vfmig_state_name(now));
}

/* Somebody else has reset, stopped or started it: nothing is put over that. */
static int leave(const struct vfio_save *s, enum vfmig_state now, struct vfmig_error *err)
{
	if (now == s->initial)
		return 0;
	return error_set(err, -ESTALE,
			 "%s: not put back to %s: somebody else (its guest, its driver) has brought it to %s, and it "
			 "is left so",
			 vfmig_device_name(s->device), vfmig_state_name(s->initial), vfmig_state_name(now));
}

/* Back to what the device was; where it refuses that, stopped, with its state in it. */
static int undo(void *opaque, struct vfmig_error *err)
{
	struct vfio_save *s = opaque;
	struct vfmig_error why, ignored;
	enum vfmig_state now;
	int r = vfio_state_find(&s->state, &now, &why);
	/* Nothing was begun: nothing to take back, but it may not run all the same. */
	if (s->initial == VFMIG_STATE_ERROR && r == 0 && now == VFMIG_STATE_ERROR)
		r = error_set(&why, -EIO, "only a reset ends an error");
	if (s->initial == VFMIG_STATE_ERROR)
		return r < 0 ? error_set(err, r, "%s: %s", vfmig_device_name(s->device), why.message) : 0;
	if (r == 0 && (s->state.changed || now == VFMIG_STATE_RUNNING))
		return leave(s, now, err);
	if (r == 0 && now != VFMIG_STATE_ERROR)
		r = set_state(s, s->initial, &why);
	if (s->protocol->state == VFMIG_STATE_ERROR)
		return undo_by_reset(s, err);
	if (r == 0)
		return 0;
	if (r != -ENOTCONN && r != -ETIMEDOUT)
		(void)set_state(s, VFMIG_STATE_STOP, &ignored);
	return error_set(err, r, "%s: not put back to %s, it is %s: %s", vfmig_device_name(s->device),
			 vfmig_state_name(s->initial), vfmig_state_name(s->protocol->state), why.message);
}

static void undo_prepare(void *opaque)
{
	struct vfio_save *s = opaque;
	struct vfmig_error ignored; /* undo will meet the same again, and report it */
	enum vfmig_state now = s->protocol->state;
	if (!s->state.changed && s->protocol->has_p2p && s->initial == VFMIG_STATE_RUNNING &&
	    now != VFMIG_STATE_RUNNING && now != VFMIG_STATE_PRE_COPY && now != VFMIG_STATE_ERROR)
		(void)set_state(s, VFMIG_STATE_RUNNING_P2P, &ignored);
}

static void save_cleanup(void *opaque)
{
	struct vfio_save *s = opaque;
	s->in_chunk = false;
	release_piece(s);
}

static void describe(void *opaque, struct description_device *ret)
{
	struct vfio_save *s = opaque;
	ret->has_identity = s->config.size > 0;
	if (ret->has_identity)
		config_identity(&s->config, &ret->identity);
	ret->data_bytes = s->data_bytes;
	ret->data_packets = s->data_packets;
	ret->config_bytes = s->record.length;
	description_digest(s->digest, ret->data_digest);
	if (s->digest && s->outlets) {
		XXH128_hash_t hash = XXH3_128bits(s->record.bytes, s->record.length);
		description_hex(hash.high64, hash.low64, ret->config_digest);
	}
}

static void set_outlets(void *opaque, struct outlets *outlets, const char *id)
{
	struct vfio_save *s = opaque;
	s->outlets = outlets;
	s->id = id;
}

static void set_initial(void *opaque, struct initial_sent *initial)
{
	struct vfio_save *s = opaque;
	s->initial_sent = initial;
}

static void vfio_save_free(void *opaque)
{
	struct vfio_save *s = opaque;
	XXH3_freeState(s->digest);
	free(s);
}

int vfio_save_add(struct participants *p, struct vfmig_device *device, const char *id,
		  const struct vfmig_save_options *opts, struct read_ahead *ahead, const struct log *log,
		  struct vfmig_error *err)
{
	static const struct vfmig_participant_ops ops = {
		.size = sizeof(ops),
		.save_setup = save_setup,
		.save_live_pending = save_live_pending,
		.save_live_iterate = save_live_iterate,
		.save_live_complete_precopy = save_live_complete_precopy,
		.save_state = save_state,
		.save_cleanup = save_cleanup,
		.stop_prepare = stop_prepare,
		.stop = stop,
		.undo = undo,
	};
	struct participant *added;
	struct vfio_save *s = calloc(1, sizeof(*s));
	bool digests = opts->multifd_channels && !opts->no_digest;
	if (s && digests)
		s->digest = XXH3_createState();
	if (!s || (!s->digest && digests)) {
		free(s);
		return error_errno(err, -ENOMEM, "device");
	}
	if (s->digest)
		XXH3_128bits_reset(s->digest);
	s->device = device;
	s->protocol = device->protocol;
	s->ahead = ahead;
	s->log = log;
	s->no_precopy = opts->no_precopy;
	s->no_journal = !opts->journal;
	s->initial = VFMIG_STATE_ERROR; /* nothing to undo */
	s->state.device = device;
	int r = participants_add(p, &ops, s, id, 0, 1, &added, err);
	if (r < 0) {
		vfio_save_free(s);
		return r;
	}
	added->name = vfmig_device_name(device);
	added->protocol = device->protocol;
	added->set_outlets = set_outlets;
	added->set_initial = set_initial;
	added->describe = describe;
	added->settle = settle;
	added->undo_prepare = undo_prepare;
	added->free = vfio_save_free;
	return 0;
}
