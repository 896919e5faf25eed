/* SPDX-License-Identifier: BSD-3-Clause */
/* test_user_v2.c: features and migration data from a server that lies, or reads the text the other way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostile.h"

#define FEATURE_GET (1u << 16)

/* What the scripts answer: a body of `length` bytes, or an errno. */
static struct {
	uint8_t body[4096];
	size_t length;
	uint32_t refuse;
} answer;

static void script_answer(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	if (answer.refuse)
		peer_refuse(p->fd, &p->m, answer.refuse);
	else
		peer_reply(p->fd, &p->m, answer.body, answer.length);
}

static void set_answer(uint32_t a, uint32_t b, size_t length)
{
	memset(&answer, 0x5a, sizeof(answer));
	memcpy(answer.body, &a, 4);
	memcpy(answer.body + 4, &b, 4);
	answer.length = length;
	answer.refuse = 0;
}

static int ask_flags(uint64_t *ret)
{
	struct access *a = hostile_start(script_answer, PATIENT);
	int r = access_feature(a, FEATURE_GET | 1, ret, sizeof(*ret), NULL);
	hostile_stop(a);
	return r;
}

static void test_feature(void **state)
{
	uint64_t flags = 7;
	(void)state;
	set_answer(16, FEATURE_GET | 1, 16);
	assert_int_equal(ask_flags(&flags), 0);
	assert_int_equal(flags, UINT64_C(0x5a5a5a5a5a5a5a5a));
	flags = 7;
	set_answer(16, FEATURE_GET | 2, 16); /* another feature's answer */
	assert_int_equal(ask_flags(&flags), -EPROTO);
	set_answer(12, FEATURE_GET | 1, 12); /* half of it */
	assert_int_equal(ask_flags(&flags), -EPROTO);
	set_answer(24, FEATURE_GET | 1, 24); /* more than was asked for */
	assert_int_equal(ask_flags(&flags), -EPROTO);
	answer.refuse = EINVAL; /* how the reference server says that it does not have it */
	assert_int_equal(ask_flags(&flags), -EOPNOTSUPP);
	answer.refuse = ENOTTY;
	assert_int_equal(ask_flags(&flags), -EOPNOTSUPP);
	answer.refuse = EPERM;
	assert_int_equal(ask_flags(&flags), -EPERM);
	assert_int_equal(flags, 7);
}

static void test_refused_state(void **state)
{
	(void)state;
	set_answer(16, 0, 16);
	answer.refuse = EINVAL;
	struct access *a = hostile_start(script_answer, PATIENT);
	assert_int_equal(access_mig_state_set(a, VFMIG_STATE_RESUMING, NULL), -EINVAL);
	hostile_stop(a);
}

static ssize_t read_data(uint8_t *buffer, size_t length)
{
	struct access *a = hostile_start(script_answer, PATIENT);
	ssize_t n = access_mig_data_read(a, buffer, length, NULL);
	hostile_stop(a);
	return n;
}

static void test_data_read(void **state)
{
	uint8_t buffer[100];
	(void)state;
	memset(buffer, 0, sizeof(buffer));
	set_answer(108, 60, 108); /* the library: as long as asked for, 60 bytes count */
	assert_int_equal(read_data(buffer, 100), 60);
	assert_int_equal(buffer[59], 0x5a);
	set_answer(68, 60, 68); /* the specification: as long as there is data */
	assert_int_equal(read_data(buffer, 100), 60);
	set_answer(8, 0, 8);
	assert_int_equal(read_data(buffer, 100), 0);
	set_answer(108, 101, 108); /* says more than it may */
	assert_int_equal(read_data(buffer, 100), -EPROTO);
	set_answer(58, 60, 58); /* says more than it sends */
	assert_int_equal(read_data(buffer, 100), -EPROTO);
	set_answer(208, 200, 208); /* sends more than it may */
	assert_int_equal(read_data(buffer, 100), -EPROTO);
	answer.refuse = EAGAIN;
	assert_int_equal(read_data(buffer, 100), -EAGAIN);
}

/* While the reply is due: DMA both ways and an interrupt. */
static void script_busy(struct peer *p)
{
	struct {
		struct vfio_user_dma_io io;
		uint64_t data;
	} write = { { 0x10010, 8 }, 0 };
	struct peer_message *got = calloc(1, sizeof(*got));
	uint64_t one = 1, expected = 3;
	int irq = -1;

	for (int i = 0; i < 3; i++) { /* DMA_MAP, SET_IRQS, MIG_DATA_READ */
		peer_receive(p->fd, &p->m);
		if (p->m.header.command == VFIO_USER_DEVICE_SET_IRQS)
			irq = dup(p->m.fds[0]);
		peer_close_fds(&p->m);
		if (p->m.header.command != VFIO_USER_MIG_DATA_READ)
			peer_reply(p->fd, &p->m, NULL, 0);
	}
	for (uint16_t id = 0; id < 3; id++) {
		write.data++;
		peer_command(p->fd, id, VFIO_USER_DMA_WRITE, &write, sizeof(write));
		if (eventfd_write(irq, one) < 0)
			abort();
		peer_receive(p->fd, got);
		if (got->header.id != id || got->header.flags != VFIO_USER_TYPE_REPLY || got->length != 16)
			abort();
	}
	peer_command(p->fd, p->m.header.id, VFIO_USER_DMA_READ, &write.io, sizeof(write.io)); /* the id is its own */
	peer_receive(p->fd, got);
	if (got->length != 24 || memcmp(got->body + 16, &expected, 8))
		abort();
	peer_reply(p->fd, &p->m, answer.body, answer.length);
	close(irq);
	free(got);
}

static void test_busy(void **state)
{
	uint8_t buffer[100];
	eventfd_t count = 0;
	uint64_t word = 0;
	int memory = memfd_create("guest", MFD_CLOEXEC), irq = eventfd(0, EFD_CLOEXEC);

	(void)state;
	set_answer(108, 60, 108);
	struct access *a = hostile_start(script_busy, PATIENT);
	assert_int_equal(ftruncate(memory, 0x1000), 0);
	assert_int_equal(access_dma_map(a, 0x10000, 0x1000, memory, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, NULL), 0);
	assert_int_equal(access_set_irqs(a, 2, 0, 1, &irq, NULL), 0);
	assert_int_equal(access_mig_data_read(a, buffer, sizeof(buffer), NULL), 60);
	assert_int_equal(pread(memory, &word, sizeof(word), 0x10), sizeof(word));
	assert_int_equal(word, 3);
	assert_int_equal(eventfd_read(irq, &count), 0);
	assert_int_equal(count, 3);
	hostile_stop(a);
	close(memory);
	close(irq);
}

static void script_count_writes(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	answer.length = p->m.length;
	peer_reply(p->fd, &p->m, NULL, 0);
}

/* One message stays within what a server with a single recv() takes whole. */
static void test_data_write(void **state)
{
	static uint8_t data[100000];
	(void)state;
	struct access *a = hostile_start(script_count_writes, PATIENT);
	assert_int_equal(access_mig_data_write(a, data, sizeof(data), NULL), 32768);
	hostile_stop(a);
	assert_int_equal(answer.length, 8 + 32768);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, hostile_setup, hostile_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_feature),
		TEST(test_refused_state),
		TEST(test_data_read),
		TEST(test_data_write),
		TEST(test_busy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
