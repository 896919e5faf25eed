/* SPDX-License-Identifier: BSD-3-Clause */
/* open.c: devices by their URI, and the memory they may reach. */
#include "open.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim/sim_access.h"

static const char *after(const char *uri, const char *scheme)
{
	size_t n = strlen(scheme);
	return strncmp(uri, scheme, n) ? NULL : uri + n;
}

int open_access(const char *uri, const struct vfmig_device_options *opts, struct access **ret, struct vfmig_error *err)
{
	const char *rest = after(uri, "sim:");
	if (!rest)
		return device_open_access(uri, opts, ret, err);
	int r = sim_access_open(rest, ret, err);
	return r < 0 ? error_prefix(err, r, "%s", uri) : 0;
}

int open_device(const char *uri, const struct vfmig_device_options *opts, struct vfmig_device **ret,
		struct vfmig_error *err)
{
	struct access *access;
	int r = open_access(uri, opts, &access, err);
	return r < 0 ? r : device_new(access, opts, ret, err);
}

bool open_parse_option(int key, const char *arg, struct argp_state *state, struct vfmig_device_options *opts)
{
	if (key == OPEN_OPT_INTERFACE) {
		if (strcmp(arg, "v1") && strcmp(arg, "v2"))
			argp_error(state, "--interface %s: expected v1 or v2", arg);
		opts->interface = arg;
	} else if (key == OPEN_OPT_ACCESS) {
		if (strcmp(arg, "group") && strcmp(arg, "cdev"))
			argp_error(state, "--access %s: expected group or cdev", arg);
		opts->access = arg;
	}
	return key == OPEN_OPT_INTERFACE || key == OPEN_OPT_ACCESS;
}

bool open_parse_link_option(int key, const char *arg, struct argp_state *state, struct vfmig_link_options *opts)
{
	if (key == OPEN_OPT_TLS_CREDS)
		opts->tls_creds = arg;
	else if (key == OPEN_OPT_INSECURE)
		opts->insecure = true;
	else
		return false;
	if (opts->insecure && opts->tls_creds)
		argp_error(state, "one of --tls-creds and --insecure");
	return true;
}

bool open_parse_size(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGT";
	if (*text < '0' || *text > '9')
		return false;
	char *end;
	errno = 0;
	uint64_t value = strtoull(text, &end, 0);
	if (errno)
		return false;
	const char *unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		unsigned int shift = 10 * (unsigned int)(unit - units + 1);
		if (value > UINT64_MAX >> shift)
			return false;
		value <<= shift;
		end++;
	}
	*ret = value;
	return !*end;
}

int open_dma_parse(const char *text, struct open_dma *ret, struct vfmig_error *err)
{
	struct open_dma dma = { .file = strdup(text) };
	if (!dma.file)
		return error_errno(err, -ENOMEM, "--dma");
	char *at = strrchr(dma.file, '@');
	char *colon = at ? strchr(at, ':') : NULL;
	if (at)
		*at = '\0';
	if (colon)
		*colon = '\0';
	if (!at || at == dma.file || !open_parse_size(at + 1, &dma.iova) ||
	    (colon && (!open_parse_size(colon + 1, &dma.size) || !dma.size))) {
		free(dma.file);
		return error_set(err, -EINVAL, "'%s': expected FILE@IOVA[:SIZE]", text);
	}
	*ret = dma;
	return 0;
}

static int size_file(int fd, const struct open_dma *dma, uint64_t *ret_size, struct vfmig_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return error_errno(err, -errno, "%s", dma->file);
	uint64_t size = dma->size ? dma->size : (uint64_t)st.st_size;
	if (!size)
		return error_set(err, -EINVAL, "%s is empty: give its size as %s@IOVA:SIZE", dma->file, dma->file);
	if (size > (uint64_t)st.st_size && ftruncate(fd, (off_t)size) < 0)
		return error_errno(err, -errno, "%s: grow to %llu bytes", dma->file, (unsigned long long)size);
	*ret_size = size;
	return 0;
}

int open_dma_map(struct vfmig_device *device, const struct open_dma *dma, struct vfmig_error *err)
{
	int fd = open(dma->file, O_RDWR | O_CLOEXEC | (dma->size ? O_CREAT : 0), 0600);
	if (fd < 0)
		return error_errno(err, -errno, "%s", dma->file);
	uint64_t size = 0;
	int r = size_file(fd, dma, &size, err);
	if (!r)
		r = vfmig_device_dma_map(device, dma->iova, size, fd, 0, VFMIG_DMA_READ | VFMIG_DMA_WRITE, err);
	close(fd);
	return r;
}
