/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * speed_peer.c: the other end of a UNIX socket in bench/speed.py: drains a save, or feeds a load, and measures it.
 *
 *   speed_peer drain PATH CONNECTIONS   listens, reads to the end
 *   speed_peer feed PATH FILE           connects, sends FILE, waits for the other side to close
 *
 * Prints one line of JSON: the time from the connection to the last byte (to the other side's close), the bytes, and
 * the CPU time of the other process meanwhile, which is looked at from here, and of this one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PIECE (1u << 20)
#define CONNECTIONS_MAX 16
#define LOOK_EVERY 64u /* pieces: a look at another process's clock is not for nothing */

struct measured {
	uint64_t first_ns, last_ns, bytes;
	uint64_t peer_from_ns, peer_ns;
	unsigned int pieces;
	bool has_clock;
	clockid_t clock;
	pid_t peer;
};

static uint8_t buffer[PIECE] __attribute__((aligned(4096)));

static void fail(const char *what)
{
	fprintf(stderr, "speed_peer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void begin(struct measured *m, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		fail("who is there");
	m->peer = peer.pid;
	m->has_clock = clock_getcpuclockid(peer.pid, &m->clock) == 0;
	if (m->has_clock)
		m->peer_from_ns = m->peer_ns = now_ns(m->clock);
	m->first_ns = m->last_ns = now_ns(CLOCK_MONOTONIC);
}

/* It may have ended: then the last look counts. */
static void look(struct measured *m)
{
	uint64_t ns = m->has_clock ? now_ns(m->clock) : 0;

	if (ns)
		m->peer_ns = ns;
}

static void print(const struct measured *m)
{
	printf("{\"first_ns\": %llu, \"last_ns\": %llu, \"bytes\": %llu, \"peer_cpu_ns\": %llu, "
	       "\"peer_pid\": %d, \"own_cpu_ns\": %llu}\n",
	       (unsigned long long)m->first_ns, (unsigned long long)m->last_ns, (unsigned long long)m->bytes,
	       (unsigned long long)(m->peer_ns - m->peer_from_ns), (int)m->peer,
	       (unsigned long long)now_ns(CLOCK_PROCESS_CPUTIME_ID));
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return a;
}

/* ------------------------------------------------------------------ drain */

/* False: the end. */
static bool drain_once(struct measured *m, int fd)
{
	ssize_t n = read(fd, buffer, sizeof(buffer));

	if (n < 0)
		fail("read");
	if (n == 0) {
		look(m);
		return false;
	}
	m->bytes += (uint64_t)n;
	m->last_ns = now_ns(CLOCK_MONOTONIC);
	if (++m->pieces % LOOK_EVERY == 0)
		look(m);
	return true;
}

/* Several connections, which come when they come: fds[0] is the listener. */
static void drain_many(struct measured *m, struct pollfd *fds, int left)
{
	int count = 2, open = 1;

	while (open || left) {
		fds[0].fd = left ? fds[0].fd : -1;
		if (poll(fds, (nfds_t)count, -1) < 0)
			fail("poll");
		for (int i = 1; i < count; i++)
			if (fds[i].revents && !drain_once(m, fds[i].fd)) {
				fds[i].fd = -1;
				open--;
			}
		if (fds[0].fd >= 0 && fds[0].revents) {
			fds[count++] = (struct pollfd){ .fd = accept(fds[0].fd, NULL, NULL), .events = POLLIN };
			open++;
			left--;
		}
	}
}

static void drain(const char *path, int connections)
{
	struct pollfd fds[CONNECTIONS_MAX + 1] = { { .events = POLLIN } };
	struct sockaddr_un a = address(path);
	struct measured m = { 0 };

	fds[0].fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(fds[0].fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fds[0].fd, CONNECTIONS_MAX) < 0)
		fail(path);
	puts("listening");
	fflush(stdout);
	fds[1] = (struct pollfd){ .fd = accept(fds[0].fd, NULL, NULL), .events = POLLIN };
	begin(&m, fds[1].fd);
	if (connections > 1)
		drain_many(&m, fds, connections - 1);
	else
		while (drain_once(&m, fds[1].fd))
			;
	print(&m);
}

/* ------------------------------------------------------------------- feed */

/* From the page cache, without a copy of its own: what a loader can take is measured, not what this end can give. */
static void feed(const char *path, const char *file)
{
	struct sockaddr_un a = address(path);
	struct measured m = { 0 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), from = open(file, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (from < 0 || fstat(from, &st) < 0)
		fail(file);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		fail(path);
	begin(&m, fd);
	while (m.bytes < (uint64_t)st.st_size) {
		ssize_t n = sendfile(fd, from, NULL, PIECE);
		if (n <= 0)
			fail("sendfile");
		m.bytes += (uint64_t)n;
		if (++m.pieces % LOOK_EVERY == 0)
			look(&m);
	}
	shutdown(fd, SHUT_WR);
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
	m.last_ns = now_ns(CLOCK_MONOTONIC);
	look(&m);
	print(&m);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "drain") == 0 && atoi(argv[3]) > 0 && atoi(argv[3]) <= CONNECTIONS_MAX) {
		drain(argv[2], atoi(argv[3]));
		return 0;
	}
	if (argc == 4 && strcmp(argv[1], "feed") == 0) {
		feed(argv[2], argv[3]);
		return 0;
	}
	fprintf(stderr, "usage: speed_peer drain PATH CONNECTIONS | feed PATH FILE\n");
	return 2;
}
