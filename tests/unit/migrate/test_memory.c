/* SPDX-License-Identifier: BSD-3-Clause */
/* test_memory.c: guest memory moves with the device that writes it; what does not fit is refused before a page is. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "stream/wire.h"

#define PAGE 4096u
#define PAGES 64u
#define BYTES ((uint64_t)PAGES * PAGE)
#define SIM "size=16K,section=64K,rate=1,start,scatter,log=0x10000/64,seed=7"
#define IOVA 0x10000u

/* One side: a device and the memory that it writes. */
struct side {
	struct vfmig_device *device;
	struct vfmig_memory *memory;
	uint8_t *ram;
	char told[4096];
};

static void tell(void *opaque, enum vfmig_log_level level, const char *line)
{
	struct side *s = opaque;
	size_t used = strlen(s->told);
	if (level == VFMIG_LOG_WARNING)
		snprintf(s->told + used, sizeof(s->told) - used, "%s\n", line);
}

static void side_open(struct side *s, const char *options, const char *name, uint64_t bytes)
{
	struct vfmig_error err = { 0 };
	int fd = memfd_create("ram", MFD_CLOEXEC);
	*s = (struct side) { .device = open_sim(options) };
	assert_true(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	s->ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(s->ram, MAP_FAILED);
	if (vfmig_memory_new(&s->memory, &err) < 0 ||
	    vfmig_memory_add_fd(s->memory, name, fd, 0, bytes, &err) < 0 ||
	    vfmig_memory_set_iova(s->memory, name, 0, bytes, IOVA, &err) < 0 ||
	    vfmig_memory_map(s->memory, s->device, &err) < 0)
		fail_msg("%s", err.message);
	close(fd);
}

static void side_close(struct side *s, uint64_t bytes)
{
	vfmig_memory_free(s->memory);
	vfmig_device_close(s->device);
	munmap(s->ram, bytes);
}

static int save_side(struct side *s, struct vfmig_link *link, bool no_precopy, bool step_work,
		     struct vfmig_status *ret, struct vfmig_error *err)
{
	const struct vfmig_save_options opts = { .size = sizeof(opts), .no_precopy = no_precopy, .log = tell,
						 .log_opaque = s };
	struct vfmig_save *save;
	int r = vfmig_save_new(link, &opts, &save, err);
	assert_int_equal(r, 0);
	assert_int_equal(vfmig_save_add_memory(save, s->memory, err), 0);
	assert_int_equal(vfmig_save_add_device(save, s->device, TEST_ID, err), 0);
	do {
		vfmig_save_status(save, ret);
		if (step_work && ret->phase == VFMIG_PHASE_PRECOPY && ret->dirty_syncs < 3)
			sim_device_steps(sim_of(s->device), 1);
		r = vfmig_save_step(save, err);
	} while (r == VFMIG_STEP_AGAIN || r == VFMIG_STEP_WAIT);
	vfmig_save_status(save, ret);
	vfmig_save_free(save);
	return r;
}

static int load_side(struct side *s, struct vfmig_link *link, struct vfmig_status *ret, struct vfmig_error *err)
{
	const struct vfmig_load_options opts = { .size = sizeof(opts), .no_start = true, .log = tell, .log_opaque = s };
	struct vfmig_load *load;
	assert_int_equal(vfmig_load_new(link, &opts, &load, err), 0);
	assert_int_equal(vfmig_load_add_memory(load, s->memory, err), 0);
	assert_int_equal(vfmig_load_add_device(load, s->device, NULL, err), 0);
	int r = vfmig_load_run(load, err);
	vfmig_load_status(load, ret);
	vfmig_load_free(load);
	return r;
}

static void save_to_buffer(struct side *s, bool no_precopy, bool step_work, struct buffer *b, struct vfmig_status *ret)
{
	struct vfmig_error err = { 0 };
	struct vfmig_link *link = buffer_writer(b, 30000);
	if (save_side(s, link, no_precopy, step_work, ret, &err) != VFMIG_STEP_DONE)
		fail_msg("%s", err.message);
	vfmig_link_close(link);
}

static int load_from_buffer(struct side *s, const struct buffer *b, bool file, struct vfmig_status *ret,
			    struct vfmig_error *err)
{
	struct vfmig_link *link = file ? buffer_file(b->data, b->length) : buffer_reader(b->data, b->length, 5000);
	int r = load_side(s, link, ret, err);
	vfmig_link_close(link);
	return r;
}

/* At work during the move, so that pages are written between the rounds. */
static void move(const char *interface, bool no_precopy)
{
	char options[128];
	struct side a, b;
	struct buffer stream = { 0 };
	struct vfmig_status saved, loaded;
	struct vfmig_error err = { 0 };
	snprintf(options, sizeof(options), SIM ",interface=%s", interface);
	side_open(&a, options, "ram", BYTES);
	side_open(&b, options, "ram", BYTES);
	assert_int_equal(vfmig_memory_add_device(a.memory, a.device, NULL), 0);
	memset(b.ram + 5 * PAGE, 0xee, PAGE); /* a zero page has to end this */
	work(a.device, 20);
	memset(a.ram + 5 * PAGE, 0, PAGE);
	memcpy(a.ram + 63 * PAGE + 4090, "as it was", 6);
	save_to_buffer(&a, no_precopy, !no_precopy, &stream, &saved);
	if (load_from_buffer(&b, &stream, false, &loaded, &err) < 0)
		fail_msg("%s", err.message);
	assert_memory_equal(a.ram, b.ram, BYTES);
	assert_string_equal(a.told, "");
	assert_int_equal(saved.memory_pages, loaded.memory_pages);
	assert_int_equal(saved.memory_zero_pages, loaded.memory_zero_pages);
	assert_in_range(saved.memory_zero_pages, 10, PAGES);
	if (no_precopy)
		assert_int_equal(saved.memory_pages + saved.memory_zero_pages, PAGES);
	else
		assert_in_range(saved.memory_pages + saved.memory_zero_pages, PAGES + 1, 4 * PAGES);
	assert_in_range(saved.dirty_syncs, no_precopy ? 0 : 2, no_precopy ? 0 : 100);
	buffer_free(&stream);
	side_close(&a, BYTES);
	side_close(&b, BYTES);
}

static void memory_moves_with_a_device_at_work(void **state)
{
	(void)state;
	move("v2", false);
	move("v1", false);
}

static void stopped_first_nothing_is_logged(void **state)
{
	(void)state;
	move("v2", true);
	move("v1", true);
}

static void without_a_log_it_is_sent_when_stopped(void **state)
{
	struct side a, b;
	struct buffer stream = { 0 };
	struct vfmig_status saved, loaded;
	struct vfmig_error err = { 0 };
	(void)state;
	side_open(&a, SIM ",interface=v2,dirty-log=no", "ram", BYTES);
	side_open(&b, SIM ",interface=v2", "ram", BYTES);
	assert_int_equal(vfmig_memory_add_device(a.memory, a.device, NULL), 0);
	save_to_buffer(&a, false, true, &stream, &saved);
	assert_non_null(strstr(a.told, "nobody logs which pages it writes"));
	assert_int_equal(saved.memory_pages + saved.memory_zero_pages, PAGES);
	if (load_from_buffer(&b, &stream, false, &loaded, &err) < 0)
		fail_msg("%s", err.message);
	assert_memory_equal(a.ram, b.ram, BYTES);
	buffer_free(&stream);
	side_close(&a, BYTES);
	side_close(&b, BYTES);
}

/* A page that the log does not tell of is the only one that does not arrive as it is. */
static void a_lost_page_is_stale(void **state)
{
	struct side a, b;
	struct buffer stream = { 0 };
	struct vfmig_status saved, loaded;
	struct vfmig_error err = { 0 };
	unsigned stale = 0;
	(void)state;
	side_open(&a, SIM ",interface=v2", "ram", BYTES);
	side_open(&b, SIM ",interface=v2", "ram", BYTES);
	/* nobody follows the device */
	work(a.device, 20);
	save_to_buffer(&a, false, true, &stream, &saved);
	if (load_from_buffer(&b, &stream, false, &loaded, &err) < 0)
		fail_msg("%s", err.message);
	for (unsigned i = 0; i < PAGES; i++)
		stale += memcmp(a.ram + i * PAGE, b.ram + i * PAGE, PAGE) != 0;
	assert_in_range(stale, 1, PAGES);
	buffer_free(&stream);
	side_close(&a, BYTES);
	side_close(&b, BYTES);
}

/* ---------------------------------------------------------- the caller's own */

struct vmm {
	uint8_t *ram;
	unsigned syncs;
	bool tells;
};

/* Writes a page each time before it tells of it. */
static int vmm_sync(void *opaque, struct vfmig_memory *memory, struct vfmig_error *err)
{
	struct vmm *v = opaque;
	uint64_t bitmap[1] = { 0 };
	if (++v->syncs > 4)
		return 0;
	v->ram[v->syncs * PAGE] = (uint8_t)v->syncs;
	v->ram[(v->syncs + 10) * PAGE] = (uint8_t)v->syncs;
	if (!v->tells)
		return 0;
	bitmap[0] = UINT64_C(1) << v->syncs;
	int r = vfmig_memory_merge_dirty(memory, "mine", 0, BYTES, PAGE, bitmap, err);
	return r < 0 ? r : vfmig_memory_set_dirty(memory, "mine", (v->syncs + 10) * PAGE, 1, err);
}

static void caller_tells(bool tells)
{
	struct vmm vmm = { .tells = tells };
	const struct vfmig_dirty_ops ops = { .size = sizeof(ops), .sync = vmm_sync };
	struct side a, b;
	struct buffer stream = { 0 };
	struct vfmig_status saved, loaded;
	struct vfmig_error err = { 0 };
	side_open(&a, SIM ",interface=v2", "ram", BYTES);
	side_open(&b, SIM ",interface=v2", "ram", BYTES);
	uint8_t *to = calloc(1, BYTES);
	vmm.ram = calloc(1, BYTES);
	assert_int_equal(vfmig_memory_add(a.memory, "mine", vmm.ram, BYTES, NULL), 0);
	assert_int_equal(vfmig_memory_add(b.memory, "mine", to, BYTES, NULL), 0);
	assert_int_equal(vfmig_memory_add_dirty_ops(a.memory, &ops, &vmm, NULL), 0);
	save_to_buffer(&a, false, false, &stream, &saved);
	if (load_from_buffer(&b, &stream, true, &loaded, &err) < 0)
		fail_msg("%s", err.message);
	assert_true(vmm.syncs >= 2);
	assert_int_equal(memcmp(vmm.ram, to, BYTES) == 0, tells);
	buffer_free(&stream);
	side_close(&a, BYTES);
	side_close(&b, BYTES);
	free(vmm.ram);
	free(to);
}

static void what_the_caller_tells_arrives(void **state)
{
	(void)state;
	caller_tells(true);
	caller_tells(false);
}

/* --------------------------------------------------------------- refusals */

static void assert_refused(struct buffer *stream, struct side *b, bool file, int code, const char *message)
{
	struct vfmig_status loaded;
	struct vfmig_error err = { 0 };
	uint8_t *before = malloc(BYTES);
	memset(b->ram, 0x5a, BYTES);
	memcpy(before, b->ram, BYTES);
	assert_int_equal(load_from_buffer(b, stream, file, &loaded, &err), code);
	if (!strstr(err.message, message))
		fail_msg("\"%s\" is not in \"%s\"", message, err.message);
	assert_memory_equal(b->ram, before, BYTES);
	free(before);
}

static void stream_of(struct buffer *stream)
{
	struct side a;
	struct vfmig_status saved;
	side_open(&a, SIM ",interface=v2", "ram", BYTES);
	work(a.device, 20);
	save_to_buffer(&a, true, false, stream, &saved);
	side_close(&a, BYTES);
}

static void blocks_that_do_not_fit_are_listed(void **state)
{
	struct buffer stream = { 0 };
	struct side b;
	(void)state;
	stream_of(&stream);
	side_open(&b, SIM ",interface=v2", "other", BYTES);
	assert_int_equal(vfmig_memory_add(b.memory, "ram", b.ram, BYTES / 2, NULL), 0);
	assert_refused(&stream, &b, false, -EINVAL,
		       "block \"ram\" has 0x40000 bytes in the stream and 0x20000 here (and 1 more)");
	assert_non_null(strstr(b.told, "block \"other\" is not in the stream"));
	side_close(&b, BYTES);

	side_open(&b, SIM ",interface=v2", "other", BYTES);
	assert_refused(&stream, &b, true, -EINVAL, "block \"ram\" (0x40000 bytes) has no memory here");
	side_close(&b, BYTES);
	buffer_free(&stream);
}

static void a_block_that_is_skipped_is_passed_over(void **state)
{
	struct buffer stream = { 0 };
	struct side a, b;
	struct vfmig_status saved, loaded;
	struct vfmig_error err = { 0 };
	uint8_t *rom = calloc(1, BYTES);
	(void)state;
	memset(rom, 1, BYTES);
	side_open(&a, SIM ",interface=v2", "ram", BYTES);
	assert_int_equal(vfmig_memory_add(a.memory, "rom", rom, BYTES, NULL), 0);
	work(a.device, 20);
	save_to_buffer(&a, false, false, &stream, &saved);
	side_open(&b, SIM ",interface=v2", "ram", BYTES);
	assert_int_equal(vfmig_memory_skip(b.memory, "rom", NULL), 0);
	if (load_from_buffer(&b, &stream, false, &loaded, &err) < 0)
		fail_msg("%s", err.message);
	assert_memory_equal(a.ram, b.ram, BYTES);
	buffer_free(&stream);
	free(rom);
	side_close(&a, BYTES);
	side_close(&b, BYTES);
}

static void put_word(struct buffer *b, uint64_t word)
{
	uint8_t bytes[8];
	put_be64(bytes, word);
	buffer_append(b, bytes, sizeof(bytes));
}

static void put_page(struct buffer *b, uint64_t header, const char *block, uint8_t with)
{
	uint8_t page[PAGE];
	memset(page, with, sizeof(page));
	put_word(b, header);
	if (block)
		buffer_append(b, block, strlen(block));
	buffer_append(b, page, header & WIRE_RAM_ZERO ? 1 : sizeof(page));
}

#define RAM_END "\0\0\0\0\0\0\0\x10\x7e\0\0\0\2"

/* As a QEMU writes it: what the page before was of is not said again, in whatever section that was. */
static void the_same_block_goes_on_in_another_section(void **state)
{
	static const char head[] = "QEVM\0\0\0\3\7\0\0\0\2pc"
				   "\1\0\0\0\2\3ram\0\0\0\0\0\0\0\4",
			  list[] = "\3ram\0\0\0\0\0\4\0\0" RAM_END "\2\0\0\0\2",
			  part[] = RAM_END "\2\0\0\0\2", last[] = RAM_END "\3\0\0\0\2" RAM_END "\0";
	struct buffer stream = { 0 };
	struct vfmig_error err = { 0 };
	struct vfmig_load *load;
	struct side b;
	(void)state;
	buffer_append(&stream, head, sizeof(head) - 1);
	put_word(&stream, BYTES | WIRE_RAM_MEM_SIZE);
	buffer_append(&stream, list, sizeof(list) - 1);
	put_page(&stream, WIRE_RAM_PAGE, "\3ram", 1);
	buffer_append(&stream, part, sizeof(part) - 1);
	put_page(&stream, 3 * PAGE | WIRE_RAM_PAGE | WIRE_RAM_CONTINUE, NULL, 3);
	put_page(&stream, 4 * PAGE | WIRE_RAM_ZERO | WIRE_RAM_CONTINUE, NULL, 4);
	buffer_append(&stream, last, sizeof(last) - 1);
	side_open(&b, SIM ",interface=v2", "ram", BYTES);
	struct vfmig_link *link = buffer_reader(stream.data, stream.length, 1000);
	assert_int_equal(vfmig_load_new(link, NULL, &load, &err), 0);
	assert_int_equal(vfmig_load_add_memory(load, b.memory, &err), 0);
	if (vfmig_load_run(load, &err) < 0)
		fail_msg("%s", err.message);
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(b.ram[i * PAGE + PAGE - 1], i == 0 ? 1 : i == 3 || i == 4 ? i : 0);
	vfmig_load_free(load);
	vfmig_link_close(link);
	side_close(&b, BYTES);
	buffer_free(&stream);
}

/* Where the first page's header stands: behind the list of the one block. */
static size_t find_page(const struct buffer *b)
{
	const uint8_t list[] = { 3, 'r', 'a', 'm' };
	const uint8_t *at = memmem(b->data, b->length, list, sizeof(list)); /* the section's id */
	at = memmem(at + 4, b->length - (size_t)(at + 4 - b->data), list, sizeof(list)); /* the block in the list */
	at = memmem(at + 4, b->length - (size_t)(at + 4 - b->data), list, sizeof(list)); /* the first page's block */
	assert_non_null(at);
	return (size_t)(at - b->data) - 8;
}

/* With one packet changed. Found by a check of the file before anything is touched. */
static void what_no_saver_writes_is_refused(void **state)
{
	static const struct {
		uint64_t header;
		int code;
		const char *message;
	} cases[] = {
		{ BYTES | WIRE_RAM_PAGE, -EBADMSG, "a page at 0x40000 of block \"ram\", which has 0x40000 bytes" },
		{ UINT64_MAX << 12 | WIRE_RAM_PAGE, -EBADMSG, "a page at 0xfffffffffffff000 of block" },
		{ WIRE_RAM_PAGE | WIRE_RAM_CONTINUE, -EBADMSG, "a page of the same block before any block" },
		{ PAGE | WIRE_RAM_MEM_SIZE, -EBADMSG, "a second list of blocks" },
		{ WIRE_RAM_XBZRLE, -EOPNOTSUPP, "switch the capability xbzrle off" },
		{ WIRE_RAM_COMPRESS, -EOPNOTSUPP, "switch the capability compress off" },
		{ WIRE_RAM_MULTIFD_FLUSH, -EOPNOTSUPP, "switch the capability multifd off" },
		{ WIRE_RAM_HOOK, -EOPNOTSUPP, "RDMA" },
		{ 0x400, -EBADMSG, "unknown flags 0x400" },
		{ WIRE_RAM_PAGE | WIRE_RAM_ZERO, -EBADMSG, "unknown flags 0xa" },
		{ 0, -EBADMSG, "unknown flags 0x0" },
	};
	struct buffer stream = { 0 };
	struct side b;
	(void)state;
	stream_of(&stream);
	side_open(&b, SIM ",interface=v2", "ram", BYTES);
	size_t at = find_page(&stream);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t before[8];
		memcpy(before, stream.data + at, 8);
		put_be64(stream.data + at, cases[i].header);
		assert_refused(&stream, &b, true, cases[i].code, cases[i].message);
		memcpy(stream.data + at, before, 8);
	}
	stream.data[at + 9] = 'R'; /* the block's name */
	assert_refused(&stream, &b, true, -EBADMSG, "a page of block \"Ram\", which was not listed");
	side_close(&b, BYTES);
	buffer_free(&stream);
}

/* A byte of a page that is another one, and every length that is too short. */
static void damage_is_found_before_a_page_is_loaded(void **state)
{
	struct buffer stream = { 0 };
	struct side b;
	(void)state;
	stream_of(&stream);
	side_open(&b, SIM ",interface=v2", "ram", BYTES);
	size_t at = find_page(&stream), length = stream.length;
	stream.data[at + 8 + 4 + 1000] ^= 1;
	assert_refused(&stream, &b, true, -EBADMSG, "the seal is wrong");
	stream.data[at + 8 + 4 + 1000] ^= 1;
	for (size_t n = at - 60; n < at + 20; n++) {
		stream.length = n;
		assert_refused(&stream, &b, true, -EBADMSG, "");
	}
	stream.length = length;
	side_close(&b, BYTES);
	buffer_free(&stream);
}

static void nonsense_is_refused(void **state)
{
	struct side a;
	struct buffer stream = { 0 };
	struct vfmig_error err = { 0 };
	struct vfmig_save *save;
	char name[300];
	(void)state;
	memset(name, 'x', 299);
	name[299] = '\0';
	side_open(&a, SIM ",interface=v2", "ram", BYTES);
	assert_int_equal(vfmig_memory_add(a.memory, "ram", a.ram, BYTES, &err), -EEXIST);
	assert_int_equal(vfmig_memory_add(a.memory, name, a.ram, BYTES, &err), -EINVAL);
	assert_int_equal(vfmig_memory_add(a.memory, "", a.ram, BYTES, &err), -EINVAL);
	assert_int_equal(vfmig_memory_add(a.memory, "odd", a.ram, BYTES + 1, &err), -EINVAL);
	assert_int_equal(vfmig_memory_set_iova(a.memory, "none", 0, PAGE, 0, &err), -ENOENT);
	assert_int_equal(vfmig_memory_set_dirty(a.memory, "ram", BYTES, 1, &err), -EINVAL);
	int fd = memfd_create("short", MFD_CLOEXEC);
	assert_int_equal(vfmig_memory_add_fd(a.memory, "short", fd, 0, PAGE, &err), -EINVAL);
	close(fd);

	struct vfmig_link *link = buffer_writer(&stream, 0);
	assert_int_equal(vfmig_save_new(link, NULL, &save, &err), 0);
	assert_int_equal(vfmig_save_add_memory(save, a.memory, &err), 0);
	assert_int_equal(vfmig_save_add_memory(save, a.memory, &err), -EEXIST);
	vfmig_save_free(save);
	vfmig_link_close(link);
	buffer_free(&stream);
	side_close(&a, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_moves_with_a_device_at_work),
		cmocka_unit_test(stopped_first_nothing_is_logged),
		cmocka_unit_test(without_a_log_it_is_sent_when_stopped),
		cmocka_unit_test(a_lost_page_is_stale),
		cmocka_unit_test(what_the_caller_tells_arrives),
		cmocka_unit_test(blocks_that_do_not_fit_are_listed),
		cmocka_unit_test(a_block_that_is_skipped_is_passed_over),
		cmocka_unit_test(the_same_block_goes_on_in_another_section),
		cmocka_unit_test(what_no_saver_writes_is_refused),
		cmocka_unit_test(damage_is_found_before_a_page_is_loaded),
		cmocka_unit_test(nonsense_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
