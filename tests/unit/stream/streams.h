/* SPDX-License-Identifier: BSD-3-Clause */
/* streams.h: small streams for tests, and walking any stream to its end. */
#ifndef TEST_STREAMS_H
#define TEST_STREAMS_H

#include "memory_link.h"
#include "stream/reader.h"
#include "stream/vfio_packets.h"
#include "stream/writer.h"

#define TEST_ID "0000:00:01.0/vfio"

/* A stream like vfmig's own, of one device, into m. `section_id` WIRE_VFMIG_SECTION_ID makes it a marked one. */
void stream_build(struct memory_link *m, uint32_t section_id, bool with_end);

enum walk_how { WALK_SKIP, WALK_FEED };

/*
 * Reads a stream to its end and writes one line for each record and VFIO packet into
 * trace (may be NULL). 0 or the reader's error. ret_verified may be NULL.
 */
int stream_walk(struct vfmig_link *link, enum walk_how how, char *trace, size_t size, bool *ret_verified,
		struct vfmig_error *err);

#endif
