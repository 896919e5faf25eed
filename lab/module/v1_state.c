// SPDX-License-Identifier: GPL-2.0
/* v1_state.c: the device's state and the registers that move it. */
#include <linux/bitmap.h>
#include <linux/mm.h>

#include "vfmig_v1.h"

u64 vfmig_digest(const struct vfmig_v1 *d)
{
	const u64 *word = (const u64 *)d->state;
	u64 h = 0xcbf29ce484222325ull;
	u64 i;

	for (i = 0; i < d->state_bytes / sizeof(*word); i++)
		h = (h ^ word[i]) * 0x100000001b3ull;
	return h;
}

static u64 next_random(struct vfmig_v1 *d)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return d->random;
}

void vfmig_change_pages(struct vfmig_v1 *d, u64 pages)
{
	while (pages--) {
		u64 page = next_random(d) % d->state_pages;
		u64 *word = (u64 *)(d->state + page * PAGE_SIZE);

		for (u64 i = 0; i < PAGE_SIZE / sizeof(*word); i++)
			word[i] += next_random(d);
		__set_bit(page, d->dirty);
	}
}

void vfmig_reset(struct vfmig_v1 *d)
{
	memset(d->state, 0, d->state_bytes);
	bitmap_fill(d->dirty, d->state_pages);
	d->device_state = STATE_RUNNING;
	d->step = STEP_IDLE;
	d->resets++;
}

/* -------------------------------------------------- the migration region */

int vfmig_refuse(struct vfmig_v1 *d, const char *what)
{
	d->refused++;
	dev_info(d->vdev.dev, "refused: %s\n", what);
	return -EINVAL;
}

static bool valid_change(u32 from, u32 to)
{
	if (to > STATE_RESUMING || to == (STATE_RESUMING | STATE_RUNNING))
		return false;
	if (to == (STATE_SAVING | STATE_RUNNING))
		return from == STATE_RUNNING;
	if (from == STATE_RESUMING)
		return !(to & STATE_SAVING);
	return !(to == STATE_RESUMING && (from & STATE_SAVING));
}

static void begin_transfer(struct vfmig_v1 *d, struct vfmig_sizes *sizes)
{
	memset(sizes, 0, sizeof(*sizes));
	bitmap_fill(d->dirty, d->state_pages);
	d->end_done = false;
	d->end_next = false;
	d->number = 0;
}

static void transaction_done(struct vfmig_v1 *d, struct vfmig_sizes *sizes)
{
	if (sizes->transactions < SIZES_KEPT)
		sizes->size[sizes->transactions] = d->data_size;
	sizes->transactions++;
	sizes->bytes += d->data_size;
	d->step = STEP_IDLE;
	d->number++;
}

static int set_state(struct vfmig_v1 *d, u32 to)
{
	u32 from = d->device_state;

	if (from == STATE_ERROR || !valid_change(from, to))
		return vfmig_refuse(d, "a change of state that is not allowed");
	/* A user may leave pre-copy with its last transaction taken and not acknowledged. */
	if ((from & STATE_SAVING) && d->step == STEP_SIZE) {
		d->end_done |= d->end_next;
		transaction_done(d, &d->saved);
	}
	d->step = STEP_IDLE;
	if (from == STATE_RESUMING && to != from) {
		if (!d->end_done) {
			d->device_state = STATE_ERROR;
			return vfmig_refuse(d, "a load that ends before its data does");
		}
		d->loaded_digest = vfmig_digest(d);
	}
	if ((from & STATE_RUNNING) && !(to & STATE_RUNNING))
		d->stopped_digest = vfmig_digest(d);
	if ((to & STATE_SAVING) && !(from & STATE_SAVING))
		begin_transfer(d, &d->saved);
	if (to == STATE_RESUMING && from != to)
		begin_transfer(d, &d->loaded);
	d->device_state = to;
	return 0;
}

u64 vfmig_pending_bytes(const struct vfmig_v1 *d)
{
	if (!(d->device_state & STATE_SAVING))
		return 0;
	if (d->device_state & STATE_RUNNING)
		return d->precopy ? bitmap_weight(d->dirty, d->state_pages) * PAGE_SIZE : 0;
	return bitmap_weight(d->dirty, d->state_pages) * PAGE_SIZE + (d->end_done ? 0 : sizeof(struct vfmig_v1_chunk));
}

static u64 read_pending(struct vfmig_v1 *d)
{
	if (d->step == STEP_SIZE) {
		d->end_done |= d->end_next;
		transaction_done(d, &d->saved);
	}
	if (d->step == STEP_IDLE && vfmig_pending_bytes(d))
		d->step = STEP_PENDING;
	return vfmig_pending_bytes(d);
}

/* Not always the same, so that nobody gets away with not asking. */
static u64 next_offset(const struct vfmig_v1 *d)
{
	return REGISTERS_BYTES + d->number % 4 * PAGE_SIZE;
}

static void prepare_chunk(struct vfmig_v1 *d)
{
	u64 room = d->section_bytes - 4 * PAGE_SIZE;
	u64 first = find_first_bit(d->dirty, d->state_pages);
	u64 end = min_t(u64, find_next_zero_bit(d->dirty, d->state_pages, first), first + room / PAGE_SIZE);
	u64 length = (end - first) * PAGE_SIZE;
	struct vfmig_v1_chunk chunk = {
		.magic = cpu_to_le32(CHUNK_MAGIC),
		.number = cpu_to_le32(d->number),
		.offset = cpu_to_le64(first * PAGE_SIZE),
		.length = cpu_to_le64(length),
	};
	u8 *to = d->section + d->data_offset - REGISTERS_BYTES;

	memcpy(to, &chunk, sizeof(chunk));
	memcpy(to + sizeof(chunk), d->state + first * PAGE_SIZE, length);
	bitmap_clear(d->dirty, first, end - first);
	d->data_size = sizeof(chunk) + length;
	d->end_next = !length;
}

static int read_data_offset(struct vfmig_v1 *d, u64 *value)
{
	bool load = d->device_state == STATE_RESUMING;

	if (!load && !(d->device_state & STATE_SAVING))
		return vfmig_refuse(d, "data_offset read in a state without data");
	if (!load && d->step == STEP_IDLE)
		return vfmig_refuse(d, "data_offset read before pending_bytes, or with nothing pending");
	if (d->step <= STEP_PENDING) {
		d->data_offset = next_offset(d);
		if (!load)
			prepare_chunk(d);
		d->step = STEP_OFFSET;
	}
	*value = d->data_offset;
	return 0;
}

static int read_data_size(struct vfmig_v1 *d, u64 *value)
{
	if (!(d->device_state & STATE_SAVING) || d->step < STEP_OFFSET)
		return vfmig_refuse(d, "data_size read before data_offset");
	d->step = STEP_SIZE;
	*value = d->data_size;
	return 0;
}

static int take_chunk(struct vfmig_v1 *d, u64 size)
{
	const u8 *from = d->section + d->data_offset - REGISTERS_BYTES;
	struct vfmig_v1_chunk chunk;
	u64 offset, length;

	if (d->device_state != STATE_RESUMING || d->step != STEP_OFFSET)
		return vfmig_refuse(d, "data_size written before data_offset was read");
	if (size < sizeof(chunk) || size > d->section_bytes + REGISTERS_BYTES - d->data_offset)
		return vfmig_refuse(d, "a transaction that cannot be one of ours by its size");
	memcpy(&chunk, from, sizeof(chunk));
	offset = le64_to_cpu(chunk.offset);
	length = le64_to_cpu(chunk.length);
	if (le32_to_cpu(chunk.magic) != CHUNK_MAGIC || length != size - sizeof(chunk) || d->end_done)
		return vfmig_refuse(d, "a transaction that is not one of a save, or not whole");
	if (le32_to_cpu(chunk.number) != d->number)
		return vfmig_refuse(d, "a transaction out of order");
	if (length > d->state_bytes || offset > d->state_bytes - length || (!length && offset != d->state_bytes))
		return vfmig_refuse(d, "a transaction of a device with another size of state");
	memcpy(d->state + offset, from + sizeof(chunk), length);
	d->data_size = size;
	d->end_done = !length;
	transaction_done(d, &d->loaded);
	return 0;
}

int vfmig_access_register(struct vfmig_v1 *d, void *buf, size_t count, u64 offset, bool write)
{
	u64 value = 0;
	int ret = 0;

	if (offset == offsetof(struct vfio_device_migration_info, device_state) && count == 4) {
		if (write)
			return set_state(d, *(u32 *)buf);
		*(u32 *)buf = d->device_state;
		return 0;
	}
	if (count != 8)
		return vfmig_refuse(d, "a register access of another width than the register's");
	switch (offset) {
	case offsetof(struct vfio_device_migration_info, pending_bytes):
		if (write)
			return vfmig_refuse(d, "pending_bytes written");
		value = read_pending(d);
		break;
	case offsetof(struct vfio_device_migration_info, data_offset):
		if (write)
			return vfmig_refuse(d, "data_offset written");
		ret = read_data_offset(d, &value);
		break;
	case offsetof(struct vfio_device_migration_info, data_size):
		if (write)
			return take_chunk(d, *(u64 *)buf);
		ret = read_data_size(d, &value);
		break;
	default:
		return vfmig_refuse(d, "an access where no register is");
	}
	memcpy(buf, &value, sizeof(value));
	return ret;
}
