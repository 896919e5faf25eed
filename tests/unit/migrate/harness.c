/* SPDX-License-Identifier: BSD-3-Clause */
/* harness.c: software devices, streams in memory, whole saves and loads. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct memory_link {
	struct vfmig_link base;
	struct buffer *to;
	const uint8_t *from;
	size_t length, at, piece;
	bool dry;
};

void buffer_free(struct buffer *b)
{
	free(b->data);
	*b = (struct buffer) { 0 };
}

void buffer_append(struct buffer *b, const void *data, size_t length)
{
	if (length > b->capacity - b->length) {
		b->capacity = (b->length + length) * 2;
		b->data = realloc(b->data, b->capacity);
		assert_non_null(b->data);
	}
	memcpy(b->data + b->length, data, length);
	b->length += length;
}

void buffer_read_file(struct buffer *b, const char *path)
{
	uint8_t piece[65536];
	FILE *f = fopen(path, "rb");
	*b = (struct buffer) { 0 };
	if (!f)
		fail_msg("%s: cannot be opened", path);
	for (size_t n; (n = fread(piece, 1, sizeof(piece), f)) > 0;)
		buffer_append(b, piece, n);
	fclose(f);
}

static bool dry(struct memory_link *m)
{
	m->dry = m->piece && !m->dry;
	return m->dry;
}

static ssize_t memory_writev(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err)
{
	struct memory_link *m = (struct memory_link *)l;
	(void)err;
	if (dry(m))
		return -EAGAIN;
	size_t total = 0;
	for (int i = 0; i < count; i++) {
		size_t n = iov[i].iov_len;
		if (m->piece && n > m->piece - total)
			n = m->piece - total;
		buffer_append(m->to, iov[i].iov_base, n);
		total += n;
	}
	return (ssize_t)total;
}

static ssize_t memory_read(struct vfmig_link *l, void *data, size_t length, struct vfmig_error *err)
{
	struct memory_link *m = (struct memory_link *)l;
	(void)err;
	if (dry(m))
		return -EAGAIN;
	size_t n = m->length - m->at;
	if (n > length)
		n = length;
	if (m->piece && n > m->piece)
		n = m->piece;
	memcpy(data, m->from + m->at, n);
	m->at += n;
	return (ssize_t)n;
}

static int memory_finish(struct vfmig_link *l, struct vfmig_error *err)
{
	(void)l;
	(void)err;
	return 0;
}

static void memory_close(struct vfmig_link *l)
{
	close(l->wait_fd);
	free(l);
}

static const struct link_ops memory_ops = {
	.kind = "memory",
	.writev = memory_writev,
	.read = memory_read,
	.finish = memory_finish,
	.close = memory_close,
};

static struct memory_link *memory_link(size_t piece)
{
	struct memory_link *m = calloc(1, sizeof(*m));
	assert_non_null(m);
	/* An eventfd with 1 in it can always be read and written: -EAGAIN never waits long. */
	int ready = eventfd(1, EFD_CLOEXEC);
	m->base = (struct vfmig_link) { .ops = &memory_ops, .name = "memory:", .wait_fd = ready, .file_fd = -1 };
	m->piece = piece;
	return m;
}

struct vfmig_link *buffer_writer(struct buffer *b, size_t piece)
{
	struct memory_link *m = memory_link(piece);
	*b = (struct buffer) { 0 };
	m->to = b;
	return &m->base;
}

struct vfmig_link *buffer_reader(const uint8_t *data, size_t length, size_t piece)
{
	struct memory_link *m = memory_link(piece);
	m->from = data;
	m->length = length;
	return &m->base;
}

struct vfmig_link *buffer_file(const uint8_t *data, size_t length)
{
	struct vfmig_link *link;
	struct vfmig_error err;
	int fd = memfd_create("stream", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, length), (ssize_t)length);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	if (link_from_fd(fd, "memfd", VFMIG_LOAD, &link, &err) < 0)
		fail_msg("%s", err.message);
	assert_true(link->seekable);
	return link;
}

/* The files outlive open_sim only: a device has read its config space when it is made. */
struct vfmig_device *open_for_qemu(const struct buffer *stream, size_t space, const char *more)
{
	static const uint8_t flag[8] = { 0xff, 0xff, 0xff, 0xff, 0xef, 0x10, 0x00, 0x02 };
	char path[] = "/tmp/vfmig-config-XXXXXX", options[256];
	const uint8_t *record = memmem(stream->data, stream->length, flag, sizeof(flag));
	assert_non_null(record);
	int fd = mkstemp(path);
	assert_int_equal(write(fd, record + sizeof(flag) + 4, space), (ssize_t)space);
	close(fd);
	snprintf(options, sizeof(options), "opaque,section=64K,rate=1,config=%s%s", path, more);
	struct vfmig_device *d = open_sim(options);
	unlink(path);
	return d;
}

struct vfmig_device *open_sim(const char *options)
{
	struct access *access;
	struct vfmig_device *d = NULL;
	struct vfmig_error err;
	struct vfmig_device_options opts = { .size = sizeof(opts) };
	opts.split_transactions = strstr(options, "SPLIT") != NULL;
	char plain[256];
	snprintf(plain, sizeof(plain), "%s", opts.split_transactions ? options + strlen("SPLIT,") : options);
	if (sim_access_open(plain, &access, &err) < 0 || device_new(access, &opts, &d, &err) < 0)
		fail_msg("sim:%s: %s", options, err.message);
	return d;
}

struct sim_device *sim_of(struct vfmig_device *d)
{
	return sim_access_device(d->access);
}

void work(struct vfmig_device *d, uint64_t n)
{
	assert_int_equal(sim_device_steps(sim_of(d), n), n);
}

enum vfmig_state sim_state(struct vfmig_device *d)
{
	static const enum vfmig_state by_bits[8] = { VFMIG_STATE_STOP,	   VFMIG_STATE_RUNNING,	 VFMIG_STATE_STOP_COPY,
						     VFMIG_STATE_PRE_COPY, VFMIG_STATE_RESUMING, VFMIG_STATE_ERROR,
						     VFMIG_STATE_ERROR,	   VFMIG_STATE_ERROR };
	struct sim_device *sim = sim_of(d);
	sim_device_lock(sim);
	uint32_t bits = sim->region.state;
	sim_device_unlock(sim);
	return by_bits[bits & 7];
}

void assert_chain_intact(struct vfmig_device *d, const char *what)
{
	struct sim_device *sim = sim_of(d);
	struct sim_work again;
	sim_device_lock(sim);
	uint64_t step = sim->work.step, chain = sim->work.chain, digest = sim->work.pages.digest;
	int r = sim_work_init(&again, sim->work.pages.bytes, sim->work.pages.seed);
	sim_device_unlock(sim);
	assert_int_equal(r, 0);
	while (again.step < step)
		sim_work_step(&again);
	bool same = again.chain == chain && again.pages.digest == digest;
	sim_work_destroy(&again);
	if (!same)
		fail_msg("%s: the work up to step %llu is not what it must be", what, (unsigned long long)step);
}

void assert_works(struct vfmig_device *d)
{
	assert_int_equal(sim_state(d), VFMIG_STATE_RUNNING);
	work(d, 10);
	assert_chain_intact(d, "after going on");
}

int save_to(struct vfmig_device *d, struct vfmig_link *link, const struct vfmig_save_options *opts,
	    struct vfmig_status *ret_status, struct vfmig_error *err)
{
	struct vfmig_save *save;
	*err = (struct vfmig_error) { 0 };
	int r = vfmig_save_new(link, opts, &save, err);
	assert_int_equal(r, 0);
	r = vfmig_save_add_device(save, d, TEST_ID, err);
	assert_int_equal(r, 0);
	r = vfmig_save_run(save, err);
	if (ret_status)
		vfmig_save_status(save, ret_status);
	vfmig_save_free(save);
	vfmig_link_close(link);
	return r;
}

int load_from(struct vfmig_device *d, struct vfmig_link *link, const struct vfmig_load_options *opts,
	      struct vfmig_status *ret_status, struct vfmig_error *err)
{
	struct vfmig_load *load;
	*err = (struct vfmig_error) { 0 };
	int r = vfmig_load_new(link, opts, &load, err);
	assert_int_equal(r, 0);
	r = vfmig_load_add_device(load, d, NULL, err);
	assert_int_equal(r, 0);
	r = vfmig_load_run(load, err);
	if (ret_status)
		vfmig_load_status(load, ret_status);
	vfmig_load_free(load);
	vfmig_link_close(link);
	return r;
}

void make_stream(const char *options, uint64_t steps, struct buffer *ret)
{
	struct vfmig_error err;
	struct vfmig_device *d = open_sim(options);
	if (steps)
		work(d, steps);
	if (save_to(d, buffer_writer(ret, 0), NULL, NULL, &err) < 0)
		fail_msg("save of sim:%s: %s", options, err.message);
	vfmig_device_close(d);
}
