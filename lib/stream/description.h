/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * description.h: the VMDESCRIPTION JSON at a stream's end.
 *
 * QEMU writes one and does not look into it when it loads. vfmig puts its own
 * object "vfmig" into it: who is in the stream, how much, and digests. The
 * object is the last member and "seal" is its last member, so that the stream
 * ends in  "seal":"<32 hex digits>"}}  and the digits are the XXH3-128 of
 * every byte of the stream before them.
 *
 * Versions: a reader refuses a "version" above its own (it cannot know what it
 * would not check) and ignores members that it does not know in one that is
 * not; a writer only ever adds members within a version.
 */
#ifndef VFMIG_STREAM_DESCRIPTION_H
#define VFMIG_STREAM_DESCRIPTION_H

#include "base/error.h"
#include "base/xxh3.h"
#include "stream/wire.h"

#define DIGEST_HEX 33 /* 32 digits and a NUL */
#define DESCRIPTION_NO_DIGEST "00000000000000000000000000000000" /* in a stream that was written without */

/* An XXH3-128 as it is written everywhere: high half first, lower case. */
void description_hex(uint64_t high, uint64_t low, char hex[DIGEST_HEX]);
/* Of what the state has got so far; NULL: DESCRIPTION_NO_DIGEST. */
void description_digest(const XXH3_state_t *state, char hex[DIGEST_HEX]);

/* What a PCI function is; all in host order. */
struct pci_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits */
	uint8_t revision;
};

struct description_device {
	char id[WIRE_ID_MAX + 1];
	uint32_t instance_id;
	bool has_identity;
	struct pci_identity identity;
	uint64_t data_bytes;     /* in DATA_STATE packets */
	uint64_t data_packets;   /* with more than 0 bytes */
	char data_digest[DIGEST_HEX]; /* empty: no VFIO device, not in the "vfmig" object */
	uint64_t config_bytes; /* of the config record */
	char config_digest[DIGEST_HEX]; /* of it, where it went by a channel, without the seal; else empty */
	uint64_t full_bytes;   /* of the FULL section's body; 0: none */
};

/* What vfmig knows of a stream it wrote. */
struct description {
	uint32_t version;
	char machine[256];
	struct description_device *devices;
	size_t num_devices;
};

void description_clear(struct description *d);
/* The device with that id and instance, or NULL. */
const struct description_device *description_find(const struct description *d, const char *id, uint32_t instance_id);

/*
 * The JSON text up to and including `"seal":"` (ret_text, freed by the
 * caller): the writer sends it, then 32 digits, then DESCRIPTION_TAIL.
 */
#define DESCRIPTION_TAIL "\"}}"
int description_format(const struct description *d, char **ret_text, struct vfmig_error *err);

/*
 * Reads the "vfmig" object out of a description's text. Returns 1 when there
 * is one, 0 when there is none (QEMU's), -EBADMSG when it is wrong. The seal is
 * not checked here but by the reader, which saw every byte.
 */
int description_parse(const char *text, size_t length, struct description *ret, struct vfmig_error *err);

/*
 * The bytes of the FULL section `id`/`instance_id`, as a whole machine's
 * description tells them (fields, arrays, subsections). -ENOENT: not in it.
 */
struct description_sizes;
int description_sizes_parse(const char *text, size_t length, struct description_sizes **ret, struct vfmig_error *err);
void description_sizes_free(struct description_sizes *s);
int description_sizes_find(const struct description_sizes *s, const char *id, uint32_t instance_id,
			   uint64_t *ret_bytes);

#endif
