/* SPDX-License-Identifier: BSD-3-Clause */
/* tls_error.c: what went wrong in TLS, in words that say what to do about it. */
#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <openssl/x509_vfy.h>
#include <string.h>

#include "link/tls.h"

enum alert_cause { OTHER, CERTIFICATE, KEY };

/* The alerts by which this side is refused, and its file that they are about. */
static const struct refusal {
	int alert;
	enum alert_cause cause;
	const char *meaning;
} refusals[] = {
	{ SSL_AD_UNKNOWN_CA, CERTIFICATE, "it does not know the CA that signed it" },
	{ SSL_AD_BAD_CERTIFICATE, CERTIFICATE, "it is not for the name that was asked for, or damaged" },
	{ SSL_AD_CERTIFICATE_EXPIRED, CERTIFICATE, "it has expired, or its time has not come" },
	{ SSL_AD_CERTIFICATE_REVOKED, CERTIFICATE, "it was revoked" },
	{ SSL_AD_CERTIFICATE_UNKNOWN, CERTIFICATE, "it cannot be used" },
	{ SSL_AD_UNSUPPORTED_CERTIFICATE, CERTIFICATE, "it is not made for this use" },
	{ SSL_AD_CERTIFICATE_REQUIRED, OTHER, "it wants a certificate" },
	{ SSL_AD_ACCESS_DENIED, OTHER, "it does not let this side in" },
	{ SSL_AD_DECRYPT_ERROR, KEY, "it has another key for this user" },
	{ SSL_AD_ILLEGAL_PARAMETER, KEY, "it has another key for this user" },
	{ SSL_AD_UNKNOWN_PSK_IDENTITY, KEY, "it does not know this user" },
	{ SSL_AD_HANDSHAKE_FAILURE, KEY, "it does not know this user, or expects a certificate" },
	{ SSL_AD_PROTOCOL_VERSION, OTHER, "it does not speak TLS 1.3" },
};

static const struct refusal *find_refusal(int alert)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (refusals[i].alert == alert)
			return &refusals[i];
	return NULL;
}

/* An alert came. Before anything else has come the other side has not let this one in. */
static int explain_alert(struct tls_link *t, int alert, struct vfmig_error *err)
{
	const struct refusal *r = find_refusal(alert);
	const char *name = SSL_alert_desc_string_long(alert);
	if (t->heard || !r)
		return error_set(err, -ECONNRESET, "TLS: the other side ended the connection by the alert \"%s\"",
				 name);
	t->base.taken_by_nobody = true;
	const char *role = t->direction == VFMIG_SAVE ? "client" : "server";
	if (r->cause == CERTIFICATE && !t->creds.psk)
		return error_set(err, -ECONNABORTED,
				 "TLS: the other side refused this side's certificate %s/%s-cert.pem by the alert "
				 "\"%s\": %s",
				 t->folder, role, name, r->meaning);
	if (r->cause == KEY && t->creds.psk && t->direction == VFMIG_SAVE)
		return error_set(err, -ECONNABORTED,
				 "TLS: the other side refused the key of user %s in %s/keys.psk by the alert "
				 "\"%s\": %s",
				 t->creds.psk->user, t->folder, name, r->meaning);
	return error_set(err, -ECONNABORTED, "TLS: the other side refused this side by the alert \"%s\"%s%s", name,
			 r->cause == OTHER ? ": " : "; its own message says why",
			 r->cause == OTHER ? r->meaning : "");
}

static int explain_verify(const struct tls_link *t, long code, struct vfmig_error *err)
{
	const char *text = X509_verify_cert_error_string(code);
	switch (code) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return error_set(err, -EACCES,
				 "TLS: the other side's certificate is not signed by the CA in %s/ca-cert.pem (%s)",
				 t->folder, text);
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return error_set(err, -EACCES,
				 "TLS: the other side's certificate is not for %s (%s); if it is the right one, give "
				 "the name in it (--tls-hostname NAME)",
				 t->host, text);
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return error_set(err, -EACCES, "TLS: the other side's certificate has expired");
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return error_set(err, -EACCES,
				 "TLS: the other side's certificate is not valid yet: are the clocks right?");
	case X509_V_ERR_CERT_REVOKED:
		return error_set(err, -EACCES, "TLS: the other side's certificate was revoked by %s/ca-crl.pem",
				 t->folder);
	}
	return error_set(err, -EACCES, "TLS: the other side's certificate is refused: %s", text);
}

/* The connection is gone, and TLS has said nothing. A QEMU refuses a certificate that way. */
static int explain_loss(const struct tls_link *t, struct vfmig_error *err)
{
	int code = t->io_code ? t->io_code : -ECONNRESET;
	const char *how = code == -ECONNRESET && t->io_code ? "reset" : "closed";
	if (code != -ECONNRESET && code != -EPIPE)
		return error_errno(err, code, "TLS");
	if (!t->shaken && !t->any)
		return error_set(err, code,
				 "TLS: the other side %s the connection without an answer: does it expect plain text?",
				 how);
	if (!t->heard)
		return error_set(err, code,
				 "TLS: the other side %s the connection without a word: it may have refused this "
				 "side's %s, its own message says",
				 how, t->creds.psk ? "key" : "certificate");
	return error_set(err, code,
			 "TLS: the other side %s the connection without TLS's end (close_notify): something may be "
			 "missing",
			 how);
}

static int explain_reason(const struct tls_link *t, unsigned long code, struct vfmig_error *err)
{
	const char *text = ERR_reason_error_string(code);
	if (t->creds.psk && t->creds.psk->unknown[0])
		return error_set(err, -EACCES, "TLS: the other side's user %s is not in %s/keys.psk",
				 t->creds.psk->unknown, t->folder);
	switch (ERR_GET_REASON(code)) {
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return error_set(err, -EACCES,
				 "TLS: the other side sent no certificate; one signed by the CA in %s/ca-cert.pem is "
				 "expected",
				 t->folder);
	case SSL_R_BINDER_DOES_NOT_VERIFY:
		return error_set(err, -EACCES, "TLS: the other side has another key for its user than %s/keys.psk",
				 t->folder);
	case SSL_R_UNSUPPORTED_PROTOCOL:
		return error_set(err, -EPROTO, "TLS: the other side does not speak TLS 1.3");
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SHARED_CIPHER:
		if (t->creds.psk)
			return error_set(err, -EACCES,
					 "TLS: the other side used no key, one of %s/keys.psk is expected", t->folder);
	}
	return error_set(err, -EPROTO, "TLS: %s", text ? text : "the handshake failed");
}

int tls_explain(struct tls_link *t, struct vfmig_error *err)
{
	unsigned long code = ERR_peek_error();
	int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0, r;
	t->failed = true;
	if (!tls_is_spoken(t))
		r = error_set(err, -EPROTO, "TLS: the other side does not speak TLS: its first byte is 0x%02x%s",
			      t->first, t->first == 'Q' ? ", as of a stream in plain text" : "");
	else if (reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + UINT8_MAX)
		r = explain_alert(t, reason - SSL_AD_REASON_OFFSET, err);
	else if ((!reason || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) && (t->io_code || t->peer_closed))
		r = explain_loss(t, err);
	else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && t->creds.psk)
		r = error_set(err, -EACCES, "TLS: the other side has a certificate, expected the key of %s/keys.psk",
			      t->folder);
	else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
		r = explain_verify(t, SSL_get_verify_result(t->ssl), err);
	else
		r = explain_reason(t, code, err);
	ERR_clear_error();
	return r;
}
