/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * user_stopped.c: a server whose device an earlier client has stopped.
 *
 * In STOP and STOP_COPY the reference server answers region accesses, features and migration data only; all else is
 * EINVAL there. What it then does not tell about a PCI function is known without it; a reset needs another state.
 */
#include "device/user_access.h"

#define PCI_NUM_IRQS 5u /* linux/vfio.h's VFIO_PCI_NUM_IRQS */
#define PCI_CONFIG_BYTES 256u
#define PCI_EXPRESS_CONFIG_BYTES 4096u

bool user_is_stopped(struct user_access *u)
{
	struct vfmig_error ignored;
	uint32_t state;
	return user_mig_state_get(&u->access, &state, &ignored) == 0 &&
	       (state == VFMIG_STATE_STOP || state == VFMIG_STATE_STOP_COPY);
}

void user_stopped_device_info(struct access_device_info *ret)
{
	*ret = (struct access_device_info) {
		ACCESS_DEVICE_RESET | ACCESS_DEVICE_PCI, ACCESS_PCI_NUM_REGIONS, PCI_NUM_IRQS,
	};
}

/* Config space can be read at any time, and by that its size is found: whoever saves a device reads it when it has
 * stopped. */
static bool find_config(struct user_access *u, struct access_region_info *ret)
{
	struct vfmig_error ignored;
	uint32_t word;

	if (access_region_read(&u->access, ACCESS_PCI_CONFIG, 0, &word, sizeof(word), &ignored) < 0)
		return false;
	bool express = access_region_read(&u->access, ACCESS_PCI_CONFIG, PCI_CONFIG_BYTES, &word, sizeof(word),
					  &ignored) == 0;
	ret->size = express ? PCI_EXPRESS_CONFIG_BYTES : PCI_CONFIG_BYTES;
	ret->flags = ACCESS_REGION_READ | ACCESS_REGION_WRITE;
	return true;
}

int user_refused_region_info(struct user_access *u, uint32_t index, struct access_region_info *ret,
			     struct vfmig_error *err)
{
	if (index == ACCESS_PCI_CONFIG && find_config(u, ret))
		return 0;
	if (u->tells_nothing && user_is_stopped(u))
		return error_set(err, -EBUSY, "region %u: the device is stopped, and its server tells of no region "
				 "until it runs", index);
	return -EINVAL;
}

static int reset_request(struct user_access *u, struct vfmig_error *err)
{
	struct user_request q = { .command = VFIO_USER_DEVICE_RESET };
	return user_conn_request(u->conn, &q, err);
}

/*
 * Out of STOP_COPY and STOP first. RESUMING is the state in which the device does nothing with what it holds; one that
 * has no way there has to run for the moment until its reset.
 */
int user_reset(struct access *a, struct vfmig_error *err)
{
	static const uint32_t ways[] = { VFMIG_STATE_RESUMING, VFMIG_STATE_RUNNING };
	struct user_access *u = user_of(a);
	struct vfmig_error first;

	int r = reset_request(u, &first);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) && r == -EINVAL && (i || user_is_stopped(u)); i++) {
		struct vfmig_error ignored;
		int way = user_mig_state_set(a, ways[i], &ignored);
		if (way == 0)
			way = reset_request(u, &ignored);
		if (way == 0 || user_conn_lost(way)) {
			r = way;
			first = ignored;
		}
	}
	return r < 0 ? error_set(err, user_absent(r), "reset: %s", first.message) : 0;
}
