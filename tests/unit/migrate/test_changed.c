/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_changed.c: a guest resets its device, or a VMM stops or starts it, in the middle of a save or a load: that is
 * seen, said, and nothing is done to the device any more.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#define SIZE "size=64K,rate=1,start"

static const char *const devices[] = {
	SIZE ",section=16K,map=trapped",
	SIZE ",section=16K",
	SIZE ",interface=v2",
	SIZE ",interface=v2,p2p=no",
	SIZE ",interface=v2,precopy=no",
};
#define DEVICES (sizeof(devices) / sizeof(devices[0]))

static const uint8_t mark[2] = { 0x06, 0x04 };

/* By the access, which has P2P, or the region's bits. */
static enum vfmig_state state_of(struct vfmig_device *d)
{
	uint32_t state;
	return access_mig_state_get(d->access, &state, NULL) < 0 ? sim_state(d) : (enum vfmig_state)state;
}

/* What a guest does, which knows nothing of a migration: a reset, and its driver writes the command register. */
static void reset_by_guest(struct vfmig_device *d)
{
	assert_int_equal(access_reset(d->access, NULL), 0);
	assert_int_equal(access_region_write(d->access, ACCESS_PCI_CONFIG, 4, mark, sizeof(mark), NULL), 0);
}

/* Running, and neither reset again nor with anything of a load in it. */
static void assert_left_alone(struct vfmig_device *d, const char *what)
{
	uint8_t command[2];
	assert_int_equal(access_region_read(d->access, ACCESS_PCI_CONFIG, 4, command, sizeof(command), NULL), 0);
	if (state_of(d) != VFMIG_STATE_RUNNING || memcmp(command, mark, sizeof(mark)))
		fail_msg("%s: the device is %s, its command register 0x%02x%02x", what, vfmig_state_name(state_of(d)),
			 command[1], command[0]);
}

static void assert_said(const struct vfmig_error *err, int r, const char *is, const char *expected)
{
	char text[128];
	snprintf(text, sizeof(text), "the device is %s, expected %s: somebody else", is, expected);
	if (r != -ESTALE || err->code != r || !strstr(err->message, text) || strncmp(err->message, "sim:", 4))
		fail_msg("%d, expected \"%s\": %s", r, text, err->message);
}

static struct vfmig_save *begin_save(struct vfmig_device *d, struct buffer *stream, struct vfmig_link **ret_link)
{
	struct vfmig_save *save;
	struct vfmig_error err;
	*ret_link = buffer_writer(stream, 5000);
	assert_int_equal(vfmig_save_new(*ret_link, NULL, &save, &err), 0);
	assert_int_equal(vfmig_save_add_device(save, d, TEST_ID, &err), 0);
	return save;
}

static int run_steps(struct vfmig_save *save, unsigned steps, struct vfmig_error *err)
{
	int r = 0;
	for (unsigned i = 0; i < steps && r != VFMIG_STEP_DONE; i++)
		assert_true((r = vfmig_save_step(save, err)) >= 0);
	return r;
}

/* A reset before step `steps` of a save. Returns what state it struck; *ret_r: what came of it. */
static enum vfmig_state reset_in_save(const char *device, unsigned steps, int *ret_r)
{
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_status status;
	struct vfmig_link *link;
	struct vfmig_device *d = open_sim(device);
	work(d, 20);
	struct vfmig_save *save = begin_save(d, &stream, &link);
	bool done = run_steps(save, steps, &err) == VFMIG_STEP_DONE;
	enum vfmig_state struck = done ? VFMIG_STATE_ERROR : state_of(d);
	if (!done)
		reset_by_guest(d);
	*ret_r = vfmig_save_run(save, &err);
	vfmig_save_status(save, &status);
	if (*ret_r < 0) {
		assert_said(&err, *ret_r, "running", vfmig_state_name(struck));
		assert_true(status.source_may_run);
		assert_left_alone(d, device);
	}
	vfmig_save_free(save);
	vfmig_link_close(link);
	buffer_free(&stream);
	vfmig_device_close(d);
	return struck;
}

static void test_reset_in_save(void **state)
{
	(void)state;
	for (size_t i = 0; i < DEVICES; i++) {
		unsigned failed[8] = { 0 };
		enum vfmig_state struck;
		unsigned steps = 0;
		do {
			int r;
			struck = reset_in_save(devices[i], steps++, &r);
			failed[struck] += r < 0;
			/* Behind the last look, when it is stopped, the state has been taken already. */
			if (r == 0 && struck != VFMIG_STATE_RUNNING && struck != VFMIG_STATE_STOP &&
			    struck != VFMIG_STATE_ERROR)
				fail_msg("%s: reset in %s, and saved", devices[i], vfmig_state_name(struck));
		} while (struck != VFMIG_STATE_ERROR);
		assert_true(failed[VFMIG_STATE_STOP_COPY] > 0);
		assert_true(failed[VFMIG_STATE_STOP] > 0);
		if (strstr(devices[i], "precopy=no"))
			assert_true(failed[VFMIG_STATE_RUNNING_P2P] > 0);
		if (!strstr(devices[i], "precopy=no"))
			assert_true(failed[VFMIG_STATE_PRE_COPY] > 3);
		assert_int_equal(failed[VFMIG_STATE_RUNNING], 0);
	}
}

static int load_steps(struct vfmig_load *load, unsigned steps, struct vfmig_error *err)
{
	int r = 0;
	for (unsigned i = 0; i < steps && r != VFMIG_STEP_DONE; i++)
		assert_true((r = vfmig_load_step(load, err)) >= 0);
	return r;
}

static enum vfmig_state reset_in_load(const char *device, const struct buffer *stream, unsigned steps, int *ret_r)
{
	struct vfmig_load *load;
	struct vfmig_error err;
	struct vfmig_status status;
	struct vfmig_device *d = open_sim(device);
	struct vfmig_link *link = buffer_reader(stream->data, stream->length, 3000);
	assert_int_equal(vfmig_load_new(link, NULL, &load, &err), 0);
	assert_int_equal(vfmig_load_add_device(load, d, NULL, &err), 0);
	bool done = load_steps(load, steps, &err) == VFMIG_STEP_DONE;
	enum vfmig_state struck = done ? VFMIG_STATE_ERROR : state_of(d);
	if (!done)
		reset_by_guest(d);
	*ret_r = vfmig_load_run(load, &err);
	vfmig_load_status(load, &status);
	if (*ret_r < 0) {
		assert_said(&err, *ret_r, "running", vfmig_state_name(struck));
		assert_non_null(strstr(err.message, "not reset: somebody else"));
		assert_false(status.source_may_run); /* who started it, and with what, is not known */
		assert_left_alone(d, device);
	}
	vfmig_load_free(load);
	vfmig_link_close(link);
	vfmig_device_close(d);
	return struck;
}

static void test_reset_in_load(void **state)
{
	(void)state;
	for (size_t i = 0; i < DEVICES; i++) {
		struct buffer stream;
		unsigned failed[8] = { 0 };
		enum vfmig_state struck;
		unsigned steps = 0;
		make_stream(devices[i], 20, &stream);
		do {
			int r;
			struck = reset_in_load(devices[i], &stream, steps++, &r);
			failed[struck] += r < 0;
			if (r == 0 && struck != VFMIG_STATE_RUNNING && struck != VFMIG_STATE_ERROR)
				fail_msg("%s: reset in %s, and loaded", devices[i], vfmig_state_name(struck));
		} while (struck != VFMIG_STATE_ERROR);
		assert_true(failed[VFMIG_STATE_RESUMING] > 3);
		if (strstr(devices[i], "interface=v2") && !strstr(devices[i], "p2p=no"))
			assert_true(failed[VFMIG_STATE_RUNNING_P2P] > 0);
		buffer_free(&stream);
	}
}

/* A look at the device by whoever drives the save tells the save nothing away. */
static void test_seen_by_another_look(void **state)
{
	(void)state;
	for (size_t i = 0; i < DEVICES; i++) {
		struct buffer stream;
		struct vfmig_error err;
		struct vfmig_link *link;
		enum vfmig_state now;
		struct vfmig_device *d = open_sim(devices[i]);
		struct vfmig_save *save = begin_save(d, &stream, &link);
		while (state_of(d) != VFMIG_STATE_STOP_COPY && state_of(d) != VFMIG_STATE_PRE_COPY)
			assert_true(vfmig_save_step(save, &err) >= 0);
		const char *was = vfmig_state_name(state_of(d));
		reset_by_guest(d);
		assert_int_equal(vfmig_device_state(d, &now, &err), 0);
		assert_int_equal(now, VFMIG_STATE_RUNNING);
		assert_said(&err, vfmig_save_run(save, &err), "running", was);
		assert_left_alone(d, devices[i]);
		vfmig_save_free(save);
		vfmig_link_close(link);
		buffer_free(&stream);
		vfmig_device_close(d);
	}
}

/* Cancelled, or freed without a word: a device that was reset is not touched by the way back either. */
static void give_up_save(const char *device, bool cancel)
{
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_link *link;
	struct vfmig_device *d = open_sim(device);
	struct vfmig_save *save = begin_save(d, &stream, &link);
	while (state_of(d) != VFMIG_STATE_STOP_COPY)
		assert_true(vfmig_save_step(save, &err) >= 0);
	reset_by_guest(d);
	if (cancel) {
		vfmig_save_cancel(save);
		assert_int_equal(vfmig_save_run(save, &err), -ECANCELED);
	}
	vfmig_save_free(save);
	assert_left_alone(d, device);
	vfmig_link_close(link);
	buffer_free(&stream);
	vfmig_device_close(d);
}

static void give_up_load(const char *device, const struct buffer *stream, bool cancel)
{
	struct vfmig_load *load;
	struct vfmig_error err;
	struct vfmig_device *d = open_sim(device);
	struct vfmig_link *link = buffer_reader(stream->data, stream->length, 3000);
	assert_int_equal(vfmig_load_new(link, NULL, &load, &err), 0);
	assert_int_equal(vfmig_load_add_device(load, d, NULL, &err), 0);
	while (state_of(d) != VFMIG_STATE_RESUMING)
		assert_true(vfmig_load_step(load, &err) >= 0);
	reset_by_guest(d);
	if (cancel) {
		vfmig_load_cancel(load);
		assert_int_equal(vfmig_load_run(load, &err), -ECANCELED);
	}
	vfmig_load_free(load);
	assert_left_alone(d, device);
	vfmig_link_close(link);
	vfmig_device_close(d);
}

static void test_way_back(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * DEVICES; i++) {
		struct buffer stream;
		make_stream(devices[i / 2], 20, &stream);
		give_up_save(devices[i / 2], i % 2);
		give_up_load(devices[i / 2], &stream, i % 2);
		buffer_free(&stream);
	}
}

/* A VMM has it in hand: what it has stopped stays stopped, what it has started runs. */
static void test_stopped_or_started(void **state)
{
	static const struct {
		bool stopped_first;
		enum vfmig_state to;
		const char *was, *is;
	} cases[] = {
		{ false, VFMIG_STATE_STOP, "pre-copy", "stopped" },
		{ true, VFMIG_STATE_RUNNING, "stop-and-copy", "running" },
	};
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct buffer stream;
		struct vfmig_error err;
		struct vfmig_status status;
		struct vfmig_link *link;
		struct vfmig_device *d = open_sim(SIZE ",interface=v2");
		if (cases[i].stopped_first)
			assert_int_equal(access_mig_state_set(d->access, VFMIG_STATE_STOP, NULL), 0);
		struct vfmig_save *save = begin_save(d, &stream, &link);
		while (strcmp(vfmig_state_name(state_of(d)), cases[i].was) != 0)
			assert_true(vfmig_save_step(save, &err) >= 0);
		assert_int_equal(access_mig_state_set(d->access, cases[i].to, NULL), 0);
		assert_said(&err, vfmig_save_run(save, &err), cases[i].is, cases[i].was);
		assert_non_null(strstr(err.message, "not put back to "));
		vfmig_save_status(save, &status);
		assert_false(status.source_may_run);
		assert_int_equal(state_of(d), cases[i].to);
		vfmig_save_free(save);
		assert_int_equal(state_of(d), cases[i].to);
		vfmig_link_close(link);
		buffer_free(&stream);
		vfmig_device_close(d);
	}
}

/* Of two devices one is reset: the other one is put back, and works on. */
static void test_the_other_device(void **state)
{
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_save *save;
	struct vfmig_status status;
	(void)state;
	struct vfmig_device *a = open_sim(SIZE ",interface=v2"), *b = open_sim(SIZE ",interface=v2,seed=2");
	struct vfmig_link *link = buffer_writer(&stream, 0);
	work(b, 7);
	assert_int_equal(vfmig_save_new(link, NULL, &save, &err), 0);
	assert_int_equal(vfmig_save_add_device(save, a, "0000:00:01.0/vfio", &err), 0);
	assert_int_equal(vfmig_save_add_device(save, b, "0000:00:02.0/vfio", &err), 0);
	while (state_of(b) != VFMIG_STATE_STOP_COPY)
		assert_true(vfmig_save_step(save, &err) >= 0);
	reset_by_guest(a);
	assert_said(&err, vfmig_save_run(save, &err), "running", "stop-and-copy");
	vfmig_save_status(save, &status);
	assert_true(status.source_may_run);
	assert_left_alone(a, "the first device");
	assert_works(b);
	vfmig_save_free(save);
	vfmig_link_close(link);
	buffer_free(&stream);
	vfmig_device_close(a);
	vfmig_device_close(b);
}

/* One that fails by itself, when nothing is asked of it any more, is nobody else's doing. */
static void test_failed_when_stopped(void **state)
{
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_status status;
	struct vfmig_link *link;
	(void)state;
	struct vfmig_device *d = open_sim(devices[0]);
	struct vfmig_save *save = begin_save(d, &stream, &link);
	while (state_of(d) != VFMIG_STATE_STOP)
		assert_true(vfmig_save_step(save, &err) >= 0);
	sim_device_lock(sim_of(d));
	sim_of(d)->region.state = 6;
	sim_device_unlock(sim_of(d));
	assert_int_equal(vfmig_save_run(save, &err), -EIO);
	assert_non_null(strstr(err.message, "the device is in error, expected stopped"));
	assert_non_null(strstr(err.message, "went into error and was reset"));
	vfmig_save_status(save, &status);
	assert_false(status.source_may_run);
	vfmig_save_free(save);
	vfmig_link_close(link);
	buffer_free(&stream);
	vfmig_device_close(d);
}

/* What is advised where a device is in the middle of a migration already: what there is for that kind of device. */
static void test_in_use(void **state)
{
	static const struct {
		const char *name, *advice;
	} cases[] = {
		{ "vfio-user:/run/a.sock", "run vfmig recover vfio-user:/run/a.sock, which loses nothing unasked" },
		{ "fd-from:unix:/run/vmm", "run vfmig recover fd-from:unix:/run/vmm, which loses nothing unasked" },
		{ "pci:0000:01:00.0", "another program has it open, too, and moves it; wait for that" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer stream, some = { 0 };
		struct vfmig_error err;
		make_stream(SIZE, 1, &some);
		struct vfmig_device *d = open_sim(devices[2]);
		strcpy(d->access->name, cases[i].name);
		assert_int_equal(access_mig_state_set(d->access, VFMIG_STATE_PRE_COPY, NULL), 0);
		assert_int_equal(save_to(d, buffer_writer(&stream, 0), NULL, NULL, &err), -EBUSY);
		assert_non_null(strstr(err.message, cases[i].advice));
		struct vfmig_link *in = buffer_reader(some.data, some.length, 0);
		assert_int_equal(load_from(d, in, NULL, NULL, &err), -EBUSY);
		assert_non_null(strstr(err.message, cases[i].advice));
		assert_int_equal(state_of(d), VFMIG_STATE_PRE_COPY);
		buffer_free(&stream);
		buffer_free(&some);
		vfmig_device_close(d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_in_save),	   cmocka_unit_test(test_reset_in_load),
		cmocka_unit_test(test_seen_by_another_look), cmocka_unit_test(test_way_back),
		cmocka_unit_test(test_stopped_or_started), cmocka_unit_test(test_the_other_device),
		cmocka_unit_test(test_failed_when_stopped), cmocka_unit_test(test_in_use),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
