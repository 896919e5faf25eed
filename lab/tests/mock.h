/* SPDX-License-Identifier: BSD-3-Clause */
/* mock.h: the IOMMU that iommufd has for its own tests (CONFIG_IOMMUFD_TEST), with the pages that "a device" writes. */
#ifndef VFMIG_LAB_MOCK_H
#define VFMIG_LAB_MOCK_H

#include "device/kernel.h"

/* An access without a device: memory that is mapped and logged as a cdev's. logs: false: its IOMMU cannot. */
int mock_open(bool logs, struct access **ret, struct vfmig_error *err);
int mock_write(struct access *a, uint64_t iova, uint64_t length);

#endif
