/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * writer.h: puts a stream onto a link without ever blocking.
 *
 * What is put is queued: small things are copied into one buffer (64 KiB), one
 * large thing at a time is referred to where it lies. writer_flush sends until
 * the queue is empty (0) or the link is full (-EAGAIN). Nothing may be put
 * while the queue holds a reference. Every byte put is counted and digested.
 */
#ifndef VFMIG_STREAM_WRITER_H
#define VFMIG_STREAM_WRITER_H

#include "link/link.h"
#include "stream/description.h"

struct vfmig_writer;

int writer_new(struct vfmig_link *link, struct vfmig_writer **ret, struct vfmig_error *err);
/* Before anything is put: no digest, and a seal of zeros. The first section is then WIRE_VFMIG_PLAIN_ID. */
void writer_without_digest(struct vfmig_writer *w);
void writer_free(struct vfmig_writer *w);

/* 0: nothing is left in the queue. -EAGAIN: poll the link. Also reports an
 * overflow of the queue (-ENOBUFS) by an earlier put. */
int writer_flush(struct vfmig_writer *w, struct vfmig_error *err);

/* Bytes put so far: the offset of the next one. */
uint64_t writer_offset(const struct vfmig_writer *w);
/* Of those, what the link has taken. */
uint64_t writer_sent(const struct vfmig_writer *w);

/* A reference waits: nothing may be put until the next flush has succeeded. */
bool writer_holds_ref(const struct vfmig_writer *w);

/* Header and CONFIGURATION. machine: at most 255 bytes. */
void writer_header(struct vfmig_writer *w, const char *machine);
void writer_command(struct vfmig_writer *w, uint16_t command, const void *payload, uint16_t length);
/* kind 'S', 'P', 'E', 'F'; id, instance and version only matter for S and F. */
void writer_section_begin(struct vfmig_writer *w, char kind, uint32_t section_id, const char *id,
			  uint32_t instance_id, uint32_t version_id);
void writer_section_end(struct vfmig_writer *w, uint32_t section_id);
/* EOF, VMDESCRIPTION, seal. The stream is complete once that is flushed. */
int writer_finish(struct vfmig_writer *w, const struct description *d, struct vfmig_error *err);

#endif
