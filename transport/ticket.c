/* SPDX-License-Identifier: BSD-3-Clause */
/* ticket.c - makes and reads tickets, and keeps their listening sockets until rank 0 takes them. */
#include "transport/ticket.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/random.h"

/* magic 8, version 4, count 4, port 4, zero 4, id 8, host 8, secret 32, 4 addresses of 20
 * (family 1, zero 3, bytes 16), zeros, checksum 8. Little endian. */
enum { OFF_VERSION = 8, OFF_COUNT = 12, OFF_PORT = 16, OFF_GAP = 20, OFF_ID = 24, OFF_HOST = 32, OFF_SECRET = 40,
       OFF_ADDRESS = 72, ADDRESS_BYTES = 20, OFF_SUM = 184, VERSION = 1, KEPT = 64 };
static const unsigned char magic[8] = { 's', 'n', 't', 't', 'i', 'c', 'k', '\n' };

static struct kept { uint64_t id; int fd; pid_t maker; } table[KEPT];
static unsigned next_slot;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void put(unsigned char *out, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		out[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t take(const unsigned char *in, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64_t)in[i] << (8 * i);
	return value;
}

/* FNV-1a: against damage in transit; against an attacker stands the secret. */
static uint64_t sum(uint64_t start, const void *bytes, size_t size)
{
	const unsigned char *in = bytes;

	for (size_t i = 0; i < size; i++)
		start = (start ^ in[i]) * 0x100000001b3ULL;
	return start;
}

uint64_t snti_host_id(void)
{
	char boot[64] = "";
	struct stat ns = { 0 };
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t size = fd >= 0 ? read(fd, boot, sizeof(boot)) : 0;
	uint64_t inode;

	snti_socket_close(&fd);
	if (size <= 0 || stat("/proc/self/ns/net", &ns) != 0)
		return 0;   /* unknown: never taken for the same host */
	inode = ns.st_ino;
	return sum(sum(0xcbf29ce484222325ULL, boot, (size_t)size), &inode, sizeof(inode));
}

void snti_ticket_write(const struct snti_ticket_parts *parts, struct snt_ticket *ticket)
{
	unsigned char *out = ticket->bytes;

	memset(out, 0, sizeof(ticket->bytes));
	memcpy(out, magic, sizeof(magic));
	put(out + OFF_VERSION, VERSION, 4);
	put(out + OFF_COUNT, (uint64_t)parts->count, 4);
	put(out + OFF_PORT, parts->port, 4);
	put(out + OFF_ID, parts->id, 8);
	put(out + OFF_HOST, parts->host, 8);
	memcpy(out + OFF_SECRET, parts->secret, SNTI_SECRET_BYTES);
	for (int i = 0; i < parts->count; i++) {
		out[OFF_ADDRESS + i * ADDRESS_BYTES] = parts->addresses[i].family;
		memcpy(out + OFF_ADDRESS + i * ADDRESS_BYTES + 4, parts->addresses[i].bytes, 16);
	}
	put(out + OFF_SUM, sum(0xcbf29ce484222325ULL, out, OFF_SUM), 8);
}

static int read_addresses(const unsigned char *in, struct snti_ticket_parts *parts)
{
	for (int i = 0; i < parts->count; i++) {
		const unsigned char *one = in + OFF_ADDRESS + i * ADDRESS_BYTES;

		if (one[0] != 4 && one[0] != 6)
			return -1;
		parts->addresses[i].family = one[0];
		parts->addresses[i].port = parts->port;
		memcpy(parts->addresses[i].bytes, one + 4, 16);
	}
	return 0;
}

int snti_ticket_read(const struct snt_ticket *ticket, struct snti_ticket_parts *parts)
{
	const unsigned char *in = ticket->bytes;
	uint64_t count = take(in + OFF_COUNT, 4), port = take(in + OFF_PORT, 4);

	memset(parts, 0, sizeof(*parts));
	if (memcmp(in, magic, sizeof(magic)) != 0)
		return snti_fail(SNT_EINVAL, "the ticket is not one made by snt_ticket_create()");
	if (take(in + OFF_VERSION, 4) != VERSION)
		return snti_fail(SNT_EINVAL, "the ticket is from another version of sennit");
	if (take(in + OFF_SUM, 8) != sum(0xcbf29ce484222325ULL, in, OFF_SUM) || count < 1 ||
	    count > SNTI_TICKET_ADDRESSES || port < 1 || port > 65535)
		return snti_fail(SNT_EINVAL, "the ticket is damaged: its checksum is wrong");
	parts->count = (int)count;
	parts->port = (uint16_t)port;
	parts->id = take(in + OFF_ID, 8);
	parts->host = take(in + OFF_HOST, 8);
	memcpy(parts->secret, in + OFF_SECRET, SNTI_SECRET_BYTES);
	if (read_addresses(in, parts) != 0)
		return snti_fail(SNT_EINVAL, "the ticket is damaged: an address makes no sense");
	return 0;
}

/* A fork while another thread holds the lock would leave it locked in the child for ever. */
static void lock_table(void) { pthread_mutex_lock(&table_lock); }
static void unlock_table(void) { pthread_mutex_unlock(&table_lock); }
static void watch_forks(void) { pthread_atfork(lock_table, unlock_table, unlock_table); }

/* The oldest makes room: a launcher that makes many tickets has forked its users by then. */
static void keep(uint64_t id, int fd)
{
	pthread_once(&fork_once, watch_forks);
	lock_table();
	struct kept *slot = &table[next_slot++ % KEPT];

	if (slot->id != 0)
		snti_socket_close(&slot->fd);
	*slot = (struct kept){ .id = id, .fd = fd, .maker = getpid() };
	unlock_table();
}

/* Takes the entry of @id out of the table. With @only_forked, what this process made stays. */
static int forget(uint64_t id, int only_forked)
{
	int fd = -1;

	lock_table();
	for (int i = 0; i < KEPT && id != 0; i++) {
		if (table[i].id != id || (only_forked && table[i].maker == getpid()))
			continue;
		fd = table[i].fd;
		table[i].id = 0;
		break;
	}
	unlock_table();
	return fd;
}

int snti_ticket_take(uint64_t id)
{
	return forget(id, 0);
}

void snti_ticket_drop(uint64_t id)
{
	int fd = forget(id, 1);

	snti_socket_close(&fd);
}

static void fill_addresses(enum snt_reach reach, struct snti_ticket_parts *parts)
{
	const struct snti_socket_address loopback = { .bytes = { 127, 0, 0, 1 }, .family = 4 };

	if (reach == SNT_REACH_NETWORK)
		parts->count = snti_address_local(parts->addresses, SNTI_TICKET_ADDRESSES);
	if (parts->count > 0)
		return;
	if (reach == SNT_REACH_NETWORK)
		snti_log(SNT_LOG_WARN, "no network interface to use is up (see SNT_INTERFACES): only ranks on this host can join");
	parts->addresses[0] = loopback;
	parts->count = 1;
}

int snt_ticket_create(enum snt_reach reach, struct snt_ticket *ticket)
{
	struct snti_ticket_parts parts = { 0 };
	struct snti_socket_address where = { 0 };
	int fd, status;

	if (ticket == NULL || (reach != SNT_REACH_LOCAL && reach != SNT_REACH_NETWORK))
		return snti_fail(SNT_EINVAL, "snt_ticket_create: %s", ticket == NULL ? "ticket is NULL" : "no such reach");
	status = snti_random(parts.secret, sizeof(parts.secret));
	if (status == 0)
		status = snti_random(&parts.id, sizeof(parts.id));
	if (status != 0)
		return status;
	parts.id |= 1;   /* 0 marks an empty place in the table */
	fill_addresses(reach, &parts);
	if (reach == SNT_REACH_LOCAL)
		where = parts.addresses[0];
	status = snti_socket_listen(&where, 4096, &fd);
	if (status != 0)
		return status;
	parts.port = where.port;
	parts.host = snti_host_id();
	snti_ticket_write(&parts, ticket);
	keep(parts.id, fd);
	return 0;
}
