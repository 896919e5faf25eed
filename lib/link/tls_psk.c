/* SPDX-License-Identifier: BSD-3-Clause */
/* tls_psk.c: keys.psk, lines USER:HEXKEY, and the callbacks that find a key in it. */
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "link/tls.h"

#define FILE_MAX (1u << 20)
#define DEFAULT_USER "qemu" /* as QEMU's tls-creds-psk */

struct psk_line {
	const char *user, *hex;
	size_t user_length, hex_length;
};

/* The line that *at is in, without blanks at its end; then *at is at the next. False: there is none. */
static bool next_line(const struct tls_psk *psk, size_t *at, struct psk_line *ret)
{
	if (*at >= psk->length)
		return false;
	const char *line = psk->text + *at;
	const char *end = memchr(line, '\n', psk->length - *at);
	size_t length = end ? (size_t)(end - line) : psk->length - *at;
	*at += length + 1;
	while (length && (line[length - 1] == '\r' || line[length - 1] == ' '))
		length--;
	const char *colon = length && line[0] != '#' ? memchr(line, ':', length) : NULL;
	*ret = (struct psk_line) { .user = line, .user_length = length };
	if (colon) {
		ret->user_length = (size_t)(colon - line);
		ret->hex = colon + 1;
		ret->hex_length = length - ret->user_length - 1;
	}
	return true;
}

static bool find_user(const struct tls_psk *psk, const void *user, size_t length, struct psk_line *ret)
{
	for (size_t at = 0; next_line(psk, &at, ret);)
		if (ret->hex && ret->user_length == length && !memcmp(ret->user, user, length))
			return true;
	return false;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 :
				      -1;
}

/* Bytes, or 0: not of that form. */
static size_t parse_key(const struct psk_line *line, uint8_t key[TLS_KEY_MAX])
{
	if (!line->hex_length || line->hex_length % 2 || line->hex_length / 2 > TLS_KEY_MAX)
		return 0;
	for (size_t i = 0; i < line->hex_length / 2; i++) {
		int high = hex_digit(line->hex[2 * i]), low = hex_digit(line->hex[2 * i + 1]);
		if (high < 0 || low < 0)
			return 0;
		key[i] = (uint8_t)(high << 4 | low);
	}
	return line->hex_length / 2;
}

/* ---------------------------------------------------------------- the file */

static int read_text(int fd, const char *path, struct tls_psk *psk, struct vfmig_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return error_errno(err, -errno, "TLS: %s", path);
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		return error_set(err, -EINVAL, "TLS: %s: expected a file of at most %u bytes", path, FILE_MAX);
	psk->text = malloc((size_t)st.st_size + 1);
	if (!psk->text)
		return error_errno(err, -ENOMEM, "TLS: %s", path);
	while (psk->length < (size_t)st.st_size) {
		ssize_t n = read(fd, psk->text + psk->length, (size_t)st.st_size - psk->length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, -errno, "TLS: %s", path);
		if (n == 0)
			break;
		psk->length += (size_t)n;
	}
	return 0;
}

static int check_lines(const struct tls_psk *psk, const char *path, size_t *ret_users, struct vfmig_error *err)
{
	uint8_t key[TLS_KEY_MAX];
	struct psk_line line;
	unsigned number = 0;
	*ret_users = 0;
	for (size_t at = 0; next_line(psk, &at, &line);) {
		number++;
		if (!line.user_length || line.user[0] == '#')
			continue;
		bool right = line.hex && line.user_length <= TLS_USER_MAX && parse_key(&line, key);
		OPENSSL_cleanse(key, sizeof(key));
		if (!right)
			return error_set(err, -EINVAL,
					 "TLS: %s:%u: expected USER:HEXKEY, a user of up to %u bytes and a key of up "
					 "to %u",
					 path, number, TLS_USER_MAX, TLS_KEY_MAX);
		++*ret_users;
	}
	return *ret_users ? 0 : error_set(err, -EINVAL, "TLS: %s has no line USER:HEXKEY", path);
}

static int choose_user(struct tls_psk *psk, const char *path, size_t users, struct vfmig_error *err)
{
	struct psk_line line;
	if (!find_user(psk, DEFAULT_USER, strlen(DEFAULT_USER), &line)) {
		if (users > 1)
			return error_set(err, -EINVAL,
					 "TLS: %s has %zu users: whose key is this side's? Keep one, or name it "
					 "\"" DEFAULT_USER "\"",
					 path, users);
		for (size_t at = 0; next_line(psk, &at, &line) && !line.hex;)
			;
	}
	memcpy(psk->user, line.user, line.user_length);
	return 0;
}

int tls_psk_load(const char *path, enum vfmig_direction direction, struct tls_psk **ret, struct vfmig_error *err)
{
	struct tls_psk *psk = calloc(1, sizeof(*psk));
	size_t users = 0;
	if (!psk)
		return error_errno(err, -ENOMEM, "TLS: %s", path);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int r = fd < 0 ? error_errno(err, -errno, "TLS: %s", path) : read_text(fd, path, psk, err);
	if (fd >= 0)
		close(fd);
	if (!r)
		r = check_lines(psk, path, &users, err);
	if (!r && direction == VFMIG_SAVE)
		r = choose_user(psk, path, users, err);
	if (r < 0) {
		tls_psk_free(psk);
		return r;
	}
	*ret = psk;
	return 0;
}

void tls_psk_free(struct tls_psk *psk)
{
	if (!psk)
		return;
	if (psk->text)
		OPENSSL_cleanse(psk->text, psk->length);
	free(psk->text);
	free(psk);
}

/* ----------------------------------------------------------- the callbacks */

/* The key as TLS 1.3 takes it: a session of that cipher's hash. NULL: out of memory. */
static SSL_SESSION *make_session(SSL *ssl, const struct psk_line *line)
{
	static const unsigned char aes_128_gcm_sha256[] = { 0x13, 0x01 };
	uint8_t key[TLS_KEY_MAX];
	size_t length = parse_key(line, key);
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
	SSL_SESSION *session = SSL_SESSION_new();
	bool right = session && cipher && length && SSL_SESSION_set1_master_key(session, key, length) &&
		     SSL_SESSION_set_cipher(session, cipher) &&
		     SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION);
	OPENSSL_cleanse(key, sizeof(key));
	if (right)
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

/* Saving. hash: NULL, or the only one that is possible any more. */
static int use_session(SSL *ssl, const EVP_MD *hash, const unsigned char **id, size_t *id_length,
		       SSL_SESSION **ret_session)
{
	const struct tls_psk *psk = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	struct psk_line line;
	*ret_session = NULL;
	if (hash && !EVP_MD_is_a(hash, "SHA256"))
		return 1;
	if (!find_user(psk, psk->user, strlen(psk->user), &line))
		return 0;
	*ret_session = make_session(ssl, &line);
	*id = (const unsigned char *)psk->user;
	*id_length = strlen(psk->user);
	return *ret_session != NULL;
}

/* Loading. No session: no such user; the handshake fails then for want of a certificate. */
static int find_session(SSL *ssl, const unsigned char *id, size_t id_length, SSL_SESSION **ret_session)
{
	struct tls_psk *psk = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	struct psk_line line;
	*ret_session = NULL;
	if (find_user(psk, id, id_length, &line)) {
		*ret_session = make_session(ssl, &line);
		return *ret_session != NULL;
	}
	size_t length = id_length < TLS_USER_MAX ? id_length : TLS_USER_MAX;
	for (size_t i = 0; i < length; i++)
		psk->unknown[i] = id[i] > 0x20 && id[i] < 0x7f ? (char)id[i] : '?';
	psk->unknown[length] = '\0';
	return 1;
}

void tls_psk_use(SSL_CTX *ctx, struct tls_psk *psk, enum vfmig_direction direction)
{
	SSL_CTX_set_app_data(ctx, psk);
	if (direction == VFMIG_SAVE)
		SSL_CTX_set_psk_use_session_callback(ctx, use_session);
	else
		SSL_CTX_set_psk_find_session_callback(ctx, find_session);
}
