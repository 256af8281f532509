/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_device.c - the network interfaces of this host, as devices. */
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/settings.h"
#include "transport/tcp.h"

static int read_text(const char *interface, const char *file, char *text, size_t room)
{
	char path[128];
	FILE *from;
	int had;

	snprintf(path, sizeof path, "/sys/class/net/%s/%s", interface, file);
	from = fopen(path, "re");
	had = from && fgets(text, (int)room, from);
	if (from)
		fclose(from);
	return had ? 0 : -1;
}

static long read_number(const char *interface, const char *file, int base)
{
	char text[64];

	return read_text(interface, file, text, sizeof text) ? 0 : strtol(text, NULL, base);
}

/* "02:fc:00:00:00:01" as a number. */
static uint64_t read_guid(const char *interface)
{
	char text[128] = "";
	uint64_t guid = 0;

	if (read_text(interface, "address", text, sizeof text))
		return 0;
	for (char *at = text; *at && *at != '\n'; at += *at == ':')
		guid = guid << 8 | (strtoul(at, &at, 16) & 0xff);
	return guid;
}

static void describe(struct snti_device *device, const struct ifaddrs *one)
{
	char path[128], real[PATH_MAX];
	long speed = read_number(one->ifa_name, "speed", 10);

	*device = (struct snti_device){ .guid = read_guid(one->ifa_name), .speed_mbps = speed > 0 ? (int)speed : 0,
		.number = (int)read_number(one->ifa_name, "dev_port", 10) + 1,
		.is_loopback = (one->ifa_flags & IFF_LOOPBACK) != 0 };
	snprintf(device->name, sizeof device->name, "%s", one->ifa_name);
	strcpy(device->interface, device->name);
	snprintf(path, sizeof path, "/sys/class/net/%s/device", one->ifa_name);
	if (realpath(path, real) && strlen(real) < sizeof device->path)
		strcpy(device->path, real);
}

/* Bridges join what runs on this host, such as containers: other hosts have the same addresses on theirs. */
static int is_bridge(const char *interface)
{
	char path[128];

	snprintf(path, sizeof path, "/sys/class/net/%s/bridge", interface);
	return !access(path, F_OK);
}

static int is_known(const struct snti_device *devices, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(devices[i].name, name))
			return 1;
	return 0;
}

static int add_wanted(struct snti_device *devices, int count, int most, const struct ifaddrs *all, const char *want)
{
	for (const struct ifaddrs *one = all; one && count < most; one = one->ifa_next)
		if (tcp_is_wanted(one, want) && !is_known(devices, count, one->ifa_name))
			describe(&devices[count++], one);
	return count;
}

/* Loopback and bridges come last. */
static int add_all(struct snti_device *devices, int most, const struct ifaddrs *all)
{
	int count = 0;

	for (int last = 0; last < 2; last++)
		for (const struct ifaddrs *one = all; one && count < most; one = one->ifa_next) {
			int is_last = is_bridge(one->ifa_name) || (one->ifa_flags & IFF_LOOPBACK) != 0;

			if (is_last != last || !tcp_is_chosen(one, "") || is_known(devices, count, one->ifa_name))
				continue;
			describe(&devices[count], one);
			devices[count++].is_last_resort = last;
		}
	return count;
}

static int add_named(struct snti_device *devices, int most, const struct ifaddrs *all, const char *names)
{
	char copy[256], *save = NULL;
	int count = 0;

	snprintf(copy, sizeof copy, "%s", names);
	for (char *name = strtok_r(copy, ", ", &save); name; name = strtok_r(NULL, ", ", &save))
		count = add_wanted(devices, count, most, all, name);
	return count;
}

int tcp_devices(struct snti_device *devices, int most)
{
	const char *names = snti_settings()->interfaces;
	struct ifaddrs *all;
	int count;

	if (getifaddrs(&all))
		return snti_fail(SNT_EDEVICE, "tcp: no list of network interfaces: %m");
	count = *names ? add_named(devices, most, all, names) : add_all(devices, most, all);
	freeifaddrs(all);
	if (count)
		return count;
	return *names ? snti_fail(SNT_EINVAL, "tcp: no interface that is up matches SNT_INTERFACES '%s'", names)
		      : snti_fail(SNT_EDEVICE, "tcp: no interface is up with an address");
}
