/* SPDX-License-Identifier: BSD-3-Clause */
/* test_user_stopped.c: servers with the reference server's habits: refusing when stopped, one recv() for a message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "device/device.h"
#include "device/pci.h"
#include "hostile.h"

/* The device, which outlives its client's connection. */
static struct {
	uint32_t state;
	uint32_t config_size;
	uint32_t data;      /* bytes of state that are left */
	uint32_t no_way_to; /* this state is refused */
	uint32_t v1_state;
	bool v1;
	bool always_refuses;
	uint32_t states[8]; /* that it was set to */
	unsigned num_states, resets, maps;
	size_t largest;     /* message */
} device;

static bool stopped(void)
{
	return device.always_refuses || device.state == VFMIG_STATE_STOP || device.state == VFMIG_STATE_STOP_COPY;
}

static void answer_feature(struct peer *p)
{
	struct vfio_user_feature feature;
	struct vfio_user_device_state state;
	uint64_t flags = 1 | 4; /* STOP_COPY and PRE_COPY */

	memcpy(&feature, p->m.body, sizeof(feature));
	memcpy(&state, p->m.body + 8, sizeof(state));
	switch (device.v1 ? 0 : feature.flags) {
	case VFIO_USER_FEATURE_GET | VFIO_USER_FEATURE_MIGRATION:
		memcpy(p->m.body + 8, &flags, 8);
		break;
	case VFIO_USER_FEATURE_GET | VFIO_USER_FEATURE_MIG_DEVICE_STATE:
		state = (struct vfio_user_device_state) { device.state, 0 };
		memcpy(p->m.body + 8, &state, 8);
		break;
	case VFIO_USER_FEATURE_SET | VFIO_USER_FEATURE_MIG_DEVICE_STATE:
		if (state.state == device.no_way_to) {
			peer_refuse(p->fd, &p->m, EINVAL);
			return;
		}
		device.states[device.num_states++ % 8] = device.state = state.state;
		break;
	default: /* all that it does not know */
		peer_refuse(p->fd, &p->m, EINVAL);
		return;
	}
	peer_reply(p->fd, &p->m, p->m.body, p->m.length);
}

static void answer_read(struct peer *p)
{
	struct vfio_user_region_io io;
	uint8_t body[16 + 4096];

	memcpy(&io, p->m.body, sizeof(io));
	if (device.v1 && io.region == ACCESS_PCI_NUM_REGIONS && io.offset == 0 && io.count == 4) {
		memcpy(p->m.body + 16, &device.v1_state, 4);
		peer_reply(p->fd, &p->m, p->m.body, 20);
		return;
	}
	if (io.region != ACCESS_PCI_CONFIG || io.offset + io.count > device.config_size) {
		peer_refuse(p->fd, &p->m, EINVAL);
		return;
	}
	memset(body, 0x42, sizeof(body));
	memcpy(body, &io, sizeof(io));
	peer_reply(p->fd, &p->m, body, 16 + io.count);
}

/* As the library does it: always as long as was asked for, and short of that long before the end. */
static void answer_data(struct peer *p)
{
	struct vfio_user_mig_data io;

	memcpy(&io, p->m.body, sizeof(io));
	size_t length = sizeof(io) + io.size;
	io.size = device.data < 60 ? device.data : 60;
	device.data -= io.size;
	uint8_t *body = calloc(1, length);
	memcpy(body, &io, sizeof(io));
	peer_reply(p->fd, &p->m, body, length);
	free(body);
}

static void script(struct peer *p)
{
	struct vfio_user_device_info info = { sizeof(info), 3, 10, 5 };

	while (peer_try_receive(p->fd, &p->m) == 0) {
		uint16_t command = p->m.header.command;
		peer_close_fds(&p->m);
		if (command == VFIO_USER_DEVICE_FEATURE) {
			answer_feature(p);
		} else if (command == VFIO_USER_REGION_READ) {
			answer_read(p);
		} else if (command == VFIO_USER_MIG_DATA_READ) {
			answer_data(p);
		} else if (stopped()) {
			peer_refuse(p->fd, &p->m, EINVAL);
		} else if (command == VFIO_USER_DEVICE_GET_INFO) {
			peer_reply(p->fd, &p->m, &info, sizeof(info));
		} else if (command == VFIO_USER_DEVICE_RESET) {
			device.resets++;
			device.state = VFMIG_STATE_RUNNING;
			peer_reply(p->fd, &p->m, NULL, 0);
		} else {
			device.maps += command == VFIO_USER_DMA_MAP;
			peer_refuse(p->fd, &p->m, EINVAL);
		}
	}
}

static void make_device(uint32_t state)
{
	memset(&device, 0, sizeof(device));
	device.state = state;
	device.config_size = 4096;
	device.no_way_to = 99;
}

/* Opened, as a command does it; and what it then is. */
static void test_open(void **state)
{
	static const uint32_t states[] = { VFMIG_STATE_STOP, VFMIG_STATE_STOP_COPY };
	struct vfmig_error err;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct vfmig_device *d = NULL;
		struct access_region_info region;
		struct pci_config config;
		enum vfmig_state now;
		make_device(states[i]);
		device.config_size = i ? 256 : 4096;
		if (device_new(hostile_start(script, PATIENT), NULL, &d, &err) < 0)
			fail_msg("%s", err.message);
		assert_int_equal(vfmig_device_state(d, &now, &err), 0);
		assert_int_equal(now, states[i]);
		assert_int_equal(d->info.num_regions, ACCESS_PCI_NUM_REGIONS);
		assert_int_equal(d->info.flags, ACCESS_DEVICE_PCI | ACCESS_DEVICE_RESET);
		assert_int_equal(pci_config_read(d, &config, &err), 0);
		assert_int_equal(config.size, device.config_size);
		assert_int_equal(config.bytes[255], 0x42);
		assert_int_equal(access_region_info(d->access, 0, &region, &err), -EBUSY);
		assert_non_null(strstr(err.message, "the device is stopped"));
		vfmig_device_close(d);
		peer_join(&hostile_peer);
	}
}

/* A server that refuses for another reason is not taken for a stopped one. */
static void test_no_info(void **state)
{
	struct access_device_info info = { 0 };
	struct vfmig_error err;

	(void)state;
	make_device(VFMIG_STATE_RUNNING);
	device.always_refuses = true;
	struct access *a = hostile_start(script, PATIENT);
	assert_int_equal(access_device_info(a, &info, &err), -EINVAL);
	assert_non_null(strstr(err.message, "the server refused DEVICE_GET_INFO"));
	assert_int_equal(access_reset(a, &err), -EINVAL);
	assert_int_equal(device.num_states, 0);
	hostile_stop(a);
}

/* Of a v1 device there is nothing to go on with; that is said. */
static void test_v1(void **state)
{
	struct vfmig_device *d = NULL;
	struct vfmig_error err;

	(void)state;
	make_device(VFMIG_STATE_STOP);
	device.v1 = true;
	device.v1_state = 2; /* saving, stopped */
	assert_int_equal(device_new(hostile_start(script, PATIENT), NULL, &d, &err), -EBUSY);
	assert_non_null(strstr(err.message, "the device is stopped, and its v1 server tells nothing"));
	peer_join(&hostile_peer);
	device.v1_state = 1;
	assert_int_equal(device_new(hostile_start(script, PATIENT), NULL, &d, &err), -EINVAL);
	peer_join(&hostile_peer);
}

/* Out of the states in which RESET is refused, by one in which the device does nothing. */
static void test_reset(void **state)
{
	static const uint32_t states[] = { VFMIG_STATE_STOP, VFMIG_STATE_STOP_COPY };
	struct vfmig_error err;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		make_device(states[i]);
		struct access *a = hostile_start(script, PATIENT);
		assert_int_equal(access_reset(a, &err), 0);
		assert_int_equal(device.resets, 1);
		assert_int_equal(device.num_states, 1);
		assert_int_equal(device.states[0], VFMIG_STATE_RESUMING);
		assert_int_equal(device.state, VFMIG_STATE_RUNNING);
		hostile_stop(a);
	}
	make_device(VFMIG_STATE_STOP);
	device.no_way_to = VFMIG_STATE_RESUMING;
	struct access *a = hostile_start(script, PATIENT);
	assert_int_equal(access_reset(a, &err), 0);
	assert_int_equal(device.states[0], VFMIG_STATE_RUNNING);
	hostile_stop(a);
	make_device(VFMIG_STATE_STOP);
	device.always_refuses = true; /* also then */
	a = hostile_start(script, PATIENT);
	assert_int_equal(access_reset(a, &err), -EINVAL);
	assert_non_null(strstr(err.message, "reset: the server refused DEVICE_RESET"));
	hostile_stop(a);
}

/* The state of a device that an earlier client has left in STOP_COPY: reads that are short, and then none. */
static void test_save_stopped(void **state)
{
	struct vfmig_device *d = NULL;
	struct protocol_piece piece;
	uint8_t buffer[4096];
	uint64_t all = 0;
	unsigned reads = 0;

	(void)state;
	make_device(VFMIG_STATE_STOP_COPY);
	device.data = 200;
	assert_int_equal(device_new(hostile_start(script, PATIENT), NULL, &d, NULL), 0);
	do {
		assert_int_equal(d->protocol->ops->read(d->protocol, buffer, sizeof(buffer), &piece, NULL), 0);
		all += piece.length;
		reads++;
	} while (piece.length);
	assert_int_equal(all, 200);
	assert_int_equal(reads, 5);
	vfmig_device_close(d);
	peer_join(&hostile_peer);
}

static void script_no_features(struct peer *p)
{
	struct vfio_user_device_info info = { sizeof(info), 3, 9, 5 };

	while (peer_try_receive(p->fd, &p->m) == 0)
		if (p->m.header.command == VFIO_USER_DEVICE_GET_INFO)
			peer_reply(p->fd, &p->m, &info, sizeof(info));
		else
			peer_refuse(p->fd, &p->m, EINVAL);
}

static void test_no_features(void **state)
{
	struct vfmig_device *d = NULL;
	struct vfmig_error err;
	uint64_t page_size = 4096;
	uint32_t now;
	uint64_t flags = 0;

	(void)state;
	assert_int_equal(device_new(hostile_start(script_no_features, PATIENT), NULL, &d, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.message, "no v2 migration interface"));
	peer_join(&hostile_peer);
	struct access *a = hostile_start(script_no_features, PATIENT);
	assert_int_equal(access_mig_state_get(a, &now, &err), -EOPNOTSUPP);
	assert_int_equal(access_feature(a, VFIO_USER_FEATURE_GET | VFIO_USER_FEATURE_MIG_DATA_SIZE, &flags, 8, &err),
			 -EOPNOTSUPP);
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_DEVICE, NULL, 0, &page_size, &err), -EOPNOTSUPP);
	hostile_stop(a);
}

/* Takes each message with one recv(), as the reference server does, into room for 32 KiB of data. */
static void script_one_recv(struct peer *p)
{
	static uint8_t message[16 + 16 + VFIO_USER_SAFE_DATA];

	for (;;) {
		ssize_t n = recv(p->fd, message, sizeof(message), 0);
		struct vfio_user_header h;
		if (n <= 0)
			return;
		memcpy(&h, message, sizeof(h));
		if (h.size != (size_t)n) /* the rest would be taken for the next message */
			abort();
		device.largest = h.size > device.largest ? h.size : device.largest;
		p->m.header = h;
		if (h.command == VFIO_USER_REGION_WRITE)
			peer_reply(p->fd, &p->m, message + 16, 16);
		else
			peer_reply(p->fd, &p->m, NULL, 0);
	}
}

static void test_one_recv(void **state)
{
	uint8_t *data = calloc(1, 1u << 20);

	(void)state;
	make_device(VFMIG_STATE_RESUMING);
	struct access *a = hostile_start(script_one_recv, PATIENT);
	for (size_t done = 0, n; done < 1u << 20; done += n) {
		ssize_t written = access_mig_data_write(a, data + done, (1u << 20) - done, NULL);
		assert_true(written > 0);
		n = (size_t)written;
	}
	assert_int_equal(access_region_write(a, 9, 0, data, 1u << 20, NULL), 0);
	assert_int_equal(device.largest, 16 + 16 + VFIO_USER_SAFE_DATA);
	free(data);
	hostile_stop(a);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, hostile_setup, hostile_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_open),
		TEST(test_no_info),
		TEST(test_v1),
		TEST(test_reset),
		TEST(test_save_stopped),
		TEST(test_no_features),
		TEST(test_one_recv),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
