/* SPDX-License-Identifier: BSD-3-Clause */
/* test_pci.c: which config space is whose, and in what order it is written back. */
#include "fake_access.h"

#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>

#include "device/pci.h"

#define PM 0x40u
#define MSI 0x50u
#define MSIX 0x70u
#define EXP 0x80u

/* A function with PM, MSI, MSI-X and PCI Express capabilities. */
static void make_config(uint8_t *c)
{
	static const uint8_t start[] = { 0xf0, 0xff, 0x66, 0x76, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00, 0x00, 0x12 };
	memset(c, 0, PCI_CONFIG_MAX);
	memcpy(c, start, sizeof(start));
	c[PCI_CAPABILITY_LIST] = PM;
	c[PM] = PCI_CAP_ID_PM;
	c[PM + 1] = MSI;
	c[MSI] = PCI_CAP_ID_MSI;
	c[MSI + 1] = MSIX;
	c[MSI + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_64BIT;
	c[MSIX] = PCI_CAP_ID_MSIX;
	c[MSIX + 1] = EXP;
	c[MSIX + 2] = 15; /* 16 vectors */
	c[EXP] = PCI_CAP_ID_EXP;
}

static struct vfmig_device *open_fake(struct fake_access *f)
{
	struct vfmig_device *d;
	struct vfmig_error err;
	fake_access_init(f);
	make_config(f->config);
	if (device_new(&f->access, NULL, &d, &err) < 0)
		fail_msg("%s", err.message);
	return d;
}

static void test_space_by_region_size(void **state)
{
	static const struct {
		uint64_t region;
		size_t space;
	} cases[] = { { 256, 256 }, { 255, 4096 }, { 4096, 4096 }, { 257, 4096 } };
	struct fake_access f;
	struct pci_config config;
	struct vfmig_error err;
	(void)state;
	struct vfmig_device *d = open_fake(&f);
	for (size_t i = 0; i < 4; i++) {
		f.config_size = cases[i].region;
		assert_int_equal(pci_config_read(d, &config, &err), 0);
		assert_int_equal(config.size, cases[i].space);
	}
	f.config_size = 63;
	assert_int_equal(pci_config_read(d, &config, &err), -EPROTO);
	vfmig_device_close(d);
	assert_true(f.closed);
}

static void test_msix_vectors(void **state)
{
	uint8_t c[PCI_CONFIG_MAX];
	(void)state;
	make_config(c);
	assert_int_equal(pci_msix_vectors(c, 256), 16);
	c[PCI_STATUS] = 0;
	assert_int_equal(pci_msix_vectors(c, 256), 0);
	c[PCI_STATUS] = 0x10;
	c[MSI + 1] = PM; /* a loop ends */
	assert_int_equal(pci_msix_vectors(c, 256), 0);
	c[MSI + 1] = 0xfc; /* a capability that does not fit into the space */
	c[0xfc] = PCI_CAP_ID_MSIX;
	c[0xfd] = MSIX;
	assert_int_equal(pci_msix_vectors(c, 256), 16);
}

static void test_every_byte_of_identity(void **state)
{
	static const unsigned identity[] = { 0,	   1,	 2,    3,    8,	 9,	 10,   11,	 14,	   0x2c,
					     0x2d, 0x2e, 0x2f, 0x34, PM, PM + 1, MSIX, MSIX + 1, MSIX + 2, EXP };
	struct pci_config have;
	uint8_t wanted[PCI_CONFIG_MAX];
	struct vfmig_error err;
	(void)state;
	make_config(have.bytes);
	have.size = 256;
	make_config(wanted);
	wanted[PCI_COMMAND] = 6; /* what a driver writes is no difference */
	wanted[0x10] = 0xf0;
	assert_int_equal(pci_config_compare(wanted, &have, &err), 0);
	for (size_t i = 0; i < sizeof(identity) / sizeof(identity[0]); i++) {
		char byte[32];
		snprintf(byte, sizeof(byte), "byte 0x%02x", identity[i]);
		wanted[identity[i]] ^= 0x04;
		assert_int_equal(pci_config_compare(wanted, &have, &err), -EXDEV);
		if (!strstr(err.message, byte))
			fail_msg("%s not named in: %s", byte, err.message);
		wanted[identity[i]] ^= 0x04;
	}
	wanted[PCI_STATUS] = 0; /* no capabilities at all */
	assert_int_equal(pci_config_compare(wanted, &have, &err), -EXDEV);
}

static void count_lines(void *opaque, enum vfmig_log_level level, const char *line)
{
	(void)level;
	assert_non_null(strstr(line, "0x10"));
	++*(unsigned *)opaque;
}

static void test_order_of_restoring(void **state)
{
	struct fake_access f;
	struct pci_config have;
	uint8_t wanted[PCI_CONFIG_MAX];
	struct vfmig_error err;
	unsigned lines = 0;
	(void)state;
	struct vfmig_device *d = open_fake(&f);
	f.config[PCI_COMMAND] = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	assert_int_equal(pci_config_read(d, &have, &err), 0);
	memcpy(wanted, have.bytes, sizeof(wanted));
	wanted[PCI_COMMAND] = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_IO;
	wanted[PCI_STATUS + 1] = 0xf9; /* write-one-to-clear: never written */
	wanted[0x13] = 0xfe;
	wanted[MSI + PCI_MSI_ADDRESS_LO + 2] = 0xe0;
	wanted[MSI + PCI_MSI_FLAGS] |= PCI_MSI_FLAGS_ENABLE;
	wanted[MSIX + 3] = 0x80;
	wanted[PM + PCI_PM_CTRL] = 3; /* a power state is not restored */
	wanted[EXP + PCI_EXP_DEVCTL] = 0x10;
	wanted[EXP + PCI_EXP_DEVCTL + 1] = 0x80; /* starts a reset: never written */
	wanted[0xf0] = 0x77;			 /* nobody knows what this is */
	f.num_uses = 0;
	assert_int_equal(pci_config_restore(d, wanted, &have, count_lines, &lines, &err), 0);
	assert_int_equal(lines, 0);
	size_t first = f.num_uses, last = 0, msi_address = 0, msi_flags = 0;
	for (size_t i = 0; i < f.num_uses; i++) {
		if (!f.uses[i].write)
			continue;
		first = i < first ? i : first;
		last = i;
		msi_address = f.uses[i].offset == MSI + PCI_MSI_ADDRESS_LO ? i : msi_address;
		msi_flags = f.uses[i].offset == MSI + PCI_MSI_FLAGS ? i : msi_flags;
		assert_int_not_equal(f.uses[i].offset, PCI_STATUS);
		assert_int_not_equal(f.uses[i].offset, PM + PCI_PM_CTRL);
		assert_true(f.uses[i].offset < 0xf0);
	}
	assert_int_equal(f.uses[first].offset, PCI_COMMAND); /* off first ... */
	assert_int_equal(f.uses[last].offset, PCI_COMMAND);  /* ... and on last */
	assert_true(first < last && msi_address < msi_flags);
	assert_int_equal(f.config[PCI_COMMAND], wanted[PCI_COMMAND]);
	assert_int_equal(f.config[0x13], 0xfe);
	assert_int_equal(f.config[EXP + PCI_EXP_DEVCTL], 0x10);
	assert_int_equal(f.config[EXP + PCI_EXP_DEVCTL + 1], 0);
	vfmig_device_close(d);
}

static void test_register_that_does_not_take_it(void **state)
{
	struct fake_access f;
	struct pci_config have;
	uint8_t wanted[PCI_CONFIG_MAX];
	struct vfmig_error err;
	unsigned lines = 0;
	(void)state;
	struct vfmig_device *d = open_fake(&f);
	f.config_read_only_from = 0x10;
	f.config_read_only_to = 0x14;
	assert_int_equal(pci_config_read(d, &have, &err), 0);
	memcpy(wanted, have.bytes, sizeof(wanted));
	wanted[0x13] = 0xfe;
	assert_int_equal(pci_config_restore(d, wanted, &have, count_lines, &lines, &err), 0);
	assert_int_equal(lines, 1);
	vfmig_device_close(d);
}

static void test_eventfds_are_set_again(void **state)
{
	static const int none[2] = { -1, -1 };
	struct fake_access f;
	struct vfmig_error err;
	(void)state;
	struct vfmig_device *d = open_fake(&f);
	assert_int_equal(vfmig_device_set_irqs(d, 2, 0, 2, none, &err), 0);
	assert_int_equal(vfmig_device_set_irqs(d, 0, 0, 1, none, &err), 0);
	assert_int_equal(vfmig_device_set_irqs(d, 0, 0, 0, none, &err), -EINVAL);
	assert_int_equal(f.irqs_set, 2);
	assert_int_equal(device_restore_irqs(d, &err), 0);
	assert_int_equal(f.irqs_set, 4);
	/* What replaces an earlier call takes its place. */
	assert_int_equal(vfmig_device_set_irqs(d, 2, 0, 2, none, &err), 0);
	assert_int_equal(device_restore_irqs(d, &err), 0);
	assert_int_equal(f.irqs_set, 7);
	vfmig_device_close(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_space_by_region_size),	       cmocka_unit_test(test_msix_vectors),
		cmocka_unit_test(test_every_byte_of_identity),	       cmocka_unit_test(test_order_of_restoring),
		cmocka_unit_test(test_register_that_does_not_take_it), cmocka_unit_test(test_eventfds_are_set_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
