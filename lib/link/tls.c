/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.c: bytes through TLS.
 *
 * OpenSSL reaches the socket through a BIO of our own, so that no call blocks,
 * no flag of the socket's is changed and SIGPIPE never comes. Either function
 * may want the other direction (a key update needs an answer): then
 * only_events says what to wait for. What OpenSSL has read ahead poll does not
 * know of: a reader goes on until -EAGAIN, or looks at `buffered`.
 */
#include "link/tls.h"

#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "link/socket.h"

/* AES-GCM may encrypt 2^24.5 full records with one key (RFC 8446, 5.5): 388 GB. */
#define KEY_BYTES (UINT64_C(1) << 38)
#define LAST_WORD_MS 2000u

/* ------------------------------------------------------------- the socket */

static int bio_failed(BIO *b, struct tls_link *t, int code, int retry)
{
	if (code == EAGAIN || code == EINTR)
		BIO_set_flags(b, retry | BIO_FLAGS_SHOULD_RETRY);
	else
		t->io_code = -code;
	return -1;
}

static int bio_write(BIO *b, const char *data, int length)
{
	struct tls_link *t = BIO_get_data(b);
	BIO_clear_retry_flags(b);
	ssize_t n = send(t->fd, data, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? bio_failed(b, t, errno, BIO_FLAGS_WRITE) : (int)n;
}

static int bio_read(BIO *b, char *data, int length)
{
	struct tls_link *t = BIO_get_data(b);
	BIO_clear_retry_flags(b);
	ssize_t n = recv(t->fd, data, (size_t)length, MSG_DONTWAIT);
	if (n < 0)
		return bio_failed(b, t, errno, BIO_FLAGS_READ);
	t->peer_closed = n == 0;
	if (n > 0 && !t->any) {
		t->any = true;
		t->first = (uint8_t)data[0];
	}
	return (int)n;
}

static long bio_ctrl(BIO *b, int command, long number, void *pointer)
{
	const struct tls_link *t = BIO_get_data(b);
	(void)number, (void)pointer;
	if (command == BIO_CTRL_EOF)
		return t->peer_closed;
	return command == BIO_CTRL_FLUSH;
}

int tls_start(struct tls_link *t, struct vfmig_error *err)
{
	BIO *bio = NULL;
	t->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "vfmig");
	if (t->method && BIO_meth_set_write(t->method, bio_write) && BIO_meth_set_read(t->method, bio_read) &&
	    BIO_meth_set_ctrl(t->method, bio_ctrl))
		bio = BIO_new(t->method);
	t->ssl = bio ? SSL_new(t->creds.ctx) : NULL;
	if (!t->ssl) {
		BIO_free(bio);
		return error_errno(err, -ENOMEM, "TLS");
	}
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	return 0;
}

/* ------------------------------------------------------- reading, writing */

short tls_wants(const struct tls_link *t, int result)
{
	switch (SSL_get_error(t->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return POLLIN;
	case SSL_ERROR_WANT_WRITE:
		return POLLOUT;
	}
	return 0;
}

static int check_failed(const struct tls_link *t, struct vfmig_error *err)
{
	ERR_clear_error();
	return t->failed ? error_set(err, -ECONNRESET, "TLS has failed already") : 0;
}

static ssize_t tls_read(struct vfmig_link *l, void *buffer, size_t length, struct vfmig_error *err)
{
	struct tls_link *t = (struct tls_link *)l;
	size_t n;
	int r = check_failed(t, err);
	if (r < 0)
		return r;
	l->buffered = false;
	r = SSL_read_ex(t->ssl, buffer, length, &n);
	if (r > 0 && !t->shaken && tls_shaken(t, err) < 0)
		return -EPROTO;
	if (r > 0) {
		t->heard = true;
		l->buffered = SSL_has_pending(t->ssl);
		return (ssize_t)n;
	}
	short wants = tls_wants(t, r);
	if (wants == POLLIN && l->only_events == POLLIN)
		return -EAGAIN; /* a write waits for the same */
	l->only_events = wants == POLLOUT ? POLLOUT : 0;
	if (wants)
		return -EAGAIN;
	return SSL_get_error(t->ssl, r) == SSL_ERROR_ZERO_RETURN ? 0 : tls_explain(t, err);
}

/* Until the other side has said something, its refusal may come at any time, and whoever only writes has to look. */
static int look_for_refusal(struct tls_link *t, struct vfmig_error *err)
{
	char byte;
	size_t n;
	if (t->heard)
		return 0;
	int r = SSL_peek_ex(t->ssl, &byte, 1, &n);
	if (r > 0 || tls_wants(t, r) || SSL_get_error(t->ssl, r) == SSL_ERROR_ZERO_RETURN)
		return 0;
	return tls_explain(t, err);
}

static int renew_key(struct tls_link *t, size_t n)
{
	t->sent_bytes += n;
	if (t->sent_bytes < KEY_BYTES)
		return 0;
	t->sent_bytes = 0;
	return SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) ? 0 : -EIO;
}

/* When the connection broke, what the other side said before it went is still there to be read: an alert, a SHUT. */
static int write_failed(struct tls_link *t, struct vfmig_error *err)
{
	int code = t->io_code;
	char byte;
	size_t n;
	if (!code)
		return tls_explain(t, err);
	t->io_code = 0;
	ERR_clear_error();
	int r = SSL_peek_ex(t->ssl, &byte, 1, &n);
	bool readable = r > 0 || tls_wants(t, r) || SSL_get_error(t->ssl, r) == SSL_ERROR_ZERO_RETURN;
	if (readable)
		t->io_code = code;
	r = tls_explain(t, err);
	if (readable)
		t->failed = false;
	return r;
}

/* At most one record. */
static ssize_t write_some(struct tls_link *t, const void *data, size_t length, struct vfmig_error *err)
{
	size_t n;
	ERR_clear_error();
	int r = SSL_write_ex(t->ssl, data, length, &n);
	t->base.only_events = 0;
	if (r > 0 && !t->shaken && tls_shaken(t, err) < 0)
		return -EPROTO;
	if (r > 0)
		return renew_key(t, n) < 0 ? tls_explain(t, err) : (ssize_t)n;
	short wants = tls_wants(t, r);
	t->base.only_events = wants == POLLIN ? POLLIN : 0;
	return wants ? -EAGAIN : write_failed(t, err);
}

/* What is left of an iovec. */
struct pieces {
	const struct iovec *iov;
	int count;
	size_t at;
};

static void advance(struct pieces *p, size_t n)
{
	p->at += n;
	while (p->count && p->at >= p->iov->iov_len) {
		p->at -= p->iov->iov_len;
		p->iov++;
		p->count--;
	}
}

/*
 * At least a record's bytes in one piece, if there are as many. A record that is half out has to be offered
 * whole again, however the caller cuts its bytes; and a header does not become a record of its own.
 */
static size_t gather(struct tls_link *t, const struct pieces *p, const void **ret)
{
	size_t length = p->iov->iov_len - p->at;
	*ret = (const char *)p->iov->iov_base + p->at;
	if (length >= sizeof(t->record) || p->count == 1)
		return length;
	memcpy(t->record, *ret, length);
	for (int i = 1; i < p->count; i++) {
		size_t n = (size_t)min_u64(p->iov[i].iov_len, sizeof(t->record) - length);
		memcpy(t->record + length, p->iov[i].iov_base, n);
		length += n;
	}
	*ret = t->record;
	return length;
}

static ssize_t tls_writev(struct vfmig_link *l, const struct iovec *iov, int count, struct vfmig_error *err)
{
	struct tls_link *t = (struct tls_link *)l;
	struct pieces p = { iov, count, 0 };
	ssize_t done = 0;
	int r = check_failed(t, err);
	if (!r)
		r = look_for_refusal(t, err);
	if (r < 0)
		return r;
	advance(&p, 0);
	while (p.count) {
		const void *data;
		size_t length = gather(t, &p, &data);
		ssize_t n = write_some(t, data, length, err);
		if (n < 0)
			return done && n == -EAGAIN ? done : n;
		advance(&p, (size_t)n);
		done += n;
	}
	return done;
}

/* ---------------------------------------------------------------- the end */

/*
 * Only one-way: close_notify, then the other side's last word, if it has one. It may have refused
 * this side's certificate while everything was written already.
 */
static int tls_finish(struct vfmig_link *l, struct vfmig_error *err)
{
	struct tls_link *t = (struct tls_link *)l;
	uint64_t deadline_ns = socket_deadline(LAST_WORD_MS);
	char dropped[256];
	size_t n;
	int r = check_failed(t, err);
	if (r < 0)
		return r;
	while ((r = SSL_shutdown(t->ssl)) < 0 && tls_wants(t, r))
		if (socket_wait(t->fd, tls_wants(t, r), deadline_ns) < 0)
			return error_set(err, -ETIMEDOUT, "TLS: the other side does not take the stream's end");
	shutdown(t->fd, SHUT_WR);
	for (;;) {
		ERR_clear_error();
		r = SSL_read_ex(t->ssl, dropped, sizeof(dropped), &n);
		if (r > 0)
			continue;
		if (!tls_wants(t, r))
			break;
		if (socket_wait(t->fd, tls_wants(t, r), deadline_ns) < 0)
			return 0; /* it stores, and has nothing to say */
	}
	/* It has closed; or has not even read the close_notify, as one that knows where the stream ends. */
	if (SSL_get_error(t->ssl, r) == SSL_ERROR_ZERO_RETURN || t->peer_closed || t->io_code)
		return 0;
	return tls_explain(t, err);
}

static void tls_close(struct vfmig_link *l)
{
	struct tls_link *t = (struct tls_link *)l;
	ERR_clear_error();
	if (t->shaken && !t->failed)
		SSL_shutdown(t->ssl); /* close_notify, if there is room for it */
	ERR_clear_error();
	SSL_free(t->ssl);
	BIO_meth_free(t->method);
	if (!t->creds_shared)
		tls_creds_free(&t->creds);
	vfmig_link_close(t->under);
	free(t);
}

/* The handshake of the new connection goes on in whatever is read and written then. */
static int tls_reconnect(struct vfmig_link *l, struct vfmig_error *err)
{
	struct tls_link *t = (struct tls_link *)l;
	if (!t->under->ops->reconnect)
		return error_set(err, -ENOTCONN, "such a link cannot be connected again");
	t->failed = true; /* until there is another, nothing goes to the old one, whose fd is closed */
	l->only_events = 0;
	int r = t->under->ops->reconnect(t->under, err);
	l->wait_fd = t->under->wait_fd;
	if (r < 0)
		return r;
	SSL_free(t->ssl);
	BIO_meth_free(t->method);
	t->ssl = NULL;
	t->method = NULL;
	t->fd = t->under->wait_fd;
	t->shaken = t->heard = t->failed = t->peer_closed = t->any = l->buffered = false;
	t->io_code = l->only_events = 0;
	t->sent_bytes = 0;
	return tls_begin(t, err);
}

const struct link_ops tls_ops = {
	.kind = "tls",
	.writev = tls_writev,
	.read = tls_read,
	.finish = tls_finish,
	.another = tls_another,
	.reconnect = tls_reconnect,
	.close = tls_close,
};
