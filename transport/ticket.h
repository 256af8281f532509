/* SPDX-License-Identifier: BSD-3-Clause */
/* ticket.h - what is inside a struct snt_ticket, and the listening sockets of the tickets made here. */
#ifndef TRANSPORT_TICKET_H
#define TRANSPORT_TICKET_H

#include "include/sennit.h"
#include "transport/handshake.h"
#include "transport/socket.h"

#define SNTI_TICKET_ADDRESSES 4

struct snti_ticket_parts {
	unsigned char secret[SNTI_SECRET_BYTES];
	uint64_t id;                 /* tells tickets apart in the table of listening sockets */
	uint64_t host;               /* where rank 0 is: snti_host_id() */
	uint16_t port;
	int count;
	struct snti_socket_address addresses[SNTI_TICKET_ADDRESSES];
};

/* Tells hosts apart, and network namespaces of one host: equal means that loopback reaches it. */
uint64_t snti_host_id(void);
void snti_ticket_write(const struct snti_ticket_parts *parts, struct snt_ticket *ticket);
/* 0 or SNT_EINVAL through snti_fail(): damaged, or of another version. */
int snti_ticket_read(const struct snt_ticket *ticket, struct snti_ticket_parts *parts);
/* The listening socket of the ticket @id, once; the caller owns it. -1: not made by this process or a
 * parent that forked it. */
int snti_ticket_take(uint64_t id);
/* Closes a forked child's copy: then nothing but rank 0 holds the socket. No effect in the maker. */
void snti_ticket_drop(uint64_t id);

#endif
