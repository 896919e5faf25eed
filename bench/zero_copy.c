/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * zero_copy.c: sending a mapped section without the kernel's copy, beside with it, and what becomes of bytes that
 * change after they were sent. vfmig sends with the copy; doc/speed.md says why.
 *
 *   zero_copy [BYTES [ROUNDS]]
 *
 * By turns, from a mapped section of 16 MiB, 1 MiB at a time, to a process that drains:
 *   unix write      write()
 *   unix vmsplice   vmsplice() to a pipe, splice() to the socket
 *   tcp send        send() over loopback
 *   tcp zerocopy    send() with MSG_ZEROCOPY; its completions say whether the kernel copied all the same
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECTION ((size_t)16 << 20)
#define PIECE ((size_t)1 << 20)
#define ROUNDS_MAX 99

static uint8_t *section;
static int pipe_fds[2];
static uint64_t completed, copied;

static void fail(const char *what)
{
	fprintf(stderr, "zero_copy: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double seconds(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ------------------------------------------------------------------ ways */

static void send_copied(int fd, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t n = send(fd, data, length, MSG_NOSIGNAL);
		if (n < 0)
			fail("send");
		data += n;
		length -= (size_t)n;
	}
}

static void send_spliced(int fd, const uint8_t *data, size_t length)
{
	while (length) {
		struct iovec iov = { (void *)(uintptr_t)data, length };
		ssize_t n = vmsplice(pipe_fds[1], &iov, 1, 0);
		if (n < 0)
			fail("vmsplice");
		data += n;
		length -= (size_t)n;
		while (n > 0) {
			ssize_t out = splice(pipe_fds[0], NULL, fd, NULL, (size_t)n, SPLICE_F_MORE);
			if (out < 0)
				fail("splice");
			n -= out;
		}
	}
}

/* Completions that have come; false: none. */
static bool take_completions(int fd)
{
	char control[256];
	struct msghdr m = { .msg_control = control, .msg_controllen = sizeof(control) };

	if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return false;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct sock_extended_err e;
		memcpy(&e, CMSG_DATA(c), sizeof(e));
		if (e.ee_origin != SO_EE_ORIGIN_ZEROCOPY)
			continue;
		completed += e.ee_data - e.ee_info + 1;
		if (e.ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
			copied += e.ee_data - e.ee_info + 1;
	}
	return true;
}

static void send_zero_copy(int fd, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t n = send(fd, data, length, MSG_NOSIGNAL | MSG_ZEROCOPY);
		if (n < 0 && errno != ENOBUFS)
			fail("send");
		while (take_completions(fd))
			;
		if (n < 0)
			continue;
		data += n;
		length -= (size_t)n;
	}
}

static const struct way {
	const char *name;
	bool tcp, zero_copy;
	void (*send)(int fd, const uint8_t *data, size_t length);
} ways[] = {
	{ "unix write", false, false, send_copied },
	{ "unix vmsplice", false, false, send_spliced },
	{ "tcp send", true, false, send_copied },
	{ "tcp zerocopy", true, true, send_zero_copy },
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* ----------------------------------------------------------- connections */

static void connect_tcp(int fds[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&a, &length) < 0)
		fail("listen");
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fds[0], (struct sockaddr *)&a, sizeof(a)) < 0)
		fail("connect");
	fds[1] = accept(listener, NULL, NULL);
	close(listener);
}

static pid_t start_drain(const int fds[2])
{
	static uint8_t buffer[PIECE];
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid)
		return pid;
	close(fds[0]);
	while (read(fds[1], buffer, sizeof(buffer)) > 0)
		;
	_exit(0);
}

static void measure(const struct way *w, uint64_t bytes, double *ret_gib_s, double *ret_cpu_s_gib)
{
	int fds[2], one = 1;

	if (w->tcp)
		connect_tcp(fds);
	else if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		fail("socketpair");
	if (w->zero_copy && setsockopt(fds[0], SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) < 0)
		fail("SO_ZEROCOPY");
	pid_t drain = start_drain(fds);
	close(fds[1]);
	double began = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
	for (uint64_t done = 0; done < bytes; done += PIECE)
		w->send(fds[0], section + done % SECTION, PIECE);
	double cpu_s = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	shutdown(fds[0], SHUT_WR);
	waitpid(drain, NULL, 0);
	double gib = (double)bytes / (double)(1u << 30);
	*ret_gib_s = gib / (seconds(CLOCK_MONOTONIC) - began);
	*ret_cpu_s_gib = cpu_s / gib;
	close(fds[0]);
}

/* What arrives of bytes that were changed after the call that sent them, before the other side has read. */
static void overwrite(const struct way *w)
{
	uint8_t got[4096];
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		fail("socketpair");
	memset(section, 1, sizeof(got));
	w->send(fds[0], section, sizeof(got));
	memset(section, 2, sizeof(got));
	if (recv(fds[1], got, sizeof(got), MSG_WAITALL) != sizeof(got))
		fail("recv");
	printf("%-14s a section that is overwritten once it was sent arrives %s\n", w->name,
	       got[0] == 1 && got[sizeof(got) - 1] == 1 ? "as it was" : "overwritten");
	close(fds[0]);
	close(fds[1]);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	static double gib_s[WAYS][ROUNDS_MAX], cpu[WAYS][ROUNDS_MAX];
	uint64_t bytes = argc > 1 ? strtoull(argv[1], NULL, 0) : 1u << 30;
	int rounds = argc > 2 ? atoi(argv[2]) : 7;

	if (bytes < PIECE || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: zero_copy [BYTES [ROUNDS]], of 1 MiB or more\n");
		return 2;
	}
	section = mmap(NULL, SECTION, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (section == MAP_FAILED || pipe2(pipe_fds, O_CLOEXEC) < 0 || fcntl(pipe_fds[1], F_SETPIPE_SZ, PIECE) < 0)
		fail("section and pipe");
	for (int round = 0; round < rounds; round++)
		for (size_t i = 0; i < WAYS; i++)
			measure(&ways[i], bytes, &gib_s[i][round], &cpu[i][round]);
	for (size_t i = 0; i < WAYS; i++) {
		qsort(gib_s[i], (size_t)rounds, sizeof(double), compare);
		qsort(cpu[i], (size_t)rounds, sizeof(double), compare);
		printf("%-14s %6.2f GiB/s (%.2f to %.2f)  %6.3f CPU s/GiB\n", ways[i].name, gib_s[i][rounds / 2],
		       gib_s[i][0], gib_s[i][rounds - 1], cpu[i][rounds / 2]);
	}
	printf("tcp zerocopy: of %llu completions %llu say that the kernel copied\n", (unsigned long long)completed,
	       (unsigned long long)copied);
	overwrite(&ways[0]);
	overwrite(&ways[1]);
	return 0;
}
