/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_address.c - where a tcp port can be reached: the addresses of this host, as bytes for the peers. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/settings.h"
#include "transport/tcp.h"

/* The address as it travels. Network order in port and bytes. */
struct tcp_place {
	char magic[7];
	uint8_t version, count, zero[5];
	uint16_t port;
	unsigned char ticket[8];        /* little-endian */
	struct { unsigned char family, zero[7], bytes[16]; } at[TCP_ADDRESSES];
};

_Static_assert(sizeof(struct tcp_place) <= TCP_PLACE_BYTES && TCP_PLACE_BYTES <= SNTI_ADDRESS_BYTES, "an address has to fit");

#define MAGIC "sntitcp"
#define VERSION 1

static const void *raw(const struct sockaddr *address, size_t *size)
{
	if (address && address->sa_family == AF_INET) {
		*size = 4;
		return &((const struct sockaddr_in *)(const void *)address)->sin_addr;
	}
	if (address && address->sa_family == AF_INET6) {
		*size = 16;
		return &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
	}
	return NULL;
}

/* Whether @address lies in @subnet ("10.0.0.0/8", "fd00::/8"). */
static int is_in_subnet(const struct sockaddr *address, const char *subnet)
{
	unsigned char net[16];
	size_t size = 0;
	const unsigned char *bytes = raw(address, &size);
	char text[INET6_ADDRSTRLEN];
	const char *slash = strchr(subnet, '/');

	if (!bytes || !slash || (size_t)(slash - subnet) >= sizeof text)
		return 0;
	memcpy(text, subnet, (size_t)(slash - subnet));
	text[slash - subnet] = 0;
	if (inet_pton(address->sa_family, text, net) != 1)
		return 0;

	char *end;
	unsigned long bits = strtoul(slash + 1, &end, 10);

	/* Without this a slip of the pen, "10.0.0.0/", would stand for every address there is. */
	if (slash[1] < '0' || slash[1] > '9' || *end || bits > size * 8 || memcmp(bytes, net, bits / 8))
		return 0;
	return bits % 8 == 0 || !((bytes[bits / 8] ^ net[bits / 8]) >> (8 - bits % 8));
}

static int is_useful(const struct ifaddrs *one)
{
	size_t size;
	const unsigned char *bytes = raw(one->ifa_addr, &size);

	if (!bytes || !(one->ifa_flags & IFF_UP))
		return 0;
	if (snti_settings()->ip_version && snti_settings()->ip_version != (size == 4 ? 4 : 6))
		return 0;
	/* Link-local ones need to know which link. */
	return !(size == 16 && bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80);
}

static void add(struct tcp_place *place, const struct sockaddr *address)
{
	size_t size = 0;
	const void *bytes = raw(address, &size);

	if (place->count == TCP_ADDRESSES)
		return;
	for (int i = 0; i < place->count; i++)
		if (place->at[i].family == (size == 4 ? 4 : 6) && !memcmp(place->at[i].bytes, bytes, size))
			return;
	place->at[place->count].family = size == 4 ? 4 : 6;
	memcpy(place->at[place->count++].bytes, bytes, size);
}

int tcp_is_wanted(const struct ifaddrs *one, const char *want)
{
	if (!is_useful(one))
		return 0;
	if (!want)
		return !(one->ifa_flags & IFF_LOOPBACK);
	return !strcmp(one->ifa_name, want) || is_in_subnet(one->ifa_addr, want);
}

/* @family 0: any. */
static void add_matching(struct tcp_place *place, const struct ifaddrs *all, const char *want, int family)
{
	for (const struct ifaddrs *one = all; one; one = one->ifa_next)
		if (tcp_is_wanted(one, want) && (!family || one->ifa_addr->sa_family == family))
			add(place, one->ifa_addr);
}

/* Whether @names, joined by commas, has a name or a subnet for @one; @names may be empty. */
int tcp_is_chosen(const struct ifaddrs *one, const char *names)
{
	char copy[256], *save = NULL;

	if (!*names)
		return is_useful(one);
	snprintf(copy, sizeof copy, "%s", names);
	for (char *name = strtok_r(copy, ", ", &save); name; name = strtok_r(NULL, ", ", &save))
		if (tcp_is_wanted(one, name))
			return 1;
	return 0;
}

/* One address says where one device is: the first of those that may be used, version 4 before 6. */
static void add_device(struct tcp_place *place, const struct ifaddrs *all, const char *device)
{
	const char *names = snti_settings()->interfaces;
	const struct ifaddrs *best = NULL;

	for (const struct ifaddrs *one = all; one; one = one->ifa_next)
		if (!strcmp(one->ifa_name, device) && tcp_is_chosen(one, names) &&
		    (!best || (one->ifa_addr->sa_family == AF_INET && best->ifa_addr->sa_family != AF_INET)))
			best = one;
	if (best)
		add(place, best->ifa_addr);
}

static void add_chosen(struct tcp_place *place, const struct ifaddrs *all, const char *names)
{
	while (*names) {
		size_t length = strcspn(names, ", ");
		char name[64];

		if (length && length < sizeof name) {
			memcpy(name, names, length);
			name[length] = 0;
			add_matching(place, all, name, 0);
		}
		names += length + (names[length] != 0);
	}
}

/* "lo (127.0.0.1), eth0 (10.0.0.1)": what could have been chosen. */
static void list_all(const struct ifaddrs *all, char *text, size_t room)
{
	size_t used = 0;

	text[0] = 0;
	for (const struct ifaddrs *one = all; one && used < room; one = one->ifa_next) {
		char host[INET6_ADDRSTRLEN];
		size_t size;

		if (is_useful(one) && inet_ntop(one->ifa_addr->sa_family, raw(one->ifa_addr, &size), host, sizeof host))
			used += (size_t)snprintf(text + used, room - used, "%s%s (%s)", used ? ", " : "", one->ifa_name, host);
	}
}

static int fail_unmatched(const struct ifaddrs *all, const char *names)
{
	char known[256];

	list_all(all, known, sizeof known);
	/* The setting is wrong, not the device: no other transport should make up for it unnoticed. */
	return snti_fail(SNT_EINVAL, "tcp: no interface matches SNT_INTERFACES '%s'; there are: %s", names,
			 *known ? known : "none that is up with an address");
}

static int fill_in(struct tcp_place *place, const char *device)
{
	const char *names = snti_settings()->interfaces;
	struct ifaddrs *all;
	int status = 0;

	if (getifaddrs(&all))
		return snti_fail(SNT_EDEVICE, "tcp: no list of network interfaces: %m");
	if (*device) {
		add_device(place, all, device);
	} else if (*names) {
		add_chosen(place, all, names);
	} else {
		add_matching(place, all, NULL, AF_INET);
		add_matching(place, all, NULL, AF_INET6);
	}
	if (*device && !place->count)
		status = snti_fail(SNT_EDEVICE, "tcp: %s is not up with an address any more", device);
	else if (*names && !place->count)
		status = fail_unmatched(all, names);
	else if (!place->count)
		snti_log(SNT_LOG_WARN, "tcp: no interface is up with an address that other hosts can reach: they cannot "
			 "connect to this one");
	freeifaddrs(all);
	return status;
}

static void add_loopback(struct tcp_place *place)
{
	struct sockaddr_in loopback = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	add(place, (const struct sockaddr *)(const void *)&loopback);
}

int tcp_address(struct snti_port *base, struct snti_address *mine)
{
	struct tcp_port *port = (struct tcp_port *)base;
	struct tcp_place place = { .magic = MAGIC, .version = VERSION, .port = htons(port->number) };
	int status = port->local_only ? 0 : fill_in(&place, port->device);

	if (status)
		return status;
	if (!place.count)
		add_loopback(&place);
	for (int i = 0; i < 8; i++)
		place.ticket[i] = (unsigned char)(port->ticket >> 8 * i);
	memset(mine, 0, sizeof *mine);
	memcpy(mine->bytes, &place, sizeof place);
	return 0;
}

int tcp_reaches(struct snti_port *port, const struct snti_address *theirs)
{
	struct tcp_place place;

	(void)port;
	memcpy(&place, theirs->bytes, sizeof place);
	if (memcmp(place.magic, MAGIC, sizeof place.magic) || place.version != VERSION || !place.port ||
	    !place.count || place.count > TCP_ADDRESSES)
		return SNT_EUNSUPPORTED;
	for (int i = 0; i < place.count; i++)
		if (place.at[i].family != 4 && place.at[i].family != 6)
			return SNT_EUNSUPPORTED;
	return 0;
}

int tcp_address_count(const struct snti_address *address)
{
	struct tcp_place place;

	memcpy(&place, address->bytes, sizeof place);
	return place.count;
}

uint64_t tcp_address_ticket(const struct snti_address *address)
{
	struct tcp_place place;
	uint64_t ticket = 0;

	memcpy(&place, address->bytes, sizeof place);
	for (int i = 0; i < 8; i++)
		ticket |= (uint64_t)place.ticket[i] << 8 * i;
	return ticket;
}

socklen_t tcp_address_at(const struct snti_address *address, int index, struct sockaddr_storage *at)
{
	struct tcp_place place;

	memcpy(&place, address->bytes, sizeof place);
	memset(at, 0, sizeof *at);
	if (place.at[index].family == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)(void *)at;

		in->sin_family = AF_INET;
		in->sin_port = place.port;
		memcpy(&in->sin_addr, place.at[index].bytes, 4);
		return sizeof *in;
	}

	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)at;

	in6->sin6_family = AF_INET6;
	in6->sin6_port = place.port;
	memcpy(&in6->sin6_addr, place.at[index].bytes, 16);
	return sizeof *in6;
}

void tcp_address_join(struct snti_address *to, const struct snti_address *from)
{
	struct tcp_place place, other;

	memcpy(&place, to->bytes, sizeof place);
	memcpy(&other, from->bytes, sizeof other);
	for (int i = 0; i < other.count && place.count < TCP_ADDRESSES; i++) {
		int known = 0;

		for (int k = 0; k < place.count; k++)
			known |= !memcmp(&place.at[k], &other.at[i], sizeof place.at[k]);
		if (!known)
			place.at[place.count++] = other.at[i];
	}
	memcpy(to->bytes, &place, sizeof place);
}

int tcp_address_shorten(struct snti_address *address)
{
	struct tcp_place place;

	memcpy(&place, address->bytes, sizeof place);
	if (place.count < 2 || place.count > TCP_ADDRESSES)
		return -1;
	memset(&place.at[--place.count], 0, sizeof place.at[0]);
	memcpy(address->bytes, &place, sizeof place);
	return 0;
}

int tcp_device_named(const char *want, char *name, size_t size)
{
	struct ifaddrs *all;
	int status = -1;

	if (getifaddrs(&all))
		return -1;
	for (const struct ifaddrs *one = all; one && status; one = one->ifa_next)
		if (tcp_is_wanted(one, want))
			status = (size_t)snprintf(name, size, "%s", one->ifa_name) < size ? 0 : -1;
	freeifaddrs(all);
	return status;
}

static void name_network(const struct ifaddrs *one, unsigned char *net, size_t most)
{
	size_t size = 0, mask_size = 0;
	const unsigned char *bytes = raw(one->ifa_addr, &size), *mask = raw(one->ifa_netmask, &mask_size);

	if (!bytes || !mask || mask_size != size || size + 2 > most)
		return;
	net[0] = size == 4 ? 4 : 6;
	for (size_t i = 0; i < size; i++) {
		net[1] = (unsigned char)(net[1] + __builtin_popcount(mask[i]));
		net[2 + i] = bytes[i] & mask[i];
	}
}

void tcp_network(const char *device, unsigned char *net, size_t size)
{
	const char *names = snti_settings()->interfaces;
	struct ifaddrs *all;

	memset(net, 0, size);
	if (getifaddrs(&all))
		return;
	/* The address that add_device() takes: version 4 before 6. */
	for (const struct ifaddrs *one = all; one; one = one->ifa_next)
		if (!strcmp(one->ifa_name, device) && tcp_is_chosen(one, names) &&
		    (!net[0] || (net[0] == 6 && one->ifa_addr->sa_family == AF_INET))) {
			memset(net, 0, size);
			name_network(one, net, size);
		}
	freeifaddrs(all);
}

void tcp_log_path(const struct tcp_conn *conn)
{
	struct sockaddr_storage there;
	socklen_t size = sizeof there;
	char host[INET6_ADDRSTRLEN] = "?";

	if (!getpeername(conn->sockets[0].fd, (struct sockaddr *)&there, &size))
		(void)!getnameinfo((struct sockaddr *)&there, size, host, sizeof host, NULL, 0, NI_NUMERICHOST);
	snti_log(SNT_LOG_DEBUG, "rank %d: tcp, %u sockets %s %s", conn->base.peer, conn->socket_count,
		 conn->accepting ? "from" : "to", host);
}
