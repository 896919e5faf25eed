/* SPDX-License-Identifier: BSD-3-Clause */
/* check_log.c: checks of the log of written pages and of states in which nothing is written; times. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "check.h"
#include "sim/model.h"

#define PAGE 4096u
#define MEMORY_BYTES (2u << 20)
#define LOGGED_BYTES (1u << 20) /* of which a device's own log is asked to log so much */
#define MEMORY_IOVA (UINT64_C(1) << 30)
#define MEMORY_PAGES (MEMORY_BYTES / PAGE)
#define FIRST_WRITTEN 64u /* what the engine writes to: not the first pages that are logged, and more than those */
#define WRITTEN_PAGES 256u
#define RATE 100000u
#define STEPS 64u
#define WAIT_NS (5 * NS_PER_S)
#define QUIET_NS (5 * NS_PER_MS)

/* -------------------------------------------------- the software device's work */

static int bar_get(struct check_run *r, uint64_t offset, uint64_t *ret, struct vfmig_error *err)
{
	int e = access_region_read(r->access, ACCESS_PCI_BAR0, offset, ret, sizeof(*ret), err);

	*ret = le64toh(*ret);
	return e < 0 ? error_prefix(err, e, "BAR 0") : 0;
}

static int bar_set(struct check_run *r, uint64_t offset, uint64_t value, struct vfmig_error *err)
{
	value = htole64(value);
	int e = access_region_write(r->access, ACCESS_PCI_BAR0, offset, &value, sizeof(value), err);
	return e < 0 ? error_prefix(err, e, "BAR 0") : 0;
}

/* Until the register has grown by so much. */
static int wait_growth(struct check_run *r, uint64_t offset, uint64_t by, struct vfmig_error *err)
{
	uint64_t from, now, until = clock_now_ns() + WAIT_NS;

	CHECK_TRY(bar_get(r, offset, &from, err));
	do {
		CHECK_TRY(bar_get(r, offset, &now, err));
		if (now - from >= by)
			return 0;
	} while (clock_now_ns() < until);
	return error_set(err, -ETIME, "the software device does not work: %llu steps, expected %llu",
			 (unsigned long long)(now - from), (unsigned long long)by);
}

static int engine(struct check_run *r, uint64_t control, struct vfmig_error *err)
{
	CHECK_TRY(bar_set(r, SIM_BAR_RATE, RATE, err));
	return bar_set(r, SIM_BAR_CONTROL, control, err);
}

int check_work(struct check_run *r, struct vfmig_error *err)
{
	if (!check_is_software(r))
		return 0;
	CHECK_TRY(check_go(r, VFMIG_STATE_RUNNING, err));
	CHECK_TRY(engine(r, SIM_CONTROL_ON, err));
	CHECK_TRY(wait_growth(r, SIM_BAR_STEP, STEPS, err));
	return engine(r, 0, err);
}

int check_quiet(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint64_t start, took, before, after;

	if (!check_is_software(r))
		return check_skip(err, "only of the software device it is known when it works");
	CHECK_TRY(engine(r, SIM_CONTROL_ON, err));
	start = clock_now_ns();
	CHECK_TRY(wait_growth(r, SIM_BAR_STEP, STEPS, err));
	took = clock_now_ns() - start;
	CHECK_TRY(check_go(r, (enum vfmig_state)c->from, err));
	CHECK_TRY(bar_get(r, SIM_BAR_STEP, &before, err));
	for (start = clock_now_ns(); clock_now_ns() - start < QUIET_NS + 2 * took;) {
		CHECK_TRY(bar_get(r, SIM_BAR_STEP, &after, err));
		if (after != before)
			return error_set(err, -EPROTO, "in %s it does %llu more steps",
					 vfmig_state_name((enum vfmig_state)c->from),
					 (unsigned long long)(after - before));
	}
	CHECK_TRY(check_go(r, VFMIG_STATE_RUNNING, err));
	int e = wait_growth(r, SIM_BAR_STEP, 1, err);
	if (e == -ETIME)
		return error_set(err, e, "running again it does not go on working");
	CHECK_TRY(e);
	return engine(r, 0, err);
}

int check_answers(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint8_t before[4], after[4];

	CHECK_TRY(check_needs_pci(r, err));
	CHECK_TRY(check_config(r, false, 0, before, sizeof(before), err));
	CHECK_TRY(check_go(r, (enum vfmig_state)c->from, err));
	CHECK_TRY(check_config(r, false, 0, after, sizeof(after), err));
	return memcmp(before, after, sizeof(after)) ? error_set(err, -EPROTO, "its identity reads otherwise") : 0;
}

/* ------------------------------------------------------------------- the log */

struct memory {
	uint8_t *now, *before;
	uint64_t *bits;
	enum access_log log;
	uint64_t page_size, length; /* of what is logged */
};

static enum access_log log_of(const struct check_run *r)
{
	return r->protocol == CHECK_V1 ? ACCESS_LOG_MAPPINGS : ACCESS_LOG_DEVICE;
}

static int log_start(struct check_run *r, struct memory *m, struct vfmig_error *err)
{
	struct access_range range = { MEMORY_IOVA, 0 };
	uint64_t start;

	m->log = log_of(r);
	m->page_size = PAGE;
	m->length = range.length = m->log == ACCESS_LOG_MAPPINGS ? MEMORY_BYTES : LOGGED_BYTES;
	CHECK_TRY(check_op_begin(r, CHECK_OP_LOG, &start, err));
	int e = access_dirty_start(r->access, m->log, &range, 1, &m->page_size, err);
	if (e == -EOPNOTSUPP)
		return check_skip(err, "the device logs no written pages");
	if (e < 0)
		return error_prefix(err, e, "starting the log");
	if (m->page_size < PAGE || m->page_size > m->length || m->page_size & (m->page_size - 1))
		return error_set(err, -EPROTO, "the log is of pages of 0x%llx bytes",
				 (unsigned long long)m->page_size);
	return 0;
}

static int log_report(struct check_run *r, struct memory *m, struct vfmig_error *err)
{
	uint64_t start;

	CHECK_TRY(check_op_begin(r, CHECK_OP_LOG, &start, err));
	memset(m->bits, 0, MEMORY_PAGES / 8);
	int e = access_dirty_report(r->access, m->log, MEMORY_IOVA, m->length, m->page_size, m->bits, err);
	if (e < 0)
		return error_prefix(err, e, "a report");
	return check_op_end(r, CHECK_OP_LOG, start, 0);
}

static int log_stop(struct check_run *r, struct memory *m, struct vfmig_error *err)
{
	int e = access_dirty_stop(r->access, m->log, err);

	return e < 0 ? error_prefix(err, e, "ending the log") : 0;
}

static bool bit(const uint64_t *bits, uint64_t n)
{
	return bits[n / 64] >> (n % 64) & 1;
}

/* Each page that has changed since `before` is told, and no other. */
static int compare_pages(const struct memory *m, uint64_t *ret_told, struct vfmig_error *err)
{
	*ret_told = 0;
	for (uint64_t at = 0; at < m->length; at += m->page_size) {
		bool changed = memcmp(m->now + at, m->before + at, m->page_size);
		bool told = bit(m->bits, at / m->page_size);
		if (changed != told)
			return error_set(err, -EPROTO, "the page at IOVA 0x%llx was%s written and is%s told",
					 (unsigned long long)(MEMORY_IOVA + at), changed ? "" : " not",
					 told ? "" : " not");
		*ret_told += told;
	}
	return 0;
}

/* What the log says of work that writes all over memory, twice. */
static int log_of_work(struct check_run *r, struct memory *m, struct vfmig_error *err)
{
	uint64_t told;

	memcpy(m->before, m->now, MEMORY_BYTES);
	for (int i = 0; i < 2; i++) {
		CHECK_TRY(engine(r, SIM_CONTROL_ON | SIM_CONTROL_SCATTER, err));
		CHECK_TRY(wait_growth(r, SIM_BAR_LOGGED, STEPS, err));
		CHECK_TRY(check_go(r, VFMIG_STATE_STOP, err));
		CHECK_TRY(log_report(r, m, err));
		CHECK_TRY(compare_pages(m, &told, err));
		snprintf(r->note, sizeof(r->note), "%llu pages", (unsigned long long)told);
		memcpy(m->before, m->now, MEMORY_BYTES);
		CHECK_TRY(check_go(r, VFMIG_STATE_RUNNING, err));
	}
	return 0;
}

static int log_once(struct check_run *r, struct memory *m, struct vfmig_error *err)
{
	CHECK_TRY(engine(r, SIM_CONTROL_ON | SIM_CONTROL_SCATTER, err));
	CHECK_TRY(wait_growth(r, SIM_BAR_LOGGED, STEPS, err));
	CHECK_TRY(check_go(r, VFMIG_STATE_STOP, err));
	CHECK_TRY(log_report(r, m, err));
	CHECK_TRY(log_report(r, m, err));
	for (uint64_t n = 0; n < m->length / m->page_size; n++)
		if (bit(m->bits, n))
			return error_set(err, -EPROTO, "the page at IOVA 0x%llx is told again by the next report",
					 (unsigned long long)(MEMORY_IOVA + n * m->page_size));
	return 0;
}

typedef int log_fn(struct check_run *r, struct memory *m, struct vfmig_error *err);

/* Around a log: whatever becomes of it, it is ended. */
static int with_log(struct check_run *r, struct memory *m, log_fn *body, struct vfmig_error *err)
{
	struct vfmig_error ignored;

	CHECK_TRY(log_start(r, m, err));
	int e = body(r, m, err);
	int stopped = log_stop(r, m, e ? &ignored : err);
	return e ? e : stopped;
}

/* A software device writes all over the memory, once its engine is on. */
static int point_engine(struct check_run *r, uint64_t entries, struct vfmig_error *err)
{
	if (!check_is_software(r))
		return 0;
	CHECK_TRY(engine(r, 0, err));
	CHECK_TRY(bar_set(r, SIM_BAR_LOG_IOVA, MEMORY_IOVA + FIRST_WRITTEN * PAGE, err));
	return bar_set(r, SIM_BAR_LOG_ENTRIES, entries, err);
}

/* Around that: memory that the device reaches. */
static int with_mapping(struct check_run *r, struct memory *m, int fd, log_fn *body, struct vfmig_error *err)
{
	struct vfmig_error ignored;
	int e = access_dma_map(r->access, MEMORY_IOVA, MEMORY_BYTES, fd, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, err);

	if (e == -EOPNOTSUPP)
		return check_skip(err, "this way to the device does not map memory");
	if (e < 0)
		return error_prefix(err, e, "mapping memory");
	e = point_engine(r, WRITTEN_PAGES, err);
	if (e == 0)
		e = with_log(r, m, body, err);
	(void)point_engine(r, 0, &ignored);
	int unmapped = access_dma_unmap(r->access, MEMORY_IOVA, MEMORY_BYTES, e ? &ignored : err);
	return e ? e : unmapped;
}

/* And around that: the memory itself. */
static int with_memory(struct check_run *r, log_fn *body, struct vfmig_error *err)
{
	uint64_t bits[MEMORY_PAGES / 64];
	struct memory m = { .bits = bits };
	int fd = memfd_create("vfmig-check", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, MEMORY_BYTES) < 0) {
		int e = -errno;
		if (fd >= 0)
			close(fd);
		return error_errno(err, e, "memory for the device");
	}
	void *now = mmap(NULL, MEMORY_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	m.before = malloc(MEMORY_BYTES);
	m.now = now;
	int e = now == MAP_FAILED || !m.before ? error_set(err, -ENOMEM, "memory for the device")
					       : with_mapping(r, &m, fd, body, err);
	free(m.before);
	if (now != MAP_FAILED)
		munmap(now, MEMORY_BYTES);
	close(fd);
	return e;
}

static int work_logged(struct check_run *r, log_fn *body, struct vfmig_error *err)
{
	return check_is_software(r) ? with_memory(r, body, err)
				    : check_skip(err, "only of the software device it is known what it writes");
}

int check_log_exact(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return work_logged(r, log_of_work, err);
}

int check_log_forgets(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return work_logged(r, log_once, err);
}

int check_log_cycle(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return with_memory(r, log_report, err);
}

static int start_again(struct check_run *r, struct memory *m, struct vfmig_error *err)
{
	struct access_range range = { MEMORY_IOVA, m->length };
	uint64_t page_size = PAGE;
	int e = access_dirty_start(r->access, m->log, &range, 1, &page_size, err);

	if (e == -ENOTCONN || e == -ETIMEDOUT)
		return e;
	return e < 0 ? 0 : error_set(err, -EPROTO, "the log was started while it was on");
}

int check_log_twice(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return with_memory(r, start_again, err);
}

/* with_log ends it once more, which is then of no interest: so it is started again. */
static int end_and_report(struct check_run *r, struct memory *m, struct vfmig_error *err)
{
	CHECK_TRY(log_report(r, m, err));
	CHECK_TRY(log_stop(r, m, err));
	int e = access_dirty_report(r->access, m->log, MEMORY_IOVA, m->length, m->page_size, m->bits, err);
	if (e == -ENOTCONN || e == -ETIMEDOUT)
		return e;
	if (e == 0)
		return error_set(err, -EPROTO, "a report was given after the log had been ended");
	return log_start(r, m, err);
}

int check_log_ended(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return with_memory(r, end_and_report, err);
}

/* ---------------------------------------------------------------------- times */

static void say_slow(char *text, size_t room, const char *what, uint64_t ns)
{
	size_t used = strlen(text);

	snprintf(text + used, room - used, "%s%s %.1f ms", used ? ", " : "", what, (double)ns / (double)NS_PER_MS);
}

int check_time_arcs(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	char slow[400] = "", what[64];
	uint64_t longest = 0;

	(void)c;
	for (uint32_t from = 0; from < CHECK_STATES; from++) {
		for (uint32_t to = 0; to < CHECK_STATES; to++) {
			uint64_t ns = r->arc_ns[from][to];
			snprintf(what, sizeof(what), "%s to %s", vfmig_state_name((enum vfmig_state)from),
				 vfmig_state_name((enum vfmig_state)to));
			if (ns > r->limit_ns)
				say_slow(slow, sizeof(slow), what, ns);
			if (ns <= longest)
				continue;
			longest = ns;
			r->note[0] = '\0';
			say_slow(r->note, sizeof(r->note), what, ns);
		}
	}
	if (!longest)
		return check_skip(err, "no arc was walked");
	return slow[0] ? error_set(err, -ETIME, "%s; at most %.0f ms are expected", slow,
				   (double)r->limit_ns / (double)NS_PER_MS) : 0;
}

static int time_ops(struct check_run *r, uint32_t ops, struct vfmig_error *err)
{
	uint64_t longest = 0;
	enum check_op worst = CHECK_OP_STATE;

	for (uint32_t op = 0; op < CHECK_OPS; op++) {
		if (ops >> op & 1 && r->op_ns[op] > longest) {
			longest = r->op_ns[op];
			worst = (enum check_op)op;
		}
	}
	if (!longest)
		return check_skip(err, "nothing was asked");
	say_slow(r->note, sizeof(r->note), check_op_name(worst), longest);
	return longest > r->limit_ns ? error_set(err, -ETIME, "%s; at most %.0f ms are expected", r->note,
						 (double)r->limit_ns / (double)NS_PER_MS) : 0;
}

int check_time_requests(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return time_ops(r, ~CHECK_OP(RESET), err);
}

int check_time_reset(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return time_ops(r, CHECK_OP(RESET), err);
}
