/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfmig.h: save, move and restore the state of VFIO devices, live.
 *
 * The stream is QEMU's migration stream; the handlers are QEMU's
 * SaveVMHandlers; the devices are whatever a VFIO interface reaches.
 *
 * Conventions, valid for every function here:
 *  - The result is 0 (or a count) or a negative errno. `err`, always last and
 *    always optional (NULL), then holds one line: what, where, what was
 *    expected. Outputs are called ret_* and stay untouched on failure.
 *  - Handles belong to one thread at a time unless a function says otherwise.
 *  - *_new and *_open give ownership, *_free and *_close take it and take NULL.
 *  - An fd parameter says "borrows" or "takes". Every fd made here is CLOEXEC.
 *  - Option structs begin with their size: zero the struct, set `size` to
 *    sizeof, then set what is wanted. A non-zero tail that this library does
 *    not know is -EINVAL.
 *  - The library never prints, never exits and never blocks signals.
 */
#ifndef VFMIG_H
#define VFMIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library is built with everything hidden but what is declared here. */
#pragma GCC visibility push(default)

#define VFMIG_VERSION_MAJOR 0
#define VFMIG_VERSION_MINOR 1
#define VFMIG_VERSION_PATCH 0

/* "0.1.0": the version of the library that is running. Never NULL, not owned. */
const char *vfmig_version(void);

/* ------------------------------------------------------------------ errors */

/* One failure. `code` is a negative errno (0: none); `message` is one line. */
struct vfmig_error {
	int code;
	char message[508];
};

/* ---------------------------------------------------------------- devices */

/*
 * Device states, numbered as in Linux's enum vfio_device_mig_state (v2).
 * A v1 device knows them as bits: STOP 000, RUNNING 001, STOP_COPY 010,
 * PRE_COPY 011, RESUMING 100, ERROR 110; it has no P2P states.
 */
enum vfmig_state {
	VFMIG_STATE_ERROR = 0,
	VFMIG_STATE_STOP = 1,
	VFMIG_STATE_RUNNING = 2,
	VFMIG_STATE_STOP_COPY = 3,
	VFMIG_STATE_RESUMING = 4,
	VFMIG_STATE_RUNNING_P2P = 5,
	VFMIG_STATE_PRE_COPY = 6,
	VFMIG_STATE_PRE_COPY_P2P = 7,
};

/* "pre-copy" and so on; "unknown" for a number that is none. Not owned. */
const char *vfmig_state_name(enum vfmig_state state);

/* An open device: how it is reached and which migration interface it speaks. */
struct vfmig_device;

struct vfmig_device_options {
	size_t size;
	/* How long one request to a vfio-user server may take; 0: 30000. */
	uint32_t timeout_ms;
	/* "v1" or "v2"; NULL: v2 where the device has it, else v1. */
	const char *interface;
	/* v1 load: write a transaction that is larger than the data section in
	 * pieces, as QEMU 7.2 does and the interface does not allow. */
	bool split_transactions;
	/* Kernel devices: by their "group" and a container, or by their own file
	 * ("cdev") and an iommufd. NULL: by their own file where there is one. */
	const char *access;
};

/*
 * Opens `uri` and finds its migration interface. opts may be NULL.
 *   vfio-user:/PATH    a vfio-user server's socket
 *   pci:ADDRESS, mdev:UUID, sysfs:PATH, vfio:/dev/vfio/devices/NAME
 *                      a kernel device. It has one owner, which this makes the
 *                      caller: most are reset by their first opening, and by
 *                      the closing of the last fd to them.
 *   fd:N               a VFIO device's fd of this process (borrows: works on a
 *                      copy of it); nothing is opened, bound or reset
 *   fd-from:unix:PATH  connects to PATH and receives such an fd (SCM_RIGHTS)
 * Apart from such a reset, opening does not change the device's state.
 * -EOPNOTSUPP: the device has no migration interface; the message says what
 * was looked for. -EINVAL: no such kind of URI. Else the cause, with what can
 * be done about it.
 */
int vfmig_device_open(const char *uri, const struct vfmig_device_options *opts, struct vfmig_device **ret_device,
		      struct vfmig_error *err);
void vfmig_device_close(struct vfmig_device *device);

/* The name used in messages: the URI it was opened by. Owned by device. */
const char *vfmig_device_name(const struct vfmig_device *device);

/* Asks the device (not a cache) for its state. */
int vfmig_device_state(struct vfmig_device *device, enum vfmig_state *ret_state, struct vfmig_error *err);

#define VFMIG_DMA_READ 1u
#define VFMIG_DMA_WRITE 2u

/*
 * Lets the device reach [offset, offset + length) of `fd` (borrows; shared
 * memory) at [iova, iova + length). Unmapped by vfmig_device_close.
 */
int vfmig_device_dma_map(struct vfmig_device *device, uint64_t iova, uint64_t length, int fd, uint64_t offset,
			 uint32_t flags, struct vfmig_error *err);
int vfmig_device_dma_unmap(struct vfmig_device *device, uint64_t iova, uint64_t length, struct vfmig_error *err);

/*
 * Lets the device signal `eventfds[count]` (borrowed until close or until a call
 * that covers the same vectors; -1: none) for vectors start.. of interrupt
 * `index` (VFIO_PCI_*_IRQ_INDEX). Remembered, and set again when a load has
 * restored the config space.
 */
int vfmig_device_set_irqs(struct vfmig_device *device, uint32_t index, uint32_t start, uint32_t count,
			  const int *eventfds, struct vfmig_error *err);

/*
 * What the config record holds besides the config space: the VMM's emulated
 * interrupt state, which cannot be read from a device. `msix_table` has 16
 * bytes a vector, `msix_pending` one bit a vector.
 */
struct vfmig_interrupts {
	uint32_t intx_levels[4]; /* 0 or 1 */
	uint8_t *msix_table;
	uint8_t *msix_pending;
	uint32_t msix_vectors;
};

struct vfmig_interrupt_ops {
	size_t size;
	/* Save: fill in. It comes as all zero and every vector masked. */
	int (*get)(void *opaque, struct vfmig_interrupts *interrupts, struct vfmig_error *err);
	/* Load, once the stream is verified and before the device starts. */
	int (*set)(void *opaque, const struct vfmig_interrupts *interrupts, struct vfmig_error *err);
};

/*
 * Without these a save writes masked vectors, and a load that finds any
 * vector unmasked or level raised says so by its log and goes on. ops and
 * opaque are borrowed until close.
 */
void vfmig_device_set_interrupt_ops(struct vfmig_device *device, const struct vfmig_interrupt_ops *ops, void *opaque);

/* ------------------------------------------------------------------- links */

/* Where a stream goes to or comes from. */
struct vfmig_link;

enum vfmig_direction { VFMIG_SAVE, VFMIG_LOAD };

struct vfmig_link_options {
	size_t size;
	/* Connecting or waiting for a connection; 0: connect 10000, listen for ever. */
	uint32_t timeout_ms;
	/* A link that waits for a connection now listens `where`: "tcp:0.0.0.0:4444",
	 * with the port that the kernel chose where 0 was asked for. May be NULL. */
	void (*listening)(void *opaque, const char *where);
	void *listening_opaque;
	/*
	 * TLS 1.3 on a socket: a folder with the files that QEMU and libvirt use.
	 * Either ca-cert.pem with client-cert.pem, client-key.pem (saving) or
	 * server-cert.pem, server-key.pem (loading), ca-crl.pem if there is one: both
	 * sides have to be certified. Or keys.psk with lines USER:HEXKEY, of which the
	 * saving side uses "qemu", or the only one. NULL: plain text.
	 */
	const char *tls_creds;
	/* Saving: the name or IP address that the server's certificate has to be
	 * for; NULL: tcp:'s host. The other links have none, so it is needed there. */
	const char *tls_hostname;
	/* Without TLS a TCP connection that is not of the loopback network is
	 * refused with -EPERM, before anything is sent; this allows it. */
	bool insecure;
	/* Loading: how many may be made at the same time, beside the first (multifd_channels). */
	uint32_t further_connections;
	/*
	 * Saving: compress the stream with zstd at this level, 1 to VFMIG_ZSTD_LEVEL_MAX; a QEMU does not read that.
	 * Loading recognises it without a word; not 0: refuse what is not compressed.
	 */
	uint32_t zstd_level;
};
#define VFMIG_ZSTD_LEVEL_MAX 19u

/*
 * Opens file:PATH, - (stdin or stdout), fd:N (takes), exec:COMMAND, unix:PATH,
 * tcp:HOST:PORT or null:. Saving connects, loading listens and accepts one
 * peer (so does fd: with a listening socket); both block until then, and until
 * TLS's handshake is over. In TLS the saving side ends it first: that it was refused
 * it learns with the first answer, which a save waits for before it touches a device.
 * Afterwards the link never blocks. A TCP peer out of reach, or
 * taking nothing, for 40 s is lost.
 * A file: being saved has its final name only when the save succeeded.
 */
int vfmig_link_open(const char *uri, enum vfmig_direction direction, const struct vfmig_link_options *opts,
		    struct vfmig_link **ret_link, struct vfmig_error *err);
void vfmig_link_close(struct vfmig_link *link);

/* ------------------------------------------------------------ participants */

/*
 * What takes part in a migration: a VFIO device, guest memory, or anything a
 * VMM registers itself. The functions are QEMU's SaveVMHandlers plus the
 * phases around the switch. A NULL function means "nothing to do", but what can
 * be stopped or started needs undo, and save_setup goes with
 * save_live_complete_precopy. Every call goes through the participants in the
 * order they were added, undo and cleanup in the reverse one: add vCPUs first
 * when saving, last when loading. VFIO devices that follow each other stop, start
 * and are taken back at the same time, in threads of the library; what you bring is called by
 * the thread that steps, with no device under way.
 */
struct vfmig_writer;

struct vfmig_pending {
	uint64_t precopy_bytes;   /* could be sent while running */
	uint64_t stop_copy_bytes; /* can only be sent when stopped */
	bool stop_copy_unknown;	  /* there is more of the latter, nobody knows how much */
	uint64_t stop_ns;	  /* what stopping it takes, as far as it has shown; 0: unknown */
	uint64_t initial_bytes;	  /* v2 devices: of precopy_bytes; the other side should have these before the stop */
};

enum vfmig_handler_result {
	VFMIG_SECTION_DONE = 0, /* this section's body is complete */
	VFMIG_ALL_DONE = 1,     /* so is it, and nothing was left to send */
	VFMIG_SECTION_MORE = 2, /* call again, same section, once what was put is out */
};

/* The section that load_state is given. */
struct vfmig_section {
	char kind; /* 'S'tart, 'P'art, 'E'nd, 'F'ull */
	uint32_t section_id;
	uint32_t instance_id;
	uint32_t version_id;
	uint64_t body_offset; /* in the stream, of the body's first byte */
	uint64_t offset;      /* in the stream, of data[0] of this call */
};

struct vfmig_participant_ops {
	size_t size;

	/* Save. Each is called with the section's header written and puts the
	 * body; save_state writes the FULL section. They return an
	 * enum vfmig_handler_result or -errno. A participant without save_state
	 * has no FULL section; one without save_live_iterate is not iterated. */
	int (*save_setup)(void *opaque, struct vfmig_writer *w, struct vfmig_error *err);
	int (*save_live_pending)(void *opaque, bool exact, struct vfmig_pending *ret_pending, struct vfmig_error *err);
	int (*save_live_iterate)(void *opaque, struct vfmig_writer *w, struct vfmig_error *err);
	int (*save_live_complete_precopy)(void *opaque, struct vfmig_writer *w, struct vfmig_error *err);
	int (*save_state)(void *opaque, struct vfmig_writer *w, struct vfmig_error *err);
	/* After success, failure and cancel alike; `undo` has come before it
	 * unless the save succeeded. */
	void (*save_cleanup)(void *opaque);

	/* Load. load_state gets what has arrived of a body so far, takes what it
	 * can use (*ret_used) and returns 1 when the body is complete, 0 when it
	 * wants more. Up to 64 KiB are gathered for one that takes nothing. */
	int (*load_setup)(void *opaque, struct vfmig_error *err);
	int (*load_state)(void *opaque, const struct vfmig_section *section, const uint8_t *data, size_t length,
			  size_t *ret_used, struct vfmig_error *err);
	/* The whole stream has arrived and is intact: the last look before
	 * anything is started. */
	int (*load_complete)(void *opaque, struct vfmig_error *err);
	void (*load_cleanup)(void *opaque);

	/* The switch. Save: every participant's stop_prepare (vCPUs stop, devices
	 * go to P2P), then every one's stop. Load: every start_prepare, then every
	 * start. undo takes back whatever was done, at any time before success:
	 * a saver's device to what it was, a loader's to one that holds nothing of
	 * the load. undo reports what it could not do but always does the rest. */
	int (*stop_prepare)(void *opaque, struct vfmig_error *err);
	int (*stop)(void *opaque, struct vfmig_error *err);
	int (*start_prepare)(void *opaque, struct vfmig_error *err);
	int (*start)(void *opaque, struct vfmig_error *err);
	int (*undo)(void *opaque, struct vfmig_error *err);
};

/* Put into a section's body, big-endian. They only queue and cannot fail. */
void vfmig_put_u8(struct vfmig_writer *w, uint8_t v);
void vfmig_put_be16(struct vfmig_writer *w, uint16_t v);
void vfmig_put_be32(struct vfmig_writer *w, uint32_t v);
void vfmig_put_be64(struct vfmig_writer *w, uint64_t v);
/* Copies at most 64 KiB a call of a handler; more is -ENOBUFS at its end. */
void vfmig_put_bytes(struct vfmig_writer *w, const void *data, size_t length);
/* Sends from where it lies, at most once a call of a handler and as its last
 * put: `data` must stay as it is until a handler of the participant is called again, undo and save_cleanup included. */
void vfmig_put_ref(struct vfmig_writer *w, const void *data, size_t length);

/* ------------------------------------------------------------ guest memory */

/*
 * Memory that devices write by DMA, as a participant: QEMU's section "ram",
 * version 4. It consists of blocks (QEMU's RAMBlocks: "pc.ram"), each with a name of at
 * most 255 bytes and a length, a multiple of 4096; both sides must have the
 * same ones. Pages that change are sent again in rounds, the last of which comes once
 * every participant is stopped.
 *
 * Who writes is followed by the logs there are: the device's own
 * (VFIO_DEVICE_FEATURE_DMA_LOGGING), that of its type1 container, its iommufd's
 * page table or its vfio-user server, and what the caller brings. Memory of a
 * device that has none is sent as a whole while it is stopped; the log says so.
 * Writers that are not added here (vCPUs, say) are the caller's to bring.
 */
struct vfmig_memory;

int vfmig_memory_new(struct vfmig_memory **ret_memory, struct vfmig_error *err);
/* After the save or load that it was added to, before the devices are closed. */
void vfmig_memory_free(struct vfmig_memory *memory);

/*
 * What follows is for before the migration's first step, but for the two that tell of writes.
 * A block: `length` bytes at `address` (borrowed), or of `fd` from `offset` on (borrows: works on
 * a mapping of its own; memfd, hugetlbfs, a file in /dev/shm). -EEXIST: the name is used.
 */
int vfmig_memory_add(struct vfmig_memory *memory, const char *name, void *address, uint64_t length,
		     struct vfmig_error *err);
int vfmig_memory_add_fd(struct vfmig_memory *memory, const char *name, int fd, uint64_t offset, uint64_t length,
			struct vfmig_error *err);
/* Load: a block of that name may come, is not wanted (a ROM), and passed over. */
int vfmig_memory_skip(struct vfmig_memory *memory, const char *name, struct vfmig_error *err);
/* Devices reach [offset, offset + length) of the block at [iova, iova + length). Whole pages of 4096. */
int vfmig_memory_set_iova(struct vfmig_memory *memory, const char *name, uint64_t offset, uint64_t length,
			  uint64_t iova, struct vfmig_error *err);
/* Maps what blocks of an fd have an IOVA, all of each, for the device to read and write. */
int vfmig_memory_map(struct vfmig_memory *memory, struct vfmig_device *device, struct vfmig_error *err);
/*
 * Save: what the device (borrowed) writes is followed. What vfmig_device_dma_map has
 * mapped for it counts, or, if that is nothing, all that has an IOVA. It may be
 * mapped and unmapped while a save goes on.
 */
int vfmig_memory_add_device(struct vfmig_memory *memory, struct vfmig_device *device, struct vfmig_error *err);

/* Another writer: what KVM's dirty log, userfaultfd or an emulated device knows. */
struct vfmig_dirty_ops {
	size_t size;
	int (*start)(void *opaque, struct vfmig_error *err); /* log from now on; may be NULL */
	/* Tells by the two functions below what was written since the last call. Called before each round and once
	 * everything is stopped. What is told must have been forgotten before: a write after that is told again. */
	int (*sync)(void *opaque, struct vfmig_memory *memory, struct vfmig_error *err);
	void (*stop)(void *opaque); /* may be NULL */
};
int vfmig_memory_add_dirty_ops(struct vfmig_memory *memory, const struct vfmig_dirty_ops *ops, void *opaque,
			       struct vfmig_error *err);
/* From sync, or between two steps: [offset, offset + length) of the block was written. */
int vfmig_memory_set_dirty(struct vfmig_memory *memory, const char *name, uint64_t offset, uint64_t length,
			   struct vfmig_error *err);
/* The same by a bitmap of 64-bit words: bit n is the page of page_size bytes (a power of two from 4096) at
 * offset + n * page_size. offset and length are multiples of 4096. */
int vfmig_memory_merge_dirty(struct vfmig_memory *memory, const char *name, uint64_t offset, uint64_t length,
			     uint64_t page_size, const uint64_t *bitmap, struct vfmig_error *err);

/* ------------------------------------------------------- save and load */

/* The most further connections that a migration can have. */
#define VFMIG_MULTIFD_CHANNELS_MAX 64u

enum vfmig_phase {
	VFMIG_PHASE_SETUP,
	VFMIG_PHASE_PRECOPY,
	VFMIG_PHASE_STOP_COPY, /* from the first stop_prepare */
	VFMIG_PHASE_COMPLETING, /* end sent (save) or verified (load): waiting for the other side */
	VFMIG_PHASE_DONE,
	VFMIG_PHASE_FAILED,
	VFMIG_PHASE_CANCELLED,
};
const char *vfmig_phase_name(enum vfmig_phase phase);

/* What the downtime consists of, in this order. */
enum vfmig_downtime_step {
	VFMIG_DOWNTIME_STOP_PREPARE, /* save: vCPUs stop, devices go to P2P */
	VFMIG_DOWNTIME_STOP,
	VFMIG_DOWNTIME_COMPLETE, /* the last data, of memory and devices, until the link has taken it */
	VFMIG_DOWNTIME_SETTLE,	 /* devices: out of stop-and-copy */
	VFMIG_DOWNTIME_STATE,	 /* config space */
	VFMIG_DOWNTIME_FINISH,	 /* the end of the stream */
	VFMIG_DOWNTIME_CONFIRM,	 /* a one-way link: made to last; else the other side's answer */
	VFMIG_DOWNTIME_RECEIVE,	 /* load: from the first END section to the end of the stream */
	VFMIG_DOWNTIME_LOAD_COMPLETE, /* the state is verified, the config space written */
	VFMIG_DOWNTIME_AGREE,	 /* with a vfmig: devices stop, and the source decides */
	VFMIG_DOWNTIME_START_PREPARE,
	VFMIG_DOWNTIME_START,
	VFMIG_DOWNTIME_STEPS,
};
/* "stop_prepare" and so on; both completes are "complete". */
const char *vfmig_downtime_step_name(enum vfmig_downtime_step step);

/* What a migration has done so far. Bytes are of the stream unless said. */
struct vfmig_status {
	enum vfmig_phase phase;
	uint64_t setup_bytes, precopy_bytes, stop_copy_bytes;
	uint64_t total_bytes;
	uint64_t rounds;                /* calls of save_live_iterate over all participants */
	uint64_t pending_bytes;         /* last known */
	uint64_t bandwidth_bytes_per_s; /* measured; 0: not yet */
	uint64_t expected_downtime_ns;
	uint64_t elapsed_ns;
	uint64_t downtime_ns; /* save: first stop until done; load: see vfmig_load_status */
	/* After failure. Save: every device was put back to what it was, or runs as somebody else's reset has left it
	 * (-ESTALE); false, too, where nothing was touched and another session has one of them, or one was found
	 * stopped. Load: none runs with anything of it (one without a reset may be stopped with a part). */
	bool source_may_run;
	bool digest_verified; /* load: the stream carried digests and they are right */
	char session[33];     /* between two vfmigs: of the handover; else empty */
	/* After failure: the other side may have the devices, so that they stay stopped here. False: they do not. */
	bool outcome_unknown;
	/* Guest memory, in pages of 4096 bytes: sent or loaded, zero pages apart; how often it was asked which
	 * ones were written, and what the last time added, in how long. */
	uint64_t memory_pages, memory_zero_pages;
	uint64_t dirty_syncs, dirty_pages, dirty_interval_ns;
	uint64_t compressed_bytes; /* what total_bytes are on the link; 0: not compressed */
	uint64_t downtime_steps_ns[VFMIG_DOWNTIME_STEPS]; /* their sum is downtime_ns */
};

enum vfmig_log_level { VFMIG_LOG_WARNING, VFMIG_LOG_INFO, VFMIG_LOG_DEBUG };
typedef void vfmig_log_fn(void *opaque, enum vfmig_log_level level, const char *line);

/* What is to be done when pre-copy has not come below the downtime limit in time. */
enum vfmig_timeout_action {
	VFMIG_TIMEOUT_GIVE_UP, /* the save fails with -ETIME, the source runs on */
	VFMIG_TIMEOUT_SWITCH,  /* the device is stopped, however long that takes */
	VFMIG_TIMEOUT_GO_ON,   /* as much time again */
};
typedef enum vfmig_timeout_action vfmig_precopy_timeout_fn(void *opaque, const struct vfmig_status *status);

struct vfmig_save_options {
	size_t size;
	const char *machine;        /* CONFIGURATION's machine name; NULL: pc-q35-7.2 */
	uint64_t downtime_limit_ns; /* 0: 300 ms */
	bool no_precopy;            /* stop first, then save everything */
	/* A two-way link to something that only stores the stream: done when the
	 * kernel has taken the last byte, whatever becomes of it then. */
	bool no_return_path;
	vfmig_log_fn *log;          /* may be NULL */
	void *log_opaque;
	uint64_t max_bandwidth;      /* bytes/s while devices work, none once they are stopped; 0: no limit */
	uint64_t precopy_timeout_ns; /* how long pre-copy may try; 0: for ever */
	/* Called by a step then, the device being at work still. NULL: give up. */
	vfmig_precopy_timeout_fn *precopy_timeout;
	void *precopy_timeout_opaque;
	/*
	 * To another vfmig (doc/handover.md): a directory in which this side keeps
	 * what it has promised, so that a killed program does not leave the question
	 * who may run. NULL: only a lost connection is covered.
	 */
	const char *journal;
	/* How long a connection that was lost at the switch is tried again;
	 * 0: 60 s, UINT64_MAX: until cancelled. Nobody runs because it has passed. */
	uint64_t retry_for_ns;
	/* What v2 devices give once they are stopped goes over so many further connections (QEMU's
	 * multifd-channels), which vfmig_save_new makes as vfmig_link_open does. 0: by the link alone. */
	uint32_t multifd_channels;
	uint8_t multifd_uuid[16]; /* what the channels name: the machine's (QEMU -uuid) or zeros */
	/* QEMU's capability switchover-ack: nothing is stopped before the other side has said by the return path
	 * that the devices' initial bytes are loaded. Within precopy_timeout_ns as everything in pre-copy. */
	bool switchover_ack;
	/* No digests in the stream, to save the time that they take: what changes a byte on the way is not noticed. */
	bool no_digest;
	/* With journal: a person's consent to save what this session has or gave away once more; its id. NULL: none. */
	const char *again;
};

struct vfmig_save;

/* The link is borrowed and must outlive the save. */
int vfmig_save_new(struct vfmig_link *link, const struct vfmig_save_options *opts, struct vfmig_save **ret_save,
		   struct vfmig_error *err);
/* In the middle of a save: as cancelled, without waiting for the other side. */
void vfmig_save_free(struct vfmig_save *save);

/*
 * Adds a device (borrowed) under its section id, QEMU's "0000:00:01.0/vfio".
 * Only before the first step. -EEXIST: that id was added already.
 */
int vfmig_save_add_device(struct vfmig_save *save, struct vfmig_device *device, const char *id,
			  struct vfmig_error *err);
int vfmig_save_add_participant(struct vfmig_save *save, const struct vfmig_participant_ops *ops, void *opaque,
			       const char *id, uint32_t instance_id, uint32_t version_id, struct vfmig_error *err);

/* Memory (borrowed) as the section "ram". Once; before the devices, as QEMU has it. -EBUSY: it is being loaded into, by
 * whatever program: until the save is over, an OFD read lock far behind the end of each block's file tells so. */
int vfmig_save_add_memory(struct vfmig_save *save, struct vfmig_memory *memory, struct vfmig_error *err);

enum vfmig_step { VFMIG_STEP_AGAIN = 0, VFMIG_STEP_WAIT = 1, VFMIG_STEP_DONE = 2 };

/*
 * Does one piece of work: at most one transition (of all devices at the same
 * time, at the switch), or one piece (<= 1 MiB) of one transaction. Never sleeps
 * for the link, but looks for up to 50 us whether it becomes ready; a call to
 * the device may take as long as the device takes. AGAIN: call again at once if
 * you like. WAIT: call again when vfmig_save_wait says so.
 * DONE: saved and, on a link that goes both ways, loaded by the other side.
 * -errno: failed or cancelled; vfmig_save_status tells whether the devices were
 * put back and the source may run. Where the other side may have the state they
 * stay stopped: a QEMU once the end was sent, another vfmig once that was decided.
 * Devices are put back at once; to tell another vfmig, steps may go on after that
 * for up to retry_for_ns.
 */
int vfmig_save_step(struct vfmig_save *save, struct vfmig_error *err);
/* The fd and the poll(2) events to wait for after WAIT. The fd is borrowed. */
int vfmig_save_wait(struct vfmig_save *save, short *ret_events);
/* Steps until done, waiting with poll(2). */
int vfmig_save_run(struct vfmig_save *save, struct vfmig_error *err);
/* From any thread or signal handler: the next step (or the run, at once) ends
 * with -ECANCELED. Once a QEMU may have the end of the stream, or it was decided
 * that another vfmig has the devices, that leaves the source stopped
 * (status.source_may_run is false). */
void vfmig_save_cancel(struct vfmig_save *save);
void vfmig_save_status(const struct vfmig_save *save, struct vfmig_status *ret_status);

struct vfmig_load_options {
	size_t size;
	bool require_digest;  /* refuse a stream that is not vfmig's */
	bool no_start;        /* leave the loaded device stopped */
	bool no_verify_first; /* a file: do not read it once for checking before the device is touched */
	vfmig_log_fn *log;
	void *log_opaque;
	const char *journal;   /* as in vfmig_save_options */
	uint64_t retry_for_ns; /* as in vfmig_save_options */
	/* Devices' state may come by so many further connections (QEMU's multifd-channels): the link
	 * has to be one that takes them (vfmig_link_options.further_connections). 0: by the link alone. */
	uint32_t multifd_channels;
	uint8_t multifd_uuid[16]; /* what the channels must name: the machine's (QEMU -uuid) or zeros */
	uint64_t max_queued;	  /* bytes of packets that came before their turn; 0: 64 MiB */
	/* The source has the capability switchover-ack: it is told at once where no device here has pre-copy. (That
	 * the initial bytes of the others are loaded is always told to a source that asks for it.) */
	bool switchover_ack;
	/* With journal: a person's consent to load over what this session has loaded; its id. NULL: none. */
	const char *replace;
};

struct vfmig_load;

int vfmig_load_new(struct vfmig_link *link, const struct vfmig_load_options *opts, struct vfmig_load **ret_load,
		   struct vfmig_error *err);
/* In the middle of a load: as cancelled, without waiting for the other side. */
void vfmig_load_free(struct vfmig_load *load);
/* id: as in vfmig_save_add_device, or NULL for the only VFIO device in the stream. */
int vfmig_load_add_device(struct vfmig_load *load, struct vfmig_device *device, const char *id,
			  struct vfmig_error *err);
int vfmig_load_add_participant(struct vfmig_load *load, const struct vfmig_participant_ops *ops, void *opaque,
			       const char *id, uint32_t instance_id, struct vfmig_error *err);
/*
 * Memory (borrowed) that the stream's section "ram" is loaded into. A block that the stream has and the memory has
 * not, or not with that length, or the other way round, is refused before a page is loaded, and all of them are
 * logged (of more than a few, how many). A load that fails later leaves what it has loaded. Without any memory the
 * section is passed over. -EBUSY: the same part of the same file is being saved, or loaded into, by whatever program.
 */
int vfmig_load_add_memory(struct vfmig_load *load, struct vfmig_memory *memory, struct vfmig_error *err);
/*
 * As for save. After a failure no device runs with anything of the load. One that
 * was prepared for a vfmig that is not met again stays loaded and stopped
 * (status.source_may_run is false): whether it may run only the source knows.
 */
int vfmig_load_step(struct vfmig_load *load, struct vfmig_error *err);
int vfmig_load_wait(struct vfmig_load *load, short *ret_events);
int vfmig_load_run(struct vfmig_load *load, struct vfmig_error *err);
void vfmig_load_cancel(struct vfmig_load *load);
/* downtime_ns: from the arrival of the first END section to the start. */
void vfmig_load_status(const struct vfmig_load *load, struct vfmig_status *ret_status);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
