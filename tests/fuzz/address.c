/* SPDX-License-Identifier: BSD-3-Clause */
/* address.c - fuzzes the addresses that peers hand out: what a transport takes, it can also read. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/shm.h"
#include "transport/tcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_tcp(const struct snti_address *address)
{
	struct tcp_port port = { .listen_fd = -1 };
	struct sockaddr_storage at;

	if (tcp_reaches(&port.base, address) != 0)
		return;
	if (tcp_address_count(address) < 1 || tcp_address_count(address) > TCP_ADDRESSES)
		abort();
	(void)tcp_address_ticket(address);
	for (int i = 0; i < tcp_address_count(address); i++) {
		socklen_t room = tcp_address_at(address, i, &at);

		if (room != (at.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) ||
		    !((struct sockaddr_in *)(void *)&at)->sin_port)
			abort();
	}
}

static void try_shm(const struct snti_address *address, uint64_t host)
{
	static struct shm_port port;
	struct shm_address parts;

	port.host = host;
	if (shm_reaches(&port.base, address) == 0 &&
	    (shm_address_read(address, &parts) != 0 || parts.host != host || !parts.pid))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct shm_address start = { .magic = SHM_MAGIC, .version = SHM_VERSION, .host = 7, .uid = getuid() };
	struct snti_address address = { { 0 } };

	memcpy(address.bytes, data, size < sizeof(address) ? size : sizeof(address));
	try_tcp(&address);
	try_shm(&address, 7);
	/* Again with what would be hard to guess. */
	memcpy(address.bytes, "sntitcp\1", 8);
	try_tcp(&address);
	memcpy(address.bytes, &start, offsetof(struct shm_address, ticket));
	memcpy(address.bytes + offsetof(struct shm_address, uid), &start.uid, sizeof(start.uid));
	try_shm(&address, 7);
	return 0;
}
