/* SPDX-License-Identifier: BSD-3-Clause */
/* test_kernel.c: opening kernel devices, each reason why one does not open, and what is asked of one that did. */
#include "fake_kernel.h"
#include "made_machine.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "device/device.h"
#include "device/kernel.h"
#include "device/kernel_reasons.h"
#include "device/protocol.h"
#include "uapi/vfio_compat.h"

#define BDF "0000:01:00.0"

/* A function bound to a VFIO driver, by group 4 and by vfio0; all of it can be opened. */
static int setup(void **state)
{
	static struct made_machine m;
	made_machine_init(&m);
	made_device(&m, "pci", BDF, "mlx5_vfio_pci", 4, "vfio0");
	made_file(&m, "dev/vfio/4", "");
	made_file(&m, "dev/vfio/devices/vfio0", "");
	made_file(&m, "dev/iommu", "");
	memset(&fake, 0, sizeof(fake));
	fake.device_fd = memfd_create("device", MFD_CLOEXEC);
	assert_true(fake.device_fd >= 0);
	assert_int_equal(ftruncate(fake.device_fd, 16 * 4096), 0);
	*state = &m;
	return 0;
}

static int teardown(void **state)
{
	close(fake.device_fd);
	made_machine_remove(*state);
	return 0;
}

static int try_open(const struct made_machine *m, const char *wanted, struct access **ret, struct vfmig_error *err)
{
	struct kernel_place place;
	assert_int_equal(kernel_place_pci(&m->roots, BDF, &place, NULL), 0);
	return kernel_open_place(&place, wanted, ret, err);
}

static struct access *must_open(const struct made_machine *m, const char *wanted)
{
	struct access *a = NULL;
	struct vfmig_error err;
	if (try_open(m, wanted, &a, &err) < 0)
		fail_msg("%s", err.message);
	return a;
}

/* Fails, says all of these, and leaves no fd behind. */
static void refused(const struct made_machine *m, const char *wanted, const char *one, const char *two)
{
	struct access *a = NULL;
	struct vfmig_error err;
	int before = dup(0);
	close(before);
	int r = try_open(m, wanted, &a, &err);
	assert_true(r < 0);
	assert_int_equal(r, err.code);
	assert_null(a);
	if (!strstr(err.message, one) || !strstr(err.message, two))
		fail_msg("'%s' and '%s' are not in: %s", one, two, err.message);
	assert_true(strlen(err.message) < sizeof(err.message) - 20);
	int after = dup(0);
	close(after);
	assert_int_equal(after, before);
}

static void fails_with(unsigned long request, int code)
{
	fake.fail_request = request;
	fake.fail_errno = code;
}

static void cannot_open(const char *path, int code)
{
	fake.fail_open = path;
	fake.fail_open_errno = code;
}

static void test_driver_reasons(void **state)
{
	struct made_machine *m = *state;
	made_unlink(m, "sys/devices/pci/" BDF "/vfio-dev/vfio0/uevent");
	char folder[KERNEL_PATH_MAX];
	snprintf(folder, sizeof(folder), "%s/devices/pci/" BDF "/vfio-dev/vfio0", m->sysfs);
	assert_int_equal(rmdir(folder), 0);
	made_unlink(m, "sys/devices/pci/" BDF "/driver");
	refused(m, NULL, "no driver is bound", "driver_override");
	made_link(m, "sys/devices/pci/" BDF "/driver", "../drivers/nvme");
	refused(m, NULL, "bound to the driver nvme", "driver/unbind");
	assert_int_equal(fake.num_calls, 0);
}

static void test_group_reasons(void **state)
{
	const struct made_machine *m = *state;
	refused(m, "neither", "expected group or cdev", "neither");
	cannot_open("vfio/vfio", ENOENT);
	refused(m, "group", "VFIO is not loaded", "modprobe");
	cannot_open("vfio/4", EACCES);
	refused(m, "group", "no permission to open", "vfio/4");
	cannot_open("vfio/4", ENOENT);
	refused(m, "group", "group 4 has no file", "vfio/4");
	cannot_open("vfio/4", EBUSY);
	refused(m, "group", "vfio/4 is in use", "as root");
	char node[KERNEL_PATH_MAX];
	snprintf(node, sizeof(node), "%s/vfio/4", m->dev);
	made_link(m, "proc/4711/fd/9", node);
	made_file(m, "proc/4711/comm", "qemu-system-x86\n");
	refused(m, "group", "in use by process 4711 (qemu-system-x86)", "fd-from:unix:PATH");
	fake.fail_open = NULL;
	fake.not_viable = true;
	refused(m, "group", "group 4 is not viable", "dmesg");
	made_device(m, "pci", "0000:01:00.1", "snd_hda_intel", 4, NULL);
	refused(m, "group", "0000:01:00.1 (snd_hda_intel)", "unbind");
	fake.not_viable = false;
	made_unlink(m, "sys/devices/pci/" BDF "/iommu_group");
	refused(m, "group", "no IOMMU group", "intel_iommu=on");
}

static void test_container_reasons(void **state)
{
	const struct made_machine *m = *state;
	fake.no_type1v2 = true;
	refused(m, "group", "does not offer type1v2", "vfio_iommu_type1");
	fake.no_type1v2 = false;
	fails_with(VFIO_GROUP_SET_CONTAINER, EINVAL);
	refused(m, "group", "container refuses group 4", "adding the group");
	fails_with(VFIO_SET_IOMMU, EPERM);
	refused(m, "group", "switching type1v2 on", "allow_unsafe_interrupts");
	fails_with(VFIO_GROUP_GET_DEVICE_FD, ENODEV);
	refused(m, "group", "does not give its device " BDF, "mlx5_vfio_pci");
	fails_with(VFIO_GROUP_GET_DEVICE_FD, EBUSY);
	refused(m, "group", "in use", "one opener");
}

static void test_cdev_reasons(void **state)
{
	const struct made_machine *m = *state;
	fails_with(VFIO_DEVICE_BIND_IOMMUFD, EINVAL);
	refused(m, "cdev", "devices/vfio0 is in use", "one opener");
	fails_with(VFIO_DEVICE_BIND_IOMMUFD, EPERM);
	refused(m, "cdev", "iommufd refuses vfio0", "binding it");
	refused(m, "cdev", "--access group", "allow_unsafe_interrupts=1 of the module iommufd");
	made_device(m, "pci", "0000:01:00.1", "snd_hda_intel", 4, NULL);
	refused(m, "cdev", "group 4 is not viable", "0000:01:00.1 (snd_hda_intel)");
	fails_with(IOMMU_IOAS_ALLOC, ENOMEM);
	refused(m, "cdev", "iommufd refuses vfio0", "address space");
	fails_with(VFIO_DEVICE_ATTACH_IOMMUFD_PT, EINVAL);
	refused(m, "cdev", "iommufd refuses vfio0", "attaching");
	fake.fail_request = 0;
	cannot_open("vfio0", EACCES);
	refused(m, "cdev", "no permission", "devices/vfio0");
	cannot_open("dev/iommu", EACCES);
	refused(m, "cdev", "no permission", "dev/iommu");
	made_unlink(m, "dev/iommu");
	refused(m, "cdev", "modprobe iommufd", "--access group");
	made_unlink(m, "dev/vfio/devices/vfio0");
	refused(m, "cdev", "CONFIG_VFIO_DEVICE_CDEV", "--access group");
}

static void test_no_migration(void **state)
{
	const struct made_machine *m = *state;
	struct vfmig_device *d;
	struct vfmig_error err;
	assert_int_equal(device_new(must_open(m, "group"), NULL, &d, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.message, "no v2 migration interface"));
	assert_non_null(strstr(err.message, "its driver is mlx5_vfio_pci; a newer one"));
	fake.migration_flags = 1;
	struct vfmig_device_options v1 = { .size = sizeof(v1), .interface = "v1" };
	assert_int_equal(device_new(must_open(m, "group"), &v1, &d, &err), -EINVAL);
	assert_non_null(strstr(err.message, "v2 only, and v1 was asked for"));
	fake.migration_flags = 0;
	made_unlink(m, "sys/devices/pci/" BDF "/driver");
	made_link(m, "sys/devices/pci/" BDF "/driver", "../drivers/vfio-pci");
	assert_int_equal(device_new(must_open(m, "group"), NULL, &d, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.message, "vfio-pci; that one never migrates"));
	assert_non_null(strstr(err.message, "modules.alias"));
}

static void test_opens(void **state)
{
	static const unsigned long group[] = { VFIO_GET_API_VERSION,	 VFIO_CHECK_EXTENSION, VFIO_GROUP_GET_STATUS,
					       VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU, VFIO_GROUP_GET_DEVICE_FD };
	static const unsigned long cdev[] = { VFIO_DEVICE_BIND_IOMMUFD, IOMMU_IOAS_ALLOC, IOMMU_HWPT_ALLOC,
					      VFIO_DEVICE_ATTACH_IOMMUFD_PT };
	const struct made_machine *m = *state;
	struct access *a = must_open(m, "group");
	assert_int_equal(fake.num_calls, 6);
	assert_memory_equal(fake.calls, group, sizeof(group));
	assert_true(kernel_access_fd(a) >= 0);
	assert_int_equal(fcntl(kernel_access_fd(a), F_GETFD), FD_CLOEXEC);
	access_close(a);
	fake.num_calls = 0;
	a = must_open(m, NULL);
	assert_int_equal(fake.num_calls, 4);
	assert_memory_equal(fake.calls, cdev, sizeof(cdev));
	assert_int_equal(fake.attached_to, 78); /* a page table that logs writes */
	assert_int_equal(fake.hwpt_flags, IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
	access_close(a);
}

static int starts_a_log(const struct made_machine *m)
{
	struct access *a = must_open(m, "cdev");
	uint64_t page_size = 4096;
	int r = access_dirty_start(a, ACCESS_LOG_MAPPINGS, &(struct access_range) { 0, 4096 }, 1, &page_size, NULL);
	access_close(a);
	return r;
}

/* Without a page table that logs writes it is its address space that it is attached to. */
static void test_page_tables(void **state)
{
	const struct made_machine *m = *state;
	assert_int_equal(starts_a_log(m), 0);
	assert_int_equal(fake.attached_to, 78);
	assert_int_equal(fake_called(IOMMU_DESTROY), 0);
	fake.no_hwpt_attach = true;
	assert_int_equal(starts_a_log(m), -EOPNOTSUPP);
	assert_int_equal(fake.attached_to, 77);
	assert_int_equal(fake_called(IOMMU_DESTROY), 1); /* it would hold all memory twice */
	fake.no_hwpt = true;
	assert_int_equal(starts_a_log(m), -EOPNOTSUPP);
	assert_int_equal(fake.attached_to, 77);
}

static void test_dma(void **state)
{
	static const struct {
		const char *way;
		uint32_t flags;
		unsigned long unmap;
	} ways[] = { { "group", VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, VFIO_IOMMU_UNMAP_DMA },
		     { "cdev", IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		       IOMMU_IOAS_UNMAP } };
	struct vfmig_error err;
	for (int i = 0; i < 2; i++) {
		struct access *a = must_open(*state, ways[i].way);
		assert_int_equal(access_dma_map(a, 0x10000, 8192, fake.device_fd, 4096,
						VFMIG_DMA_READ | VFMIG_DMA_WRITE, &err), 0);
		assert_int_equal(fake.map_iova, 0x10000);
		assert_int_equal(fake.map_length, 8192);
		assert_int_equal(fake.map_flags, ways[i].flags);
		assert_int_equal(access_dma_unmap(a, 0x10000, 4096, &err), -ENOENT);
		assert_int_equal(fake_called(ways[i].unmap), 0);
		assert_int_equal(access_dma_unmap(a, 0x10000, 8192, &err), 0);
		assert_int_equal(fake_called(ways[i].unmap), 1);
		fails_with(i ? IOMMU_IOAS_MAP : VFIO_IOMMU_MAP_DMA, ENOMEM);
		assert_int_equal(access_dma_map(a, 0, 4096, fake.device_fd, 0, VFMIG_DMA_READ, &err), -ENOMEM);
		assert_non_null(strstr(err.message, "ulimit -l"));
		fake.fail_request = 0;
		assert_int_equal(access_dma_map(a, 0, 4096, fake.device_fd, 0, VFMIG_DMA_READ, &err), 0);
		access_close(a); /* with a mapping */
	}
}

/* Region info with its capabilities in backward order, longer than the first question has room for. */
static void make_region(bool circle)
{
	struct vfio_region_info info = { .argsz = 96, .flags = 15, .index = 3, .cap_offset = 80, .size = 8192,
					 .offset = 4096 };
	struct vfio_region_info_cap_type type = { { VFIO_REGION_INFO_CAP_TYPE, 1, 40 }, 3, 1 };
	struct vfio_region_info_cap_sparse_mmap sparse = { { VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 32 }, 1, 0 };
	struct vfio_region_sparse_mmap_area area = { 4096, 4096 };
	struct vfio_info_cap_header unknown = { 999, 1, circle ? 80 : 0 };
	memset(fake.region_info, 0, sizeof(fake.region_info));
	memcpy(fake.region_info, &info, sizeof(info));
	memcpy(fake.region_info + 32, &unknown, sizeof(unknown));
	memcpy(fake.region_info + 40, &sparse, sizeof(sparse));
	memcpy(fake.region_info + 56, &area, sizeof(area));
	memcpy(fake.region_info + 80, &type, sizeof(type));
}

static void test_region_info(void **state)
{
	struct access_region_info info;
	struct vfmig_error err;
	struct access *a = must_open(*state, "group");
	make_region(false);
	assert_int_equal(access_region_info(a, 3, &info, &err), 0);
	assert_int_equal(fake_called(VFIO_DEVICE_GET_REGION_INFO), 2);
	assert_int_equal(info.size, 8192);
	assert_true(info.has_type);
	assert_int_equal(info.type, 3);
	assert_int_equal(info.num_areas, 1);
	assert_int_equal(info.areas[0].offset, 4096);
	void *address;
	assert_int_equal(access_region_map(a, 3, &info.areas[0], &address, &err), 0);
	strcpy(address, "mapped"); /* the region begins at 4096 of the file, the area at 4096 of the region */
	char text[7];
	assert_int_equal(syscall(SYS_pread64, fake.device_fd, text, 7, 8192), 7);
	assert_string_equal(text, "mapped");
	access_region_unmap(a, address, &info.areas[0]);
	access_region_info_clear(&info);
	make_region(true);
	assert_int_equal(access_region_info(a, 3, &info, &err), -EPROTO);
	assert_int_equal(access_region_info(a, 4, &info, &err), -EPROTO); /* answered for 3 */
	make_region(false);
	memcpy(fake.region_info, &(uint32_t) { 1u << 31 }, 4);
	assert_int_equal(access_region_info(a, 3, &info, &err), -EPROTO);
	assert_int_equal(access_region_info(a, 1u << 31, &info, &err), -EINVAL);
	access_close(a);
}

static void test_region_io(void **state)
{
	char out[300], in[300];
	struct vfmig_error err;
	struct access *a = must_open(*state, "group");
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (char)(i * 7);
	fake.most = 64;
	assert_int_equal(access_region_write(a, 2, 100, out, sizeof(out), &err), 0);
	assert_int_equal(syscall(SYS_pread64, fake.device_fd, in, sizeof(in), 2 * 4096 + 100), sizeof(in));
	assert_memory_equal(in, out, sizeof(out));
	memset(in, 0, sizeof(in));
	assert_int_equal(access_region_read(a, 2, 100, in, sizeof(in), &err), 0);
	assert_memory_equal(in, out, sizeof(out));
	fake.most = 4; /* a register is read whole or not at all */
	assert_int_equal(access_region_read(a, 2, 104, in, 8, &err), -EIO);
	assert_int_equal(access_region_read(a, 2, 104, in, 4, &err), 0);
	fake.most = 0;
	assert_int_equal(access_region_read(a, 2, 4090, in, 8, &err), -EINVAL);
	assert_int_equal(access_region_read(a, 2, UINT64_MAX - 3, in, 8, &err), -EINVAL);
	assert_int_equal(access_region_write(a, 2, 1, out, SIZE_MAX, &err), -EINVAL);
	assert_int_equal(ftruncate(fake.device_fd, 4096), 0);
	assert_int_equal(access_region_read(a, 2, 104, in, 8, &err), -EIO); /* 0 bytes */
	access_close(a);
}

static void test_irqs_and_reset(void **state)
{
	struct vfmig_error err;
	struct access_irq_info info;
	const int fds[] = { 5, -1, 6 };
	struct access *a = must_open(*state, NULL);
	assert_int_equal(access_set_irqs(a, 2, 1, 3, fds, &err), 0);
	assert_int_equal(fake.irq_flags, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER);
	assert_int_equal(fake.irq_count, 3);
	assert_memory_equal(fake.irq_fds, fds, sizeof(fds));
	assert_int_equal(access_set_irqs(a, 2, 0, 0, NULL, &err), 0);
	assert_int_equal(fake.irq_flags, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER);
	assert_int_equal(access_irq_info(a, 0, &info, &err), 0);
	assert_int_equal(access_reset(a, &err), 0); /* the flag is not advertised */
	fails_with(VFIO_DEVICE_RESET, ENOTTY);
	assert_int_equal(access_reset(a, &err), -EOPNOTSUPP);
	fails_with(VFIO_DEVICE_RESET, EINVAL);
	assert_int_equal(access_reset(a, &err), -EOPNOTSUPP);
	fails_with(VFIO_DEVICE_RESET, EIO);
	assert_int_equal(access_reset(a, &err), -EIO);
	fails_with(VFIO_DEVICE_GET_IRQ_INFO, ENODEV);
	assert_int_equal(access_irq_info(a, 0, &info, &err), -ENOTCONN);
	access_close(a);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Saving: one fd from PRE_COPY to the end of STOP_COPY; closed when the transfer is over. */
static void test_data_fd_of_a_save(void **state)
{
	struct vfmig_error err;
	struct access_precopy_info info;
	char buffer[16];
	int fds[2];
	struct access *a = must_open(*state, NULL);
	assert_int_equal(access_mig_data_read(a, buffer, 16, &err), -EPROTO);
	assert_int_equal(pipe(fds), 0);
	fake.next_data_fd = fds[0];
	assert_int_equal(access_mig_state_set(a, VFMIG_STATE_PRE_COPY, &err), 0);
	assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(write(fds[1], "abc", 3), 3);
	assert_int_equal(access_mig_data_read(a, buffer, 16, &err), 3);
	fake.read_errno = ENOMSG;
	assert_int_equal(access_mig_data_read(a, buffer, 16, &err), -EAGAIN);
	assert_int_equal(access_mig_precopy_info(a, &info, &err), 0);
	fails_with(VFIO_MIG_GET_PRECOPY_INFO, ENOTTY);
	assert_int_equal(access_mig_precopy_info(a, &info, &err), -EOPNOTSUPP);
	fails_with(VFIO_MIG_GET_PRECOPY_INFO, EINVAL);
	assert_int_equal(access_mig_precopy_info(a, &info, &err), -EINVAL);
	fails_with(VFIO_DEVICE_FEATURE, EIO);
	assert_int_equal(access_mig_state_set(a, VFMIG_STATE_STOP_COPY, &err), -EIO);
	assert_true(is_open(fds[0]));
	fake.fail_request = 0;
	assert_int_equal(access_mig_state_set(a, VFMIG_STATE_STOP_COPY, &err), 0);
	assert_true(is_open(fds[0]));
	close(fds[1]);
	assert_int_equal(access_mig_data_read(a, buffer, 16, &err), 0);
	fake.read_errno = ENODEV;
	assert_int_equal(access_mig_data_read(a, buffer, 16, &err), -ENODEV);
	fake.read_errno = 524; /* ENOTSUPP, which some drivers let out */
	assert_int_equal(access_mig_data_read(a, buffer, 16, &err), -524);
	assert_string_equal(err.message, "reading the data fd: error 524");
	assert_int_equal(access_mig_state_set(a, VFMIG_STATE_STOP, &err), 0);
	assert_false(is_open(fds[0]));
	access_close(a);
}

static void test_data_fd_of_a_load(void **state)
{
	struct vfmig_error err;
	uint32_t now;
	char buffer[4];
	int fds[2], again[2];
	struct access *a = must_open(*state, NULL);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(pipe(again), 0);
	fake.next_data_fd = fds[1];
	assert_int_equal(access_mig_state_set(a, VFMIG_STATE_RESUMING, &err), 0);
	assert_int_equal(access_mig_state_get(a, &now, &err), 0);
	assert_int_equal(now, VFMIG_STATE_RESUMING);
	assert_int_equal(access_mig_data_write(a, "abc", 3, &err), 3);
	assert_int_equal(syscall(SYS_read, fds[0], buffer, 4), 3);
	assert_int_equal(access_reset(a, &err), 0); /* ends a transfer, too */
	assert_false(is_open(fds[1]));
	fake.next_data_fd = again[1];
	assert_int_equal(access_mig_state_set(a, VFMIG_STATE_RESUMING, &err), 0);
	access_close(a);
	assert_false(is_open(again[1]));
	close(fds[0]);
	close(again[0]);
}

static void test_features(void **state)
{
	struct vfmig_error err;
	uint64_t flags = 0;
	struct access *a = must_open(*state, NULL);
	const uint32_t get = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION;
	assert_int_equal(access_feature(a, get, &flags, sizeof(flags), &err), -EOPNOTSUPP);
	fake.migration_flags = 7;
	assert_int_equal(access_feature(a, get, &flags, sizeof(flags), &err), 0);
	assert_int_equal(flags, 7);
	fails_with(VFIO_DEVICE_FEATURE, EINVAL); /* a driver from before 5.18 */
	assert_int_equal(access_feature(a, get, &flags, sizeof(flags), &err), -EOPNOTSUPP);
	assert_int_equal(access_feature(a, VFIO_DEVICE_FEATURE_GET | 9, &flags, sizeof(flags), &err), -EINVAL);
	assert_int_equal(access_feature(a, VFIO_DEVICE_FEATURE_GET | 9, &flags, 1 << 20, &err), -E2BIG);
	access_close(a);
}

/* Drivers that may put new initial data on the stream are told so before pre-copy begins; others are not disturbed. */
static void test_precopy_info_v2(void **state)
{
	for (int has = 0; has < 2; has++) {
		struct vfmig_error err;
		struct protocol *p;
		struct access *a = must_open(*state, NULL);
		fake.migration_flags = 5;
		fake.mig_state = VFMIG_STATE_RUNNING;
		fake.has_precopy_info_v2 = has;
		fake.opted_in = false;
		assert_int_equal(feature_v2_open(a, &p, &err), 0);
		assert_false(fake.opted_in);
		assert_int_equal(p->ops->set_state(p, VFMIG_STATE_PRE_COPY, &err), 0);
		assert_int_equal(fake.opted_in, has);
		fake.opted_in = false;
		assert_int_equal(p->ops->set_state(p, VFMIG_STATE_STOP_COPY, &err), 0);
		assert_false(fake.opted_in);
		p->ops->free(p);
		access_close(a);
	}
}

/* An fd of somebody else's: nothing but GET_INFO is asked, and it stays open. */
static void test_handed_over(void **state)
{
	struct access *a = NULL;
	struct vfmig_error err;
	char uri[32];
	(void)state;
	snprintf(uri, sizeof(uri), "fd:%d", fake.device_fd);
	assert_int_equal(device_open_access(uri, NULL, &a, &err), 0);
	assert_int_equal(fake.num_calls, 1);
	assert_int_equal(fake.calls[0], VFIO_DEVICE_GET_INFO);
	assert_string_equal(a->name, uri);
	assert_int_equal(access_dma_map(a, 0, 4096, fake.device_fd, 0, VFMIG_DMA_READ, &err), -EOPNOTSUPP);
	assert_int_equal(access_dma_unmap(a, 0, 4096, &err), -EOPNOTSUPP);
	access_close(a);
	assert_true(is_open(fake.device_fd));
	fails_with(VFIO_DEVICE_GET_INFO, ENOTTY);
	assert_int_equal(device_open_access(uri, NULL, &a, &err), -EINVAL);
	assert_non_null(strstr(err.message, "no VFIO device"));
	fails_with(VFIO_DEVICE_GET_INFO, EINVAL);
	assert_int_equal(device_open_access(uri, NULL, &a, &err), -EINVAL);
	assert_non_null(strstr(err.message, "VFIO_DEVICE_BIND_IOMMUFD has to come before"));
	assert_int_equal(device_open_access("fd:99999", NULL, &a, &err), -EBADF);
	assert_int_equal(device_open_access("fd:x", NULL, &a, &err), -EINVAL);
	assert_int_equal(device_open_access("fd:", NULL, &a, &err), -EINVAL);
	assert_int_equal(device_open_access("fd-from:tcp:x", NULL, &a, &err), -EINVAL);
	assert_true(device_uri_owns("pci:x") && device_uri_owns("vfio:x") && device_uri_owns("mdev:x"));
	assert_false(device_uri_owns(uri) || device_uri_owns("vfio-user:x") || device_uri_owns("sim:"));
}

static void send_fds(int socket, const int *fds, size_t count)
{
	char byte = 0, control[CMSG_SPACE(4 * sizeof(int))] = "";
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (count) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		*header = (struct cmsghdr) { CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	assert_int_equal(sendmsg(socket, &message, 0), 1);
}

static void test_receive_fd(void **state)
{
	int pair[2], got = -1, fds[2] = { fake.device_fd, 0 };
	struct vfmig_error err;
	const uint64_t deadline_ns = clock_now_ns() + 20 * NS_PER_S;
	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	send_fds(pair[0], fds, 1);
	assert_int_equal(kernel_receive_fd(pair[1], deadline_ns, &got, &err), 0);
	assert_int_equal(fcntl(got, F_GETFD), FD_CLOEXEC);
	assert_int_equal(lseek(got, 0, SEEK_END), 16 * 4096);
	close(got);
	got = -1;
	send_fds(pair[0], fds, 2);
	assert_int_equal(kernel_receive_fd(pair[1], deadline_ns, &got, &err), -EPROTO);
	assert_non_null(strstr(err.message, "sent 2 fds"));
	send_fds(pair[0], NULL, 0);
	assert_int_equal(kernel_receive_fd(pair[1], deadline_ns, &got, &err), -EPROTO);
	assert_int_equal(kernel_receive_fd(pair[1], clock_now_ns(), &got, &err), -ETIMEDOUT);
	close(pair[0]);
	assert_int_equal(kernel_receive_fd(pair[1], deadline_ns, &got, &err), -EPIPE);
	assert_int_equal(got, -1);
	close(pair[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_driver_reasons), TEST(test_group_reasons),	TEST(test_container_reasons),
		TEST(test_cdev_reasons),   TEST(test_no_migration),	TEST(test_opens),
		TEST(test_dma),		   TEST(test_region_info),	TEST(test_region_io),
		TEST(test_irqs_and_reset), TEST(test_data_fd_of_a_save), TEST(test_data_fd_of_a_load),
		TEST(test_features),	   TEST(test_handed_over),	TEST(test_receive_fd),
		TEST(test_precopy_info_v2), TEST(test_page_tables),
	};
	return cmocka_run_group_tests_name("kernel", tests, NULL, NULL);
}
