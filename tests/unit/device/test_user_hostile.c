/* SPDX-License-Identifier: BSD-3-Clause */
/* test_user_hostile.c: what a vfio-user client has to survive from a server, one test each. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostile.h"

/* A read of 64 bytes meets script: code, text, and the connection is lost or lives. */
static void expect_read(peer_script_fn *script, uint32_t timeout_ms, int code, const char *text, bool lost)
{
	struct access *a = hostile_start(script, timeout_ms);
	struct vfmig_error err = { 0 };
	uint8_t buffer[64 + 16];

	memset(buffer, 0x5a, sizeof(buffer));
	assert_int_equal(access_region_read(a, 0, 0, buffer, 64, &err), code);
	assert_int_equal(err.code, code);
	if (!strstr(err.message, text))
		fail_msg("\"%s\" is not in \"%s\"", text, err.message);
	for (size_t i = 64; i < sizeof(buffer); i++)
		assert_int_equal(buffer[i], 0x5a);
	memset(&err, 0, sizeof(err));
	assert_int_equal(access_reset(a, &err), lost ? -ENOTCONN : 0);
	if (lost && !strstr(err.message, text))
		fail_msg("the first cause \"%s\" is not in \"%s\"", text, err.message);
	hostile_stop(a);
}

static void answer_reset(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	if (p->m.header.command != VFIO_USER_DEVICE_RESET)
		abort();
	peer_reply(p->fd, &p->m, NULL, 0);
}

/* The right answer to the read that is in p->m. */
static void answer_read(struct peer *p)
{
	uint8_t body[16 + 64] = { 0 };

	memcpy(body, p->m.body, 16);
	peer_reply(p->fd, &p->m, body, sizeof(body));
}

static void hang_up(struct peer *p)
{
	close(p->fd);
	p->fd = -1;
}

static void test_close(void **state)
{
	(void)state;
	expect_read(hostile_close, PATIENT, -ENOTCONN, "the server closed the connection", true);
}

static void script_close_in_header(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	p->m.header.flags = VFIO_USER_TYPE_REPLY;
	send(p->fd, &p->m.header, 7, MSG_NOSIGNAL);
	hang_up(p);
}

static void test_close_in_header(void **state)
{
	(void)state;
	expect_read(script_close_in_header, PATIENT, -ENOTCONN, "in the middle of a message's header", true);
}

static void script_close_in_message(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	struct vfio_user_header h = p->m.header;
	h.flags = VFIO_USER_TYPE_REPLY;
	h.size = 16 + 16 + 64;
	peer_send(p->fd, &h, p->m.body, 40, NULL, 0);
	hang_up(p);
}

static void test_close_in_message(void **state)
{
	(void)state;
	expect_read(script_close_in_message, PATIENT, -ENOTCONN, "in the middle of a reply", true);
}

static void script_stall_in_message(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	struct vfio_user_header h = p->m.header;
	h.flags = VFIO_USER_TYPE_REPLY;
	h.size = 16 + 16 + 64;
	peer_send(p->fd, &h, p->m.body, 40, NULL, 0);
}

static void test_stall_in_message(void **state)
{
	(void)state;
	expect_read(script_stall_in_message, HASTY, -ETIMEDOUT, "the server ", true);
}

static void script_close_in_error_reply(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	struct vfio_user_header h = p->m.header;
	h.flags = VFIO_USER_TYPE_REPLY | VFIO_USER_ERROR;
	h.error = EIO;
	h.size = 1000;
	peer_send(p->fd, &h, p->m.body, 10, NULL, 0);
	hang_up(p);
}

static void test_close_in_error_reply(void **state)
{
	(void)state;
	expect_read(script_close_in_error_reply, PATIENT, -ENOTCONN, "in the middle of an error reply", true);
}

static void script_wrong_id(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	p->m.header.id++;
	answer_read(p);
}

static void test_wrong_id(void **state)
{
	(void)state;
	expect_read(script_wrong_id, PATIENT, -EPROTO, "expected was REGION_READ with id", true);
}

static void script_wrong_command(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	p->m.header.command = VFIO_USER_DEVICE_RESET;
	answer_read(p);
}

static void test_wrong_command(void **state)
{
	(void)state;
	expect_read(script_wrong_command, PATIENT, -EPROTO, "the server answered DEVICE_RESET", true);
}

static void script_wrong_range(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	p->m.body[0] ^= 8;
	answer_read(p);
	answer_reset(p);
}

static void test_wrong_range(void **state)
{
	(void)state;
	expect_read(script_wrong_range, PATIENT, -EPROTO, "the server answered for 64 bytes at 0x8 of region 0", false);
}

static void script_4_gib(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	struct vfio_user_header h = p->m.header;
	h.flags = VFIO_USER_TYPE_REPLY;
	h.size = UINT32_MAX;
	peer_send(p->fd, &h, NULL, 0, NULL, 0);
}

static void test_4_gib(void **state)
{
	(void)state;
	expect_read(script_4_gib, PATIENT, -EPROTO, "a message of 4294967295 bytes", true);
}

static void script_less_than_header(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	struct vfio_user_header h = p->m.header;
	h.flags = VFIO_USER_TYPE_REPLY;
	h.size = 15;
	peer_send(p->fd, &h, NULL, 0, NULL, 0);
}

static void test_less_than_header(void **state)
{
	(void)state;
	expect_read(script_less_than_header, PATIENT, -EPROTO, "a message of 15 bytes", true);
}

static void script_no_type(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	struct vfio_user_header h = p->m.header;
	h.flags = 9;
	peer_send(p->fd, &h, NULL, 0, NULL, 0);
}

static void test_no_type(void **state)
{
	(void)state;
	expect_read(script_no_type, PATIENT, -EPROTO, "a message of type 9", true);
}

static void test_no_reply(void **state)
{
	(void)state;
	expect_read(hostile_silence, HASTY, -ETIMEDOUT, "did not answer REGION_READ within 1000 ms", true);
}

/* Asks for memory and takes none of it: the client's answer gets stuck, but not for ever. */
static void script_deaf(struct peer *p)
{
	struct pollfd gone = { .fd = p->fd, .events = POLLRDHUP };
	struct vfio_user_dma_io io = { 0, 1u << 20 };

	peer_receive(p->fd, &p->m);
	peer_close_fds(&p->m);
	peer_reply(p->fd, &p->m, NULL, 0);
	peer_command(p->fd, 1, VFIO_USER_DMA_READ, &io, sizeof(io));
	poll(&gone, 1, -1);
	hang_up(p);
}

static void test_deaf_server(void **state)
{
	struct access *a = hostile_start(script_deaf, HASTY);
	int fd = memfd_create("x", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(fd, 1u << 20), 0);
	assert_int_equal(access_dma_map(a, 0, 1u << 20, fd, 0, VFMIG_DMA_READ, NULL), 0);
	int r = access_reset(a, NULL); /* stuck behind that answer, or already too late */
	assert_true(r == -ETIMEDOUT || r == -ENOTCONN);
	assert_int_equal(access_reset(a, NULL), -ENOTCONN);
	close(fd);
	hostile_stop(a);
}

static void script_too_much(struct peer *p)
{
	uint8_t body[16 + 64 + 8] = { 0 };

	peer_receive(p->fd, &p->m);
	memcpy(body, p->m.body, 16);
	peer_reply(p->fd, &p->m, body, sizeof(body));
}

static void test_more_than_asked(void **state)
{
	(void)state;
	expect_read(script_too_much, PATIENT, -EPROTO, "has 88 bytes, expected were 80 to 80", true);
}

static void script_too_little(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	peer_reply(p->fd, &p->m, p->m.body, 16);
}

static void test_less_than_asked(void **state)
{
	(void)state;
	expect_read(script_too_little, PATIENT, -EPROTO, "has 16 bytes, expected were 80 to 80", true);
}

static void script_error_with_payload(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	struct vfio_user_header h = p->m.header;
	h.flags = VFIO_USER_TYPE_REPLY | VFIO_USER_ERROR;
	h.error = EBUSY;
	h.size = 16 + 100000;
	peer_send(p->fd, &h, p->m.body, 100000, NULL, 0);
	answer_reset(p);
}

static void test_error_with_payload(void **state)
{
	(void)state;
	expect_read(script_error_with_payload, PATIENT, -EBUSY, "refused REGION_READ: Device or resource busy", false);
}

/* An errno that would mean something else above. */
static void script_lying_errno(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	peer_refuse(p->fd, &p->m, ENOTCONN);
	answer_reset(p);
}

static void script_huge_errno(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	peer_refuse(p->fd, &p->m, 0x80000000);
	answer_reset(p);
}

static void test_lying_errno(void **state)
{
	(void)state;
	expect_read(script_lying_errno, PATIENT, -EIO, "refused", false);
	expect_read(script_huge_errno, PATIENT, -EIO, "refused", false);
}

static void script_refuse_all(struct peer *p)
{
	while (peer_try_receive(p->fd, &p->m) == 0) {
		peer_close_fds(&p->m);
		peer_refuse(p->fd, &p->m, ENOTTY);
	}
}

static void test_refuses_everything(void **state)
{
	struct access *a = hostile_start(script_refuse_all, PATIENT);
	struct access_device_info info;
	struct access_region_info region;
	struct access_irq_info irq;
	struct vfmig_error err;
	int fd = memfd_create("x", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(fd, 0x1000), 0);
	assert_int_equal(access_device_info(a, &info, &err), -EOPNOTSUPP);
	assert_int_equal(err.code, -EOPNOTSUPP);
	assert_int_equal(access_region_info(a, 0, &region, &err), -EOPNOTSUPP);
	assert_int_equal(access_irq_info(a, 0, &irq, &err), -EOPNOTSUPP);
	assert_int_equal(access_reset(a, &err), -EOPNOTSUPP);
	assert_int_equal(access_dma_map(a, 0, 0x1000, fd, 0, VFMIG_DMA_READ, &err), -EOPNOTSUPP);
	assert_int_equal(access_dma_unmap(a, 0, 0x1000, &err), -ENOENT);
	assert_int_equal(access_set_irqs(a, 0, 0, 1, &(int) { -1 }, &err), -EOPNOTSUPP);
	assert_int_equal(access_feature(a, 0, NULL, 0, &err), -EOPNOTSUPP);
	close(fd);
	hostile_stop(a);
}

/* ------------------------------------------------- the server's own requests */

/* Reads and writes of memory that is not mapped, bad ones, while a reply is due. */
static void script_commands_meanwhile(struct peer *p)
{
	struct vfio_user_dma_io io = { 0x1000, 8 };
	uint8_t body[sizeof(io) + 8] = { 0 };
	struct peer_message *answer = calloc(1, sizeof(*answer));

	peer_receive(p->fd, &p->m); /* the DMA_MAP of [0, 0x1000) */
	peer_close_fds(&p->m);
	peer_reply(p->fd, &p->m, NULL, 0);
	peer_receive(p->fd, &p->m);
	for (uint16_t id = 0; id < 20; id++) {
		bool write = id & 1;
		memcpy(body, &io, sizeof(io));
		peer_command(p->fd, id, write ? VFIO_USER_DMA_WRITE : VFIO_USER_DMA_READ, body, write ? 24 : 16);
		peer_receive(p->fd, answer);
		if (answer->header.id != id || answer->header.error != EINVAL || answer->length != 0 ||
		    answer->header.flags != (VFIO_USER_TYPE_REPLY | VFIO_USER_ERROR))
			abort();
	}
	io = (struct vfio_user_dma_io) { UINT64_MAX - 3, UINT64_MAX };
	peer_command(p->fd, 30, VFIO_USER_DMA_READ, &io, sizeof(io));
	peer_receive(p->fd, answer);
	if (answer->header.error != EINVAL)
		abort();
	io = (struct vfio_user_dma_io) { 0, 4 };
	memcpy(body, &io, sizeof(io)); /* its count is not what comes */
	peer_command(p->fd, 31, VFIO_USER_DMA_WRITE, body, sizeof(body));
	peer_receive(p->fd, answer);
	if (answer->header.error != EINVAL)
		abort();
	answer_read(p);
	answer_reset(p);
	free(answer);
}

static void test_commands_meanwhile(void **state)
{
	struct access *a = hostile_start(script_commands_meanwhile, PATIENT);
	int fd = memfd_create("x", MFD_CLOEXEC);
	uint8_t buffer[64];

	(void)state;
	assert_int_equal(ftruncate(fd, 0x1000), 0);
	assert_int_equal(access_dma_map(a, 0, 0x1000, fd, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, NULL), 0);
	assert_int_equal(access_region_read(a, 0, 0, buffer, sizeof(buffer), NULL), 0);
	assert_int_equal(access_reset(a, NULL), 0);
	close(fd);
	hostile_stop(a);
}

static void script_unknown_command(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	peer_command(p->fd, 1, VFIO_USER_DEVICE_RESET, NULL, 0);
}

static void test_command_of_a_client(void **state)
{
	(void)state;
	expect_read(script_unknown_command, PATIENT, -EPROTO, "DEVICE_RESET (13), which is not a server's", true);
}

static void script_short_dma(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	peer_command(p->fd, 1, VFIO_USER_DMA_WRITE, "1234567", 7);
}

static void test_short_dma(void **state)
{
	(void)state;
	expect_read(script_short_dma, PATIENT, -EPROTO, "a DMA_WRITE of 7 bytes", true);
}

/* A reply to nothing, while the client is idle: its next call finds out. */
static void script_unasked_reply(struct peer *p)
{
	p->m.header = (struct vfio_user_header) { .id = 7, .command = VFIO_USER_DEVICE_RESET };
	peer_reply(p->fd, &p->m, NULL, 0);
	while (peer_try_receive(p->fd, &p->m) == 0)
		;
}

static void test_unasked_reply(void **state)
{
	struct access *a = hostile_start(script_unasked_reply, PATIENT);
	struct vfmig_error err;

	(void)state;
	int r = access_reset(a, &err); /* the reply may be found before it is sent, or while it waits */
	assert_true(r == -ENOTCONN || r == -EPROTO);
	assert_non_null(strstr(err.message, "id"));
	assert_int_equal(access_reset(a, &err), -ENOTCONN);
	hostile_stop(a);
}

static void script_second_reply(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	answer_read(p);
	answer_read(p);
}

static void test_second_reply(void **state)
{
	struct access *a = hostile_start(script_second_reply, PATIENT);
	struct vfmig_error err;
	uint8_t buffer[64];

	(void)state;
	assert_int_equal(access_region_read(a, 0, 0, buffer, sizeof(buffer), NULL), 0);
	int r = access_reset(a, &err);
	assert_true(r == -ENOTCONN || r == -EPROTO);
	hostile_stop(a);
}

static void script_fds(struct peer *p)
{
	int fds[12];
	struct vfio_user_header h;
	uint8_t body[16 + 64] = { 0 };

	for (int i = 0; i < 12; i++)
		fds[i] = p->socket.fd;
	peer_receive(p->fd, &p->m);
	memcpy(body, p->m.body, 16);
	h = p->m.header;
	h.flags = VFIO_USER_TYPE_REPLY;
	h.size = 16 + sizeof(body);
	peer_send(p->fd, &h, body, sizeof(body), fds, 12); /* more than fit */
	answer_reset(p);
}

static void test_unasked_fds(void **state)
{
	struct access *a = hostile_start(script_fds, PATIENT);
	size_t before = count_fds();
	uint8_t buffer[64];

	(void)state;
	assert_int_equal(access_region_read(a, 0, 0, buffer, sizeof(buffer), NULL), 0);
	assert_int_equal(access_reset(a, NULL), 0); /* the thread is through with the first reply's fds */
	assert_int_equal(count_fds(), before);
	hostile_stop(a);
}

static void script_bytewise(struct peer *p)
{
	uint8_t message[16 + 16 + 64] = { 0 };

	peer_receive(p->fd, &p->m);
	p->m.header.flags = VFIO_USER_TYPE_REPLY;
	p->m.header.size = sizeof(message);
	memcpy(message, &p->m.header, 16);
	memcpy(message + 16, p->m.body, 16);
	memset(message + 32, 0x77, 64);
	for (size_t i = 0; i < sizeof(message); i++)
		send(p->fd, &message[i], 1, MSG_NOSIGNAL);
	answer_reset(p);
}

static void test_bytewise(void **state)
{
	struct access *a = hostile_start(script_bytewise, PATIENT);
	uint8_t buffer[64];

	(void)state;
	assert_int_equal(access_region_read(a, 0, 0, buffer, sizeof(buffer), NULL), 0);
	assert_int_equal(buffer[0], 0x77);
	assert_int_equal(buffer[63], 0x77);
	assert_int_equal(access_reset(a, NULL), 0);
	hostile_stop(a);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, hostile_setup, hostile_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_close),
		TEST(test_close_in_header),
		TEST(test_close_in_message),
		TEST(test_stall_in_message),
		TEST(test_close_in_error_reply),
		TEST(test_wrong_id),
		TEST(test_wrong_command),
		TEST(test_wrong_range),
		TEST(test_4_gib),
		TEST(test_less_than_header),
		TEST(test_no_type),
		TEST(test_no_reply),
		TEST(test_deaf_server),
		TEST(test_more_than_asked),
		TEST(test_less_than_asked),
		TEST(test_error_with_payload),
		TEST(test_lying_errno),
		TEST(test_refuses_everything),
		TEST(test_commands_meanwhile),
		TEST(test_command_of_a_client),
		TEST(test_short_dma),
		TEST(test_unasked_reply),
		TEST(test_second_reply),
		TEST(test_unasked_fds),
		TEST(test_bytewise),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
