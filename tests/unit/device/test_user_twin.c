/* SPDX-License-Identifier: BSD-3-Clause */
/* test_user_twin.c: the second socket that a server may send its requests on, well and badly used. */
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

#define TWIN(index) "{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":" index "}}}"

/* What VERSION says, and which fds come with it; the server's own end of the twin socket. */
static const char *version;
static int fds[4], twin;
static size_t num_fds;

/* fds[at] is the client's end of a socket, the others are files. */
static void make_fds(const char *json, size_t n, size_t at)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	version = json;
	num_fds = n;
	twin = pair[0];
	for (size_t i = 0; i < n; i++)
		fds[i] = i == at ? pair[1] : memfd_create("no socket", MFD_CLOEXEC);
	if (at >= n)
		close(pair[1]);
}

static void say_version(struct peer *p)
{
	peer_answer_version(p, version, fds, num_fds);
	if (!strstr((char *)p->m.body + 4, "\"twin_socket\":{\"supported\":true}"))
		abort();
	for (size_t i = 0; i < num_fds; i++)
		close(fds[i]);
}

static struct access *open_twin(peer_script_fn *script)
{
	struct vfmig_error err;
	struct access *a = NULL;

	peer_start(&hostile_peer, script, NULL);
	if (user_access_open(hostile_peer.socket.path, PATIENT, &a, &err) < 0)
		fail_msg("%s", err.message);
	return a;
}

static void end(struct access *a)
{
	hostile_stop(a);
	if (twin >= 0)
		close(twin);
}

/* Reads the client's memory by the twin socket, also while a reply is due on the other. */
static void script_dma(struct peer *p)
{
	struct vfio_user_dma_io io = { 0x1000, 8 };

	say_version(p);
	for (int i = 0; i < 3; i++) {
		peer_receive(p->fd, &p->m);
		peer_close_fds(&p->m);
		if (i > 0) {
			struct peer_message *answer = calloc(1, sizeof(*answer));
			peer_command(twin, 5, VFIO_USER_DMA_READ, &io, sizeof(io));
			peer_receive(twin, answer);
			if (answer->header.id != 5 || answer->length != 24 || memcmp(answer->body + 16, "vfio-usr", 8))
				abort();
			free(answer);
		}
		peer_reply(p->fd, &p->m, NULL, 0);
	}
}

static void test_dma(void **state)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	(void)state;
	make_fds(TWIN("2"), 3, 2);
	struct access *a = open_twin(script_dma);
	assert_int_equal(ftruncate(fd, 0x1000), 0);
	assert_int_equal(pwrite(fd, "vfio-usr", 8, 0), 8);
	assert_int_equal(access_dma_map(a, 0x1000, 0x1000, fd, 0, VFMIG_DMA_READ, NULL), 0);
	assert_int_equal(access_reset(a, NULL), 0);
	assert_int_equal(access_reset(a, NULL), 0);
	close(fd);
	end(a);
}

static void script_version(struct peer *p)
{
	say_version(p);
}

/* A VERSION that cannot be: the connection is not made. */
static void expect_no_open(const char *json, size_t n, size_t at, const char *text)
{
	struct vfmig_error err = { 0 };
	struct access *a = NULL;

	make_fds(json, n, at);
	peer_start(&hostile_peer, script_version, NULL);
	assert_int_equal(user_access_open(hostile_peer.socket.path, PATIENT, &a, &err), -EPROTO);
	if (!strstr(err.message, text))
		fail_msg("\"%s\" is not in \"%s\"", text, err.message);
	peer_join(&hostile_peer);
	close(twin);
}

static void test_bad_index(void **state)
{
	(void)state;
	expect_no_open(TWIN("1"), 1, 0, "the twin socket is fd 1 of the message's 1");
	expect_no_open(TWIN("4294967295"), 2, 0, "the twin socket is fd 4294967295");
	expect_no_open(TWIN("0"), 0, 9, "the twin socket is fd 0 of the message's 0");
	expect_no_open(TWIN("0"), 2, 1, "is no stream socket");
}

/* A server that sends the socket and says that it is none: it is closed like all that nobody asked for. */
static void script_not_supported(struct peer *p)
{
	say_version(p);
	if (peer_try_receive(twin, &p->m) != -1) /* its end */
		abort();
	peer_receive(p->fd, &p->m);
	peer_reply(p->fd, &p->m, NULL, 0);
}

static void test_not_supported(void **state)
{
	(void)state;
	make_fds("{\"capabilities\":{\"twin_socket\":{\"supported\":false,\"fd_index\":0}}}", 1, 0);
	struct access *a = open_twin(script_not_supported);
	assert_int_equal(access_reset(a, NULL), 0);
	end(a);
}

/* What happens on the twin socket while the client waits for a reply, and what comes of it. */
static void (*misbehave)(void);

static void script_misbehave(struct peer *p)
{
	say_version(p);
	peer_receive(p->fd, &p->m);
	misbehave();
}

static void expect_lost(void (*how)(void), int code, const char *text)
{
	struct vfmig_error err;

	misbehave = how;
	make_fds(TWIN("0"), 1, 0);
	struct access *a = open_twin(script_misbehave);
	assert_int_equal(access_reset(a, &err), code);
	if (!strstr(err.message, text))
		fail_msg("\"%s\" is not in \"%s\"", text, err.message);
	assert_int_equal(access_reset(a, &err), -ENOTCONN);
	assert_non_null(strstr(err.message, text));
	end(a);
}

static void send_header(uint16_t command, uint32_t size, uint32_t flags)
{
	const struct vfio_user_header h = { 1, command, size, flags, 0 };
	peer_send(twin, &h, NULL, 0, NULL, 0);
}

static void reply(void)
{
	send_header(VFIO_USER_DEVICE_RESET, 16, VFIO_USER_TYPE_REPLY); /* to what is waited for, but not here */
}

static void client_command(void)
{
	send_header(VFIO_USER_DEVICE_RESET, 16, VFIO_USER_TYPE_COMMAND);
}

static void huge(void)
{
	send_header(VFIO_USER_DMA_WRITE, UINT32_MAX, VFIO_USER_TYPE_COMMAND);
}

static void close_twin(void)
{
	close(twin);
	twin = -1;
}

static void close_in_header(void)
{
	send(twin, "1234567", 7, MSG_NOSIGNAL);
	close_twin();
}

static void close_in_message(void)
{
	send_header(VFIO_USER_DMA_WRITE, 1000, VFIO_USER_TYPE_COMMAND);
	close_twin();
}

static void test_misbehaviour(void **state)
{
	(void)state;
	expect_lost(reply, -EPROTO, "the server sent a reply (DEVICE_RESET, id 1) on its twin socket");
	expect_lost(client_command, -EPROTO, "DEVICE_RESET (13), which is not a server's");
	expect_lost(huge, -EPROTO, "a message of 4294967295 bytes");
	expect_lost(close_twin, -ENOTCONN, "the server closed its twin socket");
	expect_lost(close_in_header, -ENOTCONN, "in the middle of a message's header");
	expect_lost(close_in_message, -ENOTCONN, "serving the server's DMA_WRITE");
}

#define LARGE (128u << 10)

/* Answers and leaves at once, the twin socket first: the answer is there all the same. */
static void script_leave(struct peer *p)
{
	static uint8_t body[16 + LARGE];

	say_version(p);
	peer_receive(p->fd, &p->m);
	memcpy(body, p->m.body, 16);
	peer_reply(p->fd, &p->m, body, sizeof(body));
	close_twin();
	close(p->fd);
	p->fd = -1;
}

static void test_leaves_after_answer(void **state)
{
	static uint8_t buffer[LARGE];
	struct vfmig_error err;

	(void)state;
	for (int i = 0; i < 50; i++) {
		make_fds(TWIN("0"), 1, 0);
		struct access *a = open_twin(script_leave);
		if (access_region_read(a, 0, 0, buffer, sizeof(buffer), &err) < 0)
			fail_msg("round %d: %s", i, err.message);
		assert_int_equal(access_reset(a, &err), -ENOTCONN);
		end(a);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, hostile_setup, hostile_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_dma),
		TEST(test_bad_index),
		TEST(test_not_supported),
		TEST(test_misbehaviour),
		TEST(test_leaves_after_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
