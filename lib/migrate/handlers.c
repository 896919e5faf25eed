/* SPDX-License-Identifier: BSD-3-Clause */
/* handlers.c: the registry of what takes part in a migration. */
#include "migrate/handlers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/options.h"

/* Sets of handlers that could leave a stream nobody can load, or something running that nobody can stop. */
static int check_ops(const struct vfmig_participant_ops *o, const char *id, struct vfmig_error *err)
{
	if ((o->stop_prepare || o->stop || o->start_prepare || o->start) && !o->undo)
		return error_set(err, -EINVAL, "participant %s: what can be stopped or started needs undo", id);
	if (!o->save_setup != !o->save_live_complete_precopy || (o->save_live_iterate && !o->save_setup))
		return error_set(
		    err, -EINVAL,
		    "participant %s: save_setup and save_live_complete_precopy go together, as START and END "
		    "sections do, and save_live_iterate wants both",
		    id);
	return 0;
}

int participants_add(struct participants *p, const struct vfmig_participant_ops *ops, void *opaque, const char *id,
		     uint32_t instance_id, uint32_t version_id, struct participant **ret, struct vfmig_error *err)
{
	size_t length = strlen(id);
	if (length > WIRE_ID_MAX)
		return error_set(err, -EINVAL, "section id of %zu bytes; at most %u fit into a stream", length,
				 WIRE_ID_MAX);
	if (p->count == WIRE_VFMIG_SECTIONS_MAX)
		return error_set(err, -ENOSPC, "more than %u participants", WIRE_VFMIG_SECTIONS_MAX);
	for (size_t i = 0; i < p->count; i++)
		if (strcmp(p->list[i].id, id) == 0 && p->list[i].instance_id == instance_id)
			return error_set(err, -EEXIST, "section id \"%s\" instance %u is used twice", id, instance_id);
	struct participant *list = reallocarray(p->list, p->count + 1, sizeof(*list));
	if (!list)
		return error_errno(err, -ENOMEM, "participants");
	p->list = list;
	struct participant *added = &list[p->count];
	memset(added, 0, sizeof(*added));
	int r = options_read(&added->ops, sizeof(added->ops), ops, "participant", err);
	if (r == 0)
		r = check_ops(&added->ops, id, err);
	if (r < 0)
		return r;
	added->opaque = opaque;
	memcpy(added->id, id, length);
	added->name = "participant";
	added->instance_id = instance_id;
	added->version_id = version_id;
	p->count++;
	*ret = added;
	return 0;
}

int participants_check_p2p(const struct participants *p, struct vfmig_error *err)
{
	const struct participant *without = NULL;
	size_t devices = 0;
	for (size_t i = 0; i < p->count; i++) {
		const struct protocol *protocol = p->list[i].protocol;
		devices += protocol != NULL;
		if (protocol && !protocol->has_p2p && strcmp(protocol->ops->name, "v2") == 0)
			without = &p->list[i];
	}
	if (devices > 1 && without)
		return error_set(
		    err, -EOPNOTSUPP,
		    "%s: has no P2P states, so it cannot be moved together with other devices: move it alone",
		    without->name);
	return 0;
}

int participants_pending(const struct participants *p, bool exact, struct converge_pending *ret,
			 struct vfmig_error *err)
{
	uint64_t slowest_ns = 0;
	for (size_t i = 0; i < p->count; i++) {
		const struct participant *one = &p->list[i];
		struct vfmig_pending pending = { 0 };
		int r = one->ops.save_live_pending ? one->ops.save_live_pending(one->opaque, exact, &pending, err) : 0;
		if (r < 0)
			return r;
		if (one->protocol) {
			slowest_ns = max_u64(slowest_ns, pending.stop_ns);
			pending.stop_ns = 0;
		}
		if (__builtin_add_overflow(ret->bytes, pending.precopy_bytes, &ret->bytes) ||
		    __builtin_add_overflow(ret->bytes, pending.stop_copy_bytes, &ret->bytes) ||
		    __builtin_add_overflow(ret->stop_ns, pending.stop_ns, &ret->stop_ns))
			return error_set(err, -EOVERFLOW, "%s: what is pending adds up to more than 2^64", one->name);
		ret->unknown |= pending.stop_copy_unknown;
		/* A device's number is an estimate; whoever else has bytes for now gives them when asked. */
		ret->sendable |= !one->protocol && pending.precopy_bytes > 0;
	}
	if (__builtin_add_overflow(ret->stop_ns, slowest_ns, &ret->stop_ns))
		ret->stop_ns = UINT64_MAX;
	return 0;
}

void participants_clear(struct participants *p)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->list[i].free)
			p->list[i].free(p->list[i].opaque);
	free(p->list);
	p->list = NULL;
	p->count = 0;
}

void participants_cleanup(struct participants *p)
{
	for (size_t i = p->count; i-- > 0;) {
		struct participant *x = &p->list[i];
		void (*cleanup)(void *) = p->loading ? x->ops.load_cleanup : x->ops.save_cleanup;
		if (x->begun && cleanup)
			cleanup(x->opaque);
		x->begun = false;
	}
}
