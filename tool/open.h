/* SPDX-License-Identifier: BSD-3-Clause */
/* open.h: devices by their URI: what the library opens, and sim:OPTIONS. */
#ifndef VFMIG_TOOL_OPEN_H
#define VFMIG_TOOL_OPEN_H

#include <argp.h>

#include "device/device.h"

#define OPEN_TIMEOUT_MS 30000u

/* The device as it is, whether it can migrate or not. */
int open_access(const char *uri, const struct vfmig_device_options *opts, struct access **ret, struct vfmig_error *err);

/* vfmig_device_open, which does not know sim:. */
int open_device(const char *uri, const struct vfmig_device_options *opts, struct vfmig_device **ret,
		struct vfmig_error *err);

/* What commands that open devices have in common of options: lines of an argp_option table, and their
 * parsing; false: another option. */
enum { OPEN_OPT_INTERFACE = 1024, OPEN_OPT_ACCESS };
#define OPEN_OPTIONS \
	{ "interface", OPEN_OPT_INTERFACE, "v1|v2", 0, "Use this migration interface (v2 where there is one)", 0 }, \
	{ "access", OPEN_OPT_ACCESS, "group|cdev", 0, \
	  "Open a kernel device by its IOMMU group or by its own file (by its own file where there is one)", 0 }
bool open_parse_option(int key, const char *arg, struct argp_state *state, struct vfmig_device_options *opts);

/* The same of commands that open links from or to other machines. */
enum { OPEN_OPT_TLS_CREDS = 1040, OPEN_OPT_INSECURE };
#define OPEN_LINK_OPTIONS \
	{ "tls-creds", OPEN_OPT_TLS_CREDS, "DIR", 0, \
	  "TLS on the link, by DIR/ca-cert.pem, {client,server}-{cert,key}.pem, or by DIR/keys.psk", 0 }, \
	{ "insecure", OPEN_OPT_INSECURE, NULL, 0, "Allow plain text over TCP to and from other machines", 0 }
bool open_parse_link_option(int key, const char *arg, struct argp_state *state, struct vfmig_link_options *opts);

/* A number with an optional K, M, G or T; the whole of text. */
bool open_parse_size(const char *text, uint64_t *ret);

/* FILE@IOVA[:SIZE]: memory that the device may reach. */
struct open_dma {
	char *file; /* owned */
	uint64_t iova;
	uint64_t size; /* 0: the file's */
};
/* -EINVAL: not of that form. */
int open_dma_parse(const char *text, struct open_dma *ret, struct vfmig_error *err);
/* Opens (SIZE given: creates, grows) the file and maps it into the device. */
int open_dma_map(struct vfmig_device *device, const struct open_dma *dma, struct vfmig_error *err);

#endif
