/* SPDX-License-Identifier: BSD-3-Clause */
/* tls_open.c: makes a TLS link: credentials, the name to be checked, the handshake. */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "link/socket.h"
#include "link/tls.h"

#define LINGER_MS 1000u

int tls_check(const struct vfmig_link_options *opts, enum vfmig_direction direction, bool has_host,
	      struct vfmig_error *err)
{
	struct tls_creds creds;
	int r = tls_creds_load(&creds, opts->tls_creds, direction, err);
	if (r < 0)
		return r;
	if (!creds.psk && direction == VFMIG_SAVE && !has_host && !opts->tls_hostname)
		r = error_set(err, -EINVAL,
			      "TLS: this link has no host name that the other side's certificate could be checked for: "
			      "give the name in it (--tls-hostname NAME)");
	tls_creds_free(&creds);
	return r;
}

/* An address is checked as one, and not sent as the name that is asked for. */
static int set_host(struct tls_link *t, struct vfmig_error *err)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, t->host))
		return 0;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (t->host[0] && SSL_set1_host(t->ssl, t->host) && SSL_set_tlsext_host_name(t->ssl, t->host))
		return 0;
	return error_set(err, -EINVAL, "TLS: '%s' is no host name", t->host);
}

int tls_begin(struct tls_link *t, struct vfmig_error *err)
{
	int r = tls_start(t, err);
	if (r < 0)
		return r;
	if (t->direction == VFMIG_LOAD) {
		SSL_set_accept_state(t->ssl);
		return 0;
	}
	SSL_set_connect_state(t->ssl);
	return t->creds.psk ? 0 : set_host(t, err);
}

int tls_shaken(struct tls_link *t, struct vfmig_error *err)
{
	/* Else whoever has any certificate would do. */
	if (t->creds.psk && !SSL_session_reused(t->ssl)) {
		t->failed = true;
		return error_set(err, -EPROTO, "TLS: the other side did not use the key of %s/keys.psk", t->folder);
	}
	t->shaken = true;
	return 0;
}

/*
 * The other side may have sent more by now, and a socket that is closed with something unread
 * resets the connection, which may overtake what it was told.
 */
static void linger(const struct tls_link *t)
{
	int fd = t->fd;
	static const uint8_t refusal[] = { 0x15, 0x03, 0x03, 0x00, 0x02, 0x02, SSL_AD_HANDSHAKE_FAILURE };
	uint64_t deadline_ns = socket_deadline(LINGER_MS);
	char dropped[4096];
	/* OpenSSL is silent to who does not speak TLS. A saver of ours knows this answer. */
	if (!tls_is_spoken(t))
		(void)send(fd, refusal, sizeof(refusal), MSG_NOSIGNAL | MSG_DONTWAIT);
	shutdown(fd, SHUT_WR);
	for (;;) {
		ssize_t n = recv(fd, dropped, sizeof(dropped), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
		if (n < 0 && socket_wait(fd, POLLIN, deadline_ns) < 0)
			return;
	}
}

static int handshake(struct tls_link *t, struct vfmig_error *err)
{
	uint64_t deadline_ns = socket_deadline(t->timeout_ms ? t->timeout_ms : SOCKET_CONNECT_MS);
	for (;;) {
		ERR_clear_error();
		int r = SSL_do_handshake(t->ssl);
		if (r > 0)
			break;
		short wants = tls_wants(t, r);
		if (!wants)
			return tls_explain(t, err);
		r = socket_wait(t->fd, wants, deadline_ns);
		if (r == -ETIMEDOUT)
			return error_set(err, r, "TLS: the other side did not finish the handshake in time: does it "
						 "speak TLS?");
		if (r < 0)
			return error_errno(err, r, "TLS: poll");
	}
	return tls_shaken(t, err);
}

static int start(struct tls_link *t, const char *host, const struct vfmig_link_options *opts, struct vfmig_error *err)
{
	if (opts->tls_hostname)
		host = opts->tls_hostname;
	if (host && (size_t)snprintf(t->host, sizeof(t->host), "%s", host) >= sizeof(t->host))
		return error_errno(err, -ENAMETOOLONG, "TLS: %.64s...", host);
	t->host[strcspn(t->host, "%")] = '\0'; /* an IPv6 address's interface */
	int r = tls_creds_load(&t->creds, t->folder, t->direction, err);
	if (!r)
		r = tls_begin(t, err);
	if (r < 0)
		return r;
	r = handshake(t, err);
	if (r < 0 && !t->peer_closed)
		linger(t);
	return r;
}

/* Takes under, also on failure. NULL: there is no memory. */
static struct tls_link *make(struct vfmig_link *under, enum vfmig_direction direction, uint32_t timeout_ms,
			     struct vfmig_error *err)
{
	struct tls_link *t = calloc(1, sizeof(*t));
	if (!t) {
		vfmig_link_close(under);
		error_errno(err, -ENOMEM, "link");
		return NULL;
	}
	t->base = (struct vfmig_link) {
		.ops = &tls_ops,
		.wait_fd = under->wait_fd,
		.listen_fd = under->listen_fd,
		.two_way = true,
		.file_fd = -1,
	};
	strcpy(t->base.name, under->name);
	t->under = under;
	t->fd = under->wait_fd;
	t->direction = direction;
	t->timeout_ms = timeout_ms;
	return t;
}

/* Loading, the handshake goes on in whatever is read then: nobody is waited for, and no file is opened. */
int tls_another(struct vfmig_link *l, struct vfmig_link **ret, struct vfmig_error *err)
{
	const struct tls_link *first = (struct tls_link *)l;
	struct vfmig_link *under;
	if (!first->under->ops->another)
		return error_set(err, -EOPNOTSUPP, "has one connection; several need unix: or tcp:");
	int r = first->under->ops->another(first->under, &under, err);
	if (r < 0)
		return r;
	struct tls_link *t = make(under, first->direction, first->timeout_ms, err);
	if (!t)
		return -ENOMEM;
	memcpy(t->folder, first->folder, sizeof(t->folder));
	memcpy(t->host, first->host, sizeof(t->host));
	t->creds = first->creds;
	t->creds_shared = true;
	r = tls_begin(t, err);
	if (!r && t->direction == VFMIG_SAVE)
		r = handshake(t, err);
	if (r < 0) {
		vfmig_link_close(&t->base);
		return error_not_again(r);
	}
	*ret = &t->base;
	return 0;
}

int tls_link_new(struct vfmig_link *under, const char *host, enum vfmig_direction direction,
		 const struct vfmig_link_options *opts, struct vfmig_link **ret, struct vfmig_error *err)
{
	struct tls_link *t = make(under, direction, opts->timeout_ms, err);
	if (!t)
		return -ENOMEM;
	int r = under->two_way ? 0 : error_set(err, -ENOTSOCK, "TLS is for sockets, and this is none");
	if (!r && (size_t)snprintf(t->folder, sizeof(t->folder), "%s", opts->tls_creds) >= sizeof(t->folder))
		r = error_errno(err, -ENAMETOOLONG, "TLS: %.64s...", opts->tls_creds);
	if (!r)
		r = start(t, host, opts, err);
	if (r < 0) {
		vfmig_link_close(&t->base);
		return r;
	}
	*ret = &t->base;
	return 0;
}
