/* SPDX-License-Identifier: BSD-3-Clause */
/* made_machine.c: makes folders, files and links as the kernel would show them. */
#include "made_machine.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static void whole_path(const struct made_machine *m, const char *path, char *whole)
{
	int n = snprintf(whole, KERNEL_PATH_MAX, "%s/%s", m->top, path);
	assert_in_range(n, 1, KERNEL_PATH_MAX - 1);
	for (char *slash = strchr(whole + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(whole, 0700) < 0)
			assert_int_equal(errno, EEXIST);
		*slash = '/';
	}
}

void made_file(const struct made_machine *m, const char *path, const char *content)
{
	char whole[KERNEL_PATH_MAX];
	whole_path(m, path, whole);
	FILE *f = fopen(whole, "w");
	assert_non_null(f);
	assert_true(fputs(content, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

void made_link(const struct made_machine *m, const char *path, const char *target)
{
	char whole[KERNEL_PATH_MAX];
	whole_path(m, path, whole);
	assert_int_equal(symlink(target, whole), 0);
}

void made_unlink(const struct made_machine *m, const char *path)
{
	char whole[KERNEL_PATH_MAX];
	whole_path(m, path, whole);
	assert_int_equal(unlink(whole), 0);
}

void made_machine_init(struct made_machine *m)
{
	strcpy(m->top, "/tmp/vfmig-machine-XXXXXX");
	assert_non_null(mkdtemp(m->top));
	snprintf(m->sysfs, sizeof(m->sysfs), "%s/sys", m->top);
	snprintf(m->dev, sizeof(m->dev), "%s/dev", m->top);
	snprintf(m->proc, sizeof(m->proc), "%s/proc", m->top);
	m->roots = (struct kernel_roots) { m->sysfs, m->dev, m->proc };
	made_file(m, "dev/vfio/vfio", "");
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *place)
{
	(void)st;
	(void)kind;
	(void)place;
	return remove(path);
}

void made_machine_remove(struct made_machine *m)
{
	assert_int_equal(nftw(m->top, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void link_to(const struct made_machine *m, const char *folder, const char *name, const char *format,
		    const char *what)
{
	char path[KERNEL_PATH_MAX], target[KERNEL_PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	snprintf(target, sizeof(target), "%s/%s%s", m->sysfs, format, what);
	made_link(m, path, target);
}

void made_device(const struct made_machine *m, const char *bus, const char *name, const char *driver, int group,
		 const char *cdev)
{
	char folder[128], buses[128], number[16], path[256];
	snprintf(folder, sizeof(folder), "sys/devices/%s/%s", bus, name);
	snprintf(buses, sizeof(buses), "sys/bus/%s/devices", bus);
	snprintf(path, sizeof(path), "devices/%s/", bus);
	link_to(m, buses, name, path, name);
	link_to(m, folder, "subsystem", "bus/", bus);
	if (driver) {
		snprintf(path, sizeof(path), "bus/%s/drivers/", bus);
		link_to(m, folder, "driver", path, driver);
	}
	if (group >= 0) {
		snprintf(number, sizeof(number), "%d", group);
		link_to(m, folder, "iommu_group", "kernel/iommu_groups/", number);
		snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%d/devices", group);
		snprintf(buses, sizeof(buses), "devices/%s/", bus);
		link_to(m, path, name, buses, name);
	}
	if (cdev) {
		snprintf(path, sizeof(path), "%s/vfio-dev/%s/uevent", folder, cdev);
		made_file(m, path, "");
		snprintf(path, sizeof(path), "sys/class/vfio-dev/%s", cdev);
		snprintf(buses, sizeof(buses), "devices/%s/", bus);
		link_to(m, path, "device", buses, name);
	}
}
