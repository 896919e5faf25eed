/* SPDX-License-Identifier: BSD-3-Clause */
/* transfer.h: what save and load have in common: arguments, devices, the loop of steps, the result. */
#ifndef VFMIG_TOOL_TRANSFER_H
#define VFMIG_TOOL_TRANSFER_H

#include <argp.h>
#include <stdatomic.h>

#include "memory_files.h"
#include "open.h"
#include "output.h"

#define TRANSFER_MAX 64
#define DEFAULT_DOWNTIME_MS 300u

struct transfer {
	const char *command;
	enum vfmig_direction direction;
	/* from the command line */
	const char *link_uri;
	const char *uris[TRANSFER_MAX], *ids[TRANSFER_MAX];
	size_t num_uris, num_ids;
	struct open_dma dma[TRANSFER_MAX];
	size_t num_dma;
	struct memory_arguments memory_arguments;
	uint32_t timeout_ms; /* 0: not given */
	const char *journal; /* NULL: none */
	uint64_t retry_for_ns; /* 0: not given */
	uint64_t downtime_limit_ns; /* of a save, for the events */
	struct vfmig_device_options device_options;
	struct vfmig_link_options link_options;
	bool json, quiet, verbose;
	uint32_t multifd_channels; /* 0: one connection */
	uint8_t uuid[16];
	FILE *events; /* NULL: none */
	/* open */
	struct vfmig_device *devices[TRANSFER_MAX];
	struct vfmig_memory *memory; /* NULL: none moves */
	struct vfmig_link *link;
	struct output output;
	/* for the thread that looks for signals while things are opened */
	const char *_Atomic opening; /* what is being opened; NULL: nothing yet */
	atomic_bool listening;	     /* waiting for the other side */
	atomic_bool opened;	     /* all devices are */
	bool untouched;		     /* cancelled then */
};

/* The options of both commands, as a child of theirs; its input is the struct transfer. */
extern const struct argp transfer_argp;

/* A number of milliseconds, or argp_error. */
uint32_t transfer_parse_ms(struct argp_state *state, const char *option, const char *text);

/* A save or a load, as the loop sees it. */
struct transfer_ops {
	int (*step)(void *handle, struct vfmig_error *err);
	int (*wait)(void *handle, short *ret_events);
	void (*cancel)(void *handle);
	void (*status)(const void *handle, struct vfmig_status *ret);
};

/*
 * First of all: from here on printing never waits, and a signal cancels. Until
 * transfer_opened that ends the process, wherever it waits, having said so.
 */
int transfer_begin(struct transfer *t, struct vfmig_error *err);
/* Devices, their memory, then the link: a device that is not there is known before a peer is kept waiting. */
int transfer_open(struct transfer *t, struct vfmig_error *err);
/* Nothing is waited for any more but in the steps of transfer_run. */
void transfer_opened(void);
/* The section id of devices[i]; NULL: the only one in the stream (load). */
const char *transfer_id(const struct transfer *t, size_t i);
/* Steps to the end; the signals of signals.h cancel. 0 or -errno. */
int transfer_run(struct transfer *t, const struct transfer_ops *ops, void *handle, struct vfmig_error *err);
/* Says how it ended; the exit status. err is looked at when code < 0. */
int transfer_report(struct transfer *t, int code, const struct vfmig_error *err, const struct vfmig_status *status);
void transfer_close(struct transfer *t);

#endif
