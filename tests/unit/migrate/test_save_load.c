/* SPDX-License-Identifier: BSD-3-Clause */
/* test_save_load.c: whole saves and loads of a device at work, in every way its data can lie. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "stream/reader.h"
#include "stream/vfio_packets.h"

#define SMALL "size=256K,section=64K,rate=1,start"

/* Saves a device after some work, loads it elsewhere, and lets both sides be looked at. */
static void move(const char *from_options, const char *to_options, size_t piece)
{
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_status status;
	struct vfmig_device *from = open_sim(from_options), *to = open_sim(to_options);
	work(from, 500);
	if (save_to(from, buffer_writer(&stream, piece), NULL, &status, &err) < 0)
		fail_msg("save of sim:%s: %s", from_options, err.message);
	assert_int_equal(sim_state(from), VFMIG_STATE_STOP);
	assert_int_equal(status.phase, VFMIG_PHASE_DONE);
	assert_int_equal(status.total_bytes, stream.length);
	assert_int_equal(status.setup_bytes + status.precopy_bytes + status.stop_copy_bytes, stream.length);

	if (load_from(to, buffer_reader(stream.data, stream.length, piece), NULL, &status, &err) < 0)
		fail_msg("load into sim:%s: %s", to_options, err.message);
	assert_true(status.digest_verified);
	assert_int_equal(status.total_bytes, stream.length);
	assert_int_equal(sim_of(from)->work.step, sim_of(to)->work.step);
	assert_int_equal(sim_of(from)->work.chain, sim_of(to)->work.chain);
	assert_chain_intact(to, to_options);
	assert_works(to);
	buffer_free(&stream);
	vfmig_device_close(from);
	vfmig_device_close(to);
}

static void test_every_kind_of_section(void **state)
{
	static const char *const maps[] = { "map=mapped", "map=trapped", "map=mixed" };
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		for (size_t j = 0; j < 3; j++) {
			char from[128], to[128];
			snprintf(from, sizeof(from), SMALL ",%s", maps[i]);
			snprintf(to, sizeof(to), "size=256K,section=64K,rate=1,%s", maps[j]);
			move(from, to, 0);
		}
	}
}

static void test_narrow_accesses(void **state)
{
	(void)state;
	for (unsigned width = 8; width >= 1; width /= 2) {
		char from[128], to[128];
		snprintf(from, sizeof(from), SMALL ",map=mixed,access-width=%u", width);
		snprintf(to, sizeof(to), "size=256K,section=64K,rate=1,map=trapped,access-width=%u", width);
		move(from, to, 0);
	}
}

static void test_link_that_takes_little(void **state)
{
	(void)state;
	move("size=16K,section=4K,rate=1,start", "size=16K,section=4K,rate=1", 1);
	move(SMALL, "size=256K,section=64K,rate=1", 777);
}

static void test_without_precopy(void **state)
{
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_status status;
	struct vfmig_save_options opts = { .size = sizeof(opts), .no_precopy = true };
	(void)state;
	struct vfmig_device *d = open_sim(SMALL ",fault=errno@to-precopy");
	work(d, 3);
	if (save_to(d, buffer_writer(&stream, 0), &opts, &status, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(status.precopy_bytes, 0);
	assert_int_equal(status.rounds, 0);
	buffer_free(&stream);
	vfmig_device_close(d);
	move(SMALL ",precopy=no", "size=256K,section=64K,rate=1", 0);
}

static void set_bits(struct vfmig_device *d, enum vfmig_state state)
{
	struct vfmig_error err;
	if (d->protocol->ops->set_state(d->protocol, state, &err) < 0)
		fail_msg("%s", err.message);
}

static void test_stopped_device_is_saved_as_it_stands(void **state)
{
	struct buffer stream;
	struct vfmig_error err;
	(void)state;
	struct vfmig_device *d = open_sim(SMALL), *to = open_sim("size=256K,section=64K,rate=1");
	work(d, 7);
	set_bits(d, VFMIG_STATE_STOP);
	if (save_to(d, buffer_writer(&stream, 0), NULL, NULL, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(sim_state(d), VFMIG_STATE_STOP);
	struct vfmig_load_options opts = { .size = sizeof(opts), .no_start = true };
	if (load_from(to, buffer_file(stream.data, stream.length), &opts, NULL, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(sim_state(to), VFMIG_STATE_STOP);
	assert_chain_intact(to, "loaded stopped");
	assert_int_equal(sim_of(to)->work.step, 7);
	buffer_free(&stream);
	vfmig_device_close(d);
	vfmig_device_close(to);
}

static void test_busy_device_is_refused(void **state)
{
	struct buffer stream;
	struct vfmig_error err;
	(void)state;
	struct vfmig_device *d = open_sim(SMALL);
	set_bits(d, VFMIG_STATE_PRE_COPY);
	assert_int_equal(save_to(d, buffer_writer(&stream, 0), NULL, NULL, &err), -EBUSY);
	assert_non_null(strstr(err.message, "pre-copy"));
	assert_int_equal(sim_state(d), VFMIG_STATE_PRE_COPY);
	buffer_free(&stream);
	make_stream(SMALL, 1, &stream);
	assert_int_equal(load_from(d, buffer_reader(stream.data, stream.length, 0), NULL, NULL, &err), -EBUSY);
	assert_int_equal(sim_state(d), VFMIG_STATE_PRE_COPY);
	buffer_free(&stream);
	vfmig_device_close(d);
}

/* ------------------------------------------------------- shape of the stream */

/* One letter for each record of a stream's VFIO device: S P E F sections, and in them s(etup) d(ata) 0 (empty data)
 * c(onfig) . (end). */
struct shape {
	char text[4096];
	size_t length;
	struct vfio_parser parser;
};

static void add(struct shape *s, char c)
{
	if (c == 'd' && s->length && s->text[s->length - 1] == 'd')
		return; /* how many transactions is the device's affair */
	assert_true(s->length < sizeof(s->text) - 1);
	s->text[s->length++] = c;
}

static int shape_body(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
		      size_t *ret_used, struct vfmig_error *err)
{
	struct shape *s = opaque;
	struct vfio_event event;
	size_t n;
	int r;
	*ret_used = 0;
	while ((r = vfio_parser_next(&s->parser, section->offset + *ret_used, data + *ret_used, length - *ret_used, &n,
				     &event, err)) > 0) {
		*ret_used += n;
		if (event.kind == VFIO_EVENT_SETUP)
			add(s, 's');
		else if (event.kind == VFIO_EVENT_CONFIG)
			add(s, 'c');
		else if (event.kind == VFIO_EVENT_DATA_BEGIN)
			add(s, event.size ? 'd' : '0');
		else if (event.kind == VFIO_EVENT_END) {
			add(s, '.');
			return 1;
		}
	}
	return r;
}

static void read_shape(struct vfmig_link *link, struct shape *s)
{
	struct reader *reader;
	struct reader_record record;
	struct vfmig_error err;
	memset(s, 0, sizeof(*s));
	assert_int_equal(reader_new(link, &reader, &err), 0);
	do {
		int r = reader_next(reader, &record, &err);
		if (r < 0)
			fail_msg("%s", err.message);
		if (record.kind != READER_SECTION)
			continue;
		bool ours = strcmp(record.name, TEST_ID) == 0;
		if (ours)
			add(s, record.section.kind);
		while ((r = ours ? reader_feed(reader, shape_body, s, &err) : reader_skip(reader, &err)) > 0)
			;
		if (r < 0)
			fail_msg("%s", err.message);
	} while (record.kind != READER_END);
	reader_free(reader);
	vfmig_link_close(link);
}

/* In how many rounds a device had nothing to say is up to the memory beside it. */
static void join_empty_rounds(struct shape *s)
{
	for (char *at; (at = strstr(s->text, "P.P."));)
		memmove(at, at + 2, strlen(at + 2) + 1);
}

static void same_structure(const char *vector, const char *options, const char *expected)
{
	struct buffer qemu, ours;
	struct shape a, b;
	buffer_read_file(&qemu, vector);
	make_stream(options, 20, &ours);
	read_shape(buffer_file(qemu.data, qemu.length), &a);
	read_shape(buffer_file(ours.data, ours.length), &b);
	assert_string_equal(a.text, expected);
	join_empty_rounds(&a);
	join_empty_rounds(&b);
	assert_string_equal(b.text, a.text);
	buffer_free(&qemu);
	buffer_free(&ours);
}

static void test_same_structure_as_qemu(void **state)
{
	(void)state;
	same_structure(GOLDEN_DIR "/qemu-7.2-v1.stream", "size=256K,section=64K,rate=1,start,precopy=no",
		       "Ss.P0.Ed.Fc.");
	same_structure(GOLDEN_DIR "/qemu-10.0-v2-mtty.stream", "size=64K,interface=v2,rate=1,start",
		       "Ss.Pd.P.P.Ed.Fc.");
}

static void test_precopy_packets(void **state)
{
	struct buffer stream;
	struct shape s;
	(void)state;
	make_stream("size=256K,section=64K,rate=1,start", 20, &stream);
	read_shape(buffer_file(stream.data, stream.length), &s);
	/* 256 KiB and headers take five transactions of 64 KiB; then nothing is pending and pre-copy ends. */
	assert_string_equal(s.text, "Ss.Pd.Pd.Pd.Pd.Pd.Ed.Fc.");
	buffer_free(&stream);
}

/* ------------------------------------------------------------- QEMU's stream */

/* Where the body of the device's END section lies in the vector (tests/golden/README.md). */
#define QEMU_END_BODY 0x3c5f3u

static void test_qemu_stream_into_opaque_device(void **state)
{
	struct buffer qemu, again;
	struct vfmig_error err;
	struct vfmig_status status;
	(void)state;
	buffer_read_file(&qemu, GOLDEN_DIR "/qemu-7.2-v1.stream");
	static const char *const maps[] = { ",map=mapped", ",map=trapped", ",map=mixed" };
	for (size_t m = 0; m < 3; m++) {
		struct vfmig_device *d = open_for_qemu(&qemu, 256, maps[m]);
		if (load_from(d, buffer_file(qemu.data, qemu.length), NULL, &status, &err) < 0)
			fail_msg("%s", err.message);
		assert_false(status.digest_verified);
		const struct opaque *o = &sim_of(d)->region.opaque;
		assert_int_equal(o->count, 4);
		for (size_t i = 0; i < o->count; i++) {
			const uint8_t *packet = qemu.data + QEMU_END_BODY + i * (16 + 65536);
			assert_int_equal(get_be64(packet), WIRE_VFIO_DATA_STATE);
			assert_int_equal(get_be64(packet + 8), 65536);
			assert_int_equal(o->list[i].size, 65536);
			assert_memory_equal(o->list[i].data, packet + 16, 65536);
		}
		assert_int_equal(sim_state(d), VFMIG_STATE_RUNNING);
		/* And it gives them back as the same transactions. */
		if (save_to(d, buffer_writer(&again, 0), NULL, NULL, &err) < 0)
			fail_msg("%s", err.message);
		assert_non_null(memmem(again.data, again.length, o->list[3].data, 65536));
		buffer_free(&again);
		vfmig_device_close(d);
	}
	buffer_free(&qemu);
}

static void test_digest_can_be_required(void **state)
{
	struct buffer qemu;
	struct vfmig_error err;
	struct vfmig_load_options opts = { .size = sizeof(opts), .require_digest = true };
	(void)state;
	buffer_read_file(&qemu, GOLDEN_DIR "/qemu-7.2-v1.stream");
	struct vfmig_device *d = open_for_qemu(&qemu, 256, "");
	assert_int_equal(load_from(d, buffer_file(qemu.data, qemu.length), &opts, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "digest"));
	assert_int_equal(sim_state(d), VFMIG_STATE_RUNNING);
	buffer_free(&qemu);
	vfmig_device_close(d);
}

/* A byte that is another one arrives so; what is missing is found all the same. */
static void test_without_digests(void **state)
{
	struct buffer stream = { 0 };
	struct vfmig_error err;
	struct vfmig_status status;
	const struct vfmig_save_options opts = { .size = sizeof(opts), .no_digest = true, .no_precopy = true };
	const struct vfmig_load_options strict = { .size = sizeof(strict), .require_digest = true };
	(void)state;
	struct vfmig_device *d = open_sim("size=16K,section=64K,rate=1,start");
	work(d, 20);
	if (save_to(d, buffer_writer(&stream, 0), &opts, NULL, &err) < 0)
		fail_msg("%s", err.message);
	vfmig_device_close(d);

	d = open_sim("size=16K,section=64K,rate=1");
	assert_int_equal(load_from(d, buffer_file(stream.data, stream.length), &strict, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "was written with no digest"));
	if (load_from(d, buffer_file(stream.data, stream.length), NULL, &status, &err) < 0)
		fail_msg("%s", err.message);
	assert_false(status.digest_verified);
	assert_chain_intact(d, "without digests");
	/* The end, and a seal that is not the one of such a stream. */
	for (size_t cut = 1; cut < 40; cut++)
		assert_true(load_from(d, buffer_reader(stream.data, stream.length - cut, 0), NULL, NULL, &err) < 0);
	stream.data[stream.length - 10] = '1';
	assert_int_equal(load_from(d, buffer_file(stream.data, stream.length), NULL, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "the seal is wrong"));
	vfmig_device_close(d);
	buffer_free(&stream);
}

static void test_section_too_small(void **state)
{
	struct buffer stream;
	struct vfmig_error err;
	(void)state;
	make_stream(SMALL, 50, &stream);
	struct vfmig_device *d = open_sim("size=256K,section=16K,rate=1");
	assert_int_equal(load_from(d, buffer_reader(stream.data, stream.length, 0), NULL, NULL, &err), -EMSGSIZE);
	assert_non_null(strstr(err.message, "--split-transactions"));
	assert_int_equal(sim_state(d), VFMIG_STATE_RUNNING);
	assert_int_equal(sim_of(d)->work.step, 0);
	vfmig_device_close(d);
	d = open_sim("SPLIT,size=256K,section=16K,rate=1");
	if (load_from(d, buffer_reader(stream.data, stream.length, 0), NULL, NULL, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(sim_of(d)->work.step, 50);
	assert_chain_intact(d, "split");
	vfmig_device_close(d);
	buffer_free(&stream);
}

static void test_another_device_is_refused(void **state)
{
	struct buffer stream, qemu;
	struct vfmig_error err;
	(void)state;
	make_stream(SMALL, 1, &stream);
	buffer_read_file(&qemu, GOLDEN_DIR "/qemu-7.2-v1.stream");
	struct vfmig_device *d = open_for_qemu(&qemu, 256, "");
	buffer_free(&qemu);
	/* A file is refused before the device is touched, a pipe before the device runs. */
	assert_int_equal(load_from(d, buffer_file(stream.data, stream.length), NULL, NULL, &err), -EXDEV);
	assert_int_equal(sim_of(d)->region.opaque.count, 0);
	assert_int_equal(load_from(d, buffer_reader(stream.data, stream.length, 0), NULL, NULL, &err), -EXDEV);
	assert_int_equal(sim_of(d)->region.opaque.count, 0);
	assert_int_equal(sim_state(d), VFMIG_STATE_RUNNING);
	vfmig_device_close(d);
	buffer_free(&stream);
}

/* ---------------------------------------------------------- steps and cancel */

/* Cancels after every possible number of steps: the device is as before and the work goes on. */
static void test_cancel_at_every_step(void **state)
{
	struct vfmig_error err;
	(void)state;
	struct vfmig_device *d = open_sim("size=64K,section=16K,rate=1,start");
	unsigned steps = 0;
	for (;; steps++) {
		struct buffer stream;
		struct vfmig_save *save;
		struct vfmig_status status;
		struct vfmig_link *link = buffer_writer(&stream, 5000);
		work(d, 5);
		assert_int_equal(vfmig_save_new(link, NULL, &save, &err), 0);
		assert_int_equal(vfmig_save_add_device(save, d, TEST_ID, &err), 0);
		int r = 0;
		for (unsigned i = 0; i < steps && r != VFMIG_STEP_DONE; i++)
			assert_true((r = vfmig_save_step(save, &err)) >= 0);
		bool done = r == VFMIG_STEP_DONE;
		if (!done) {
			vfmig_save_cancel(save);
			assert_int_equal(vfmig_save_step(save, &err), -ECANCELED);
			vfmig_save_status(save, &status);
			assert_int_equal(status.phase, VFMIG_PHASE_CANCELLED);
			if (!status.source_may_run) { /* only when the end may be over there */
				assert_non_null(memmem(stream.data, stream.length, "\"seal\"", 6) ? stream.data : NULL);
				set_bits(d, VFMIG_STATE_RUNNING);
			}
			assert_works(d);
		}
		vfmig_save_free(save);
		vfmig_link_close(link);
		buffer_free(&stream);
		if (done)
			break;
	}
	assert_true(steps > 30);
	assert_int_equal(sim_state(d), VFMIG_STATE_STOP);
	vfmig_device_close(d);
}

/* A device that was stopped, because its VM was paused, stays stopped. */
static void test_cancel_leaves_a_stopped_device_stopped(void **state)
{
	struct vfmig_error err;
	(void)state;
	struct vfmig_device *d = open_sim("size=64K,section=16K,rate=1,start");
	work(d, 5);
	set_bits(d, VFMIG_STATE_STOP);
	for (unsigned steps = 1; steps < 25; steps++) {
		struct buffer stream;
		struct vfmig_save *save;
		struct vfmig_status status;
		struct vfmig_link *link = buffer_writer(&stream, 5000);
		assert_int_equal(vfmig_save_new(link, NULL, &save, &err), 0);
		assert_int_equal(vfmig_save_add_device(save, d, TEST_ID, &err), 0);
		for (unsigned i = 0; i < steps; i++)
			assert_true(vfmig_save_step(save, &err) >= 0);
		vfmig_save_cancel(save);
		assert_int_equal(vfmig_save_step(save, &err), -ECANCELED);
		vfmig_save_status(save, &status);
		assert_true(status.source_may_run);
		assert_int_equal(sim_state(d), VFMIG_STATE_STOP);
		assert_int_equal(sim_of(d)->work.step, 5);
		vfmig_save_free(save);
		vfmig_link_close(link);
		buffer_free(&stream);
	}
	assert_chain_intact(d, "cancelled");
	vfmig_device_close(d);
}

static void test_load_cancelled_at_every_step(void **state)
{
	struct buffer stream;
	struct vfmig_error err;
	bool done = false;
	(void)state;
	make_stream("size=64K,section=16K,rate=1,start", 100, &stream);
	for (unsigned steps = 0; !done; steps++) {
		struct vfmig_device *d = open_sim("size=64K,section=16K,rate=1,start,seed=5");
		struct vfmig_link *link = buffer_reader(stream.data, stream.length, 3000);
		struct vfmig_load *load;
		assert_int_equal(vfmig_load_new(link, NULL, &load, &err), 0);
		assert_int_equal(vfmig_load_add_device(load, d, NULL, &err), 0);
		int r = 0;
		for (unsigned i = 0; i < steps && r != VFMIG_STEP_DONE; i++)
			assert_true((r = vfmig_load_step(load, &err)) >= 0);
		done = r == VFMIG_STEP_DONE;
		bool started = sim_of(d)->loads > 0;
		if (!done && !started) {
			vfmig_load_cancel(load);
			assert_int_equal(vfmig_load_step(load, &err), -ECANCELED);
			assert_int_equal(sim_state(d), VFMIG_STATE_RUNNING);
			assert_int_equal(sim_of(d)->work.step, 0);
		}
		vfmig_load_free(load);
		vfmig_link_close(link);
		vfmig_device_close(d);
	}
	buffer_free(&stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_of_section),
		cmocka_unit_test(test_narrow_accesses),
		cmocka_unit_test(test_link_that_takes_little),
		cmocka_unit_test(test_without_precopy),
		cmocka_unit_test(test_stopped_device_is_saved_as_it_stands),
		cmocka_unit_test(test_busy_device_is_refused),
		cmocka_unit_test(test_same_structure_as_qemu),
		cmocka_unit_test(test_precopy_packets),
		cmocka_unit_test(test_qemu_stream_into_opaque_device),
		cmocka_unit_test(test_digest_can_be_required),
		cmocka_unit_test(test_without_digests),
		cmocka_unit_test(test_section_too_small),
		cmocka_unit_test(test_another_device_is_refused),
		cmocka_unit_test(test_cancel_at_every_step),
		cmocka_unit_test(test_cancel_leaves_a_stopped_device_stopped),
		cmocka_unit_test(test_load_cancelled_at_every_step),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
