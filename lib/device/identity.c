/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * identity.c: which device this is, over sessions, and whether what it held may still be there.
 *
 * A name begins with the machine's id, so that a folder of journals that two machines share tells their devices
 * apart. An incarnation begins with the kernel's boot id. A server's socket adds the inode and its time of birth
 * (where the file system has none, of its last change: a server that replaces its socket may get the same inode
 * number again) and the server's process with its start time. A socket that process 1 listens on for a server tells
 * nothing of that server.
 */
#include "device/identity.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The first word of a small file; "unknown" where there is none. */
static void read_word(const char *path, char *ret, size_t size)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	if (fd >= 0)
		close(fd);
	if (n > 0)
		text[strcspn(text, " \n")] = '\0';
	snprintf(ret, size, "%s", n > 0 && text[0] ? text : "unknown");
}

static void begin(struct access_identity *ret, const char *kind)
{
	char machine[64], boot[64];
	read_word("/etc/machine-id", machine, sizeof(machine));
	read_word("/proc/sys/kernel/random/boot_id", boot, sizeof(boot));
	snprintf(ret->name, sizeof(ret->name), "%s:%s:", machine, kind);
	snprintf(ret->incarnation, sizeof(ret->incarnation), "%s", boot);
}

static bool add(char *text, size_t size, const char *more)
{
	size_t used = strlen(text);
	return snprintf(text + used, size - used, "%s", more) < (int)(size - used);
}

/* When a process was started, in ticks since the boot: the 22nd word of its stat, behind a name that may hold any. */
static unsigned long long started(pid_t pid)
{
	char path[32], text[1024];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	const char *at = strrchr(text, ')');
	for (int word = 2; at && word < 22; word++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

void identity_of_socket(const char *path, int fd, struct access_identity *ret)
{
	char resolved[PATH_MAX], part[160];
	struct statx st;
	struct ucred peer = { 0 };
	socklen_t length = sizeof(peer);
	memset(ret, 0, sizeof(*ret));
	if (!realpath(path, resolved) || statx(AT_FDCWD, resolved, 0, STATX_INO | STATX_CTIME | STATX_BTIME, &st) < 0)
		return;
	begin(ret, "socket");
	snprintf(part, sizeof(part), "%u.%u:", st.stx_dev_major, st.stx_dev_minor);
	if (!add(ret->name, sizeof(ret->name), part) || !add(ret->name, sizeof(ret->name), resolved))
		ret->name[0] = '\0'; /* cut off it would not be one device's */
	const struct statx_timestamp *time = st.stx_mask & STATX_BTIME ? &st.stx_btime : &st.stx_ctime;
	snprintf(part, sizeof(part), ":%llu:%lld.%09u", (unsigned long long)st.stx_ino, (long long)time->tv_sec,
		 time->tv_nsec);
	add(ret->incarnation, sizeof(ret->incarnation), part);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 || peer.pid <= 1)
		return;
	snprintf(part, sizeof(part), ":%d:%llu", (int)peer.pid, started(peer.pid));
	add(ret->incarnation, sizeof(ret->incarnation), part);
}

void identity_of_sysfs(const char *folder, bool owned, struct access_identity *ret)
{
	char resolved[PATH_MAX], part[64];
	memset(ret, 0, sizeof(*ret));
	if (!realpath(folder, resolved))
		return;
	begin(ret, "sysfs");
	if (!add(ret->name, sizeof(ret->name), resolved))
		ret->name[0] = '\0';
	if (!owned)
		return;
	snprintf(part, sizeof(part), ":%d:%llu", (int)getpid(), started(getpid()));
	add(ret->incarnation, sizeof(ret->incarnation), part);
}

void identity_of_cdev(int fd, struct access_identity *ret)
{
	char folder[96];
	struct stat st;
	memset(ret, 0, sizeof(*ret));
	if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode))
		return;
	snprintf(folder, sizeof(folder), "/sys/dev/char/%u:%u/device", major(st.st_rdev), minor(st.st_rdev));
	identity_of_sysfs(folder, false, ret);
}
