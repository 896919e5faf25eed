/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sim_move.c: state moved by hand from one software device to another, the engine stepping in between. */
#include <sched.h>
#include <unistd.h>

#include "by_hand.h"

#define SECTION_MAX (1u << 20)
#define LOG_BYTES (1024 * SIM_LOG_ENTRY)

static uint8_t buffer[SECTION_MAX];

static void assert_right(struct access *a, const char *what)
{
	struct vfmig_error err = { 0 };
	struct prove_claim claim;

	assert_int_equal(prove_read(a, &claim, &err), 0);
	if (prove_run(&claim, 1, NULL, 0, NULL, NULL, &err) < 0)
		fail_msg("%s: %s", what, err.message);
}

/* All of it, from a running source; steps between transactions while in pre-copy. */
static void move(struct access *from, struct access *to, size_t width, uint64_t steps)
{
	uint64_t n;

	assert_int_equal(set_state(to, RESUMING), 0);
	assert_int_equal(set_state(from, PRE_COPY), 0);
	for (int i = 0; i < 20 && (n = take(from, buffer, sizeof(buffer), width)); i++) {
		assert_int_equal(give(to, buffer, n, width), 0);
		assert_int_equal(sim_device_steps(sim_access_device(from), steps), steps);
	}
	assert_int_equal(set_state(from, STOP_COPY), 0);
	assert_int_equal(sim_device_steps(sim_access_device(from), 1), 0);
	while ((n = take(from, buffer, sizeof(buffer), width)))
		assert_int_equal(give(to, buffer, n, width), 0);
	assert_int_equal(set_state(from, STOPPED), 0);
	assert_int_equal(set_state(to, RUNNING), 0);
}

static void test_move_in_every_shape(void **state)
{
	static const struct {
		const char *from, *to;
		size_t width;
	} shapes[] = {
		{ "map=mapped,section=64K", "map=mapped,section=64K", 4096 },
		{ "map=trapped,section=64K", "map=mixed,section=64K", 4096 },
		{ "map=mixed,section=40K", "map=trapped,section=64K", 4096 },
		{ "map=mixed,section=4K", "map=mixed,section=4K", 4096 },
		{ "map=trapped,section=4K,access-width=8", "map=trapped,section=4K,access-width=8", 8 },
		{ "precopy=no", "precopy=no", 4096 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		char options[128];
		snprintf(options, sizeof(options), "size=257K,rate=0,seed=77,start,%s", shapes[i].from);
		struct access *from = open_sim(options);
		snprintf(options, sizeof(options), "size=257K,rate=0,%s", shapes[i].to);
		struct access *to = open_sim(options);

		assert_int_equal(sim_device_steps(sim_access_device(from), 500), 500);
		move(from, to, shapes[i].width, 3);
		assert_true(bar_read(from, SIM_BAR_STEP) >= 500);
		assert_int_equal(bar_read(to, SIM_BAR_RESUMED_STEP), bar_read(from, SIM_BAR_STEP));
		assert_int_equal(bar_read(to, SIM_BAR_CHAIN), bar_read(from, SIM_BAR_CHAIN));
		assert_int_equal(bar_read(to, SIM_BAR_DIGEST), bar_read(from, SIM_BAR_DIGEST));
		assert_int_equal(sim_device_steps(sim_access_device(to), 500), 500);
		assert_right(to, shapes[i].to);
		access_close(from);
		access_close(to);
	}
}

/* The whole stream of a stopped device. */
static size_t save_stopped(struct access *a, uint8_t **ret)
{
	size_t length = 0;
	uint64_t n;

	*ret = NULL;
	assert_int_equal(set_state(a, STOP_COPY), 0);
	while ((n = take(a, buffer, sizeof(buffer), 4096))) {
		*ret = realloc(*ret, length + n);
		assert_non_null(*ret);
		memcpy(*ret + length, buffer, n);
		length += n;
	}
	return length;
}

static void test_pending_is_exact(void **state)
{
	struct access *a = open_sim("size=100K,rate=0,start,section=8K");
	uint8_t *stream;

	(void)state;
	sim_device_steps(sim_access_device(a), 40);
	assert_int_equal(set_state(a, STOP_COPY), 0);
	uint64_t pending = get_pending(a);
	assert_int_equal(save_stopped(a, &stream), pending);
	free(stream);
	access_close(a);
}

static void test_no_precopy_gives_nothing_while_running(void **state)
{
	struct access *a = open_sim("size=64K,rate=0,precopy=no");

	(void)state;
	assert_int_equal(set_state(a, PRE_COPY), 0);
	assert_int_equal(get_pending(a), 0);
	assert_int_equal(set_state(a, STOP_COPY), 0);
	assert_true(get_pending(a) > 65536);
	access_close(a);
}

static int load_bytes(struct access *a, const uint8_t *bytes, size_t length, size_t piece)
{
	int r = 0;

	assert_int_equal(access_reset(a, NULL), 0);
	assert_int_equal(set_state(a, RESUMING), 0);
	for (size_t at = 0, n; r == 0 && at < length; at += n) {
		n = (size_t)min_u64(piece, length - at);
		memcpy(buffer, bytes + at, n);
		r = give(a, buffer, n, 4096);
	}
	return r < 0 ? r : set_state(a, RUNNING);
}

static void test_loader_refuses_what_is_not_whole(void **state)
{
	struct access *from = open_sim("size=16K,rate=0,start"), *to = open_sim("size=16K,rate=0");
	struct access *other = open_sim("size=20K,rate=0");
	uint8_t *stream;

	(void)state;
	sim_device_steps(sim_access_device(from), 10);
	size_t length = save_stopped(from, &stream);
	stream = realloc(stream, length + 1);
	assert_non_null(stream);
	stream[length] = 0;
	for (size_t piece = 1; piece <= length; piece = piece * 7 + 1)
		assert_int_equal(load_bytes(to, stream, length, piece), 0);
	for (size_t cut = 0; cut < length; cut += cut < 100 || length - cut < 100 ? 1 : 97) {
		assert_int_equal(load_bytes(to, stream, cut, 5000), -EINVAL);
		assert_int_equal(get_state(to), RESUMING);
	}
	assert_int_equal(load_bytes(to, stream, length + 1, 5000), -EINVAL);  /* surplus */
	assert_int_equal(load_bytes(other, stream, length, 5000), -EINVAL); /* another size */
	/* Every bit of the first page's header but the page's index. */
	for (size_t bit = 0; bit < 24 * 8; bit++) {
		size_t at = 56 + bit / 8;
		stream[at] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(load_bytes(to, stream, length, 5000), -EINVAL);
		stream[at] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(access_reset(to, NULL), 0);
	assert_int_equal(bar_read(to, SIM_BAR_STEP), 0);
	assert_int_equal(bar_read(to, SIM_BAR_DIGEST), 0);
	free(stream);
	access_close(from);
	access_close(to);
	access_close(other);
}

static void test_opaque_gives_back_what_it_was_given(void **state)
{
	static const size_t sizes[] = { 1, 65536, 4096, 3, 70000 };
	char path[] = "/tmp/vfmig-opaque-XXXXXX", options[128], sizes_path[64];

	(void)state;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	snprintf(options, sizeof(options), "opaque,section=128K,dump=%s", path);
	struct access *a = open_sim(options);
	assert_int_equal(set_state(a, RESUMING), 0);
	uint8_t fill = 0, *all = NULL;
	size_t total = 0;
	for (size_t i = 0; i < 5; i++) {
		for (size_t k = 0; k < sizes[i]; k++)
			buffer[k] = (uint8_t)(fill++ * 7);
		all = realloc(all, total + sizes[i]);
		assert_non_null(all);
		memcpy(all + total, buffer, sizes[i]);
		total += sizes[i];
		assert_int_equal(give(a, buffer, sizes[i], 4096), 0);
	}
	assert_int_equal(set_state(a, STOPPED), 0);
	assert_int_equal(bar_read(a, SIM_BAR_OPAQUE_COUNT), 5);
	assert_int_equal(set_state(a, STOP_COPY), 0);
	size_t at = 0;
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(take(a, buffer, sizeof(buffer), 4096), sizes[i]);
		assert_memory_equal(buffer, all + at, sizes[i]);
		at += sizes[i];
	}
	assert_int_equal(take(a, buffer, sizeof(buffer), 4096), 0);
	assert_int_equal(sim_access_dump(a, NULL), 0);
	assert_int_equal(read(fd, buffer, sizeof(buffer)), total);
	assert_memory_equal(buffer, all, total);
	close(fd);
	unlink(path);
	snprintf(sizes_path, sizeof(sizes_path), "%s.sizes", path);
	unlink(sizes_path);
	free(all);
	access_close(a);
}

static long resident_kib(void)
{
	long size = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld %ld", &size, &resident), 2);
	fclose(f);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* 256 MiB go from one device to another, and both stay small: pages are made when they are needed. */
static void test_untouched_pages_take_no_memory(void **state)
{
	struct access *from = open_sim("size=256M,rate=0,start,seed=5"), *to = open_sim("size=256M,rate=0");

	(void)state;
	long before = resident_kib();
	sim_device_steps(sim_access_device(from), 100);
	move(from, to, 4096, 1);
	assert_true(resident_kib() - before < 32 * 1024);
	assert_int_equal(bar_read(to, SIM_BAR_SEED), 5);
	assert_right(to, "256 MiB");
	access_close(from);
	access_close(to);
}

static void test_pages_are_made_of_seed_and_index(void **state)
{
	struct sim_pages p, q;
	uint8_t one[4096], two[4096];

	(void)state;
	assert_int_equal(sim_pages_init(&p, 9 * 1024, 1), 0);
	assert_int_equal(sim_pages_init(&q, 9 * 1024, 2), 0);
	assert_int_equal(p.count, 3);
	assert_int_equal(sim_pages_length(&p, 2), 1024);
	sim_pages_get(&p, 0, one);
	sim_pages_get(&p, 1, two);
	assert_memory_not_equal(one, two, 4096);
	sim_pages_get(&q, 0, two);
	assert_memory_not_equal(one, two, 4096);
	/* Put back as it was, a page is not kept; changed, it is. */
	sim_pages_put(&p, 0, one);
	assert_false(sim_pages_is_touched(&p, 0));
	one[4095] ^= 1;
	sim_pages_put(&p, 0, one);
	assert_true(sim_pages_is_touched(&p, 0));
	assert_true(p.digest != 0);
	one[4095] ^= 1;
	sim_pages_put(&p, 0, one);
	assert_int_equal(p.digest, 0);
	sim_pages_destroy(&p);
	sim_pages_destroy(&q);
}

/* The engine's own thread: stopped means stopped, also for what it writes into the client's memory. */
static void test_nothing_happens_when_stopped(void **state)
{
	struct access *a = open_sim("size=1M,rate=200000,start,log=0x10000/1024");
	char path[] = "/tmp/vfmig-log-XXXXXX";

	(void)state;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, LOG_BYTES), 0);
	assert_int_equal(access_dma_map(a, 0x10000, LOG_BYTES, fd, 0, VFMIG_DMA_WRITE, NULL), 0);
	for (int round = 0; round < 20; round++) {
		uint64_t last = bar_read(a, SIM_BAR_LOGGED);
		while (bar_poll(a, SIM_BAR_LOGGED) < last + 20)
			;
		assert_int_equal(set_state(a, STOPPED), 0);
		uint64_t step = bar_read(a, SIM_BAR_STEP);
		uint8_t next[SIM_LOG_ENTRY];
		uint64_t n, chain;
		off_t slot = (off_t)((step + 1) % LOG_BYTES);
		for (int i = 0; i < 20; i++) {
			assert_int_equal(bar_read(a, SIM_BAR_STEP), step);
			assert_int_equal(pread(fd, next, sizeof(next), slot), sizeof(next));
			assert_false(sim_log_get(next, &n, &chain) && n == step + 1);
		}
		assert_int_equal(set_state(a, RUNNING), 0);
	}
	assert_int_equal(access_dma_unmap(a, 0x10000, LOG_BYTES, NULL), 0);
	close(fd);
	assert_right(a, "with a log");
	access_close(a);
}

struct messages {
	int inside; /* atomic: a message is under way */
	int count;  /* atomic */
	uint64_t last_step;
};

static int receive_message(void *opaque, uint64_t iova, const void *data, size_t length)
{
	struct messages *m = opaque;
	uint64_t chain;

	(void)iova;
	if (length != SIM_LOG_ENTRY || !sim_log_get(data, &m->last_step, &chain))
		return -EINVAL;
	__atomic_store_n(&m->inside, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < 20; i++) /* the stop gets its chance to come in between */
		sched_yield();
	__atomic_add_fetch(&m->count, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&m->inside, 0, __ATOMIC_RELEASE);
	return 0;
}

/* A message under way holds no lock, and a stop or an unmap waits for it. */
static void test_stop_waits_for_dma_messages(void **state)
{
	struct access *a = open_sim("size=1M,rate=100000,start,dma=message,log=0x10000/1024");
	struct messages m = { 0 };

	(void)state;
	sim_access_serve(a, receive_message, &m);
	assert_int_equal(access_dma_map(a, 0x10000, LOG_BYTES, -1, 0, VFMIG_DMA_WRITE, NULL), 0);
	for (int round = 0; round < 30; round++) {
		int before = __atomic_load_n(&m.count, __ATOMIC_ACQUIRE);
		while (__atomic_load_n(&m.count, __ATOMIC_ACQUIRE) < before + 3)
			bar_poll(a, SIM_BAR_STEP); /* answered meanwhile */
		assert_int_equal(set_state(a, STOPPED), 0);
		assert_int_equal(__atomic_load_n(&m.inside, __ATOMIC_ACQUIRE), 0);
		assert_int_equal(bar_read(a, SIM_BAR_STEP), m.last_step);
		assert_int_equal(set_state(a, RUNNING), 0);
		while (__atomic_load_n(&m.count, __ATOMIC_ACQUIRE) < before + 6)
			bar_poll(a, SIM_BAR_STEP);
		assert_int_equal(access_dma_unmap(a, 0x10000, LOG_BYTES, NULL), 0);
		assert_int_equal(__atomic_load_n(&m.inside, __ATOMIC_ACQUIRE), 0);
		assert_int_equal(access_dma_map(a, 0x10000, LOG_BYTES, -1, 0, VFMIG_DMA_WRITE, NULL), 0);
	}
	access_close(a);
}

/* A transaction whose size was not read when the device stopped is given again; one that was taken is not. */
static void test_transaction_across_the_stop(void **state)
{
	(void)state;
	for (int taken = 0; taken < 2; taken++) {
		struct access *from = open_sim("size=64K,rate=0,section=16K"), *to = open_sim("size=64K,rate=0");
		uint64_t n = 0, offset = 0;
		assert_int_equal(set_state(to, RESUMING), 0);
		assert_int_equal(set_state(from, PRE_COPY), 0);
		if (taken) {
			n = take(from, buffer, sizeof(buffer), 4096);
			assert_int_equal(give(to, buffer, n, 4096), 0);
		} else {
			assert_true(get_pending(from) > 0);
			assert_int_equal(reg_read(from, SIM_V1_DATA_OFFSET, 8, &offset), 0);
		}
		assert_int_equal(set_state(from, STOP_COPY), 0);
		while ((n = take(from, buffer, sizeof(buffer), 4096)))
			assert_int_equal(give(to, buffer, n, 4096), 0);
		assert_int_equal(set_state(to, RUNNING), 0);
		access_close(from);
		access_close(to);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_move_in_every_shape),
		cmocka_unit_test(test_pending_is_exact),
		cmocka_unit_test(test_no_precopy_gives_nothing_while_running),
		cmocka_unit_test(test_loader_refuses_what_is_not_whole),
		cmocka_unit_test(test_opaque_gives_back_what_it_was_given),
		cmocka_unit_test(test_untouched_pages_take_no_memory),
		cmocka_unit_test(test_pages_are_made_of_seed_and_index),
		cmocka_unit_test(test_nothing_happens_when_stopped),
		cmocka_unit_test(test_stop_waits_for_dma_messages),
		cmocka_unit_test(test_transaction_across_the_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
