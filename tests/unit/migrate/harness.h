/* SPDX-License-Identifier: BSD-3-Clause */
/* harness.h: what the migration tests share: software devices, streams in memory, whole saves and loads. */
#ifndef VFMIG_TESTS_MIGRATE_HARNESS_H
#define VFMIG_TESTS_MIGRATE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "device/device.h"
#include "link/link.h"
#include "sim/sim_access.h"

#define TEST_ID "0000:00:01.0/vfio"

/* A stream in memory. */
struct buffer {
	uint8_t *data;
	size_t length, capacity;
};
void buffer_free(struct buffer *b);
void buffer_append(struct buffer *b, const void *data, size_t length);
/* The whole of a file. */
void buffer_read_file(struct buffer *b, const char *path);

/* A one-way link that appends to a buffer; `piece`: most bytes it takes at once,
 * with -EAGAIN in between; 0: any. */
struct vfmig_link *buffer_writer(struct buffer *b, size_t piece);
/* A one-way link that gives data[0..length). */
struct vfmig_link *buffer_reader(const uint8_t *data, size_t length, size_t piece);
/* The same as a regular file that can be checked first. */
struct vfmig_link *buffer_file(const uint8_t *data, size_t length);

/* Opens a software device; fails the test when it cannot. "SPLIT," in front: with split_transactions. */
struct vfmig_device *open_sim(const char *options);
/* An opaque one with the config space (`space` bytes) that a vector's only VFIO device has; more: ",option..." */
struct vfmig_device *open_for_qemu(const struct buffer *stream, size_t space, const char *more);
struct sim_device *sim_of(struct vfmig_device *d);
/* Runs the engine n steps; the device must run and work. */
void work(struct vfmig_device *d, uint64_t n);
/* The device's state, by the region's bits, not by the protocol that is being tested. */
enum vfmig_state sim_state(struct vfmig_device *d);
/* Step and chain are those that the steps since the beginning must have made. */
void assert_chain_intact(struct vfmig_device *d, const char *what);
/* It can be set to work and goes on from the step it is at. */
void assert_works(struct vfmig_device *d);

/* Everything from new to run; err is for the caller to look at. */
int save_to(struct vfmig_device *d, struct vfmig_link *link, const struct vfmig_save_options *opts,
	    struct vfmig_status *ret_status, struct vfmig_error *err);
int load_from(struct vfmig_device *d, struct vfmig_link *link, const struct vfmig_load_options *opts,
	      struct vfmig_status *ret_status, struct vfmig_error *err);
/* A small device that has worked, saved: the stream most tests start from. */
void make_stream(const char *options, uint64_t steps, struct buffer *ret);

#endif
