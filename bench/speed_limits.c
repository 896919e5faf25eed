/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * speed_limits.c: the bare system calls of a save or a load: what the machine allows in bench/speed.py.
 *
 *   speed_limits write PATH BYTES SECTION      write() from a mapped section, 1 MiB at a time
 *   speed_limits pread PATH BYTES SECTION      pread() of a memfd into an aligned buffer of 1 MiB, and write()
 *   speed_limits unaligned PATH BYTES SECTION  the same, the buffer 16 bytes behind a page's begin
 *   speed_limits into PATH BYTES SECTION       listens: reads straight into a mapped section
 *   speed_limits pwrite PATH BYTES SECTION     listens: reads 1 MiB or what has come of it, and pwrite() to a memfd
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PIECE ((size_t)1 << 20)
#define UNALIGNED 16u

struct limit {
	int link, memfd;
	uint8_t *section, *buffer;
	size_t section_bytes;
	uint64_t bytes;
};

static uint8_t room[PIECE + 4096] __attribute__((aligned(4096)));

static void fail(const char *what)
{
	fprintf(stderr, "speed_limits: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void open_section(struct limit *l)
{
	l->memfd = memfd_create("section", MFD_CLOEXEC);
	if (l->memfd < 0 || ftruncate(l->memfd, (off_t)l->section_bytes) < 0)
		fail("memfd");
	void *p = mmap(NULL, l->section_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, l->memfd, 0);
	if (p == MAP_FAILED)
		fail("mmap");
	l->section = p;
	for (size_t i = 0; i < l->section_bytes; i++)
		l->section[i] = (uint8_t)(i * 2654435761u >> 13);
}

static void send_all(const struct limit *l, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t n = write(l->link, data, length);
		if (n < 0)
			fail("write");
		data += n;
		length -= (size_t)n;
	}
}

static size_t piece_at(const struct limit *l, uint64_t done, off_t *ret_offset)
{
	uint64_t left = l->bytes - done;

	*ret_offset = (off_t)(done % l->section_bytes);
	return left < PIECE ? (size_t)left : PIECE;
}

static void run_write(struct limit *l)
{
	off_t at;

	for (uint64_t done = 0, n; done < l->bytes; done += n) {
		n = piece_at(l, done, &at);
		send_all(l, l->section + at, n);
	}
}

static void run_pread(struct limit *l)
{
	off_t at;

	for (uint64_t done = 0, n; done < l->bytes; done += n) {
		n = piece_at(l, done, &at);
		if (pread(l->memfd, l->buffer, n, at) != (ssize_t)n)
			fail("pread");
		send_all(l, l->buffer, n);
	}
}

/* What has come, at most so much. */
static size_t receive(const struct limit *l, uint8_t *to, size_t length)
{
	ssize_t n = recv(l->link, to, length, 0);

	if (n <= 0)
		fail("recv");
	return (size_t)n;
}

static void run_into(struct limit *l)
{
	off_t at;

	for (uint64_t done = 0, n; done < l->bytes; done += n) {
		n = piece_at(l, done, &at);
		if (n > l->section_bytes - (size_t)at)
			n = l->section_bytes - (size_t)at;
		n = receive(l, l->section + at, n);
	}
}

static void run_pwrite(struct limit *l)
{
	off_t at;

	for (uint64_t done = 0, n; done < l->bytes; done += n) {
		n = receive(l, l->buffer, piece_at(l, done, &at));
		if (pwrite(l->memfd, l->buffer, n, at) != (ssize_t)n)
			fail("pwrite");
	}
}

static const struct {
	const char *name;
	void (*run)(struct limit *l);
	int listens;
	unsigned int shift;
} limits[] = {
	{ "write", run_write, 0, 0 },
	{ "pread", run_pread, 0, 0 },
	{ "unaligned", run_pread, 0, UNALIGNED },
	{ "into", run_into, 1, 0 },
	{ "pwrite", run_pwrite, 1, 0 },
};

static int open_link(const char *path, int listens)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (!listens) {
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
			fail(path);
		return fd;
	}
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1) < 0)
		fail(path);
	puts("listening");
	fflush(stdout);
	return accept(fd, NULL, NULL);
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 5 && i < sizeof(limits) / sizeof(limits[0]); i++) {
		if (strcmp(limits[i].name, argv[1]) != 0)
			continue;
		struct limit l = { .bytes = strtoull(argv[3], NULL, 0), .section_bytes = strtoull(argv[4], NULL, 0) };
		if (!l.section_bytes || l.section_bytes % PIECE)
			break;
		l.buffer = room + limits[i].shift;
		memset(room, 1, sizeof(room));
		open_section(&l);
		l.link = open_link(argv[2], limits[i].listens);
		limits[i].run(&l);
		return 0;
	}
	fprintf(stderr, "usage: speed_limits write|pread|unaligned|into|pwrite PATH BYTES SECTION (of whole MiB)\n");
	return 2;
}
