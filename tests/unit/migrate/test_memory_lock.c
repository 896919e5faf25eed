/* SPDX-License-Identifier: BSD-3-Clause */
/* test_memory_lock.c: one file as the memory of both sides is refused, whatever else shares a file is not. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define BYTES ((uint64_t)16 * PAGE)

/* A memory of one block, of a file that is opened anew by whoever has it, as by another program. */
static struct vfmig_memory *memory_of(int fd, uint64_t offset, uint64_t length)
{
	struct vfmig_memory *m;
	struct vfmig_error err;
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int own = open(path, O_RDWR | O_CLOEXEC);
	assert_true(own >= 0);
	if (vfmig_memory_new(&m, &err) < 0 || vfmig_memory_add_fd(m, "ram", own, offset, length, &err) < 0)
		fail_msg("%s", err.message);
	close(own);
	return m;
}

/* Adds both to a save or a load each, which are there at the same time; what the second one was answered. */
static int both(struct vfmig_memory *first, bool first_loads, struct vfmig_memory *second, bool second_loads,
		struct vfmig_error *err)
{
	struct vfmig_memory *memory[] = { first, second };
	const bool loads[] = { first_loads, second_loads };
	struct vfmig_save *save[2] = { NULL, NULL };
	struct vfmig_load *load[2] = { NULL, NULL };
	struct vfmig_link *link[2];
	struct buffer stream[2] = { 0 };
	int r = 0;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(r, 0);
		link[i] = loads[i] ? buffer_reader((const uint8_t *)"x", 1, 0) : buffer_writer(&stream[i], 0);
		if (loads[i])
			assert_int_equal(vfmig_load_new(link[i], NULL, &load[i], err), 0);
		else
			assert_int_equal(vfmig_save_new(link[i], NULL, &save[i], err), 0);
		r = loads[i] ? vfmig_load_add_memory(load[i], memory[i], err) :
			       vfmig_save_add_memory(save[i], memory[i], err);
	}
	for (int i = 0; i < 2; i++) {
		vfmig_save_free(save[i]);
		vfmig_load_free(load[i]);
		vfmig_link_close(link[i]);
		buffer_free(&stream[i]);
	}
	return r;
}

/* The same file on both sides: a load would write old pages over what the device has just written. */
static void one_file_is_not_saved_and_loaded_at_once(void **state)
{
	struct vfmig_error err;
	(void)state;
	int fd = memfd_create("ram", MFD_CLOEXEC), other = memfd_create("ram", MFD_CLOEXEC);
	assert_true(ftruncate(fd, (off_t)BYTES) == 0 && ftruncate(other, (off_t)BYTES) == 0);
	struct vfmig_memory *a = memory_of(fd, 0, BYTES), *b = memory_of(fd, 0, BYTES);
	assert_int_equal(both(a, true, b, false, &err), -EBUSY);
	assert_non_null(strstr(err.message, "\"ram\": a load into the same memory is under way"));
	assert_non_null(strstr(err.message, "leave the memory out on both sides"));
	assert_int_equal(both(a, false, b, true, &err), -EBUSY);
	assert_non_null(strstr(err.message, "a save of the same memory is under way"));
	assert_int_equal(both(a, true, b, true, &err), -EBUSY);
	assert_non_null(strstr(err.message, "another load into the same memory"));
	assert_int_equal(both(a, true, a, false, &err), -EBUSY); /* of one VMM, by one fd */
	assert_int_equal(both(a, false, b, false, &err), 0);
	vfmig_memory_free(b);
	b = memory_of(other, 0, BYTES);
	assert_int_equal(both(a, true, b, false, &err), 0);
	vfmig_memory_free(b);

	/* Parts of a file are memory of their own, whatever each of them is for. */
	vfmig_memory_free(a);
	a = memory_of(fd, 0, BYTES / 2);
	b = memory_of(fd, BYTES / 2, BYTES / 2);
	assert_int_equal(both(a, true, b, true, &err), 0);
	assert_int_equal(both(a, true, b, false, &err), 0);
	vfmig_memory_free(b);
	b = memory_of(fd, BYTES / 2 - PAGE, PAGE);
	assert_int_equal(both(a, true, b, false, &err), -EBUSY);
	vfmig_memory_free(a);
	vfmig_memory_free(b);
	close(fd);
	close(other);
}

/* What is over keeps nobody out, while whoever drove it still has it. */
static void memory_that_was_loaded_is_saved_on(void **state)
{
	struct buffer stream = { 0 }, again = { 0 };
	struct vfmig_error err = { 0 };
	struct vfmig_save *save[2];
	struct vfmig_load *load;
	(void)state;
	int fd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, (off_t)BYTES), 0);
	assert_int_equal(pwrite(fd, "some", 4, PAGE), 4);
	struct vfmig_memory *memory = memory_of(fd, 0, BYTES);
	struct vfmig_link *out = buffer_writer(&stream, 0), *further = buffer_writer(&again, 0);
	assert_int_equal(vfmig_save_new(out, NULL, &save[0], &err), 0);
	assert_int_equal(vfmig_save_add_memory(save[0], memory, &err), 0);
	if (vfmig_save_run(save[0], &err) < 0)
		fail_msg("%s", err.message);
	struct vfmig_link *in = buffer_reader(stream.data, stream.length, 0);
	assert_int_equal(vfmig_load_new(in, NULL, &load, &err), 0);
	assert_int_equal(vfmig_load_add_memory(load, memory, &err), 0);
	assert_int_equal(vfmig_load_add_memory(load, memory, &err), -EEXIST);
	if (vfmig_load_run(load, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(vfmig_save_new(further, NULL, &save[1], &err), 0);
	assert_int_equal(vfmig_save_add_memory(save[1], memory, &err), 0);
	if (vfmig_save_run(save[1], &err) < 0)
		fail_msg("%s", err.message);
	vfmig_save_free(save[0]);
	vfmig_save_free(save[1]);
	vfmig_load_free(load);
	vfmig_link_close(out);
	vfmig_link_close(further);
	vfmig_link_close(in);
	vfmig_memory_free(memory);
	buffer_free(&stream);
	buffer_free(&again);
	close(fd);
}

/* A device's memory, say: it is not opened a second time, and goes without a lock. */
static void what_is_no_file_goes_without(void **state)
{
	struct vfmig_error err;
	struct vfmig_memory *a, *b;
	static uint8_t plain[PAGE];
	(void)state;
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_int_equal(vfmig_memory_new(&a, &err), 0);
	assert_int_equal(vfmig_memory_new(&b, &err), 0);
	assert_int_equal(vfmig_memory_add_fd(a, "ram", zero, 0, PAGE, &err), 0);
	assert_int_equal(vfmig_memory_add_fd(b, "ram", zero, 0, PAGE, &err), 0);
	assert_int_equal(vfmig_memory_add(a, "plain", plain, PAGE, &err), 0);
	assert_int_equal(vfmig_memory_add(b, "plain", plain, PAGE, &err), 0);
	assert_int_equal(both(a, true, b, false, &err), 0);
	vfmig_memory_free(a);
	vfmig_memory_free(b);
	close(zero);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_file_is_not_saved_and_loaded_at_once),
		cmocka_unit_test(memory_that_was_loaded_is_saved_on),
		cmocka_unit_test(what_is_no_file_goes_without),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
