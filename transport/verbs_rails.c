/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_rails.c - a port of verbs as one of several rails: its network, its own interface, whether it is down. */
#include "transport/verbs_rails.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/settings.h"
#include "transport/verbs.h"

#define PREFIX 8                  /* bytes of an InfiniBand subnet's */

static uint32_t address_of(const struct sockaddr *at)
{
	return ((const struct sockaddr_in *)(const void *)at)->sin_addr.s_addr;
}

/* The interface with the address that an IPv4 GID is; NULL: none. */
static const struct ifaddrs *find_interface(const struct ifaddrs *all, const union ibv_gid *gid)
{
	uint32_t want;

	memcpy(&want, gid->raw + 12, sizeof(want));
	for (; all; all = all->ifa_next)
		if (all->ifa_addr && all->ifa_addr->sa_family == AF_INET && all->ifa_netmask && address_of(all->ifa_addr) == want)
			return all;
	return NULL;
}

/* Network order; 0: not known. */
static uint32_t mask_of(const union ibv_gid *gid)
{
	const struct ifaddrs *one;
	struct ifaddrs *all;
	uint32_t mask;

	if (!verbs_gid_is_ipv4(gid) || getifaddrs(&all))
		return 0;
	one = find_interface(all, gid);
	mask = one ? address_of(one->ifa_netmask) : 0;
	freeifaddrs(all);
	return mask;
}

static uint32_t masked(const union ibv_gid *gid, uint32_t mask)
{
	uint32_t address;

	memcpy(&address, gid->raw + 12, sizeof(address));
	return address & mask;
}

void verbs_rail_network(const struct snti_port *base, unsigned char *net, size_t size)
{
	const struct verbs_device *device = &((const struct verbs_port *)base)->device;
	uint32_t mask = 0, address;

	memset(net, 0, size);
	if (device->attr.link_layer == IBV_LINK_LAYER_INFINIBAND) {
		net[0] = 'i';
		memcpy(net + 1, device->gid.gid.raw, PREFIX);
	} else if ((mask = mask_of(&device->gid.gid))) {
		net[0] = '4';
		address = masked(&device->gid.gid, mask);
		memcpy(net + 1, &mask, sizeof(mask));
		memcpy(net + 5, &address, sizeof(address));
	}
}

int verbs_rail_is_near(const struct snti_port *base, const struct snti_address *theirs)
{
	const struct verbs_device *device = &((const struct verbs_port *)base)->device;
	union ibv_gid gid;
	uint32_t mask;

	verbs_address_gid(theirs, &gid);
	if (device->attr.link_layer == IBV_LINK_LAYER_INFINIBAND)
		return !memcmp(gid.raw, device->gid.gid.raw, PREFIX);
	mask = mask_of(&device->gid.gid);
	return mask && verbs_gid_is_ipv4(&gid) && masked(&gid, mask) == masked(&device->gid.gid, mask);
}

int verbs_rail_is_down(const struct snti_port *base)
{
	const struct verbs_port *port = (const struct verbs_port *)base;

	return port->down_until || port->failed;
}

int verbs_rail_rests(struct snti_port *base)
{
	struct verbs_port *port = (struct verbs_port *)base;

	port->hurry |= port->failed != 0;
	return port->failed != 0;
}

/* So that a cable that is cut takes along what is said beside it, and nothing of the others'. */
int verbs_own_interface(const struct verbs_device *device, char *name, size_t size)
{
	const struct ifaddrs *one = NULL;
	struct ifaddrs *all;

	if (*snti_settings()->interfaces || !verbs_gid_is_ipv4(&device->gid.gid) || getifaddrs(&all))
		return 0;
	one = find_interface(all, &device->gid.gid);
	if (one)
		snprintf(name, size, "%s", one->ifa_name);
	freeifaddrs(all);
	return one != NULL;
}
