/* SPDX-License-Identifier: BSD-3-Clause */
/* reader_config.c: the CONFIGURATION record: the machine's name and what is said about the stream's own format. */
#include <stdio.h>
#include <string.h>

#include "stream/reader_impl.h"

#define MACHINE_MAX 255u
#define CAPABILITIES_MAX 64u
#define HEAD 5u /* type and length of the name */

static const char in_configuration[] = "CONFIGURATION";

static void know_capability(struct reader *r, const char *name)
{
	strcpy(r->ram_capability, name);
	r->ram.mapped |= strcmp(name, "mapped-ram") == 0;
	r->ram.ignore_shared |= strcmp(name, "x-ignore-shared") == 0;
}

/* be32 count, then each: length, name. Their length, or -errno. */
static int capabilities(struct reader *r, size_t at, struct vfmig_error *err)
{
	static const char *const change_ram[] = { "x-ignore-shared", "mapped-ram" };
	size_t from = at;

	int rc = reader_need(r, at + 4, in_configuration, err);
	if (rc < 0)
		return rc;
	uint32_t count = get_be32(reader_bytes(r) + at);
	if (count > CAPABILITIES_MAX)
		return reader_broken(r, FAULT_CONFIGURATION, at, err,
				     "CONFIGURATION has %" PRIu32 " capabilities, expected at most %u", count,
				     CAPABILITIES_MAX);
	for (at += 4; count; count--) {
		rc = reader_need(r, at + 1, in_configuration, err);
		size_t length = rc < 0 ? 0 : reader_bytes(r)[at];
		if (rc == 0)
			rc = reader_need(r, at + 1 + length, in_configuration, err);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < sizeof(change_ram) / sizeof(change_ram[0]); i++) {
			if (length == strlen(change_ram[i]) && !memcmp(reader_bytes(r) + at + 1, change_ram[i], length))
				know_capability(r, change_ram[i]);
		}
		at += 1 + length;
	}
	return (int)(at - from);
}

/* The length of a subsection's fields: it is nowhere said, so each is known by name. */
static int fields(struct reader *r, const char *name, size_t at, struct vfmig_error *err)
{
	if (strcmp(name, "configuration/capabilities") == 0)
		return capabilities(r, at, err);
	if (strcmp(name, "configuration/target-page-bits") == 0)
		return 4;
	if (strcmp(name, "configuration/uuid") == 0)
		return 16;
	return reader_broken(r, FAULT_CONFIGURATION, at, err, "CONFIGURATION has an unknown subsection '%.64s'", name);
}

/* Those from `at` on. Their end, or -errno. Looks one byte ahead: a record follows in any case. */
static int subsections(struct reader *r, size_t at, struct vfmig_error *err)
{
	for (int count = 0;; count++) {
		int rc = reader_need(r, at + 1, "its records", err);
		if (rc < 0 || reader_bytes(r)[at] != WIRE_SUBSECTION)
			return rc < 0 ? rc : (int)at;
		if (count == 8)
			return reader_broken(r, FAULT_CONFIGURATION, at, err,
					     "CONFIGURATION has more than 8 subsections");
		rc = reader_need(r, at + 2, in_configuration, err);
		size_t length = rc < 0 ? 0 : reader_bytes(r)[at + 1];
		if (rc == 0)
			rc = reader_need(r, at + 2 + length + 4, in_configuration, err);
		if (rc < 0)
			return rc;
		char name[256];
		memcpy(name, reader_bytes(r) + at + 2, length);
		name[length] = '\0';
		at += 2 + length + 4;
		rc = fields(r, name, at, err);
		if (rc < 0)
			return rc;
		at += (size_t)rc;
		rc = reader_need(r, at, in_configuration, err);
		if (rc < 0)
			return rc;
	}
}

int reader_configuration(struct reader *r, struct reader_record *ret, struct vfmig_error *err)
{
	int rc = reader_need(r, HEAD, in_configuration, err);
	if (rc < 0)
		return rc;
	uint32_t length = get_be32(reader_bytes(r) + 1);
	if (length == 0 || length > MACHINE_MAX)
		return reader_broken(r, FAULT_MACHINE_NAME, 1, err,
				     "a machine's name of %" PRIu32 " bytes, expected 1 to %u", length, MACHINE_MAX);
	rc = reader_need(r, HEAD + length, in_configuration, err);
	if (rc < 0)
		return rc;
	if (memchr(reader_bytes(r) + HEAD, '\0', length))
		return reader_broken(r, FAULT_MACHINE_NAME, HEAD, err, "the machine's name has a NUL inside");
	rc = subsections(r, HEAD + length, err);
	if (rc < 0)
		return rc;
	*ret = (struct reader_record) { .kind = READER_CONFIGURATION, .offset = r->offset, .length = (uint64_t)rc };
	memcpy(ret->name, reader_bytes(r) + HEAD, length);
	ret->data = reader_bytes(r) + HEAD + length;
	ret->data_length = (size_t)rc - HEAD - length;
	reader_take(r, (size_t)rc);
	r->state = AT_RECORD;
	return 0;
}
