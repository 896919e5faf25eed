/* SPDX-License-Identifier: BSD-3-Clause */
/* vfio_packets.c: splits the body of a VFIO section into its packets. */
#include "stream/vfio_packets.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

#define FLAG_BYTES 8u

/* Of a PCI function's config space. */
#define PCI_STATUS 0x06
#define PCI_STATUS_CAPABILITIES 0x10
#define PCI_CAPABILITIES 0x34
#define PCI_CAPABILITY_MSIX 0x11
#define PCI_FIRST_CAPABILITY 0x40
#define PCI_MSIX_VECTORS 0x7ff

/* Where the MSI-X capability is, or 0. A loop ends: 48 are all that fit. */
static size_t find_msix(const uint8_t *config)
{
	if (!(config[PCI_STATUS] & PCI_STATUS_CAPABILITIES))
		return 0;
	size_t at = config[PCI_CAPABILITIES] & 0xfcu;
	for (int i = 0; i < 48 && at >= PCI_FIRST_CAPABILITY; i++) {
		if (config[at] == PCI_CAPABILITY_MSIX)
			return at;
		at = config[at + 1] & 0xfcu;
	}
	return 0;
}

size_t vfio_config_record_length(const uint8_t *config, size_t space)
{
	size_t length = 4 + space + 4 * WIRE_PCI_INTX_LEVELS;
	size_t msix = find_msix(config);

	if (msix) {
		size_t vectors = (get_le16(config + msix + 2) & PCI_MSIX_VECTORS) + 1u;
		length += vectors * WIRE_MSIX_ENTRY + (vectors + 7) / 8;
	}
	return length;
}

/* ------------------------------------------------------- config record */

enum { MORE = 0, FITS = 1, NO_FIT = 2 };

static bool is_end(const uint8_t *p)
{
	return get_be64(p) == WIRE_VFIO_END_OF_STATE;
}

/*
 * Subsections (QEMU 9: "VFIOPCIDevice/VFIODisplay") do not say how long they
 * are: they reach to the end of state that the section's footer follows.
 */
static int skip_subsections(const uint8_t *data, size_t length, size_t at, size_t *ret_end)
{
	static const char prefix[4] = { 'V', 'F', 'I', 'O' };

	if (length - at < 2 + sizeof(prefix))
		return MORE;
	if (data[at] != WIRE_SUBSECTION || memcmp(data + at + 2, prefix, sizeof(prefix)) != 0)
		return NO_FIT;
	for (size_t end = at + 2 + data[at + 1]; end < length && length - end > FLAG_BYTES; end++) {
		if (is_end(data + end) && data[end + FLAG_BYTES] == WIRE_FOOTER) {
			*ret_end = end;
			return FITS;
		}
	}
	return MORE;
}

/* Does a record of `record` bytes end where an end of state or a subsection is? */
static int fits(const uint8_t *data, size_t length, size_t record, size_t *ret_end)
{
	if (length < record || length - record < FLAG_BYTES)
		return MORE;
	if (is_end(data + record)) {
		*ret_end = record;
		return FITS;
	}
	return skip_subsections(data, length, record, ret_end);
}

static int fits_space(const uint8_t *data, size_t length, size_t space, size_t *ret_record, size_t *ret_end)
{
	if (length < 4 + space)
		return MORE;
	*ret_record = vfio_config_record_length(data + 4, space);
	return fits(data, length, *ret_record, ret_end);
}

/* Without knowing the device: the smaller space first, because the larger one always needs more bytes. */
static int find_record(const uint8_t *data, size_t length, size_t *ret_record, size_t *ret_end)
{
	if (length >= FLAG_BYTES && is_end(data)) { /* not a PCI device: nothing is recorded */
		*ret_record = *ret_end = 0;
		return FITS;
	}
	int rc = fits_space(data, length, WIRE_PCI_CONFIG_SMALL, ret_record, ret_end);
	return rc == NO_FIT ? fits_space(data, length, WIRE_PCI_CONFIG_LARGE, ret_record, ret_end) : rc;
}

static int check_version(struct vfio_parser *p, uint64_t offset, const uint8_t *data, struct vfmig_error *err)
{
	uint32_t version = get_be32(data);

	if (version == WIRE_PCI_VERSION || version == WIRE_VFIO_END_OF_STATE >> 32)
		return 0;
	p->fault = FAULT_CONFIG_VERSION;
	return error_set(err, -EBADMSG, "offset 0x%" PRIx64 ": the config record has version %" PRIu32 ", expected %u",
			 offset, version, WIRE_PCI_VERSION);
}

static int config_event(struct vfio_parser *p, uint64_t offset, const uint8_t *data, size_t length, size_t *ret_used,
			struct vfio_event *ret, struct vfmig_error *err)
{
	uint64_t at = offset + FLAG_BYTES;
	size_t record = p->config_length, end = 0;

	data += FLAG_BYTES;
	length -= FLAG_BYTES;
	if (length < 4)
		return 0;
	int rc = check_version(p, at, data, err);
	if (rc < 0)
		return rc;
	rc = record ? fits(data, length, record, &end) : find_record(data, length, &record, &end);
	if (rc == MORE)
		return 0;
	if (rc == NO_FIT) {
		p->fault = FAULT_CONFIG_END;
		return error_set(err, -EBADMSG,
				 "offset 0x%" PRIx64 ": no end of state behind a config record of %zu bytes%s",
				 at + record, record, p->config_length ? ", which this device has" : "");
	}
	*ret = (struct vfio_event) { VFIO_EVENT_CONFIG, offset, end, data, record };
	*ret_used = FLAG_BYTES + end;
	return 1;
}

/* --------------------------------------------------------------- events */

static int data_event(struct vfio_parser *p, uint64_t offset, const uint8_t *data, size_t length, size_t *ret_used,
		      struct vfio_event *ret)
{
	if (p->left == 0) {
		p->in_data = false;
		*ret = (struct vfio_event) { .kind = VFIO_EVENT_DATA_END, .offset = offset };
		*ret_used = 0;
		return 1;
	}
	if (length == 0)
		return 0;
	size_t n = (size_t)min_u64(p->left, length);
	p->left -= n;
	*ret = (struct vfio_event) { VFIO_EVENT_DATA, offset, n, data, n };
	*ret_used = n;
	return 1;
}

static int data_begin(struct vfio_parser *p, uint64_t offset, const uint8_t *data, size_t length, size_t *ret_used,
		      struct vfio_event *ret)
{
	if (length < FLAG_BYTES + 8)
		return 0;
	p->left = get_be64(data + FLAG_BYTES);
	p->in_data = p->left > 0;
	*ret = (struct vfio_event) { .kind = VFIO_EVENT_DATA_BEGIN, .offset = offset, .size = p->left };
	*ret_used = FLAG_BYTES + 8;
	return 1;
}

static int plain_event(enum vfio_event_kind kind, uint64_t offset, size_t *ret_used, struct vfio_event *ret)
{
	*ret = (struct vfio_event) { .kind = kind, .offset = offset };
	*ret_used = FLAG_BYTES;
	return 1;
}

int vfio_parser_next(struct vfio_parser *p, uint64_t offset, const uint8_t *data, size_t length, size_t *ret_used,
		     struct vfio_event *ret, struct vfmig_error *err)
{
	if (p->in_data)
		return data_event(p, offset, data, length, ret_used, ret);
	if (length < FLAG_BYTES)
		return 0;
	uint64_t flag = get_be64(data);
	switch (flag) {
	case WIRE_VFIO_END_OF_STATE:
		return plain_event(VFIO_EVENT_END, offset, ret_used, ret);
	case WIRE_VFIO_SETUP_STATE:
		return plain_event(VFIO_EVENT_SETUP, offset, ret_used, ret);
	case WIRE_VFIO_INIT_DATA_SENT:
		return plain_event(VFIO_EVENT_INIT_DATA_SENT, offset, ret_used, ret);
	case WIRE_VFIO_CONFIG_READY:
		return plain_event(VFIO_EVENT_CONFIG_READY, offset, ret_used, ret);
	case WIRE_VFIO_DATA_STATE:
		return data_begin(p, offset, data, length, ret_used, ret);
	case WIRE_VFIO_CONFIG_STATE:
		return config_event(p, offset, data, length, ret_used, ret, err);
	default:
		p->fault = FAULT_VFIO_FLAG;
		return error_set(err, -EBADMSG,
				 "offset 0x%" PRIx64 ": 0x%016" PRIx64 " where a VFIO packet's flag was expected",
				 offset, flag);
	}
}
