/* SPDX-License-Identifier: BSD-3-Clause */
/* together.c: devices' transitions at the same time: the downtime grows with the slowest, not with the number. */
#include "migrate/together.h"

#include <stdlib.h>
#include <string.h>

#include "base/thread.h"

struct job {
	struct participant *participant;
	enum together_phase phase;
	pthread_t thread;
	bool threaded;
	int result;
	struct vfmig_error err;
};

static int call(const struct participant *p, enum together_phase phase, struct vfmig_error *err)
{
	int (*fn)(void *, struct vfmig_error *) = NULL;
	switch (phase) {
	case TOGETHER_STOP_PREPARE:
		fn = p->ops.stop_prepare;
		break;
	case TOGETHER_STOP:
		fn = p->ops.stop;
		break;
	case TOGETHER_SETTLE:
		fn = p->settle;
		break;
	case TOGETHER_START_PREPARE:
		fn = p->ops.start_prepare;
		break;
	case TOGETHER_START:
		fn = p->ops.start;
		break;
	case TOGETHER_UNDO_PREPARE:
		if (p->undo_prepare)
			p->undo_prepare(p->opaque);
		break;
	case TOGETHER_UNDO:
		fn = p->ops.undo;
		break;
	}
	int r = fn ? fn(p->opaque, err) : 0;
	return r < 0 ? r : 0;
}

static void *run_job(void *arg)
{
	struct job *job = arg;
	job->result = call(job->participant, job->phase, &job->err);
	return NULL;
}

/* The last one by this thread; so is one for which there is no thread to be had. */
static int run_jobs(struct job *jobs, size_t count, struct vfmig_error *err)
{
	const struct job *failed = NULL;
	for (size_t i = 0; i + 1 < count; i++)
		jobs[i].threaded = thread_start(&jobs[i].thread, run_job, &jobs[i]) == 0;
	for (size_t i = 0; i < count; i++)
		if (!jobs[i].threaded)
			run_job(&jobs[i]);
	for (size_t i = 0; i < count; i++) {
		if (jobs[i].threaded)
			pthread_join(jobs[i].thread, NULL);
		if (jobs[i].result < 0 && !failed)
			failed = &jobs[i];
	}
	if (!failed)
		return 0;
	if (err)
		*err = failed->err;
	return failed->result;
}

/* How many VFIO devices follow each other from here on. */
static size_t devices_from(const struct participants *p, size_t at)
{
	size_t n = 0;
	while (at + n < p->count && p->list[at + n].protocol)
		n++;
	return n;
}

int participants_together(struct participants *p, enum together_phase phase, struct vfmig_error *err)
{
	struct job *jobs = calloc(p->count, sizeof(*jobs));
	int r = 0;
	if (!jobs)
		return error_errno(err, -ENOMEM, "transitions");
	for (size_t at = 0; at < p->count && r == 0;) {
		size_t n = devices_from(p, at);
		for (size_t i = 0; i < n; i++)
			jobs[i] = (struct job) { .participant = &p->list[at + i], .phase = phase };
		r = n ? run_jobs(jobs, n, err) : call(&p->list[at], phase, err);
		at += n ? n : 1;
	}
	free(jobs);
	return r;
}

/* How many VFIO devices stand before `end`, one behind the other. */
static size_t devices_before(const struct participants *p, size_t end)
{
	size_t n = 0;
	while (n < end && p->list[end - 1 - n].protocol)
		n++;
	return n;
}

/* Of those that were begun, last first; whatever fails, all others are called. jobs NULL: one after the other. */
static int undo_phase(struct participants *p, enum together_phase phase, struct job *jobs, struct vfmig_error *err)
{
	struct job alone;
	int first = 0;
	for (size_t end = p->count; end > 0;) {
		struct vfmig_error e = { 0 };
		size_t n = jobs ? devices_before(p, end) : 0, count = 0;
		struct job *list = jobs ? jobs : &alone;
		for (size_t i = 0; i < (n ? n : 1); i++)
			if (p->list[end - 1 - i].begun)
				list[count++] = (struct job) { .participant = &p->list[end - 1 - i], .phase = phase };
		int r = count ? run_jobs(list, count, &e) : 0;
		end -= n ? n : 1;
		if (r < 0 && first == 0) {
			first = r;
			*err = e;
			if (!e.message[0])
				error_set(err, r, "%s: could not be put back", p->list[end].name);
		}
	}
	return first;
}

bool participants_undo(struct participants *p, struct vfmig_error *ret_trouble)
{
	struct job *jobs = calloc(p->count, sizeof(*jobs));
	memset(ret_trouble, 0, sizeof(*ret_trouble));
	/* No device may do DMA to one that is stopped still: all to P2P before any runs. */
	(void)undo_phase(p, TOGETHER_UNDO_PREPARE, jobs, ret_trouble);
	int r = undo_phase(p, TOGETHER_UNDO, jobs, ret_trouble);
	free(jobs);
	participants_cleanup(p);
	return r == 0;
}
