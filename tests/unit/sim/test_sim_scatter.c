/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sim_scatter.c: whole pages scattered over memory, the logs that tell of them, and the way of working moved. */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "by_hand.h"
#include "sim/prove_pages.h"

#define PAGE SIM_SCATTER_PAGE
#define BASE 0x100000u
#define SLOTS 64u
#define BYTES (SLOTS * PAGE)
#define OPTIONS "size=64K,rate=0,start,scatter,log=0x100000/64"

/* A device and the memory that it writes. */
struct writer {
	struct access *a;
	uint8_t *memory;
	int fd; /* its */
	uint64_t bits; /* of the last report */
};

static uint8_t *memory_new(int *ret_fd)
{
	*ret_fd = memfd_create("memory", MFD_CLOEXEC);
	assert_int_equal(ftruncate(*ret_fd, BYTES), 0);
	uint8_t *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, *ret_fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void writer_open(struct writer *w, const char *options)
{
	w->a = open_sim(options);
	w->bits = 0;
	w->memory = memory_new(&w->fd);
	assert_int_equal(access_dma_map(w->a, BASE, BYTES, w->fd, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, NULL), 0);
}

static void writer_close(struct writer *w)
{
	access_close(w->a);
	munmap(w->memory, BYTES);
	close(w->fd);
}

static void steps(struct writer *w, uint64_t n)
{
	assert_int_equal(sim_device_steps(sim_access_device(w->a), n), n);
}

static int start(struct writer *w, enum access_log log)
{
	static const struct access_range all = { BASE, BYTES };
	uint64_t page_size = PAGE;
	int r = access_dirty_start(w->a, log, &all, 1, &page_size, NULL);

	assert_int_equal(page_size, PAGE);
	return r;
}

static int report(struct writer *w, enum access_log log)
{
	w->bits = 0;
	return access_dirty_report(w->a, log, BASE, BYTES, PAGE, &w->bits, NULL);
}

/* The slots that these steps write, and what memory holds after them. */
static uint64_t expected(uint64_t first, uint64_t last, uint8_t *memory)
{
	uint64_t slots = 0, page[PAGE / 8];
	struct sim_work work;

	assert_int_equal(sim_work_init(&work, 64 * 1024, 1), 0);
	while (work.step < last) {
		sim_work_step(&work);
		if (work.step < first)
			continue;
		uint64_t slot = sim_scatter_slot(work.step, SLOTS);
		slots |= UINT64_C(1) << slot;
		sim_scatter_put(work.step, work.chain, page);
		if (memory)
			memcpy(memory + slot * PAGE, page, PAGE);
	}
	sim_work_destroy(&work);
	return slots;
}

static void assert_memory(const uint8_t *memory, uint64_t first, uint64_t last)
{
	uint8_t *should = calloc(1, BYTES);

	assert_non_null(should);
	expected(first, last, should);
	assert_memory_equal(memory, should, BYTES);
	free(should);
}

static void test_whole_pages(void **state)
{
	struct writer w;

	(void)state;
	writer_open(&w, OPTIONS);
	steps(&w, 100);
	assert_memory(w.memory, 1, 100);
	for (unsigned int i = 0; i < SLOTS; i++) { /* an entry, then words that fill the page */
		uint64_t step, chain;
		if (!sim_log_get(w.memory + i * PAGE, &step, &chain))
			continue;
		assert_int_equal(sim_scatter_slot(step, SLOTS), i);
		assert_true(get_le64(w.memory + i * PAGE + SIM_LOG_ENTRY) != 0);
		assert_true(get_le64(w.memory + i * PAGE + PAGE - 8) != 0);
	}
	writer_close(&w);
}

/* Every slot comes, and about as often as the others. */
static void test_slots_are_spread(void **state)
{
	unsigned int count[SLOTS] = { 0 };

	(void)state;
	for (uint64_t step = 1; step <= 100 * SLOTS; step++)
		count[sim_scatter_slot(step, SLOTS)]++;
	for (unsigned int i = 0; i < SLOTS; i++)
		assert_in_range(count[i], 50, 200);
}

struct log_case {
	const char *options;
	enum access_log log, other;
};

static const struct log_case log_cases[] = {
	{ OPTIONS, ACCESS_LOG_MAPPINGS, ACCESS_LOG_DEVICE },
	{ OPTIONS ",interface=v2", ACCESS_LOG_DEVICE, ACCESS_LOG_MAPPINGS },
	{ OPTIONS ",interface=both", ACCESS_LOG_DEVICE, ACCESS_LOG_MAPPINGS },
};

static void check_log(const struct log_case *c)
{
	struct writer w;

	writer_open(&w, c->options);
	assert_int_equal(start(&w, c->other), -EOPNOTSUPP);
	assert_int_equal(report(&w, c->other), -EOPNOTSUPP);
	assert_int_equal(access_dirty_stop(w.a, c->other, NULL), -EOPNOTSUPP);
	assert_int_equal(report(&w, c->log), -EINVAL); /* not started */
	steps(&w, 10);
	assert_int_equal(start(&w, c->log), 0);
	assert_int_equal(start(&w, c->log), -EINVAL);
	steps(&w, 20);
	assert_int_equal(report(&w, c->log), 0);
	assert_true(w.bits == expected(11, 30, NULL));
	assert_int_equal(report(&w, c->log), 0);
	assert_true(w.bits == 0);
	steps(&w, 15);
	/* In larger pages, a part only. */
	uint64_t half = 0, mask = (UINT64_C(1) << SLOTS / 2) - 1, slots = expected(31, 45, NULL) & mask, want = 0;
	for (unsigned int i = 0; i < SLOTS / 2; i++)
		want |= (slots >> i & 1) << i / 2;
	assert_int_equal(access_dirty_report(w.a, c->log, BASE, BYTES / 2, 2 * PAGE, &half, NULL), 0);
	assert_true(half == want);
	assert_int_equal(report(&w, c->log), 0);
	assert_true(w.bits == (expected(31, 45, NULL) & ~mask));
	assert_int_equal(access_dirty_stop(w.a, c->log, NULL), 0);
	assert_int_equal(report(&w, c->log), -EINVAL);
	writer_close(&w);
}

static void test_logs(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(log_cases) / sizeof(log_cases[0]); i++)
		check_log(&log_cases[i]);
}

static void test_no_log(void **state)
{
	static const char *const options[] = { OPTIONS ",dirty-log=no", OPTIONS ",dirty-log=no,interface=v2" };
	struct writer w;

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint64_t data[2];
		writer_open(&w, options[i]);
		assert_int_equal(start(&w, ACCESS_LOG_DEVICE), -EOPNOTSUPP);
		assert_int_equal(start(&w, ACCESS_LOG_MAPPINGS), -EOPNOTSUPP);
		assert_int_equal(access_dma_unmap_dirty(w.a, ACCESS_LOG_DEVICE, BASE, BYTES, PAGE, data, NULL),
				 -EOPNOTSUPP);
		for (uint32_t feature = 6; feature <= 8; feature++)
			assert_int_equal(access_feature(w.a, 7u << 16 | feature, data, sizeof(data), NULL),
					 -EOPNOTSUPP);
		writer_close(&w);
	}
}

static void test_last_report_of_a_mapping(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(log_cases) / sizeof(log_cases[0]); i++) {
		const struct log_case *c = &log_cases[i];
		struct writer w;
		uint64_t bits = 0;
		writer_open(&w, c->options);
		assert_int_equal(start(&w, c->log), 0);
		steps(&w, 25);
		assert_int_equal(access_dma_unmap_dirty(w.a, c->log, BASE, BYTES / 2, PAGE, &bits, NULL), -ENOENT);
		assert_int_equal(access_dma_unmap_dirty(w.a, c->log, BASE, BYTES, PAGE, &bits, NULL), 0);
		assert_true(bits == expected(1, 25, NULL));
		steps(&w, 5); /* nothing is mapped: nothing is written */
		assert_memory(w.memory, 1, 25);
		assert_int_equal(sim_access_device(w.a)->registers.not_logged, 5);
		/* The mappings' log has gone with the mapping, the device's goes on. */
		assert_int_equal(report(&w, c->log), c->log == ACCESS_LOG_DEVICE ? 0 : -EINVAL);
		assert_true(w.bits == 0);
		writer_close(&w);
	}
}

/* What a type1 container forgets at an unmap without a report is not told later either. */
static void test_mappings_forget(void **state)
{
	struct writer w;
	int fd;

	(void)state;
	writer_open(&w, OPTIONS);
	assert_int_equal(start(&w, ACCESS_LOG_MAPPINGS), 0);
	steps(&w, 25);
	assert_int_equal(access_dma_unmap(w.a, BASE, BYTES, NULL), 0);
	munmap(memory_new(&fd), BYTES);
	assert_int_equal(access_dma_map(w.a, BASE, BYTES, fd, 0, VFMIG_DMA_WRITE, NULL), 0);
	close(fd);
	assert_int_equal(access_reset(w.a, NULL), 0); /* of the device, which is not who logs */
	assert_int_equal(report(&w, ACCESS_LOG_MAPPINGS), 0);
	assert_true(w.bits == 0);
	writer_close(&w);
}

/* Memory that is reached by messages, and what is asked for while one is on its way. */
struct far {
	struct access *a;
	uint8_t *memory;
	bool ask;
	uint64_t asked; /* bits of the reports that came between */
	unsigned int messages;
	int result;
};

static int far_write(void *opaque, uint64_t iova, const void *data, size_t length)
{
	struct far *f = opaque;

	f->messages++;
	assert_int_equal(length, PAGE);
	if (f->ask)
		assert_int_equal(access_dirty_report(f->a, ACCESS_LOG_MAPPINGS, BASE, BYTES, PAGE, &f->asked, NULL), 0);
	if (f->result == 0)
		memcpy(f->memory + (iova - BASE), data, length);
	return f->result;
}

static void test_messages(void **state)
{
	struct far f = { .memory = calloc(1, BYTES) };
	struct writer w;

	(void)state;
	writer_open(&w, OPTIONS ",dma=message");
	f.a = w.a;
	sim_access_serve(w.a, far_write, &f);
	assert_int_equal(start(&w, ACCESS_LOG_MAPPINGS), 0);
	steps(&w, 20);
	assert_int_equal(f.messages, 20);
	assert_memory(f.memory, 1, 20);
	assert_int_equal(report(&w, ACCESS_LOG_MAPPINGS), 0);
	assert_true(w.bits == expected(1, 20, NULL));
	/* A report before the page is there may tell it; one afterwards must. */
	f.ask = true;
	steps(&w, 1);
	assert_int_equal(report(&w, ACCESS_LOG_MAPPINGS), 0);
	assert_true(w.bits == expected(21, 21, NULL));
	/* Whether a failed one was carried out is not known. */
	f.ask = false;
	f.result = -EIO;
	steps(&w, 1);
	assert_int_equal(report(&w, ACCESS_LOG_MAPPINGS), 0);
	assert_true(w.bits == expected(22, 22, NULL));
	assert_int_equal(sim_access_device(w.a)->registers.logged, 21);
	assert_int_equal(sim_access_device(w.a)->registers.not_logged, 1);
	writer_close(&w);
	free(f.memory);
}

/* A message that stands until it is let go, and somebody who looks at the registers meanwhile. */
struct standing {
	struct access *a;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool begun, go;
	bool looked; /* atomic */
	struct prove_claim claim;
};

static int standing_write(void *opaque, uint64_t iova, const void *data, size_t length)
{
	struct standing *s = opaque;

	(void)iova;
	(void)data;
	(void)length;
	pthread_mutex_lock(&s->lock);
	s->begun = true;
	pthread_cond_broadcast(&s->changed);
	while (!s->go)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static void *one_step(void *opaque)
{
	sim_device_steps(sim_access_device(((struct standing *)opaque)->a), 1);
	return NULL;
}

static void *look(void *opaque)
{
	struct standing *s = opaque;

	prove_read(s->a, &s->claim, NULL);
	__atomic_store_n(&s->looked, true, __ATOMIC_RELEASE);
	return NULL;
}

/* The latch waits for it: a step is counted and logged at one moment. */
static void test_latch_during_a_message(void **state)
{
	struct standing s = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
	pthread_t stepper, looker;
	bool waits = false;
	struct writer w;

	(void)state;
	writer_open(&w, OPTIONS ",dma=message");
	s.a = w.a;
	sim_access_serve(w.a, standing_write, &s);
	assert_int_equal(pthread_create(&stepper, NULL, one_step, &s), 0);
	pthread_mutex_lock(&s.lock);
	while (!s.begun)
		pthread_cond_wait(&s.changed, &s.lock);
	pthread_mutex_unlock(&s.lock);
	assert_int_equal(pthread_create(&looker, NULL, look, &s), 0);
	while (!waits && !__atomic_load_n(&s.looked, __ATOMIC_ACQUIRE)) {
		sim_device_lock(sim_access_device(w.a));
		waits = sim_access_device(w.a)->quiescing > 0;
		sim_device_unlock(sim_access_device(w.a));
		sched_yield();
	}
	pthread_mutex_lock(&s.lock);
	s.go = true;
	pthread_cond_broadcast(&s.changed);
	pthread_mutex_unlock(&s.lock);
	pthread_join(stepper, NULL);
	pthread_join(looker, NULL);
	assert_int_equal(s.claim.step, 1);
	assert_int_equal(s.claim.logged, 1);
	writer_close(&w);
}

static uint64_t bar(struct access *a, uint64_t offset)
{
	uint64_t v = 0;

	assert_int_equal(access_region_read(a, ACCESS_PCI_BAR0, offset, &v, 8, NULL), 0);
	return v;
}

static void set_bar(struct access *a, uint64_t offset, uint64_t v)
{
	assert_int_equal(access_region_write(a, ACCESS_PCI_BAR0, offset, &v, 8, NULL), 0);
}

static void test_control(void **state)
{
	struct writer w;

	(void)state;
	writer_open(&w, "size=64K,rate=0,log=0x100000/64");
	assert_int_equal(bar(w.a, SIM_BAR_CONTROL), 0);
	set_bar(w.a, SIM_BAR_CONTROL, UINT64_MAX);
	assert_int_equal(bar(w.a, SIM_BAR_CONTROL), SIM_CONTROL_ON | SIM_CONTROL_SCATTER);
	steps(&w, 10);
	assert_memory(w.memory, 1, 10);
	set_bar(w.a, SIM_BAR_CONTROL, SIM_CONTROL_SCATTER);
	assert_int_equal(sim_device_steps(sim_access_device(w.a), 1), 0);
	writer_close(&w);
	writer_open(&w, OPTIONS); /* as it was made, with the engine off */
	assert_int_equal(bar(w.a, SIM_BAR_CONTROL), SIM_CONTROL_ON | SIM_CONTROL_SCATTER);
	assert_int_equal(access_reset(w.a, NULL), 0);
	assert_int_equal(bar(w.a, SIM_BAR_CONTROL), SIM_CONTROL_SCATTER);
	writer_close(&w);
	assert_int_equal(sim_access_open("scatter,log=0x100800/64", &w.a, NULL), -EINVAL);
}

typedef int move_fn(struct access *from, struct access *to, uint64_t control);

/* Moves the state, v1 or v2. control: what its END says of CONTROL becomes this, unless 0. */
static int move_v1(struct access *from, struct access *to, uint64_t control)
{
	static uint8_t section[1 << 20];
	uint64_t n;

	assert_int_equal(set_state(from, STOP_COPY), 0);
	assert_int_equal(set_state(to, RESUMING), 0);
	while ((n = take(from, section, sizeof(section), sizeof(section)))) {
		if (control)
			put_le64(section + n - 72 + 24, control);
		int r = give(to, section, n, sizeof(section));
		if (r < 0)
			return r;
	}
	assert_int_equal(set_state(from, STOPPED), 0);
	return set_state(to, RUNNING);
}

static int move_v2(struct access *from, struct access *to, uint64_t control)
{
	static uint8_t data[1 << 20];
	size_t length = 0;
	ssize_t n;

	assert_int_equal(access_mig_state_set(from, VFMIG_STATE_STOP_COPY, NULL), 0);
	while ((n = access_mig_data_read(from, data + length, sizeof(data) - length, NULL)) > 0)
		length += (size_t)n;
	assert_int_equal(n, 0);
	if (control)
		put_le64(data + length - 72 + 24, control);
	assert_int_equal(access_mig_state_set(to, VFMIG_STATE_RESUMING, NULL), 0);
	n = access_mig_data_write(to, data, length, NULL);
	if (n < 0)
		return (int)n;
	assert_int_equal(n, length);
	assert_int_equal(access_mig_state_set(from, VFMIG_STATE_STOP, NULL), 0);
	return access_mig_state_set(to, VFMIG_STATE_RUNNING, NULL);
}

static void check_move(const char *interface, move_fn *move)
{
	struct writer from, to;
	char options[128];

	snprintf(options, sizeof(options), OPTIONS ",interface=%s", interface);
	writer_open(&from, options);
	snprintf(options, sizeof(options), "size=64K,rate=0,interface=%s", interface); /* of itself a ring, and none */
	writer_open(&to, options);
	steps(&from, 50);
	memcpy(to.memory, from.memory, BYTES);
	assert_int_equal(move(from.a, to.a, 0), 0);
	assert_int_equal(bar(to.a, SIM_BAR_CONTROL), SIM_CONTROL_ON | SIM_CONTROL_SCATTER);
	steps(&to, 50);
	assert_memory(to.memory, 1, 100);
	writer_close(&from);
	writer_close(&to);
	/* A way of working that is not known. */
	snprintf(options, sizeof(options), OPTIONS ",interface=%s", interface);
	writer_open(&from, options);
	writer_open(&to, options);
	assert_int_equal(move(from.a, to.a, SIM_CONTROL_MASK + 1), -EINVAL);
	writer_close(&from);
	writer_close(&to);
}

static void test_way_of_working_moves(void **state)
{
	(void)state;
	check_move("v1", move_v1);
	check_move("v2", move_v2);
}

static void copy_told(struct writer *from, struct writer *to, enum access_log log)
{
	assert_int_equal(report(from, log), 0);
	for (unsigned int i = 0; i < SLOTS; i++)
		if (from->bits >> i & 1)
			memcpy(to->memory + i * PAGE, from->memory + i * PAGE, PAGE);
}

/* Memory is moved as a migration moves it, the state with it; then both go on without memory. */
static void move_all(struct writer *from, struct writer *to, enum access_log log, move_fn *move)
{
	assert_int_equal(start(from, log), 0);
	steps(from, 40);
	memcpy(to->memory, from->memory, BYTES);
	steps(from, 20);
	copy_told(from, to, log);
	steps(from, 10);
	copy_told(from, to, log);
	assert_int_equal(move(from->a, to->a, 0), 0);
	steps(to, 5);
	assert_int_equal(access_dma_unmap(to->a, BASE, BYTES, NULL), 0);
	steps(to, 5);
}

static void check_proof(const char *interface, enum access_log log, move_fn *move, bool lose)
{
	struct prove_claim claims[2];
	struct prove_log proof = { 0 };
	struct vfmig_error err = { 0 };
	struct writer from, to;
	char options[160], path[32];

	snprintf(options, sizeof(options), OPTIONS ",interface=%s%s", interface,
		 lose ? ",fault=lose-page@dirty-report#2" : "");
	writer_open(&from, options);
	snprintf(options, sizeof(options), "size=64K,rate=0,interface=%s", interface);
	writer_open(&to, options);
	move_all(&from, &to, log, move);
	assert_int_equal(prove_read(from.a, &claims[0], &err), 0);
	assert_int_equal(prove_read(to.a, &claims[1], &err), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", to.fd);
	assert_int_equal(prove_log_read(path, &claims[1], &proof, &err), 0);
	int r = prove_run(claims, 2, &proof, 0, NULL, NULL, &err);
	if (r != (lose ? -EBADMSG : 0))
		fail_msg("%d %s", r, err.message);
	assert_int_equal(proof.first, 1);
	assert_int_equal(proof.last, 75);
	assert_int_equal(proof.pages->wrong, lose);
	if (lose) { /* the first page that the second report should have told, as the first one had it */
		unsigned int page = (unsigned int)__builtin_ctzll(expected(61, 70, NULL));
		assert_int_equal(expected(71, 75, NULL) >> page & 1, 0);
		assert_int_equal(proof.pages->first_wrong.page, page);
		assert_in_range(proof.pages->first_wrong.expected, 61, 70);
		assert_in_range(proof.pages->first_wrong.found, 0, 60);
	}
	prove_log_clear(&proof);
	writer_close(&from);
	writer_close(&to);
}

/* All of it together: only a proof of memory finds what a log has not told. */
static void test_proof_of_a_move(void **state)
{
	(void)state;
	for (int lose = 0; lose < 2; lose++) {
		check_proof("v1", ACCESS_LOG_MAPPINGS, move_v1, lose);
		check_proof("v2", ACCESS_LOG_DEVICE, move_v2, lose);
	}
}

/* With the engine at work: whatever is in memory after the last report was told by one after it was written. */
static void test_nothing_lost_at_work(void **state)
{
	struct writer w;
	uint8_t *copy = calloc(1, BYTES);

	(void)state;
	assert_non_null(copy);
	writer_open(&w, "size=64K,rate=100000,scatter,start,log=0x100000/64");
	assert_int_equal(start(&w, ACCESS_LOG_MAPPINGS), 0);
	memcpy(copy, w.memory, BYTES);
	for (int round = 0; round < 200; round++) {
		if (round == 199)
			assert_int_equal(set_state(w.a, STOPPED), 0);
		assert_int_equal(report(&w, ACCESS_LOG_MAPPINGS), 0);
		for (unsigned int i = 0; i < SLOTS; i++)
			if (w.bits >> i & 1)
				memcpy(copy + i * PAGE, w.memory + i * PAGE, PAGE);
	}
	assert_memory_equal(copy, w.memory, BYTES);
	writer_close(&w);
	free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_pages),
		cmocka_unit_test(test_slots_are_spread),
		cmocka_unit_test(test_logs),
		cmocka_unit_test(test_no_log),
		cmocka_unit_test(test_last_report_of_a_mapping),
		cmocka_unit_test(test_mappings_forget),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_latch_during_a_message),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_proof_of_a_move),
		cmocka_unit_test(test_way_of_working_moves),
		cmocka_unit_test(test_nothing_lost_at_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
