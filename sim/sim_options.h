/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_options.h: what a software device is made of, as read from its options string. */
#ifndef VFMIG_SIM_OPTIONS_H
#define VFMIG_SIM_OPTIONS_H

#include <limits.h>

#include "sim/faults.h"
#include "sim/still.h"

enum sim_map { SIM_MAP_MAPPED, SIM_MAP_TRAPPED, SIM_MAP_MIXED };

enum sim_interface { SIM_V1, SIM_V2, SIM_BOTH };

struct sim_options {
	enum sim_interface interface;
	bool p2p; /* v2: has the P2P states */
	uint64_t size;    /* of the state, bytes */
	uint64_t section; /* of the data section, bytes */
	enum sim_map map;
	uint64_t rate; /* steps a second */
	uint64_t seed;
	bool precopy;
	uint64_t initial; /* v2: the first bytes of pre-copy that the device says are its initial ones */
	bool opaque;
	enum still_copies still; /* STILL_NONE: it is not */
	enum still_check check;
	uint32_t access_width; /* of the data section; 0: any */
	bool dma_message;
	bool start;
	uint64_t log_iova, log_entries;
	bool scatter;
	bool dirty_log;
	uint32_t reserved; /* what device_state's reserved bits hold */
	uint32_t config_size;
	char config[PATH_MAX]; /* file with the config space; "": built in */
	char dump[PATH_MAX];   /* opaque: file for the bytes that were loaded */
	struct faults faults;
};

struct sim_option {
	const char *name;
	const char *argument; /* NULL: a flag */
	const char *help;
};

/* The options, in order, ended by a NULL name: for --help and documentation. */
extern const struct sim_option sim_option_table[];

/* "size=256M,map=mixed,start"; "" is all defaults. -EINVAL: which option, and what is valid. */
int sim_options_parse(const char *text, struct sim_options *ret, struct vfmig_error *err);

#endif
