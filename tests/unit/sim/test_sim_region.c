/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sim_region.c: the migration region's registers and states, access by access. */
#include "by_hand.h"

static void test_whole_aligned_accesses_only(void **state)
{
	static const struct {
		uint64_t offset;
		size_t width;
	} right[] = { { 0, 4 }, { 8, 8 } };
	struct access *a = open_sim("size=64K,rate=0");
	uint64_t v;

	(void)state;
	for (uint64_t offset = 0; offset < 40; offset++)
		for (size_t width = 1; width <= 8; width *= 2) {
			bool ok = false;
			for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
				ok |= right[i].offset == offset && right[i].width == width;
			assert_int_equal(reg_read(a, offset, width, &v), ok ? 0 : -EINVAL);
		}
	assert_int_equal(reg_write(a, 0, 1, PRE_COPY), -EINVAL);
	assert_int_equal(reg_write(a, 0, 8, PRE_COPY), -EINVAL);
	assert_int_equal(reg_write(a, 4, 4, 0), -EINVAL);
	assert_int_equal(reg_write(a, SIM_V1_PENDING_BYTES, 8, 0), -EINVAL);
	assert_int_equal(reg_write(a, SIM_V1_DATA_OFFSET, 8, 0), -EINVAL);
	assert_int_equal(get_state(a), RUNNING);
	access_close(a);
}

/* What the interface allows, written down a second time, as a picture: row from, column to. */
static const char *const legal[8] = {
	[STOPPED] = "yyy.y...", [RUNNING] = "yyyyy...", [STOP_COPY] = "yyy.....", [PRE_COPY] = "yyyy....",
	[RESUMING] = "....y...", /* to 0 and 1 only with a whole state in it */
	[5] = "........",	 [IN_ERROR] = "........", [7] = "........",
};

static void bring_to(struct access *a, uint32_t state)
{
	assert_int_equal(access_reset(a, NULL), 0);
	if (state == IN_ERROR)
		sim_access_device(a)->region.state = SIM_V1_ERROR;
	else
		assert_int_equal(set_state(a, state), 0);
	assert_int_equal(get_state(a), state);
}

static void test_every_transition(void **state)
{
	static const uint32_t from[] = { STOPPED, RUNNING, STOP_COPY, PRE_COPY, RESUMING, IN_ERROR };
	struct access *a = open_sim("size=64K,rate=0");

	(void)state;
	for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++)
		for (uint32_t to = 0; to < 8; to++) {
			bring_to(a, from[i]);
			int r = set_state(a, to);
			if (legal[from[i]][to] == 'y') {
				assert_int_equal(r, 0);
				assert_int_equal(get_state(a), to);
			} else {
				assert_int_equal(r, from[i] == IN_ERROR ? -EIO : -EINVAL);
				assert_int_equal(get_state(a), from[i]);
			}
		}
	access_close(a);
}

static void test_reserved_bits_are_kept(void **state)
{
	struct access *a = open_sim("size=64K,rate=0,reserved=0xa5a5a5a0");

	(void)state;
	assert_int_equal(get_state(a), 0xa5a5a5a0 | RUNNING);
	assert_int_equal(set_state(a, PRE_COPY), -EINVAL);
	assert_int_equal(set_state(a, 0xffffffff), -EINVAL);
	assert_int_equal(set_state(a, 0xa5a5a5a0 | PRE_COPY), 0);
	assert_int_equal(get_state(a), 0xa5a5a5a0 | PRE_COPY);
	access_close(a);
}

static void test_order_on_save(void **state)
{
	struct access *a = open_sim("size=64K,rate=0,section=4K");
	uint64_t offset = 0, again = 0, size = 0, pending;

	(void)state;
	assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &offset), -EINVAL); /* running */
	assert_int_equal(set_state(a, STOP_COPY), 0);
	assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &offset), -EINVAL); /* pending not read */
	pending = get_pending(a);
	assert_true(pending > 65536);
	assert_int_equal(get_pending(a), pending); /* no side effect */
	assert_int_equal(reg_read(a, SIM_V1_DATA_SIZE, 8, &size), -EINVAL); /* offset not read */
	assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &offset), 0);
	assert_int_equal(reg_read(a, SIM_V1_DATA_SIZE, 8, &size), 0);
	assert_int_equal(size, 4096);
	assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &again), 0);
	assert_int_equal(again, offset);
	assert_int_equal(reg_write(a, SIM_V1_DATA_SIZE, 8, 4096), -EINVAL); /* not resuming */
	assert_int_equal(get_pending(a), pending - size);			/* exact */
	access_close(a);
}

static void test_order_on_load(void **state)
{
	struct access *a = open_sim("opaque,section=4K,map=trapped");
	uint64_t v;
	uint8_t byte = 0;

	(void)state;
	assert_int_equal(set_state(a, RESUMING), 0);
	assert_int_equal(reg_write(a, SIM_V1_DATA_SIZE, 8, 16), -EINVAL); /* offset not read */
	assert_int_equal(access_region_write(a, SIM_REGION_INDEX, SIM_REGION_DATA, &byte, 1, NULL), -EINVAL);
	assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &v), 0);
	assert_int_equal(v, SIM_REGION_DATA);
	assert_int_equal(access_region_write(a, SIM_REGION_INDEX, SIM_REGION_DATA, &byte, 1, NULL), 0);
	assert_int_equal(reg_write(a, SIM_V1_DATA_SIZE, 8, 4097), -EINVAL); /* larger than the section */
	assert_int_equal(reg_write(a, SIM_V1_DATA_SIZE, 8, 0), -EINVAL);
	assert_int_equal(reg_read(a, SIM_V1_DATA_SIZE, 8, &v), -EINVAL);
	assert_int_equal(reg_write(a, SIM_V1_DATA_SIZE, 8, 4096), 0);
	assert_int_equal(reg_write(a, SIM_V1_DATA_SIZE, 8, 4096), -EINVAL); /* consumed */
	access_close(a);
}

static void test_access_width(void **state)
{
	static const char *const options[] = { "size=64K,rate=0,map=trapped,access-width=1",
					       "size=64K,rate=0,map=trapped,access-width=4" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct access *a = open_sim(options[i]);
		uint8_t b[64];
		uint64_t offset = 0;
		assert_int_equal(set_state(a, RESUMING), 0);
		assert_int_equal(reg_read(a, SIM_V1_DATA_OFFSET, 8, &offset), 0);
		size_t most = i ? 4 : 1;
		for (size_t n = 1; n <= sizeof(b); n *= 2)
			assert_int_equal(access_region_write(a, SIM_REGION_INDEX, offset, b, n, NULL),
					 n <= most ? 0 : -EINVAL);
		access_close(a);
	}
}

static void test_mixed_areas(void **state)
{
	struct access *a = open_sim("size=64K,rate=0,map=mixed,section=64K");
	struct access_region_info info;
	bool sorted = true;

	(void)state;
	assert_int_equal(access_region_info(a, SIM_REGION_INDEX, &info, NULL), 0);
	assert_int_equal(info.type, 3);
	assert_int_equal(info.subtype, 1);
	assert_int_equal(info.num_areas, 4);
	for (size_t i = 1; i < info.num_areas; i++)
		sorted &= info.areas[i - 1].offset < info.areas[i].offset;
	assert_false(sorted);
	access_region_info_clear(&info);
	access_close(a);
}

static void test_config_space_masks(void **state)
{
	struct access *a = open_sim("size=64K,rate=0");
	uint8_t before[4096], ones[4096], after[4096];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	assert_int_equal(access_region_read(a, ACCESS_PCI_CONFIG, 0, before, 4096, NULL), 0);
	assert_int_equal(access_region_write(a, ACCESS_PCI_CONFIG, 0, ones, 4096, NULL), 0);
	assert_int_equal(access_region_read(a, ACCESS_PCI_CONFIG, 0, after, 4096, NULL), 0);
	assert_int_equal(get_le32(after), SIM_PCI_VENDOR | SIM_PCI_DEVICE << 16); /* read-only */
	assert_int_equal(get_le16(after + 4), 0x0547);				   /* command */
	assert_int_equal(get_le32(after + 0x10), 0xffffc000);			   /* BAR 0: 16 KiB */
	assert_int_equal(get_le16(after + 0x52), 0xc000 | (SIM_MSIX_VECTORS - 1)); /* MSI-X control */
	assert_memory_equal(after + 0x100, before + 0x100, 4096 - 0x100);
	assert_int_equal(access_reset(a, NULL), 0);
	assert_int_equal(access_region_read(a, ACCESS_PCI_CONFIG, 0, after, 4096, NULL), 0);
	assert_memory_equal(after, before, 4096);
	assert_int_equal(access_region_read(a, ACCESS_PCI_CONFIG, 4095, after, 2, NULL), -EINVAL);
	access_close(a);
}

static void test_options_say_what_is_valid(void **state)
{
	static const struct {
		const char *options, *says;
	} wrong[] = {
		{ "sise=1M", "valid are interface p2p size section" },
		{ "size=1000", "option size=1000" },
		{ "size=-1M", "option size=-1M" },
		{ "size=99999999999999999999", "option size=" },
		{ "section=1K", "expected 4096 to" },
		{ "map=wild", "mapped|trapped|mixed" },
		{ "access-width=3", "8|4|2|1" },
		{ "start=yes", "takes no value" },
		{ "rate", "wants a value" },
		{ "interface=v3", "expected v1" },
		{ "log=0x1000", "IOVA/ENTRIES" },
		{ "dump=/tmp/x", "opaque" },
		{ "fault=errno", "KIND@STEP" },
		{ "fault=oops@pending", "valid are errno error-state" },
		{ "fault=bad-offset@pending", "valid are data-offset" },
		{ "fault=errno@pending#0", "number from 1" },
		{ "fault=errno@pending:EWHAT", "no errno" },
		{ "fault=hang@pending:3", "takes no argument" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct vfmig_error err = { 0 };
		struct access *a = NULL;
		assert_int_equal(sim_access_open(wrong[i].options, &a, &err), -EINVAL);
		if (!strstr(err.message, wrong[i].says))
			fail_msg("%s: \"%s\" does not say \"%s\"", wrong[i].options, err.message, wrong[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_aligned_accesses_only),
		cmocka_unit_test(test_every_transition),
		cmocka_unit_test(test_reserved_bits_are_kept),
		cmocka_unit_test(test_order_on_save),
		cmocka_unit_test(test_order_on_load),
		cmocka_unit_test(test_access_width),
		cmocka_unit_test(test_mixed_areas),
		cmocka_unit_test(test_config_space_masks),
		cmocka_unit_test(test_options_say_what_is_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
