/* SPDX-License-Identifier: BSD-3-Clause */
/* served_device.h: a small device behind the real server, for each test anew. */
#ifndef VFMIG_TESTS_SERVED_DEVICE_H
#define VFMIG_TESTS_SERVED_DEVICE_H

#include <pthread.h>

#include "device/access.h"
#include "peer.h"
#include "sim/server.h"

#define REGISTERS 0u  /* a trapped region of 4 MiB */
#define SECTION 9u    /* a region of 64 KiB, mappable in two parts */
#define LARGE 10u     /* one with more areas than fit into a first info */
#define NUM_REGIONS 11u
#define REGISTERS_SIZE (4u << 20)
#define SECTION_SIZE (64u << 10)
#define LARGE_AREAS 300u
#define DMA_IOVA UINT64_C(0x100000)
#define DMA_SIZE (1u << 20)

/* Writes to these registers make the device misbehave or work. */
#define REG_ENGINE 0x10u /* does DMA in a thread of its own and waits for it before the write returns */
#define REG_DROP 0x20u
#define REG_HANG 0x28u

/* A log of pages that the test says were written: page n lies at DMA_IOVA + n * 4096. */
struct device_log {
	bool absent;
	uint64_t page_size;   /* that it gives, if larger than what is wanted */
	uint64_t dirty[4];    /* one bit for each 4096 bytes */
	bool ends_with_unmap; /* then it refuses to report */
	unsigned starts, stops, reports, unmaps;
	struct access_range ranges[512];
	size_t num_ranges;
};

struct device {
	struct access access;
	struct device_log logs[2];
	uint8_t registers[REGISTERS_SIZE];
	int section_fd;
	unsigned writes, resets, mappings, mappings_with_fd;
	uint32_t largest_write;
	bool irqs_set;
	struct server *server;
	struct peer_socket socket;
	pthread_t thread;
	size_t fds_before;
};

/* For cmocka: *state is the struct device. The teardown looks for leaked fds,
 * mappings and interrupts. */
int served_device_setup(void **state);
int served_device_setup_plain(void **state); /* as a server that is not vfmig's: no twin socket, no large messages */
int served_device_setup_no_fds(void **state);
int served_device_teardown(void **state);

/* Connects a client. */
struct access *served_device_open(struct device *d);

#endif
