/* SPDX-License-Identifier: BSD-3-Clause */
/* test_acceptor.c: the expected peer is found among strangers that are silent, wrong, gone or too many. */
#include "link_harness.h"

#include <sys/un.h>

#include "link/acceptor.h"

#define PROOF "who knows this"

struct door {
	struct scratch *scratch;
	struct sockaddr_un address;
	struct vfmig_link *listener;
	int first; /* the connection that the listener's link was opened with */
	struct acceptor *a;
};

static int connect_one(const struct door *d)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&d->address, sizeof(d->address)), 0);
	return fd;
}

static int say(int fd, const char *words, size_t length)
{
	assert_int_equal(send(fd, words, length, 0), length);
	return fd;
}

static void set_up(struct door *d)
{
	struct vfmig_error err;
	d->address = (struct sockaddr_un) { .sun_family = AF_UNIX };
	strcpy(d->address.sun_path, scratch_path(d->scratch, "socket"));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&d->address, sizeof(d->address)), 0);
	assert_int_equal(listen(fd, 200), 0);
	d->first = connect_one(d);
	char number[16];
	snprintf(number, sizeof(number), "%d", fd);
	assert_int_equal(open_link("fd:", number, VFMIG_LOAD, 1000, &d->listener, &err), 0);
	assert_int_equal(acceptor_new(d->listener, PROOF, strlen(PROOF), &d->a, &err), 0);
}

static int door_setup(void **state)
{
	struct door *d = calloc(1, sizeof(*d));
	scratch_setup((void **)&d->scratch);
	set_up(d);
	*state = d;
	return 0;
}

static int door_teardown(void **state)
{
	struct door *d = *state;
	acceptor_free(d->a);
	vfmig_link_close(d->listener);
	close(d->first);
	int r = scratch_teardown((void **)&d->scratch);
	free(d);
	return r;
}

/* Until the acceptor has something to do. */
static void wait_acceptor(const struct acceptor *a)
{
	struct pollfd p = { .fd = acceptor_fd(a), .events = POLLIN };
	uint64_t now = clock_now_ns(), wake = acceptor_wake_ns(a);
	int ms = wake == UINT64_MAX ? 20000 : wake <= now ? 0 : (int)((wake - now) / NS_PER_MS) + 1;
	assert_true(poll(&p, 1, ms) >= 0);
	assert_true(ms < 20000 || p.revents);
}

static struct vfmig_link *find(struct door *d)
{
	struct vfmig_link *l = NULL;
	int r;
	while ((r = acceptor_step(d->a, &l)) == -EAGAIN)
		wait_acceptor(d->a);
	assert_int_equal(r, 0);
	return l;
}

static bool is_open(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* Whoever comes last is the one; what it says behind the proof is its own. */
static void test_among_strangers(void **state)
{
	struct door *d = *state;
	struct vfmig_link *l;
	char after[6];
	int silent = connect_one(d), half = say(connect_one(d), PROOF, 4);
	int wrong = say(connect_one(d), "who knows that", 14), gone = connect_one(d);
	close(gone);
	assert_int_equal(acceptor_step(d->a, &l), -EAGAIN);
	assert_int_equal(acceptor_step(d->a, &l), -EAGAIN);
	assert_false(is_open(wrong));
	assert_true(is_open(silent) && is_open(half));
	assert_int_equal(acceptor_strangers(d->a), 4);
	int peer = say(connect_one(d), PROOF, 9);
	assert_int_equal(acceptor_step(d->a, &l), -EAGAIN);
	say(peer, &PROOF[9], strlen(PROOF) - 9);
	say(peer, "after", 5);
	l = find(d);
	assert_int_equal(read(l->wait_fd, after, sizeof(after)), 5);
	assert_memory_equal(after, "after", 5);
	acceptor_free(d->a);
	d->a = NULL;
	assert_false(is_open(silent) || is_open(half));
	say(peer, "x", 1);
	vfmig_link_close(l);
	const int fds[] = { silent, half, wrong, peer };
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		close(fds[i]);
}

/* A peer that has connected twice means the later connection. */
static void test_the_later_connection(void **state)
{
	struct door *d = *state;
	struct vfmig_link *l;
	int earlier = connect_one(d), later = connect_one(d);
	assert_int_equal(acceptor_step(d->a, &l), -EAGAIN);
	say(earlier, PROOF, strlen(PROOF));
	say(later, PROOF, strlen(PROOF));
	l = find(d);
	assert_int_equal(send(l->wait_fd, "x", 1, 0), 1);
	assert_false(is_open(later));
	assert_true(is_open(earlier));
	vfmig_link_close(l);
	close(earlier);
	close(later);
}

/* The oldest silent one makes room: not at once, and not the one that has begun to speak. */
static void test_too_many(void **state)
{
	struct door *d = *state;
	struct vfmig_link *l;
	int fds[ACCEPTOR_MAX];
	uint64_t begin = clock_now_ns();
	for (unsigned i = 0; i < ACCEPTOR_MAX; i++)
		fds[i] = connect_one(d);
	say(fds[0], PROOF, 1);
	assert_int_equal(acceptor_step(d->a, &l), -EAGAIN);
	int peer = say(connect_one(d), PROOF, strlen(PROOF));
	assert_int_equal(acceptor_step(d->a, &l), -EAGAIN);
	for (unsigned i = 0; i < ACCEPTOR_MAX; i++)
		assert_true(is_open(fds[i]) || clock_now_ns() - begin >= ACCEPTOR_KEEP_NS);
	l = find(d);
	assert_true(clock_now_ns() - begin >= ACCEPTOR_KEEP_NS);
	assert_true(is_open(fds[0]) && !is_open(fds[1]));
	for (unsigned i = 2; i < ACCEPTOR_MAX; i++)
		assert_true(is_open(fds[i]));
	vfmig_link_close(l);
	for (unsigned i = 0; i < ACCEPTOR_MAX; i++)
		close(fds[i]);
	close(peer);
}

/* One that says nothing, or stops in the middle, is sent away in the end. */
static void test_silent_for_too_long(void **state)
{
	struct door *d = *state;
	struct vfmig_link *l;
	uint64_t begin = clock_now_ns();
	int silent = connect_one(d), half = say(connect_one(d), PROOF, 4);
	assert_int_equal(acceptor_step(d->a, &l), -EAGAIN);
	while (is_open(silent) || is_open(half)) {
		wait_acceptor(d->a);
		assert_int_equal(acceptor_step(d->a, &l), -EAGAIN);
	}
	assert_true(clock_now_ns() - begin >= ACCEPTOR_JUDGE_NS);
	close(silent);
	close(half);
}

/* A connection that exists already is judged, too; where nobody listens it is the only one. */
static void test_no_listener(void **state)
{
	struct door *d = *state;
	struct vfmig_error err;
	struct vfmig_link *l, *only;
	struct acceptor *a;
	int pair[2];
	acceptor_add(d->a, d->listener);
	assert_int_equal(acceptor_step(d->a, &l), -EAGAIN);
	say(d->first, PROOF, strlen(PROOF));
	assert_ptr_equal(find(d), d->listener);
	assert_true(is_open(d->first));
	for (int right = 0; right < 2; right++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		assert_int_equal(link_from_fd(pair[0], "fd", VFMIG_LOAD, &only, &err), 0);
		assert_int_equal(acceptor_new(only, PROOF, strlen(PROOF), &a, &err), 0);
		acceptor_add(a, only);
		assert_int_equal(acceptor_step(a, &l), -EAGAIN);
		say(pair[1], right ? PROOF : "x", right ? strlen(PROOF) : 1);
		int r = acceptor_step(a, &l);
		assert_int_equal(r == -EAGAIN ? acceptor_step(a, &l) : r, right ? 0 : -ENOTCONN);
		assert_int_equal(is_open(pair[1]), right);
		acceptor_free(a);
		vfmig_link_close(only);
		close(pair[1]);
	}
}

#define DOOR_TEST(f) cmocka_unit_test_setup_teardown(f, door_setup, door_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOOR_TEST(test_among_strangers), DOOR_TEST(test_the_later_connection),
		DOOR_TEST(test_too_many), DOOR_TEST(test_silent_for_too_long),
		DOOR_TEST(test_no_listener),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
