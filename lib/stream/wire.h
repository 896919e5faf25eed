/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.h: every number of the migration stream, each with where it is from.
 *
 * "QEMU" is hw/vfio and migration of QEMU 5.2 to 10.0, read off the streams
 * they write. All integers are big-endian.
 */
#ifndef VFMIG_STREAM_WIRE_H
#define VFMIG_STREAM_WIRE_H

#include <stdint.h>

/* Framing (QEMU: the migration stream's file and section types) */
#define WIRE_MAGIC 0x5145564du /* "QEVM" */
#define WIRE_VERSION 3u
#define WIRE_EOF 0x00
#define WIRE_SECTION_START 0x01
#define WIRE_SECTION_PART 0x02
#define WIRE_SECTION_END 0x03
#define WIRE_SECTION_FULL 0x04
#define WIRE_SUBSECTION 0x05
#define WIRE_DESCRIPTION 0x06
#define WIRE_CONFIGURATION 0x07
#define WIRE_COMMAND 0x08
#define WIRE_FOOTER 0x7e

/* Commands and return path messages (QEMU: migration commands, return path) */
#define WIRE_COMMAND_OPEN_RETURN_PATH 1u
#define WIRE_COMMAND_PING 2u
#define WIRE_COMMAND_POSTCOPY_ADVISE 3u
#define WIRE_COMMAND_PACKAGED 7u
#define WIRE_COMMAND_SWITCHOVER_START 11u
#define WIRE_RETURN_SHUT 1u /* be32: 0 = loaded */
#define WIRE_RETURN_PONG 2u /* be32: the ping's value */
#define WIRE_RETURN_SWITCHOVER_ACK 7u

/* A VFIO section's flags (QEMU 5.2: "VFIO: add save state functions to
 * SaveVMHandlers"; INIT_DATA_SENT: 8.1; CONFIG_READY: 10.0) */
#define WIRE_VFIO_END_OF_STATE UINT64_C(0xffffffffef100001)
#define WIRE_VFIO_CONFIG_STATE UINT64_C(0xffffffffef100002)
#define WIRE_VFIO_SETUP_STATE UINT64_C(0xffffffffef100003)
#define WIRE_VFIO_DATA_STATE UINT64_C(0xffffffffef100004)
#define WIRE_VFIO_INIT_DATA_SENT UINT64_C(0xffffffffef100005)
#define WIRE_VFIO_CONFIG_READY UINT64_C(0xffffffffef100006)

/* The config record of a PCI device (QEMU: vmstate of a PCI device, version 2) */
#define WIRE_PCI_VERSION 2u
#define WIRE_PCI_INTX_LEVELS 4u
#define WIRE_PCI_CONFIG_SMALL 256u /* if and only if the config region is exactly that large */
#define WIRE_PCI_CONFIG_LARGE 4096u
#define WIRE_MSIX_ENTRY 16u
#define WIRE_MSIX_VECTORS_MAX 2048u
/* version, space, levels, table and pending bits at their largest */
#define WIRE_PCI_RECORD_MAX                                                                                            \
	(4u + WIRE_PCI_CONFIG_LARGE + 4u * WIRE_PCI_INTX_LEVELS + WIRE_MSIX_VECTORS_MAX * WIRE_MSIX_ENTRY +            \
	 WIRE_MSIX_VECTORS_MAX / 8u)

/* ram section, version 4: low bits of its be64 (QEMU: ram migration) */
#define WIRE_RAM_VERSION 4u
#define WIRE_RAM_ZERO 0x02u
#define WIRE_RAM_MEM_SIZE 0x04u
#define WIRE_RAM_PAGE 0x08u
#define WIRE_RAM_EOS 0x10u
#define WIRE_RAM_CONTINUE 0x20u
#define WIRE_RAM_XBZRLE 0x40u
#define WIRE_RAM_HOOK 0x80u
#define WIRE_RAM_COMPRESS 0x100u
#define WIRE_RAM_MULTIFD_FLUSH 0x200u
#define WIRE_PAGE_SIZE 4096u
/* With mapped-ram (9.0) behind each block of the list: be32 version, be64 page size, be64 bitmap's and be64 pages'
 * offset in the file; the stream goes on behind the pages. */
#define WIRE_RAM_MAPPED_VERSION 1u
#define WIRE_RAM_MAPPED_HEADER 28u

/* Further connections (QEMU: migration/multifd; device state since 10.0). Each begins with magic, version,
 * uuid[16], u8 channel, zeros; then packets, each of which begins with magic, version, be32 flags. */
#define WIRE_MULTIFD_MAGIC 0x11223344u
#define WIRE_MULTIFD_VERSION 1u
#define WIRE_MULTIFD_UUID 16u
#define WIRE_MULTIFD_INIT 64u
#define WIRE_MULTIFD_SYNC 0x01u		  /* flag: no pages, the end of a round */
#define WIRE_MULTIFD_COMPRESSION 0x3eu	  /* flags: how the pages are compressed */
#define WIRE_MULTIFD_DEVICE_STATE 0x40u   /* flag: a device's state, not memory */
#define WIRE_MULTIFD_ID 256u		  /* a block's or a device's, with its NUL */
#define WIRE_MULTIFD_PAGES 128u		  /* 512 KiB of pages in a packet of memory */
/* magic, version, flags, pages, normal pages, size; be64 number, zero pages, be32 0, 3 x be64 0; block, offsets */
#define WIRE_MULTIFD_RAM_HEADER (6u * 4u + 8u + 8u + 24u + WIRE_MULTIFD_ID + 8u * WIRE_MULTIFD_PAGES)
#define WIRE_MULTIFD_RAM_NORMAL_AT 16u
#define WIRE_MULTIFD_RAM_SIZE_AT 20u
#define WIRE_MULTIFD_RAM_ZERO_AT 32u
#define WIRE_MULTIFD_RAM_BLOCK_AT 64u
/* magic, version, flags; id, be32 instance, be32 size */
#define WIRE_MULTIFD_STATE_HEADER (3u * 4u + WIRE_MULTIFD_ID + 4u + 4u)
/* and as the first bytes of that size: be32 0 (a version), be32 index, be32 flags */
#define WIRE_MULTIFD_PACKET_HEADER 12u
#define WIRE_MULTIFD_PACKET_VERSION 0u
#define WIRE_MULTIFD_PACKET_CONFIG 0x01u /* flag: the config record, the device's last packet */

/* vfmig's own: the section ids of the streams it writes, "vfm" and a running
 * number. QEMU takes any id; the first section's marks the stream as one that
 * must end in a sealed description. */
#define WIRE_VFMIG_SECTION_ID 0x76666d00u
#define WIRE_VFMIG_PLAIN_ID 0x76666e00u /* likewise, "vfn", in a stream whose digests are all DESCRIPTION_NO_DIGEST */
#define WIRE_VFMIG_SECTIONS_MAX 256u
#define WIRE_VFMIG_DESCRIPTION_VERSION 2u

/* vfmig's own: how two of it recognise each other and agree who runs the device.
 * Values of pings, which QEMU only echoes, and of a pong that nobody asked for;
 * "running" and "lost" are SHUT with 0 and 1. */
#define WIRE_HANDOVER_MARK 0x76666d01u	   /* ping: the next four are the session's id */
#define WIRE_HANDOVER_ANSWER 0x76666d02u   /* pong: to the mark */
#define WIRE_HANDOVER_PREPARED 0x76666d03u /* pong */
#define WIRE_HANDOVER_COMMIT 0x76666d04u   /* pings, behind the description */
#define WIRE_HANDOVER_ABORT 0x76666d05u
#define WIRE_HANDOVER_OVER 0x76666d06u /* heard the last word: no need to say it again */
/* Once they have: does this side keep a journal? Pings of the source, and the pongs that answer either; a vfmig before
 * 0.2 answers with the ping's own value, as it does to all others. */
#define WIRE_HANDOVER_NO_JOURNAL 0x76666d08u
#define WIRE_HANDOVER_JOURNAL 0x76666d09u
#define WIRE_HANDOVER_NONE_HERE 0x76666d0au
#define WIRE_HANDOVER_ONE_HERE 0x76666d0bu

#define WIRE_ID_MAX 255u
#define WIRE_DESCRIPTION_MAX (64u << 20) /* a PC's is about 50 KiB */

#endif
