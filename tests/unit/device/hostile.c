/* SPDX-License-Identifier: BSD-3-Clause */
/* hostile.c: a client and the scripted server that it has met. */
#include "hostile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

struct peer hostile_peer;
static size_t fds_before;

int hostile_setup(void **state)
{
	(void)state;
	fds_before = count_fds();
	return 0;
}

int hostile_teardown(void **state)
{
	(void)state;
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

struct access *hostile_start(peer_script_fn *script, uint32_t timeout_ms)
{
	struct vfmig_error err = { 0 };
	struct access *a = NULL;

	peer_start(&hostile_peer, script, PEER_VERSION);
	if (user_access_open(hostile_peer.socket.path, timeout_ms, &a, &err) < 0)
		fail_msg("%s", err.message);
	return a;
}

void hostile_stop(struct access *a)
{
	access_close(a);
	peer_join(&hostile_peer);
}

void hostile_silence(struct peer *p)
{
	peer_receive(p->fd, &p->m);
}

void hostile_close(struct peer *p)
{
	peer_receive(p->fd, &p->m);
	close(p->fd);
	p->fd = -1;
}
