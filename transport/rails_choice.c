/* SPDX-License-Identifier: BSD-3-Clause */
/* rails_choice.c - which devices are rails, right by itself and as the settings say, and which of them meet. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/settings.h"
#include "transport/rails.h"
#include "transport/tcp.h"
#include "transport/verbs_rails.h"

#define DEVICES 64
#define SLOWEST 8                 /* a network for management is not worth what it may disturb */

const struct snti_transport *snti_rails_under(const struct snti_transport *rails)
{
	if (rails == &snti_rails_verbs_transport)
		return &snti_verbs_transport;
	return rails == &snti_rails_transport ? &snti_tcp_transport : NULL;
}

/* Whether "mlx5_0:1,mlx5_1:1" begins with an RDMA device, whatever its state: nothing is loaded to find out. */
static int are_rdma(const char *names)
{
	char path[320];
	int length = (int)strcspn(names, ":, +");

	if (!length || length > 64 || memchr(names, '/', (size_t)length))
		return 0;
	snprintf(path, sizeof(path), "%s/%.*s", snti_rdma_folder, length, names);
	return !access(path, F_OK);
}

/* "10.1.0.0/16" is the name of whatever interface is there; a device's only port may be named. */
static const struct snti_device *find_device(const struct snti_transport *under, const struct snti_device *all, int count,
					     const char *want)
{
	char name[sizeof(all->name)];
	size_t length = strlen(want);

	if (under == &snti_tcp_transport && strchr(want, '/') && !tcp_device_named(want, name, sizeof(name)))
		want = name;
	for (int i = 0; i < count; i++)
		if (!strcmp(all[i].name, want) || (under == &snti_verbs_transport && length > 2 && !strcmp(want + length - 2, ":1") &&
						   strlen(all[i].name) == length - 2 && !memcmp(all[i].name, want, length - 2)))
			return &all[i];
	return NULL;
}

static int no_device(const char *name, const struct rails_choice *choice)
{
	return snti_fail(SNT_EINVAL, "rails: %s has no device '%s' that is up with an address", choice->under->name, name);
}

/* @may_lack: those that are not up are left out, as long as there is another one. */
static int choose_named(const char *names, const struct snti_device *all, int count, int may_lack, struct rails_choice *choice)
{
	char copy[256], *save = NULL;

	snprintf(copy, sizeof(copy), "%s", names);
	for (char *name = strtok_r(copy, ", +", &save); name; name = strtok_r(NULL, ", +", &save)) {
		const struct snti_device *device = find_device(choice->under, all, count, name);

		if (!device && !may_lack)
			return no_device(name, choice);
		if (!device) {
			snti_log(SNT_LOG_WARN, "rails: without %s: it is not up with an address", name);
			continue;
		}
		if (choice->count == RAILS_MOST)
			return snti_fail(SNT_EINVAL, "rails: '%s' are more than %d", names, RAILS_MOST);
		choice->devices[choice->count++] = *device;
	}
	if (!choice->count && *copy && may_lack)
		return no_device(names, choice);
	return choice->count ? 0 : snti_fail(SNT_EINVAL, "rails: '%s' names no device", names);
}

/* What somebody has named is as fast as it is. */
static int is_named(const struct snti_transport *under)
{
	return under == &snti_tcp_transport ? *snti_settings()->interfaces : *snti_settings()->verbs_devices;
}

/* Software devices of RDMA count as verbs counts them; interfaces without hardware may be anything. */
static int is_fit(const struct rails_choice *choice, const struct snti_device *device, int fastest)
{
	return !device->is_last_resort && device->speed_mbps >= fastest / SLOWEST &&
	       (*device->path || choice->under == &snti_verbs_transport);
}

/* Without a word from anybody: nothing that is much slower than the rest, and of the best kind only. */
static void choose_by_itself(const struct snti_device *all, int count, struct rails_choice *choice)
{
	int fastest = 0, kind = 0;

	for (int i = 0; i < count; i++)
		if (all[i].kind > kind)
			kind = all[i].kind;
	for (int i = 0; i < count; i++)
		if (all[i].kind == kind && (*all[i].path || choice->under == &snti_verbs_transport) && all[i].speed_mbps > fastest)
			fastest = all[i].speed_mbps;
	for (int i = 0; i < count && choice->count < RAILS_MOST; i++)
		if (all[i].kind == kind && !all[i].is_loopback && (is_named(choice->under) || is_fit(choice, &all[i], fastest)))
			choice->devices[choice->count++] = all[i];
}

/* 0; SNT_EUNSUPPORTED without a word: one device is enough. */
int rails_choose(const struct snti_transport *rails, const char *names, int local_only, struct rails_choice *choice)
{
	struct snti_device all[DEVICES];
	int by_itself, count, of_verbs = rails == &snti_rails_verbs_transport, is_told = names != NULL;

	memset(choice, 0, sizeof(*choice));
	choice->under = snti_rails_under(rails);
	if (!names)
		names = snti_settings()->rails;
	by_itself = !strcmp(names, "auto");
	if (!*names || !strcmp(names, "off") || (by_itself && local_only))
		return SNT_EUNSUPPORTED;
	/* Whoever opens a port on devices knows whose they are; the setting is for both kinds of rails. */
	if (!is_told && ((of_verbs && !snti_has_rdma()) || (!by_itself && are_rdma(names) != of_verbs)))
		return SNT_EUNSUPPORTED;
	count = choice->under->devices(all, DEVICES);
	if (count < 0)
		return count;
	if (!by_itself)
		return choose_named(names, all, count, is_told, choice);
	choose_by_itself(all, count, choice);
	return choice->count > 1 ? 0 : SNT_EUNSUPPORTED;
}

static int choose_quietly(const struct snti_transport *rails, int local_only, struct rails_choice *choice)
{
	int status;

	snti_fail_quietly(1);
	status = rails_choose(rails, NULL, local_only, choice);
	snti_fail_quietly(0);
	return status;
}

/* What somebody named and cannot be had is wanted all the same: opening it says what is wrong. */
static int is_wanted(int status)
{
	return !status || (status == SNT_EINVAL && strcmp(snti_settings()->rails, "auto"));
}

int snti_rails_wanted(const struct snti_transport *rails, int local_only)
{
	struct rails_choice choice;

	return is_wanted(choose_quietly(rails, local_only, &choice));
}

/* Only RDMA ports are asked about in the automatic order: interfaces are there for whoever has nothing else. */
int rails_verbs_offers(char *text, size_t size)
{
	struct snti_device rails;
	int status = choose_quietly(&snti_rails_verbs_transport, 0, &(struct rails_choice){ .count = 0 });

	if (!is_wanted(status)) {
		snprintf(text, size, "fewer than two RDMA ports to use at once");
		return SNT_EUNSUPPORTED;
	}
	if (rails_verbs_devices(&rails, 1) == 1)
		snprintf(text, size, "%s, %d Mbit/s in all", rails.name, rails.speed_mbps);
	else
		snprintf(text, size, "SNT_RAILS is %s, not all of which are up", snti_settings()->rails);
	return 0;
}

/* All of them as one device. */
static int devices_of(const struct snti_transport *rails, struct snti_device *devices, int most)
{
	struct rails_choice choice;
	size_t used = 0;
	int status = choose_quietly(rails, 0, &choice);

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

int rails_devices(struct snti_device *devices, int most)
{
	return devices_of(&snti_rails_transport, devices, most);
}

int rails_verbs_devices(struct snti_device *devices, int most)
{
	return devices_of(&snti_rails_verbs_transport, devices, most);
}

/* From here on to the end of these, all that rails have to know about what is underneath. */
void rails_widen(const struct snti_transport *under, struct snti_address *to, const struct snti_address *from)
{
	if (under == &snti_tcp_transport)
		tcp_address_join(to, from);
}

int rails_shorten(const char *under, struct snti_address *address)
{
	return strncmp(under, snti_tcp_transport.name, 8) ? -1 : tcp_address_shorten(address);
}

void rails_prepare(const struct snti_transport *under, struct snti_port_options *options)
{
	options->own_interface = 1;
	/* Every receive is there before its chunk is asked for, so that leave to send it would only be one more round trip, behind
	 * all the data on its way. What is never held takes no memory. */
	options->eager = under == &snti_tcp_transport ? RAILS_SLOTS * RAILS_CHUNK + RAILS_BYTES : 0;
}

void rails_narrow(const struct snti_transport *under, struct snti_port *port)
{
	if (under == &snti_tcp_transport)
		((struct tcp_port *)port)->sockets = 1;
}

void rails_net(const struct snti_transport *under, const struct snti_port *port, const char *device, unsigned char net[RAILS_NET])
{
	memset(net, 0, RAILS_NET);
	if (under == &snti_tcp_transport)
		tcp_network(device, net, RAILS_NET);
	else
		verbs_rail_network(port, net, RAILS_NET);
}

int rails_is_down(const struct snti_transport *under, const struct snti_port *port)
{
	return under == &snti_verbs_transport && verbs_rail_is_down(port);
}

int rails_rests(const struct snti_transport *under, struct snti_port *port)
{
	return under == &snti_verbs_transport && verbs_rail_rests(port);
}

int rails_is_near(const struct snti_transport *under, const struct snti_port *port, const struct snti_address *theirs)
{
	return under == &snti_verbs_transport && verbs_rail_is_near(port, theirs);
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
