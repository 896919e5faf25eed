/* SPDX-License-Identifier: BSD-3-Clause */
/* plain.c: what is not encrypted does not leave the machine by mistake. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#include "link/socket.h"

#define LOOPBACK_NET 127u

/* What is no IP address is not of the network, and no concern here. */
static bool stays_here(const struct sockaddr *address)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	switch (address->sa_family) {
	case AF_INET:
		memcpy(&in, address, sizeof(in));
		return ntohl(in.sin_addr.s_addr) >> 24 == LOOPBACK_NET;
	case AF_INET6:
		memcpy(&in6, address, sizeof(in6));
		return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) && in6.sin6_addr.s6_addr[12] == LOOPBACK_NET);
	}
	return true;
}

int socket_check_plain(const struct sockaddr *address, const struct vfmig_link_options *opts, struct vfmig_error *err)
{
	if (opts->tls_creds || opts->insecure || stays_here(address))
		return 0;
	char host[NI_MAXHOST] = "the address";
	socklen_t length = address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	(void)getnameinfo(address, length, host, sizeof(host), NULL, 0, NI_NUMERICHOST);
	return error_set(err, -EPERM,
			 "%s is not of the loopback network, and in plain text others could read and change the "
			 "state: use TLS (--tls-creds DIR), or allow it (--insecure)",
			 host);
}

int socket_check_plain_fd(int fd, const struct vfmig_link_options *opts, struct vfmig_error *err)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	int r = 0;
	/* What is no socket, or not connected, has no such address. */
	if (getsockname(fd, (struct sockaddr *)&address, &length) == 0)
		r = socket_check_plain((struct sockaddr *)&address, opts, err);
	length = sizeof(address);
	if (!r && getpeername(fd, (struct sockaddr *)&address, &length) == 0)
		r = socket_check_plain((struct sockaddr *)&address, opts, err);
	return r;
}
