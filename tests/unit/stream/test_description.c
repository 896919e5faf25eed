/* SPDX-License-Identifier: BSD-3-Clause */
/* test_description.c: descriptions to text and back, and JSON that lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/description.h"

#define DIGEST "0123456789abcdef0123456789abcdef"

static struct description_device devices[] = {
	{ .id = "0000:00:01.0/vfio", .has_identity = true, .identity = { 0x8086, 0x1572, 0xffff, 1, 0x020000, 0xfe },
	  .data_bytes = UINT64_MAX, .data_packets = 3, .data_digest = DIGEST, .config_bytes = 276, .full_bytes = 292 },
	{ .id = "\"odd\\\n/vfio", .instance_id = UINT32_MAX, .data_digest = DIGEST, .config_digest = DIGEST },
};

static char *format_whole(const struct description *d)
{
	char *text, *whole;

	assert_int_equal(description_format(d, &text, NULL), 0);
	size_t length = strlen(text) + strlen(DIGEST DESCRIPTION_TAIL) + 1;
	assert_string_equal(text + strlen(text) - 8, "\"seal\":\"");
	whole = malloc(length);
	assert_non_null(whole);
	snprintf(whole, length, "%s%s", text, DIGEST DESCRIPTION_TAIL);
	free(text);
	return whole;
}

static void there_and_back(void **state)
{
	struct description d = { .machine = "pc-q35-7.2", .devices = devices, .num_devices = 2 }, back = { 0 };
	struct vfmig_error err;
	char *text = format_whole(&d);

	(void)state;
	assert_int_equal(description_parse(text, strlen(text), &back, &err), 1);
	assert_int_equal(back.version, 2);
	assert_string_equal(back.machine, d.machine);
	assert_int_equal(back.num_devices, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct description_device *a = &devices[i], *b = description_find(&back, a->id, a->instance_id);
		assert_non_null(b);
		assert_memory_equal(&a->identity, &b->identity, sizeof(a->identity));
		assert_int_equal(a->has_identity, b->has_identity);
		assert_true(a->data_bytes == b->data_bytes && a->data_packets == b->data_packets);
		assert_true(a->config_bytes == b->config_bytes && a->full_bytes == b->full_bytes);
		assert_string_equal(a->data_digest, b->data_digest);
		assert_string_equal(a->config_digest, b->config_digest);
	}
	assert_null(description_find(&back, devices[0].id, 1));
	free(text);
	description_clear(&back);
}

static void assert_refused(const char *text, const char *message)
{
	struct description d = { 0 };
	struct vfmig_error err = { 0 };

	int rc = description_parse(text, strlen(text), &d, &err);
	if (rc != -EBADMSG || !strstr(err.message, message))
		print_error("%s\n gave %d '%s'\n expected '%s'\n", text, rc, err.message, message);
	assert_int_equal(rc, -EBADMSG);
	assert_non_null(strstr(err.message, message));
	assert_int_equal(d.num_devices, 0);
}

#define DEVICE(id, digest, more) \
	"{\"id\":" id ",\"instance_id\":0,\"data_bytes\":1,\"data_packets\":1,\"data_digest\":" digest \
	",\"config_bytes\":1" more "}"
#define GOOD DEVICE("\"a/vfio\"", "\"" DIGEST "\"", "")
#define VFMIG(version, devices)                                                                                        \
	"{\"devices\":[],\"vfmig\":{\"version\":" version ",\"machine\":\"m\",\"devices\":[" devices                   \
	"],\"seal\":\"" DIGEST "\"}}"

static void lies(void **state)
{
	static const struct { const char *text, *message;
	} cases[] = {
		{ "", "0 bytes" },
		{ "[]", "not one JSON object" },
		{ "{} x", "JSON" },
		{ "{}{}", "JSON" },
		{ "{\"vfmig\":", "no end" },
		{ "{\"vfmig\":{\"a\"}}", "JSON at byte" },
		{ "{\"vfmig\":7}", "vfmig.version" },
		{ VFMIG("0", ""), "vfmig.version" },
		{ VFMIG("-1", ""), "vfmig.version" },
		{ VFMIG("\"1\"", ""), "vfmig.version" },
		{ VFMIG("3", ""), "newer" },
		{ VFMIG("1", "7"), "vfmig.devices[0].id" },
		{ VFMIG("1", DEVICE("7", "\"" DIGEST "\"", "")), "vfmig.devices[0].id" },
		{ VFMIG("1", DEVICE("\"a\\u0000b\"", "\"" DIGEST "\"", "")), "vfmig.devices[0].id" },
		{ VFMIG("1", DEVICE("\"a\"", "\"" DIGEST "0\"", "")), "data_digest" },
		{ VFMIG("1", DEVICE("\"a\"", "\"0123456789ABCDEF0123456789abcdef\"", "")), "data_digest" },
		{ VFMIG("1", DEVICE("\"a\"", "\"0\"", "")), "data_digest" },
		{ VFMIG("1", DEVICE("\"a\"", "\"" DIGEST "\"", ",\"config_digest\":\"0\"")), "config_digest" },
		{ VFMIG("1", GOOD "," GOOD), "vfmig.devices[1] is one that came before" },
		{ VFMIG("1", DEVICE("\"a\"", "\"" DIGEST "\"", ",\"identity\":[]")), "vfmig.devices[0].vendor" },
		{ VFMIG("1", DEVICE("\"a\"", "\"" DIGEST "\"", ",\"identity\":{\"vendor\":65536}")),
		  "vfmig.devices[0].vendor" },
		{ "{\"vfmig\":{\"version\":1,\"machine\":\"m\",\"devices\":[],\"seal\":\"xyz\"}}", "vfmig.seal" },
		{ "{\"vfmig\":{\"version\":1,\"machine\":\"m\",\"devices\":{},\"seal\":\"" DIGEST "\"}}",
		  "vfmig.devices" },
		{ "{\"vfmig\":{\"version\":1,\"devices\":[],\"seal\":\"" DIGEST "\"}}", "vfmig.machine" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_refused(cases[i].text, cases[i].message);
}

static void unknown_members_are_passed_over(void **state)
{
	struct description d = { 0 };
	const char *text = VFMIG("1", DEVICE("\"a\"", "\"" DIGEST "\"", ",\"later\":{\"x\":[1,2]}"));

	(void)state;
	assert_int_equal(description_parse(text, strlen(text), &d, NULL), 1);
	description_clear(&d);
	assert_int_equal(description_parse("{\"page_size\":4096}", 18, &d, NULL), 0);
}

/* Deep, or made of ever so many small things: refused before it costs memory. */
static void large_things(void **state)
{
	size_t length = 4u << 20;
	char *text = malloc(length + 1);

	(void)state;
	assert_non_null(text);
	text[length] = '\0';
	memset(text, '[', length);
	memcpy(text, "{\"a\":", 5);
	assert_refused(text, "too many members");
	text[1000] = '\0';
	assert_refused(text, "JSON at byte");
	for (size_t i = 6; i < length; i++)
		text[i] = i & 1 ? '1' : ',';
	assert_refused(text, "too many members");
	free(text);
}

static int size_of(const char *text, uint64_t *ret)
{
	struct description_sizes *sizes;

	int rc = description_sizes_parse(text, strlen(text), &sizes, NULL);
	if (rc < 0)
		return rc;
	rc = description_sizes_find(sizes, "d", 0, ret);
	assert_int_equal(description_sizes_find(sizes, "d", 1, ret), -ENOENT);
	description_sizes_free(sizes);
	return rc;
}

#define SIZED(members) "{\"devices\":[{\"name\":\"d\",\"instance_id\":0," members "}]}"

static void sizes(void **state)
{
	static const struct { const char *text; int rc; uint64_t size; } cases[] = {
		{ SIZED("\"fields\":[]"), 0, 0 },
		{ SIZED("\"fields\":[{\"size\":3},{\"size\":4,\"array_len\":5}]"), 0, 23 },
		{ SIZED("\"fields\":[{\"size\":3,\"struct\":{\"fields\":[{\"size\":3}]}}]"), 0, 3 },
		{ SIZED("\"fields\":[{\"size\":1}],\"subsections\":[{\"vmsd_name\":\"a/b\",\"fields\":[{\"size\":2}],"
			"\"subsections\":[{\"vmsd_name\":\"c\"}]}]"), 0, 1 + 6 + 3 + 2 + 6 + 1 },
		{ SIZED("\"fields\":[{\"size\":-1}]"), -EBADMSG, 0 },
		{ SIZED("\"fields\":[{\"size\":\"1\"}]"), -EBADMSG, 0 },
		{ SIZED("\"fields\":[7]"), -EBADMSG, 0 },
		{ SIZED("\"fields\":[{\"size\":18446744073709551615},{\"size\":1}]"), -EBADMSG, 0 },
		{ SIZED("\"fields\":[{\"size\":4294967296,\"array_len\":4294967296}]"), -EBADMSG, 0 },
		{ SIZED("\"subsections\":[{}]"), -EBADMSG, 0 },
		{ "{\"devices\":[7]}", -EBADMSG, 0 },
		{ "{}", -ENOENT, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t size = 0;
		assert_int_equal(size_of(cases[i].text, &size), cases[i].rc);
		assert_int_equal(size, cases[i].size);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(lies),
		cmocka_unit_test(unknown_members_are_passed_over),
		cmocka_unit_test(large_things),
		cmocka_unit_test(sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
