/* SPDX-License-Identifier: BSD-3-Clause */
/* rdma.c - what the system says about RDMA devices, for 'sennit doctor' and 'sennit info'; needs no library. */
#include "tools/command.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEVICES "/sys/class/infiniband"
#define NODES "/dev/infiniband"

/* The first line of @file without its end; "" when there is none. */
static void read_line(const char *file, char *text, size_t size)
{
	FILE *from = fopen(file, "re");

	*text = 0;
	if (!from)
		return;
	if (!fgets(text, (int)size, from))
		*text = 0;
	text[strcspn(text, "\n")] = 0;
	fclose(from);
}

static void look_at_port(struct snti_rdma *rdma, const char *device, const char *port)
{
	char file[600], state[64], rate[64];

	snprintf(file, sizeof file, DEVICES "/%.200s/ports/%.20s/state", device, port);
	read_line(file, state, sizeof state);
	if (!strstr(state, "ACTIVE"))
		return;
	rdma->active++;
	if (rdma->active > 1)
		return;
	snprintf(file, sizeof file, DEVICES "/%.200s/ports/%.20s/rate", device, port);
	read_line(file, rate, sizeof rate);
	snprintf(rdma->first, sizeof rdma->first, "%.64s port %.8s, %.60s", device, port, *rate ? rate : "rate not known");
}

static void look_at_device(struct snti_rdma *rdma, const char *device)
{
	char folder[600];
	DIR *ports;

	rdma->devices++;
	snprintf(folder, sizeof folder, DEVICES "/%.200s/ports", device);
	ports = opendir(folder);
	for (struct dirent *entry; ports && (entry = readdir(ports));)
		if (entry->d_name[0] != '.')
			look_at_port(rdma, device, entry->d_name);
	if (ports)
		closedir(ports);
}

static void look_at_nodes(struct snti_rdma *rdma)
{
	DIR *nodes = opendir(NODES);

	for (struct dirent *entry; nodes && (entry = readdir(nodes));) {
		char file[300];

		if (strncmp(entry->d_name, "uverbs", 6))
			continue;
		rdma->nodes++;
		snprintf(file, sizeof file, NODES "/%.200s", entry->d_name);
		rdma->closed += access(file, R_OK | W_OK) != 0;
	}
	if (nodes)
		closedir(nodes);
}

void snti_rdma_look(struct snti_rdma *rdma)
{
	DIR *devices = opendir(DEVICES);
	void *library = dlopen("libibverbs.so.1", RTLD_LAZY | RTLD_LOCAL);

	memset(rdma, 0, sizeof *rdma);
	rdma->library = library != NULL;
	if (library)
		dlclose(library);
	for (struct dirent *entry; devices && (entry = readdir(devices));)
		if (entry->d_name[0] != '.')
			look_at_device(rdma, entry->d_name);
	if (devices)
		closedir(devices);
	look_at_nodes(rdma);
}
