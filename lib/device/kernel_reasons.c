/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel_reasons.c: a message and a remedy of its own for each reason why a kernel device does not open. */
#include "device/kernel_reasons.h"

#include <stdio.h>
#include <string.h>

typedef int reason_fn(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err);

static int no_driver(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	(void)detail;
	return error_set(err, code,
			 "no driver is bound to it; bind its VFIO driver: modprobe vfio-pci; echo vfio-pci > "
			 "%s/driver_override; echo %s > %s/bus/pci/drivers_probe (to migrate, its vendor's VFIO "
			 "driver in place of vfio-pci)", p->path, p->name, p->roots->sysfs);
}

static int driver_in_the_way(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	(void)detail;
	return error_set(err, code,
			 "it is bound to the driver %s, which is not VFIO's; if nothing uses it: modprobe vfio-pci; "
			 "echo vfio-pci > %s/driver_override; echo %s > %s/driver/unbind; echo %s > "
			 "%s/bus/pci/drivers_probe (to migrate, its vendor's VFIO driver in place of vfio-pci)",
			 p->driver, p->path, p->name, p->path, p->name, p->roots->sysfs);
}

static int no_group(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	(void)detail;
	return error_set(err, code,
			 "it is in no IOMMU group (no %s/iommu_group): the machine has no IOMMU or it is off; switch "
			 "VT-d or AMD-Vi on in the firmware, boot with intel_iommu=on on Intel, then look at dmesg "
			 "for DMAR or AMD-Vi",
			 p->path);
}

static int no_group_node(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	return error_set(err, code,
			 "its group %d has no file %s: its VFIO driver is not bound, /dev is not the host's (in a "
			 "container pass the file in), or VFIO runs without an IOMMU, which vfmig does not use",
			 p->group, detail);
}

static int not_viable(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	(void)detail;
	char others[160];
	unsigned count = kernel_group_blockers(p, others, sizeof(others));
	return error_set(err, code,
			 "its IOMMU group %d is not viable: %s%s; all devices of a group go together: unbind %s (echo "
			 "ADDRESS > %s/bus/pci/devices/ADDRESS/driver/unbind) or put this device into another slot",
			 p->group, count ? "of its devices, the host has " : "the kernel does not say why (dmesg)",
			 others, count ? "them" : "the others", p->roots->sysfs);
}

static int no_cdev(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	(void)detail;
	return error_set(err, code,
			 "it has no file of its own in %s/vfio/devices: that takes Linux 6.6 with "
			 "CONFIG_VFIO_DEVICE_CDEV and CONFIG_IOMMUFD, and a VFIO driver bound; use --access group",
			 p->roots->dev);
}

static int no_vfio(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	(void)p;
	return error_set(err, code,
			 "there is no %s: VFIO is not loaded (modprobe vfio-pci vfio_iommu_type1), the kernel has no "
			 "CONFIG_VFIO_CONTAINER, or a container does not have the file", detail);
}

static int no_iommufd(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	(void)p;
	return error_set(err, code, "there is no %s: modprobe iommufd (CONFIG_IOMMUFD), or use --access group", detail);
}

static int no_permission(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	(void)p;
	return error_set(err, code,
			 "no permission to open %s for reading and writing: run as root, or give the file to the "
			 "user: chown USER %s (by a udev rule to make it last)", detail, detail);
}

static int busy(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	char holder[64], node[KERNEL_PATH_MAX];
	kernel_holder(p->roots, detail, holder, sizeof(holder));
	/* One who has it the other way is in the way, too. */
	if (!holder[0] && p->group >= 0 && kernel_group_node(p, node, sizeof(node)))
		kernel_holder(p->roots, node, holder, sizeof(holder));
	if (!holder[0] && p->cdev[0] && kernel_cdev_node(p, node, sizeof(node)))
		kernel_holder(p->roots, node, holder, sizeof(holder));
	return error_set(err, code,
			 "%s is in use%s%s: a group or device has one opener; let that one go, or have it hand over "
			 "its device fd (fd:N, fd-from:unix:PATH)%s", detail, holder[0] ? " by " : "", holder,
			 holder[0] ? "" : "; as root vfmig would see who it is");
}

static int container_refuses(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	return error_errno(err, code,
			   "the VFIO container refuses group %d (%s): vfio_iommu_type1 has to be loaded; without "
			   "interrupt remapping it wants allow_unsafe_interrupts=1; dmesg tells more", p->group,
			   detail);
}

static int iommufd_refuses(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	return error_errno(err, code, "iommufd refuses %s (%s): --access group may work%s; dmesg tells more", p->cdev,
			   detail, code == -EPERM ? "; an IOMMU without interrupt remapping wants "
						    "allow_unsafe_interrupts=1 of the module iommufd" : "");
}

static int not_in_group(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	(void)detail;
	return error_errno(err, code,
			   "group %d does not give its device %s away: is its VFIO driver bound (%s is)? A function "
			   "of a PF that VFIO holds wants the PF's token, which vfmig does not pass",
			   p->group, p->name, p->driver[0] ? p->driver : "none");
}

static int no_migration(const struct kernel_place *p, const char *detail, int code, struct vfmig_error *err)
{
	bool plain = !strcmp(p->driver, "vfio-pci");
	return error_set(err, code, "%s%s%s; %s", detail, p->driver[0] ? "; its driver is " : "", p->driver,
			 plain ? "that one never migrates: bind the vendor's VFIO driver, if this lists one: grep "
				 "vfio_pci: /lib/modules/$(uname -r)/modules.alias" :
				 "a newer one, or the vendor's, may migrate it");
}

/* In the enum's order. */
static const struct {
	const char *name;
	reason_fn *tell;
} reasons[] = {
	[KERNEL_FINE] = { "none", NULL },
	[KERNEL_NO_DRIVER] = { "no-driver", no_driver },
	[KERNEL_DRIVER_IN_THE_WAY] = { "driver-in-the-way", driver_in_the_way },
	[KERNEL_NO_GROUP] = { "no-group", no_group },
	[KERNEL_NO_GROUP_NODE] = { "no-group-node", no_group_node },
	[KERNEL_GROUP_NOT_VIABLE] = { "group-not-viable", not_viable },
	[KERNEL_NO_CDEV] = { "no-cdev", no_cdev },
	[KERNEL_NO_VFIO] = { "no-vfio", no_vfio },
	[KERNEL_NO_IOMMUFD] = { "no-iommufd", no_iommufd },
	[KERNEL_NO_PERMISSION] = { "no-permission", no_permission },
	[KERNEL_BUSY] = { "busy", busy },
	[KERNEL_CONTAINER_REFUSES] = { "container-refuses", container_refuses },
	[KERNEL_IOMMUFD_REFUSES] = { "iommufd-refuses", iommufd_refuses },
	[KERNEL_NOT_IN_GROUP] = { "not-in-group", not_in_group },
	[KERNEL_NO_MIGRATION] = { "no-migration", no_migration },
};

const char *kernel_reason_name(enum kernel_reason reason)
{
	return reasons[reason].name;
}

int kernel_refuse(enum kernel_reason reason, const struct kernel_place *place, const char *detail, int code,
		  struct vfmig_error *err)
{
	return reasons[reason].tell(place, detail, code, err);
}

int kernel_refuse_node(const struct kernel_place *place, const char *path, enum kernel_reason absent, int code,
		       struct vfmig_error *err)
{
	if (code == -EACCES || code == -EPERM)
		return kernel_refuse(KERNEL_NO_PERMISSION, place, path, code, err);
	if (code == -EBUSY)
		return kernel_refuse(KERNEL_BUSY, place, path, code, err);
	if (code == -ENOENT || code == -ENODEV || code == -ENXIO)
		return kernel_refuse(absent, place, path, code, err);
	return error_errno(err, code, "opening %s", path);
}

/* iommufd needs its own file, too; without it a kernel's cdevs cannot be used. */
static bool has_iommufd(const struct kernel_place *place)
{
	char path[KERNEL_PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/iommu", place->roots->dev);
	return n > 0 && (size_t)n < sizeof(path) && kernel_node_exists(path);
}

enum kernel_reason kernel_choose(const struct kernel_place *place, const char *wanted, enum kernel_way *ret_way)
{
	bool can_cdev = place->has_cdev_node && has_iommufd(place);
	bool cdev = wanted ? !strcmp(wanted, "cdev") : can_cdev;
	*ret_way = cdev ? KERNEL_BY_CDEV : KERNEL_BY_GROUP;
	if (!place->has_vfio_driver)
		return place->driver[0] ? KERNEL_DRIVER_IN_THE_WAY : KERNEL_NO_DRIVER;
	if (!cdev)
		return place->group < 0 ? KERNEL_NO_GROUP : KERNEL_FINE;
	if (!place->has_cdev_node)
		return KERNEL_NO_CDEV;
	return can_cdev ? KERNEL_FINE : KERNEL_NO_IOMMUFD;
}

enum kernel_reason kernel_look(const struct kernel_place *place)
{
	char others[2];
	enum kernel_way way;
	enum kernel_reason reason = kernel_choose(place, NULL, &way);
	bool blocked = kernel_group_blockers(place, others, sizeof(others)) > 0;
	return reason == KERNEL_FINE && blocked ? KERNEL_GROUP_NOT_VIABLE : reason;
}
