/* SPDX-License-Identifier: BSD-3-Clause */
/* check_load.c: checks of loads, whole, in pieces, cut and too long, again and again. */
#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "check.h"

#define ODD_PIECE 1021u
#define V1_PIECE 4104u
#define ITERATIONS_SOFTWARE 1000u
#define ITERATIONS 10u
#define LEAK_PER_ITERATION 16u /* bytes that count as one */
#define RESIDENT_SPARE (1u << 20)

/* One piece; all of them if there is no other way out of resuming. */
static size_t first_of(const struct check_run *r)
{
	return r->broken_ops & CHECK_OP(RESET) ? r->kept.length : r->kept.sizes[0];
}

int check_data_write(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	uint64_t offset;

	(void)c;
	if (!r->kept.length)
		return check_skip(err, "needs a state that was read to its end");
	CHECK_TRY(check_go(r, VFMIG_STATE_RESUMING, err));
	if (r->protocol == CHECK_V2)
		return check_fill(r, &r->kept, first_of(r), 0, err);
	CHECK_TRY(check_v1_offset(r, &offset, err));
	if (!range_inside(offset, r->kept.sizes[0], r->region.size))
		return error_set(err, -EPROTO, "the first transaction of its own state, %zu bytes, does not fit at "
					       "data_offset 0x%llx", r->kept.sizes[0], (unsigned long long)offset);
	return check_v1_section(r, true, offset, r->kept.data, r->kept.sizes[0], 0, err);
}

int check_consume(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	if (!r->kept.length)
		return check_skip(err, "needs a state that was read to its end");
	CHECK_TRY(check_go(r, VFMIG_STATE_RESUMING, err));
	return check_fill(r, &r->kept, first_of(r), 0, err);
}

/* Saved, gone by a reset (if there is one), loaded in such pieces, saved: the same. */
static int round_trip(struct check_run *r, size_t piece, struct vfmig_error *err)
{
	CHECK_TRY(check_work(r, err));
	CHECK_TRY(check_save(r, &r->two, 0, err));
	int e = check_reset(r, err);
	if (e < 0)
		return e;
	CHECK_TRY(check_load(r, &r->two, piece, err));
	CHECK_TRY(check_save(r, &r->one, 0, err));
	return check_blob_same(&r->two, &r->one, "what was loaded, saved again,", err);
}

static int needs_load(struct check_run *r, struct vfmig_error *err)
{
	uint64_t start;

	return check_op_begin(r, CHECK_OP_LOAD, &start, err);
}

int check_load_proven(struct check_run *r, const struct check_blob *b, struct vfmig_error *err)
{
	CHECK_TRY(needs_load(r, err));
	return check_load(r, b, 0, err);
}

int check_load_original(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return round_trip(r, 0, err);
}

int check_load_bytes(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	CHECK_TRY(needs_load(r, err));
	return round_trip(r, 1, err);
}

int check_load_odd(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	CHECK_TRY(needs_load(r, err));
	return round_trip(r, r->protocol == CHECK_V1 ? V1_PIECE : ODD_PIECE, err);
}

int check_load_large(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	CHECK_TRY(needs_load(r, err));
	return round_trip(r, CHECK_PIECE_MAX, err);
}

/* ----------------------------------------------------------------- refusals */

/* In resuming, with something wrong in it: there is no way out but a reset. */
static int expect_refused_load(struct check_run *r, const char *what, struct vfmig_error *err)
{
	enum vfmig_state to = check_loaded_state(r), state;
	int e = check_state_set(r, to, err);

	if (e == -ENOTCONN || e == -ETIMEDOUT)
		return e;
	if (e == 0)
		return error_set(err, -EPROTO, "%s was taken for a whole one", what);
	CHECK_TRY(check_state_get(r, &state, err));
	if (state != VFMIG_STATE_RESUMING && state != VFMIG_STATE_ERROR)
		return error_set(err, -EPROTO, "%s was refused, and the device is in %s, expected resuming or error",
				 what, vfmig_state_name(state));
	return 0;
}

static bool way_out_is_broken(const struct check_run *r)
{
	return r->broken_arcs[VFMIG_STATE_RESUMING] >> check_loaded_state(r) & 1;
}

static int begin_bad_load(struct check_run *r, struct vfmig_error *err)
{
	if (!r->kept.length || way_out_is_broken(r))
		return check_skip(err, "needs a load that succeeds");
	CHECK_TRY(check_reset(r, err));
	return check_go(r, VFMIG_STATE_RESUMING, err);
}

static int truncated(struct check_run *r, size_t length, struct vfmig_error *err)
{
	char what[64];

	CHECK_TRY(begin_bad_load(r, err));
	int e = check_fill(r, &r->kept, length, 0, err);
	if (e == CHECK_SKIPPED)
		return e;
	if (e < 0) /* a v1 device has looked into a transaction that ends too early */
		return r->protocol == CHECK_V1 && e != -ENOTCONN && e != -ETIMEDOUT ? 0 : e;
	snprintf(what, sizeof(what), "a state of %zu of %zu bytes", length, r->kept.length);
	return expect_refused_load(r, what, err);
}

int check_nothing_loaded(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	return truncated(r, 0, err);
}

int check_truncated(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	if (r->kept.length == 1)
		return check_skip(err, "a state of 1 byte is none or whole");
	CHECK_TRY(truncated(r, 1, err));
	CHECK_TRY(truncated(r, r->kept.length / 2, err));
	return truncated(r, r->kept.length - 1, err);
}

int check_surplus(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	static const uint8_t more[8];

	(void)c;
	CHECK_TRY(begin_bad_load(r, err));
	CHECK_TRY(check_fill(r, &r->kept, r->kept.length, 0, err));
	int e = r->protocol == CHECK_V1 ? check_v1_put(r, more, sizeof(more), 0, err)
					: check_write(r, more, sizeof(more), err);
	if (e)
		return e == CHECK_SKIPPED || e == -ENOTCONN || e == -ETIMEDOUT ? e : 0;
	return expect_refused_load(r, "a state with 8 bytes too many", err);
}

int check_after_refusal(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	CHECK_TRY(needs_load(r, err));
	CHECK_TRY(check_save(r, &r->two, 0, err));
	CHECK_TRY(truncated(r, r->kept.length / 2, err));
	CHECK_TRY(check_reset(r, err));
	CHECK_TRY(check_state_is(r, VFMIG_STATE_RUNNING, err));
	CHECK_TRY(check_load(r, &r->two, 0, err));
	CHECK_TRY(check_save(r, &r->one, 0, err));
	return check_blob_same(&r->two, &r->one, "what was loaded after a refusal, saved again,", err);
}

/* About half of a state: on v1 of whole transactions. */
static size_t half_of(const struct check_run *r, const struct check_blob *b)
{
	size_t length = 0;

	if (r->protocol == CHECK_V2)
		return b->length / 2;
	for (size_t i = 0; i < b->count / 2; i++)
		length += b->sizes[i];
	return length;
}

/* A load that is given up in the middle. */
int check_cancel_load(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	CHECK_TRY(needs_load(r, err));
	CHECK_TRY(check_save(r, &r->two, 0, err));
	CHECK_TRY(check_reset(r, err));
	CHECK_TRY(check_go(r, VFMIG_STATE_RESUMING, err));
	CHECK_TRY(check_fill(r, &r->two, half_of(r, &r->two), 0, err));
	CHECK_TRY(check_reset(r, err));
	CHECK_TRY(check_state_is(r, VFMIG_STATE_RUNNING, err));
	CHECK_TRY(check_load(r, &r->two, 0, err));
	CHECK_TRY(check_save(r, &r->one, 0, err));
	return check_blob_same(&r->two, &r->one, "what was loaded after half a load, saved again,", err);
}

/* -------------------------------------------------------------------- leaks */

/* A sanitizer's own allocator keeps what was freed. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || \
	__has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MEMORY_TELLS false
#else
#define MEMORY_TELLS true
#endif

struct held {
	uint64_t fds, resident, allocated;
};

static int count_held(pid_t pid, struct held *ret, struct vfmig_error *err)
{
	char path[64];
	unsigned long long size, resident;

	*ret = (struct held) { 0 };
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *d = opendir(path);
	if (!d)
		return error_errno(err, -errno, "%s", path);
	while (readdir(d))
		ret->fds++;
	closedir(d);
	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return error_errno(err, -errno, "%s", path);
	bool ok = fscanf(f, "%llu %llu", &size, &resident) == 2;
	fclose(f);
	if (!ok)
		return error_set(err, -EPROTO, "%s is not as expected", path);
	ret->resident = resident * (uint64_t)sysconf(_SC_PAGESIZE);
	if (pid == getpid())
		ret->allocated = mallinfo2().uordblks;
	return 0;
}

static int compare_held(const struct held *a, const struct held *b, uint64_t times, const char *who,
			struct vfmig_error *err)
{
	if (b->fds > a->fds)
		return error_set(err, -EPROTO, "%s has %llu fds more after %llu saves and loads", who,
				 (unsigned long long)(b->fds - a->fds), (unsigned long long)times);
	if (!MEMORY_TELLS)
		return 0;
	if (b->allocated > a->allocated + times * LEAK_PER_ITERATION)
		return error_set(err, -EPROTO, "%s has allocated %llu bytes more after %llu saves and loads", who,
				 (unsigned long long)(b->allocated - a->allocated), (unsigned long long)times);
	if (b->resident > a->resident + times * LEAK_PER_ITERATION + RESIDENT_SPARE)
		return error_set(err, -EPROTO, "%s has %llu bytes of memory more after %llu saves and loads", who,
				 (unsigned long long)(b->resident - a->resident), (unsigned long long)times);
	return 0;
}

static int there_and_back(struct check_run *r, uint64_t times, struct vfmig_error *err)
{
	for (uint64_t i = 0; i < times; i++) {
		if (*r->interrupted)
			return check_skip(err, "interrupted");
		CHECK_TRY(check_save(r, &r->one, 0, err));
		CHECK_TRY(check_go(r, VFMIG_STATE_STOP, err));
		CHECK_TRY(check_go(r, VFMIG_STATE_RUNNING, err));
		CHECK_TRY(check_load(r, &r->one, 0, err));
		CHECK_TRY(check_go(r, VFMIG_STATE_RUNNING, err));
	}
	return 0;
}

int check_leaks(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	struct held own[2], server[2];
	uint64_t first;

	(void)c;
	CHECK_TRY(needs_load(r, err));
	if (!r->iterations)
		r->iterations = check_is_software(r) ? ITERATIONS_SOFTWARE : ITERATIONS;
	first = r->iterations / 10 + 1; /* what is allocated once is by then */
	CHECK_TRY(there_and_back(r, first, err));
	for (int i = 0; i < 2; i++) {
		CHECK_TRY(count_held(getpid(), &own[i], err));
		if (r->server)
			CHECK_TRY(count_held(r->server, &server[i], err));
		if (i == 0)
			CHECK_TRY(there_and_back(r, r->iterations, err));
	}
	CHECK_TRY(compare_held(&own[0], &own[1], r->iterations, "this process", err));
	if (r->server)
		CHECK_TRY(compare_held(&server[0], &server[1], r->iterations, "the server", err));
	snprintf(r->note, sizeof(r->note), "%u times", r->iterations);
	return 0;
}

/* What was found in the beginning is there again, and runs. */
int check_restored(struct check_run *r, const struct check *c, struct vfmig_error *err)
{
	(void)c;
	if (!r->kept.length)
		return check_skip(err, "no state was read to its end");
	CHECK_TRY(check_load_proven(r, &r->kept, err));
	CHECK_TRY(check_go(r, VFMIG_STATE_RUNNING, err));
	return check_state_is(r, VFMIG_STATE_RUNNING, err);
}
