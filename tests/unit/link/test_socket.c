/* SPDX-License-Identifier: BSD-3-Clause */
/* test_socket.c: unix: and tcp:, a listening and a connecting side. */
#include "link_harness.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

struct listener {
	pthread_t thread;
	char uri[256];
	uint32_t timeout_ms, further;
	struct vfmig_link *link;
	struct vfmig_error err;
	int result;
};

static void *listen_thread(void *arg)
{
	struct listener *l = arg;
	struct vfmig_link_options opts = {
		.size = sizeof(opts), .timeout_ms = l->timeout_ms, .further_connections = l->further,
	};
	l->result = vfmig_link_open(l->uri, VFMIG_LOAD, &opts, &l->link, &l->err);
	return NULL;
}

static void listen_start(struct listener *l, const char *scheme, const char *rest, uint32_t further)
{
	memset(l, 0, sizeof(*l));
	l->timeout_ms = 20000;
	l->further = further;
	snprintf(l->uri, sizeof(l->uri), "%s%s", scheme, rest);
	assert_int_equal(pthread_create(&l->thread, NULL, listen_thread, l), 0);
}

static struct vfmig_link *listen_end(struct listener *l)
{
	pthread_join(l->thread, NULL);
	if (l->result < 0)
		fail_msg("%s", l->err.message);
	return l->link;
}

/* The sender comes first or second, as it happens: it waits for the listener. */
static void connect_pair(const char *scheme, const char *rest, struct vfmig_link **ret_save,
			 struct vfmig_link **ret_load)
{
	struct listener l;
	struct vfmig_error err;
	listen_start(&l, scheme, rest, 0);
	if (open_link(scheme, rest, VFMIG_SAVE, 20000, ret_save, &err) < 0)
		fail_msg("%s", err.message);
	*ret_load = listen_end(&l);
}

static void transfers(const char *scheme, const char *rest)
{
	struct vfmig_link *save, *load;
	struct vfmig_error err;
	char byte = 0;
	connect_pair(scheme, rest, &save, &load);
	assert_true(save->two_way && load->two_way);
	assert_int_equal(link_read(load, &byte, 1, &err), -EAGAIN);
	assert_int_equal(link_read(save, &byte, 1, &err), -EAGAIN);
	struct iovec back = { (void *)"r", 1 };
	assert_int_equal(link_writev(load, &back, 1, &err), 1);
	wait_link(save, POLLIN);
	assert_int_equal(link_read(save, &byte, 1, &err), 1);
	assert_int_equal(byte, 'r');
	write_all(save, MESSAGE, strlen(MESSAGE));
	assert_int_equal(link_finish(save, &err), 0);
	vfmig_link_close(save);
	expect_message(load);
	vfmig_link_close(load);
}

static void test_unix(void **state)
{
	struct scratch *s = *state;
	transfers("unix:", scratch_path(s, "socket"));
	assert_int_equal(scratch_count(s), 0);
}

/* A port that was free a moment ago. */
static void free_port(const char *host, int family, char *ret, size_t size)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} address = { .any.sa_family = (sa_family_t)family };
	if (family == AF_INET6)
		address.in6.sin6_addr = in6addr_loopback;
	else
		address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	socklen_t length = family == AF_INET6 ? sizeof(address.in6) : sizeof(address.in);
	int fd = socket(family, SOCK_STREAM, 0);
	if (fd < 0 || bind(fd, &address.any, length) < 0)
		skip();
	getsockname(fd, &address.any, &length);
	close(fd);
	snprintf(ret, size, "%s:%d", host, ntohs(family == AF_INET6 ? address.in6.sin6_port : address.in.sin_port));
}

static void test_tcp(void **state)
{
	(void)state;
	char address[64];
	free_port("127.0.0.1", AF_INET, address, sizeof(address));
	transfers("tcp:", address);
	/* Again at once: TIME_WAIT does not keep the port. */
	transfers("tcp:", address);
}

static void test_tcp_name(void **state)
{
	(void)state;
	char address[64], expected[80];
	struct vfmig_link *save, *load;
	int on = 0;
	socklen_t length = sizeof(on);
	free_port("127.0.0.1", AF_INET, address, sizeof(address));
	connect_pair("tcp:", address, &save, &load);
	snprintf(expected, sizeof(expected), "tcp:%s", address);
	assert_string_equal(load->name, expected);
	assert_int_equal(getsockopt(save->wait_fd, IPPROTO_TCP, TCP_NODELAY, &on, &length), 0);
	assert_true(on);
	vfmig_link_close(save);
	vfmig_link_close(load);
}

static int option(int fd, int name)
{
	int value = 0;
	socklen_t length = sizeof(value);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, name, &value, &length), 0);
	return value;
}

/* fd: with a listening socket, as systemd hands it over; and whoever made the socket, a dead peer is noticed. */
static void test_listening_fd(void **state)
{
	(void)state;
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	char rest[32], sent = 'x', byte = 0;
	struct vfmig_link *save, *load;
	struct vfmig_error err;
	struct listener l;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	int kept = dup(fd); /* systemd's own */
	snprintf(rest, sizeof(rest), "%d", fd);
	listen_start(&l, "fd:", rest, 0);
	snprintf(rest, sizeof(rest), "127.0.0.1:%d", ntohs(address.sin_port));
	assert_int_equal(open_link("tcp:", rest, VFMIG_SAVE, 20000, &save, &err), 0);
	load = listen_end(&l);
	assert_true(load->two_way);
	assert_true(option(load->wait_fd, TCP_KEEPIDLE) + option(load->wait_fd, TCP_KEEPINTVL) *
		    option(load->wait_fd, TCP_KEEPCNT) <= 60);
	assert_true(option(save->wait_fd, TCP_USER_TIMEOUT) > 0);
	assert_int_equal(link_writev(save, &(struct iovec) { &sent, 1 }, 1, &err), 1);
	wait_link(load, POLLIN);
	assert_int_equal(link_read(load, &byte, 1, &err), 1);
	assert_int_equal(byte, 'x');
	vfmig_link_close(save);
	vfmig_link_close(load);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	/* Nobody comes. */
	snprintf(rest, sizeof(rest), "%d", kept);
	assert_int_equal(open_link("fd:", rest, VFMIG_LOAD, 50, &load, &err), -ETIMEDOUT);
	assert_error(err, "nobody connected");
}

static void test_tcp6(void **state)
{
	(void)state;
	char address[64];
	free_port("[::1]", AF_INET6, address, sizeof(address));
	transfers("tcp:", address);
}

static void test_nobody(void **state)
{
	struct scratch *s = *state;
	char address[64];
	struct vfmig_link *l = NULL;
	struct vfmig_error err;
	assert_int_equal(open_link("unix:", scratch_path(s, "none"), VFMIG_SAVE, 1, &l, &err), -ENOENT);
	assert_error(err, "connect: No such file");
	assert_int_equal(open_link("unix:", s->path, VFMIG_LOAD, 1, &l, &err), -ETIMEDOUT);
	assert_error(err, "nobody connected");
	assert_int_equal(scratch_count(s), 0);
	free_port("127.0.0.1", AF_INET, address, sizeof(address));
	assert_int_equal(open_link("tcp:", address, VFMIG_SAVE, 1, &l, &err), -ECONNREFUSED);
	assert_int_equal(open_link("tcp:", address, VFMIG_LOAD, 1, &l, &err), -ETIMEDOUT);
	assert_null(l);
}

static int bind_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	assert_true(strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void test_path_in_use(void **state)
{
	struct scratch *s = *state;
	struct vfmig_link *l = NULL;
	struct vfmig_error err;
	int fd = bind_socket(scratch_path(s, "socket"));
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(open_link("unix:", s->path, VFMIG_LOAD, 1, &l, &err), -EADDRINUSE);
	assert_int_equal(poll(&p, 1, 0), 0); /* it was not disturbed */
	close(fd);
	/* Left by a process that is gone. */
	assert_int_equal(open_link("unix:", s->path, VFMIG_LOAD, 1, &l, &err), -ETIMEDOUT);
	assert_int_equal(scratch_count(s), 0);
	/* Somebody's file. */
	close(open(s->path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(open_link("unix:", s->path, VFMIG_LOAD, 1, &l, &err), -EEXIST);
	assert_int_equal(scratch_count(s), 1);
	char name[200];
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(open_link("unix:", name, VFMIG_LOAD, 1, &l, &err), -ENAMETOOLONG);
}

static void test_peer_gone(void **state)
{
	struct scratch *s = *state;
	struct vfmig_link *save, *load;
	struct vfmig_error err;
	struct iovec iov = { (void *)MESSAGE, strlen(MESSAGE) };
	char byte;
	connect_pair("unix:", scratch_path(s, "socket"), &save, &load);
	vfmig_link_close(load);
	assert_int_equal(link_writev(save, &iov, 1, &err), -EPIPE);
	assert_error(err, "the reader is gone");
	assert_int_equal(link_read(save, &byte, 1, &err), 0);
	vfmig_link_close(save);
}

/* Connections after the first: the listening side never waits for one, the connecting one makes them. */
static void further_connections(const char *scheme, const char *rest)
{
	struct listener l;
	struct vfmig_error err;
	struct vfmig_link *save, *more_save[2], *more_load[2];
	listen_start(&l, scheme, rest, 2);
	assert_int_equal(open_link(scheme, rest, VFMIG_SAVE, 20000, &save, &err), 0);
	struct vfmig_link *load = listen_end(&l);
	assert_int_equal(link_another(load, &more_load[0], &err), -EAGAIN);
	for (int i = 0; i < 2; i++) {
		struct pollfd p = { .fd = load->listen_fd, .events = POLLIN };
		assert_int_equal(link_another(save, &more_save[i], &err), 0);
		assert_int_equal(poll(&p, 1, 20000), 1);
		assert_int_equal(link_another(load, &more_load[i], &err), 0);
		assert_true(more_load[i]->two_way);
		write_all(more_save[i], MESSAGE, strlen(MESSAGE));
		vfmig_link_close(more_save[i]);
		expect_message(more_load[i]);
		vfmig_link_close(more_load[i]);
	}
	/* One that was taken gives no others, and neither does what is no listening socket at all. */
	assert_int_equal(link_another(load, &more_load[0], &err), -EAGAIN);
	vfmig_link_close(save);
	vfmig_link_close(load);
	assert_int_equal(vfmig_link_open("null:", VFMIG_SAVE, NULL, &save, &err), 0);
	assert_int_equal(link_another(save, &more_save[0], &err), -EOPNOTSUPP);
	assert_error(err, "several need unix: or tcp:");
	vfmig_link_close(save);
}

static void test_further_connections(void **state)
{
	struct scratch *s = *state;
	char address[64];
	further_connections("unix:", scratch_path(s, "socket"));
	assert_int_equal(scratch_count(s), 0);
	free_port("127.0.0.1", AF_INET, address, sizeof(address));
	further_connections("tcp:", address);
}

static void test_reconnect(void **state)
{
	struct scratch *s = *state;
	struct vfmig_link *save, *load;
	struct vfmig_error err;
	struct iovec back = { (void *)"r", 1 };
	const char *schemes[] = { "unix:", "tcp:" };
	char address[64], byte;
	free_port("127.0.0.1", AF_INET, address, sizeof(address));
	for (int i = 0; i < 2; i++) {
		connect_pair(schemes[i], i ? address : scratch_path(s, "socket"), &save, &load);
		assert_int_equal(link_reconnect(load, &err), -EAGAIN);
		assert_int_equal(link_read(save, &byte, 1, &err), 0);
		connect_again(save);
		connect_again(load);
		write_all(save, MESSAGE, strlen(MESSAGE));
		assert_int_equal(link_writev(load, &back, 1, &err), 1);
		wait_link(save, POLLIN);
		assert_int_equal(link_read(save, &byte, 1, &err), 1);
		/* With nobody there any more it tries, and is there when somebody comes back. */
		vfmig_link_close(load);
		for (int n = 0; n < 3; n++) {
			assert_int_equal(link_reconnect(save, &err), -EAGAIN);
			wait_link(save, POLLIN | POLLOUT);
		}
		struct listener l;
		listen_start(&l, schemes[i], i ? address : s->path, 0);
		connect_again(save);
		load = listen_end(&l);
		write_all(save, MESSAGE, strlen(MESSAGE));
		vfmig_link_close(save);
		expect_message(load);
		vfmig_link_close(load);
	}
	assert_int_equal(scratch_count(s), 0);
}

static void test_no_reconnect(void **state)
{
	(void)state;
	struct vfmig_link *l;
	struct vfmig_error err;
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(link_from_fd(fds[0], "fd", VFMIG_SAVE, &l, &err), 0);
	assert_int_equal(link_reconnect(l, &err), -ENOTCONN);
	vfmig_link_close(l);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_unix, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_further_connections, scratch_setup, scratch_teardown),
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_tcp_name),
		cmocka_unit_test(test_listening_fd),
		cmocka_unit_test(test_tcp6),
		cmocka_unit_test_setup_teardown(test_nobody, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_path_in_use, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_peer_gone, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_reconnect, scratch_setup, scratch_teardown),
		cmocka_unit_test(test_no_reconnect),
	};
	return cmocka_run_group_tests_name("link socket", tests, NULL, NULL);
}
