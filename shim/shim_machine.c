/* SPDX-License-Identifier: BSD-3-Clause */
/* shim_machine.c: the devices that there are, as the environment tells, and opening the files in /dev/vfio. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim.h"

#define DEVICES_MAX 64u
#define ADOPTED UINT32_MAX

static struct {
	pthread_mutex_t control; /* recursive */
	struct shim_device devices[DEVICES_MAX];
	size_t count;
} machine;

void shim_control_lock(void)
{
	pthread_mutex_lock(&machine.control);
}

void shim_control_unlock(void)
{
	pthread_mutex_unlock(&machine.control);
}

static void control_init(void)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&machine.control, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

/* The next free one; NULL: there are too many, or a text is too long. */
static struct shim_device *add(unsigned number, const char *name, const char *uri)
{
	struct shim_device *d = &machine.devices[machine.count];

	if (machine.count == DEVICES_MAX || strlen(name) >= sizeof(d->name) || strlen(uri) >= sizeof(d->uri))
		return NULL;
	memset(d, 0, sizeof(*d));
	d->number = number;
	strcpy(d->name, name);
	strcpy(d->uri, uri);
	pthread_mutex_init(&d->lock, NULL);
	machine.count++;
	return d;
}

static void read_environment(void)
{
	const char *text = getenv(SHIM_ENVIRONMENT);
	char *copy = text ? strdup(text) : NULL, *rest = copy, *line;

	while (copy && (line = strsep(&rest, "\n"))) {
		char *number = strsep(&line, "\t"), *name = strsep(&line, "\t");
		if (name && line)
			add((unsigned)strtoul(number, NULL, 10), name, line);
	}
	free(copy);
}

/* A child made by fork has copies of our files, but not the threads of our devices: it begins anew. */
static void begin(void)
{
	machine.count = 0;
	control_init();
	shim_files_clear();
	read_environment();
}

static __attribute__((constructor)) void at_start(void)
{
	begin();
	pthread_atfork(NULL, NULL, begin);
}

static __attribute__((destructor)) void at_end(void)
{
	for (size_t i = 0; i < machine.count; i++)
		shim_device_at_exit(&machine.devices[i]);
}

struct shim_device *shim_machine_device(unsigned number)
{
	for (size_t i = 0; i < machine.count; i++)
		if (machine.devices[i].number == number && number != ADOPTED)
			return &machine.devices[i];
	return NULL;
}

bool shim_machine_open(const char *path, int flags, int *ret)
{
	static const char folder[] = "/dev/vfio/";
	bool cloexec = flags & O_CLOEXEC;
	char *end;

	if (!machine.count || strncmp(path, folder, strlen(folder)) != 0)
		return false;
	path += strlen(folder);
	if (!strcmp(path, "vfio")) {
		*ret = shim_container_open(cloexec);
		return true;
	}
	unsigned long number = strtoul(path, &end, 10);
	struct shim_device *d = *path && !*end && number < ADOPTED ? shim_machine_device((unsigned)number) : NULL;
	if (!d)
		return false;
	*ret = shim_group_open(d, cloexec);
	return true;
}

/* The URI in an fd's name, "/memfd:NAME (deleted)"; NULL: it is none of ours. */
static const char *uri_of(int fd, char *target, size_t size)
{
	static const char begin_of[] = "/memfd:" SHIM_DEVICE_FD;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, target, size - 1);
	if (n < (ssize_t)strlen(begin_of) || memcmp(target, begin_of, strlen(begin_of)) != 0)
		return NULL;
	target[n] = '\0';
	char *end = strrchr(target, ' ');
	if (end)
		*end = '\0';
	return target[strlen(begin_of)] ? target + strlen(begin_of) : NULL;
}

static int adopt(int fd, const char *uri)
{
	struct shim_device *d = NULL;

	for (size_t i = 0; i < machine.count; i++)
		if (!strcmp(machine.devices[i].uri, uri))
			d = &machine.devices[i];
	if (!d)
		d = add(ADOPTED, "", uri);
	return d ? shim_device_adopt(d, fd) : -ENODEV;
}

bool shim_machine_adopt(int fd)
{
	char target[512];
	int saved = errno;
	const char *uri = uri_of(fd, target, sizeof(target));

	errno = saved;
	if (!uri)
		return false;
	shim_control_lock();
	struct shim_file *f = shim_file_get(fd); /* another thread was faster */
	int r = f ? 0 : adopt(fd, uri);
	shim_file_put(f);
	shim_control_unlock();
	return r == 0;
}
