/* SPDX-License-Identifier: BSD-3-Clause */
/* test_framing.c: records that must not be, each with its message; ram's packets; commands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "streams.h"

#define HEAD "QEVM\0\0\0\3\7\0\0\0\1m"
#define EOS "\xff\xff\xff\xff\xef\x10\0\1"
#define FOOTER(id) "\x7e\0\0\0" id
/* A VFIO device's START, with an empty body, as number 1; and other parts of it. */
#define START(id, name) "\1\0\0\0" id "\6" name "\0\0\0\0\0\0\0\1"
#define DEVICE START("\1", "a/vfio") EOS FOOTER("\1")
#define END_OF_DEVICE "\3\0\0\0\1" EOS FOOTER("\1")
#define FULL(id, name) "\4\0\0\0" id "\6" name "\0\0\0\0\0\0\0\1"
/* As far as a block's name and size. */
#define MAPPED HEAD "\5\x1a" "configuration/capabilities\0\0\0\1\0\0\0\1\x0amapped-ram" RAM \
	"\0\0\0\0\0\0\x10\4" "\2pc\0\0\0\0\0\0\x10\0"
#define RAM "\1\0\0\0\2\3ram\0\0\0\0\0\0\0\4"
#define RAM_END "\0\0\0\0\0\0\0\x10" FOOTER("\2")
/* The memory's size and its one block, "pc" of 4096 bytes. */
#define RAM_LIST "\0\0\0\0\0\0\x10\4" "\2pc\0\0\0\0\0\0\x10\0"

struct bad {
	const char *data;
	size_t length;
	const char *message;
};
#define BAD(text, message) { text, sizeof(text) - 1, message }

static int walk(const char *data, size_t length, struct vfmig_error *err)
{
	struct memory_link in;

	memory_init_from(&in, data, length);
	int rc = stream_walk(&in.link, WALK_SKIP, NULL, 0, NULL, err);
	memory_clear(&in);
	return rc;
}

static void check_bad(const struct bad *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct vfmig_error err = { 0 };
		int rc = walk(cases[i].data, cases[i].length, &err);
		if (rc != -EBADMSG || !strstr(err.message, cases[i].message))
			print_error("case %zu gave %d '%s', expected '%s'\n", i, rc, err.message, cases[i].message);
		assert_int_equal(rc, -EBADMSG);
		assert_non_null(strstr(err.message, cases[i].message));
		assert_int_equal(strncmp(err.message, "offset 0x", 9), 0);
	}
}

static void wrong_records(void **state)
{
	static const struct bad cases[] = {
		BAD("GIF89a..", "offset 0x0: not a migration stream"),
		BAD("QEVM\0\0\0\4", "offset 0x4: stream version 4"),
		BAD("QEVM\0\0\0\3\7\0\0\0\0\0", "offset 0x9: a machine's name of 0 bytes"),
		BAD("QEVM\0\0\0\3\7\xff\xff\xff\xff", "a machine's name of 4294967295 bytes"),
		BAD("QEVM\0\0\0\3\7\0\0\0\2a\0", "NUL"),
		BAD(HEAD "\7", "offset 0xe: CONFIGURATION, which only stands"),
		BAD(HEAD "\x05\5other\0\0\0\1\0", "unknown subsection 'other'"),
		BAD(HEAD "\5\x1a"
			 "configuration/capabilities\0\0\0\1\0\1\0\0",
		    "65536 capabilities"),
		BAD(HEAD "\x55", "offset 0xe: unknown record type 0x55"),
		BAD(HEAD "\2\0\0\0\1", "PART of section 0x1, which never started"),
		BAD(HEAD "\3\0\0\0\1", "END of section 0x1, which never started"),
		BAD(HEAD DEVICE END_OF_DEVICE "\2\0\0\0\1", "PART of section 0x1 ('a/vfio') after its END"),
		BAD(HEAD DEVICE START("\1", "b/vfio"),
		    "START of section 0x1 ('b/vfio'), which appeared already as 'a/vfio'"),
		BAD(HEAD DEVICE START("\2", "a/vfio"), "section 0x2 is 'a/vfio' instance 0, and so was 0x1"),
		BAD(HEAD DEVICE FULL("\1", "b/vfio"), "FULL of section 0x1 is 'b/vfio' instance 0, expected 'a/vfio'"),
		BAD(HEAD DEVICE FULL("\1", "a/vfio") EOS FOOTER("\1") FULL("\1", "a/vfio"),
		    "a second FULL of section 0x1"),
		BAD(HEAD "\1\0\0\0\1\0"
			 "\0\0\0\0\0\0\0\1",
		    "an id that is empty"),
		BAD(HEAD START("\1", "a\0vfio"), "NUL"),
		BAD(HEAD START("\1", "a/vfio") EOS FOOTER("\2"),
		    "the footer of section 0x2 behind section 'a/vfio' (START)"),
		BAD(HEAD START("\1", "a/vfio") EOS "\0\0\0\0\0",
		    "0x00 behind section 'a/vfio' (START), expected its footer"),
		BAD(HEAD START("\1", "slirp!"), "section 'slirp!' is neither ram nor"),
		BAD(HEAD DEVICE FULL("\2", "memory"), "section 'memory' (FULL) stands before the END of 'a/vfio'"),
		BAD(HEAD DEVICE "\0", "before the END of section 'a/vfio'"),
		BAD(HEAD DEVICE END_OF_DEVICE "\0\5", "0x05 behind the end"),
		BAD(HEAD DEVICE END_OF_DEVICE "\0\6\x80\0\0\0", "a description of 2147483648 bytes"),
		BAD(HEAD DEVICE END_OF_DEVICE "\0\6\0\0\0\0", "a description of 0 bytes"),
		BAD(HEAD DEVICE END_OF_DEVICE "\0\6\0\0\0\5{}", "3 more bytes expected"),
	};

	(void)state;
	check_bad(cases, sizeof(cases) / sizeof(cases[0]));
}

static void wrong_commands(void **state)
{
	static const struct bad cases[] = {
		BAD(HEAD "\x08\0\1\0\1x", "command 1 with 1 bytes, expected 0"),
		BAD(HEAD "\x08\0\2\0\0", "command 2 with 0 bytes, expected 4"),
		BAD(HEAD "\x08\0\3\0\x10", "postcopy"),
		BAD(HEAD "\x08\0\7\0\4\xff\xff\xff\xff", "packaged"),
	};

	(void)state;
	check_bad(cases, sizeof(cases) / sizeof(cases[0]));
}

/* A command that nobody knows is given to the owner, with its payload. */
static void unknown_command(void **state)
{
	struct memory_link in;
	struct reader_record rec;
	struct reader *r;

	(void)state;
	memory_init_from(&in, HEAD "\x08\1\x2c\0\3abc", 14 + 8);
	assert_int_equal(reader_new(&in.link, &r, NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(reader_next(r, &rec, NULL), 0);
	assert_int_equal(rec.kind, READER_COMMAND);
	assert_int_equal(rec.command, 300);
	assert_int_equal(rec.payload_length, 3);
	assert_memory_equal(rec.payload, "abc", 3);
	reader_free(r);
	memory_clear(&in);
}

static void wrong_ram(void **state)
{
	static const struct bad cases[] = {
		BAD(HEAD "\1\0\0\0\2\3ram\0\0\0\0\0\0\0\5" RAM_END, "only version 4"),
		BAD(HEAD RAM "\0\0\0\0\0\0\0\x80", "hook"),
		BAD(HEAD RAM "\0\0\0\0\0\0\0\0", "unknown flags 0x0"),
		BAD(HEAD RAM "\0\0\0\0\0\0\0\x28", "before any block"),
		BAD(HEAD RAM "\0\0\0\0\0\0\x10\4"
			     "\2pc\0\0\0\0\0\0\x20\0",
		    "larger than what is left"),
		BAD(HEAD RAM "\0\0\0\0\0\0\0\x40"
			     "\2pc\2\0\1x",
		    "xbzrle"),
		BAD(HEAD RAM "\0\0\0\0\0\0\1\0"
			     "\2pc\0\1\0\0",
		    "compressed"),
		BAD(MAPPED "\0\0\0\2\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x78\0\0\0\0\0\x10\0\0",
		    "has not version 1"),
		BAD(MAPPED "\0\0\0\1\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\1\0\0\0\0\0\x10\0\0",
		    "bitmap lies before"),
		BAD(MAPPED "\0\0\0\1\0\0\0\0\0\0\x10\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0",
		    "in its bitmap or nowhere"),
		BAD(MAPPED "\0\0\0\1\0\0\0\0\0\0\x10\0\0\0\0\0\0\1\0\0\xff\xff\xff\xff\xff\xff\xf0\0",
		    "in its bitmap or nowhere"),
	};

	(void)state;
	check_bad(cases, sizeof(cases) / sizeof(cases[0]));
}

/* Every kind of packet, one byte at a time and dry in between. */
static void all_of_ram(void **state)
{
	static const char before[] = HEAD "\5\x1a" "configuration/capabilities\0\0\0\1\0\0\0\1\6xbzrle"
				     "\5\x1e" "configuration/target-page-bits\0\0\0\1\0\0\0\x0c" RAM RAM_LIST
				     "\0\0\0\0\0\0\0\2\2pc\0" "\0\0\0\0\0\0\0\x22\0"
				     "\0\0\0\0\0\0\0\x60\1\0\3abc" "\0\0\0\0\0\0\1\x20\0\0\0\5abcde"
				     "\0\0\0\0\0\0\2\0" "\0\0\0\0\0\0\0\x08\2pc";
	static const char after[] = RAM_END "\3\0\0\0\2" RAM_END "\0";
	uint8_t page[4096];
	struct memory_link in;
	struct vfmig_error err = { 0 };

	(void)state;
	memset(page, 0xa5, sizeof(page));
	memory_init_from(&in, before, sizeof(before) - 1);
	memory_append(&in, page, sizeof(page));
	memory_append(&in, after, sizeof(after) - 1);
	in.chunk = 1;
	in.dry = true;
	int rc = stream_walk(&in.link, WALK_SKIP, NULL, 0, NULL, &err);
	if (rc < 0)
		print_error("%s\n", err.message);
	assert_int_equal(rc, 0);
	memory_clear(&in);
}

/* A body function that never finds an end is not given more than 64 KiB at once. */
static int takes_nothing(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
			 size_t *ret_used, struct vfmig_error *err)
{
	(void)section, (void)data, (void)err;
	*(size_t *)opaque = length;
	*ret_used = 0;
	return 0;
}

static void gathering_is_bounded(void **state)
{
	struct vfmig_error err;
	struct reader_record rec;
	struct memory_link in;
	struct reader *r;
	size_t seen = 0;
	int rc;

	(void)state;
	memory_init_from(&in, HEAD START("\1", "a/vfio"), 14 + 20);
	for (int i = 0; i < 100000; i++)
		memory_append(&in, "x", 1);
	in.chunk = 1000;
	assert_int_equal(reader_new(&in.link, &r, NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(reader_next(r, &rec, NULL), 0);
	do {
		rc = reader_feed(r, takes_nothing, &seen, &err);
	} while (rc == 1);
	assert_int_equal(rc, -EBADMSG);
	assert_true(seen >= READER_GATHER_MAX && seen < READER_GATHER_MAX + 1000);
	assert_non_null(strstr(err.message, "no packet ends within 65536 bytes"));
	reader_free(r);
	memory_clear(&in);
}

/* Takes 20 bytes, then 3, each all at once. */
static int takes_20_and_3(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
			  size_t *ret_used, struct vfmig_error *err)
{
	bool second = section->offset != section->body_offset;
	size_t wanted = second ? 3 : 20;

	(void)opaque, (void)data, (void)err;
	*ret_used = length < wanted ? 0 : wanted;
	return second && *ret_used;
}

/* That many bytes were wanted once is forgotten when they were taken. */
static void a_small_piece_behind_a_large_one(void **state)
{
	static const char stream[] = HEAD START("\1", "a/vfio") "twenty bytes of this.." "." FOOTER("\1");
	struct vfmig_error err = { 0 };
	struct reader_record rec;
	struct memory_link in;
	struct reader *r;
	int rc;

	(void)state;
	memory_init_from(&in, stream, sizeof(stream) - 1);
	in.chunk = 1;
	assert_int_equal(reader_new(&in.link, &r, NULL), 0);
	while ((rc = reader_next(r, &rec, &err)) == 0 && rec.kind != READER_SECTION)
		;
	assert_int_equal(rc, 0);
	while ((rc = reader_feed(r, takes_20_and_3, NULL, &err)) == 1)
		;
	assert_string_equal(err.message, "");
	assert_int_equal(rc, 0);
	reader_free(r);
	memory_clear(&in);
}

static void too_many_sections(void **state)
{
	struct memory_link in;
	struct vfmig_error err;

	(void)state;
	memory_init_from(&in, HEAD, 14);
	for (unsigned int i = 0; i < 1025; i++) {
		uint8_t start[] = START("\1", "a/vfio") EOS FOOTER("\1");
		put_be32(start + 1, i);
		put_be32(start + 12, i);
		put_be32(start + sizeof(start) - 5, i);
		memory_append(&in, start, sizeof(start) - 1);
	}
	assert_int_equal(stream_walk(&in.link, WALK_SKIP, NULL, 0, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "more than 1024 sections"));
	memory_clear(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_records),
		cmocka_unit_test(wrong_commands),
		cmocka_unit_test(unknown_command),
		cmocka_unit_test(wrong_ram),
		cmocka_unit_test(all_of_ram),
		cmocka_unit_test(gathering_is_bounded),
		cmocka_unit_test(a_small_piece_behind_a_large_one),
		cmocka_unit_test(too_many_sections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
