/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_memory.c: any bytes as bodies of the section "ram", for a load into small memory.
 *
 * The first byte says in what pieces they arrive. What is around the block must stay as it was.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "migrate/memory.h"

#define BLOCK (8u * WIRE_PAGE_SIZE)
#define GUARD 0xa5

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int load_bodies(struct participant *p, const uint8_t *data, size_t size, size_t piece)
{
	struct vfmig_section section = { .kind = 'P', .version_id = WIRE_RAM_VERSION };
	struct vfmig_error err = { 0 };
	size_t at = 0, have = 0, used;
	while (at < size) {
		have = min_u64(have + piece, size - at);
		section.offset = at;
		used = 0;
		int r = p->ops.load_state(p->opaque, &section, data + at, have, &used, &err);
		if (used > have)
			abort();
		if (r < 0 && r != -EBADMSG && r != -EINVAL && r != -EOPNOTSUPP)
			abort();
		if (r < 0)
			return r;
		if (used == 0 && have == size - at && r == 0)
			break; /* it wants more than there is */
		at += used;
		have -= used;
		if (r == 1)
			section.body_offset = at;
	}
	return p->ops.load_complete(p->opaque, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t memory[BLOCK + 2 * WIRE_PAGE_SIZE];
	struct participants participants = { .loading = true };
	struct log log = { 0 };
	struct vfmig_memory *m;
	if (size < 1)
		return 0;
	memset(memory, GUARD, sizeof(memory));
	if (vfmig_memory_new(&m, NULL) < 0 || vfmig_memory_add(m, "a", memory + WIRE_PAGE_SIZE, BLOCK, NULL) < 0 ||
	    vfmig_memory_skip(m, "b", NULL) < 0 || memory_load_add(&participants, m, &log, NULL) < 0)
		abort();
	struct participant *p = &participants.list[0];
	p->ops.load_setup(p->opaque, NULL);
	load_bodies(p, data + 1, size - 1, 1 + data[0] * 20u);
	for (size_t i = 0; i < WIRE_PAGE_SIZE; i++)
		if (memory[i] != GUARD || memory[WIRE_PAGE_SIZE + BLOCK + i] != GUARD)
			abort();
	participants_clear(&participants);
	vfmig_memory_free(m);
	return 0;
}
