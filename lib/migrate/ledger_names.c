/* SPDX-License-Identifier: BSD-3-Clause */
/* ledger_names.c: how journals name devices and links, so that the same ones are found, and which states are open. */
#include "migrate/ledger.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int ledger_absolute(const char *uri, char *ret, size_t size, struct vfmig_error *err)
{
	static const char *const schemes[] = { "vfio-user:", "sysfs:", "vfio:", "fd-from:unix:", "unix:", "file:" };
	char folder[PATH_MAX] = "";
	size_t scheme = 0;
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]) && !scheme; i++)
		if (!strncmp(uri, schemes[i], strlen(schemes[i])))
			scheme = strlen(schemes[i]);
	bool relative = scheme && uri[scheme] != '/' && getcwd(folder, sizeof(folder));
	int n = snprintf(ret, size, "%.*s%s%s%s", (int)scheme, uri, relative ? folder : "", relative ? "/" : "",
			 uri + scheme);
	return n < (int)size ? 0 : error_set(err, -ENAMETOOLONG, "journal: a URI of %d bytes, at most %zu fit", n,
					    size - 1);
}

int ledger_name_device(struct access *access, const char *uri, const char *id, struct journal_device *ret,
		       struct vfmig_error *err)
{
	struct vfmig_error ignored;
	memset(ret, 0, sizeof(*ret));
	snprintf(ret->id, sizeof(ret->id), "%s", id);
	if (access_identify(access, &ret->who, &ignored) < 0)
		ret->who = (struct access_identity) { .name = "" };
	return ledger_absolute(uri, ret->uri, sizeof(ret->uri), err);
}

bool ledger_is_gone(const struct access_identity *then, const struct access_identity *now)
{
	return then->incarnation[0] && now->incarnation[0] && strcmp(then->incarnation, now->incarnation) != 0;
}

bool ledger_is_open(const struct journal_record *r)
{
	switch (r->state) {
	case HANDOVER_RUNS_ON:
		return r->version > 1;
	case HANDOVER_STOPPED:
	case HANDOVER_SENT:
	case HANDOVER_DECIDED:
	case HANDOVER_PREPARED:
	case HANDOVER_COMMITTED:
		return true;
	case HANDOVER_NONE:
	case HANDOVER_SAVING:
	case HANDOVER_DONE:
	case HANDOVER_RUNS:
	case HANDOVER_SUPERSEDED:
	case HANDOVER_WAITING:
	case HANDOVER_LOADING:
	case HANDOVER_RUNNING:
	case HANDOVER_ABANDONED:
	case HANDOVER_REPLACED:
		break;
	}
	return false;
}
