/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vfmig_v1.h: a mediated PCI device with a migration region (type 3, subtype 1), for tests of v1 migration.
 *
 * It is strict where the interface is: the width and order of register accesses, the order and sizes of transactions,
 * a load that ends early. What users did is counted in sysfs (vfmig/stats and its neighbours). Its three mdev types
 * differ in the data section: trapped, mapped, or mixed (parts of it mapped, listed unsorted).
 *
 * A transaction is a struct vfmig_v1_chunk and the bytes of state it speaks of; one without bytes ends the state.
 */
#ifndef VFMIG_V1_H
#define VFMIG_V1_H

#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>

#define VFMIG_VENDOR 0xfff0
#define VFMIG_DEVICE 0x7666
#define VFMIG_CLASS 0x0b4000
#define CONFIG_BYTES 256
#define BAR_BYTES PAGE_SIZE
#define BAR_WINDOW 0x800
#define DMA_BYTES_MAX (1u << 20)
#define REGISTERS_BYTES PAGE_SIZE /* of the migration region; the data section follows */
#define MIGRATION_INDEX VFIO_PCI_NUM_REGIONS
#define OFFSET_SHIFT 40
#define SIZES_KEPT 256
#define TICK_MS 10

#define STATE_RUNNING VFIO_DEVICE_STATE_V1_RUNNING
#define STATE_SAVING VFIO_DEVICE_STATE_V1_SAVING
#define STATE_RESUMING VFIO_DEVICE_STATE_V1_RESUMING
#define STATE_ERROR (STATE_SAVING | STATE_RESUMING)

enum vfmig_section { SECTION_TRAPPED, SECTION_MAPPED, SECTION_MIXED };

struct vfmig_v1_chunk {
	__le32 magic;
	__le32 number; /* of the transaction */
	__le64 offset;
	__le64 length;
};

#define CHUNK_MAGIC 0x31474d56 /* "VMG1" */

/* How far a transaction has come. */
enum vfmig_step { STEP_IDLE, STEP_PENDING, STEP_OFFSET, STEP_SIZE };

struct vfmig_sizes {
	u64 transactions, bytes;
	u32 size[SIZES_KEPT];
};

struct vfmig_v1 {
	struct vfio_device vdev;
	struct mutex lock; /* all below */
	struct delayed_work tick;
	enum vfmig_section kind;
	u8 config[CONFIG_BYTES];
	u8 *state;
	unsigned long *dirty; /* a bit for each page of state not saved yet */
	u64 state_bytes, state_pages, section_bytes;
	u8 *section;
	bool precopy;

	u32 device_state;
	enum vfmig_step step;
	bool end_done; /* the chunk that ends the state was given or taken */
	bool end_next;
	u32 number;
	u64 data_offset, data_size;

	u64 bar_window, bar_dma_iova, bar_dma_done;
	u64 random;
	u64 stopped_digest, loaded_digest;
	struct vfmig_sizes saved, loaded;
	u64 refused, trapped_reads, trapped_writes, resets, ticks;
	atomic_t maps;
};

#define to_vfmig(v) container_of(v, struct vfmig_v1, vdev)

/* v1_state.c */
u64 vfmig_digest(const struct vfmig_v1 *d);
void vfmig_change_pages(struct vfmig_v1 *d, u64 pages);
void vfmig_reset(struct vfmig_v1 *d);
u64 vfmig_pending_bytes(const struct vfmig_v1 *d);
int vfmig_refuse(struct vfmig_v1 *d, const char *what);
int vfmig_access_register(struct vfmig_v1 *d, void *buf, size_t count, u64 offset, bool write);

/* v1_regions.c: what lies behind read, write, mmap and ioctl of the device */
extern const struct vfio_device_ops vfmig_ops;
int vfmig_init(struct vfio_device *vdev);
void vfmig_release(struct vfio_device *vdev);

/* v1_sysfs.c */
extern const struct attribute_group *vfmig_groups[];

#endif
