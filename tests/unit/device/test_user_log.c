/* SPDX-License-Identifier: BSD-3-Clause */
/* test_user_log.c: a server's log of written pages that lies, or knows less. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostile.h"

#define PAGE 4096u
#define IOVA UINT64_C(0x10000000)
#define LOGGING_GET (VFIO_USER_FEATURE_GET | VFIO_USER_FEATURE_LOGGING_REPORT)
#define LOGGING_SET (VFIO_USER_FEATURE_SET | VFIO_USER_FEATURE_LOGGING_START)

/* What the script does, and what it has seen. */
static struct {
	uint32_t refuse_start, refuse_probe, refuse_unmap; /* errnos; 0: does it */
	uint64_t page_size;                                /* that START gives; 0: what is wanted */
	size_t start_length;                               /* of START's answer; 0: the right one */
	size_t longer, shorter;                            /* bytes of a reply with a bitmap */
	size_t wrong;                                      /* this byte of it is; 0: none */
	uint64_t bits[4];                                  /* the bitmap's first words */
	bool write_meanwhile;                              /* writes page 9 before it answers for the bitmap */

	unsigned starts, stops, probes, reports, unmaps;
	struct vfio_user_logging_report report[8];
	uint32_t argsz;
} server;

static void write_page(struct peer *p, uint64_t page)
{
	struct {
		struct vfio_user_dma_io io;
		uint64_t data;
	} write = { { IOVA + page * PAGE, 8 }, 1 };
	struct peer_message *answer = calloc(1, sizeof(*answer));

	peer_command(p->fd, 77, VFIO_USER_DMA_WRITE, &write, sizeof(write));
	peer_receive(p->fd, answer);
	if (answer->header.id != 77 || answer->header.flags != VFIO_USER_TYPE_REPLY)
		abort();
	free(answer);
}

/* The request's first `head` bytes again, then the bitmap. */
static void reply_bitmap(struct peer *p, size_t head, uint64_t bytes)
{
	static uint8_t body[(1u << 20) + 128];

	if (server.write_meanwhile)
		write_page(p, 9);
	memset(body, 0, sizeof(body));
	memcpy(body, p->m.body, head);
	memcpy(body + head, server.bits, bytes < sizeof(server.bits) ? bytes : sizeof(server.bits));
	if (server.wrong)
		body[server.wrong] ^= 0x10;
	peer_reply(p->fd, &p->m, body, head + bytes + server.longer - server.shorter);
}

static void answer_start(struct peer *p)
{
	uint64_t page_size;

	memcpy(&page_size, p->m.body + 8, 8);
	if (server.page_size)
		memcpy(p->m.body + 8, &server.page_size, 8);
	server.starts++;
	peer_reply(p->fd, &p->m, p->m.body, server.start_length ? server.start_length : p->m.length);
}

static void answer_feature(struct peer *p)
{
	struct vfio_user_feature feature;

	memcpy(&feature, p->m.body, sizeof(feature));
	if (feature.argsz < p->m.length)
		abort();
	if (feature.flags == LOGGING_SET && server.refuse_start) {
		peer_refuse(p->fd, &p->m, server.refuse_start);
	} else if (feature.flags == LOGGING_SET) {
		answer_start(p);
	} else if (feature.flags == (LOGGING_SET | VFIO_USER_FEATURE_PROBE)) {
		server.probes++;
		if (server.refuse_probe)
			peer_refuse(p->fd, &p->m, server.refuse_probe);
		else
			peer_reply(p->fd, &p->m, p->m.body, 8);
	} else if (feature.flags == (VFIO_USER_FEATURE_SET | VFIO_USER_FEATURE_LOGGING_STOP)) {
		server.stops++;
		peer_reply(p->fd, &p->m, p->m.body, 8);
	} else if (feature.flags == LOGGING_GET && p->m.length == 32) {
		struct vfio_user_logging_report *r = &server.report[server.reports++ % 8];
		memcpy(r, p->m.body + 8, sizeof(*r));
		server.argsz = feature.argsz;
		reply_bitmap(p, 32, (r->length / r->page_size + 63) / 64 * 8);
	} else {
		abort();
	}
}

static void answer_dirty_pages(struct peer *p)
{
	struct vfio_user_dirty_pages dirty;
	struct vfio_user_dirty_range range;

	memcpy(&dirty, p->m.body, sizeof(dirty));
	if (dirty.flags == VFIO_USER_DIRTY_START && server.refuse_start) {
		peer_refuse(p->fd, &p->m, server.refuse_start);
	} else if (dirty.flags != VFIO_USER_DIRTY_GET) {
		server.starts += dirty.flags == VFIO_USER_DIRTY_START;
		server.stops += dirty.flags == VFIO_USER_DIRTY_STOP;
		peer_reply(p->fd, &p->m, p->m.body, 0);
	} else {
		if (p->m.length != sizeof(dirty) + sizeof(range))
			abort();
		memcpy(&range, p->m.body + sizeof(dirty), sizeof(range));
		server.report[server.reports++ % 8] =
			(struct vfio_user_logging_report) { range.iova, range.size, range.bitmap.page_size };
		if (dirty.argsz != p->m.length + range.bitmap.bytes)
			abort();
		reply_bitmap(p, p->m.length, range.bitmap.bytes);
	}
}

static void answer_unmap(struct peer *p)
{
	struct vfio_user_dma_unmap unmap;
	struct vfio_user_bitmap bitmap = { 0 };

	memcpy(&unmap, p->m.body, sizeof(unmap));
	if (unmap.flags == VFIO_USER_UNMAP_BITMAP && server.refuse_unmap) {
		peer_refuse(p->fd, &p->m, server.refuse_unmap);
		return;
	}
	server.unmaps++;
	if (unmap.flags == 0) {
		peer_reply(p->fd, &p->m, p->m.body, sizeof(unmap));
		return;
	}
	memcpy(&bitmap, p->m.body + sizeof(unmap), sizeof(bitmap));
	if (unmap.argsz != p->m.length + bitmap.bytes)
		abort();
	reply_bitmap(p, p->m.length, bitmap.bytes);
}

static void script(struct peer *p)
{
	while (peer_try_receive(p->fd, &p->m) == 0) {
		peer_close_fds(&p->m);
		if (p->m.header.command == VFIO_USER_DEVICE_FEATURE)
			answer_feature(p);
		else if (p->m.header.command == VFIO_USER_DIRTY_PAGES)
			answer_dirty_pages(p);
		else if (p->m.header.command == VFIO_USER_DMA_UNMAP)
			answer_unmap(p);
		else
			peer_reply(p->fd, &p->m, NULL, 0);
	}
}

/* A server that behaves, and a client with memory of so many pages, which the server has an fd of. */
static struct access *open_with_memory(uint64_t pages)
{
	struct access *a = hostile_start(script, PATIENT);
	int fd = memfd_create("guest", MFD_CLOEXEC);

	memset(&server, 0, sizeof(server));
	assert_int_equal(ftruncate(fd, (off_t)(pages * PAGE)), 0);
	assert_int_equal(access_dma_map(a, IOVA, pages * PAGE, fd, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, NULL), 0);
	close(fd);
	return a;
}

static int start(struct access *a, enum access_log log, uint64_t *page_size, struct vfmig_error *err)
{
	const struct access_range range = { IOVA, 64 * PAGE };
	*page_size = PAGE;
	return access_dirty_start(a, log, &range, 1, page_size, err);
}

/* The report of 70 pages, for which the server's answer is wrong in one way. */
static void expect_bad_report(enum access_log log, const char *text, bool lost)
{
	uint64_t bitmap[2] = { 0 }, page_size;
	struct vfmig_error err = { 0 };
	struct access *a;
	typeof(server) wrong = server;

	a = open_with_memory(70);
	server = wrong;
	assert_int_equal(start(a, log, &page_size, NULL), 0);
	assert_int_equal(access_dirty_report(a, log, IOVA, 70 * PAGE, PAGE, bitmap, &err), -EPROTO);
	if (!strstr(err.message, text))
		fail_msg("\"%s\" is not in \"%s\"", text, err.message);
	assert_int_equal(access_reset(a, NULL), lost ? -ENOTCONN : 0);
	hostile_stop(a);
}

#define WITH(...) (server = (typeof(server)) { __VA_ARGS__ })

static void test_bad_reports(void **state)
{
	(void)state;
	for (enum access_log log = ACCESS_LOG_DEVICE; log <= ACCESS_LOG_MAPPINGS; log++) {
		const size_t at = 8; /* of the range in both replies */
		WITH(.shorter = 8);
		expect_bad_report(log, "bytes, expected were", true);
		WITH(.shorter = 16); /* none at all */
		expect_bad_report(log, "bytes, expected were", true);
		WITH(.longer = 8);
		expect_bad_report(log, "bytes, expected were", true);
		WITH(.wrong = at + 2);
		expect_bad_report(log, "the server answered for 0x46000 bytes at 0x10100000 in pages", false);
		WITH(.wrong = at + 8 + 2);
		expect_bad_report(log, "the server answered for 0x146000 bytes at 0x10000000", false);
		WITH(.wrong = at + 16 + 1);
		expect_bad_report(log, "in pages of 0x0", false);
		WITH(.bits = { 0, 1u << 6 });
		expect_bad_report(log, "bits behind the last one", false);
	}
	WITH(.wrong = 4);
	expect_bad_report(ACCESS_LOG_DEVICE, "the server answered for feature 24", false);
}

static void test_good_report(void **state)
{
	(void)state;
	for (enum access_log log = ACCESS_LOG_DEVICE; log <= ACCESS_LOG_MAPPINGS; log++) {
		struct access *a = open_with_memory(70);
		uint64_t bitmap[2] = { 2, 0 }, page_size;
		assert_int_equal(start(a, log, &page_size, NULL), 0);
		server.bits[0] = 1;
		server.bits[1] = 1u << 5;
		server.write_meanwhile = true;
		assert_int_equal(access_dirty_report(a, log, IOVA, 70 * PAGE, PAGE, bitmap, NULL), 0);
		assert_int_equal(bitmap[0], 1 | 2 | 1u << 9); /* what was there, too, and what was written meanwhile */
		assert_int_equal(bitmap[1], 1u << 5);
		assert_int_equal(server.reports, 1);
		if (log == ACCESS_LOG_DEVICE)
			assert_int_equal(server.argsz, 32 + 16);
		assert_int_equal(access_dirty_stop(a, log, NULL), 0);
		assert_int_equal(server.stops, 1);
		hostile_stop(a);
	}
}

/* Memory that the server has no fd of is none of its log: it is not asked. */
static void test_memory_by_messages(void **state)
{
	struct access *a = open_with_memory(1);
	static uint8_t memory[16 * PAGE] __attribute__((aligned(PAGE)));
	uint64_t bitmap = 0, page_size, iova = IOVA + (UINT64_C(1) << 32);

	(void)state;
	assert_int_equal(access_dma_map(a, iova, sizeof(memory), -1, (uintptr_t)memory, VFMIG_DMA_WRITE, NULL), 0);
	assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, NULL), 0);
	assert_int_equal(access_dirty_report(a, ACCESS_LOG_DEVICE, iova, sizeof(memory), PAGE, &bitmap, NULL), 0);
	assert_int_equal(server.reports, 0);
	assert_int_equal(bitmap, 0);
	hostile_stop(a);
}

static void test_page_sizes(void **state)
{
	static const uint64_t absurd[] = { 1, 2048, 12288, UINT64_C(1) << 31, UINT64_C(1) << 63, UINT64_MAX };
	uint64_t page_size, bitmap = 0;
	struct vfmig_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
		struct access *a = open_with_memory(64);
		server.page_size = absurd[i];
		assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, &err), -EPROTO);
		assert_non_null(strstr(err.message, "expected was a power of two from 0x1000"));
		assert_int_equal(server.stops, 1);
		hostile_stop(a);
	}
	struct access *a = open_with_memory(64);
	const struct access_range range = { IOVA, 64 * PAGE };
	server.page_size = PAGE; /* it logs finer than was asked for */
	page_size = 2 * PAGE;
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, &range, 1, &page_size, NULL), 0);
	assert_int_equal(page_size, 2 * PAGE);
	server.bits[0] = 1u << 5 | 1u << 8;
	assert_int_equal(access_dirty_report(a, ACCESS_LOG_DEVICE, IOVA, 64 * PAGE, page_size, &bitmap, NULL), 0);
	assert_int_equal(server.report[0].page_size, PAGE);
	assert_int_equal(bitmap, 1u << 2 | 1u << 4);
	hostile_stop(a);
}

/* EINVAL may mean that there is no such log, or that something was wrong with this one. */
static void test_refused_start(void **state)
{
	uint64_t page_size;
	struct vfmig_error err;

	(void)state;
	struct access *a = open_with_memory(64);
	server.refuse_start = server.refuse_probe = EINVAL;
	assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, &err), -EOPNOTSUPP);
	assert_int_equal(server.probes, 1);
	assert_int_equal(start(a, ACCESS_LOG_MAPPINGS, &page_size, &err), -EOPNOTSUPP);
	server.refuse_start = ENOTTY;
	assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, &err), -EOPNOTSUPP);
	server.refuse_start = EPERM;
	assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, &err), -EPERM);
	server.refuse_start = EINVAL;
	server.refuse_probe = 0;
	assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, &err), -EINVAL);
	hostile_stop(a);

	a = open_with_memory(64);
	assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, &err), 0);
	assert_int_equal(access_dirty_stop(a, ACCESS_LOG_DEVICE, NULL), 0);
	server.refuse_start = server.refuse_probe = EINVAL;
	assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, &err), -EINVAL);
	assert_int_equal(server.probes, 0);
	hostile_stop(a);

	a = open_with_memory(64);
	server.start_length = 15; /* half a page size */
	assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, &err), -EPROTO);
	hostile_stop(a);
	a = open_with_memory(64);
	server.start_length = 48; /* more than was sent */
	assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, &err), -EPROTO);
	hostile_stop(a);
}

/* A whole mapping in one request, unless the bitmap is larger than the server's messages. */
static void test_split(void **state)
{
	uint64_t bitmap[5] = { 0 }, page_size;
	struct access *a = NULL;

	(void)state;
	a = open_with_memory(1u << 18);
	assert_int_equal(start(a, ACCESS_LOG_DEVICE, &page_size, NULL), 0);
	uint64_t *large = calloc(1u << 12, 8);
	assert_int_equal(access_dirty_report(a, ACCESS_LOG_DEVICE, IOVA, 1u << 30, PAGE, large, NULL), 0);
	assert_int_equal(server.reports, 1);
	free(large);
	hostile_stop(a);

	for (enum access_log log = ACCESS_LOG_DEVICE; log <= ACCESS_LOG_MAPPINGS; log++) {
		static uint8_t memory[300 * PAGE] __attribute__((aligned(PAGE)));
		int fd = memfd_create("guest", MFD_CLOEXEC);
		memset(&server, 0, sizeof(server));
		peer_start(&hostile_peer, script, log == ACCESS_LOG_DEVICE ?
			   "{\"capabilities\":{\"max_data_xfer_size\":20}}" :
			   "{\"capabilities\":{\"max_data_xfer_size\":84}}");
		assert_int_equal(user_access_open(hostile_peer.socket.path, PATIENT, &a, NULL), 0);
		assert_int_equal(ftruncate(fd, sizeof(memory)), 0);
		assert_int_equal(access_dma_map(a, IOVA, sizeof(memory), fd, 0, VFMIG_DMA_WRITE, NULL), 0);
		close(fd);
		assert_int_equal(start(a, log, &page_size, NULL), 0);
		server.bits[0] = 1;
		memset(bitmap, 0, sizeof(bitmap));
		assert_int_equal(access_dirty_report(a, log, IOVA, 300 * PAGE, PAGE, bitmap, NULL), 0);
		assert_int_equal(server.reports, 3);
		for (uint64_t i = 0; i < 3; i++) {
			assert_int_equal(server.report[i].iova, IOVA + i * 128 * PAGE);
			assert_int_equal(server.report[i].length, (i < 2 ? 128 : 44) * PAGE);
		}
		assert_true(bitmap[0] == 1 && bitmap[1] == 0 && bitmap[2] == 1 && bitmap[3] == 0 && bitmap[4] == 1);
		hostile_stop(a);
	}
}

/* Unmaps 70 pages with their last report; the bitmap that comes, and how many unmaps it took. */
static void unmap(int code, uint64_t w0, uint64_t w1, unsigned unmaps)
{
	uint64_t bitmap[2] = { 0 }, page_size;
	typeof(server) how = server;
	struct access *a = open_with_memory(70);

	server = how;
	assert_int_equal(start(a, ACCESS_LOG_MAPPINGS, &page_size, NULL), 0);
	assert_int_equal(access_dma_unmap_dirty(a, ACCESS_LOG_MAPPINGS, IOVA, 70 * PAGE, PAGE, bitmap, NULL), code);
	assert_true(bitmap[0] == w0);
	assert_true(bitmap[1] == w1);
	assert_int_equal(server.unmaps, unmaps);
	hostile_stop(a);
}

static void test_unmap(void **state)
{
	(void)state;
	WITH(.bits = { 6, 1u << 5 }, .write_meanwhile = true);
	unmap(0, 6 | 1u << 9, 1u << 5, 1);
	WITH(.refuse_unmap = EINVAL); /* not with a bitmap: all counts as written */
	unmap(0, UINT64_MAX, 63, 1);
	WITH(.bits = { 0, 1u << 6 }); /* gone, and what it told is worth nothing */
	unmap(0, UINT64_MAX, 63, 1);
	WITH(.shorter = 8);
	unmap(-EPROTO, 0, 0, 1);
	WITH(.longer = 8);
	unmap(-EPROTO, 0, 0, 1);
	WITH(.wrong = 8 + 2);
	unmap(-EPROTO, 0, 0, 1);
	WITH(.wrong = 24 + 1);
	unmap(-EPROTO, 0, 0, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, hostile_setup, hostile_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bad_reports),
		TEST(test_good_report),
		TEST(test_memory_by_messages),
		TEST(test_page_sizes),
		TEST(test_refused_start),
		TEST(test_split),
		TEST(test_unmap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
