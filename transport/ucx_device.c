/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_device.c - what UCX may use here: RDMA ports that are up, or else the network interfaces. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/tcp.h"
#include "transport/ucx.h"

#define RDMA "/sys/class/infiniband"

static int read_text(const char *device, const char *file, char *text, size_t room)
{
	char path[PATH_MAX];
	FILE *from;
	int had;

	snprintf(path, sizeof path, RDMA "/%s/%s", device, file);
	from = fopen(path, "re");
	had = from && fgets(text, (int)room, from);
	if (from)
		fclose(from);
	return had ? 0 : -1;
}

/* "0002:c903:00a0:1234" as a number. */
static uint64_t read_guid(const char *device)
{
	char text[64] = "";
	uint64_t guid = 0;

	if (read_text(device, "sys_image_guid", text, sizeof text))
		return 0;
	for (char *at = text; *at && *at != '\n'; at += *at == ':')
		guid = guid << 16 | (strtoul(at, &at, 16) & 0xffff);
	return guid;
}

/* Whether the user's own UCX_NET_DEVICES has it. */
static int is_wanted(const char *name)
{
	const char *list = getenv("UCX_NET_DEVICES");
	char copy[512], *save = NULL;

	if (!list || !strcmp(list, "all"))
		return 1;
	snprintf(copy, sizeof copy, "%s", list);
	for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save))
		if (!strcmp(word, name))
			return 1;
	return 0;
}

static int add_port(struct snti_device *to, const char *device, int port)
{
	char file[64], text[64] = "", path[PATH_MAX], real[PATH_MAX];

	snprintf(file, sizeof file, "ports/%d/state", port);
	if (read_text(device, file, text, sizeof text) || !strstr(text, "ACTIVE"))
		return 0;
	*to = (struct snti_device){ .guid = read_guid(device), .number = port };
	snprintf(to->name, sizeof to->name, "%.27s:%u", device, (uint8_t)port);
	snprintf(file, sizeof file, "ports/%d/rate", port);
	if (!read_text(device, file, text, sizeof text))
		to->speed_mbps = (int)(strtod(text, NULL) * 1000);
	snprintf(path, sizeof path, RDMA "/%s/device", device);
	if (realpath(path, real) && strlen(real) < sizeof to->path)
		strcpy(to->path, real);
	return is_wanted(to->name);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct snti_device *)a)->name, ((const struct snti_device *)b)->name);
}

static int rdma_ports(struct snti_device *devices, int most)
{
	DIR *folder = opendir(RDMA);
	struct dirent *entry;
	int count = 0;

	while (folder && (entry = readdir(folder)))
		for (int port = 1; port <= 2 && count < most && entry->d_name[0] != '.'; port++)
			count += add_port(&devices[count], entry->d_name, port);
	if (folder)
		closedir(folder);
	qsort(devices, (size_t)count, sizeof *devices, by_name);
	return count;
}

static int interfaces(struct snti_device *devices, int most)
{
	int all = tcp_devices(devices, most), count = 0;

	for (int i = 0; i < all; i++)
		if (is_wanted(devices[i].name))
			devices[count++] = devices[i];
	if (all > 0 && !count)
		return snti_fail(SNT_EINVAL, "ucx: no device that is up is in UCX_NET_DEVICES '%s'", getenv("UCX_NET_DEVICES"));
	return all < 0 ? all : count;
}

int ucx_devices(struct snti_device *devices, int most)
{
	int status = ucx_load(), count;

	if (status)
		return status;
	count = rdma_ports(devices, most);
	return count ? count : interfaces(devices, most);
}
