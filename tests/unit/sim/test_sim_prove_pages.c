/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sim_prove_pages.c: the proof of a scattered log finds every page that is not as it should be, and names it. */
#include <sys/mman.h>
#include <unistd.h>

#include "by_hand.h"
#include "sim/prove_pages.h"

#define PAGE SIM_SCATTER_PAGE
#define SLOTS 256u
#define IOVA UINT64_C(0x10000000)
#define FIRST 6u  /* 1 to 5 were done before there was memory */
#define MOVED 305u
#define LAST 505u /* and some more after it was gone */

struct fixture {
	struct sim_work work;
	struct sim_registers registers;
	struct prove_claim claims[2];
	uint8_t *memory;
	char path[32];
	int fd;
	struct vfmig_error err;
	struct prove_wrong wrong;
};

static uint8_t *page_of(struct fixture *f, uint64_t step)
{
	return f->memory + sim_scatter_slot(step, SLOTS) * PAGE;
}

static void work(struct fixture *f, unsigned int steps, bool mapped)
{
	uint64_t page[PAGE / 8];

	for (unsigned int i = 0; i < steps; i++) {
		sim_work_step(&f->work);
		f->registers.logged += mapped;
		f->registers.not_logged += !mapped;
		sim_scatter_put(f->work.step, f->work.chain, page);
		if (mapped)
			memcpy(page_of(f, f->work.step), page, PAGE);
	}
}

static void claim_of(const struct fixture *f, struct prove_claim *c)
{
	const struct sim_work *w = &f->work;

	*c = (struct prove_claim){ .name = "device", .seed = w->pages.seed, .state_bytes = w->pages.bytes,
				   .step = w->step, .chain = w->chain, .digest = w->pages.digest,
				   .control = SIM_CONTROL_SCATTER, .log_iova = IOVA, .log_entries = SLOTS,
				   .logged = f->registers.logged, .not_logged = f->registers.not_logged };
}

/* The life of a device: at work, given memory, moved, without memory again. */
static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(sim_work_init(&f->work, 16 * 1024, 3), 0);
	f->fd = memfd_create("memory", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->fd, SLOTS * PAGE), 0);
	f->memory = mmap(NULL, SLOTS * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	assert_ptr_not_equal(f->memory, MAP_FAILED);
	snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
	work(f, FIRST - 1, false);
	work(f, MOVED - FIRST + 1, true);
	claim_of(f, &f->claims[0]);
	work(f, LAST - MOVED, true);
	work(f, 50, false);
	claim_of(f, &f->claims[1]);
	f->claims[1].loads = 1;
	f->claims[1].resumed_step = MOVED;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	sim_work_destroy(&f->work);
	munmap(f->memory, SLOTS * PAGE);
	close(f->fd);
	free(f);
	return 0;
}

/* One claim: the last. */
static int prove(struct fixture *f, size_t count, uint64_t since)
{
	const struct prove_claim *claims = f->claims + 2 - count;
	struct prove_log log = { 0 };
	int r = prove_log_read(f->path, &f->claims[1], &log, &f->err);

	if (r == 0)
		r = prove_run(claims, count, &log, since, NULL, NULL, &f->err);
	if (r == 0) {
		assert_int_equal(log.first, FIRST);
		assert_int_equal(log.last, LAST);
		assert_in_range(log.pages->written, SLOTS / 2, SLOTS - 1);
	}
	f->wrong = log.pages ? log.pages->first_wrong : (struct prove_wrong){ 0 };
	assert_true(r != 0 || log.pages->wrong == 0);
	prove_log_clear(&log);
	return r;
}

static void assert_says(struct fixture *f, int r, int expected, const char *says)
{
	if (r != expected || !strstr(f->err.message, says))
		fail_msg("%d \"%s\", expected %d \"%s\"", r, f->err.message, expected, says);
}

/* One page is wrong: it is found, with its steps, from both and from the last device alone. */
static void assert_found(struct fixture *f, const uint8_t *page, uint64_t expected, uint64_t found, const char *says)
{
	uint64_t index = (uint64_t)(page - f->memory) / PAGE;
	char name[64];

	snprintf(name, sizeof(name), "log: page %d at IOVA 0x%llx ", (int)index,
		 (unsigned long long)(IOVA + index * PAGE));
	for (size_t count = 1; count <= 2; count++) {
		assert_says(f, prove(f, count, count == 1 ? FIRST : 0), -EBADMSG, says);
		assert_non_null(strstr(f->err.message, name));
		assert_int_equal(f->wrong.page, index);
		assert_int_equal(f->wrong.iova, IOVA + index * PAGE);
		assert_int_equal(f->wrong.expected, expected);
		assert_int_equal(f->wrong.found, found);
	}
}

/* The step of the same slot before this one, from FIRST on; 0: none. */
static uint64_t step_before(uint64_t step)
{
	for (uint64_t s = step - 1; s >= FIRST; s--)
		if (sim_scatter_slot(s, SLOTS) == sim_scatter_slot(step, SLOTS))
			return s;
	return 0;
}

/* The last one up to `last` whose slot was written before. */
static uint64_t rewritten(uint64_t last)
{
	while (!step_before(last))
		last--;
	return last;
}

static uint64_t never_written(void)
{
	bool written[SLOTS] = { false };
	uint64_t slot = 0;

	for (uint64_t s = 1; s <= LAST + 50; s++)
		written[sim_scatter_slot(s, SLOTS)] = true;
	while (slot < SLOTS && written[slot])
		slot++;
	assert_true(slot < SLOTS);
	return slot;
}

/* Is it the last one to write its slot? */
static bool is_last(uint64_t step)
{
	for (uint64_t s = step + 1; s <= LAST; s++)
		if (sim_scatter_slot(s, SLOTS) == sim_scatter_slot(step, SLOTS))
			return false;
	return true;
}

/* What a step writes, of right work. */
static void page_of_step(uint64_t step, uint8_t ret[PAGE])
{
	uint64_t page[PAGE / 8];
	struct sim_work w;

	assert_int_equal(sim_work_init(&w, 16 * 1024, 3), 0);
	while (w.step < step)
		sim_work_step(&w);
	sim_scatter_put(step, w.chain, page);
	memcpy(ret, page, PAGE);
	sim_work_destroy(&w);
}

static void test_right(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(prove(f, 2, 0), 0);
	assert_int_equal(prove(f, 2, FIRST), 0);
	assert_int_equal(prove(f, 1, FIRST), 0);
}

/* Each page lost on its own: the one that the very last step wrote as well as any other. */
static void test_stale(void **state)
{
	struct fixture *f = *state;
	uint8_t good[PAGE];
	unsigned int stale = 0;
	char says[96];

	for (uint64_t step = FIRST; step <= LAST; step++) {
		uint64_t before = step_before(step);
		uint8_t *page = page_of(f, step);
		if (!is_last(step) || (step < LAST && step % 7))
			continue;
		memcpy(good, page, PAGE);
		memset(page, 0, PAGE);
		if (before)
			page_of_step(before, page);
		snprintf(says, sizeof(says), before ? "is stale: it holds step %d, expected step %d" : "is empty",
			 (int)before, (int)step);
		assert_found(f, page, step, before, says);
		memcpy(page, good, PAGE);
		stale++;
	}
	assert_true(stale > 10);
	assert_int_equal(prove(f, 2, 0), 0);
}

static void test_one_bit(void **state)
{
	static const struct {
		unsigned int at;
		const char *says;
		bool whole;
	} cases[] = {
		{ 0, "holds no whole entry", false },  { 8, "holds no whole entry", false },
		{ 16, "holds no whole entry", false }, { 31, "holds no whole entry, expected step 505", false },
		{ 32, "is torn or altered: step 505's from byte 32 on", true },
		{ 2000, "from byte 2000 on", true },   { PAGE - 1, "from byte 4095 on", true },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t *at = page_of(f, LAST) + cases[i].at;
		*at ^= 0x10;
		assert_found(f, page_of(f, LAST), LAST, cases[i].whole ? LAST : 0, cases[i].says);
		*at ^= 0x10;
	}
	for (unsigned int at = 0; at < PAGE; at += PAGE - 1) {
		uint8_t *page = f->memory + never_written() * PAGE;
		page[at] ^= 1;
		assert_found(f, page, 0, 0, "holds no whole entry, expected nothing");
		page[at] ^= 1;
	}
	assert_int_equal(prove(f, 2, 0), 0);
}

static void test_torn(void **state)
{
	struct fixture *f = *state;
	uint64_t step = rewritten(LAST);
	uint8_t *page = page_of(f, step), old[PAGE], good[PAGE];

	memcpy(good, page, PAGE);
	page_of_step(step_before(step), old);
	memcpy(page + 2048, old + 2048, 2048);
	assert_found(f, page, step, step, "from byte 2048 on is another");
	memcpy(page, old, 2048);
	memcpy(page + 2048, good + 2048, 2048);
	assert_found(f, page, step, step_before(step), "is stale");
}

/* The step behind the last one: its message was under way when the client left. All of it, or nothing. */
static void test_unanswered(void **state)
{
	struct fixture *f = *state;
	uint8_t *page = page_of(f, LAST + 1);

	page_of_step(LAST + 1, page);
	assert_int_equal(prove(f, 2, 0), 0);
	page[PAGE - 1] ^= 1;
	assert_found(f, page, step_before(LAST + 1), LAST + 1, "is too new");
}

static void test_too_new(void **state)
{
	struct fixture *f = *state;
	uint8_t *page = page_of(f, LAST + 3), good[PAGE];
	uint64_t expected = step_before(LAST + 3);

	memcpy(good, page, PAGE);
	page_of_step(LAST + 3, page);
	assert_found(f, page, expected, LAST + 3, "is too new: it holds step 508");
	memcpy(page, good, PAGE);
	/* Of before the first one. */
	page = page_of(f, 2);
	memcpy(good, page, PAGE);
	page_of_step(2, page);
	assert_int_equal(prove(f, 2, 0), -EBADMSG);
	assert_int_equal(f->wrong.found, 2);
}

static void test_elsewhere(void **state)
{
	struct fixture *f = *state;
	uint8_t *page = f->memory + never_written() * PAGE;

	memcpy(page, page_of(f, LAST), PAGE);
	assert_found(f, page, 0, LAST, "holds step 505, which belongs to page");
}

static void test_other_chain(void **state)
{
	struct fixture *f = *state;
	uint64_t page[PAGE / 8];

	sim_scatter_put(LAST, 1, page);
	memcpy(page_of(f, LAST), page, PAGE);
	assert_found(f, page_of(f, LAST), LAST, LAST, "holds step 505 with chain 0000000000000001, recomputed");
}

static void test_many(void **state)
{
	struct fixture *f = *state;

	page_of(f, LAST)[100] ^= 1;
	f->memory[never_written() * PAGE] ^= 1;
	assert_says(f, prove(f, 2, 0), -EBADMSG, "log: 2 pages of 256 are wrong, the first: page ");
}

/* What was logged is not as the registers would have it. */
static void test_cannot_be_proven(void **state)
{
	struct fixture *f = *state;

	assert_says(f, prove(f, 1, 0), -EINVAL, "say --since");
	assert_says(f, prove(f, 1, 1000), -EINVAL, "no step 1000 was done, only 555");
	assert_says(f, prove(f, 1, 100), -EINVAL, "cannot be the steps 100 to 599");
	assert_says(f, prove(f, 2, 3), -EINVAL, "logged only 300 of the steps 3 to 305");
	f->claims[1].not_logged++;
	assert_says(f, prove(f, 2, 0), -EBADMSG, "500 steps logged and 56 not, but 555 done");
	f->claims[1].not_logged--;
	f->claims[0].control = 0;
	assert_says(f, prove(f, 2, 0), -EINVAL, "is not the same scattered one");
	f->claims[0].control = SIM_CONTROL_SCATTER;
	f->claims[0].log_iova++;
	assert_says(f, prove(f, 2, 0), -EINVAL, "is not the same scattered one");
	f->claims[0].log_iova--;
	assert_int_equal(ftruncate(f->fd, (SLOTS - 1) * PAGE), 0);
	assert_says(f, prove(f, 2, 0), -EINVAL, "has 1044480 bytes, expected a scattered log of 256 pages");
	snprintf(f->path, sizeof(f->path), "/nowhere/at/all");
	assert_says(f, prove(f, 2, 0), -ENOENT, "/nowhere/at/all");
}

/* Everything logged from the beginning to now: then one device says enough. */
static void test_all_logged(void **state)
{
	struct fixture *f = *state;
	struct prove_log log = { 0 };

	memset(f->memory, 0, SLOTS * PAGE);
	sim_work_reset(&f->work, 3);
	f->registers = (struct sim_registers){ 0 };
	claim_of(f, &f->claims[1]);
	assert_says(f, prove(f, 1, 0), -EBADMSG, "has logged no step");
	work(f, 20, true);
	claim_of(f, &f->claims[1]);
	assert_int_equal(prove_log_read(f->path, &f->claims[1], &log, &f->err), 0);
	assert_int_equal(prove_run(&f->claims[1], 1, &log, 0, NULL, NULL, &f->err), 0);
	assert_int_equal(log.last, 20);
	prove_log_clear(&log);
}

/* The destination had no memory at first: what it did then is missing, and not taken for done. */
static void test_gap(void **state)
{
	struct fixture *f = *state;

	work(f, 10, true);
	claim_of(f, &f->claims[1]);
	f->claims[1].loads = 1;
	f->claims[1].resumed_step = MOVED;
	assert_int_equal(prove(f, 2, 0), -EBADMSG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_right), TEST(test_stale), TEST(test_one_bit),
		TEST(test_torn), TEST(test_too_new), TEST(test_unanswered),
		TEST(test_elsewhere), TEST(test_other_chain), TEST(test_many),
		TEST(test_gap), TEST(test_cannot_be_proven), TEST(test_all_logged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
