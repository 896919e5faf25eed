/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.h: TLS 1.3 as a link around another one, whose connected socket it takes over.
 *
 * tls.c moves bytes, tls_open.c makes the link and does the handshake, tls_creds.c
 * and tls_psk.c know the files, tls_error.c finds the words for what went wrong.
 */
#ifndef VFMIG_LINK_TLS_H
#define VFMIG_LINK_TLS_H

#include <openssl/ssl.h>

#include "link/link.h"

#define TLS_USER_MAX 128u /* as QEMU's library has it */
#define TLS_KEY_MAX 64u   /* bytes; psktool's have 32 */

/* The users and keys of keys.psk. */
struct tls_psk {
	char *text; /* NULL: certificates are used */
	size_t length;
	char user[TLS_USER_MAX + 1];    /* saving: this side's */
	char unknown[TLS_USER_MAX + 1]; /* loading: the other side's, which the file does not have */
};

struct tls_creds {
	const char *folder; /* borrowed */
	SSL_CTX *ctx;
	struct tls_psk *psk;
	bool has_crl;
};

struct tls_link {
	struct vfmig_link base;
	struct vfmig_link *under; /* owns the socket */
	int fd;			  /* that socket */
	enum vfmig_direction direction;
	char folder[256], host[256]; /* for messages; host empty: none was asked for */
	struct tls_creds creds;
	bool creds_shared;    /* another link's, which has to be open for longer */
	uint32_t timeout_ms;  /* for a handshake that may block */
	BIO_METHOD *method;
	SSL *ssl;

	bool shaken; /* the handshake is over */
	bool heard;  /* something of the other side's has come, so that it has accepted this one */
	bool failed; /* for good */
	uint64_t sent_bytes; /* with the present key */

	/* What the socket says below TLS. */
	int io_code;
	bool peer_closed;
	bool any;
	uint8_t first; /* byte that came, if any */

	uint8_t record[SSL3_RT_MAX_PLAIN_LENGTH]; /* gathered from several pieces */
};

/* Could what has come so far be TLS? */
static inline bool tls_is_spoken(const struct tls_link *t)
{
	return !t->any || (t->first >= SSL3_RT_CHANGE_CIPHER_SPEC && t->first <= SSL3_RT_APPLICATION_DATA);
}

/* Are the credentials right, and is there a name to check where one is needed? Connects to nobody. */
int tls_check(const struct vfmig_link_options *opts, enum vfmig_direction direction, bool has_host,
	      struct vfmig_error *err);

/*
 * A link that speaks TLS on `under` (takes, also on failure). host: the server's name; NULL: none known.
 * Blocks for the handshake.
 */
int tls_link_new(struct vfmig_link *under, const char *host, enum vfmig_direction direction,
		 const struct vfmig_link_options *opts, struct vfmig_link **ret, struct vfmig_error *err);

int tls_creds_load(struct tls_creds *c, const char *folder, enum vfmig_direction direction, struct vfmig_error *err);
void tls_creds_free(struct tls_creds *c);

/* 0 with NULL: there is no such file. */
int tls_psk_load(const char *path, enum vfmig_direction direction, struct tls_psk **ret, struct vfmig_error *err);
void tls_psk_free(struct tls_psk *psk);
/* ctx has to be freed before psk. */
void tls_psk_use(SSL_CTX *ctx, struct tls_psk *psk, enum vfmig_direction direction);

extern const struct link_ops tls_ops;
/* A new SSL on t's socket, which has its handshake before it; needs creds. */
int tls_start(struct tls_link *t, struct vfmig_error *err);
/* The same on t's own connection, and the name that is to be checked there. */
int tls_begin(struct tls_link *t, struct vfmig_error *err);
/* The handshake is over: has the other side really shown what was asked for? 0 or -errno. */
int tls_shaken(struct tls_link *t, struct vfmig_error *err);
/* One more connection, by `under`'s and with t's credentials. */
int tls_another(struct vfmig_link *l, struct vfmig_link **ret, struct vfmig_error *err);
/* What came of `result` of an SSL function: POLLIN or POLLOUT is what has to be waited for; 0: neither. */
short tls_wants(const struct tls_link *t, int result);
/* For good: says why. -ECONNABORTED: the other side refused this one, and took nothing. */
int tls_explain(struct tls_link *t, struct vfmig_error *err);

#endif
