/* SPDX-License-Identifier: BSD-3-Clause */
/* tls_creds.c: a folder of credentials, with the files' names that QEMU and libvirt use, into an SSL_CTX. */
#include <openssl/err.h>
#include <openssl/x509err.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "link/tls.h"

#define READ_AHEAD_BYTES (128u << 10)

/* The reason that OpenSSL gave last, which is the most general: what the file is not. */
static const char *reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());
	return text ? text : "unknown reason";
}

static int make_path(const struct tls_creds *c, const char *name, char *ret, size_t size, struct vfmig_error *err)
{
	if ((size_t)snprintf(ret, size, "%s/%s", c->folder, name) >= size)
		return error_errno(err, -ENAMETOOLONG, "TLS: %.64s...", c->folder);
	return 0;
}

/* Path of a file that has to be there and readable. */
static int need(const struct tls_creds *c, const char *name, char *ret, size_t size, struct vfmig_error *err)
{
	int r = make_path(c, name, ret, size, err);
	if (!r && access(ret, R_OK) < 0)
		r = error_errno(err, -errno, "TLS: %s", ret);
	return r;
}

static bool exists(const struct tls_creds *c, const char *name)
{
	char path[512];
	return !make_path(c, name, path, sizeof(path), NULL) && access(path, F_OK) == 0;
}

/* Nobody is asked for a password: that could wait for ever. */
static int no_password(char *buffer, int size, int writing, void *opaque)
{
	(void)buffer, (void)size, (void)writing;
	if (opaque)
		*(bool *)opaque = true;
	return -1;
}

static int load_key(struct tls_creds *c, const char *cert, const char *path, struct vfmig_error *err)
{
	bool encrypted = false;
	SSL_CTX_set_default_passwd_cb_userdata(c->ctx, &encrypted);
	bool right = SSL_CTX_use_PrivateKey_file(c->ctx, path, SSL_FILETYPE_PEM) == 1 &&
		     SSL_CTX_check_private_key(c->ctx) == 1;
	SSL_CTX_set_default_passwd_cb_userdata(c->ctx, NULL);
	if (right)
		return 0;
	unsigned long code = ERR_peek_last_error();
	if (ERR_GET_LIB(code) == ERR_LIB_X509 &&
	    (ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH || ERR_GET_REASON(code) == X509_R_KEY_TYPE_MISMATCH))
		return error_set(err, -EINVAL, "TLS: %s is not the key of %s", path, cert);
	if (encrypted)
		return error_set(err, -EINVAL, "TLS: %s is encrypted: a key without a password is needed", path);
	return error_set(err, -EINVAL, "TLS: %s is no private key in PEM form: %s", path, reason());
}

static int load_pair(struct tls_creds *c, const char *cert_name, const char *key_name, struct vfmig_error *err)
{
	char cert[512], key[512];
	int r = need(c, cert_name, cert, sizeof(cert), err);
	if (!r)
		r = need(c, key_name, key, sizeof(key), err);
	if (r < 0)
		return r;
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(c->ctx, cert) != 1)
		return error_set(err, -EINVAL, "TLS: %s is no certificate in PEM form: %s", cert, reason());
	ERR_clear_error();
	return load_key(c, cert, key, err);
}

static int load_crl(struct tls_creds *c, struct vfmig_error *err)
{
	char path[512];
	X509_STORE *store = SSL_CTX_get_cert_store(c->ctx);
	int r = need(c, "ca-crl.pem", path, sizeof(path), err);
	if (r < 0)
		return r;
	ERR_clear_error();
	X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
	if (!lookup || X509_load_crl_file(lookup, path, X509_FILETYPE_PEM) < 1)
		return error_set(err, -EINVAL, "TLS: %s is no list of revoked certificates in PEM form: %s", path,
				 reason());
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
	c->has_crl = true;
	return 0;
}

static int load_x509(struct tls_creds *c, enum vfmig_direction direction, struct vfmig_error *err)
{
	bool saving = direction == VFMIG_SAVE;
	char ca[512];
	int r = need(c, "ca-cert.pem", ca, sizeof(ca), err);
	if (r < 0)
		return r;
	ERR_clear_error();
	if (SSL_CTX_load_verify_file(c->ctx, ca) != 1)
		return error_set(err, -EINVAL, "TLS: %s holds no certificate in PEM form: %s", ca, reason());
	if (exists(c, "ca-crl.pem"))
		r = load_crl(c, err);
	if (!r)
		r = saving ? load_pair(c, "client-cert.pem", "client-key.pem", err) :
			     load_pair(c, "server-cert.pem", "server-key.pem", err);
	SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return r;
}

static int load_psk(struct tls_creds *c, enum vfmig_direction direction, struct vfmig_error *err)
{
	char path[512];
	int r = need(c, "keys.psk", path, sizeof(path), err);
	if (!r)
		r = tls_psk_load(path, direction, &c->psk, err);
	if (r < 0)
		return r;
	/* A key without a word on its hash is one for SHA-256 (RFC 8446, 4.2.11). */
	if (SSL_CTX_set_ciphersuites(c->ctx, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") != 1)
		return error_set(err, -EOPNOTSUPP, "TLS: this OpenSSL has no cipher for keys.psk");
	tls_psk_use(c->ctx, c->psk, direction);
	/* Whoever comes with a certificate instead is not believed: nobody is trusted. */
	SSL_CTX_set_verify(c->ctx, direction == VFMIG_SAVE ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	return 0;
}

static int make_context(struct tls_creds *c, enum vfmig_direction direction, struct vfmig_error *err)
{
	/* All of it now: later on a process may be allowed little more than to read and write. */
	OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL);
	ERR_clear_error();
	c->ctx = SSL_CTX_new(direction == VFMIG_SAVE ? TLS_client_method() : TLS_server_method());
	if (!c->ctx || SSL_CTX_set_min_proto_version(c->ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(c->ctx, TLS1_3_VERSION) != 1)
		return error_set(err, -EOPNOTSUPP, "TLS: OpenSSL: %s", reason());
	SSL_CTX_set_options(c->ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(c->ctx, 0);
	/* Messages of TLS's own, should there be no end of them, end a call with what was read ahead. */
	SSL_CTX_clear_mode(c->ctx, SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_mode(c->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(c->ctx, 1);
	SSL_CTX_set_default_read_buffer_len(c->ctx, READ_AHEAD_BYTES);
	SSL_CTX_set_default_passwd_cb(c->ctx, no_password);
	return 0;
}

int tls_creds_load(struct tls_creds *c, const char *folder, enum vfmig_direction direction, struct vfmig_error *err)
{
	*c = (struct tls_creds) { .folder = folder };
	bool x509 = exists(c, "ca-cert.pem"), psk = exists(c, "keys.psk");
	if (access(folder, X_OK) < 0)
		return error_errno(err, -errno, "TLS: %s", folder);
	if (x509 && psk)
		return error_set(err, -EINVAL, "TLS: %s holds ca-cert.pem and keys.psk: which is meant? Remove one",
				 folder);
	if (!x509 && !psk)
		return error_set(err, -ENOENT, "TLS: %s holds neither ca-cert.pem (certificates) nor keys.psk (keys)",
				 folder);
	int r = make_context(c, direction, err);
	if (!r)
		r = psk ? load_psk(c, direction, err) : load_x509(c, direction, err);
	ERR_clear_error();
	if (r < 0)
		tls_creds_free(c);
	return r;
}

void tls_creds_free(struct tls_creds *c)
{
	SSL_CTX_free(c->ctx);
	tls_psk_free(c->psk);
	*c = (struct tls_creds) { 0 };
}
