/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vfio_packets.c: bodies of VFIO sections, cut at every byte, of every size of config space, and hostile ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>

#include "base/bytes.h"
#include "stream/vfio_packets.h"

struct body {
	uint8_t data[64u << 10];
	size_t length;
};

static void add(struct body *b, const void *data, size_t n)
{
	memcpy(b->data + b->length, data, n);
	b->length += n;
}

static void add64(struct body *b, uint64_t v)
{
	uint8_t p[8];

	put_be64(p, v);
	add(b, p, 8);
}

static void add32(struct body *b, uint32_t v)
{
	uint8_t p[4];

	put_be32(p, v);
	add(b, p, 4);
}

/* Flag, version, space, levels, and what `vectors` MSI-X vectors need. */
static void add_record(struct body *b, size_t space, unsigned int vectors, uint8_t fill)
{
	uint8_t config[WIRE_PCI_CONFIG_LARGE];
	uint8_t rest[WIRE_MSIX_VECTORS_MAX * WIRE_MSIX_ENTRY + WIRE_MSIX_VECTORS_MAX / 8] = { 0 };

	memset(config, fill, sizeof(config));
	config[0x06] = vectors ? 0x10 : 0;
	config[0x34] = 0x40;
	memcpy(config + 0x40, (uint8_t[]) { 0x01, 0x50 }, 2);
	memcpy(config + 0x50, (uint8_t[]) { 0x11, 0x00 }, 2);
	put_le16(config + 0x52, (uint16_t)(0xc000u | (vectors - 1)));
	add64(b, WIRE_VFIO_CONFIG_STATE);
	add32(b, WIRE_PCI_VERSION);
	add(b, config, space);
	for (int i = 0; i < 4; i++)
		add32(b, 0);
	add(b, rest, vectors * WIRE_MSIX_ENTRY + (vectors + 7) / 8);
}

static void add_end(struct body *b)
{
	add64(b, WIRE_VFIO_END_OF_STATE);
	add(b, "\x7e\0\0\0\x26", 5);
}

/* The events of a body that arrives `step` bytes at a time, as text; or the error. */
static void parse(const struct body *b, size_t step, size_t config_length, char *text, size_t size)
{
	struct vfio_parser p = { .config_length = config_length };
	struct vfmig_error err = { 0 };
	size_t at = 0, have = 0, n = 0, given = 0;

	for (;;) {
		struct vfio_event e;
		size_t used = 0;
		int rc = vfio_parser_next(&p, 0x1000 + at, b->data + at, have - at, &used, &e, &err);
		if (rc == 0 && have == b->length) {
			n += (size_t)snprintf(text + n, size - n, "more");
			return;
		}
		if (rc < 0) {
			snprintf(text + n, size - n, "%s", err.message);
			return;
		}
		if (rc == 0) {
			have = have + step < b->length ? have + step : b->length;
			continue;
		}
		at += used;
		if (e.kind == VFIO_EVENT_DATA) {
			given += e.length;
			continue;
		}
		n += (size_t)snprintf(text + n, size - n, "%c%" PRIx64 ":%" PRIu64 ":%zu:%zu ", "SD-dCIRE"[e.kind],
				      e.offset - 0x1000, e.size, e.length, given);
		given = 0;
		if (vfio_event_ends_body(e.kind))
			return;
	}
}

/* In every step size, with the length known and not. */
static void assert_parsed(const struct body *b, size_t known, const char *expected)
{
	static const size_t steps[] = { 1, 3, 7, 16, 64, 1000, 65536 };

	for (size_t i = 0; i < 2 * sizeof(steps) / sizeof(steps[0]); i++) {
		char text[512];
		if (i & 1 && !known)
			continue;
		parse(b, steps[i / 2], i & 1 ? known : 0, text, sizeof(text));
		assert_string_equal(text, expected);
	}
}

static void data_in_pieces(void **state)
{
	struct body b = { .length = 0 };

	(void)state;
	add64(&b, WIRE_VFIO_SETUP_STATE);
	add64(&b, WIRE_VFIO_DATA_STATE);
	add64(&b, 0);
	add64(&b, WIRE_VFIO_DATA_STATE);
	add64(&b, 11);
	add(&b, "elevenbytes", 11);
	add64(&b, WIRE_VFIO_END_OF_STATE);
	assert_parsed(&b, 0, "S0:0:0:0 D8:0:0:0 D18:11:0:0 d33:0:0:11 E33:0:0:0 ");
}

static void init_data_sent_ends(void **state)
{
	struct body b = { .length = 0 };

	(void)state;
	add64(&b, WIRE_VFIO_INIT_DATA_SENT);
	assert_parsed(&b, 0, "I0:0:0:0 ");
}

static void config_ready_ends(void **state)
{
	struct body b = { .length = 0 };

	(void)state;
	add64(&b, WIRE_VFIO_CONFIG_READY);
	assert_parsed(&b, 0, "R0:0:0:0 ");
}

static void a_size_near_2_to_the_64(void **state)
{
	struct body b = { .length = 0 };

	(void)state;
	add64(&b, WIRE_VFIO_DATA_STATE);
	add64(&b, UINT64_MAX);
	add(&b, "12345", 5);
	assert_parsed(&b, 0, "D0:18446744073709551615:0:0 more");
}

static void unknown_flag(void **state)
{
	struct body b = { .length = 0 };

	(void)state;
	add64(&b, WIRE_VFIO_SETUP_STATE);
	add64(&b, WIRE_VFIO_SETUP_STATE + 9);
	assert_parsed(&b, 0, "S0:0:0:0 offset 0x1008: 0xffffffffef10000c where a VFIO packet's flag was expected");
}

static void config_records(void **state)
{
	static const struct { size_t space; unsigned int vectors; const char *subsection; } cases[] = {
		{ 256, 0, NULL }, { 4096, 0, NULL }, { 256, 1, NULL }, { 4096, 9, NULL }, { 4096, 2048, NULL },
		{ 256, 2048, NULL }, { 256, 0, "some fields" }, { 4096, 33, "others" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct body b = { .length = 0 };
		char expected[200];
		/* 0x05: what a subsection begins with, where one might be looked for */
		add_record(&b, cases[i].space, cases[i].vectors, i & 1 ? 0x05 : 0);
		size_t record = b.length - 8;
		if (cases[i].subsection) {
			add(&b, "\x05\x19VFIOPCIDevice/VFIODisplay\0\0\0\1", 1 + 1 + 25 + 4);
			add(&b, cases[i].subsection, strlen(cases[i].subsection));
		}
		size_t all = b.length - 8;
		add_end(&b);
		snprintf(expected, sizeof(expected), "C0:%zu:%zu:0 E%zx:0:0:0 ", all, record, all + 8);
		assert_parsed(&b, record, expected);
	}
}

/* What is not a PCI device records nothing. */
static void empty_record(void **state)
{
	struct body b = { .length = 0 };

	(void)state;
	add64(&b, WIRE_VFIO_CONFIG_STATE);
	add_end(&b);
	assert_parsed(&b, 0, "C0:0:0:0 E8:0:0:0 ");
}

static void wrong_records(void **state)
{
	struct body b = { .length = 0 }, c = { .length = 0 };
	char text[512];

	(void)state;
	add_record(&b, 256, 0, 0);
	add_end(&b);
	b.data[11] = 3;
	assert_parsed(&b, 276, "offset 0x1008: the config record has version 3, expected 2");
	b.data[11] = 2;
	parse(&b, 1, 277, text, sizeof(text));
	assert_string_equal(
	    text, "offset 0x111d: no end of state behind a config record of 277 bytes, which this device has");
	add_record(&c, 4096, 0, 0);
	add(&c, "x", 1);
	add_end(&c);
	assert_parsed(&c, 0, "offset 0x201c: no end of state behind a config record of 4116 bytes");
}

/* A capability list that runs in a circle, or points below its first place. */
static void hostile_capabilities(void **state)
{
	uint8_t config[256] = { 0 };

	(void)state;
	config[0x06] = 0x10;
	config[0x34] = 0xff;
	config[0xfd] = 0xfc;
	assert_int_equal(vfio_config_record_length(config, 256), 276);
	config[0x34] = 0x3c;
	assert_int_equal(vfio_config_record_length(config, 256), 276);
	config[0x34] = 0xfc;
	config[0xfc] = 0x11;
	put_le16(config + 0xfe, 0xffff);
	assert_int_equal(vfio_config_record_length(config, 256), 276 + 2048 * 16 + 256);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_in_pieces),
		cmocka_unit_test(init_data_sent_ends),
		cmocka_unit_test(config_ready_ends),
		cmocka_unit_test(a_size_near_2_to_the_64),
		cmocka_unit_test(unknown_flag),
		cmocka_unit_test(config_records),
		cmocka_unit_test(empty_record),
		cmocka_unit_test(wrong_records),
		cmocka_unit_test(hostile_capabilities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
