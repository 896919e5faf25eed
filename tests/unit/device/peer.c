/* SPDX-License-Identifier: BSD-3-Clause */
/* peer.c: a vfio-user socket's other end, message by message. */
#include "peer.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

/* cmocka's assertions are for the test's thread only. */
#define MUST(condition)                                                                        \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "%s:%d: %s: not so\n", __FILE__, __LINE__, #condition); \
			abort();                                                               \
		}                                                                              \
	} while (0)

size_t count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	MUST(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

void peer_socket_open(struct peer_socket *s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(s->directory, "/tmp/vfmig-test-XXXXXX");
	MUST(mkdtemp(s->directory));
	snprintf(s->path, sizeof(s->path), "%s/sock", s->directory);
	strcpy(address.sun_path, s->path);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(s->fd >= 0 && bind(s->fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(s->fd, 4) == 0);
}

void peer_socket_close(struct peer_socket *s)
{
	close(s->fd);
	unlink(s->path);
	rmdir(s->directory);
}

int peer_connect(const struct peer_socket *s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, s->path);
	MUST(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

void peer_send(int fd, const struct vfio_user_header *h, const void *body, size_t length, const int *fds,
	       size_t num_fds)
{
	char control[CMSG_SPACE(16 * sizeof(int))] __attribute__((aligned(sizeof(struct cmsghdr)))) = { 0 };
	struct iovec iov[2] = { { (void *)(uintptr_t)h, sizeof(*h) }, { (void *)(uintptr_t)body, length } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	MUST(num_fds <= 16);
	if (num_fds) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, num_fds * sizeof(int));
	}
	/* Either it is sent whole or the other side has ended the connection, which a test looks at there. */
	ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	MUST(n < 0 || (size_t)n == sizeof(*h) + length);
}

static void take_fds(struct msghdr *msg, struct peer_message *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		MUST(c->cmsg_type == SCM_RIGHTS && m->num_fds + n <= 16);
		memcpy(m->fds + m->num_fds, CMSG_DATA(c), n * sizeof(int));
		m->num_fds += n;
	}
}

int peer_try_receive(int fd, struct peer_message *m)
{
	char control[CMSG_SPACE(16 * sizeof(int))] __attribute__((aligned(sizeof(struct cmsghdr))));
	struct iovec iov = { &m->header, sizeof(m->header) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control };

	m->num_fds = 0;
	msg.msg_controllen = sizeof(control);
	if (recvmsg(fd, &msg, MSG_WAITALL | MSG_CMSG_CLOEXEC) != sizeof(m->header))
		return -1;
	take_fds(&msg, m);
	MUST(m->header.size >= sizeof(m->header) && m->header.size - sizeof(m->header) <= sizeof(m->body));
	m->length = m->header.size - sizeof(m->header);
	return m->length == 0 || recv(fd, m->body, m->length, MSG_WAITALL) == (ssize_t)m->length ? 0 : -1;
}

void peer_receive(int fd, struct peer_message *m)
{
	MUST(peer_try_receive(fd, m) == 0);
}

void peer_close_fds(struct peer_message *m)
{
	for (size_t i = 0; i < m->num_fds; i++)
		close(m->fds[i]);
	m->num_fds = 0;
}

void peer_reply(int fd, const struct peer_message *m, const void *body, size_t length)
{
	struct vfio_user_header h = m->header;

	h.size = (uint32_t)(sizeof(h) + length);
	h.flags = VFIO_USER_TYPE_REPLY;
	peer_send(fd, &h, body, length, NULL, 0);
}

void peer_refuse(int fd, const struct peer_message *m, uint32_t error)
{
	struct vfio_user_header h = m->header;

	h.size = sizeof(h);
	h.flags = VFIO_USER_TYPE_REPLY | VFIO_USER_ERROR;
	h.error = error;
	peer_send(fd, &h, NULL, 0, NULL, 0);
}

void peer_command(int fd, uint16_t id, uint16_t command, const void *body, size_t length)
{
	struct vfio_user_header h = { id, command, (uint32_t)(sizeof(h) + length), 0, 0 };
	peer_send(fd, &h, body, length, NULL, 0);
}

void peer_answer_version(struct peer *p, const char *json, const int *fds, size_t num_fds)
{
	uint8_t body[1024] = { 0 };
	size_t length = sizeof(struct vfio_user_version) + strlen(json) + 1;

	peer_receive(p->fd, &p->m);
	MUST(p->m.header.command == VFIO_USER_VERSION && length <= sizeof(body));
	memcpy(body + sizeof(struct vfio_user_version), json, strlen(json));
	struct vfio_user_header h = p->m.header;
	h.size = (uint32_t)(sizeof(h) + length);
	h.flags = VFIO_USER_TYPE_REPLY;
	peer_send(p->fd, &h, body, length, fds, num_fds);
}

static void *peer_thread(void *arg)
{
	struct peer *p = arg;

	p->fd = accept4(p->socket.fd, NULL, NULL, SOCK_CLOEXEC);
	MUST(p->fd >= 0);
	if (p->version)
		peer_answer_version(p, p->version, NULL, 0);
	p->script(p);
	if (p->fd >= 0) {
		/* The client's answer to what the script did is its own business; it is read to its end. */
		while (peer_try_receive(p->fd, &p->m) == 0)
			peer_close_fds(&p->m);
		close(p->fd);
	}
	return NULL;
}

void peer_start(struct peer *p, peer_script_fn *script, const char *version)
{
	memset(p, 0, sizeof(*p));
	p->script = script;
	p->version = version;
	peer_socket_open(&p->socket);
	MUST(pthread_create(&p->thread, NULL, peer_thread, p) == 0);
}

void peer_join(struct peer *p)
{
	pthread_join(p->thread, NULL);
	peer_socket_close(&p->socket);
}
