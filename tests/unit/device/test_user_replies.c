/* SPDX-License-Identifier: BSD-3-Clause */
/* test_user_replies.c: VERSION and region info from a server that lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "device/user_reply.h"
#include "hostile.h"

/* ------------------------------------------------------------------ VERSION */

static void no_script(struct peer *p)
{
	(void)p;
}

static void expect_no_open(peer_script_fn *script, const char *version, int code, const char *text)
{
	struct vfmig_error err = { 0 };
	struct access *a = NULL;

	peer_start(&hostile_peer, script, version);
	uint32_t timeout_ms = code == -ETIMEDOUT ? HASTY : PATIENT;
	assert_int_equal(user_access_open(hostile_peer.socket.path, timeout_ms, &a, &err), code);
	assert_null(a);
	if (!strstr(err.message, text))
		fail_msg("\"%s\" is not in \"%s\"", text, err.message);
	peer_join(&hostile_peer);
}

static void script_refuse_version(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	peer_refuse(p->fd, &p->m, EINVAL);
}

static void script_other_version(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	peer_reply(p->fd, &p->m, "\1\0\0\0", 4);
}

static void script_newer_minor(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	peer_reply(p->fd, &p->m, "\0\0\5\0", 4);
}

static void script_huge_version(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	memset(p->m.body, ' ', sizeof(p->m.body));
	memset(p->m.body, 0, 4);
	peer_reply(p->fd, &p->m, p->m.body, VFIO_USER_MAX_VERSION + 5);
}

static void script_no_nul(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	peer_reply(p->fd, &p->m, "\0\0\0\0{}", 6);
}

static void test_version(void **state)
{
	(void)state;
	expect_no_open(script_refuse_version, NULL, -EINVAL, "the server refused VERSION");
	expect_no_open(hostile_silence, NULL, -ETIMEDOUT, "VERSION");
	expect_no_open(hostile_close, NULL, -ENOTCONN, "the server closed the connection");
	expect_no_open(script_other_version, NULL, -EPROTO, "speaks vfio-user 1.0");
	expect_no_open(script_newer_minor, NULL, -EPROTO, "speaks vfio-user 0.5");
	expect_no_open(script_huge_version, NULL, -EPROTO, "bytes, expected were 4 to");
	expect_no_open(script_no_nul, NULL, -EPROTO, "NUL");
}

static void test_version_json(void **state)
{
	static const char *const bad[] = {
		"", "{", "[]", "1", "\"x\"", "{}{}", "{} x", "{\"capabilities\":[]}", "{\"capabilities\":1}",
		"{\"capabilities\":{\"max_data_xfer_size\":0}}", "{\"capabilities\":{\"max_data_xfer_size\":-1}}",
		"{\"capabilities\":{\"max_data_xfer_size\":\"1048576\"}}",
		"{\"capabilities\":{\"max_data_xfer_size\":7}}",
		"{\"capabilities\":{\"max_data_xfer_size\":1e6}}", "{\"capabilities\":{\"max_msg_fds\":-1}}",
		"{\"capabilities\":{\"max_msg_fds\":null}}", "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
		"{\"capabilities\":{\"x\":[[[[[[[[[[[[]]]]]]]]]]]]}}",
		"{\"capabilities\":{\"migration\":1}}", "{\"capabilities\":{\"migration\":{\"pgsize\":512}}}",
		"{\"capabilities\":{\"migration\":{\"pgsize\":12288}}}",
		"{\"capabilities\":{\"twin_socket\":true}}",
		"{\"capabilities\":{\"twin_socket\":{\"supported\":1}}}",
		"{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":-1}}}",
		"{\"capabilities\":{\"vfmig\":{\"whole_messages\":\"yes\"}}}",
	};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_no_open(no_script, bad[i], -EPROTO, "VERSION's capabilities: ");
}

static void test_limits(void **state)
{
	const char huge[] = "{\"capabilities\":{\"max_data_xfer_size\":9223372036854775807,"
			    "\"max_msg_fds\":4294967297}}";
	const char small[] = "{\"capabilities\":{\"max_data_xfer_size\":4096,\"max_msg_fds\":0},\"more\":[]}";
	struct user_limits l;
	char *ours;

	(void)state;
	assert_int_equal(user_limits_parse(NULL, 0, &l, NULL), 0);
	assert_int_equal(l.max_data, 1u << 20);
	assert_int_equal(l.max_fds, 1);
	assert_int_equal(user_limits_parse("{}", 3, &l, NULL), 0);
	assert_int_equal(user_limits_parse(huge, sizeof(huge), &l, NULL), 0);
	assert_int_equal(l.max_data, VFIO_USER_MAX_DATA);
	assert_int_equal(l.max_fds, VFIO_USER_MAX_FDS);
	assert_int_equal(user_limits_parse(small, sizeof(small), &l, NULL), 0);
	assert_int_equal(l.max_data, 4096);
	assert_int_equal(l.max_fds, 0);
	ours = user_limits_format(&(struct user_announcement) { VFIO_USER_MAX_FDS, true, true, 3 });
	assert_non_null(strstr(ours, "\"migration\":{\"pgsize\":4096}"));
	assert_int_equal(user_limits_parse(ours, strlen(ours) + 1, &l, NULL), 0);
	assert_true(l.twin && l.whole_messages);
	assert_int_equal(l.twin_index, 3);
	assert_int_equal(user_limits_write(&l), VFIO_USER_MAX_DATA);
	free(ours);
	ours = user_limits_format(&(struct user_announcement) { 0, false, false, 0 });
	assert_int_equal(user_limits_parse(ours, strlen(ours) + 1, &l, NULL), 0);
	assert_false(l.twin || l.whole_messages);
	assert_int_equal(l.max_fds, 0);
	assert_int_equal(user_limits_write(&l), VFIO_USER_SAFE_DATA);
	free(ours);
}

/* A server's limit is kept: reads are cut to it. */
static void script_small_reads(struct peer *p)
{
	for (int i = 0; i < 3; i++) {
		struct vfio_user_region_io io;
		uint8_t body[16 + 100] = { 0 };
		peer_receive(p->fd, &p->m);
		memcpy(&io, p->m.body, sizeof(io));
		if (io.offset != 1000 + (uint64_t)i * 100 || io.count != (i < 2 ? 100 : 56))
			abort();
		memcpy(body, &io, sizeof(io));
		memset(body + 16, 'a' + i, 100);
		peer_reply(p->fd, &p->m, body, 16 + io.count);
	}
}

static void test_small_messages(void **state)
{
	struct access *a;
	uint8_t buffer[256];

	(void)state;
	peer_start(&hostile_peer, script_small_reads, "{\"capabilities\":{\"max_data_xfer_size\":100}}");
	assert_int_equal(user_access_open(hostile_peer.socket.path, PATIENT, &a, NULL), 0);
	assert_int_equal(access_region_read(a, 3, 1000, buffer, sizeof(buffer), NULL), 0);
	assert_int_equal(buffer[99], 'a');
	assert_int_equal(buffer[100], 'b');
	assert_int_equal(buffer[255], 'c');
	hostile_stop(a);
}

/* ------------------------------------------------------------ device and regions */

static void script_many_regions(struct peer *p)
{
	struct vfio_user_device_info info = { sizeof(info), 3, UINT32_MAX, 5 };

	peer_receive(p->fd, &p->m);
	peer_reply(p->fd, &p->m, &info, sizeof(info));
	peer_receive(p->fd, &p->m); /* a newer server's, with capabilities' place */
	info.num_regions = 9;
	uint8_t body[24] = { 0 };
	memcpy(body, &info, sizeof(info));
	peer_reply(p->fd, &p->m, body, sizeof(body));
}

static void test_device_info(void **state)
{
	struct access *a = hostile_start(script_many_regions, PATIENT);
	struct access_device_info info;
	struct vfmig_error err;

	(void)state;
	assert_int_equal(access_device_info(a, &info, &err), -EPROTO);
	assert_non_null(strstr(err.message, "4294967295 regions"));
	assert_int_equal(access_device_info(a, &info, &err), 0);
	assert_int_equal(info.num_regions, 9);
	hostile_stop(a);
}

/* A reply to region info, built up. */
struct info {
	struct vfio_user_region_info head;
	uint8_t caps[1024];
};

static void put_cap(struct info *i, size_t at, uint16_t id, uint32_t next)
{
	struct vfio_user_cap_header cap = { id, 1, next };
	memcpy((uint8_t *)i + at, &cap, sizeof(cap));
}

static void put_areas(struct info *i, size_t at, uint32_t next, uint32_t n, const struct vfio_user_cap_area *areas,
		      uint32_t said)
{
	struct vfio_user_cap_sparse cap = { { VFIO_USER_CAP_SPARSE_MMAP, 1, next }, said, 0 };
	memcpy((uint8_t *)i + at, &cap, sizeof(cap));
	if (n)
		memcpy((uint8_t *)i + at + sizeof(cap), areas, n * sizeof(*areas));
}

static struct info new_info(uint32_t length)
{
	struct info i = { .head = { .argsz = length, .index = 9, .cap_offset = 32, .size = 0x10000 } };

	i.head.flags = VFIO_USER_REGION_FLAG_READ | VFIO_USER_REGION_FLAG_MMAP | VFIO_USER_REGION_FLAG_CAPS;
	return i;
}

static int parse(const struct info *i, struct vfmig_error *err)
{
	struct access_region_info region = { .index = 9 };
	uint8_t *exact = malloc(i->head.argsz); /* so that a sanitizer sees its end */

	assert_non_null(exact);
	memcpy(exact, i, i->head.argsz);
	int r = user_region_parse(exact, i->head.argsz, true, &region, err);
	access_region_info_clear(&region);
	free(exact);
	return r;
}

static void expect_bad_info(const struct info *i, const char *text)
{
	struct vfmig_error err = { 0 };

	assert_int_equal(parse(i, &err), -EPROTO);
	if (!strstr(err.message, text))
		fail_msg("\"%s\" is not in \"%s\"", text, err.message);
}

static void test_chains(void **state)
{
	const struct vfio_user_cap_area overlap[2] = { { 0x2000, 0x2000 }, { 0x1000, 0x1001 } };
	const struct vfio_user_cap_area outside[1] = { { 0xf000, 0x1001 } };
	const struct vfio_user_cap_area wrap[1] = { { UINT64_MAX - 0xfff, 0x2000 } };
	const struct vfio_user_cap_area empty[1] = { { 0x1000, 0 } };
	struct info i;

	(void)state;
	i = new_info(64); /* onto itself, and round in two */
	put_cap(&i, 32, 77, 32);
	expect_bad_info(&i, "in a circle");
	put_cap(&i, 32, 77, 48);
	put_cap(&i, 48, 78, 32);
	expect_bad_info(&i, "in a circle");
	put_cap(&i, 48, 78, 0xfffffff8);
	expect_bad_info(&i, "a capability at offset 4294967288");
	put_cap(&i, 48, 78, 57); /* its header would end behind the end */
	expect_bad_info(&i, "a capability at offset 57");
	put_cap(&i, 48, 78, 8); /* in the info itself */
	expect_bad_info(&i, "a capability at offset 8");
	put_cap(&i, 32, VFIO_USER_CAP_TYPE, 56);
	put_cap(&i, 56, VFIO_USER_CAP_TYPE, 0);
	expect_bad_info(&i, "its type is cut off");
	put_cap(&i, 56, VFIO_USER_CAP_SPARSE_MMAP, 0);
	expect_bad_info(&i, "areas is cut off");
	put_areas(&i, 32, 0, 0, NULL, 2);
	expect_bad_info(&i, "2 mappable areas do not fit");
	put_areas(&i, 32, 0, 0, NULL, 0x10000000);
	expect_bad_info(&i, "268435456 mappable areas do not fit");
	put_areas(&i, 32, 0, 1, outside, 1);
	expect_bad_info(&i, "is not inside the region");
	put_areas(&i, 32, 0, 1, wrap, 1);
	expect_bad_info(&i, "is not inside the region");
	put_areas(&i, 32, 0, 1, empty, 1);
	expect_bad_info(&i, "is not inside the region");
	i = new_info(80);
	put_areas(&i, 32, 0, 2, overlap, 2);
	expect_bad_info(&i, "overlap");
	i.head.index = 8;
	expect_bad_info(&i, "answered for region 8");
}

static void test_chain_any_order(void **state)
{
	const struct vfio_user_cap_area areas[2] = { { 0x8000, 0x1000 }, { 0x2000, 0x3000 } };
	struct vfio_user_cap_type type = { { VFIO_USER_CAP_TYPE, 1, 33 }, 3, 1 };
	struct access_region_info region = { .index = 9 };
	struct info i = new_info(200);

	(void)state;
	/* unknown at 150, type at 101, areas at 33: unaligned, backwards */
	i.head.cap_offset = 150;
	put_cap(&i, 150, 999, 101);
	memcpy((uint8_t *)&i + 101, &type, sizeof(type));
	put_areas(&i, 33, 0, 2, areas, 2);
	assert_int_equal(user_region_parse((uint8_t *)&i, 200, true, &region, NULL), 0);
	assert_true(region.has_type);
	assert_int_equal(region.type, 3);
	assert_int_equal(region.num_areas, 2);
	assert_int_equal(region.areas[1].offset, 0x2000);
	assert_true(region.flags & ACCESS_REGION_MMAP);
	access_region_info_clear(&region);
	/* without an fd nothing can be mapped */
	region.index = 9;
	assert_int_equal(user_region_parse((uint8_t *)&i, 200, false, &region, NULL), 0);
	assert_int_equal(region.num_areas, 0);
	assert_false(region.flags & ACCESS_REGION_MMAP);
	assert_true(region.has_type);
	access_region_info_clear(&region);
}

/* Says each time that it needs more. */
static void script_growing_info(struct peer *p)
{
	for (int i = 0; i < 2; i++) {
		struct vfio_user_region_info info;
		peer_receive(p->fd, &p->m);
		memcpy(&info, p->m.body, sizeof(info));
		info.argsz += 100;
		peer_reply(p->fd, &p->m, &info, sizeof(info));
	}
	struct vfio_user_region_info huge = { .argsz = UINT32_MAX };
	peer_receive(p->fd, &p->m);
	peer_reply(p->fd, &p->m, &huge, sizeof(huge));
}

static void test_growing_info(void **state)
{
	struct access *a = hostile_start(script_growing_info, PATIENT);
	struct access_region_info region;
	struct vfmig_error err;

	(void)state;
	assert_int_equal(access_region_info(a, 0, &region, &err), -EPROTO);
	assert_non_null(strstr(err.message, "wants 232 bytes"));
	assert_int_equal(access_region_info(a, 0, &region, &err), -EPROTO);
	assert_non_null(strstr(err.message, "wants 4294967295 bytes"));
	hostile_stop(a);
}

/* Region info for 64 KiB at file_offset of a file of file_size bytes. */
static off_t file_size;
static uint64_t file_offset;

static void script_file(struct peer *p)
{
	struct vfio_user_region_info info = {
		.argsz = sizeof(info),
		.flags = VFIO_USER_REGION_FLAG_READ | VFIO_USER_REGION_FLAG_WRITE | VFIO_USER_REGION_FLAG_MMAP,
		.size = 0x10000,
		.offset = file_offset,
	};
	struct vfio_user_header h;
	int fd = memfd_create("region", MFD_CLOEXEC);
	int fds[3] = { fd, fd, fd };

	if (ftruncate(fd, file_size) < 0)
		abort();
	peer_receive(p->fd, &p->m);
	h = p->m.header;
	h.size = sizeof(h) + sizeof(info);
	h.flags = VFIO_USER_TYPE_REPLY;
	peer_send(p->fd, &h, &info, sizeof(info), fds, 3);
	close(fd);
}

static int map_file(off_t size, uint64_t offset, struct vfmig_error *err)
{
	struct access_region_info region;
	void *memory = NULL;

	file_size = size;
	file_offset = offset;
	struct access *a = hostile_start(script_file, PATIENT);
	assert_int_equal(access_region_info(a, 0, &region, err), 0);
	assert_int_equal(region.num_areas, 1);
	int r = access_region_map(a, 0, &region.areas[0], &memory, err);
	if (r == 0) {
		memset(memory, 1, region.areas[0].size);
		access_region_unmap(a, memory, &region.areas[0]);
	}
	access_region_info_clear(&region);
	hostile_stop(a);
	return r;
}

static void test_short_file(void **state)
{
	struct vfmig_error err;

	(void)state;
	assert_int_equal(map_file(0x11000, 0x1000, &err), 0);
	assert_int_equal(map_file(0x10fff, 0x1000, &err), -EPROTO);
	assert_non_null(strstr(err.message, "file of 0x10fff bytes"));
	assert_int_equal(map_file(0, 0, &err), -EPROTO);
	assert_int_equal(map_file(0x11000, UINT64_MAX - 0xfff, &err), -EPROTO);
	assert_int_equal(map_file(0x11000, UINT64_C(1) << 63, &err), -EPROTO);
	assert_int_equal(map_file(0x20000, 0x1001, &err), -EINVAL); /* mmap's own answer */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, hostile_setup, hostile_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_version),
		TEST(test_version_json),
		TEST(test_limits),
		TEST(test_small_messages),
		TEST(test_device_info),
		TEST(test_chains),
		TEST(test_chain_any_order),
		TEST(test_growing_info),
		TEST(test_short_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
