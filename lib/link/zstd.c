/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * zstd.c: compression as a link around another one.
 *
 * Theory of operation. The stream goes as one zstd frame; what comes back on the
 * return path is not compressed, and neither is what is said on a connection
 * that replaces a lost one, where no state flows any more. Whoever loads knows
 * a frame by its first bytes, where a stream has QEVM and a channel 11223344.
 *
 * Saving, bytes count as taken only when the link below has all of what they
 * became: up to UNIT of them are packed and flushed, and until that is sent the
 * caller gets -EAGAIN and offers the same bytes again, as it has to with TLS. So
 * nothing ever lies here that the other side waits for, and nobody has to flush.
 * It costs no ratio, as zstd cuts its input into blocks of that size anyway.
 *
 * No worker of libzstd's is used: measured, level 1 gains a tenth by one while a processor has nothing else to
 * do, and loses where the other side or the device needs it. Its jobs are of 512 KiB or more, by which the
 * other side lags behind, and level 1 takes 13 MiB instead of 1.3. Zeros pass at 3 GiB/s
 * with level 1, so there is no test of our own for them; 128 KiB of them become four bytes.
 */
#include "link/zstd.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/bytes.h"

#define UNIT ((size_t)128 << 10)
#define FRAME_BYTES 1024u /* more than a frame's header and end, and the heads of a block that is split */
#define WINDOW_LOG 23	  /* 8 MiB, as much as any level up to VFMIG_ZSTD_LEVEL_MAX uses */
#define DRY_READS 64u	  /* in one call, that brought packed bytes and no others */

static const uint8_t magic[4] = { 0x28, 0xb5, 0x2f, 0xfd };

enum zstd_mode {
	UNKNOWN, /* loading: the first bytes have not come */
	PLAIN,	 /* not compressed */
	PACKED,
	ENDED, /* the frame is complete */
};

struct zstd_link {
	struct vfmig_link base;
	struct link_ops ops; /* some of them only where the link below has them */
	enum vfmig_direction direction;
	enum zstd_mode mode;
	uint32_t level; /* loading: not 0: nothing else than a frame is taken */
	ZSTD_CCtx *pack;
	ZSTD_DCtx *unpack; /* loading: made when a frame has come */
	uint8_t *buffer;   /* packed: saving, to be sent; loading, that has come */
	size_t capacity;
	const uint8_t *at; /* what is left: in the buffer, or in head */
	size_t left;
	size_t held;	   /* saving: of the caller's next bytes, already packed */
	bool partly;	   /* ... and some of what they became is sent */
	bool more;	   /* loading: the last read filled the caller's buffer, and there may be more */
	bool heard;	   /* saving: something has come back */
	uint8_t head[sizeof(magic)];
};

static const struct link_ops zstd_ops;

/* What is looked at from outside. */
static void sync_base(struct zstd_link *z)
{
	z->base.wait_fd = z->base.under->wait_fd;
	z->base.only_events = z->base.under->only_events;
	z->base.taken_by_nobody = z->base.under->taken_by_nobody;
	z->base.buffered = z->base.under->buffered || (z->direction == VFMIG_LOAD && (z->left || z->more));
}

static ssize_t write_below(struct zstd_link *z, const struct iovec *iov, int count, struct vfmig_error *err)
{
	return z->base.under->ops->writev(z->base.under, iov, count, err);
}

static ssize_t read_below(struct zstd_link *z, void *buffer, size_t length, struct vfmig_error *err)
{
	return z->base.under->ops->read(z->base.under, buffer, length, err);
}

/* ----------------------------------------------------------------- saving */

static int pack_failed(size_t result, struct vfmig_error *err)
{
	return error_set(err, -EIO, "compression: %s", ZSTD_getErrorName(result));
}

/* One write of what is packed. As writev. */
static ssize_t send_some(struct zstd_link *z, struct vfmig_error *err)
{
	struct iovec iov = { (void *)(uintptr_t)z->at, z->left };
	ssize_t n = write_below(z, &iov, 1, err);
	if (n > 0) {
		z->at += n;
		z->left -= (size_t)n;
		z->base.packed_bytes += (uint64_t)n;
	}
	return n;
}

static int pack(struct zstd_link *z, const void *data, size_t length, ZSTD_EndDirective how, struct vfmig_error *err)
{
	ZSTD_inBuffer in = { data, length, 0 };
	ZSTD_outBuffer out = { z->buffer, z->capacity, z->left };
	size_t r = ZSTD_compressStream2(z->pack, &out, &in, how);
	if (ZSTD_isError(r))
		return pack_failed(r, err);
	z->left = out.pos;
	if (in.pos < in.size || (r && how != ZSTD_e_continue))
		return error_set(err, -EIO, "compression: a block became larger than it was");
	return 0;
}

/* The first UNIT of what the caller offers. */
static int pack_unit(struct zstd_link *z, const struct iovec *iov, int count, struct vfmig_error *err)
{
	int r = 0;
	z->at = z->buffer;
	z->partly = false;
	for (int i = 0; i < count && r == 0 && z->held < UNIT; i++) {
		size_t length = (size_t)min_u64(iov[i].iov_len, UNIT - z->held);
		r = pack(z, iov[i].iov_base, length, ZSTD_e_continue, err);
		z->held += length;
	}
	return r < 0 ? r : pack(z, NULL, 0, ZSTD_e_flush, err);
}

/*
 * When a part of a unit is out, one of its bytes counts as taken: a save looks at that to know
 * whether the other side can have anything of the stream's end.
 */
static ssize_t write_packed(struct zstd_link *z, const struct iovec *iov, int count, struct vfmig_error *err)
{
	size_t total = 0;
	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	if (z->mode == ENDED || z->held > total)
		return error_set(err, -EINVAL, "compression: other bytes than were offered before");
	int r = z->held || !total ? 0 : pack_unit(z, iov, count, err);
	if (r < 0) {
		z->mode = ENDED;
		return r;
	}
	while (z->left) {
		ssize_t n = send_some(z, err);
		if (n < 0)
			return n;
		if (z->left && !z->partly && z->held > 1) {
			z->partly = true;
			z->held--;
			return 1;
		}
	}
	ssize_t taken = (ssize_t)z->held;
	z->held = 0;
	return taken;
}

static ssize_t zstd_writev(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err)
{
	struct zstd_link *z = (struct zstd_link *)l;
	bool packs = z->direction == VFMIG_SAVE && z->mode != PLAIN;
	ssize_t n = packs ? write_packed(z, iov, count, err) : write_below(z, iov, count, err);
	sync_base(z);
	return n;
}

static int zstd_finish(struct vfmig_link *l, struct vfmig_error *err)
{
	struct zstd_link *z = (struct zstd_link *)l;
	ssize_t r = 0;
	if (z->direction == VFMIG_SAVE && z->mode == PACKED) {
		z->mode = ENDED;
		z->at = z->buffer;
		r = pack(z, NULL, 0, ZSTD_e_end, err);
	}
	while (r >= 0 && z->mode == ENDED && z->left)
		r = send_some(z, err);
	if (r >= 0)
		r = z->base.under->ops->finish(z->base.under, err);
	sync_base(z);
	return (int)r;
}

/* The return path. Who cannot read a frame closes the connection, and its reason stays there. */
static ssize_t read_answer(struct zstd_link *z, void *buffer, size_t length, struct vfmig_error *err)
{
	struct vfmig_error cause = { .message = "the other side closed the connection without a word" };
	ssize_t n = read_below(z, buffer, length, err);
	z->heard |= n > 0;
	if (z->heard || z->mode == PLAIN || (n != 0 && n != -ECONNRESET))
		return n;
	if (n < 0 && err)
		cause = *err;
	return error_set(err, -ECONNRESET, "%s; if it is a QEMU: none reads a compressed stream (--compress)",
			 cause.message);
}

/* ---------------------------------------------------------------- loading */

static int broken(const struct zstd_link *z, size_t result, struct vfmig_error *err)
{
	const char *what = ZSTD_getErrorName(result);
	if (ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge)
		what = "it needs more than 8 MiB of memory to be unpacked: compress without zstd's --long or --ultra";
	return error_set(err, -EBADMSG, "compressed offset 0x%" PRIx64 ": %s",
			 z->base.packed_bytes - z->left, what);
}

static int begin_unpacking(struct zstd_link *z, struct vfmig_error *err)
{
	z->capacity = ZSTD_DStreamInSize();
	if (!z->unpack)
		z->unpack = ZSTD_createDCtx();
	if (!z->buffer)
		z->buffer = malloc(z->capacity);
	if (!z->unpack || !z->buffer)
		return error_errno(err, -ENOMEM, "compression");
	ZSTD_DCtx_reset(z->unpack, ZSTD_reset_session_only);
	size_t r = ZSTD_DCtx_setParameter(z->unpack, ZSTD_d_windowLogMax, WINDOW_LOG);
	if (ZSTD_isError(r))
		return error_set(err, -EIO, "compression: %s", ZSTD_getErrorName(r));
	z->mode = PACKED;
	z->base.packed_bytes += z->left;
	return 0;
}

/* Reads no more than tells a frame from a stream, which the bytes read are then given to. 0, -EAGAIN, -errno. */
static int recognise(struct zstd_link *z, struct vfmig_error *err)
{
	z->at = z->head;
	while (z->left < sizeof(magic) && memcmp(z->head, magic, z->left) == 0) {
		ssize_t n = read_below(z, z->head + z->left, sizeof(magic) - z->left, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		z->left += (size_t)n;
	}
	if (z->left == sizeof(magic) && memcmp(z->head, magic, sizeof(magic)) == 0)
		return begin_unpacking(z, err);
	if (z->level && z->left)
		return error_set(err, -EBADMSG,
				 "the other side does not compress: give --compress zstd there, or not here");
	z->mode = PLAIN;
	return 0;
}

static ssize_t read_plain(struct zstd_link *z, void *buffer, size_t length, struct vfmig_error *err)
{
	if (!z->left)
		return read_below(z, buffer, length, err);
	length = (size_t)min_u64(length, z->left);
	memcpy(buffer, z->at, length);
	z->at += length;
	z->left -= length;
	return (ssize_t)length;
}

/* Packed bytes into the empty buffer; 0: there are no more. */
static ssize_t refill(struct zstd_link *z, struct vfmig_error *err)
{
	ssize_t n = read_below(z, z->buffer, z->capacity, err);
	if (n > 0) {
		z->at = z->buffer;
		z->left = (size_t)n;
		z->base.packed_bytes += (uint64_t)n;
	}
	return n;
}

/* Behind the frame. */
static ssize_t read_end(struct zstd_link *z, struct vfmig_error *err)
{
	ssize_t n = z->left ? (ssize_t)z->left : refill(z, err);
	if (n <= 0)
		return n;
	return error_set(err, -EBADMSG, "compressed offset 0x%" PRIx64 ": more bytes behind the end of the zstd frame",
			 z->base.packed_bytes - z->left);
}

/* A saver that has a return path closes its connection without having ended the frame. */
static ssize_t cut_off(struct zstd_link *z, struct vfmig_error *err)
{
	if (z->base.under->two_way)
		return 0;
	return error_set(err, -EBADMSG, "compressed offset 0x%" PRIx64 ": it ends in the middle of a zstd frame",
			 z->base.packed_bytes);
}

/* Into the caller's buffer what is there already: bytes, or 0: more have to come. */
static ssize_t unpack(struct zstd_link *z, void *buffer, size_t length, struct vfmig_error *err)
{
	ZSTD_inBuffer in = { z->at, z->left, 0 };
	ZSTD_outBuffer out = { buffer, length, 0 };
	if (!z->left && !z->more)
		return 0;
	size_t r = ZSTD_decompressStream(z->unpack, &out, &in);
	z->at += in.pos;
	z->left -= in.pos;
	if (ZSTD_isError(r))
		return broken(z, r, err);
	z->more = r && out.pos == length;
	if (r == 0)
		z->mode = ENDED;
	return (ssize_t)out.pos;
}

static ssize_t read_packed(struct zstd_link *z, void *buffer, size_t length, struct vfmig_error *err)
{
	for (unsigned int dry = 0; z->mode == PACKED; dry++) {
		ssize_t n = unpack(z, buffer, length, err);
		if (n != 0)
			return n;
		if (z->mode == ENDED || z->left)
			continue;
		if (dry >= DRY_READS && z->base.under->wait_fd >= 0)
			return -EAGAIN; /* it makes this side work for nothing; others have their turn */
		n = refill(z, err);
		if (n <= 0)
			return n == 0 ? cut_off(z, err) : n;
	}
	return read_end(z, err);
}

static ssize_t zstd_read(struct vfmig_link *l, void *buffer, size_t length, struct vfmig_error *err)
{
	struct zstd_link *z = (struct zstd_link *)l;
	ssize_t n = 0;
	if (z->direction == VFMIG_LOAD && z->mode == UNKNOWN)
		n = recognise(z, err);
	if (n == 0)
		n = z->direction == VFMIG_SAVE ? read_answer(z, buffer, length, err) :
		    z->mode == PLAIN	       ? read_plain(z, buffer, length, err) :
						 read_packed(z, buffer, length, err);
	sync_base(z);
	return n;
}

/* ----------------------------------------------------- opening and closing */

static void forget(struct zstd_link *z, enum zstd_mode mode)
{
	z->mode = mode;
	z->left = z->held = 0;
	z->more = false;
}

/* Only a handover goes on by the new connection. */
static int zstd_reconnect(struct vfmig_link *l, struct vfmig_error *err)
{
	struct zstd_link *z = (struct zstd_link *)l;
	forget(z, z->direction == VFMIG_SAVE ? PLAIN : UNKNOWN);
	z->level = 0;
	int r = z->base.under->ops->reconnect(z->base.under, err);
	sync_base(z);
	return r;
}

static int zstd_rewind(struct vfmig_link *l, struct vfmig_error *err)
{
	struct zstd_link *z = (struct zstd_link *)l;
	if (lseek(z->base.under->file_fd, 0, SEEK_SET) < 0)
		return error_errno(err, -errno, "back to the beginning");
	forget(z, UNKNOWN);
	l->packed_bytes = 0;
	return 0;
}

static void zstd_close(struct vfmig_link *l)
{
	struct zstd_link *z = (struct zstd_link *)l;
	ZSTD_freeCCtx(z->pack);
	ZSTD_freeDCtx(z->unpack);
	free(z->buffer);
	vfmig_link_close(z->base.under);
	free(z);
}

/* Takes all of its memory now. */
static int begin_packing(struct zstd_link *z, struct vfmig_error *err)
{
	z->mode = PACKED;
	z->capacity = ZSTD_compressBound(UNIT) + FRAME_BYTES;
	z->buffer = malloc(z->capacity);
	z->pack = ZSTD_createCCtx();
	if (!z->buffer || !z->pack)
		return error_errno(err, -ENOMEM, "compression");
	size_t r = ZSTD_CCtx_setParameter(z->pack, ZSTD_c_compressionLevel, (int)z->level);
	/* Of use where the frame ends: to zstd -t, and to a stream without digests. */
	if (!ZSTD_isError(r))
		r = ZSTD_CCtx_setParameter(z->pack, ZSTD_c_checksumFlag, !z->base.under->two_way);
	if (ZSTD_isError(r))
		return pack_failed(r, err);
	z->at = z->buffer;
	return pack(z, NULL, 0, ZSTD_e_continue, err);
}

/* Takes under, also on failure. */
static int wrap(struct vfmig_link *under, enum vfmig_direction direction, uint32_t level, struct vfmig_link **ret,
		struct vfmig_error *err)
{
	struct zstd_link *z = calloc(1, sizeof(*z));
	if (!z) {
		vfmig_link_close(under);
		return error_errno(err, -ENOMEM, "link");
	}
	z->direction = direction;
	z->level = level;
	z->ops = zstd_ops;
	if (!under->ops->another)
		z->ops.another = NULL;
	if (!under->ops->reconnect)
		z->ops.reconnect = NULL;
	if (!under->seekable)
		z->ops.rewind = NULL;
	z->base = (struct vfmig_link) {
		.ops = &z->ops,
		.under = under,
		.listen_fd = under->listen_fd,
		.two_way = under->two_way,
		.file_fd = -1,
	};
	strcpy(z->base.name, under->name);
	sync_base(z);
	int r = direction == VFMIG_SAVE ? begin_packing(z, err) : 0;
	if (r < 0) {
		zstd_close(&z->base);
		return r;
	}
	*ret = &z->base;
	return 0;
}

static int zstd_another(struct vfmig_link *l, struct vfmig_link **ret, struct vfmig_error *err)
{
	const struct zstd_link *z = (struct zstd_link *)l;
	struct vfmig_link *under;
	int r = z->base.under->ops->another(z->base.under, &under, err);
	return r < 0 ? r : wrap(under, z->direction, z->level, ret, err);
}

static const struct link_ops zstd_ops = {
	.kind = "zstd",
	.writev = zstd_writev,
	.read = zstd_read,
	.finish = zstd_finish,
	.another = zstd_another,
	.reconnect = zstd_reconnect,
	.rewind = zstd_rewind,
	.close = zstd_close,
};

int zstd_check(const struct vfmig_link_options *opts, struct vfmig_error *err)
{
	if (opts->zstd_level <= VFMIG_ZSTD_LEVEL_MAX)
		return 0;
	return error_set(err, -EINVAL, "compression level %u, expected 1 to %u", opts->zstd_level,
			 VFMIG_ZSTD_LEVEL_MAX);
}

int zstd_link_new(struct vfmig_link *under, enum vfmig_direction direction, const struct vfmig_link_options *opts,
		  struct vfmig_link **ret, struct vfmig_error *err)
{
	uint8_t head[sizeof(magic)];
	bool saves = direction == VFMIG_SAVE;
	bool plain = saves ? !opts->zstd_level :
			     under->seekable && !opts->zstd_level &&
				     (pread(under->file_fd, head, sizeof(head), 0) != sizeof(head) ||
				      memcmp(head, magic, sizeof(magic)) != 0);
	if (!plain)
		return wrap(under, direction, opts->zstd_level, ret, err);
	*ret = under;
	return 0;
}
