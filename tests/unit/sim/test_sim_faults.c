/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sim_faults.c: every fault at every step where it is possible does what it says, and only that. */
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "by_hand.h"

#define OPTIONS "size=64K,section=64K,rate=0,map=trapped"
#define BYTES 64u
#define LOG_IOVA 0x100000u
#define LOG_BYTES (64 * SIM_SCATTER_PAGE)

/* Memory that the device writes, and a log of it. */
static void write_memory(struct access *a)
{
	static const struct access_range all = { LOG_IOVA, LOG_BYTES };
	uint64_t page_size = SIM_SCATTER_PAGE;
	int fd = memfd_create("memory", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, LOG_BYTES), 0);
	assert_int_equal(access_dma_map(a, LOG_IOVA, LOG_BYTES, fd, 0, VFMIG_DMA_WRITE, NULL), 0);
	close(fd);
	assert_int_equal(access_dirty_start(a, ACCESS_LOG_MAPPINGS, &all, 1, &page_size, NULL), 0);
	assert_int_equal(sim_device_steps(sim_access_device(a), 10), 10);
}

static int ask_memory(struct access *a, uint64_t *bits)
{
	return access_dirty_report(a, ACCESS_LOG_MAPPINGS, LOG_IOVA, LOG_BYTES, SIM_SCATTER_PAGE, bits, NULL);
}

/* Brings a device before that step. */
static void prepare(struct access *a, enum fault_step step)
{
	uint64_t v;

	switch (step) {
	case FAULT_TO_RUNNING:
		assert_int_equal(set_state(a, STOPPED), 0);
		break;
	case FAULT_PENDING:
	case FAULT_DATA_OFFSET:
	case FAULT_DATA_SIZE:
	case FAULT_DATA_READ:
		assert_int_equal(set_state(a, STOP_COPY), 0);
		if (step == FAULT_PENDING)
			break;
		assert_true(get_pending(a) > 0);
		if (step == FAULT_DATA_OFFSET)
			break;
		assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &v), 0);
		if (step == FAULT_DATA_READ)
			assert_int_equal(reg_read(a, SIM_V1_DATA_SIZE, 8, &v), 0);
		break;
	case FAULT_DATA_WRITE:
	case FAULT_CONSUME:
		assert_int_equal(set_state(a, RESUMING), 0);
		assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &v), 0);
		break;
	case FAULT_DIRTY_REPORT:
		write_memory(a);
		break;
	default:
		break;
	}
}

/* Does the one access that the step is. `bytes`: what was read, or as it lies in the device. */
static int strike(struct access *a, enum fault_step step, uint8_t bytes[BYTES])
{
	uint8_t *section = sim_access_device(a)->region.base + SIM_REGION_DATA;
	uint64_t v = 0;
	int r;

	memset(bytes, 0, BYTES);
	switch (step) {
	case FAULT_TO_RUNNING:
		return set_state(a, RUNNING);
	case FAULT_TO_PRECOPY:
		return set_state(a, PRE_COPY);
	case FAULT_TO_STOPCOPY:
		return set_state(a, STOP_COPY);
	case FAULT_TO_STOP:
		return set_state(a, STOPPED);
	case FAULT_TO_RESUMING:
		return set_state(a, RESUMING);
	case FAULT_STATE_READ:
		r = reg_read(a, SIM_V1_DEVICE_STATE, 4, &v);
		put_le64(bytes, v);
		return r;
	case FAULT_PENDING:
	case FAULT_DATA_OFFSET:
	case FAULT_DATA_SIZE:
		r = reg_read(a, step == FAULT_PENDING ? SIM_V1_PENDING_BYTES
			     : step == FAULT_DATA_OFFSET ? SIM_V1_DATA_OFFSET : SIM_V1_DATA_SIZE, 8, &v);
		put_le64(bytes, v);
		return r;
	case FAULT_DATA_READ:
		return access_region_read(a, SIM_REGION_INDEX, SIM_REGION_DATA, bytes, BYTES, NULL);
	case FAULT_DATA_WRITE:
		r = access_region_write(a, SIM_REGION_INDEX, SIM_REGION_DATA, bytes, BYTES, NULL);
		memcpy(bytes, section, BYTES);
		return r;
	case FAULT_CONSUME:
		return reg_write(a, SIM_V1_DATA_SIZE, 8, 16);
	case FAULT_CONFIG_READ:
		return access_region_read(a, ACCESS_PCI_CONFIG, 0, bytes, BYTES, NULL);
	case FAULT_CONFIG_WRITE:
		return access_region_write(a, ACCESS_PCI_CONFIG, 4, bytes, 2, NULL);
	case FAULT_DIRTY_REPORT:
		r = ask_memory(a, &v);
		put_le64(bytes, v);
		return r;
	default:
		return access_reset(a, NULL);
	}
}

static struct access *open_with(enum fault_kind kind, enum fault_step step, const char *more)
{
	char options[256];

	/* An opaque device consumes any bytes. */
	snprintf(options, sizeof(options), OPTIONS "%s,fault=%s@%s%s",
		 step == FAULT_CONSUME	      ? ",opaque"
		 : step == FAULT_DIRTY_REPORT ? ",start,scatter,log=0x100000/64"
					      : "",
		 fault_kind_name(kind), fault_step_name(step), more);
	struct access *a = open_sim(options);
	prepare(a, step);
	return a;
}

static uint32_t state_of(struct access *a)
{
	return sim_access_device(a)->region.state;
}

static void assert_error_until_reset(struct access *a)
{
	assert_int_equal(state_of(a), IN_ERROR);
	assert_int_equal(set_state(a, RUNNING), -EIO);
	assert_int_equal(access_reset(a, NULL), 0);
	assert_int_equal(state_of(a), RUNNING);
}

static void assert_one_lost(uint64_t written, uint64_t told)
{
	assert_true((told & ~written) == 0);
	assert_int_equal(__builtin_popcountll(written & ~told), 1);
}

static void check_pair(enum fault_kind kind, enum fault_step step)
{
	uint8_t got[BYTES], clean[BYTES];
	struct access *a = open_with(kind, step, kind == FAULT_SLOW ? ":5" : "");
	struct access *healthy = open_with(FAULT_ERRNO, step, "#1000"); /* never comes to it */
	uint32_t before = state_of(a);
	uint64_t start = clock_now_ns();

	int r = strike(a, step, got);
	uint64_t took = clock_now_ns() - start;
	assert_int_equal(strike(healthy, step, clean), 0);
	switch (kind) {
	case FAULT_ERRNO:
		assert_int_equal(r, -EIO);
		assert_int_equal(state_of(a), before);
		break;
	case FAULT_ERROR_STATE:
		assert_int_equal(r, step == FAULT_STATE_READ ? 0 : -EIO);
		assert_error_until_reset(a);
		break;
	case FAULT_BAD_OFFSET:
	case FAULT_HUGE_SIZE:
		assert_int_equal(r, 0);
		assert_true(get_le64(got) == UINT64_C(0xfffffffffffff000));
		break;
	case FAULT_ZERO_SIZE:
		assert_int_equal(r, 0);
		assert_int_equal(get_le64(got), 0);
		assert_true(get_le64(clean) > 0);
		break;
	case FAULT_NEVER_FALLS:
		for (int i = 0; i < 20; i++) {
			uint8_t section[65536];
			assert_true(take(a, section, sizeof(section), sizeof(section)) > 0);
			assert_true(get_pending(a) > 0);
		}
		break;
	case FAULT_WRONG_BYTES:
		assert_int_equal(r, 0);
		assert_memory_not_equal(got, clean, BYTES);
		break;
	case FAULT_LOSE_PAGE:
		assert_int_equal(r, 0);
		assert_one_lost(get_le64(clean), get_le64(got));
		break;
	case FAULT_SLOW:
		assert_int_equal(r, 0);
		assert_true(took >= 5 * NS_PER_MS);
		assert_memory_equal(got, clean, BYTES);
		break;
	case FAULT_HANG:
	case FAULT_DISCONNECT:
		assert_int_equal(r, kind == FAULT_HANG ? -ETIMEDOUT : -ENOTCONN);
		assert_int_equal(access_reset(a, NULL), -ENOTCONN);
		assert_int_equal(set_state(a, RUNNING), -ENOTCONN);
		break;
	default:
		fail();
	}
	access_close(a);
	access_close(healthy);
}

static void test_every_pair(void **state)
{
	unsigned int pairs = 0;

	(void)state;
	for (int k = 0; k < FAULT_KINDS; k++)
		for (int s = 0; s < FAULT_STEPS; s++)
			if (fault_possible((enum fault_kind)k, (enum fault_step)s)) {
				check_pair((enum fault_kind)k, (enum fault_step)s);
				pairs++;
			}
	assert_int_equal(pairs, 4 * FAULT_STEPS + 12 + 1 + 1 + 2 + 1 + 4 + 1);
}

static void test_nth_time_and_argument(void **state)
{
	struct access *a = open_sim(OPTIONS ",fault=errno@to-stop#2:EBUSY,fault=bad-offset@data-offset:7");
	uint64_t offset = 0;

	(void)state;
	for (int i = 1; i <= 3; i++) {
		assert_int_equal(set_state(a, STOPPED), i == 2 ? -EBUSY : 0);
		assert_int_equal(get_state(a), i == 2 ? RUNNING : STOPPED);
		assert_int_equal(set_state(a, RUNNING), 0);
	}
	assert_int_equal(set_state(a, STOP_COPY), 0);
	get_pending(a);
	assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &offset), 0);
	assert_int_equal(offset, 7);
	access_close(a);
}

/* A fault that has passed leaves nothing behind: the state that comes out is whole. */
static void test_passing_faults_lose_nothing(void **state)
{
	static const char *const faults[] = { "never-falls@pending#1", "never-falls@pending#3",
					      "zero-size@data-size#2" };
	uint8_t section[65536];

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		char options[128];
		snprintf(options, sizeof(options), "size=256K,section=64K,rate=0,fault=%s", faults[i]);
		struct access *from = open_sim(options), *to = open_sim("size=256K,section=64K,rate=0");
		assert_int_equal(set_state(from, STOP_COPY), 0);
		assert_int_equal(set_state(to, RESUMING), 0);
		while (get_pending(from)) {
			uint64_t offset = 0, n = 0;
			assert_int_equal(reg_read(from, SIM_V1_DATA_OFFSET, 8, &offset), 0);
			assert_int_equal(reg_read(from, SIM_V1_DATA_SIZE, 8, &n), 0);
			move_data(from, false, offset, section, n, 4096);
			if (n)
				assert_int_equal(give(to, section, n, 4096), 0);
		}
		assert_int_equal(set_state(to, RUNNING), 0);
		access_close(from);
		access_close(to);
	}
}

/* A page that is lost is lost for good, once; with nothing written it is the next report's. */
static void test_lost_page(void **state)
{
	struct access *a = open_sim(OPTIONS ",start,scatter,log=0x100000/64,fault=lose-page@dirty-report#2,"
					    "fault=errno@dirty-report#6");
	uint64_t bits = 0, written = 0;

	(void)state;
	write_memory(a);
	assert_int_equal(ask_memory(a, &bits), 0);
	bits = 0;
	assert_int_equal(ask_memory(a, &bits), 0); /* struck, but there is nothing to lose */
	assert_true(bits == 0);
	assert_int_equal(sim_device_steps(sim_access_device(a), 10), 10);
	assert_int_equal(ask_memory(a, &bits), 0);
	for (uint64_t step = 11; step <= 20; step++)
		written |= UINT64_C(1) << sim_scatter_slot(step, 64);
	assert_one_lost(written, bits);
	bits = 0;
	assert_int_equal(ask_memory(a, &bits), 0);
	assert_true(bits == 0); /* nor later */
	assert_int_equal(sim_device_steps(sim_access_device(a), 2), 2);
	assert_int_equal(ask_memory(a, &bits), 0);
	assert_true(bits == (UINT64_C(1) << sim_scatter_slot(21, 64) | UINT64_C(1) << sim_scatter_slot(22, 64)));
	bits = 0;
	/* And what a failed report would have told is forgotten. */
	assert_int_equal(sim_device_steps(sim_access_device(a), 10), 10);
	assert_int_equal(ask_memory(a, &bits), -EIO);
	assert_int_equal(ask_memory(a, &bits), 0);
	assert_true(bits == 0);
	access_close(a);
}

/* Through a mapping no access can be caught: the byte is wrong in the section itself. */
static void test_wrong_bytes_in_a_mapped_section(void **state)
{
	static const char *const faults[] = { "data-read", "data-write" };
	uint8_t section[65536];
	uint64_t n;

	(void)state;
	for (int i = 0; i < 2; i++) {
		char options[128];
		struct vfmig_error err;
		struct prove_claim claim;
		snprintf(options, sizeof(options), "size=256K,section=64K,rate=0,fault=wrong-bytes@%s#2", faults[i]);
		struct access *from = open_sim(i == 0 ? options : "size=256K,section=64K,rate=0");
		struct access *to = open_sim(i == 1 ? options : "size=256K,section=64K,rate=0");
		assert_int_equal(set_state(from, STOP_COPY), 0);
		assert_int_equal(set_state(to, RESUMING), 0);
		while ((n = take(from, section, sizeof(section), 4096)))
			assert_int_equal(give(to, section, n, 4096), 0);
		assert_int_equal(set_state(to, RUNNING), 0); /* it does not notice ... */
		assert_int_equal(prove_read(to, &claim, &err), 0);
		assert_int_equal(prove_run(&claim, 1, NULL, 0, NULL, NULL, &err), -EBADMSG); /* ... but it shows */
		access_close(from);
		access_close(to);
	}
}

/* The table in the documentation is the table in the code. */
static void test_documented(void **state)
{
	char row[1024], *text = NULL;
	size_t size = 0;
	FILE *f = fopen(FAULTS_DOC, "re");

	(void)state;
	assert_non_null(f);
	assert_true(getdelim(&text, &size, '\0', f) > 0);
	fclose(f);
	for (int k = 0; k < FAULT_KINDS; k++) {
		int n = 0, possible = 0;
		char steps[512] = "";
		for (int s = 0; s < FAULT_STEPS; s++)
			if (fault_possible((enum fault_kind)k, (enum fault_step)s)) {
				n += snprintf(steps + n, sizeof(steps) - (size_t)n, "%s%s", possible++ ? ", " : "",
					      fault_step_name((enum fault_step)s));
			}
		snprintf(row, sizeof(row), "| %s | %s | %s |\n", fault_kind_name((enum fault_kind)k),
			 fault_kind_help((enum fault_kind)k), possible == FAULT_STEPS ? "all" : steps);
		if (!strstr(text, row))
			fail_msg("%s has no row: %s", FAULTS_DOC, row);
	}
	for (int s = 0; s < FAULT_STEPS; s++) {
		snprintf(row, sizeof(row), "| %s | %s |\n", fault_step_name((enum fault_step)s),
			 fault_step_help((enum fault_step)s));
		if (!strstr(text, row))
			fail_msg("%s has no row: %s", FAULTS_DOC, row);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_pair),
		cmocka_unit_test(test_nth_time_and_argument),
		cmocka_unit_test(test_lost_page),
		cmocka_unit_test(test_wrong_bytes_in_a_mapped_section),
		cmocka_unit_test(test_passing_faults_lose_nothing),
		cmocka_unit_test(test_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
