/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_access.h: reaching a software device in the same process. */
#ifndef VFMIG_SIM_ACCESS_H
#define VFMIG_SIM_ACCESS_H

#include "device/access.h"
#include "sim/model.h"

/* Makes a device of an options string (see sim_options.h) with its engine's
 * thread; closing the access ends the device. */
int sim_access_open(const char *options, struct access **ret, struct vfmig_error *err);

/* The device behind such an access. */
struct sim_device *sim_access_device(struct access *a);
/* The migration region's fd, or -1 (server_hooks.region_fd). */
int sim_access_region_fd(struct access *a, uint32_t index);
/* From now on behind a server: see server.h for what hang and disconnect
 * become. `message` reaches memory that has no fd. */
void sim_access_serve(struct access *a, sim_message_fn *message, void *opaque);
/* Opaque: writes what was loaded where the option dump says; without the option nothing. */
int sim_access_dump(struct access *a, struct vfmig_error *err);

#endif
