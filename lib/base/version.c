/* SPDX-License-Identifier: BSD-3-Clause */
/* version.c: which library is running. */
#include "vfmig.h"

#define STRING_(x) #x
#define STRING(x) STRING_(x)

const char *vfmig_version(void)
{
	return STRING(VFMIG_VERSION_MAJOR) "." STRING(VFMIG_VERSION_MINOR) "." STRING(VFMIG_VERSION_PATCH);
}
