/* SPDX-License-Identifier: BSD-3-Clause */
/* socket.c - small helpers for TCP sockets. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE   /* accept4 */
#endif
#include "transport/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/settings.h"

const char *snti_address_text(const struct snti_socket_address *address, char text[SNTI_ADDRESS_TEXT])
{
	char host[INET6_ADDRSTRLEN] = "?", name[IF_NAMESIZE] = "?", link[IF_NAMESIZE + 1] = "";

	if (address->family == 4)
		inet_ntop(AF_INET, address->bytes, host, sizeof(host));
	else if (address->family == 6)
		inet_ntop(AF_INET6, address->bytes, host, sizeof(host));
	if (address->scope != 0) {
		if_indextoname(address->scope, name);
		snprintf(link, sizeof(link), "%%%s", name);
	}
	snprintf(text, SNTI_ADDRESS_TEXT, address->family == 6 ? "[%s%s]:%u" : "%s%s:%u", host, link,
		 (unsigned)address->port);
	return text;
}

unsigned snti_address_to_system(const struct snti_socket_address *address, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (address->family == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)out;

		in->sin_family = AF_INET;
		in->sin_port = htons(address->port);
		memcpy(&in->sin_addr, address->bytes, 4);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(address->port);
	in6->sin6_scope_id = address->scope;
	memcpy(&in6->sin6_addr, address->bytes, 16);
	return sizeof(*in6);
}

int snti_address_from_system(struct snti_socket_address *address, const struct sockaddr *in)
{
	memset(address, 0, sizeof(*address));
	if (in->sa_family == AF_INET) {
		struct sockaddr_in v4;

		memcpy(&v4, in, sizeof(v4));
		address->family = 4;
		address->port = ntohs(v4.sin_port);
		memcpy(address->bytes, &v4.sin_addr, 4);
		return 0;
	}
	if (in->sa_family != AF_INET6)
		return SNT_EINVAL;
	struct sockaddr_in6 v6;

	memcpy(&v6, in, sizeof(v6));
	address->port = ntohs(v6.sin6_port);
	address->family = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) ? 4 : 6;
	if (address->family == 4)
		memcpy(address->bytes, v6.sin6_addr.s6_addr + 12, 4);
	else
		memcpy(address->bytes, &v6.sin6_addr, 16);
	if (snti_address_is_link_local(address))
		address->scope = v6.sin6_scope_id;
	return 0;
}

int snti_address_is_loopback(const struct snti_socket_address *address)
{
	if (address->family == 4)
		return address->bytes[0] == 127;
	return address->family == 6 && memcmp(address->bytes, &in6addr_loopback, 16) == 0;
}

int snti_address_equal(const struct snti_socket_address *a, const struct snti_socket_address *b)
{
	size_t size = a->family == 4 ? 4 : 16;

	return a->family == b->family && a->port == b->port && a->scope == b->scope && memcmp(a->bytes, b->bytes, size) == 0;
}

int snti_address_is_link_local(const struct snti_socket_address *address)
{
	if (address->family == 4)
		return address->bytes[0] == 169 && address->bytes[1] == 254;
	return address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80;
}

static int same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned rest = bits % 8;

	if (memcmp(a, b, bits / 8) != 0)
		return 0;
	return rest == 0 || (a[bits / 8] >> (8 - rest)) == (b[bits / 8] >> (8 - rest));
}

int snti_address_in_subnet(const struct snti_socket_address *address, const char *subnet)
{
	char host[INET6_ADDRSTRLEN];
	uint8_t net[16];
	const char *slash = strchr(subnet, '/');
	char *end = NULL;

	if (slash == NULL || (size_t)(slash - subnet) >= sizeof(host) || slash[1] < '0' || slash[1] > '9')
		return 0;
	memcpy(host, subnet, (size_t)(slash - subnet));
	host[slash - subnet] = '\0';
	unsigned long bits = strtoul(slash + 1, &end, 10);
	int family = strchr(host, ':') != NULL ? 6 : 4;

	if (*end != '\0' || bits > (family == 4 ? 32U : 128U) || family != address->family)
		return 0;
	if (inet_pton(family == 4 ? AF_INET : AF_INET6, host, net) != 1)
		return 0;
	return same_bits(net, address->bytes, (unsigned)bits);
}

/* Appends the addresses of @list that @choice (NULL: any) admits and that are not there yet. */
static int append_chosen(const struct ifaddrs *list, const char *choice, struct snti_socket_address *addresses, int count, int most)
{
	for (const struct ifaddrs *one = list; one != NULL && count < most; one = one->ifa_next) {
		struct snti_socket_address address;
		int known = 0;

		if (one->ifa_addr == NULL || (one->ifa_flags & IFF_UP) == 0 ||
		    snti_address_from_system(&address, one->ifa_addr) != 0 || snti_address_is_link_local(&address))
			continue;
		if (choice == NULL ? (one->ifa_flags & IFF_LOOPBACK) != 0 :
		    strcmp(choice, one->ifa_name) != 0 && !snti_address_in_subnet(&address, choice))
			continue;
		for (int i = 0; i < count; i++)
			known |= snti_address_equal(&addresses[i], &address);
		if (!known)
			addresses[count++] = address;
	}
	return count;
}

int snti_address_chosen(const char *interfaces, struct snti_socket_address *addresses, int most)
{
	struct ifaddrs *list = NULL;
	char copy[1024], *state = NULL;
	int count = 0;

	if (getifaddrs(&list) != 0)
		return 0;
	snprintf(copy, sizeof(copy), "%s", interfaces);
	char *choice = strtok_r(copy, ", ", &state);

	if (choice == NULL)
		count = append_chosen(list, NULL, addresses, 0, most);
	for (; choice != NULL; choice = strtok_r(NULL, ", ", &state))
		count = append_chosen(list, choice, addresses, count, most);
	freeifaddrs(list);
	return count;
}

int snti_address_local(struct snti_socket_address *addresses, int most)
{
	return snti_address_chosen(snti_settings()->interfaces, addresses, most);
}

static int fail_with_errno(const char *what, const struct snti_socket_address *address)
{
	char text[SNTI_ADDRESS_TEXT];
	int error = errno;
	int status = error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ? SNT_ELIMIT : SNT_EDEVICE;

	return snti_fail(status, "%s %s: %s", what, address->family == 0 ? "any address" : snti_address_text(address, text),
			 strerror(error));
}

static int write_back_port(int fd, struct snti_socket_address *address)
{
	struct sockaddr_storage system = { 0 };
	struct snti_socket_address bound;
	socklen_t size = sizeof(system);

	if (getsockname(fd, (struct sockaddr *)&system, &size) != 0)
		return -1;
	if (snti_address_from_system(&bound, (struct sockaddr *)&system) != 0)
		return -1;
	address->port = bound.port;
	return 0;
}

static int listen_on(const struct snti_socket_address *address, int only6, int backlog)
{
	struct sockaddr_storage system;
	socklen_t size = snti_address_to_system(address, &system);
	int fd = socket(system.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (address->family == 6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, sizeof(only6));
	if (bind(fd, (struct sockaddr *)&system, size) == 0 && listen(fd, backlog) == 0)
		return fd;
	snti_socket_close(&fd);
	return -1;
}

static int try_listen(struct snti_socket_address *address, int backlog, int *fd)
{
	struct snti_socket_address any = { .port = address->port, .family = 6 };

	*fd = listen_on(address->family == 0 ? &any : address, address->family != 0, backlog);
	if (*fd < 0 && address->family == 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
		any.family = 4;   /* a kernel without IPv6 */
		*fd = listen_on(&any, 0, backlog);
	}
	if (*fd >= 0 && write_back_port(*fd, address) != 0)
		snti_socket_close(fd);
	return *fd >= 0 ? 0 : -1;
}

int snti_socket_listen(struct snti_socket_address *address, int backlog, int *fd)
{
	return try_listen(address, backlog, fd) == 0 ? 0 : fail_with_errno("cannot listen on", address);
}

int snti_socket_listen_first(struct snti_socket_address *address, const uint16_t *ports, int count, int *fd)
{
	int failed = -1;

	for (int i = 0; i < count && failed != 0; i++) {
		address->port = ports[i];
		failed = try_listen(address, SOMAXCONN, fd);
		if (failed != 0 && errno != EADDRINUSE)
			return fail_with_errno("cannot listen on", address);
	}
	return failed == 0 ? 0 : snti_fail(SNT_EDEVICE, "others listen on all %d ports of this job, the last one is %u: start with "
					   "srun --mpi=pmi2, or set SNT_RANK, SNT_SIZE and SNT_ADDRESS", count, address->port);
}

int snti_socket_connect(const struct snti_socket_address *address, int *fd)
{
	struct sockaddr_storage system;
	socklen_t size = snti_address_to_system(address, &system);

	*fd = socket(system.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0 || snti_socket_prepare(*fd) != 0) {
		snti_socket_close(fd);
		return fail_with_errno("no socket to connect to", address);
	}
	/* What is refused at once shows in snti_socket_connected() as what is refused later. */
	if (connect(*fd, (struct sockaddr *)&system, size) == 0 || errno == EINPROGRESS || errno == EINTR ||
	    errno == ECONNREFUSED || errno == ENETUNREACH || errno == EHOSTUNREACH || errno == EAGAIN)
		return 0;
	snti_socket_close(fd);
	return fail_with_errno("cannot connect to", address);
}

int snti_socket_connected(int fd)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer), error_size = sizeof(int);
	int error = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) != 0)
		return errno;
	if (error == 0 && getpeername(fd, (struct sockaddr *)&peer, &size) != 0)
		error = errno == ENOTCONN ? ECONNREFUSED : errno;
	return error;
}

int snti_socket_accept(int listener, struct snti_socket_address *from)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t size = sizeof(peer);
	int fd;

	do
		fd = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return -1;
	if (snti_address_from_system(from, (struct sockaddr *)&peer) != 0 || snti_socket_prepare(fd) != 0)
		snti_socket_close(&fd);
	return fd;
}

int snti_socket_prepare(int fd)
{
	int one = 1, flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
		return -1;
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* What send(2) or recv(2) returned, in this file's words. */
static long moved(ssize_t count)
{
	if (count > 0)
		return count;
	if (count == 0) {
		errno = 0;
		return SNTI_SOCKET_END;
	}
	return errno == EAGAIN || errno == EWOULDBLOCK ? SNTI_SOCKET_LATER : SNTI_SOCKET_END;
}

long snti_socket_send(int fd, const void *bytes, size_t size)
{
	ssize_t count;

	do
		count = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (count < 0 && errno == EINTR);
	return moved(count);
}

long snti_socket_receive(int fd, void *bytes, size_t size)
{
	ssize_t count;

	do
		count = recv(fd, bytes, size, MSG_DONTWAIT);
	while (count < 0 && errno == EINTR);
	return moved(count);
}

void snti_socket_close(int *fd)
{
	int error = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = error;
}
