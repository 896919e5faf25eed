/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_config.h: the PCI config space of a software device. */
#ifndef VFMIG_SIM_CONFIG_H
#define VFMIG_SIM_CONFIG_H

#include "base/error.h"

/* Nobody's: 0xfff0 is not assigned by the PCI-SIG and impersonates no vendor. */
#define SIM_PCI_VENDOR 0xfff0u
#define SIM_PCI_DEVICE 0x7666u
#define SIM_MSIX_VECTORS 4u
#define SIM_MSIX_TABLE 0x2000u /* in BAR 0 */
#define SIM_MSIX_PBA 0x3000u
#define SIM_BAR0_SIZE 0x4000u

struct sim_config {
	uint32_t size; /* 256 or 4096 */
	uint8_t bytes[4096];
	uint8_t writable[4096]; /* the bits that a write changes */
	uint8_t initial[4096];
};

/* The built-in device; size 256 is without PCI Express. */
void sim_config_build(struct sim_config *c, uint32_t size);
/* Another device's config space, 256 or 4096 bytes of it. -EINVAL. */
int sim_config_adopt(struct sim_config *c, const uint8_t *bytes, size_t size, struct vfmig_error *err);
void sim_config_reset(struct sim_config *c);
/* The caller has checked the range. */
void sim_config_read(const struct sim_config *c, uint64_t offset, void *buffer, size_t length);
void sim_config_write(struct sim_config *c, uint64_t offset, const void *buffer, size_t length);

#endif
