/* SPDX-License-Identifier: BSD-3-Clause */
/* prove.c: recomputes the chain and compares it with what devices and logs say. */
#include "sim/prove.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "sim/prove_pages.h"

#define PROGRESS_STEPS 65536u

typedef unsigned long long ull; /* for printf */

static void claim_get(const uint8_t *p, struct prove_claim *c)
{
	c->control = get_le64(p + SIM_BAR_CONTROL);
	c->rate = get_le64(p + SIM_BAR_RATE);
	c->seed = get_le64(p + SIM_BAR_SEED);
	c->state_bytes = get_le64(p + SIM_BAR_STATE_BYTES);
	c->step = get_le64(p + SIM_BAR_STEP);
	c->chain = get_le64(p + SIM_BAR_CHAIN);
	c->digest = get_le64(p + SIM_BAR_DIGEST);
	c->resumed_step = get_le64(p + SIM_BAR_RESUMED_STEP);
	c->loads = get_le64(p + SIM_BAR_LOADS);
	c->log_iova = get_le64(p + SIM_BAR_LOG_IOVA);
	c->log_entries = get_le64(p + SIM_BAR_LOG_ENTRIES);
	c->logged = get_le64(p + SIM_BAR_LOGGED);
	c->not_logged = get_le64(p + SIM_BAR_NOT_LOGGED);
	c->opaque_bytes = get_le64(p + SIM_BAR_OPAQUE_BYTES);
	c->opaque_count = get_le64(p + SIM_BAR_OPAQUE_COUNT);
}

int prove_read(struct access *a, struct prove_claim *ret, struct vfmig_error *err)
{
	uint8_t registers[SIM_BAR_REGISTERS * 8], one[8];
	struct prove_claim claim = { .name = a->name };
	struct access_region_info info;

	int r = access_region_info(a, ACCESS_PCI_BAR0, &info, err);
	if (r < 0)
		return error_prefix(err, r, "BAR 0");
	uint64_t size = info.size;
	access_region_info_clear(&info);
	if (size != SIM_BAR0_SIZE)
		return error_set(err, -EOPNOTSUPP, "BAR 0 has %llu bytes: not vfmig's software device", (ull)size);
	put_le64(one, 1);
	r = access_region_write(a, ACCESS_PCI_BAR0, SIM_BAR_LATCH, one, sizeof(one), err);
	if (r == 0)
		r = access_region_read(a, ACCESS_PCI_BAR0, SIM_BAR_LATCHED, registers, sizeof(registers), err);
	if (r < 0)
		return error_prefix(err, r, "latching BAR 0");
	if (get_le64(registers + SIM_BAR_MAGIC) != SIM_BAR_MAGIC_VALUE)
		return error_set(err, -EOPNOTSUPP, "no magic number in BAR 0: not vfmig's software device");
	claim_get(registers, &claim);
	if (claim.state_bytes < SIM_STATE_MIN || claim.state_bytes > SIM_STATE_MAX || claim.state_bytes % SIM_STATE_MIN)
		return error_set(err, -EPROTO, "state of %llu bytes is impossible", (ull)claim.state_bytes);
	*ret = claim;
	return 0;
}

static int ring_read(const char *path, uint64_t count, struct prove_log *ret, struct vfmig_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, -errno, "%s", path);
	size_t length = (size_t)count * SIM_LOG_ENTRY, done = 0;
	uint8_t *entries = malloc(length);
	ssize_t n = 1;
	while (entries && done < length && (n = pread(fd, entries + done, length - done, (off_t)done)) > 0)
		done += (size_t)n;
	int r = !entries ? -ENOMEM : n < 0 ? -errno : 0;
	close(fd);
	if (r < 0)
		r = error_errno(err, r, "%s", path);
	else if (done < length)
		r = error_set(err, -EINVAL, "%s has %zu bytes, expected a log of %llu entries, %zu bytes", path, done,
			      (ull)count, length);
	struct prove_log log = { .entries = entries, .count = count };
	if (r == 0)
		r = prove_log_scan(&log, err);
	if (r < 0) {
		free(entries);
		return r;
	}
	*ret = log;
	return 0;
}

int prove_log_read(const char *path, const struct prove_claim *claim, struct prove_log *ret, struct vfmig_error *err)
{
	uint64_t count = claim->log_entries;

	if (!count || count > SIM_LOG_ENTRIES_MAX)
		return error_set(err, -EINVAL, "%s: the device's log has %llu entries", path, (ull)count);
	return claim->control & SIM_CONTROL_SCATTER ? prove_pages_open(path, claim, ret, err)
						    : ring_read(path, count, ret, err);
}

static bool slot_is_empty(const uint8_t *entry)
{
	static const uint8_t zero[SIM_LOG_ENTRY];

	return !memcmp(entry, zero, sizeof(zero));
}

int prove_log_scan(struct prove_log *log, struct vfmig_error *err)
{
	log->first = log->last = 0;
	for (uint64_t i = 0; i < log->count; i++) {
		const uint8_t *entry = log->entries + i * SIM_LOG_ENTRY;
		uint64_t step, chain;
		if (slot_is_empty(entry))
			continue;
		if (!sim_log_get(entry, &step, &chain))
			return error_set(err, -EBADMSG, "log slot %llu holds no whole entry", (ull)i);
		if (step % log->count != i)
			return error_set(err, -EBADMSG, "log slot %llu holds step %llu, whose slot is %llu", (ull)i,
					 (ull)step, (ull)(step % log->count));
		if (!log->first || step < log->first)
			log->first = step;
		if (step > log->last)
			log->last = step;
	}
	return 0;
}

void prove_log_clear(struct prove_log *log)
{
	free(log->entries);
	prove_pages_close(log->pages);
	memset(log, 0, sizeof(*log));
}

static int check_log(struct prove_log *log, uint64_t since, const struct sim_work *w, struct vfmig_error *err)
{
	uint64_t step = 0, chain = 0;

	if (log->pages)
		prove_pages_step(log, w);
	if (log->pages || w->step < (since ? since : log->first) || w->step > log->last)
		return 0;
	if (!sim_log_get(log->entries + w->step % log->count * SIM_LOG_ENTRY, &step, &chain) || step != w->step)
		return error_set(err, -EBADMSG, "log: step %llu is missing", (ull)w->step);
	if (chain != w->chain)
		return error_set(err, -EBADMSG, "log: step %llu has chain %016llx, recomputed %016llx", (ull)step,
				 (ull)chain, (ull)w->chain);
	return 0;
}

static int check_claim(const struct prove_claim *c, const struct sim_work *w, struct vfmig_error *err)
{
	if (c->chain != w->chain)
		return error_set(err, -EBADMSG, "%s: at step %llu the chain is %016llx, recomputed %016llx", c->name,
				 (ull)c->step, (ull)c->chain, (ull)w->chain);
	if (c->digest != w->pages.digest)
		return error_set(err, -EBADMSG, "%s: at step %llu pages are not what they should be (digest %016llx, "
						"recomputed %016llx)",
				 c->name, (ull)c->step, (ull)c->digest, (ull)w->pages.digest);
	return 0;
}

/* Do two claims follow each other? */
static int check_handover(const struct prove_claim *from, const struct prove_claim *to, struct vfmig_error *err)
{
	if (from->seed != to->seed || from->state_bytes != to->state_bytes)
		return error_set(
		    err, -EBADMSG, "%s does not do the work of %s: seed %llu, %llu bytes, expected %llu, %llu",
		    to->name, from->name, (ull)to->seed, (ull)to->state_bytes, (ull)from->seed, (ull)from->state_bytes);
	if (!to->loads)
		return error_set(err, -EBADMSG, "%s has not been loaded", to->name);
	if (to->resumed_step < from->step)
		return error_set(err, -EBADMSG, "%s went on at step %llu, but %s had done %llu: steps repeated",
				 to->name, (ull)to->resumed_step, from->name, (ull)from->step);
	if (to->resumed_step > from->step || to->step < to->resumed_step)
		return error_set(err, -EBADMSG, "%s went on at step %llu, but %s stopped at %llu: steps lost", to->name,
				 (ull)to->resumed_step, from->name, (ull)from->step);
	return 0;
}

static int check_before(const struct prove_claim *claims, size_t count, struct prove_log *log, uint64_t since,
			uint64_t last, struct vfmig_error *err)
{
	for (size_t i = 0; i < count; i++) {
		if (claims[i].opaque_count)
			return error_set(err, -EOPNOTSUPP, "%s: an opaque device does no work", claims[i].name);
		int r = i ? check_handover(&claims[i - 1], &claims[i], err) : 0;
		if (r < 0)
			return r;
	}
	if (!log)
		return 0;
	if (log->pages)
		return prove_pages_range(log, claims, count, since, err);
	if (!since)
		since = log->first;
	if (!log->last)
		return error_set(err, -EBADMSG, "log: empty");
	if (since > log->last)
		return error_set(err, -EBADMSG, "log: no step %llu or later in it", (ull)since);
	if (log->last > last)
		return error_set(err, -EBADMSG, "log: holds step %llu, but only %llu were done", (ull)log->last,
				 (ull)last);
	if (log->last - since >= log->count)
		return error_set(err, -EINVAL, "log: %llu entries cannot hold the steps %llu to %llu", (ull)log->count,
				 (ull)since, (ull)log->last);
	return 0;
}

int prove_run(const struct prove_claim *claims, size_t count, struct prove_log *log, uint64_t since,
	      prove_progress_fn *progress, void *opaque, struct vfmig_error *err)
{
	uint64_t last = 0;
	struct sim_work w;

	for (size_t i = 0; i < count; i++)
		last = claims[i].step > last ? claims[i].step : last;
	int r = check_before(claims, count, log, since, last, err);
	if (r < 0)
		return r;
	if (sim_work_init(&w, claims[0].state_bytes, claims[0].seed) < 0)
		return error_errno(err, -ENOMEM, "state of %llu bytes", (ull)claims[0].state_bytes);
	for (;;) {
		for (size_t i = 0; i < count && r == 0; i++)
			if (claims[i].step == w.step)
				r = check_claim(&claims[i], &w, err);
		if (r == 0 && log)
			r = check_log(log, since, &w, err);
		if (r < 0 || w.step == last)
			break;
		sim_work_step(&w);
		if (progress && w.step % PROGRESS_STEPS == 0)
			progress(opaque, w.step, last);
	}
	sim_work_destroy(&w);
	return r == 0 && log && log->pages ? prove_pages_check(log, err) : r;
}
