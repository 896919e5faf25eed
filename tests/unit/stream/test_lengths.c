/* SPDX-License-Identifier: BSD-3-Clause */
/* test_lengths.c: FULL sections whose length only the description tells, and descriptions that lie about it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "streams.h"

#define HEAD "QEVM\0\0\0\3\7\0\0\0\1m"
#define FULL "\4\0\0\0\2\6timer!\0\0\0\0\0\0\0\1"
#define FOOTER "\x7e\0\0\0\2"
#define BODY "body of timer"
#define JSON(size) "{\"devices\":[{\"name\":\"timer!\",\"instance_id\":0,\"fields\":[{\"size\":" size "}]}]"

static void add_description(struct memory_link *m, const char *json, size_t padding)
{
	uint8_t head[6] = { WIRE_EOF, WIRE_DESCRIPTION };
	size_t length = strlen(json) + padding + 1;

	put_be32(head + 2, (uint32_t)length);
	memory_append(m, head, sizeof(head));
	memory_append(m, json, strlen(json));
	for (; padding; padding--)
		memory_append(m, " ", 1);
	memory_append(m, "}", 1);
}

static void build(struct memory_link *m, const void *body, size_t length, const char *json, size_t padding)
{
	memory_init_from(m, HEAD FULL, sizeof(HEAD FULL) - 1);
	memory_append(m, body, length);
	memory_append(m, FOOTER, 5);
	add_description(m, json, padding);
}

static int walk_file(const struct memory_link *m, struct vfmig_error *err)
{
	struct memory_link file;

	memory_init_file(&file, m->data, m->length);
	int rc = stream_walk(&file.link, WALK_SKIP, NULL, 0, NULL, err);
	memory_clear(&file);
	return rc;
}

static int walk_pipe(const struct memory_link *m, size_t chunk, struct vfmig_error *err)
{
	struct memory_link in;

	memory_init_from(&in, m->data, m->length);
	in.chunk = chunk;
	in.dry = chunk != 0;
	int rc = stream_walk(&in.link, WALK_SKIP, NULL, 0, NULL, err);
	memory_clear(&in);
	return rc;
}

static void assert_fine(int rc, const struct vfmig_error *err)
{
	if (rc < 0)
		print_error("%s\n", err->message);
	assert_int_equal(rc, 0);
}

static void assert_says(int rc, const struct vfmig_error *err, const char *message)
{
	if (rc != -EBADMSG || !strstr(err->message, message))
		print_error("%d '%s', expected '%s'\n", rc, err->message, message);
	assert_int_equal(rc, -EBADMSG);
	assert_non_null(strstr(err->message, message));
}

/*
 * A file's end is looked at in pieces of 64 KiB: the description may begin
 * across two of them. That it was found there is seen by a FULL among the
 * STARTs, which holding cannot get past.
 */
static void found_across_pieces(void **state)
{
	static const char device[] = "\1\0\0\0\1\4vfio\0\0\0\0\0\0\0\1\xff\xff\xff\xff\xef\x10\0\1\x7e\0\0\0\1";
	static const char end[] = "\3\0\0\0\1\xff\xff\xff\xff\xef\x10\0\1\x7e\0\0\0\1";

	(void)state;
	for (size_t length = (64u << 10) - 12; length < (64u << 10) + 4; length++) {
		struct memory_link m;
		struct vfmig_error err = { 0 };
		memory_init_from(&m, HEAD, sizeof(HEAD) - 1);
		memory_append(&m, device, sizeof(device) - 1);
		memory_append(&m, FULL BODY FOOTER, sizeof(FULL BODY FOOTER) - 1);
		memory_append(&m, end, sizeof(end) - 1);
		add_description(&m, JSON("13"), length - strlen(JSON("13")));
		assert_fine(walk_file(&m, &err), &err);
		assert_says(walk_pipe(&m, 0, &err), &err, "section 'timer!' (FULL) stands before the END of 'vfio'");
		memory_clear(&m);
	}
}

static void waited_for(void **state)
{
	struct memory_link m;
	struct vfmig_error err = { 0 };

	(void)state;
	build(&m, BODY, 13, JSON("13"), 0);
	assert_fine(walk_pipe(&m, 1, &err), &err);
	assert_fine(walk_pipe(&m, 0, &err), &err);
	memory_clear(&m);
	/* larger than the reader's buffer is at first */
	uint8_t *large = calloc(1, 3u << 20);
	assert_non_null(large);
	build(&m, large, 3u << 20, JSON("3145728"), 0);
	assert_fine(walk_pipe(&m, 100000, &err), &err);
	memory_clear(&m);
	free(large);
}

/* In the held bytes stands what looks like a description and even names the section, but leads nowhere. */
static void a_decoy(void **state)
{
	struct memory_link decoy, m;
	struct vfmig_error err = { 0 };
	char size[200];

	(void)state;
	memory_init(&decoy);
	memory_append(&decoy, FOOTER, 5);
	add_description(&decoy, JSON("1"), 0);
	snprintf(size, sizeof(size), JSON("%zu"), decoy.length);
	build(&m, decoy.data, decoy.length, size, 0);
	assert_fine(walk_pipe(&m, 1, &err), &err);
	assert_fine(walk_pipe(&m, 0, &err), &err);
	assert_fine(walk_file(&m, &err), &err);
	memory_clear(&m);
	memory_clear(&decoy);
}

static void sizes_that_lie(void **state)
{
	static const char *const sizes[] = { JSON("12"), JSON("14"), JSON("18446744073709551615") };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct memory_link m;
		struct vfmig_error err = { 0 };
		build(&m, BODY, 13, sizes[i], 0);
		assert_says(walk_pipe(&m, 0, &err), &err,
			    "without a description that tells how long section 'timer!' is");
		assert_says(walk_file(&m, &err), &err,
			    i == 2 ? "the stream ends in the middle of section 'timer!' (FULL)"
				   : "expected its footer");
		memory_clear(&m);
	}
}

static void not_in_the_description(void **state)
{
	struct memory_link m;
	struct vfmig_error err = { 0 };

	(void)state;
	build(&m, BODY, 13, "{\"devices\":[]", 0);
	assert_says(walk_file(&m, &err), &err, "does not tell how long section 'timer!' instance 0 is");
	memory_clear(&m);
}

/* No more is held than READER_HOLD_MAX, description included. */
static void holding_is_bounded(void **state)
{
	size_t length = READER_HOLD_MAX + 1;
	uint8_t *large = calloc(1, length);
	struct memory_link m;
	struct vfmig_error err = { 0 };

	(void)state;
	assert_non_null(large);
	build(&m, large, length, JSON("8388609"), 0);
	assert_says(walk_pipe(&m, 0, &err), &err, "no description that tells its length within 8388608 bytes");
	assert_fine(walk_file(&m, &err), &err);
	memory_clear(&m);
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found_across_pieces),
		cmocka_unit_test(waited_for),
		cmocka_unit_test(a_decoy),
		cmocka_unit_test(sizes_that_lie),
		cmocka_unit_test(not_in_the_description),
		cmocka_unit_test(holding_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
