/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_address.c - how a shared-memory port is named, and which of them are on this host. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/shm.h"

_Static_assert(sizeof(struct shm_address) <= SNTI_ADDRESS_BYTES, "an address has room");

static uint64_t hash(uint64_t h, const void *bytes, size_t size)
{
	const unsigned char *b = bytes;

	for (size_t i = 0; i < size; i++)
		h = (h ^ b[i]) * 1099511628211u;
	return h;
}

/* Names the boot and the network namespace, which is where abstract sockets live. 0: unknown. */
uint64_t shm_host(void)
{
	char boot[64];
	struct stat net;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, boot, sizeof(boot));
	uint64_t h = 14695981039346656037u;

	if (fd >= 0)
		close(fd);
	if (got <= 0 || stat("/proc/self/ns/net", &net))
		return 0;
	h = hash(h, boot, (size_t)got);
	h = hash(h, &net.st_dev, sizeof(net.st_dev));
	return hash(h, &net.st_ino, sizeof(net.st_ino)) | 1;
}

int shm_address(struct snti_port *port, struct snti_address *mine)
{
	struct shm_port *p = shm_port_of(port);
	struct shm_address address;

	memset(&address, 0, sizeof(address));
	address.magic = SHM_MAGIC;
	address.version = SHM_VERSION;
	address.host = p->host;
	address.ticket = p->ticket;
	address.uid = getuid();
	address.pid = (uint32_t)getpid();
	memcpy(address.name, p->name, sizeof(address.name));
	memset(mine, 0, sizeof(*mine));
	memcpy(mine->bytes, &address, sizeof(address));
	return 0;
}

int shm_address_read(const struct snti_address *from, struct shm_address *address)
{
	memcpy(address, from->bytes, sizeof(*address));
	for (size_t i = sizeof(*address); i < sizeof(from->bytes); i++)
		if (from->bytes[i])
			return SNT_EUNSUPPORTED;
	if (address->magic != SHM_MAGIC || address->version != SHM_VERSION)
		return SNT_EUNSUPPORTED;
	return address->host && address->pid ? 0 : SNT_EUNSUPPORTED;
}

int shm_reaches(struct snti_port *port, const struct snti_address *theirs)
{
	struct shm_address address;

	if (shm_address_read(theirs, &address))
		return SNT_EUNSUPPORTED;
	if (address.host != shm_port_of(port)->host || address.uid != getuid())
		return SNT_EUNSUPPORTED;
	return 0;
}
