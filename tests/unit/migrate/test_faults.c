/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_faults.c: walks the table of doc/faults.md. Each row is a device that
 * misbehaves, a save from it or a load into it, and what comes of it.
 *
 * "test_faults print" prints the rows for every fault there is, as they turn
 * out now: to be read and thought about before they go into the document.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define V1 "size=64K,section=16K,map=trapped,rate=1,start"
#define V2 "size=64K,interface=v2,rate=1,start"
#define SOURCE_STEPS 50u
#define TARGET_STEPS 7u
#define FIELD 160u

struct outcome {
	char result[FIELD], device[FIELD];
};

/* The stream of a device that has worked and whose driver has set the command register. */
static void make_source_stream(struct buffer *ret)
{
	static const uint8_t command[2] = { 0x06, 0x04 };
	struct vfmig_error err;
	struct vfmig_device *d = open_sim(V1);
	work(d, SOURCE_STEPS);
	assert_int_equal(access_region_write(d->access, ACCESS_PCI_CONFIG, 4, command, sizeof(command), &err), 0);
	if (save_to(d, buffer_writer(ret, 0), NULL, NULL, &err) < 0)
		fail_msg("%s", err.message);
	vfmig_device_close(d);
}

static void describe_failure(struct vfmig_device *d, int r, const struct vfmig_error *err, uint64_t steps,
			     bool says_as_before, struct outcome *ret)
{
	struct sim_device *sim = sim_of(d);
	enum vfmig_state state = sim_state(d);
	if (err->code != r || !strstr(err->message, "sim:"))
		fail_msg("error %d without the device's name: %s", r, err->message);
	snprintf(ret->result, FIELD, "%s", strerrorname_np(-r));
	if (sim->gone)
		snprintf(ret->device, FIELD, "out of reach, %s", vfmig_state_name(state));
	else if (state == VFMIG_STATE_RUNNING && sim->work.step >= steps) {
		assert_chain_intact(d, "after a failure");
		snprintf(ret->device, FIELD, "running as before");
	} else if (state == VFMIG_STATE_RUNNING && sim->work.step == 0 && sim->loads == 0)
		snprintf(ret->device, FIELD, "reset, holds nothing");
	else
		snprintf(ret->device, FIELD, "%s", vfmig_state_name(state));
	if (says_as_before != (strcmp(ret->device, "running as before") == 0))
		fail_msg("the source is %s, but source_may_run is %d", ret->device, says_as_before);
}

/* Does what was saved hold the work that was done? A v2 device takes chunks of any size. */
static bool loads_right(const struct buffer *stream)
{
	struct vfmig_error err;
	struct vfmig_device *d = open_sim(V2);
	int r = load_from(d, buffer_reader(stream->data, stream->length, 0), NULL, NULL, &err);
	struct sim_work again;
	assert_int_equal(sim_work_init(&again, sim_of(d)->work.pages.bytes, sim_of(d)->work.pages.seed), 0);
	while (r == 0 && again.step < sim_of(d)->work.step)
		sim_work_step(&again);
	bool right =
	    r == 0 && again.chain == sim_of(d)->work.chain && again.pages.digest == sim_of(d)->work.pages.digest;
	sim_work_destroy(&again);
	vfmig_device_close(d);
	return right;
}

static bool open_faulty(const char *device, const char *faults, struct vfmig_device **ret, struct outcome *outcome)
{
	struct access *access;
	struct vfmig_error err = { 0 };
	char options[512];
	snprintf(options, sizeof(options), "%s%s", device, faults);
	int r = sim_access_open(options, &access, &err);
	if (r < 0)
		fail_msg("sim:%s: %s", options, err.message);
	r = device_new(access, NULL, ret, &err);
	if (r == 0)
		return true;
	if (!strstr(err.message, "sim:"))
		fail_msg("error without the device's name: %s", err.message);
	snprintf(outcome->result, FIELD, "%s", strerrorname_np(-r));
	snprintf(outcome->device, FIELD, "not opened");
	return false;
}

static void try_save(const char *device, const char *faults, struct outcome *ret)
{
	struct vfmig_device *d;
	struct buffer stream;
	struct vfmig_error err;
	struct vfmig_status status;
	if (!open_faulty(device, faults, &d, ret))
		return;
	work(d, SOURCE_STEPS);
	int r = save_to(d, buffer_writer(&stream, 0), NULL, &status, &err);
	if (r < 0)
		describe_failure(d, r, &err, SOURCE_STEPS, status.source_may_run, ret);
	else {
		snprintf(ret->result, FIELD, "saved%s", loads_right(&stream) ? "" : ", state wrong");
		snprintf(ret->device, FIELD, "%s", vfmig_state_name(sim_state(d)));
	}
	buffer_free(&stream);
	vfmig_device_close(d);
}

static void try_load(const char *device, const char *faults, const struct buffer *stream, struct outcome *ret)
{
	struct vfmig_device *d;
	struct vfmig_error err;
	if (!open_faulty(device, faults, &d, ret))
		return;
	work(d, TARGET_STEPS);
	int r = load_from(d, buffer_reader(stream->data, stream->length, 0), NULL, NULL, &err);
	if (r < 0) {
		struct sim_device *sim = sim_of(d);
		bool untouched = !sim->gone && sim_state(d) == VFMIG_STATE_RUNNING && sim->work.step >= TARGET_STEPS;
		describe_failure(d, r, &err, TARGET_STEPS, untouched, ret);
	} else {
		struct sim_work again;
		assert_int_equal(sim_work_init(&again, sim_of(d)->work.pages.bytes, sim_of(d)->work.pages.seed), 0);
		while (again.step < sim_of(d)->work.step)
			sim_work_step(&again);
		bool right = again.chain == sim_of(d)->work.chain && again.pages.digest == sim_of(d)->work.pages.digest;
		snprintf(ret->result, FIELD, "loaded%s", right ? "" : ", state wrong");
		snprintf(ret->device, FIELD, "%s", vfmig_state_name(sim_state(d)));
		sim_work_destroy(&again);
	}
	vfmig_device_close(d);
}

/* "errno@pending, slow@reset:1" as options of a device. */
static void as_options(const char *faults, char *ret, size_t size)
{
	char copy[FIELD], *save;
	size_t used = 0;
	snprintf(copy, sizeof(copy), "%s", faults);
	ret[0] = '\0';
	for (char *f = strtok_r(copy, ", ", &save); f; f = strtok_r(NULL, ", ", &save))
		used += (size_t)snprintf(ret + used, size - used, ",fault=%s", f);
}

static void run_row(const char *faults, const char *side, const struct buffer *stream, struct outcome *ret)
{
	char options[256];
	as_options(faults, options, sizeof(options));
	const char *device = strstr(side, "v2") ? V2 : V1;
	if (strncmp(side, "save", 4) == 0)
		try_save(device, options, ret);
	else
		try_load(device, options, stream, ret);
}

/* ------------------------------------------------------------------- rows */

struct row {
	char faults[FIELD], side[FIELD];
	struct outcome expected;
};

/* "| `faults` | side | result | device |": copies a cell without blanks and quotes around it. */
static const char *cell(const char *at, char *ret)
{
	at += strspn(at, "| `");
	size_t n = strcspn(at, "|`\n");
	assert_true(n < FIELD);
	memcpy(ret, at, n);
	while (n > 0 && ret[n - 1] == ' ')
		n--;
	ret[n] = '\0';
	return at + strcspn(at, "|\n");
}

static size_t read_rows(struct row **ret)
{
	char line[1024];
	size_t n = 0;
	FILE *f = fopen(DOC_DIR "/faults.md", "r");
	assert_non_null(f);
	*ret = NULL;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "| `", 3) != 0 || !strstr(line, "@"))
			continue;
		*ret = realloc(*ret, (n + 1) * sizeof(**ret));
		assert_non_null(*ret);
		struct row *row = &(*ret)[n++];
		const char *at = cell(line, row->faults);
		at = cell(at, row->side);
		at = cell(at, row->expected.result);
		cell(at, row->expected.device);
	}
	fclose(f);
	return n;
}

static void test_every_row(void **state)
{
	struct buffer stream;
	struct row *rows;
	size_t n = read_rows(&rows);
	(void)state;
	make_source_stream(&stream);
	assert_true(n > 0);
	for (size_t i = 0; i < n; i++) {
		struct outcome got;
		run_row(rows[i].faults, rows[i].side, &stream, &got);
		if (strcmp(got.result, rows[i].expected.result) || strcmp(got.device, rows[i].expected.device))
			fail_msg("%s, %s: \"%s; %s\", the table says \"%s; %s\"", rows[i].faults, rows[i].side,
				 got.result, got.device, rows[i].expected.result, rows[i].expected.device);
	}
	free(rows);
	buffer_free(&stream);
}

/* Which fault a row of its own must have: state-read strikes when the device is opened, so its later times count. */
static void fault_text(enum fault_kind kind, enum fault_step step, size_t side, char *ret)
{
	const char *time = step != FAULT_STATE_READ ? "" : side < 2 ? "#4" : "#2";
	snprintf(ret, FIELD, "%s@%s%s%s", fault_kind_name(kind), fault_step_name(step), time,
		 kind == FAULT_SLOW ? ":2" : "");
}

static const char *const sides[] = { "save", "load", "save v2", "load v2" };
#define SIDES (sizeof(sides) / sizeof(sides[0]))

/* What a v2 device does not have: registers. */
static bool has_row(enum fault_kind kind, enum fault_step step, size_t side)
{
	bool v1_only = step == FAULT_DATA_OFFSET || step == FAULT_DATA_SIZE || step == FAULT_CONSUME;
	return fault_possible(kind, step) && (side < 2 || !v1_only);
}

static void test_no_fault_is_missing(void **state)
{
	struct row *rows;
	size_t n = read_rows(&rows);
	(void)state;
	for (int kind = 0; kind < FAULT_KINDS; kind++) {
		for (int step = 0; step < FAULT_STEPS; step++) {
			for (size_t side = 0; side < SIDES; side++) {
				char text[FIELD];
				bool found = false;
				if (!has_row((enum fault_kind)kind, (enum fault_step)step, side))
					continue;
				fault_text((enum fault_kind)kind, (enum fault_step)step, side, text);
				for (size_t i = 0; i < n; i++)
					found |=
					    strcmp(rows[i].faults, text) == 0 && strcmp(rows[i].side, sides[side]) == 0;
				if (!found)
					fail_msg("%s, %s: not in the table", text, sides[side]);
			}
		}
	}
	free(rows);
}

/* A stage's hidden failures show when a fault comes only the second or third time. */
static void test_later_times(void **state)
{
	static const char *const steps[] = {
		"pending", "data-offset", "data-size", "data-read", "data-write", "consume"
	};
	struct buffer stream;
	(void)state;
	make_source_stream(&stream);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		for (unsigned time = 2; time <= 12; time++) {
			char faults[FIELD];
			struct outcome save, load;
			snprintf(faults, sizeof(faults), "errno@%s#%u", steps[i], time);
			run_row(faults, "save", &stream, &save);
			run_row(faults, "load", &stream, &load);
			bool save_ok =
			    strcmp(save.device, "running as before") == 0 || strcmp(save.result, "saved") == 0;
			bool load_ok =
			    strcmp(load.device, "reset, holds nothing") == 0 || strcmp(load.result, "loaded") == 0;
			if (!save_ok || !load_ok)
				fail_msg("%s: save %s; %s, load %s; %s", faults, save.result, save.device, load.result,
					 load.device);
		}
	}
	buffer_free(&stream);
}

static void print_rows(void **state)
{
	struct buffer stream;
	(void)state;
	make_source_stream(&stream);
	for (int kind = 0; kind < FAULT_KINDS; kind++) {
		for (int step = 0; step < FAULT_STEPS; step++) {
			for (size_t side = 0; side < SIDES; side++) {
				struct outcome got = { 0 };
				char text[FIELD];
				if (!has_row((enum fault_kind)kind, (enum fault_step)step, side))
					continue;
				fault_text((enum fault_kind)kind, (enum fault_step)step, side, text);
				run_row(text, sides[side], &stream, &got);
				printf("| `%s` | %s | %s | %s |\n", text, sides[side], got.result, got.device);
			}
		}
	}
	buffer_free(&stream);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row),
		cmocka_unit_test(test_no_fault_is_missing),
		cmocka_unit_test(test_later_times),
	};
	const struct CMUnitTest print[] = { cmocka_unit_test(print_rows) };
	if (argc > 1 && strcmp(argv[1], "print") == 0)
		return cmocka_run_group_tests(print, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
