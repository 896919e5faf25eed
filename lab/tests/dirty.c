/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty.c: drives the logs of written pages of a kernel device, for dirty.py: one command on each line of standard
 * input, one line for each on standard output: "ok" and numbers, or "error", the errno and the message.
 *
 * An IOVA is also the place of its memory in one file, so that what was written can be looked at; "map" may name
 * another one.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/device.h"
#include "mock.h"

#define MEMORY_BYTES (256u << 20)
#define PAGE 4096u
#define LARGE (1u << 20)
#define FRAME_MASK ((1ull << 55) - 1) /* of an entry of /proc/self/pagemap */
#define BAR_DMA_IOVA 0x08 /* registers of our module's */
#define BAR_DMA_BYTES 0x28

static struct access *device;
static bool is_mock;
static int memory_fd;
static uint8_t *memory;
static struct vfmig_error err;

static void say_bits(const uint64_t *bits, uint64_t count)
{
	printf("ok");
	for (uint64_t i = 0; i < count; i++)
		if (bits[i / 64] >> i % 64 & 1)
			printf(" %" PRIu64, i);
	printf("\n");
}

static int open_device(const char *uri, const char *access)
{
	struct vfmig_device_options options = { .size = sizeof(options), .access = access };
	is_mock = !strncmp(uri, "mock", 4);
	if (!is_mock)
		return device_open_access(uri, &options, &device, &err);
	return mock_open((strstr(uri, "without-log") ? MOCK_WITHOUT_LOG : 0) |
			 (strstr(uri, "large-pages") ? MOCK_LARGE_PAGES : 0), &device, &err);
}

static int write_memory(uint64_t iova, uint64_t length)
{
	if (is_mock) {
		int code = mock_write(device, iova, length);
		return code < 0 ? error_errno(&err, code, "marking pages as written") : 0;
	}
	int r = access_region_write(device, ACCESS_PCI_BAR0, BAR_DMA_IOVA, &iova, sizeof(iova), &err);
	return r < 0 ? r : access_region_write(device, ACCESS_PCI_BAR0, BAR_DMA_BYTES, &length, sizeof(length), &err);
}

/* The pages that are not zero, which they are afterwards. */
static void say_changed(uint64_t iova, uint64_t length)
{
	static const uint8_t zero[PAGE];
	uint64_t *bits = calloc(length / PAGE / 64 + 1, sizeof(*bits));
	if (!bits)
		abort();
	for (uint64_t i = 0; i < length / PAGE; i++)
		if (memcmp(memory + iova + i * PAGE, zero, PAGE)) {
			bits[i / 64] |= 1ull << i % 64;
			memset(memory + iova + i * PAGE, 0, PAGE);
		}
	say_bits(bits, length / PAGE);
	free(bits);
}

/* Where in memory the first LARGE bytes are that lie together and aligned in the machine's: which an IOMMU wants. */
static int say_large(void)
{
	static uint64_t frames[MEMORY_BYTES / 4 / PAGE];
	const size_t count = sizeof(frames) / sizeof(*frames), wanted = LARGE / PAGE;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	memset(memory, 0xff, sizeof(frames) / sizeof(*frames) * PAGE); /* now it has pages */
	ssize_t n = pread(fd, frames, sizeof(frames), (off_t)((uintptr_t)memory / PAGE * sizeof(*frames)));
	close(fd);
	if (n != sizeof(frames))
		return error_set(&err, -EIO, "where memory lies: %zd bytes", n);
	for (size_t i = 0, run = 0; i < count; i++) {
		uint64_t frame = frames[i] & FRAME_MASK;
		run = run && frame == (frames[i - 1] & FRAME_MASK) + 1 ? run + 1 : frame % wanted == 0;
		if (run == wanted)
			return printf("ok %zu\n", (i + 1 - wanted) * PAGE), 0;
	}
	return error_set(&err, -ENOMEM, "no memory lies together");
}

typedef int report_fn(struct access *a, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size,
		      uint64_t *bitmap, struct vfmig_error *error);

static int say_report(report_fn *report, enum access_log log, uint64_t iova, uint64_t length, uint64_t page_size)
{
	uint64_t *bits = calloc(length / page_size / 64 + 1, sizeof(*bits));
	if (!bits)
		abort();
	int r = report(device, log, iova, length, page_size, bits, &err);
	if (r == 0)
		say_bits(bits, length / page_size);
	free(bits);
	return r;
}

static int start(enum access_log log, uint64_t page_size)
{
	const struct access_range all = { 0, MEMORY_BYTES };
	int r = access_dirty_start(device, log, &all, 1, &page_size, &err);
	if (r == 0)
		printf("ok %" PRIu64 "\n", page_size);
	return r;
}

/* Says "ok" for what says nothing itself. */
static int simple(int r)
{
	if (r == 0)
		printf("ok\n");
	return r;
}

static int run(const char *line)
{
	char verb[16], one[256] = "", two[16] = "";
	uint64_t n[3] = { 0 };
	if (sscanf(line, "%15s %255s %15s", verb, one, two) >= 2 && !strcmp(verb, "open"))
		return simple(open_device(one, two));
	int words = sscanf(line, "%15s %15s %" SCNi64 " %" SCNi64 " %" SCNi64, verb, one, &n[0], &n[1], &n[2]);
	if (words < 2)
		return error_set(&err, -EINVAL, "what is '%s'?", line);
	enum access_log log = !strcmp(one, "device") ? ACCESS_LOG_DEVICE : ACCESS_LOG_MAPPINGS;
	if (!strcmp(verb, "start"))
		return start(log, n[0]);
	if (!strcmp(verb, "stop"))
		return simple(access_dirty_stop(device, log, &err));
	if (!strcmp(verb, "map"))
		return simple(access_dma_map(device, n[0], n[1], memory_fd, words == 5 ? n[2] : n[0],
					     VFMIG_DMA_READ | VFMIG_DMA_WRITE, &err));
	if (!strcmp(verb, "large"))
		return say_large();
	if (!strcmp(verb, "write"))
		return simple(write_memory(n[0], n[1]));
	if (!strcmp(verb, "report"))
		return say_report(access_dirty_report, log, n[0], n[1], n[2]);
	if (!strcmp(verb, "unmap"))
		return say_report(access_dma_unmap_dirty, log, n[0], n[1], n[2]);
	if (!strcmp(verb, "changed"))
		return say_changed(n[0], n[1]), 0;
	return error_set(&err, -EINVAL, "what is '%s'?", line);
}

int main(void)
{
	char line[512];
	memory_fd = memfd_create("guest", MFD_CLOEXEC);
	if (memory_fd < 0 || ftruncate(memory_fd, MEMORY_BYTES) < 0)
		return 1;
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
	if (memory == MAP_FAILED)
		return 1;
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (run(line) < 0)
			printf("error %d %s\n", -err.code, err.message);
		fflush(stdout);
	}
	access_close(device);
	return 0;
}
