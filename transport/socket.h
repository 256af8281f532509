/* SPDX-License-Identifier: BSD-3-Clause */
/* socket.h - small helpers for TCP sockets: none blocks, none survives exec, none raises SIGPIPE. */
#ifndef TRANSPORT_SOCKET_H
#define TRANSPORT_SOCKET_H

#include <stddef.h>
#include <stdint.h>

struct sockaddr;
struct sockaddr_storage;

/* Where somebody listens. Fixed size and layout, so that it can be copied into blobs. */
struct snti_socket_address {
	uint8_t bytes[16];       /* network order; the first 4 for IPv4 */
	uint16_t port;           /* host order */
	uint8_t family;          /* 4 or 6; 0: none */
	uint8_t zero;
	uint32_t scope;          /* IPv6 link-local: the interface's index; means something on this host only */
};

#define SNTI_ADDRESS_TEXT 80

/* "1.2.3.4:5" or "[::1]:5" to @text. Returns @text. */
const char *snti_address_text(const struct snti_socket_address *address, char text[SNTI_ADDRESS_TEXT]);
/* To and from the system's form. The first returns the length; the second 0 or SNT_EINVAL
 * (an IPv4 address mapped into IPv6 becomes IPv4). */
unsigned snti_address_to_system(const struct snti_socket_address *address, struct sockaddr_storage *out);
int snti_address_from_system(struct snti_socket_address *address, const struct sockaddr *in);
int snti_address_is_loopback(const struct snti_socket_address *address);
int snti_address_is_link_local(const struct snti_socket_address *address);
int snti_address_equal(const struct snti_socket_address *a, const struct snti_socket_address *b);   /* port too */

/* Addresses of this host that others can reach, in the order of SNT_INTERFACES (names or subnets;
 * empty: all that are up; no link-local; loopback only if named). Returns how many, at most @most,
 * their port is 0. May be 0. */
int snti_address_local(struct snti_socket_address *addresses, int most);
/* The same with the choice given as text. */
int snti_address_chosen(const char *interfaces, struct snti_socket_address *addresses, int most);
/* Does @address lie in @subnet ("10.0.0.0/8", "fd00::/8")? 0 also when that is no subnet. */
int snti_address_in_subnet(const struct snti_socket_address *address, const char *subnet);

/* All of these return SNT_EDEVICE or SNT_ELIMIT (no descriptors left) through snti_fail(), and *fd = -1. */
/* Listens on @address; port 0: any free one, written back to @address. family 0: every
 * address of both families (one dual-stack socket; IPv4 only where there is no IPv6). */
int snti_socket_listen(struct snti_socket_address *address, int backlog, int *fd);
/* Listens on the first of @ports that nobody else has, and leaves it in @address. */
int snti_socket_listen_first(struct snti_socket_address *address, const uint16_t *ports, int count, int *fd);
/* Starts to connect; writable when it is decided, then ask snti_socket_connected(). */
int snti_socket_connect(const struct snti_socket_address *address, int *fd);

/* 0: connected; otherwise errno's value. No snti_fail(). */
int snti_socket_connected(int fd);
/* A new connection with the peer's address: >= 0, or -1: none waits (or it broke already); errno says. */
int snti_socket_accept(int listener, struct snti_socket_address *from);
/* Non-blocking, close-on-exec, no delay, on a socket from elsewhere. 0 or -1 with errno. */
int snti_socket_prepare(int fd);

/* Bytes moved (> 0), SNTI_SOCKET_LATER (would block), or SNTI_SOCKET_END: end of file or
 * an error (errno; 0 for end of file). @size must not be 0. */
#define SNTI_SOCKET_LATER (-1)
#define SNTI_SOCKET_END   (-2)
long snti_socket_send(int fd, const void *bytes, size_t size);
long snti_socket_receive(int fd, void *bytes, size_t size);

/* Closes *fd unless it is -1, and makes it -1. Keeps errno. */
void snti_socket_close(int *fd);

#endif
