/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_device.c - which device, port and GID: right by itself, and what the settings say. */
#include "transport/verbs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/settings.h"

#define GIDS 256

int verbs_gid_is_ipv4(const union ibv_gid *gid)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(gid->raw, mapped, sizeof(mapped));
}

const char *verbs_gid_text(const union ibv_gid *gid, char text[VERBS_GID_TEXT])
{
	int mapped = verbs_gid_is_ipv4(gid);

	if (!inet_ntop(mapped ? AF_INET : AF_INET6, gid->raw + (mapped ? 12 : 0), text, VERBS_GID_TEXT))
		strcpy(text, "?");
	return text;
}

/* RoCE v2 over IPv4 is what fabrics route and classify; a link-local address goes no farther than a switch. */
static int gid_worth(const struct ibv_gid_entry *entry)
{
	const unsigned char *raw = entry->gid.raw;
	int worth;

	if (!entry->gid.global.interface_id && !entry->gid.global.subnet_prefix)
		return 0;
	if (entry->gid_type == IBV_GID_TYPE_IB)
		return 100 - (entry->gid_index < 50 ? (int)entry->gid_index : 50);
	worth = entry->gid_type == IBV_GID_TYPE_ROCE_V2 ? 20 : 10;
	if (verbs_gid_is_ipv4(&entry->gid))
		return worth + (raw[12] == 169 && raw[13] == 254 ? 3 : 5);
	return worth + (raw[0] == 0xfe && (raw[1] & 0xc0) == 0x80 ? 1 : 4);
}

/* @wanted -1: the best. */
static int choose_gid(struct verbs_device *device, long wanted)
{
	struct ibv_gid_entry *all = calloc(GIDS, sizeof(*all));
	ssize_t count = all ? verbs_calls._ibv_query_gid_table(device->context, all, GIDS, 0, sizeof(*all)) : 0;
	int best = 0;

	for (ssize_t i = 0; i < count; i++) {
		int worth = gid_worth(&all[i]);

		if (all[i].port_num != device->port || (wanted >= 0 && all[i].gid_index != (unsigned long)wanted))
			continue;
		if (worth > best) {
			best = worth;
			device->gid = all[i];
			device->gid_index = (uint8_t)all[i].gid_index;
		}
	}
	free(all);
	return best ? 0 : SNT_EDEVICE;
}

int verbs_device_refresh(struct verbs_device *device)
{
	const char *text = snti_settings()->verbs_gid;

	memset(&device->attr, 0, sizeof(device->attr));
	if (verbs_calls.ibv_query_port(device->context, device->port,
				       (struct _compat_ibv_port_attr *)(void *)&device->attr) ||
	    device->attr.state != IBV_PORT_ACTIVE)
		return SNT_EDEVICE;
	return choose_gid(device, *text ? strtol(text, NULL, 10) : -1);
}

/* Whether "mlx5_0,mlx5_1:2" has this port in it; empty has all. */
static int is_allowed(const char *list, const char *name, int port)
{
	if (!*list)
		return 1;
	while (*list) {
		size_t length = strcspn(list, ", "), device = strcspn(list, ":, ");

		if (device == strlen(name) && !memcmp(list, name, device) &&
		    (device == length || strtol(list + device + 1, NULL, 10) == port))
			return 1;
		list += length + (list[length] != 0);
	}
	return 0;
}

uint32_t verbs_device_mbps(const struct verbs_device *device)
{
	static const unsigned widths[] = { [1] = 1, [2] = 4, [4] = 8, [8] = 12, [16] = 2 };
	static const unsigned speeds[] = { [1] = 25, [2] = 50, [4] = 100, [8] = 103, [16] = 141, [32] = 258, [64] = 531, [128] = 1063 };
	uint8_t width = device->attr.active_width, speed = device->attr.active_speed;

	return (width <= 16 ? widths[width] : 1) * (speed <= 128 ? speeds[speed] : 1) * 100;
}

/* The port's rate when it can be used; then @device is filled in, except that it is kept open only if it wins. */
static uint64_t consider(struct verbs_device *device, uint8_t port, const char *allowed)
{
	device->port = port;
	if (!is_allowed(allowed, device->name, port) || verbs_device_refresh(device))
		return 0;
	/* An address that can be routed counts for more than a faster port without. */
	return 1 + verbs_device_mbps(device) + ((uint64_t)gid_worth(&device->gid) << 32);
}

/* iWARP has no write with immediate data, which is how the end of data is told. */
static int is_iwarp(struct ibv_device *from)
{
	if (from->transport_type != IBV_TRANSPORT_IWARP)
		return 0;
	snti_log(SNT_LOG_INFO, "verbs: %s is not used: iWARP has no write with immediate data", verbs_calls.ibv_get_device_name(from));
	return 1;
}

static int look_into(struct ibv_device *from, struct verbs_device *device)
{
	*device = (struct verbs_device){ .context = is_iwarp(from) ? NULL : verbs_calls.ibv_open_device(from) };
	if (!device->context)
		return -1;
	snprintf(device->name, sizeof(device->name), "%s", verbs_calls.ibv_get_device_name(from));
	if (verbs_calls.ibv_query_device(device->context, &device->limits) || device->limits.max_srq < 1)
		device->limits.phys_port_cnt = 0;
	return 0;
}

static uint64_t consider_device(struct ibv_device *from, struct verbs_device *best, uint64_t worth, const char *allowed)
{
	struct verbs_device device;
	int kept = 0;

	if (look_into(from, &device))
		return worth;
	for (uint8_t port = 1; port <= device.limits.phys_port_cnt; port++) {
		uint64_t mine = consider(&device, port, allowed);

		if (mine <= worth)
			continue;
		if (!kept)
			verbs_device_close(best);
		*best = device;
		worth = mine;
		kept = 1;
	}
	if (!kept)
		verbs_calls.ibv_close_device(device.context);
	return worth;
}

static void read_settings(struct verbs_device *device, const uint8_t *class)
{
	uint64_t adaptive = snti_settings()->verbs_adaptive;
	int is_ethernet = device->attr.link_layer == IBV_LINK_LAYER_ETHERNET;

	device->unordered = adaptive == 2 ? !is_ethernet : adaptive == 1;
	device->inline_most = 220;
	device->traffic_class = (uint8_t)snti_settings()->verbs_class;
	device->level = (uint8_t)snti_settings()->verbs_level;
	device->is_marked = class != NULL;
	if (class && is_ethernet)
		device->traffic_class = *class;
	else if (class)
		device->level = *class & 15;
}

/* The library's list, or NULL with the reason in @text. */
static struct ibv_device **list_devices(int *count, char *text, size_t size)
{
	struct ibv_device **list;
	const char *why;

	*count = 0;
	if (verbs_load(&why)) {
		snprintf(text, size, "%s", why);
		return NULL;
	}
	list = verbs_calls.ibv_get_device_list(count);
	if (list && *count)
		return list;
	if (list)
		verbs_calls.ibv_free_device_list(list);
	snprintf(text, size, "no RDMA device");
	return NULL;
}

static void no_port(int count, const char *allowed, char *text, size_t size)
{
	snprintf(text, size, "none of %d RDMA devices has an active port with a GID%s%s", count,
		 *allowed ? " that is in SNT_VERBS_DEVICES: " : "; 'sennit doctor' says more", allowed);
}

/* What there is, or why there is nothing, is in @text. */
static int find_device(struct verbs_device *device, const char *allowed, char *text, size_t size)
{
	char gid[VERBS_GID_TEXT];
	uint64_t worth = 0;
	int count;
	struct ibv_device **list = list_devices(&count, text, size);

	if (!list)
		return SNT_EUNSUPPORTED;
	for (int i = 0; i < count; i++)
		worth = consider_device(list[i], device, worth, allowed);
	verbs_calls.ibv_free_device_list(list);
	if (worth)
		snprintf(text, size, "%s port %u, %s", device->name, device->port, verbs_gid_text(&device->gid.gid, gid));
	else
		no_port(count, allowed, text, size);
	return worth ? 0 : SNT_EUNSUPPORTED;
}

int verbs_device_open(struct verbs_device *device, const struct snti_port_options *options)
{
	char text[300];
	int status = find_device(device, options->device ? options->device : snti_settings()->verbs_devices, text, sizeof text);

	if (status && options->device)
		return snti_fail(SNT_EDEVICE, "verbs: %s is not up with a GID any more", options->device);
	if (status)
		return snti_fail(status, "verbs: %s", text);
	read_settings(device, options->traffic_class);
	return verbs_path_keys(device);
}

int verbs_offers(char *text, size_t size)
{
	struct verbs_device device = { .context = NULL };
	int status;

	if (!snti_has_rdma()) {
		snprintf(text, size, "no RDMA device");
		return SNT_EUNSUPPORTED;
	}
	status = find_device(&device, snti_settings()->verbs_devices, text, size);
	verbs_device_close(&device);
	if (status && *snti_settings()->verbs_devices)
		snti_log(SNT_LOG_WARN, "verbs: %s", text);
	return status;
}

static void describe(const struct verbs_device *device, struct snti_device *to)
{
	char path[128], real[PATH_MAX];

	*to = (struct snti_device){ .guid = device->limits.sys_image_guid, .number = device->port,
		.speed_mbps = (int)verbs_device_mbps(device) };
	/* The index among InfiniBand's GIDs is no reason to tell ports apart. */
	to->kind = device->gid.gid_type == IBV_GID_TYPE_IB ? 100 : gid_worth(&device->gid);
	if (device->limits.phys_port_cnt > 1)
		snprintf(to->name, sizeof(to->name), "%.27s:%u", device->name, device->port);
	else
		snprintf(to->name, sizeof(to->name), "%s", device->name);
	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/device", device->name);
	if (realpath(path, real) && strlen(real) < sizeof(to->path))
		strcpy(to->path, real);
}

int verbs_devices(struct snti_device *devices, int most)
{
	const char *allowed = snti_settings()->verbs_devices;
	struct verbs_device device;
	struct ibv_device **list;
	char text[300];
	int count, found = 0;

	list = list_devices(&count, text, sizeof text);
	if (!list)
		return snti_fail(SNT_EUNSUPPORTED, "verbs: %s", text);
	for (int i = 0; i < count; i++) {
		if (look_into(list[i], &device))
			continue;
		for (uint8_t port = 1; port <= device.limits.phys_port_cnt && found < most; port++)
			if (consider(&device, port, allowed))
				describe(&device, &devices[found++]);
		verbs_device_close(&device);
	}
	verbs_calls.ibv_free_device_list(list);
	if (found)
		return found;
	no_port(count, allowed, text, sizeof text);
	return snti_fail(SNT_EUNSUPPORTED, "verbs: %s", text);
}

void verbs_device_close(struct verbs_device *device)
{
	if (device->context)
		verbs_calls.ibv_close_device(device->context);
	device->context = NULL;
}
