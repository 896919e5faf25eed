/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect_channel.c: reads what was recorded of one channel of a migration and makes a record of each packet. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "inspect_json.h"
#include "lint.h"
#include "output.h"
#include "pci_text.h"
#include "stream/multifd.h"
#include "stream/vfio_packets.h"

#define BUFFER (1u << 20) /* what a reader has read already fits */
/* The record between its flag and the end of state, the display's subsections included. */
#define CONFIG_MAX (READER_GATHER_MAX)

/* What was seen of one device. */
struct device {
	char id[WIRE_MULTIFD_ID];
	uint32_t instance_id, highest, config_index;
	bool config;
	uint8_t *seen; /* a bit for each index below SEEN_MAX */
};

#define DEVICES_MAX 256u
#define SEEN_MAX (1u << 20)

struct channel {
	struct vfmig_link *link;
	struct inspect_sink *sink;
	uint64_t offset; /* of bytes[start] */
	size_t start, have;
	bool ended;
	enum stream_fault fault;
	uint8_t *bytes; /* BUFFER; [start, start + have) were not taken yet */
	struct device *devices;
	size_t num_devices;
};

/* -------------------------------------------------------------- its bytes */

static const uint8_t *bytes(const struct channel *c)
{
	return c->bytes + c->start;
}

static ssize_t read_some(struct channel *c, struct vfmig_error *err)
{
	ssize_t n;

	memmove(c->bytes, bytes(c), c->have);
	c->start = 0;
	if (c->link->seekable) {
		do {
			n = pread(c->link->file_fd, c->bytes + c->have, BUFFER - c->have, (off_t)(c->offset + c->have));
		} while (n < 0 && errno == EINTR);
		return n < 0 ? error_errno(err, -errno, "read") : n;
	}
	while ((n = link_read(c->link, c->bytes + c->have, BUFFER - c->have, err)) == -EAGAIN)
		inspect_wait(c->link, POLLIN);
	return n;
}

/* At least n bytes (at most BUFFER), or as many as there are. */
static int fill(struct channel *c, size_t n, struct vfmig_error *err)
{
	while (c->have < n && !c->ended) {
		ssize_t got = read_some(c, err);
		if (got < 0)
			return (int)got;
		c->ended = got == 0;
		c->have += (size_t)got;
	}
	return 0;
}

static void take(struct channel *c, size_t n)
{
	c->have -= n;
	c->offset += n;
	c->start += n;
}

static int truncated(struct channel *c, uint64_t missing, struct vfmig_error *err)
{
	c->fault = FAULT_TRUNCATED;
	return error_set(err, -EBADMSG,
			 "offset 0x%" PRIx64 ": the channel ends in the middle of a packet, %" PRIu64
			 " more bytes expected",
			 c->offset + c->have, missing);
}

static int pass(struct channel *c, uint64_t n, struct vfmig_error *err)
{
	while (n) {
		size_t now = (size_t)min_u64(n, c->have);
		take(c, now);
		n -= now;
		if (n && c->link->seekable && c->link->size > c->offset) {
			uint64_t jump = min_u64(n, c->link->size - c->offset);
			c->offset += jump;
			n -= jump;
		}
		int rc = n ? fill(c, 1, err) : 0;
		if (rc < 0)
			return rc;
		if (n && c->have == 0)
			return truncated(c, n, err);
	}
	return 0;
}

/* ------------------------------------------------------------- its packets */

static void give(struct channel *c, struct json_object *o)
{
	c->sink->record(c->sink, o);
	json_object_put(o);
}

static struct json_object *new_record(const struct channel *c, const char *type, uint64_t length)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "type", output_string(type));
	record_add_number(o, "offset", c->offset);
	record_add_number(o, "length", length);
	return o;
}

static void broken(struct channel *c, unsigned int rule, const char *what, const struct multifd_packet *p)
{
	char message[512];

	if (!c->sink->broken)
		return;
	snprintf(message, sizeof(message), "'%s' instance %" PRIu32 ": index %" PRIu32 " %s", p->id, p->instance_id,
		 p->index, what);
	c->sink->broken(c->sink, rule, c->offset, message);
}

static struct device *find(struct channel *c, const struct multifd_packet *p)
{
	for (size_t i = 0; i < c->num_devices; i++) {
		struct device *d = &c->devices[i];
		if (d->instance_id == p->instance_id && strcmp(d->id, p->id) == 0)
			return d;
	}
	if (c->num_devices == DEVICES_MAX)
		return NULL;
	struct device *d = &c->devices[c->num_devices];
	*d = (struct device) { .instance_id = p->instance_id, .seen = calloc(1, SEEN_MAX / 8) };
	if (!d->seen)
		return NULL;
	memcpy(d->id, p->id, sizeof(d->id));
	c->num_devices++;
	return d;
}

static void check_index(struct channel *c, const struct multifd_packet *p)
{
	struct device *d = find(c, p);

	if (!d)
		return;
	uint8_t *seen = p->index < SEEN_MAX ? &d->seen[p->index / 8] : NULL, bit = (uint8_t)(1u << p->index % 8);
	if (seen && *seen & bit)
		broken(c, LINT_INDEX_TWICE, "came before", p);
	if (seen)
		*seen |= bit;
	if (d->config && (p->config || p->index > d->config_index))
		broken(c, LINT_CONFIG_NOT_LAST, "comes beside or behind the config record's", p);
	else if (p->config && d->highest > p->index)
		broken(c, LINT_CONFIG_NOT_LAST, "is the config record's, and a higher one came", p);
	if (p->config) {
		d->config = true;
		d->config_index = p->index;
	}
	d->highest = p->index > d->highest ? p->index : d->highest;
}

/* Flag, record, end of state. */
static int add_config(struct channel *c, struct json_object *o, const struct multifd_packet *p, size_t head,
		      struct vfmig_error *err)
{
	uint64_t length = p->length;
	struct vfio_parser parser = { 0 };
	struct vfio_event event;
	size_t used, have;

	int rc = fill(c, head + (size_t)min_u64(length, CONFIG_MAX), err);
	if (rc < 0)
		return rc;
	have = (size_t)min_u64(length, c->have - head);
	rc = vfio_parser_next(&parser, c->offset + head, bytes(c) + head, have, &used, &event, err);
	c->fault = parser.fault;
	if (rc < 0)
		return rc;
	if (rc == 0 && have < length)
		return truncated(c, length - have, err);
	if (rc == 0 || event.kind != VFIO_EVENT_CONFIG) {
		c->fault = FAULT_CONFIG_END;
		return error_set(err, -EBADMSG, "offset 0x%" PRIx64 ": no config record with an end of state",
				 c->offset + head);
	}
	record_add_number(o, "record_bytes", event.length);
	json_object_object_add(o, "config", pci_record_json(event.data, event.length));
	if (!c->sink->config)
		return 0;
	struct reader_record section = { .section = { .kind = 'F', .instance_id = p->instance_id } };
	snprintf(section.name, sizeof(section.name), "%s", p->id);
	return c->sink->config(c->sink, &section, c->offset + head + 8, event.data, event.length, err);
}

static int give_packet(struct channel *c, const struct multifd_packet *p, size_t head, struct vfmig_error *err)
{
	struct json_object *o = new_record(c, "channel-packet", head + p->length);
	int rc = 0;

	json_object_object_add(o, "packet", output_string(p->state ? "device" : p->sync ? "sync" : "memory"));
	record_add_text(o, p->state ? "id" : "block", p->id);
	record_add_number(o, "bytes", p->length);
	if (p->state) {
		record_add_number(o, "instance_id", p->instance_id);
		record_add_number(o, "index", p->index);
		check_index(c, p);
		if (p->config)
			rc = add_config(c, o, p, head, err);
	} else {
		record_add_number(o, "pages", p->memory_pages);
		record_add_number(o, "zero_pages", p->zero_pages);
	}
	if (rc == 0)
		give(c, o);
	else
		json_object_put(o);
	return rc < 0 ? rc : pass(c, head + p->length, err);
}

/* 1: the channel has ended, where it may. */
static int packet(struct channel *c, struct vfmig_error *err)
{
	struct multifd_packet p = { 0 };
	size_t need;
	int rc = 0;

	do {
		rc = multifd_packet_get(bytes(c), c->have, &need, &p, err);
		size_t had = c->have;
		if (rc == 0)
			rc = fill(c, need, err);
		if (rc == 0 && c->have == had)
			return had ? truncated(c, need - had, err) : 1;
	} while (rc == 0);
	if (rc < 0) {
		c->fault = p.fault;
		return error_prefix(err, rc, "offset 0x%" PRIx64, c->offset);
	}
	return give_packet(c, &p, need, err);
}

static int begin(struct channel *c, struct vfmig_error *err)
{
	struct multifd_init init = { 0 };
	char hex[2 * WIRE_MULTIFD_UUID + 1];

	int rc = fill(c, WIRE_MULTIFD_INIT, err);
	if (rc < 0)
		return rc;
	if (c->have < WIRE_MULTIFD_INIT)
		return truncated(c, WIRE_MULTIFD_INIT - c->have, err);
	rc = multifd_init_get(bytes(c), &init, err);
	if (rc < 0) {
		c->fault = init.fault;
		return error_prefix(err, rc, "offset 0x%" PRIx64, c->offset);
	}
	for (unsigned int i = 0; i < WIRE_MULTIFD_UUID; i++)
		sprintf(hex + 2 * i, "%02x", init.uuid[i]);
	struct json_object *o = new_record(c, "channel", WIRE_MULTIFD_INIT);
	record_add_number(o, "channel", init.channel);
	record_add_text(o, "uuid", hex);
	give(c, o);
	take(c, WIRE_MULTIFD_INIT);
	return 0;
}

int inspect_channel(struct vfmig_link *link, struct cursor first, struct inspect_sink *sink, struct inspect_result *ret,
		    struct vfmig_error *err)
{
	struct channel c = {
		.link = link, .sink = sink, .bytes = malloc(BUFFER), .devices = calloc(DEVICES_MAX, sizeof(*c.devices))
	};
	int rc = c.bytes && c.devices ? 0 : error_errno(err, -ENOMEM, "channel");

	if (rc == 0 && !link->seekable && first.length <= BUFFER) {
		memcpy(c.bytes, first.data, first.length);
		c.have = first.length;
	}
	c.offset = sink->begin;
	if (rc == 0)
		rc = begin(&c, err);
	while (rc == 0)
		rc = packet(&c, err);
	*ret = (struct inspect_result) { .bytes = c.offset - sink->begin,
					 .channel = true,
					 .fault = rc < 0 ? c.fault : FAULT_NONE };
	for (size_t i = 0; i < c.num_devices; i++)
		free(c.devices[i].seen);
	free(c.devices);
	free(c.bytes);
	return rc < 0 ? rc : 0;
}
