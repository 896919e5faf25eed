/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mini-vmm.c: how a VMM migrates itself together with a VFIO device.
 *
 *   mini-vmm load vfio-user:/run/b.sock unix:/run/link   on the one side, then
 *   mini-vmm save vfio-user:/run/a.sock unix:/run/link   on the other
 *
 * Its guest is a thread that counts. It is stopped before the device, its
 * count goes into the stream in a section of its own, and the other side goes
 * on counting once the device runs. If anything fails, it goes on here.
 *
 *   cc mini-vmm.c -o mini-vmm $(pkg-config --cflags --libs vfmig) -pthread
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <vfmig.h>

/* A VMM's state has a section id and a version as QEMU's vmstate has. */
#define CPU_ID "mini-vmm/cpu"
#define CPU_VERSION 1
#define DEVICE_ID "0000:00:01.0/vfio"

struct cpu {
	pthread_t thread;
	_Atomic bool running;
	_Atomic uint64_t count; /* the guest's work */
};

static void *cpu_main(void *arg)
{
	struct cpu *cpu = arg;
	while (cpu->running) {
		cpu->count++;
		nanosleep(&(struct timespec) { .tv_nsec = 100000 }, NULL);
	}
	return NULL;
}

static int cpu_start(void *opaque, struct vfmig_error *err)
{
	struct cpu *cpu = opaque;
	cpu->running = true;
	int r = pthread_create(&cpu->thread, NULL, cpu_main, cpu);
	if (r == 0)
		return 0;
	cpu->running = false;
	err->code = -r;
	snprintf(err->message, sizeof(err->message), "the CPU's thread: %s", strerror(r));
	return -r;
}

/* Before the devices stop: nobody gives them work any more. */
static int cpu_stop(void *opaque, struct vfmig_error *err)
{
	struct cpu *cpu = opaque;
	(void)err;
	if (cpu->running) {
		cpu->running = false;
		pthread_join(cpu->thread, NULL);
	}
	return 0;
}

static int cpu_save(void *opaque, struct vfmig_writer *w, struct vfmig_error *err)
{
	struct cpu *cpu = opaque;
	(void)err;
	vfmig_put_be64(w, cpu->count);
	return VFMIG_SECTION_DONE;
}

/* The save did not succeed: what was stopped goes on. */
static int cpu_undo_stop(void *opaque, struct vfmig_error *err)
{
	struct cpu *cpu = opaque;
	return cpu->running ? 0 : cpu_start(cpu, err);
}

static int cpu_load(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
		    size_t *ret_used, struct vfmig_error *err)
{
	struct cpu *cpu = opaque;
	*ret_used = 0;
	if (section->version_id != CPU_VERSION) {
		snprintf(err->message, sizeof(err->message), "version %u, expected %d", section->version_id,
			 CPU_VERSION);
		return err->code = -EINVAL;
	}
	uint64_t count = 0;
	if (length < sizeof(count))
		return 0; /* more is to come */
	for (*ret_used = 0; *ret_used < sizeof(count); ++*ret_used)
		count = count << 8 | data[*ret_used];
	cpu->count = count;
	return 1;
}

static const struct vfmig_participant_ops save_ops = {
	.size = sizeof(save_ops), .stop_prepare = cpu_stop, .save_state = cpu_save, .undo = cpu_undo_stop
};
static const struct vfmig_participant_ops load_ops = {
	.size = sizeof(load_ops), .load_state = cpu_load, .start = cpu_start, .undo = cpu_stop
};

/* The CPUs stop first and start last. */
static int save(struct cpu *cpu, struct vfmig_device *device, struct vfmig_link *link, struct vfmig_error *err)
{
	struct vfmig_save *save;
	int r = cpu_start(cpu, err);
	if (r == 0)
		r = vfmig_save_new(link, NULL, &save, err);
	if (r < 0)
		return r;
	r = vfmig_save_add_participant(save, &save_ops, cpu, CPU_ID, 0, CPU_VERSION, err);
	if (r == 0)
		r = vfmig_save_add_device(save, device, DEVICE_ID, err);
	if (r == 0)
		r = vfmig_save_run(save, err);
	vfmig_save_free(save);
	return r;
}

static int load(struct cpu *cpu, struct vfmig_device *device, struct vfmig_link *link, struct vfmig_error *err)
{
	struct vfmig_load *load;
	int r = vfmig_load_new(link, NULL, &load, err);
	if (r < 0)
		return r;
	r = vfmig_load_add_device(load, device, DEVICE_ID, err);
	if (r == 0)
		r = vfmig_load_add_participant(load, &load_ops, cpu, CPU_ID, 0, err);
	if (r == 0)
		r = vfmig_load_run(load, err);
	vfmig_load_free(load);
	return r;
}

int main(int argc, char **argv)
{
	struct vfmig_error err = { 0 };
	struct vfmig_device *device = NULL;
	struct vfmig_link *link = NULL;
	bool saving = argc == 4 && !strcmp(argv[1], "save");
	struct cpu cpu = { .count = saving ? 1000 : 0 };
	if (!saving && (argc != 4 || strcmp(argv[1], "load"))) {
		fprintf(stderr, "usage: mini-vmm save|load DEVICE LINK\n");
		return 2;
	}
	int r = vfmig_device_open(argv[2], NULL, &device, &err);
	if (r == 0)
		r = vfmig_link_open(argv[3], saving ? VFMIG_SAVE : VFMIG_LOAD, NULL, &link, &err);
	if (r == 0)
		r = saving ? save(&cpu, device, link, &err) : load(&cpu, device, link, &err);
	if (r < 0)
		fprintf(stderr, "mini-vmm: %s\n", err.message);
	printf("%s at %llu\n", cpu.running ? "counting on" : "stopped", (unsigned long long)cpu.count);
	cpu_stop(&cpu, NULL);
	vfmig_link_close(link);
	vfmig_device_close(device);
	return r < 0;
}
