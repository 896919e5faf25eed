/* SPDX-License-Identifier: BSD-3-Clause */
/* identity.h: which device an access reaches, for struct access_identity; used by the accesses. */
#ifndef VFMIG_DEVICE_IDENTITY_H
#define VFMIG_DEVICE_IDENTITY_H

#include "device/access.h"

/* The server's socket at `path`, which fd is connected to. Whatever cannot be found out stays empty. */
void identity_of_socket(const char *path, int fd, struct access_identity *ret);
/* A device's folder in sysfs, resolved here. owned: its state lives only as long as this process has it. */
void identity_of_sysfs(const char *folder, bool owned, struct access_identity *ret);
/* A device's own file that somebody else has opened. */
void identity_of_cdev(int fd, struct access_identity *ret);

#endif
