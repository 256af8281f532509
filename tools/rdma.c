/* SPDX-License-Identifier: BSD-3-Clause */
/* rdma.c - what the system says about RDMA devices, for 'sennit doctor' and 'sennit info'; needs no library. */
#include "tools/command.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEVICES "/sys/class/infiniband"
#define NODES "/dev/infiniband"
#define TABLE_MOST 256            /* entries of a GID or P_Key table that are looked at */

void snti_read_line(char *text, size_t size, const char *root, const char *format, ...)
{
	char name[400], file[800];
	va_list list;
	FILE *from;

	va_start(list, format);
	vsnprintf(name, sizeof name, format, list);
	va_end(list);
	snprintf(file, sizeof file, "%s%s", root, name);
	*text = 0;
	from = fopen(file, "re");
	if (!from)
		return;
	if (!fgets(text, (int)size, from))
		*text = 0;
	text[strcspn(text, "\n")] = 0;
	fclose(from);
}

static DIR *open_folder(const char *root, const char *name)
{
	char folder[600];

	snprintf(folder, sizeof folder, "%s%s", root, name);
	return opendir(folder);
}

/* An address with nothing in its second half is an empty place of the table. */
static void look_at_gids(struct snti_rdma_port *port, const char *root)
{
	for (int i = 0; i < TABLE_MOST; i++) {
		char gid[64], type[32], interface[32];

		snti_read_line(gid, sizeof gid, root, DEVICES "/%s/ports/%d/gids/%d", port->device, port->number, i);
		if (!*gid)
			return;
		if (strlen(gid) < 39 || !strcmp(gid + 20, "0000:0000:0000:0000"))
			continue;
		port->gids++;
		snti_read_line(type, sizeof type, root, DEVICES "/%s/ports/%d/gid_attrs/types/%d", port->device, port->number, i);
		snti_read_line(interface, sizeof interface, root, DEVICES "/%s/ports/%d/gid_attrs/ndevs/%d", port->device,
			       port->number, i);
		if (*interface && !*port->interface)
			memcpy(port->interface, interface, sizeof port->interface);
		if (strcmp(type, "RoCE v2"))
			continue;
		port->routable++;
		port->ipv4 += !strncmp(gid, "0000:0000:0000:0000:0000:ffff:", 30);
	}
}

static void look_at_pkeys(struct snti_rdma_port *port, const char *root)
{
	for (int i = 0; i < TABLE_MOST; i++) {
		char text[16];
		unsigned long key;

		snti_read_line(text, sizeof text, root, DEVICES "/%s/ports/%d/pkeys/%d", port->device, port->number, i);
		if (!*text)
			return;
		key = strtoul(text, NULL, 16);
		port->pkeys += (key & 0x7fff) != 0;
		port->full += key > 0x8000;
	}
}

/* A device whose GID table is empty still has an interface, of the same hardware. */
static void find_interface(struct snti_rdma_port *port, const char *root)
{
	char folder[200];
	DIR *all;

	snprintf(folder, sizeof folder, DEVICES "/%.64s/device/net", port->device);
	all = *port->interface ? NULL : open_folder(root, folder);
	for (struct dirent *entry; all && (entry = readdir(all));)
		if (entry->d_name[0] != '.')
			snprintf(port->interface, sizeof port->interface, "%.31s", entry->d_name);
	if (all)
		closedir(all);
}

static void look_at_port(struct snti_rdma *rdma, const char *root, const char *device, const char *number)
{
	struct snti_rdma_port one = { .number = atoi(number) }, *port = &one;
	char text[64];

	snprintf(port->device, sizeof port->device, "%.63s", device);
	snti_read_line(port->state, sizeof port->state, root, DEVICES "/%s/ports/%d/state", port->device, port->number);
	snti_read_line(port->physical, sizeof port->physical, root, DEVICES "/%s/ports/%d/phys_state", port->device, port->number);
	snti_read_line(port->rate, sizeof port->rate, root, DEVICES "/%s/ports/%d/rate", port->device, port->number);
	snti_read_line(text, sizeof text, root, DEVICES "/%s/ports/%d/link_layer", port->device, port->number);
	port->is_active = strstr(port->state, "ACTIVE") != NULL;
	port->is_ethernet = !strcmp(text, "Ethernet");
	look_at_gids(port, root);
	look_at_pkeys(port, root);
	find_interface(port, root);
	snti_read_line(text, sizeof text, root, "/sys/class/net/%s/mtu", port->interface);
	port->mtu = atol(text);
	if (port->is_active && !rdma->active++)
		snprintf(rdma->first, sizeof rdma->first, "%.63s port %d, %.60s", one.device, one.number,
			 *one.rate ? one.rate : "rate not known");
	if (rdma->count < SNTI_RDMA_PORTS)
		rdma->ports[rdma->count++] = one;
}

static void look_at_device(struct snti_rdma *rdma, const char *root, const char *device)
{
	char folder[300];
	DIR *ports;

	rdma->devices++;
	snprintf(folder, sizeof folder, DEVICES "/%.200s/ports", device);
	ports = open_folder(root, folder);
	for (struct dirent *entry; ports && (entry = readdir(ports));)
		if (entry->d_name[0] != '.')
			look_at_port(rdma, root, device, entry->d_name);
	if (ports)
		closedir(ports);
}

static void look_at_nodes(struct snti_rdma *rdma, const char *root)
{
	DIR *nodes = open_folder(root, NODES);

	for (struct dirent *entry; nodes && (entry = readdir(nodes));) {
		char file[900];

		if (strncmp(entry->d_name, "uverbs", 6))
			continue;
		rdma->nodes++;
		snprintf(file, sizeof file, "%.500s" NODES "/%.200s", root, entry->d_name);
		rdma->closed += access(file, R_OK | W_OK) != 0;
	}
	if (nodes)
		closedir(nodes);
}

void snti_rdma_look(struct snti_rdma *rdma, const char *root)
{
	DIR *devices = open_folder(root, DEVICES);
	void *library = dlopen("libibverbs.so.1", RTLD_LAZY | RTLD_LOCAL);

	memset(rdma, 0, sizeof *rdma);
	rdma->library = library != NULL;
	if (library)
		dlclose(library);
	for (struct dirent *entry; devices && (entry = readdir(devices));)
		if (entry->d_name[0] != '.')
			look_at_device(rdma, root, entry->d_name);
	if (devices)
		closedir(devices);
	look_at_nodes(rdma, root);
}
