/* SPDX-License-Identifier: BSD-3-Clause */
/* engine.c: the thread that does the steps, at their rate, while the device runs. */
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/thread.h"
#include "sim/model.h"

#define BATCH_STEPS 64u
#define NAP_NS NS_PER_MS		      /* steps that come due in a nap are done together */
#define BEHIND_NS (UINT64_C(100) * NS_PER_MS) /* too late to be made up for */

static bool may_step(const struct sim_device *d)
{
	return (d->registers.control & SIM_CONTROL_ON) && (d->region.state & SIM_V1_RUNNING) && !d->region.p2p &&
	       !d->options.opaque && d->options.still == STILL_NONE && !d->in_flight && !d->quiescing;
}

static void one_step(struct sim_device *d)
{
	sim_work_step(&d->work);
	sim_dma_log(d);
}

void sim_engine_kick(struct sim_device *d)
{
	d->clock_start_ns = clock_now_ns();
	d->clock_steps = 0;
	pthread_cond_signal(&d->wake);
}

void sim_engine_quiesce(struct sim_device *d)
{
	d->quiescing++;
	while (d->in_flight)
		pthread_cond_wait(&d->idle, &d->lock);
	d->quiescing--;
	pthread_cond_signal(&d->wake); /* the engine may have gone to sleep over it */
}

uint64_t sim_device_steps(struct sim_device *d, uint64_t n)
{
	uint64_t done = 0;

	sim_device_lock(d);
	while (done < n && may_step(d)) {
		one_step(d);
		done++;
	}
	sim_device_unlock(d);
	return done;
}

/* Steps that should have been done by now and are not. */
static uint64_t steps_due(struct sim_device *d, uint64_t now)
{
	uint64_t elapsed = now - d->clock_start_ns;

	if (elapsed > 1000 * NS_PER_S) { /* begin anew before the product below overflows */
		d->clock_start_ns = now;
		d->clock_steps = 0;
		elapsed = 0;
	}
	uint64_t target = elapsed * d->registers.rate / NS_PER_S;
	uint64_t due = target > d->clock_steps ? target - d->clock_steps : 0;
	if (due > d->registers.rate * BEHIND_NS / NS_PER_S + 1)
		sim_engine_kick(d);
	return due;
}

static void nap(struct sim_device *d)
{
	uint64_t rate = d->registers.rate;
	uint64_t step_ns = rate ? NS_PER_S / rate : NS_PER_S;
	uint64_t until = clock_now_ns() + (step_ns > NAP_NS ? min_u64(step_ns, NS_PER_S / 4) : NAP_NS);
	struct timespec ts = { .tv_sec = (time_t)(until / NS_PER_S), .tv_nsec = (long)(until % NS_PER_S) };

	pthread_cond_timedwait(&d->wake, &d->lock, &ts);
}

/* A mutex is not fair: by turns, one of those who wait for it, then the engine. */
static void give_way(struct sim_device *d)
{
	d->giving_way = true;
	while (__atomic_load_n(&d->callers, __ATOMIC_ACQUIRE) && !d->engine_turn)
		pthread_cond_wait(&d->turn, &d->lock);
	d->giving_way = d->engine_turn = false;
	pthread_cond_broadcast(&d->turn);
}

static void *engine_main(void *arg)
{
	struct sim_device *d = arg;

	pthread_mutex_lock(&d->lock);
	while (!d->quit) {
		if (!may_step(d) || !d->registers.rate) {
			pthread_cond_wait(&d->wake, &d->lock);
			continue;
		}
		uint64_t due = min_u64(steps_due(d, clock_now_ns()), BATCH_STEPS);
		if (!due)
			nap(d);
		for (uint64_t i = 0; i < due && may_step(d) && !d->quit; i++) {
			one_step(d);
			d->clock_steps++;
		}
		give_way(d);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

int sim_engine_start(struct sim_device *d, struct vfmig_error *err)
{
	d->clock_start_ns = clock_now_ns();
	int r = thread_start(&d->thread, engine_main, d);
	if (r < 0)
		return error_errno(err, r, "engine's thread");
	d->has_thread = true;
	return 0;
}

void sim_engine_stop(struct sim_device *d)
{
	if (!d->has_thread)
		return;
	sim_device_lock(d);
	d->quit = true;
	pthread_cond_signal(&d->wake);
	sim_device_unlock(d);
	pthread_join(d->thread, NULL);
	d->has_thread = false;
}
