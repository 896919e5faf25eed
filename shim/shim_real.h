/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shim_real.h: the calls that the shim takes over: this table is all of them.
 *
 * vfmig-shim(1) lists them, and a test compares it with what the library
 * exports. The names with underscores are what the same calls become in a program
 * built with _FORTIFY_SOURCE.
 */
#ifndef VFMIG_SHIM_SHIM_REAL_H
#define VFMIG_SHIM_SHIM_REAL_H

#define SHIM_CALLS(X)                                                                                             \
	X(open) X(open64) X(openat) X(openat64) X(__open_2) X(__open64_2) X(__openat_2) X(__openat64_2)           \
	X(close) X(close_range) X(closefrom)                                                                      \
	X(dup) X(dup2) X(dup3) X(fcntl) X(fcntl64)                                                                \
	X(ioctl)                                                                                                  \
	X(read) X(__read_chk) X(pread) X(pread64) X(__pread_chk) X(__pread64_chk) X(readv)                        \
	X(write) X(pwrite) X(pwrite64) X(writev)                                                                  \
	X(mmap) X(mmap64)

enum shim_call {
#define X(name) SHIM_CALL_##name,
	SHIM_CALLS(X)
#undef X
	SHIM_CALL_COUNT,
};

/* The next definition of the call after ours: the C library's, or that of a library preloaded after this one. */
void *shim_real(enum shim_call call);
#define REAL(name) ((__typeof__(&name))shim_real(SHIM_CALL_##name))

#endif
