/* SPDX-License-Identifier: BSD-3-Clause */
/* test_allocations.c: a state that is sixteen times as large needs not one allocation more, saved or loaded. */
#include "harness.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of glibc: what the functions below count and pass on to. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_uint allocations;

void *malloc(size_t size)
{
	allocations++;
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	allocations++;
	return __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
	allocations++;
	return __libc_realloc(p, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
	allocations++;
	*ret = __libc_memalign(alignment, size);
	return *ret ? 0 : ENOMEM;
}

static const char *const interfaces[] = { "v1", "v1,map=trapped", "v2" };

static void device_options(char *options, size_t room, const char *interface, unsigned int mib)
{
	snprintf(options, room, "still=memcpy,section=1M,size=%uM,interface=%s", mib, interface);
}

/* All that a save does, opening its link and its device included. */
static unsigned int in_save(const char *interface, unsigned int mib, const char *uri, bool no_digest)
{
	const struct vfmig_save_options opts = { .size = sizeof(opts), .no_digest = no_digest };
	char options[128];
	struct vfmig_link *link;
	struct vfmig_error err;
	unsigned int before = allocations;
	device_options(options, sizeof(options), interface, mib);
	struct vfmig_device *d = open_sim(options);
	assert_int_equal(vfmig_link_open(uri, VFMIG_SAVE, NULL, &link, &err), 0);
	assert_int_equal(save_to(d, link, &opts, NULL, &err), 0);
	vfmig_device_close(d);
	return allocations - before;
}

static unsigned int in_load(const char *interface, unsigned int mib, const char *uri)
{
	char options[128];
	struct vfmig_link *link;
	struct vfmig_error err;
	unsigned int before = allocations;
	device_options(options, sizeof(options), interface, mib);
	struct vfmig_device *d = open_sim(options);
	assert_int_equal(vfmig_link_open(uri, VFMIG_LOAD, NULL, &link, &err), 0);
	if (load_from(d, link, NULL, NULL, &err) < 0)
		fail_msg("%s", err.message);
	vfmig_device_close(d);
	return allocations - before;
}

static void test_nothing_is_allocated_for_a_chunk(void **state)
{
	char path[] = "/tmp/vfmig-allocations-XXXXXX", uri[64];
	(void)state;
	close(mkstemp(path));
	snprintf(uri, sizeof(uri), "file:%s", path);
	(void)in_save("v1", 1, "null:", false); /* what a library keeps for ever */
	for (size_t i = 0; i < sizeof(interfaces) / sizeof(interfaces[0]); i++)
		for (int no_digest = 0; no_digest < 2; no_digest++) {
			unsigned int saved[2], loaded[2];
			for (unsigned int large = 0; large < 2; large++) {
				unsigned int mib = large ? 64 : 4;
				saved[large] = in_save(interfaces[i], mib, uri, no_digest);
				loaded[large] = in_load(interfaces[i], mib, uri);
			}
			assert_int_equal(saved[0], saved[1]);
			assert_int_equal(loaded[0], loaded[1]);
			assert_true(saved[0] > 0 && loaded[0] > 0); /* they are counted */
		}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_nothing_is_allocated_for_a_chunk) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
