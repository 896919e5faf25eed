/* SPDX-License-Identifier: BSD-3-Clause */
/* test_kernel_sysfs.c: where devices are found, which way they would be opened, who is in the way. */
#include "made_machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "device/kernel_reasons.h"

#define UUID "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

static int setup(void **state)
{
	static struct made_machine m;
	made_machine_init(&m);
	*state = &m;
	return 0;
}

static int teardown(void **state)
{
	made_machine_remove(*state);
	return 0;
}

static struct kernel_place place_of(const struct made_machine *m, const char *bdf)
{
	struct kernel_place p;
	struct vfmig_error err;
	if (kernel_place_pci(&m->roots, bdf, &p, &err) < 0)
		fail_msg("%s", err.message);
	return p;
}

static void test_pci_address(void **state)
{
	const struct made_machine *m = *state;
	made_device(m, "pci", "0000:3b:00.2", "mlx5_vfio_pci", 26, "vfio3");
	made_file(m, "sys/devices/pci/0000:3b:00.2/vendor", "0x15b3\n");
	struct kernel_place p = place_of(m, "3B:00.2");
	assert_string_equal(p.name, "0000:3b:00.2");
	assert_string_equal(p.driver, "mlx5_vfio_pci");
	assert_string_equal(p.cdev, "vfio3");
	assert_int_equal(p.bus, KERNEL_BUS_PCI);
	assert_int_equal(p.group, 26);
	assert_true(p.has_vfio_driver);
	assert_false(p.has_cdev_node);
	assert_int_equal(kernel_place_number(&p, "vendor"), 0x15b3);
	assert_int_equal(kernel_place_number(&p, "device"), 0);
	p = place_of(m, "0000:3b:00.2");
	assert_string_equal(p.name, "0000:3b:00.2");
}

static void test_bad_names(void **state)
{
	static const char *const bad[] = { "",		  "0000:3b:00.8", "0000:3b:20.0", "3b:00", "../../x",
					   "0000:3b:00.2/", "0000:3b:00.2.1", "-1:00.0", " 3b:00.0", "0000:3b:00.22" };
	const struct made_machine *m = *state;
	struct kernel_place p;
	struct vfmig_error err;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (kernel_place_pci(&m->roots, bad[i], &p, &err) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
	assert_int_equal(kernel_place_pci(&m->roots, "0000:3b:00.2", &p, &err), -ENOENT);
	assert_non_null(strstr(err.message, "no PCI function 0000:3b:00.2"));
	assert_int_equal(kernel_place_mdev(&m->roots, "83b8f4f2", &p, &err), -EINVAL);
	assert_int_equal(kernel_place_mdev(&m->roots, "../../../../../../../../../../../../", &p, &err), -EINVAL);
	assert_int_equal(kernel_place_mdev(&m->roots, UUID, &p, &err), -ENOENT);
	assert_non_null(strstr(err.message, "create"));
	assert_int_equal(kernel_place_sysfs(&m->roots, "/nowhere/at/all", &p, &err), -ENOENT);
}

/* By the folder, by a link to it, and with slashes behind: always the same name for VFIO. */
static void test_sysfs_path(void **state)
{
	static const char *const paths[] = { "devices/mdev/" UUID, "bus/mdev/devices/" UUID, "devices/mdev/" UUID "///",
					     "class/vfio-dev/vfio0/device" };
	const struct made_machine *m = *state;
	made_device(m, "mdev", UUID, "mtty", 7, "vfio0");
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		char path[KERNEL_PATH_MAX];
		struct kernel_place p;
		struct vfmig_error err;
		snprintf(path, sizeof(path), "%s/%s", m->sysfs, paths[i]);
		assert_int_equal(kernel_place_sysfs(&m->roots, path, &p, &err), 0);
		assert_string_equal(p.name, UUID);
		assert_int_equal(p.bus, KERNEL_BUS_MDEV);
		assert_int_equal(p.group, 7);
		assert_true(p.has_vfio_driver); /* whatever its name */
	}
}

static void test_cdev_path(void **state)
{
	const struct made_machine *m = *state;
	struct kernel_place p;
	struct vfmig_error err;
	char path[KERNEL_PATH_MAX];
	made_device(m, "mdev", UUID, "mtty", 7, "vfio0");
	made_file(m, "dev/vfio/devices/vfio0", "");
	snprintf(path, sizeof(path), "%s/vfio/devices/vfio0", m->dev);
	assert_int_equal(kernel_place_cdev(&m->roots, path, &p, &err), 0);
	assert_string_equal(p.name, UUID);
	assert_true(p.has_cdev_node);
	assert_int_equal(kernel_place_cdev(&m->roots, "/somewhere/vfio0", &p, &err), -EINVAL);
	assert_int_equal(kernel_place_cdev(&m->roots, "/dev/vfio/devices/vfio9", &p, &err), -ENOENT);
	assert_int_equal(kernel_place_cdev(&m->roots, "/dev/vfio/devices/", &p, &err), -ENOENT);
}

static void test_blockers(void **state)
{
	const struct made_machine *m = *state;
	char text[200], few[24];
	made_device(m, "pci", "0000:01:00.0", "vfio-pci", 4, NULL);
	struct kernel_place p = place_of(m, "01:00.0");
	assert_int_equal(kernel_group_blockers(&p, text, sizeof(text)), 0);
	made_device(m, "pci", "0000:01:00.1", NULL, 4, NULL);
	made_device(m, "pci", "0000:01:00.2", "pcieport", 4, NULL);
	made_device(m, "pci", "0000:01:00.3", "pci-stub", 4, NULL);
	made_device(m, "pci", "0000:01:00.4", "oddly-named", 4, "vfio1");
	assert_int_equal(kernel_group_blockers(&p, text, sizeof(text)), 0);
	assert_string_equal(text, "");
	made_device(m, "pci", "0000:01:00.5", "xhci_hcd", 4, NULL);
	made_device(m, "pci", "0000:01:00.6", "nvme", 4, NULL);
	made_device(m, "pci", "0000:02:00.0", "nvme", 5, NULL);
	assert_int_equal(kernel_group_blockers(&p, text, sizeof(text)), 2);
	assert_string_equal(text, "0000:01:00.5 (xhci_hcd), 0000:01:00.6 (nvme)");
	assert_int_equal(kernel_group_blockers(&p, few, sizeof(few)), 2);
	assert_int_equal(strlen(few), sizeof(few) - 1);
	assert_int_equal(kernel_look(&p), KERNEL_GROUP_NOT_VIABLE);
	p = place_of(m, "01:00.6"); /* not in its own way */
	assert_int_equal(kernel_group_blockers(&p, text, sizeof(text)), 1);
}

static void test_holder(void **state)
{
	const struct made_machine *m = *state;
	char node[KERNEL_PATH_MAX], text[64], own[64];
	snprintf(node, sizeof(node), "%s/vfio/26", m->dev);
	kernel_holder(&m->roots, node, text, sizeof(text));
	assert_string_equal(text, "");
	made_link(m, "proc/12/fd/3", "/dev/null");
	snprintf(own, sizeof(own), "proc/%d/fd/3", (int)getpid());
	made_link(m, own, node);
	kernel_holder(&m->roots, node, text, sizeof(text));
	assert_string_equal(text, ""); /* that would be no help */
	made_link(m, "proc/4711/fd/20", node);
	made_file(m, "proc/4711/comm", "qemu-system-x86\n");
	made_link(m, "proc/self/fd/3", node);
	kernel_holder(&m->roots, node, text, sizeof(text));
	assert_string_equal(text, "process 4711 (qemu-system-x86)");
}

struct choice {
	const char *wanted;
	enum kernel_reason reason;
	enum kernel_way way;
};

static void check_choices(const struct kernel_place *p, const struct choice *choices)
{
	for (int i = 0; i < 3; i++) {
		enum kernel_way way;
		assert_int_equal(kernel_choose(p, choices[i].wanted, &way), choices[i].reason);
		if (choices[i].reason == KERNEL_FINE)
			assert_int_equal(way, choices[i].way);
	}
}

static void test_choose(void **state)
{
	const struct made_machine *m = *state;
	made_device(m, "pci", "0000:01:00.0", "vfio-pci", 4, "vfio0");
	struct kernel_place p = place_of(m, "01:00.0");
	check_choices(&p, (struct choice[]) { { NULL, KERNEL_FINE, KERNEL_BY_GROUP },
					      { "group", KERNEL_FINE, KERNEL_BY_GROUP },
					      { "cdev", KERNEL_NO_CDEV, 0 } });
	made_file(m, "dev/vfio/devices/vfio0", "");
	p = place_of(m, "01:00.0");
	check_choices(&p, (struct choice[]) { { NULL, KERNEL_FINE, KERNEL_BY_GROUP },
					      { "group", KERNEL_FINE, KERNEL_BY_GROUP },
					      { "cdev", KERNEL_NO_IOMMUFD, 0 } });
	made_file(m, "dev/iommu", "");
	check_choices(&p, (struct choice[]) { { NULL, KERNEL_FINE, KERNEL_BY_CDEV },
					      { "group", KERNEL_FINE, KERNEL_BY_GROUP },
					      { "cdev", KERNEL_FINE, KERNEL_BY_CDEV } });
	made_device(m, "pci", "0000:01:00.1", "vfio-pci", -1, NULL);
	p = place_of(m, "01:00.1");
	check_choices(&p, (struct choice[]) { { NULL, KERNEL_NO_GROUP, 0 }, { "group", KERNEL_NO_GROUP, 0 },
					      { "cdev", KERNEL_NO_CDEV, 0 } });
	made_device(m, "pci", "0000:01:00.2", NULL, 4, NULL);
	assert_int_equal(kernel_look(&(struct kernel_place[]) { place_of(m, "01:00.2") }[0]), KERNEL_NO_DRIVER);
	made_device(m, "pci", "0000:01:00.3", "nvme", 4, NULL);
	assert_int_equal(kernel_look(&(struct kernel_place[]) { place_of(m, "01:00.3") }[0]), KERNEL_DRIVER_IN_THE_WAY);
}

static int collect(void *opaque, const struct kernel_place *p)
{
	strcat(opaque, p->name + 5);
	strcat(opaque, " ");
	return strlen(opaque) > 20 ? 5 : 0;
}

static void test_list(void **state)
{
	const struct made_machine *m = *state;
	char names[64] = "";
	assert_int_equal(kernel_list(&m->roots, KERNEL_BUS_MDEV, collect, names), 0);
	assert_string_equal(names, "");
	made_device(m, "pci", "0000:02:00.0", NULL, -1, NULL);
	made_device(m, "pci", "0000:01:00.0", NULL, -1, NULL);
	assert_int_equal(kernel_list(&m->roots, KERNEL_BUS_PCI, collect, names), 0);
	assert_string_equal(names, "01:00.0 02:00.0 ");
	assert_int_equal(kernel_list(&m->roots, KERNEL_BUS_PCI, collect, names), 5);
	assert_string_equal(names, "01:00.0 02:00.0 01:00.0 ");
	names[0] = '\0';
	made_device(m, "pci", "0000:03:00.0", "vfio-pci", -1, "vfio0");
	made_device(m, "platform", "uart-9000.serial", "vfio-platform", 3, "vfio1");
	assert_int_equal(kernel_list(&m->roots, KERNEL_BUS_OTHER, collect, names), 0);
	assert_string_equal(names, "9000.serial ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pci_address, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sysfs_path, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cdev_path, setup, teardown),
		cmocka_unit_test_setup_teardown(test_blockers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_holder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_choose, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list, setup, teardown),
	};
	return cmocka_run_group_tests_name("kernel_sysfs", tests, NULL, NULL);
}
