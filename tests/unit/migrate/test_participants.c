/* SPDX-License-Identifier: BSD-3-Clause */
/* test_participants.c: what a VMM brings itself: which handler is called when, and what happens when one fails. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

#define SMALL "size=16K,section=64K,rate=1,start"

/* A participant that writes down what is asked of it, one word each: "name.call". */
struct diary {
	char text[4096];
};

struct vmm {
	struct diary *diary;
	const char *name;
	const char *fails_at;
	uint32_t value, loaded;
	unsigned iterations;
	bool second_piece;
	uint8_t big[100000];
};

static int called(struct vmm *v, const char *call, struct vfmig_error *err)
{
	size_t used = strlen(v->diary->text);
	snprintf(v->diary->text + used, sizeof(v->diary->text) - used, "%s.%s ", v->name, call);
	if (v->fails_at && strcmp(v->fails_at, call) == 0) {
		if (err) {
			snprintf(err->message, sizeof(err->message), "%s: no", v->name);
			err->code = -EPERM;
		}
		return -EPERM;
	}
	return 0;
}

static int save_setup(void *o, struct vfmig_writer *w, struct vfmig_error *err)
{
	vfmig_put_be16(w, 1);
	return called(o, "setup", err);
}

static int save_live_pending(void *o, bool exact, struct vfmig_pending *ret, struct vfmig_error *err)
{
	struct vmm *v = o;
	(void)exact;
	(void)err;
	*ret = (struct vfmig_pending) { .precopy_bytes = v->iterations < 2 ? UINT64_C(1) << 62 : 0 };
	return 0;
}

/* A length, then so many bytes from where they lie, in two pieces. */
static int save_live_iterate(void *o, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct vmm *v = o;
	if (!v->second_piece) {
		int r = called(v, "iterate", err);
		if (r < 0)
			return r;
		vfmig_put_be32(w, sizeof(v->big));
		vfmig_put_ref(w, v->big, sizeof(v->big) / 2);
		v->second_piece = true;
		return VFMIG_SECTION_MORE;
	}
	vfmig_put_ref(w, v->big + sizeof(v->big) / 2, sizeof(v->big) / 2);
	v->second_piece = false;
	v->iterations++;
	return VFMIG_SECTION_DONE;
}

static int save_live_complete_precopy(void *o, struct vfmig_writer *w, struct vfmig_error *err)
{
	vfmig_put_u8(w, 2);
	return called(o, "complete", err);
}

static int save_state(void *o, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct vmm *v = o;
	vfmig_put_be32(w, v->value);
	return called(o, "state", err);
}

static void save_cleanup(void *o)
{
	called(o, "cleanup", NULL);
}

static int load_setup(void *o, struct vfmig_error *err)
{
	return called(o, "load_setup", err);
}

static int load_state(void *o, const struct vfmig_section *section, const uint8_t *data, size_t length,
		      size_t *ret_used, struct vfmig_error *err)
{
	struct vmm *v = o;
	char call[] = "load?";
	call[4] = section->kind;
	size_t body = section->kind == 'S' ? 2 : section->kind == 'E' ? 1 : 4;
	*ret_used = 0;
	if (section->kind == 'P' && section->offset > section->body_offset) {
		size_t left = 4 + sizeof(v->big) - (section->offset - section->body_offset);
		*ret_used = length < left ? length : left;
		return *ret_used == left;
	}
	if (length < body)
		return 0;
	*ret_used = body;
	if (section->kind == 'F')
		v->loaded = get_be32(data);
	if (section->kind == 'P')
		assert_int_equal(get_be32(data), sizeof(v->big));
	int r = called(v, call, err);
	return r < 0 ? r : section->kind != 'P';
}

static int load_complete(void *o, struct vfmig_error *err)
{
	return called(o, "load_complete", err);
}
static void load_cleanup(void *o)
{
	called(o, "load_cleanup", NULL);
}
static int stop_prepare(void *o, struct vfmig_error *err)
{
	return called(o, "stop_prepare", err);
}
static int stop(void *o, struct vfmig_error *err)
{
	return called(o, "stop", err);
}
static int start_prepare(void *o, struct vfmig_error *err)
{
	return called(o, "start_prepare", err);
}
static int start(void *o, struct vfmig_error *err)
{
	return called(o, "start", err);
}
static int undo(void *o, struct vfmig_error *err)
{
	return called(o, "undo", err);
}

static const struct vfmig_participant_ops save_ops = {
	.size = sizeof(save_ops),
	.save_setup = save_setup,
	.save_live_pending = save_live_pending,
	.save_live_iterate = save_live_iterate,
	.save_live_complete_precopy = save_live_complete_precopy,
	.save_state = save_state,
	.save_cleanup = save_cleanup,
	.stop_prepare = stop_prepare,
	.stop = stop,
	.undo = undo,
};

static const struct vfmig_participant_ops load_ops = {
	.size = sizeof(load_ops),
	.load_setup = load_setup,
	.load_state = load_state,
	.load_complete = load_complete,
	.load_cleanup = load_cleanup,
	.start_prepare = start_prepare,
	.start = start,
	.undo = undo,
};

/* Two of the VMM's participants around a software device. */
static int save_three(struct vmm *a, struct vmm *b, struct vfmig_device *d, struct buffer *stream,
		      struct vfmig_error *err)
{
	struct vfmig_link *link = buffer_writer(stream, 0);
	struct vfmig_save *save;
	assert_int_equal(vfmig_save_new(link, NULL, &save, err), 0);
	assert_int_equal(vfmig_save_add_participant(save, &save_ops, a, "vcpus", 0, 3, err), 0);
	assert_int_equal(vfmig_save_add_device(save, d, TEST_ID, err), 0);
	assert_int_equal(vfmig_save_add_participant(save, &save_ops, b, "memory", 7, 4, err), 0);
	int r = vfmig_save_run(save, err);
	vfmig_save_free(save);
	vfmig_link_close(link);
	return r;
}

static int load_three(struct vmm *a, struct vmm *b, struct vfmig_device *d, const struct buffer *stream,
		      struct vfmig_error *err)
{
	struct vfmig_link *link = buffer_reader(stream->data, stream->length, 1000);
	struct vfmig_load *load;
	assert_int_equal(vfmig_load_new(link, NULL, &load, err), 0);
	assert_int_equal(vfmig_load_add_participant(load, &load_ops, a, "vcpus", 0, err), 0);
	assert_int_equal(vfmig_load_add_device(load, d, NULL, err), 0);
	assert_int_equal(vfmig_load_add_participant(load, &load_ops, b, "memory", 7, err), 0);
	int r = vfmig_load_run(load, err);
	vfmig_load_free(load);
	vfmig_link_close(link);
	return r;
}

static void test_order(void **state)
{
	struct diary diary = { "" };
	struct vmm a = { .diary = &diary, .name = "a", .value = 0x1234 },
		   b = { .diary = &diary, .name = "b", .value = 0x5678 };
	struct buffer stream;
	struct vfmig_error err;
	(void)state;
	struct vfmig_device *from = open_sim(SMALL), *to = open_sim(SMALL);
	work(from, 20);
	if (save_three(&a, &b, from, &stream, &err) < 0)
		fail_msg("%s", err.message);
	assert_string_equal(diary.text,
			    "a.setup b.setup a.iterate b.iterate a.iterate b.iterate a.stop_prepare b.stop_prepare "
			    "a.stop b.stop a.complete b.complete a.state b.state b.cleanup a.cleanup ");
	diary.text[0] = '\0';
	if (load_three(&a, &b, to, &stream, &err) < 0)
		fail_msg("%s", err.message);
	assert_string_equal(
	    diary.text,
	    "a.load_setup a.loadS b.load_setup b.loadS a.loadP b.loadP a.loadP b.loadP a.loadE b.loadE "
	    "a.loadF b.loadF a.load_complete b.load_complete a.start_prepare b.start_prepare a.start b.start "
	    "b.load_cleanup a.load_cleanup ");
	assert_int_equal(a.loaded, 0x1234);
	assert_int_equal(b.loaded, 0x5678);
	assert_int_equal(sim_of(to)->work.step, 20);
	buffer_free(&stream);
	vfmig_device_close(from);
	vfmig_device_close(to);
}

/* Whichever call fails: all that were set up are undone, last first, and the device works on. */
static void test_a_failing_participant(void **state)
{
	static const char *const calls[] = { "setup", "iterate", "stop_prepare", "stop", "complete", "state" };
	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct diary diary = { "" };
		struct vmm a = { .diary = &diary, .name = "a" },
			   b = { .diary = &diary, .name = "b", .fails_at = calls[i] };
		struct buffer stream;
		struct vfmig_error err;
		struct vfmig_device *d = open_sim(SMALL);
		assert_int_equal(save_three(&a, &b, d, &stream, &err), -EPERM);
		assert_string_equal(err.message, "b: no");
		const char *end = strstr(diary.text, "b.undo a.undo b.cleanup a.cleanup ");
		assert_non_null(end);
		assert_int_equal(strlen(end), strlen("b.undo a.undo b.cleanup a.cleanup "));
		assert_works(d);
		buffer_free(&stream);
		vfmig_device_close(d);
	}
}

static void test_a_failing_loader(void **state)
{
	static const char *const calls[] = { "load_setup", "loadS",	    "loadP",	     "loadE",
					     "loadF",	   "load_complete", "start_prepare", "start" };
	struct diary diary = { "" };
	struct vmm a = { .diary = &diary, .name = "a" }, b = { .diary = &diary, .name = "b" };
	struct buffer stream;
	struct vfmig_error err;
	(void)state;
	struct vfmig_device *from = open_sim(SMALL);
	work(from, 20);
	assert_int_equal(save_three(&a, &b, from, &stream, &err), 0);
	vfmig_device_close(from);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct vfmig_device *to = open_sim(SMALL);
		diary.text[0] = '\0';
		b.fails_at = calls[i];
		if (load_three(&a, &b, to, &stream, &err) != -EPERM)
			fail_msg("%s: %s", calls[i], err.message);
		assert_non_null(strstr(diary.text, "b.undo a.undo b.load_cleanup a.load_cleanup "));
		/* Also the device that had started already holds nothing of it. */
		assert_int_equal(sim_of(to)->work.step, 0);
		assert_int_equal(sim_of(to)->loads, 0);
		assert_int_equal(sim_state(to), VFMIG_STATE_RUNNING);
		vfmig_device_close(to);
	}
	buffer_free(&stream);
}

static void test_two_devices(void **state)
{
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_save *save;
	struct vfmig_load *load;
	(void)state;
	struct vfmig_device *from[2] = { open_sim(SMALL ",seed=1"), open_sim(SMALL ",seed=2") };
	struct vfmig_device *to[2] = { open_sim(SMALL), open_sim(SMALL) };
	work(from[0], 11);
	work(from[1], 22);
	struct vfmig_link *link = buffer_writer(&stream, 0);
	assert_int_equal(vfmig_save_new(link, NULL, &save, &err), 0);
	assert_int_equal(vfmig_save_add_device(save, from[0], "0000:00:01.0/vfio", &err), 0);
	assert_int_equal(vfmig_save_add_device(save, from[1], "0000:00:01.0/vfio", &err), -EEXIST);
	assert_int_equal(vfmig_save_add_device(save, from[1], "0000:00:02.0/vfio", &err), 0);
	if (vfmig_save_run(save, &err) < 0)
		fail_msg("%s", err.message);
	vfmig_save_free(save);
	vfmig_link_close(link);

	/* "The only device" there are two of: refused by name before anything is touched. */
	assert_int_equal(load_from(to[0], buffer_file(stream.data, stream.length), NULL, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.message, "0000:00:02.0/vfio"));
	assert_int_equal(sim_of(to[0])->loads, 0);

	link = buffer_reader(stream.data, stream.length, 0);
	assert_int_equal(vfmig_load_new(link, NULL, &load, &err), 0);
	assert_int_equal(vfmig_load_add_device(load, to[0], "0000:00:02.0/vfio", &err), 0);
	assert_int_equal(vfmig_load_add_device(load, to[1], "0000:00:01.0/vfio", &err), 0);
	if (vfmig_load_run(load, &err) < 0)
		fail_msg("%s", err.message);
	vfmig_load_free(load);
	vfmig_link_close(link);
	assert_int_equal(sim_of(to[0])->work.step, 22);
	assert_int_equal(sim_of(to[1])->work.step, 11);
	buffer_free(&stream);
	for (int i = 0; i < 2; i++) {
		assert_chain_intact(to[i], "two devices");
		vfmig_device_close(from[i]);
		vfmig_device_close(to[i]);
	}
}

static void test_missing_section(void **state)
{
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_load *load;
	(void)state;
	make_stream(SMALL, 3, &stream);
	struct vfmig_device *d = open_sim(SMALL);
	struct vfmig_link *link = buffer_reader(stream.data, stream.length, 0);
	assert_int_equal(vfmig_load_new(link, NULL, &load, &err), 0);
	assert_int_equal(vfmig_load_add_device(load, d, "0000:00:09.0/vfio", &err), 0);
	assert_int_equal(vfmig_load_run(load, &err), -ENOENT);
	assert_non_null(strstr(err.message, "0000:00:09.0/vfio"));
	vfmig_load_free(load);
	vfmig_link_close(link);
	vfmig_device_close(d);
	buffer_free(&stream);
}

static int put_too_much(void *o, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct vmm *v = o;
	(void)err;
	vfmig_put_bytes(w, v->big, sizeof(v->big));
	return VFMIG_SECTION_DONE;
}

static void test_misuse(void **state)
{
	static const struct vfmig_participant_ops greedy = { .size = sizeof(greedy), .save_state = put_too_much };
	struct diary diary = { "" };
	struct vmm a = { .diary = &diary, .name = "a" };
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_save *save;
	char long_id[300];
	(void)state;
	struct vfmig_link *link = buffer_writer(&stream, 0);

	/* An option struct of a later version of the library, used and not used. */
	struct {
		struct vfmig_save_options known;
		uint64_t later;
	} opts = { .known = { .size = sizeof(opts) } };
	assert_int_equal(vfmig_save_new(link, &opts.known, &save, &err), 0);
	vfmig_save_free(save);
	opts.later = 1;
	assert_int_equal(vfmig_save_new(link, &opts.known, &save, &err), -EINVAL);
	opts.known.size = 0;
	assert_int_equal(vfmig_save_new(link, &opts.known, &save, &err), -EINVAL);

	assert_int_equal(vfmig_save_new(link, NULL, &save, &err), 0);
	assert_int_equal(vfmig_save_step(save, &err), -EINVAL); /* nothing to save */
	memset(long_id, 'x', sizeof(long_id));
	long_id[sizeof(long_id) - 1] = '\0';
	assert_int_equal(vfmig_save_add_participant(save, &save_ops, &a, long_id, 0, 1, &err), -EINVAL);
	assert_int_equal(vfmig_save_add_participant(save, &greedy, &a, "greedy", 0, 1, &err), 0);
	assert_int_equal(vfmig_save_run(save, &err), -ENOBUFS);
	assert_int_equal(vfmig_save_add_participant(save, &greedy, &a, "late", 0, 1, &err), -EBUSY);
	vfmig_save_free(save);
	vfmig_link_close(link);
	buffer_free(&stream);
}

/* Sets that would leave a stream nobody can load, or something running that nobody can stop. */
static void test_sets_that_are_refused(void **state)
{
	static const struct vfmig_participant_ops refused[] = {
		{ .size = sizeof(refused[0]), .stop = stop },
		{ .size = sizeof(refused[0]), .start_prepare = start_prepare },
		{ .size = sizeof(refused[0]), .save_setup = save_setup },
		{ .size = sizeof(refused[0]), .save_live_complete_precopy = save_live_complete_precopy },
		{ .size = sizeof(refused[0]), .save_live_iterate = save_live_iterate },
	};
	struct diary diary = { "" };
	struct vmm a = { .diary = &diary, .name = "a" };
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_save *save;
	(void)state;
	struct vfmig_link *link = buffer_writer(&stream, 0);
	assert_int_equal(vfmig_save_new(link, NULL, &save, &err), 0);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_int_equal(vfmig_save_add_participant(save, &refused[i], &a, "a", 0, 1, &err), -EINVAL);
	assert_int_equal(vfmig_save_add_participant(save, &save_ops, &a, "", 0, 1, &err), -EINVAL);
	vfmig_save_free(save);
	vfmig_link_close(link);
}

/* vCPUs have no sections: they only stop and start; a stream that they come first in is marked all the same. */
static void test_without_sections(void **state)
{
	/* One table for both ways, as QEMU has them. */
	static const struct vfmig_participant_ops vcpus = {
		.size = sizeof(vcpus),
		.stop_prepare = stop_prepare,
		.save_cleanup = save_cleanup,
		.load_setup = load_setup,
		.load_cleanup = load_cleanup,
		.start = start,
		.undo = undo,
	};
	struct diary diary = { "" };
	struct vmm a = { .diary = &diary, .name = "a" };
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_save *save;
	struct vfmig_load *load;
	(void)state;
	struct vfmig_device *from = open_sim(SMALL), *to = open_sim(SMALL);
	struct vfmig_link *link = buffer_writer(&stream, 0);
	assert_int_equal(vfmig_save_new(link, NULL, &save, &err), 0);
	assert_int_equal(vfmig_save_add_participant(save, &vcpus, &a, "cpu", 0, 1, &err), 0);
	assert_int_equal(vfmig_save_add_device(save, from, TEST_ID, &err), 0);
	assert_int_equal(vfmig_save_run(save, &err), 0);
	vfmig_save_free(save);
	vfmig_link_close(link);
	assert_string_equal(diary.text, "a.stop_prepare a.cleanup ");
	diary.text[0] = '\0';
	link = buffer_reader(stream.data, stream.length, 0);
	assert_int_equal(vfmig_load_new(link, NULL, &load, &err), 0);
	assert_int_equal(vfmig_load_add_participant(load, &vcpus, &a, "cpu", 0, &err), 0);
	assert_int_equal(vfmig_load_add_device(load, to, NULL, &err), 0);
	if (vfmig_load_run(load, &err) < 0)
		fail_msg("%s", err.message);
	vfmig_load_free(load);
	vfmig_link_close(link);
	assert_string_equal(diary.text, "a.load_setup a.start a.load_cleanup ");
	buffer_free(&stream);
	vfmig_device_close(from);
	vfmig_device_close(to);
}

/* ------------------------------------------------------- a VMM's interrupts */

static int get_interrupts(void *o, struct vfmig_interrupts *i, struct vfmig_error *err)
{
	(void)o;
	(void)err;
	assert_true(i->msix_vectors > 0);
	assert_int_equal(i->msix_table[12], 1); /* comes masked */
	i->intx_levels[2] = 1;
	memset(i->msix_table, 0x5a, 16);
	i->msix_pending[0] = 1;
	return 0;
}

static int set_interrupts(void *o, const struct vfmig_interrupts *i, struct vfmig_error *err)
{
	unsigned *n = o;
	(void)err;
	assert_int_equal(i->intx_levels[0], 0);
	assert_int_equal(i->intx_levels[2], 1);
	assert_int_equal(i->msix_table[0], 0x5a);
	assert_int_equal(i->msix_table[15], 0x5a);
	assert_int_equal(i->msix_table[28], 1);
	assert_int_equal(i->msix_pending[0], 1);
	++*n;
	return 0;
}

static void count_warnings(void *o, enum vfmig_log_level level, const char *line)
{
	unsigned *n = o;
	*n += level == VFMIG_LOG_WARNING && strstr(line, "interrupt");
}

static void test_interrupt_state(void **state)
{
	static const struct vfmig_interrupt_ops ops = { sizeof(ops), get_interrupts, set_interrupts };
	struct buffer stream;
	struct vfmig_error err;
	unsigned taken = 0, warned = 0;
	(void)state;
	struct vfmig_device *from = open_sim(SMALL), *to = open_sim(SMALL);
	vfmig_device_set_interrupt_ops(from, &ops, NULL);
	assert_int_equal(save_to(from, buffer_writer(&stream, 0), NULL, NULL, &err), 0);
	vfmig_device_set_interrupt_ops(to, &ops, &taken);
	if (load_from(to, buffer_reader(stream.data, stream.length, 0), NULL, NULL, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(taken, 1);
	/* Nobody takes them: said aloud. */
	struct vfmig_load_options opts = { .size = sizeof(opts), .log = count_warnings, .log_opaque = &warned };
	vfmig_device_set_interrupt_ops(to, NULL, NULL);
	assert_int_equal(load_from(to, buffer_reader(stream.data, stream.length, 0), &opts, NULL, &err), 0);
	assert_int_equal(warned, 1);
	buffer_free(&stream);
	vfmig_device_close(from);
	vfmig_device_close(to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_a_failing_participant),
		cmocka_unit_test(test_a_failing_loader),
		cmocka_unit_test(test_two_devices),
		cmocka_unit_test(test_missing_section),
		cmocka_unit_test(test_misuse),
		cmocka_unit_test(test_sets_that_are_refused),
		cmocka_unit_test(test_without_sections),
		cmocka_unit_test(test_interrupt_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
