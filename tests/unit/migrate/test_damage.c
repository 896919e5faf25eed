/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_damage.c: streams that are cut or changed anywhere. Never a crash, a
 * hang, or a device that runs with anything of the load in it.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/reader.h"
#include "stream/vfio_packets.h"

#define EDGE 4096u
#define PLACES 1000u

/* A stream under test, the device it is loaded into, and what is right there. */
struct subject {
	struct buffer stream;
	struct vfmig_device *device;
	bool file; /* loaded from a file, which is checked first; else from a pipe */
	bool qemu;
	struct buffer expected; /* opaque: the device's bytes when the load is right */
};

static void subject_close(struct subject *s)
{
	buffer_free(&s->stream);
	buffer_free(&s->expected);
	vfmig_device_close(s->device);
}

static void opaque_bytes(struct vfmig_device *d, struct buffer *ret)
{
	const struct opaque *o = &sim_of(d)->region.opaque;
	*ret = (struct buffer) { 0 };
	for (size_t i = 0; i < o->count; i++)
		buffer_append(ret, o->list[i].data, o->list[i].size);
}

static void vfmig_subject(struct subject *s, bool file)
{
	*s = (struct subject) { .file = file };
	make_stream("size=16K,section=8K,rate=1,start", 20, &s->stream);
	s->device = open_sim("size=16K,section=8K,rate=1,seed=99");
}

static const struct vector {
	const char *path;
	size_t space, data_bytes;
} vectors[] = {
	{ GOLDEN_DIR "/qemu-7.2-v1.stream", 256, 4 * 65536 },
	{ GOLDEN_DIR "/qemu-10.0-v2-mtty.stream", 4096, 24 + 72 },
};

static void qemu_subject(struct subject *s, const struct vector *v, bool file)
{
	struct vfmig_error err;
	*s = (struct subject) { .file = file, .qemu = true };
	buffer_read_file(&s->stream, v->path);
	s->device = open_for_qemu(&s->stream, v->space, "");
	if (load_from(s->device, buffer_file(s->stream.data, s->stream.length), NULL, NULL, &err) < 0)
		fail_msg("%s", err.message);
	opaque_bytes(s->device, &s->expected);
	assert_int_equal(s->expected.length, v->data_bytes);
	assert_int_equal(access_reset(s->device->access, &err), 0);
}

/* Loads data[0..length) and checks what must hold whatever comes of it. Returns whether it was loaded. */
static bool try_load(struct subject *s, const uint8_t *data, size_t length, const char *what, size_t where)
{
	struct vfmig_error err;
	struct vfmig_link *link = s->file ? buffer_file(data, length) : buffer_reader(data, length, 0);
	int r = load_from(s->device, link, NULL, NULL, &err);
	struct sim_device *sim = sim_of(s->device);
	if (sim_state(s->device) != VFMIG_STATE_RUNNING)
		fail_msg("%s at %zu: the device is %s", what, where, vfmig_state_name(sim_state(s->device)));
	if (r < 0) {
		if (sim->loads || sim->work.step || sim->region.opaque.count)
			fail_msg("%s at %zu: the device holds something of a load that failed: %s", what, where,
				 err.message);
		bool clear = strstr(err.message, "offset 0x") || strstr(err.message, "expected") ||
			     strstr(err.message, "the stream");
		if (!clear)
			fail_msg("%s at %zu: no offset and no expectation in: %s", what, where, err.message);
		return false;
	}
	struct buffer got;
	opaque_bytes(s->device, &got);
	if (s->qemu && (got.length != s->expected.length || memcmp(got.data, s->expected.data, got.length) != 0))
		fail_msg("%s at %zu: accepted with other bytes in the device", what, where);
	buffer_free(&got);
	assert_int_equal(access_reset(s->device->access, &err), 0);
	return true;
}

static size_t next_place(size_t at, size_t length)
{
	size_t middle = length > 2 * EDGE ? (length - 2 * EDGE) / PLACES : 1;
	return at < EDGE || at + EDGE >= length ? at + 1 : at + (middle ? middle : 1);
}

static void cut_everywhere(struct subject *s, size_t may_succeed_from)
{
	for (size_t cut = 0; cut < s->stream.length; cut = next_place(cut, s->stream.length)) {
		bool loaded = try_load(s, s->stream.data, cut, "cut", cut);
		if (loaded && cut < may_succeed_from)
			fail_msg("cut at %zu of %zu: accepted", cut, s->stream.length);
	}
	assert_true(try_load(s, s->stream.data, s->stream.length, "whole", 0));
}

static void test_vfmig_stream_cut(void **state)
{
	struct subject s;
	(void)state;
	for (int file = 0; file < 2; file++) {
		vfmig_subject(&s, file);
		cut_everywhere(&s, s.stream.length);
		subject_close(&s);
	}
}

static void test_vfmig_stream_flipped(void **state)
{
	struct subject s;
	(void)state;
	for (int file = 0; file < 2; file++) {
		vfmig_subject(&s, file);
		for (size_t at = 0; at < s.stream.length; at++) {
			uint8_t flip = at % 2 ? 0xff : 1u << (at % 8);
			s.stream.data[at] ^= flip;
			if (try_load(&s, s.stream.data, s.stream.length, "flip", at))
				fail_msg("byte %zu of %zu changed: accepted", at, s.stream.length);
			s.stream.data[at] ^= flip;
		}
		subject_close(&s);
	}
}

static void test_vfmig_stream_with_more_behind(void **state)
{
	struct subject s;
	(void)state;
	vfmig_subject(&s, true);
	struct buffer longer = { 0 };
	buffer_append(&longer, s.stream.data, s.stream.length);
	buffer_append(&longer, "x", 1);
	assert_false(try_load(&s, longer.data, longer.length, "one byte more", longer.length));
	buffer_free(&longer);
	subject_close(&s);
}

/* ------------------------------------------------------------ QEMU's stream */

/*
 * Where the framing lies: headers, footers, flags and sizes of VFIO packets,
 * the config record. `unseen`: nobody can tell a change of that byte, because
 * there is no digest and no second place that it must agree with.
 */
struct framing {
	struct {
		size_t at;
		bool unseen;
	} * bytes;
	size_t count;
	struct vfio_parser parser;
	size_t eof;
};

static void framing_add(struct framing *f, uint64_t offset, uint64_t length, bool unseen)
{
	f->bytes = realloc(f->bytes, (f->count + length) * sizeof(*f->bytes));
	assert_non_null(f->bytes);
	for (uint64_t i = 0; i < length; i++, f->count++) {
		f->bytes[f->count].at = offset + i;
		f->bytes[f->count].unseen = unseen;
	}
}

/* Of the config space, only what tells one device from another is compared. */
static void framing_config(struct framing *f, uint64_t offset, const struct vfio_event *event)
{
	size_t space = event->length > 4096 ? 4096 : 256;
	framing_add(f, offset, 8 + 4, false);
	for (size_t i = 0; i < space; i++) {
		bool identity = i < 4 || (i >= 0x08 && i <= 0x0b) || i == 0x0e || (i >= 0x2c && i <= 0x2f);
		framing_add(f, offset + 12 + i, 1, !identity);
	}
	framing_add(f, offset + 12 + space, event->length - 4 - space, false);
}

static int framing_body(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
			size_t *ret_used, struct vfmig_error *err)
{
	struct framing *f = opaque;
	struct vfio_event event;
	size_t n;
	int r;
	*ret_used = 0;
	while ((r = vfio_parser_next(&f->parser, section->offset + *ret_used, data + *ret_used, length - *ret_used, &n,
				     &event, err)) > 0) {
		uint64_t offset = section->offset + *ret_used;
		*ret_used += n;
		if (event.kind == VFIO_EVENT_CONFIG)
			framing_config(f, offset, &event);
		else if (event.kind != VFIO_EVENT_DATA)
			framing_add(f, offset, n, false);
		if (event.kind == VFIO_EVENT_END)
			return 1;
	}
	return r;
}

static void framing_header(struct framing *f, const struct reader_record *record, bool ours)
{
	uint64_t at = record->offset, length = record->length;
	if (record->kind == READER_CONFIGURATION) {
		/* Which machine it was is the VMM's to compare; capabilities that are not known change nothing. */
		size_t name = strlen(record->name);
		framing_add(f, at, 5, false);
		framing_add(f, at + 5, name, true);
		framing_add(f, at + 5 + name, length - 5 - name, false);
	} else if (record->kind == READER_SECTION && record->section.kind == 'F' && !ours) {
		/* The version of a section that is skipped by its size. */
		framing_add(f, at, length - 4, false);
		framing_add(f, at + length - 4, 4, true);
	} else if (record->kind == READER_SECTION && record->section.kind == 'S' && !ours) {
		/* Which instance of ram it is. */
		framing_add(f, at, length - 8, false);
		framing_add(f, at + length - 8, 4, true);
		framing_add(f, at + length - 4, 4, false);
	} else if (record->kind != READER_DESCRIPTION && record->kind != READER_END)
		framing_add(f, at, length, false);
	if (record->kind == READER_EOF)
		f->eof = at;
}

static void framing_of(const struct subject *s, struct framing *f)
{
	struct reader *reader;
	struct reader_record record;
	struct vfmig_error err;
	struct vfmig_link *link = buffer_file(s->stream.data, s->stream.length);
	*f = (struct framing) { 0 };
	assert_int_equal(reader_new(link, &reader, &err), 0);
	do {
		assert_int_equal(reader_next(reader, &record, &err), 0);
		bool ours = record.kind == READER_SECTION && strcmp(record.name, TEST_ID) == 0;
		framing_header(f, &record, ours);
		if (record.kind != READER_SECTION)
			continue;
		int r;
		while ((r = ours ? reader_feed(reader, framing_body, f, &err) : reader_skip(reader, &err)) > 0)
			;
		assert_int_equal(r, 0);
		framing_add(f, reader_offset(reader) - 5, 5, false);
	} while (record.kind != READER_END);
	reader_free(reader);
	vfmig_link_close(link);
}

static void test_qemu_streams_cut(void **state)
{
	struct subject s;
	struct framing f;
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		qemu_subject(&s, &vectors[i / 2], i % 2);
		framing_of(&s, &f);
		cut_everywhere(&s, f.eof + 1);
		free(f.bytes);
		subject_close(&s);
	}
}

static void test_qemu_streams_flipped(void **state)
{
	struct subject s;
	struct framing f;
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		qemu_subject(&s, &vectors[i / 2], i % 2);
		framing_of(&s, &f);
		for (size_t j = 0; j < f.count; j++) {
			size_t at = f.bytes[j].at;
			s.stream.data[at] ^= 0xff;
			bool loaded = try_load(&s, s.stream.data, s.stream.length, "flip", at);
			s.stream.data[at] ^= 0xff;
			if (loaded && !f.bytes[j].unseen)
				fail_msg("%s: byte 0x%zx changed: accepted", vectors[i / 2].path, at);
		}
		free(f.bytes);
		subject_close(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vfmig_stream_cut),
		cmocka_unit_test(test_vfmig_stream_flipped),
		cmocka_unit_test(test_vfmig_stream_with_more_behind),
		cmocka_unit_test(test_qemu_streams_cut),
		cmocka_unit_test(test_qemu_streams_flipped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
