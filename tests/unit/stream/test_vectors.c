/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vectors.c: QEMU's own streams are read to the last byte, from a file, a pipe and a socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "streams.h"

#define TRACE (64u << 10)

struct vector {
	const char *path;
	size_t sections;
	const char *lines[8]; /* all must appear, in this order */
};

static const struct vector vectors[] = {
	{ GOLDEN_DIR "/qemu-7.2-v1.stream",
	  35,
	  { "CONFIGURATION pc-q35-7.2", "0xc1 SECTION 0000:00:01.0/vfio S 0x26 0 1\n  0xe0 SETUP", "DATA 0 0\n",
	    "DATA 65536 0\n  given 65536\n  0x4c603 DATA 65536 0\n  given 65536\n",
	    "SECTION timer F 0x0 0 2\n  body 24\n", "CONFIG 276 276\n", "SECTION globalstate F 0x28 0 1\n  body 104\n",
	    "0x84668 EOF \n" } },
	{ GOLDEN_DIR "/qemu-10.0-v2-mtty.stream",
	  34,
	  { "CONFIGURATION pc-q35-10.0", "0xc2 SECTION 0000:00:01.0/vfio S 0x25 0 1\n", "DATA 24 0\n  given 24\n",
	    "COMMAND 11 0\n", "DATA 72 0\n  given 72\n", "CONFIG 4116 4116\n",
	    "SECTION globalstate F 0x27 0 1\n  body 104\n", "0x605e6 EOF \n" } },
};

static size_t count_sections(const char *trace)
{
	size_t n = 0;

	for (const char *p = trace; (p = strstr(p, " SECTION ")); p++)
		n++;
	return n;
}

static void check_walk(const struct vector *v, struct memory_link *in)
{
	struct vfmig_error err = { 0 };
	char *trace = calloc(1, TRACE * 40);

	assert_non_null(trace);
	int rc = stream_walk(&in->link, WALK_FEED, trace, TRACE * 40, NULL, &err);
	if (rc < 0)
		print_error("%s: %s\n", v->path, err.message);
	assert_int_equal(rc, 0);
	const char *from = trace;
	for (size_t i = 0; i < 8; i++) {
		const char *at = strstr(from, v->lines[i]);
		if (!at)
			print_error("%s: no '%s'\n", v->path, v->lines[i]);
		assert_non_null(at);
		from = at;
	}
	/* PARTs vary with how busy the machine was; everything else is fixed. */
	assert_true(count_sections(trace) >= v->sections);
	free(trace);
}

/* how: 0 file, 1 pipe, 2 a socket that stays open behind the description, dry all the while. */
static void walk_vector(const struct vector *v, int how, size_t chunk)
{
	struct memory_link in;
	size_t length;
	uint8_t *data = memory_load_file(v->path, &length);

	if (how == 0)
		memory_init_file(&in, data, length);
	else
		memory_init_from(&in, data, length);
	in.chunk = chunk;
	in.dry = how == 2;
	in.link.two_way = how == 2;
	check_walk(v, &in);
	memory_clear(&in);
	free(data);
}

static void from_a_file(void **state)
{
	(void)state;
	walk_vector(&vectors[0], 0, 0);
	walk_vector(&vectors[1], 0, 0);
}

static void from_a_pipe(void **state)
{
	(void)state;
	walk_vector(&vectors[0], 1, 4096);
	walk_vector(&vectors[1], 1, 4096);
}

static void from_a_socket(void **state)
{
	(void)state;
	walk_vector(&vectors[0], 2, 4093);
	walk_vector(&vectors[1], 2, 1);
}

/* Cut anywhere, a file of QEMU's is refused, or ends at EOF when only its description is missing. */
static void cut_files(void **state)
{
	size_t length;
	uint8_t *data = memory_load_file(vectors[0].path, &length);

	(void)state;
	for (size_t n = 0; n < length; n += n < 4096 ? 1 : 4999) {
		struct memory_link in;
		struct vfmig_error err = { 0 };
		memory_init_file(&in, data, n);
		assert_int_equal(stream_walk(&in.link, WALK_SKIP, NULL, 0, NULL, &err), -EBADMSG);
		assert_int_equal(strncmp(err.message, "offset 0x", 9), 0);
		memory_clear(&in);
	}
	free(data);
}

/* Without a description nothing tells how long `timer` is: it is named. */
static void without_a_description(void **state)
{
	size_t length;
	uint8_t *data = memory_load_file(vectors[0].path, &length);

	(void)state;
	for (int how = 0; how < 2; how++) {
		struct memory_link in;
		struct vfmig_error err = { 0 };
		if (how)
			memory_init_file(&in, data, 0x84669);
		else
			memory_init_from(&in, data, 0x84669);
		assert_int_equal(stream_walk(&in.link, WALK_SKIP, NULL, 0, NULL, &err), -EBADMSG);
		assert_non_null(strstr(err.message, "'timer'"));
		memory_clear(&in);
	}
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(from_a_file),
		cmocka_unit_test(from_a_pipe),
		cmocka_unit_test(from_a_socket),
		cmocka_unit_test(cut_files),
		cmocka_unit_test(without_a_description),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
