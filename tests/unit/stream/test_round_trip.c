/* SPDX-License-Identifier: BSD-3-Clause */
/* test_round_trip.c: what the writer puts, the reader gives, however the bytes arrive; and nothing else passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "streams.h"

#define TRACE 8192

static const char expected[] = "0x0 HEADER \n"
			       "0x8 CONFIGURATION pc-q35-7.2\n"
			       "0x17 COMMAND 2 4\n"
			       "0x20 SECTION " TEST_ID " S 0x76666d00 0 1\n"
			       "  0x3f SETUP 0 0\n"
			       "  0x47 END_OF_STATE 0 0\n"
			       "  body 16\n"
			       "0x54 SECTION " TEST_ID " P 0x76666d00 0 1\n"
			       "  0x59 DATA 5 0\n"
			       "  given 5\n"
			       "  0x6e END_OF_STATE 0 0\n"
			       "  body 29\n"
			       "0x7b SECTION " TEST_ID " E 0x76666d00 0 1\n"
			       "  0x80 DATA 0 0\n"
			       "  0x90 DATA 8 0\n"
			       "  given 8\n"
			       "  0xa8 END_OF_STATE 0 0\n"
			       "  body 48\n"
			       "0xb5 SECTION " TEST_ID " F 0x76666d00 0 1\n"
			       "  0xd4 CONFIG 276 276\n"
			       "  0x1f0 END_OF_STATE 0 0\n"
			       "  body 292\n"
			       "0x1fd EOF \n"
			       "0x1fe DESCRIPTION \n";

static void build(struct memory_link *m)
{
	memory_init(m);
	stream_build(m, WIRE_VFMIG_SECTION_ID, true);
}

static void writing_in_pieces_changes_nothing(void **state)
{
	struct memory_link whole, pieces;

	(void)state;
	build(&whole);
	for (size_t chunk = 1; chunk < 40; chunk++) {
		memory_init(&pieces);
		pieces.chunk = chunk;
		pieces.dry = chunk & 1;
		stream_build(&pieces, WIRE_VFMIG_SECTION_ID, true);
		assert_int_equal(pieces.length, whole.length);
		assert_memory_equal(pieces.data, whole.data, whole.length);
		memory_clear(&pieces);
	}
	memory_clear(&whole);
}

static void check_trace(struct memory_link *in)
{
	struct vfmig_error err = { 0 };
	char trace[TRACE];
	bool verified = false;

	int rc = stream_walk(&in->link, WALK_FEED, trace, sizeof(trace), &verified, &err);
	assert_string_equal(err.code == -EAGAIN ? "" : err.message, "");
	assert_int_equal(rc, 0);
	assert_true(verified);
	assert_memory_equal(trace, expected, sizeof(expected) - 1);
}

static void reading_in_pieces_changes_nothing(void **state)
{
	struct memory_link whole, in;

	(void)state;
	build(&whole);
	for (size_t chunk = 0; chunk < 40; chunk++) {
		memory_init_from(&in, whole.data, whole.length);
		in.chunk = chunk;
		in.dry = chunk & 1;
		check_trace(&in);
		memory_clear(&in);
	}
	memory_init_file(&in, whole.data, whole.length);
	check_trace(&in);
	memory_clear(&in);
	memory_clear(&whole);
}

static int walk(const uint8_t *data, size_t length, bool file, enum walk_how how, struct vfmig_error *err)
{
	struct memory_link in;

	if (file)
		memory_init_file(&in, data, length);
	else
		memory_init_from(&in, data, length);
	int rc = stream_walk(&in.link, how, NULL, 0, NULL, err);
	memory_clear(&in);
	return rc;
}

/* As an error of the stream, and with the offset. */
static void assert_broken(int rc, const struct vfmig_error *err, size_t at)
{
	if (rc != -EBADMSG || strncmp(err->message, "offset 0x", 9) != 0)
		print_error("at %zu: %d, '%s'\n", at, rc, err->message);
	assert_int_equal(rc, -EBADMSG);
	assert_int_equal(strncmp(err->message, "offset 0x", 9), 0);
}

static void every_truncation_is_an_error(void **state)
{
	struct memory_link whole;

	(void)state;
	build(&whole);
	for (size_t length = 0; length < whole.length; length++) {
		for (int how = 0; how < 4; how++) {
			struct vfmig_error err = { 0 };
			int rc = walk(whole.data, length, how & 1, how & 2 ? WALK_FEED : WALK_SKIP, &err);
			assert_broken(rc, &err, length);
			assert_non_null(strstr(err.message, "ends in the middle of"));
		}
	}
	memory_clear(&whole);
}

static void every_flipped_byte_is_an_error(void **state)
{
	static const uint8_t flips[] = { 0x01, 0x80, 0xff, 0x20 };
	struct memory_link whole;

	(void)state;
	build(&whole);
	for (size_t at = 0; at < whole.length; at++) {
		for (int how = 0; how < 16; how++) {
			struct vfmig_error err = { 0 };
			whole.data[at] ^= flips[how >> 2];
			int rc = walk(whole.data, whole.length, how & 1, how & 2 ? WALK_FEED : WALK_SKIP, &err);
			whole.data[at] ^= flips[how >> 2];
			assert_broken(rc, &err, at);
		}
	}
	memory_clear(&whole);
}

static void bytes_behind_the_end_of_a_file(void **state)
{
	struct memory_link whole;
	struct vfmig_error err = { 0 };

	(void)state;
	build(&whole);
	memory_append(&whole, "x", 1);
	assert_broken(walk(whole.data, whole.length, true, WALK_FEED, &err), &err, whole.length);
	assert_non_null(strstr(err.message, "stream's end"));
	memory_clear(&whole);
}

/* A link that goes both ways is not read behind the end of a stream that is not vfmig's. */
static void unmarked_ends_at_eof(void **state)
{
	struct memory_link m;
	struct vfmig_error err = { 0 };
	bool verified = true;

	(void)state;
	memory_init(&m);
	stream_build(&m, 5, false);
	memory_append(&m, "\0\6garbage", 9);
	m.link.two_way = true;
	m.chunk = 1;
	assert_int_equal(stream_walk(&m.link, WALK_FEED, NULL, 0, &verified, &err), 0);
	assert_false(verified);
	memory_clear(&m);
}

static void marked_needs_its_description(void **state)
{
	struct memory_link m;
	struct vfmig_error err = { 0 };
	static const uint8_t qemus[] = { 0, 6, 0, 0, 0, 2, '{', '}' };

	(void)state;
	memory_init(&m);
	stream_build(&m, WIRE_VFMIG_SECTION_ID, false);
	memory_append(&m, qemus, 1);
	m.link.two_way = true;
	assert_broken(stream_walk(&m.link, WALK_FEED, NULL, 0, NULL, &err), &err, 0);
	memory_append(&m, qemus + 1, sizeof(qemus) - 1);
	assert_broken(walk(m.data, m.length, false, WALK_FEED, &err), &err, 0);
	assert_non_null(strstr(err.message, "no 'vfmig' object"));
	memory_clear(&m);
}

/* 64 KiB fit, more is an error at the flush, and a reference must be the last. */
static void the_queue_is_bounded(void **state)
{
	static uint8_t data[64 << 10];
	struct memory_link m;
	struct vfmig_writer *w;
	struct vfmig_error err;

	(void)state;
	memory_init(&m);
	assert_int_equal(writer_new(&m.link, &w, NULL), 0);
	writer_section_begin(w, 'S', 1, TEST_ID, 0, 1);
	vfmig_put_bytes(w, data, sizeof(data));
	assert_int_equal(writer_flush(w, &err), 0);
	vfmig_put_bytes(w, data, sizeof(data));
	vfmig_put_bytes(w, data, 2048);
	assert_int_equal(writer_flush(w, &err), -ENOBUFS);
	writer_free(w);
	assert_int_equal(writer_new(&m.link, &w, NULL), 0);
	vfmig_put_ref(w, data, 5);
	vfmig_put_u8(w, 1);
	assert_int_equal(writer_flush(w, &err), -ENOBUFS);
	writer_free(w);
	memory_clear(&m);
}

/* A reference is digested piece by piece; in whatever parts it is sent, the seal is that of all bytes before it. */
static void a_large_reference_is_sealed(void **state)
{
	static const size_t chunks[] = { 0, 4096, 1000003 };
	static uint8_t data[(3 << 20) + 5];
	const struct description d = { .machine = "pc-q35-7.2" };

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 2654435761u >> 11);
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		struct memory_link m;
		struct vfmig_writer *w;
		struct vfmig_error err;
		char hex[DIGEST_HEX];

		memory_init(&m);
		m.chunk = chunks[i];
		m.dry = m.chunk > 0;
		assert_int_equal(writer_new(&m.link, &w, &err), 0);
		writer_header(w, d.machine);
		vfmig_put_ref(w, data, sizeof(data));
		while (writer_flush(w, &err) == -EAGAIN)
			;
		assert_int_equal(writer_sent(w), writer_offset(w));
		assert_int_equal(writer_finish(w, &d, &err), 0);
		while (writer_flush(w, &err) == -EAGAIN)
			;
		size_t sealed = m.length - strlen(DESCRIPTION_TAIL) - (DIGEST_HEX - 1);
		XXH128_hash_t h = XXH3_128bits(m.data, sealed);
		description_hex(h.high64, h.low64, hex);
		assert_memory_equal(m.data + sealed, hex, DIGEST_HEX - 1);
		assert_non_null(memmem(m.data, m.length, data, sizeof(data)));
		writer_free(w);
		memory_clear(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writing_in_pieces_changes_nothing),
		cmocka_unit_test(reading_in_pieces_changes_nothing),
		cmocka_unit_test(every_truncation_is_an_error),
		cmocka_unit_test(every_flipped_byte_is_an_error),
		cmocka_unit_test(bytes_behind_the_end_of_a_file),
		cmocka_unit_test(unmarked_ends_at_eof),
		cmocka_unit_test(marked_needs_its_description),
		cmocka_unit_test(the_queue_is_bounded),
		cmocka_unit_test(a_large_reference_is_sealed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
