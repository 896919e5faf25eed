/* SPDX-License-Identifier: BSD-3-Clause */
/* trace.h: places that a tracer looks at from outside: USDT probes, each a nop while nobody does. */
#ifndef VFMIG_BASE_TRACE_H
#define VFMIG_BASE_TRACE_H

#ifdef HAVE_SDT
#include <sys/sdt.h>
#define TRACE2(name, a, b) DTRACE_PROBE2(vfmig, name, a, b)
#define TRACE3(name, a, b, c) DTRACE_PROBE3(vfmig, name, a, b, c)
#define TRACE4(name, a, b, c, d) DTRACE_PROBE4(vfmig, name, a, b, c, d)
#else
#define TRACE2(name, a, b) ((void)(a), (void)(b))
#define TRACE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define TRACE4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#endif

/* Reads s and gives it back: a tracer sees only what is in memory already, which a constant need not be. */
static inline const char *trace_text(const char *s)
{
	const volatile char *c = s;
	while (*c)
		c++;
	return s;
}

#endif
