/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_v2.h: the software device as a v2 device: device features, eight states, a data channel. */
#ifndef VFMIG_SIM_V2_H
#define VFMIG_SIM_V2_H

#include "sim/model.h"

/* As the access functions of the same name, with the device's lock held. A
 * device whose interface is v1 answers each with -EOPNOTSUPP. */
int sim_v2_state_get(struct sim_device *d, uint32_t *ret_state, struct vfmig_error *err);
int sim_v2_state_set(struct sim_device *d, uint32_t state, struct vfmig_error *err);
ssize_t sim_v2_data_read(struct sim_device *d, void *buffer, size_t length, struct vfmig_error *err);
ssize_t sim_v2_data_write(struct sim_device *d, const void *buffer, size_t length, struct vfmig_error *err);
int sim_v2_precopy_info(struct sim_device *d, struct access_precopy_info *ret, struct vfmig_error *err);
int sim_v2_feature(struct sim_device *d, uint32_t flags, void *data, size_t length, struct vfmig_error *err);

#endif
