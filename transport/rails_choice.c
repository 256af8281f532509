/* SPDX-License-Identifier: BSD-3-Clause */
/* rails_choice.c - which devices are rails, right by itself and as the settings say, and which of them meet. */
#include <stdio.h>
#include <string.h>

#include "base/settings.h"
#include "transport/rails.h"
#include "transport/tcp.h"

#define DEVICES 64
#define SLOWEST 8                 /* a network for management is not worth what it may disturb */

/* The others have not been tried yet. */
static const struct snti_transport *find_under(void)
{
	return &snti_tcp_transport;
}

/* "10.1.0.0/16" is the name of whatever device is there. */
static const struct snti_device *find_device(const struct snti_transport *under, const struct snti_device *all, int count,
					     const char *want)
{
	char name[sizeof(all->name)];

	if (under == &snti_tcp_transport && strchr(want, '/') && !tcp_device_named(want, name, sizeof(name)))
		want = name;
	for (int i = 0; i < count; i++)
		if (!strcmp(all[i].name, want))
			return &all[i];
	return NULL;
}

static int choose_named(const char *names, const struct snti_device *all, int count, struct rails_choice *choice)
{
	char copy[256], *save = NULL;

	snprintf(copy, sizeof(copy), "%s", names);
	for (char *name = strtok_r(copy, ", +", &save); name; name = strtok_r(NULL, ", +", &save)) {
		const struct snti_device *device = find_device(choice->under, all, count, name);

		if (!device)
			return snti_fail(SNT_EINVAL, "rails: %s has no device '%s' that is up with an address", choice->under->name, name);
		if (choice->count == RAILS_MOST)
			return snti_fail(SNT_EINVAL, "rails: '%s' are more than %d", names, RAILS_MOST);
		choice->devices[choice->count++] = *device;
	}
	return choice->count ? 0 : snti_fail(SNT_EINVAL, "rails: '%s' names no device", names);
}

/* Without a word from anybody: hardware only, and nothing that is much slower than the rest. */
static void choose_by_itself(const struct snti_device *all, int count, struct rails_choice *choice)
{
	int named = choice->under == &snti_tcp_transport && *snti_settings()->interfaces, fastest = 0;

	for (int i = 0; i < count; i++)
		if (*all[i].path && all[i].speed_mbps > fastest)
			fastest = all[i].speed_mbps;
	for (int i = 0; i < count && choice->count < RAILS_MOST; i++)
		if (!all[i].is_loopback && (named || (*all[i].path && !all[i].is_last_resort &&
						      all[i].speed_mbps >= fastest / SLOWEST)))
			choice->devices[choice->count++] = all[i];
}

/* 0; SNT_EUNSUPPORTED without a word: one device is enough. */
int rails_choose(const char *names, int local_only, struct rails_choice *choice)
{
	struct snti_device all[DEVICES];
	int by_itself, count;

	memset(choice, 0, sizeof(*choice));
	choice->under = find_under();
	if (!names)
		names = snti_settings()->rails;
	by_itself = !strcmp(names, "auto");
	if (!*names || !strcmp(names, "off") || (by_itself && local_only))
		return SNT_EUNSUPPORTED;
	count = choice->under->devices(all, DEVICES);
	if (count < 0)
		return count;
	if (!by_itself)
		return choose_named(names, all, count, choice);
	choose_by_itself(all, count, choice);
	return choice->count > 1 ? 0 : SNT_EUNSUPPORTED;
}

/* What somebody named and cannot be had is wanted all the same: opening it says what is wrong. */
int snti_rails_wanted(int local_only)
{
	struct rails_choice choice;
	int status;

	snti_fail_quietly(1);
	status = rails_choose(NULL, local_only, &choice);
	snti_fail_quietly(0);
	return !status || (status == SNT_EINVAL && strcmp(snti_settings()->rails, "auto"));
}

/* All of them as one device. */
int rails_devices(struct snti_device *devices, int most)
{
	struct rails_choice choice;
	size_t used = 0;
	int status;

	snti_fail_quietly(1);
	status = rails_choose(NULL, 0, &choice);
	snti_fail_quietly(0);
	if (status)
		return status;
	if (most < 1)
		return 0;
	devices[0] = (struct snti_device){ .guid = choice.devices[0].guid, .number = choice.devices[0].number };
	memcpy(devices[0].path, choice.devices[0].path, sizeof(devices[0].path));
	for (unsigned i = 0; i < choice.count; i++) {
		if (used < sizeof(devices[0].name))
			used += (size_t)snprintf(devices[0].name + used, sizeof(devices[0].name) - used, "%s%s", i ? "+" : "",
						 choice.devices[i].name);
		devices[0].speed_mbps += choice.devices[i].speed_mbps;
	}
	return 1;
}

/* These four are all that rails have to know about what is underneath. */
void rails_widen(const struct snti_transport *under, struct snti_address *to, const struct snti_address *from)
{
	if (under == &snti_tcp_transport)
		tcp_address_join(to, from);
}

int rails_shorten(const char *under, struct snti_address *address)
{
	return strncmp(under, snti_tcp_transport.name, 8) ? -1 : tcp_address_shorten(address);
}

void rails_narrow(const struct snti_transport *under, struct snti_port *port)
{
	if (under == &snti_tcp_transport)
		((struct tcp_port *)port)->sockets = 1;
}

void rails_net(const struct snti_transport *under, const char *device, unsigned char net[RAILS_NET])
{
	memset(net, 0, RAILS_NET);
	if (under == &snti_tcp_transport)
		tcp_network(device, net, RAILS_NET);
}

static int is_same_net(const struct rails_card *a, unsigned i, const struct rails_card *b, unsigned k)
{
	return a->rails[i].net[0] && !memcmp(a->rails[i].net, b->rails[k].net, RAILS_NET);
}

/* Those in one network first, in order; what is left in order too. Both sides walk alike: over the first side's. */
unsigned rails_pair(const struct rails_card *mine, const struct rails_card *theirs, int first, unsigned pairs[RAILS_MOST][2])
{
	const struct rails_card *a = first ? mine : theirs, *b = first ? theirs : mine;
	unsigned count = 0, met_a = 0, met_b = 0;

	for (int by_net = 1; by_net >= 0; by_net--)
		for (unsigned i = 0; i < a->count; i++)
			for (unsigned k = 0; k < b->count && !(met_a & 1u << i); k++) {
				if (met_b & 1u << k || (by_net && !is_same_net(a, i, b, k)))
					continue;
				met_a |= 1u << i;
				met_b |= 1u << k;
				pairs[count][!first] = i;
				pairs[count++][first] = k;
			}
	return count;
}
