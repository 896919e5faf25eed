/* SPDX-License-Identifier: BSD-3-Clause */
/* mock.h: the IOMMU that iommufd has for its own tests (CONFIG_IOMMUFD_TEST), with the pages that "a device" writes. */
#ifndef VFMIG_LAB_MOCK_H
#define VFMIG_LAB_MOCK_H

#include "device/kernel.h"

#define MOCK_WITHOUT_LOG 1u /* the IOMMU cannot */
#define MOCK_LARGE_PAGES 2u /* of 1 MiB, too, where memory lies so */

/* An access without a device: memory that is mapped and logged as a cdev's. */
int mock_open(uint32_t flags, struct access **ret, struct vfmig_error *err);
int mock_write(struct access *a, uint64_t iova, uint64_t length);

#endif
