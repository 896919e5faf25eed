/* SPDX-License-Identifier: BSD-3-Clause */
/* test_v2.c: the v2 interface: every request for a state, the data channel, QEMU 10's stream, several devices. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#define STATES 8u
#define SMALL "size=256K,interface=v2,rate=1,start"

static const char *const variants[] = { "p2p=yes,precopy=yes", "p2p=no,precopy=yes", "p2p=yes,precopy=no",
					"p2p=no,precopy=no" };

static bool is_p2p(uint32_t s)
{
	return s == VFMIG_STATE_RUNNING_P2P || s == VFMIG_STATE_PRE_COPY_P2P;
}

static bool is_precopy(uint32_t s)
{
	return s == VFMIG_STATE_PRE_COPY || s == VFMIG_STATE_PRE_COPY_P2P;
}

/* A state that this variant of the device does not have. */
static bool unknown(const char *variant, uint32_t s)
{
	return s == VFMIG_STATE_ERROR || (is_p2p(s) && strstr(variant, "p2p=no")) ||
	       (is_precopy(s) && strstr(variant, "precopy=no"));
}

/* An opaque device has a whole state at any time, so every way out of RESUMING is open. */
static struct vfmig_device *open_in(const char *variant, uint32_t s)
{
	struct vfmig_error err;
	char options[128];
	snprintf(options, sizeof(options), "opaque,interface=v2,rate=1,%s", variant);
	struct vfmig_device *d = open_sim(options);
	if (access_mig_state_set(d->access, s, &err) < 0)
		fail_msg("%s: to %s: %s", variant, vfmig_state_name((enum vfmig_state)s), err.message);
	return d;
}

/* The interface's rule: everything can be asked for but what is not there, and pre-copy out of stop-and-copy. */
static void test_every_request(void **state)
{
	(void)state;
	for (size_t v = 0; v < sizeof(variants) / sizeof(variants[0]); v++) {
		for (uint32_t from = 0; from < STATES; from++) {
			for (uint32_t to = 0; to <= STATES && !unknown(variants[v], from); to++) {
				struct vfmig_device *d = open_in(variants[v], from);
				uint32_t now;
				bool legal = to < STATES && !unknown(variants[v], to) &&
					     !(from == VFMIG_STATE_STOP_COPY && is_precopy(to));
				int r = access_mig_state_set(d->access, to, NULL);
				assert_int_equal(access_mig_state_get(d->access, &now, NULL), 0);
				if (r != (legal ? 0 : -EINVAL) || now != (legal ? to : from))
					fail_msg("%s: %u to %u: %d, now %u", variants[v], from, to, r, now);
				vfmig_device_close(d);
			}
		}
	}
}

/* What the client is told about the device. */
static void test_flags(void **state)
{
	(void)state;
	for (size_t v = 0; v < sizeof(variants) / sizeof(variants[0]); v++) {
		struct vfmig_device *d = open_in(variants[v], VFMIG_STATE_RUNNING);
		assert_string_equal(d->protocol->ops->name, "v2");
		assert_int_equal(d->protocol->has_p2p, !unknown(variants[v], VFMIG_STATE_RUNNING_P2P));
		assert_int_equal(d->protocol->has_precopy, !unknown(variants[v], VFMIG_STATE_PRE_COPY));
		vfmig_device_close(d);
	}
}

static void test_interface_is_chosen(void **state)
{
	static const char *const wanted[] = { NULL, "v1", "v2", "v3" };
	static const char *const found[] = { "v2", "v1", "v2", NULL };
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct access *access;
		struct vfmig_device *d;
		struct vfmig_error err;
		struct vfmig_device_options opts = { .size = sizeof(opts), .interface = wanted[i] };
		assert_int_equal(sim_access_open("interface=both,size=64K", &access, &err), 0);
		int r = device_new(access, &opts, &d, &err);
		assert_int_equal(r, found[i] ? 0 : -EINVAL);
		if (r == 0) {
			assert_string_equal(d->protocol->ops->name, found[i]);
			vfmig_device_close(d);
		}
	}
}

/* Where the engine may step, where the channel gives data, and what it says when it has none. */
static void test_channel_and_work(void **state)
{
	uint8_t buffer[4096];
	(void)state;
	for (uint32_t s = VFMIG_STATE_STOP; s < STATES; s++) {
		struct vfmig_device *d = open_sim("size=64K,interface=v2,rate=1,start");
		assert_int_equal(access_mig_state_set(d->access, s, NULL), 0);
		bool saving = s == VFMIG_STATE_STOP_COPY || is_precopy(s);
		bool works = s == VFMIG_STATE_RUNNING || s == VFMIG_STATE_PRE_COPY;
		ssize_t n = access_mig_data_read(d->access, buffer, sizeof(buffer), NULL);
		assert_int_equal(n, saving ? (ssize_t)sizeof(buffer) : -ENODEV);
		while (saving && (n = access_mig_data_read(d->access, buffer, sizeof(buffer), NULL)) > 0)
			;
		if (saving)
			assert_int_equal(n, s == VFMIG_STATE_STOP_COPY ? 0 : -EAGAIN);
		if (s != VFMIG_STATE_RESUMING)
			assert_int_equal(access_mig_data_write(d->access, "x", 1, NULL), -ENODEV);
		assert_int_equal(sim_device_steps(sim_of(d), 3), works ? 3 : 0);
		struct access_precopy_info info;
		assert_int_equal(access_mig_precopy_info(d->access, &info, NULL), is_precopy(s) ? 0 : -EINVAL);
		vfmig_device_close(d);
	}
}

/* A load that is not whole is refused where the interface says so: on the way out of RESUMING. */
static void test_incomplete_load(void **state)
{
	(void)state;
	struct vfmig_device *d = open_sim(SMALL);
	uint32_t now;
	assert_int_equal(access_mig_state_set(d->access, VFMIG_STATE_RESUMING, NULL), 0);
	assert_int_equal(access_mig_state_set(d->access, VFMIG_STATE_RUNNING, NULL), -EINVAL);
	assert_int_equal(access_mig_state_get(d->access, &now, NULL), 0);
	assert_int_equal(now, VFMIG_STATE_RESUMING);
	assert_int_equal(access_reset(d->access, NULL), 0);
	assert_int_equal(sim_state(d), VFMIG_STATE_RUNNING);
	vfmig_device_close(d);
}

/* Every variant into every other, and between the interfaces: the stream is the same. */
static void test_moves(void **state)
{
	(void)state;
	for (size_t v = 0; v < 5; v++) {
		for (int from_v1 = 0; from_v1 < 2; from_v1++) {
			struct buffer stream;
			struct vfmig_error err;
			struct vfmig_status status;
			char options[128];
			snprintf(options, sizeof(options), "size=256K,rate=1,%s%s",
				 v < 4 ? "interface=v2," : "section=1M", v < 4 ? variants[v] : "");
			make_stream(from_v1 ? "size=256K,section=64K,rate=1,start" : SMALL, 300, &stream);
			struct vfmig_device *to = open_sim(options);
			if (load_from(to, buffer_reader(stream.data, stream.length, 5000), NULL, &status, &err) < 0)
				fail_msg("%s: %s", options, err.message);
			assert_true(status.digest_verified);
			assert_int_equal(sim_of(to)->work.step, 300);
			assert_works(to);
			vfmig_device_close(to);
			buffer_free(&stream);
		}
	}
}

static void test_cancel_at_every_step(void **state)
{
	struct vfmig_error err;
	(void)state;
	struct vfmig_device *d = open_sim("size=64K,interface=v2,rate=1,start");
	for (unsigned steps = 0, done = 0; !done; steps++) {
		struct buffer stream;
		struct vfmig_save *save;
		struct vfmig_status status;
		struct vfmig_link *link = buffer_writer(&stream, 3000);
		work(d, 5);
		assert_int_equal(vfmig_save_new(link, NULL, &save, &err), 0);
		assert_int_equal(vfmig_save_add_device(save, d, TEST_ID, &err), 0);
		int r = 0;
		for (unsigned i = 0; i < steps && r != VFMIG_STEP_DONE; i++)
			assert_true((r = vfmig_save_step(save, &err)) >= 0);
		done = r == VFMIG_STEP_DONE;
		if (!done) {
			vfmig_save_cancel(save);
			assert_int_equal(vfmig_save_step(save, &err), -ECANCELED);
			vfmig_save_status(save, &status);
			if (!status.source_may_run)
				assert_int_equal(access_mig_state_set(d->access, VFMIG_STATE_RUNNING, NULL), 0);
			assert_works(d);
		}
		vfmig_save_free(save);
		vfmig_link_close(link);
		buffer_free(&stream);
	}
	vfmig_device_close(d);
}

/* The vector's device is the kernel's mtty: 24 bytes in pre-copy, 72 when stopped. */
static void test_qemu_10_stream(void **state)
{
	struct buffer qemu;
	struct vfmig_error err;
	uint8_t got[200];
	size_t length = 0;
	ssize_t n;
	(void)state;
	buffer_read_file(&qemu, GOLDEN_DIR "/qemu-10.0-v2-mtty.stream");
	struct vfmig_device *d = open_for_qemu(&qemu, 4096, ",interface=v2");
	if (load_from(d, buffer_file(qemu.data, qemu.length), NULL, NULL, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(access_mig_state_set(d->access, VFMIG_STATE_STOP_COPY, NULL), 0);
	while ((n = access_mig_data_read(d->access, got + length, 7, NULL)) > 0) /* short reads are normal */
		length += (size_t)n;
	assert_int_equal(n, 0);
	assert_int_equal(length, 24 + 72);
	assert_non_null(memmem(qemu.data, qemu.length, got, 24));
	assert_non_null(memmem(qemu.data, qemu.length, got + 24, 72));
	buffer_free(&qemu);
	vfmig_device_close(d);
}

/* Several devices need P2P, all of them; one alone does not. */
static void test_p2p(void **state)
{
	static const struct {
		const char *first, *second;
		int result;
	} cases[] = {
		{ SMALL, SMALL ",seed=2", 0 },
		{ SMALL, SMALL ",p2p=no", -EOPNOTSUPP },
		{ SMALL ",p2p=no", "size=64K,rate=1", -EOPNOTSUPP },
		{ SMALL, "size=64K,rate=1,section=64K", 0 }, /* v1 has no such states: as QEMU 7.2 does */
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer stream;
		struct vfmig_error err;
		struct vfmig_save *save;
		struct vfmig_device *a = open_sim(cases[i].first), *b = open_sim(cases[i].second);
		struct vfmig_link *link = buffer_writer(&stream, 0);
		assert_int_equal(vfmig_save_new(link, NULL, &save, &err), 0);
		assert_int_equal(vfmig_save_add_device(save, a, "0000:00:01.0/vfio", &err), 0);
		assert_int_equal(vfmig_save_add_device(save, b, "0000:00:02.0/vfio", &err), 0);
		assert_int_equal(vfmig_save_run(save, &err), cases[i].result);
		if (cases[i].result < 0) {
			assert_non_null(strstr(err.message, "P2P"));
			assert_int_equal(sim_state(a), VFMIG_STATE_RUNNING);
			assert_int_equal(stream.length, 0);
		}
		vfmig_save_free(save);
		vfmig_link_close(link);
		buffer_free(&stream);
		vfmig_device_close(a);
		vfmig_device_close(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_request),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_interface_is_chosen),
		cmocka_unit_test(test_channel_and_work),
		cmocka_unit_test(test_incomplete_load),
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_cancel_at_every_step),
		cmocka_unit_test(test_qemu_10_stream),
		cmocka_unit_test(test_p2p),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
