/* SPDX-License-Identifier: BSD-3-Clause */
/* test_tls.c: a TLS link never blocks, whatever little room there is, and does without a turn that poll cannot see. */
#include "link_harness.h"

#include <openssl/err.h>

#include "link/tls.h"

#define KEY "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"
#define BYTES (3u << 20)
#define SMALL_BUFFER 4096
#define RECORD 16384u
#define MESSAGES 150u /* as many as fit into the socket */

struct ends {
	struct scratch scratch;
	int fds[2];
	struct vfmig_link *save, *load;
	struct vfmig_error err;
	int result;
};

static int open_end(struct ends *e, int fd, enum vfmig_direction direction, struct vfmig_link **ret,
		    struct vfmig_error *err)
{
	struct vfmig_link_options opts = { .size = sizeof(opts), .timeout_ms = 20000, .tls_creds = e->scratch.dir };
	char uri[128];
	if (fd >= 0)
		snprintf(uri, sizeof(uri), "fd:%d", fd);
	else
		snprintf(uri, sizeof(uri), "unix:%s/link", e->scratch.dir);
	return vfmig_link_open(uri, direction, &opts, ret, err);
}

static void *load_thread(void *arg)
{
	struct ends *e = arg;
	e->result = open_end(e, e->fds[1], VFMIG_LOAD, &e->load, &e->err);
	return NULL;
}

static void set_buffers(int fd, int bytes)
{
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
}

static void open_both(struct ends *e)
{
	struct vfmig_error err;
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, load_thread, e), 0);
	int r = open_end(e, e->fds[0], VFMIG_SAVE, &e->save, &err);
	pthread_join(thread, NULL);
	if (r < 0 || e->result < 0)
		fail_msg("%s", r < 0 ? err.message : e->err.message);
}

/* Both ends of a socket with little room in it. */
static int ends_setup(void **state)
{
	struct ends *e = calloc(1, sizeof(*e));
	strcpy(e->scratch.dir, "/tmp/vfmig-link-XXXXXX");
	assert_non_null(mkdtemp(e->scratch.dir));
	FILE *f = fopen(scratch_path(&e->scratch, "keys.psk"), "w");
	assert_non_null(f);
	fputs("qemu:" KEY "\n", f);
	fclose(f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, e->fds), 0);
	set_buffers(e->fds[0], SMALL_BUFFER);
	set_buffers(e->fds[1], SMALL_BUFFER);
	open_both(e);
	assert_true(e->save->two_way && e->load->two_way);
	*state = e;
	return 0;
}

static int ends_teardown(void **state)
{
	struct ends *e = *state;
	vfmig_link_close(e->save);
	vfmig_link_close(e->load);
	unlink(e->scratch.path);
	int r = rmdir(e->scratch.dir);
	free(e);
	return r;
}

static uint8_t nth_byte(size_t n)
{
	return (uint8_t)(n * 7 + (n >> 8) * 13 + (n >> 16));
}

/* A load's is behind one that looks for compression. */
static struct tls_link *tls_of(struct vfmig_link *l)
{
	return (struct tls_link *)(l->under ? l->under : l);
}

static SSL *ssl_of(struct vfmig_link *l)
{
	return tls_of(l)->ssl;
}

/* What is written in turn with reading, in one thread: a call that blocked would hang here. */
static void stream(struct vfmig_link *from, struct vfmig_link *to, size_t bytes)
{
	uint8_t *data = malloc(bytes), got[10000];
	size_t sent = 0, have = 0;
	struct vfmig_error err;
	assert_non_null(data);
	for (size_t i = 0; i < bytes; i++)
		data[i] = nth_byte(i);
	while (have < bytes) {
		size_t first = (bytes - sent) / 3;
		struct iovec iov[2] = { { data + sent, first }, { data + sent + first, bytes - sent - first } };
		ssize_t n = sent < bytes ? link_writev(from, iov, 2, &err) : -EAGAIN;
		if (n > 0)
			sent += (size_t)n;
		else if (n != -EAGAIN)
			fail_msg("%s", err.message);
		while ((n = link_read(to, got, sizeof(got), &err)) > 0)
			for (ssize_t i = 0; i < n; i++, have++)
				assert_int_equal(got[i], nth_byte(have));
		if (n != -EAGAIN)
			fail_msg("%zu of %zu: %s", have, bytes, n ? err.message : "the end");
	}
	assert_int_equal(sent, bytes);
	free(data);
}

static void test_little_room(void **state)
{
	struct ends *e = *state;
	stream(e->save, e->load, BYTES);
	stream(e->load, e->save, BYTES / 4);
}

/* A record that is half out when the room ends is gone on with by the next call, also with more behind it. */
static void test_a_full_link_takes_nothing(void **state)
{
	struct ends *e = *state;
	static uint8_t data[8 * RECORD], got[RECORD];
	struct vfmig_error err;
	struct iovec iov = { data, sizeof(data) / 2 };
	size_t sent = 0, have = 0;
	ssize_t n;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = nth_byte(i);
	while ((n = link_writev(e->save, &iov, 1, &err)) > 0) {
		sent += (size_t)n;
		iov = (struct iovec) { data + sent, sizeof(data) / 2 - sent };
	}
	assert_int_equal(n, -EAGAIN);
	assert_int_equal(e->save->only_events, 0); /* POLLOUT is right */
	while (have < sizeof(data)) {
		n = link_read(e->load, got, sizeof(got), &err);
		for (ssize_t i = 0; i < n; i++, have++)
			assert_int_equal(got[i], nth_byte(have));
		iov = (struct iovec) { data + sent, sizeof(data) - sent };
		n = sent < sizeof(data) ? link_writev(e->save, &iov, 1, &err) : 0;
		sent += n > 0 ? (size_t)n : 0;
	}
}

/* More has come than was asked for: the socket is empty, the link is not, and says so. */
static void test_buffered(void **state)
{
	struct ends *e = *state;
	struct iovec iov = { (void *)"abc", 3 };
	struct pollfd p = { .fd = e->load->wait_fd, .events = POLLIN };
	struct vfmig_error err;
	char got[8];
	assert_int_equal(link_writev(e->save, &iov, 1, &err), 3);
	assert_int_equal(link_read(e->load, got, 1, &err), 1);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_true(e->load->buffered);
	assert_int_equal(link_read(e->load, got, sizeof(got), &err), 2);
	assert_int_equal(link_read(e->load, got, sizeof(got), &err), -EAGAIN);
	assert_false(e->load->buffered);
}

/* Keys are renewed under way: by ourselves in time, and when the other side asks for it. */
static void test_new_keys(void **state)
{
	struct ends *e = *state;
	struct tls_link *t = tls_of(e->save);
	stream(e->save, e->load, 100000);
	t->sent_bytes = UINT64_MAX / 2;
	stream(e->save, e->load, 100000);
	assert_true(t->sent_bytes <= 100000);
	assert_int_equal(SSL_key_update(ssl_of(e->load), SSL_KEY_UPDATE_REQUESTED), 1);
	stream(e->load, e->save, 100000);
	stream(e->save, e->load, BYTES / 4);
	assert_int_equal(SSL_get_key_update_type(ssl_of(e->save)), SSL_KEY_UPDATE_NONE);
	assert_int_equal(e->save->only_events, 0);
}

/* What comes behind many messages of TLS's own is not forgotten while poll knows of no more. */
static void test_flood(void **state)
{
	struct ends *e = *state;
	struct vfmig_error err;
	unsigned turns = 0;
	char byte = 0;
	stream(e->save, e->load, 100);
	set_buffers(e->save->wait_fd, 1 << 20);
	for (unsigned i = 0; i < MESSAGES; i++) {
		assert_int_equal(SSL_key_update(ssl_of(e->save), SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		assert_int_equal(SSL_do_handshake(ssl_of(e->save)), 1);
	}
	assert_int_equal(link_writev(e->save, &(struct iovec) { (void *)"x", 1 }, 1, &err), 1);
	while (link_read(e->load, &byte, 1, &err) == -EAGAIN && turns++ < MESSAGES)
		wait_link(e->load, POLLIN);
	assert_int_equal(byte, 'x');
}

static void test_end(void **state)
{
	struct ends *e = *state;
	struct vfmig_error err;
	char byte;
	/* The return path is open still after the stream's end; then close_notify is its end. */
	stream(e->load, e->save, 100);
	vfmig_link_close(e->load);
	e->load = NULL;
	assert_int_equal(link_read(e->save, &byte, 1, &err), 0);
}

/* A peer that dies: no SIGPIPE, which would end this program, and no success. */
static void test_peer_gone(void **state)
{
	struct ends *e = *state;
	struct iovec iov = { (void *)MESSAGE, strlen(MESSAGE) };
	struct vfmig_error err;
	char byte;
	stream(e->save, e->load, 100);
	tls_of(e->load)->failed = true; /* no close_notify */
	vfmig_link_close(e->load);
	e->load = NULL;
	assert_true(link_writev(e->save, &iov, 1, &err) < 0);
	assert_error(err, "closed the connection without a word");
	assert_true(link_read(e->save, &byte, 1, &err) < 0);
}

static void test_lost_between_two_messages(void **state)
{
	struct ends *e = *state;
	struct vfmig_error err;
	char byte;
	stream(e->save, e->load, 100);
	shutdown(e->save->wait_fd, SHUT_WR);
	assert_int_equal(link_read(e->load, &byte, 1, &err), -ECONNRESET);
	assert_error(err, "without TLS's end");
	assert_int_equal(link_read(e->load, &byte, 1, &err), -ECONNRESET);
	assert_false(e->load->taken_by_nobody);
}

/* A changed byte on the way is an alert, not data. */
static void test_changed_on_the_way(void **state)
{
	struct ends *e = *state;
	struct vfmig_error err;
	uint8_t record[] = { 0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 };
	char byte;
	stream(e->load, e->save, 100);
	assert_int_equal(send(e->save->wait_fd, record, sizeof(record), 0), sizeof(record));
	assert_true(link_read(e->load, &byte, 1, &err) < 0);
	assert_error(err, "TLS: ");
	assert_int_equal(link_read(e->save, &byte, 1, &err), -ECONNRESET);
	assert_error(err, "the alert \"bad record mac\"");
	assert_false(e->save->taken_by_nobody);
}

/* Lost and made again, both ends in one thread: the handshake goes on in what is written and read then. */
static void test_reconnect(void **state)
{
	struct ends *e = *state;
	struct vfmig_error err;
	assert_int_equal(link_reconnect(e->load, &err), -ENOTCONN);
	vfmig_link_close(e->save);
	vfmig_link_close(e->load);
	e->fds[0] = e->fds[1] = -1;
	open_both(e);
	for (unsigned i = 0; i < 3; i++) {
		stream(e->save, e->load, 100000);
		assert_int_equal(link_reconnect(e->load, &err), -EAGAIN);
		connect_again(e->save);
		connect_again(e->load);
	}
	stream(e->load, e->save, 100000);
	stream(e->save, e->load, 100000);
}

#define TLS_TEST(f) cmocka_unit_test_setup_teardown(f, ends_setup, ends_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TLS_TEST(test_little_room),
		TLS_TEST(test_a_full_link_takes_nothing),
		TLS_TEST(test_buffered),
		TLS_TEST(test_new_keys),
		TLS_TEST(test_flood),
		TLS_TEST(test_end),
		TLS_TEST(test_peer_gone),
		TLS_TEST(test_lost_between_two_messages),
		TLS_TEST(test_changed_on_the_way),
		TLS_TEST(test_reconnect),
	};
	return cmocka_run_group_tests_name("link tls", tests, NULL, NULL);
}
