/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_sysfs.c: finds devices in sysfs, and what may keep them from being opened. */
#include "device/kernel_sysfs.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct kernel_roots kernel_machine = { "/sys", "/dev", "/proc" };

/* "a/b"; false: does not fit. */
static bool join(char *path, size_t size, const char *a, const char *b)
{
	int n = snprintf(path, size, "%s/%s", a, b);
	return n >= 0 && (size_t)n < size;
}

/* The last part of what the link points to; false: no link. */
static bool link_target(const char *path, char *ret, size_t size)
{
	char target[KERNEL_PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = '\0';
	const char *slash = strrchr(target, '/');
	const char *last = slash ? slash + 1 : target;
	if (!*last || strlen(last) >= size)
		return false;
	strcpy(ret, last);
	return true;
}

static bool read_link(const char *folder, const char *name, char *ret, size_t size)
{
	char path[KERNEL_PATH_MAX];
	return join(path, sizeof(path), folder, name) && link_target(path, ret, size);
}

bool kernel_node_exists(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0;
}

bool kernel_group_node(const struct kernel_place *p, char *path, size_t size)
{
	int n = snprintf(path, size, "%s/vfio/%d", p->roots->dev, p->group);
	return n >= 0 && (size_t)n < size;
}

bool kernel_cdev_node(const struct kernel_place *p, char *path, size_t size)
{
	int n = snprintf(path, size, "%s/vfio/devices/%s", p->roots->dev, p->cdev);
	return n >= 0 && (size_t)n < size;
}

/* vfio-dev/vfio0 in the device's folder: VFIO's own device, since 6.1. */
static void find_cdev(struct kernel_place *p)
{
	char path[KERNEL_PATH_MAX];
	if (!join(path, sizeof(path), p->path, "vfio-dev"))
		return;
	DIR *folder = opendir(path);
	if (!folder)
		return;
	struct dirent *entry;
	while ((entry = readdir(folder)))
		if (!strncmp(entry->d_name, "vfio", 4) && strlen(entry->d_name) < sizeof(p->cdev)) {
			strcpy(p->cdev, entry->d_name);
			break;
		}
	closedir(folder);
	p->has_cdev_node = p->cdev[0] && kernel_cdev_node(p, path, sizeof(path)) && kernel_node_exists(path);
}

static int find_group(const char *folder)
{
	char text[KERNEL_NAME_MAX], *end;
	if (!read_link(folder, "iommu_group", text, sizeof(text)))
		return -1;
	long group = strtol(text, &end, 10);
	return *end || group < 0 || group > INT32_MAX ? -1 : (int)group;
}

/* Before 6.1 only a driver's name tells that it is one of VFIO's; a mediated device has no other driver. */
static void read_place(struct kernel_place *p)
{
	char bus[KERNEL_NAME_MAX] = "";
	read_link(p->path, "subsystem", bus, sizeof(bus));
	p->bus = !strcmp(bus, "pci") ? KERNEL_BUS_PCI : !strcmp(bus, "mdev") ? KERNEL_BUS_MDEV : KERNEL_BUS_OTHER;
	read_link(p->path, "driver", p->driver, sizeof(p->driver));
	p->group = find_group(p->path);
	find_cdev(p);
	p->has_vfio_driver = p->cdev[0] || strstr(p->driver, "vfio") || p->bus != KERNEL_BUS_PCI;
}

int kernel_place_sysfs(const struct kernel_roots *roots, const char *path, struct kernel_place *ret,
		       struct vfmig_error *err)
{
	struct kernel_place p = { .roots = roots, .group = -1 };
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	if (n >= sizeof(p.path))
		return error_set(err, -ENAMETOOLONG, "the path has %zu bytes, at most are %zu", n, sizeof(p.path) - 1);
	memcpy(p.path, path, n);
	if (!kernel_node_exists(p.path))
		return error_errno(err, -errno, "no device at %s", p.path);
	/* /sys/bus and /sys/class hold links, whose names need not be the device's. */
	if (!link_target(p.path, p.name, sizeof(p.name))) {
		const char *slash = strrchr(p.path, '/');
		const char *last = slash ? slash + 1 : p.path;
		if (strlen(last) >= sizeof(p.name))
			return error_set(err, -EINVAL, "%s is no device's name", last);
		strcpy(p.name, last);
	}
	read_place(&p);
	*ret = p;
	return 0;
}

static bool all_of(const char *text, const char *set)
{
	return *text && strspn(text, set) == strlen(text);
}

#define HEX "0123456789abcdefABCDEF"

int kernel_place_pci(const struct kernel_roots *roots, const char *bdf, struct kernel_place *ret,
		     struct vfmig_error *err)
{
	unsigned domain, bus, device, function;
	char path[KERNEL_PATH_MAX], tail;
	bool right = all_of(bdf, HEX ":.");
	if (right && sscanf(bdf, "%8x:%2x:%2x.%1x%c", &domain, &bus, &device, &function, &tail) != 4) {
		domain = 0;
		right = sscanf(bdf, "%2x:%2x.%1x%c", &bus, &device, &function, &tail) == 3;
	}
	if (!right || device > 31 || function > 7)
		return error_set(err, -EINVAL, "'%s' is no PCI address, expected DOMAIN:BUS:DEVICE.FUNCTION, "
					       "0000:3b:00.2 say",
				 bdf);
	int n = snprintf(path, sizeof(path), "%s/bus/pci/devices/%04x:%02x:%02x.%x", roots->sysfs, domain, bus, device,
			 function);
	if (n < 0 || (size_t)n >= sizeof(path))
		return error_set(err, -ENAMETOOLONG, "the path of sysfs is too long");
	if (!kernel_node_exists(path))
		return error_set(err, -ENOENT,
				 "this machine has no PCI function %04x:%02x:%02x.%x (no %s); lspci -D lists those it "
				 "has",
				 domain, bus, device, function, path);
	return kernel_place_sysfs(roots, path, ret, err);
}

int kernel_place_mdev(const struct kernel_roots *roots, const char *uuid, struct kernel_place *ret,
		      struct vfmig_error *err)
{
	char path[KERNEL_PATH_MAX];
	if (strlen(uuid) != 36 || !all_of(uuid, HEX "-"))
		return error_set(err, -EINVAL, "'%s' is no UUID of 36 characters", uuid);
	int n = snprintf(path, sizeof(path), "%s/bus/mdev/devices/%s", roots->sysfs, uuid);
	if (n < 0 || (size_t)n >= sizeof(path))
		return error_set(err, -ENAMETOOLONG, "the path of sysfs is too long");
	if (!kernel_node_exists(path))
		return error_set(err, -ENOENT,
				 "this machine has no mediated device of that UUID (no %s); to make one: echo %s > "
				 "PARENT/mdev_supported_types/TYPE/create, or mdevctl(8)", path, uuid);
	return kernel_place_sysfs(roots, path, ret, err);
}

int kernel_place_cdev(const struct kernel_roots *roots, const char *path, struct kernel_place *ret,
		      struct vfmig_error *err)
{
	char folder[KERNEL_PATH_MAX], node[KERNEL_PATH_MAX] = "";
	struct kernel_place p;
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	int n = snprintf(folder, sizeof(folder), "%s/class/vfio-dev/%s/device", roots->sysfs, name);
	if (!*name || n < 0 || (size_t)n >= sizeof(folder) || !kernel_node_exists(folder))
		return error_set(err, -ENOENT, "VFIO has no device '%s' (no %s)", name, folder);
	int r = kernel_place_sysfs(roots, folder, &p, err);
	if (r < 0)
		return r;
	if (!kernel_cdev_node(&p, node, sizeof(node)) || strcmp(node, path))
		return error_set(err, -EINVAL, "'%s' is no device's own file, expected %s", path, node);
	*ret = p;
	return 0;
}

uint32_t kernel_place_number(const struct kernel_place *p, const char *file)
{
	char path[KERNEL_PATH_MAX], text[32];
	if (!join(path, sizeof(path), p->path, file))
		return 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return (uint32_t)strtoul(text, NULL, 0);
}

/* Drivers that do nothing with their device, or only forward: the kernel lets them stay in a group. */
static bool driver_is_harmless(const char *driver)
{
	return !strcmp(driver, "pci-stub") || !strcmp(driver, "pcieport") || strstr(driver, "vfio");
}

static bool blocks(const struct kernel_place *self, const char *folder, const char *name, char *driver, size_t size)
{
	char path[KERNEL_PATH_MAX];
	if (name[0] == '.' || !strcmp(name, self->name) || !join(path, sizeof(path), folder, name))
		return false;
	if (!read_link(path, "driver", driver, size) || driver_is_harmless(driver))
		return false;
	/* A driver of VFIO's whose name does not tell. */
	char vfio[KERNEL_PATH_MAX];
	return !(join(vfio, sizeof(vfio), path, "vfio-dev") && kernel_node_exists(vfio));
}

unsigned kernel_group_blockers(const struct kernel_place *self, char *text, size_t size)
{
	char path[KERNEL_PATH_MAX], driver[KERNEL_NAME_MAX];
	unsigned count = 0;
	size_t used = 0;
	*text = '\0';
	if (self->group < 0 || !join(path, sizeof(path), self->path, "iommu_group/devices"))
		return 0;
	struct dirent **list;
	int n = scandir(path, &list, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (blocks(self, path, list[i]->d_name, driver, sizeof(driver))) {
			int m = snprintf(text + used, size - used, "%s%s (%s)", count++ ? ", " : "", list[i]->d_name,
					 driver);
			used = m < 0 || (size_t)m >= size - used ? size - 1 : used + (size_t)m;
		}
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return count;
}

/* Has the process one of its fds on `path`? */
static bool process_holds(const char *process, const char *path)
{
	char folder[KERNEL_PATH_MAX], file[KERNEL_PATH_MAX], target[KERNEL_PATH_MAX];
	bool found = false;
	if (!join(folder, sizeof(folder), process, "fd"))
		return false;
	DIR *fds = opendir(folder);
	if (!fds)
		return false;
	struct dirent *entry;
	while (!found && (entry = readdir(fds))) {
		if (!join(file, sizeof(file), folder, entry->d_name))
			continue;
		ssize_t n = readlink(file, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		found = !strcmp(target, path);
	}
	closedir(fds);
	return found;
}

static void process_name(const char *process, char *name, size_t size)
{
	char path[KERNEL_PATH_MAX];
	strcpy(name, "?");
	int fd = join(path, sizeof(path), process, "comm") ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	ssize_t n = read(fd, name, size - 1);
	close(fd);
	name[n > 0 ? n : 0] = '\0';
	name[strcspn(name, "\n")] = '\0';
}

void kernel_holder(const struct kernel_roots *roots, const char *path, char *text, size_t size)
{
	char process[KERNEL_PATH_MAX], name[32];
	*text = '\0';
	DIR *all = opendir(roots->proc);
	if (!all)
		return;
	struct dirent *entry;
	while ((entry = readdir(all))) {
		if (!isdigit((unsigned char)entry->d_name[0]) || atol(entry->d_name) == getpid() ||
		    !join(process, sizeof(process), roots->proc, entry->d_name) || !process_holds(process, path))
			continue;
		process_name(process, name, sizeof(name));
		snprintf(text, size, "process %s (%s)", entry->d_name, name);
		break;
	}
	closedir(all);
}

static const struct {
	const char *folder, *device; /* device: from an entry of the folder to the device */
} buses[] = {
	[KERNEL_BUS_OTHER] = { "class/vfio-dev", "/device" },
	[KERNEL_BUS_PCI] = { "bus/pci/devices", "" },
	[KERNEL_BUS_MDEV] = { "bus/mdev/devices", "" },
};

int kernel_list(const struct kernel_roots *roots, enum kernel_bus bus, kernel_list_fn *each, void *opaque)
{
	char folder[KERNEL_PATH_MAX], path[KERNEL_PATH_MAX + NAME_MAX + 64];
	struct kernel_place p;
	struct dirent **list;
	int r = 0;
	if (!join(folder, sizeof(folder), roots->sysfs, buses[bus].folder))
		return -ENAMETOOLONG;
	int n = scandir(folder, &list, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		int m = snprintf(path, sizeof(path), "%s/%s%s", folder, list[i]->d_name, buses[bus].device);
		if (r == 0 && list[i]->d_name[0] != '.' && m > 0 && (size_t)m < sizeof(path) &&
		    kernel_place_sysfs(roots, path, &p, NULL) == 0 && p.bus == bus)
			r = each(opaque, &p);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return r; /* no such folder: no such devices */
}
