/* SPDX-License-Identifier: BSD-3-Clause */
/* prove_pages.c: which steps a scattered log must hold, and whether its pages do. */
#include "sim/prove_pages.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"

#define PAGE SIM_SCATTER_PAGE
#define CHUNK_PAGES 64u

typedef unsigned long long ull; /* for printf */

static int check_file(int fd, const char *path, uint64_t pages, struct vfmig_error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_errno(err, -errno, "%s", path);
	if ((uint64_t)st.st_size / PAGE < pages)
		return error_set(err, -EINVAL, "%s has %llu bytes, expected a scattered log of %llu pages, %llu bytes",
				 path, (ull)st.st_size, (ull)pages, (ull)pages * PAGE);
	return 0;
}

int prove_pages_open(const char *path, const struct prove_claim *claim, struct prove_log *ret, struct vfmig_error *err)
{
	uint64_t count = claim->log_entries;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, -errno, "%s", path);
	int r = check_file(fd, path, count, err);
	struct prove_pages *p = r == 0 ? calloc(1, sizeof(*p)) : NULL;
	struct prove_slot *slots = r == 0 ? calloc(count, sizeof(*slots)) : NULL;
	if (r == 0 && (!p || !slots))
		r = error_errno(err, -ENOMEM, "%s: a log of %llu pages", path, (ull)count);
	if (r < 0) {
		close(fd);
		free(slots);
		free(p);
		return r;
	}
	*p = (struct prove_pages){ .fd = fd, .iova = claim->log_iova, .slots = slots };
	*ret = (struct prove_log){ .pages = p, .count = count };
	return 0;
}

void prove_pages_close(struct prove_pages *p)
{
	if (!p)
		return;
	close(p->fd);
	free(p->slots);
	free(p);
}

/* ---------------------------------------------------- which steps were logged */

static int check_registers(const struct prove_log *log, const struct prove_claim *c, struct vfmig_error *err)
{
	if (!(c->control & SIM_CONTROL_SCATTER) || c->log_iova != log->pages->iova || c->log_entries != log->count)
		return error_set(err, -EINVAL, "%s: its log is not the same scattered one, of %llu pages at 0x%llx",
				 c->name, (ull)log->count, (ull)log->pages->iova);
	if (c->logged > c->step || c->step - c->logged != c->not_logged)
		return error_set(err, -EBADMSG, "%s: %llu steps logged and %llu not, but %llu done", c->name,
				 (ull)c->logged, (ull)c->not_logged, (ull)c->step);
	return 0;
}

/* The source stopped with its client's memory still mapped: so its last step was logged, unless none was. */
static int range_of_two(struct prove_log *log, const struct prove_claim *from, const struct prove_claim *to,
			uint64_t since, struct vfmig_error *err)
{
	if (to->logged < from->logged)
		return error_set(err, -EBADMSG, "%s has logged %llu steps, but %s %llu before it", to->name,
				 (ull)to->logged, from->name, (ull)from->logged);
	log->first = since ? since : from->not_logged + 1;
	if (log->first <= from->step && from->step - log->first >= from->logged)
		return error_set(err, -EINVAL, "log: %s has logged only %llu of the steps %llu to %llu", from->name,
				 (ull)from->logged, (ull)log->first, (ull)from->step);
	log->last = max_u64(from->step, log->first - 1) + (to->logged - from->logged);
	return 0;
}

/* After the last logged step a device may have gone on without memory: how far cannot be had from its end. */
static int range_of_one(struct prove_log *log, const struct prove_claim *c, uint64_t since, struct vfmig_error *err)
{
	if (!since && c->not_logged)
		return error_set(err, -EINVAL,
				 "log: which %llu of %s's %llu steps were logged is not known; say --since, the first, "
				 "or name the source too",
				 (ull)c->logged, c->name, (ull)c->step);
	log->first = since ? since : 1;
	log->last = log->first - 1 + c->logged;
	return 0;
}

int prove_pages_range(struct prove_log *log, const struct prove_claim *claims, size_t count, uint64_t since,
		      struct vfmig_error *err)
{
	const struct prove_claim *to = &claims[count - 1];

	for (size_t i = 0; i < count; i++) {
		int r = check_registers(log, &claims[i], err);
		if (r < 0)
			return r;
	}
	if (log->last)
		return 0;
	if (!to->logged)
		return error_set(err, -EBADMSG, "log: %s has logged no step", to->name);
	if (since > to->step)
		return error_set(err, -EINVAL, "log: no step %llu was done, only %llu", (ull)since, (ull)to->step);
	int r = count > 1 ? range_of_two(log, &claims[count - 2], to, since, err) : range_of_one(log, to, since, err);
	if (r < 0)
		return r;
	if (log->last < log->first || log->last > to->step)
		return error_set(err, -EINVAL, "log: %llu steps logged of %llu cannot be the steps %llu to %llu",
				 (ull)to->logged, (ull)to->step, (ull)log->first, (ull)log->last);
	return 0;
}

/* ------------------------------------------------------------------- pages */

void prove_pages_step(struct prove_log *log, const struct sim_work *w)
{
	if (w->step == log->last + 1) {
		log->pages->unanswered = (struct prove_slot){ w->step, w->chain };
		log->pages->unanswered_slot = sim_scatter_slot(w->step, log->count);
	}
	if (w->step < log->first || w->step > log->last)
		return;
	struct prove_slot *slot = &log->pages->slots[sim_scatter_slot(w->step, log->count)];
	log->pages->written += slot->step == 0;
	*slot = (struct prove_slot){ w->step, w->chain };
}

static void expected_page(const struct prove_slot *slot, uint64_t page[PAGE / 8])
{
	if (slot->step)
		sim_scatter_put(slot->step, slot->chain, page);
	else
		memset(page, 0, PAGE);
}

/* A client that leaves while a message is under way may have written its page: the device has not heard of it. */
static bool is_unanswered(const struct prove_pages *p, uint64_t index, const uint8_t *page)
{
	uint64_t expected[PAGE / 8];

	if (!p->unanswered.step || index != p->unanswered_slot)
		return false;
	expected_page(&p->unanswered, expected);
	return !memcmp(page, expected, PAGE);
}

static bool is_empty(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

/* The first wrong page: what it holds, and what it should. */
static void describe(struct prove_log *log, uint64_t index, const uint8_t *page, const uint64_t *expected, char *text,
		     size_t size)
{
	const struct prove_slot *slot = &log->pages->slots[index];
	struct prove_wrong *w = &log->pages->first_wrong;
	uint64_t step = 0, chain = 0;
	bool whole = sim_log_get(page, &step, &chain);
	size_t at = 0;

	while (at < PAGE - 1 && page[at] == ((const uint8_t *)expected)[at])
		at++;
	*w = (struct prove_wrong){ index, log->pages->iova + index * PAGE, slot->step, whole ? step : 0 };
	int n = snprintf(text, size, "page %llu at IOVA 0x%llx ", (ull)index, (ull)w->iova);
	text += n;
	size -= (size_t)n;
	char should[48] = "nothing";
	if (slot->step)
		snprintf(should, sizeof(should), "step %llu", (ull)slot->step);
	if (is_empty(page))
		snprintf(text, size, "is empty, expected %s", should);
	else if (!whole)
		snprintf(text, size, "holds no whole entry, expected %s (differs from byte %zu on)", should, at);
	else if (step > log->last)
		snprintf(text, size, "is too new: it holds step %llu, expected %s; the last one logged was %llu",
			 (ull)step, should, (ull)log->last);
	else if (sim_scatter_slot(step, log->count) != index)
		snprintf(text, size, "holds step %llu, which belongs to page %llu, expected %s", (ull)step,
			 (ull)sim_scatter_slot(step, log->count), should);
	else if (step < slot->step)
		snprintf(text, size, "is stale: it holds step %llu, expected %s", (ull)step, should);
	else if (!slot->step)
		snprintf(text, size, "holds step %llu, expected nothing: the first one logged was %llu", (ull)step,
			 (ull)log->first);
	else if (chain != slot->chain)
		snprintf(text, size, "holds %s with chain %016llx, recomputed %016llx", should, (ull)chain,
			 (ull)slot->chain);
	else
		snprintf(text, size, "is torn or altered: %s's from byte %zu on is another", should, at);
}

static int read_pages(const struct prove_pages *p, uint64_t first, size_t count, uint8_t *ret, struct vfmig_error *err)
{
	size_t length = count * PAGE, done = 0;
	ssize_t n = 1;

	while (done < length &&
	       (n = pread(p->fd, ret + done, length - done, (off_t)(first * PAGE + done))) > 0)
		done += (size_t)n;
	if (n < 0)
		return error_errno(err, -errno, "log");
	return done == length ? 0 : error_set(err, -EINVAL, "log: its file became shorter meanwhile");
}

int prove_pages_check(struct prove_log *log, struct vfmig_error *err)
{
	struct prove_pages *p = log->pages;
	uint64_t expected[PAGE / 8];
	char text[256];
	uint8_t *chunk = malloc(CHUNK_PAGES * PAGE);
	int r = chunk ? 0 : error_errno(err, -ENOMEM, "log");

	p->checked = true;
	p->wrong = 0;
	for (uint64_t i = 0; r == 0 && i < log->count; i += CHUNK_PAGES) {
		size_t n = (size_t)min_u64(CHUNK_PAGES, log->count - i);
		r = read_pages(p, i, n, chunk, err);
		for (size_t k = 0; r == 0 && k < n; k++) {
			expected_page(&p->slots[i + k], expected);
			if (!memcmp(chunk + k * PAGE, expected, PAGE) || is_unanswered(p, i + k, chunk + k * PAGE))
				continue;
			if (p->wrong++ == 0)
				describe(log, i + k, chunk + k * PAGE, expected, text, sizeof(text));
		}
	}
	free(chunk);
	if (r < 0 || !p->wrong)
		return r;
	if (p->wrong == 1)
		return error_set(err, -EBADMSG, "log: %s", text);
	return error_set(err, -EBADMSG, "log: %llu pages of %llu are wrong, the first: %s", (ull)p->wrong,
			 (ull)log->count, text);
}
