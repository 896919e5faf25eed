/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_access.h: a device whose every register a test can set, and that remembers how it was used. */
#ifndef VFMIG_TESTS_FAKE_ACCESS_H
#define VFMIG_TESTS_FAKE_ACCESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "device/access.h"

#define FAKE_REGION_BYTES 0x10000u
#define FAKE_USES_MAX 256u

struct fake_use {
	bool write;
	uint32_t region;
	uint64_t offset;
	size_t length;
};

struct fake_access {
	struct access access;
	uint32_t num_regions, migration_index;
	uint64_t region_size; /* of the migration region as the device says */
	struct access_area areas[4];
	size_t num_areas;
	bool map_fails;
	uint8_t region[FAKE_REGION_BYTES];
	uint8_t config[4096];
	uint64_t config_size;
	uint32_t mapped;   /* bit i: areas[i] is mapped */
	size_t max_access; /* 0: any; else longer accesses of the data section are -EINVAL */
	uint32_t config_read_only_from, config_read_only_to; /* writes there are ignored */
	unsigned irqs_set;
	struct fake_use uses[FAKE_USES_MAX];
	size_t num_uses;
	bool closed;
};

/* A running device with a migration region of FAKE_REGION_BYTES and 256 bytes of config space. */
void fake_access_init(struct fake_access *f);
void fake_set_u64(struct fake_access *f, uint64_t offset, uint64_t value);

#endif
