/* SPDX-License-Identifier: BSD-3-Clause */
/* devices.c - the transport and its devices, found once, as our settings or NCCL's say; and what NCCL is told of them. */
#include "plugins/nccl/core.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/settings.h"

#if defined(__has_include) && __has_include("revision.h")
#include "revision.h"
#endif
#ifndef SNT_REVISION
#define SNT_REVISION "unknown"
#endif

/* Never freed: NCCL keeps the names. Physical ones, then those that NCCL had merged; none changes once it is counted. */
static struct snti_nccl_device devices[SNTI_NCCL_DEVICES + SNTI_NCCL_VIRTUAL];
static atomic_int device_count;
static const struct snti_transport *transport;
static char aside[sizeof devices[0].wire.interface];    /* where wires that are no interfaces talk beside; "": anywhere */

/* ---- which devices ---------------------------------------------------------- */

/* Our own setting was seen to by the transport. Without any, what is left unless there is nothing else. */
static int may_use_interface(const struct snti_device *device, const char *list, int last_resort)
{
	if (*snti_settings()->interfaces)
		return 1;
	if (*list && *list != '^')
		return snti_nccl_fits(list, device->name, 0, NULL);
	return (!*list || snti_nccl_fits(list, device->name, 0, NULL)) && device->is_last_resort <= last_resort;
}

static int may_use_port(const struct snti_device *device, const char *list, struct snti_nccl_place *place)
{
	char name[sizeof device->name];

	if (*snti_settings()->verbs_devices || !*list)
		return 1;
	snprintf(name, sizeof name, "%.*s", (int)strcspn(device->name, ":"), device->name);
	return snti_nccl_fits(list, name, device->number, place);
}

static const char *variable(const char *name)
{
	const char *text = getenv(name);

	return text ? text : "";
}

static int choose(const struct snti_device *all, int count, struct snti_device *chosen, struct snti_nccl_place *where)
{
	const char *interfaces = variable("NCCL_SOCKET_IFNAME"), *ports = variable("NCCL_IB_HCA");
	int found = 0;

	for (int last_resort = 0; last_resort < 2 && !found; last_resort++)
		for (int i = 0; i < count; i++) {
			where[found] = (struct snti_nccl_place){ -1, -1 };
			if (*all[i].interface ? !may_use_interface(&all[i], interfaces, last_resort)
					      : !may_use_port(&all[i], ports, &where[found]))
				continue;
			chosen[found++] = all[i];
		}
	if (found)
		return found;
	return *all[0].interface ? snti_fail(SNT_EINVAL, "no interface fits NCCL_SOCKET_IFNAME '%s'", interfaces)
				 : snti_fail(SNT_EINVAL, "no RDMA port that is up fits NCCL_IB_HCA '%s'", ports);
}

static int find_devices(const struct snti_transport *of, struct snti_device *chosen, struct snti_nccl_place *where)
{
	struct snti_device all[SNTI_NCCL_DEVICES];
	int count = of->devices ? of->devices(all, SNTI_NCCL_DEVICES) : SNT_EUNSUPPORTED;

	return count <= 0 ? count : choose(all, count, chosen, where);
}

/* ---- where they are ---------------------------------------------------------- */

static int is_pci(const char *path)
{
	char link[PATH_MAX], target[PATH_MAX];
	ssize_t length;

	snprintf(link, sizeof link, "%s/subsystem", path);
	length = readlink(link, target, sizeof target - 1);
	if (length < 0)
		return 0;
	target[length] = 0;
	return strrchr(target, '/') && !strcmp(strrchr(target, '/'), "/pci");
}

/* The function on the PCI bus: a virtio device, for one, is below it. */
static void find_pci(struct snti_nccl_device *device)
{
	char *path = device->pci_path, *slash;

	memcpy(device->pci_path, device->wire.path, sizeof device->pci_path);
	while (*path && !is_pci(path)) {
		slash = strrchr(path, '/');
		*(slash ? slash : path) = 0;
	}
}

/* ---- which transport -------------------------------------------------------- */

/* By itself RDMA before TCP, and UCX only for RDMA that verbs cannot use; nothing is loaded where no RDMA is. */
static int is_worth_trying(const struct snti_transport *one)
{
	if (one == &snti_tcp_transport)
		return 1;
	if (one != &snti_verbs_transport && one != &snti_ucx_transport)
		return 0;
	return strcmp(variable("NCCL_IB_DISABLE"), "1") && (one == &snti_verbs_transport || !access("/sys/class/infiniband", F_OK));
}

/* 0: its devices are ours. */
static int take(const struct snti_transport *one, int is_asked_for)
{
	struct snti_nccl_place places[SNTI_NCCL_DEVICES];
	struct snti_device chosen[SNTI_NCCL_DEVICES];
	int count = find_devices(one, chosen, places);

	if (count > 0 && !is_asked_for && one == &snti_ucx_transport && *chosen[0].interface)
		return SNT_EUNSUPPORTED;
	if (count <= 0)
		return count ? count : SNT_EDEVICE;
	transport = one;
	for (int i = 0; i < count; i++) {
		devices[i] = (struct snti_nccl_device){ .wire = chosen[i], .place = places[i],
			.members = { .count = 1, .devices = { i } } };
		memcpy(devices[i].name, chosen[i].name, sizeof chosen[i].name);
		find_pci(&devices[i]);
	}
	atomic_store(&device_count, count);
	return 0;
}

static int none_left(const char *list, int status, int tried)
{
	if (tried)
		return status;
	return snti_fail(SNT_EINVAL, "'%s' has no transport between hosts: allow tcp", list);
}

/* Shared memory is NCCL's own matter. All devices are of one transport: a port of one does not reach one of another. */
static int find_transport(void)
{
	const char *own = snti_settings()->nccl_transports;
	const char *asked = *own ? own : snti_settings()->transports;
	char list[256], *save = NULL;
	int status = 0, tried = 0;

	asked = strcmp(asked, "auto") ? asked : "";
	snprintf(list, sizeof list, "%s", *asked ? asked : "verbs,ucx,tcp");
	for (char *name = strtok_r(list, ", ", &save); name; name = strtok_r(NULL, ", ", &save)) {
		const struct snti_transport *one = snti_transport_find(name);

		if (!one)
			return snti_fail(SNT_EINVAL, "no transport is named '%s'", name);
		if (one->within_host || (!*asked && !is_worth_trying(one)))
			continue;
		tried = 1;
		status = take(one, *asked != 0);
		if (!status)
			return 0;
		snti_nccl_log(NCCL_LOG_INFO, "not over %s: %s", name, snt_error_text());
	}
	return none_left(asked, status, tried);
}

/* As NCCL has it: one interface for what is said beside RDMA. */
static void find_aside(void)
{
	struct snti_device interfaces[SNTI_NCCL_DEVICES];
	struct snti_nccl_place unused[SNTI_NCCL_DEVICES];

	if (!*devices[0].wire.interface && find_devices(&snti_tcp_transport, interfaces, unused) > 0)
		strcpy(aside, interfaces[0].name);
}

/* ---- what NCCL is told ------------------------------------------------------- */

static void say_what_is_used(void)
{
	char text[400] = "";
	size_t used = 0;

	for (int i = 0; i < device_count && used < sizeof text; i++)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? " " : "", devices[i].name);
	snti_nccl_log(NCCL_LOG_INFO, "sennit %s (%s) over %s: %s", snt_version(), SNT_REVISION, transport->name, text);
	if (*aside)
		snti_nccl_log(NCCL_LOG_INFO, "connections are arranged over %s", aside);
}

int snti_nccl_find_devices(void)
{
	int status;

	if (device_count)
		return 0;
	snti_nccl_adopt_settings();
	status = find_transport();
	if (status)
		return status;
	find_aside();
	snti_nccl_find_gpus(transport, devices, device_count);
	say_what_is_used();
	return 0;
}

int snti_nccl_devices(int *count)
{
	*count = atomic_load(&device_count);
	return NCCL_SUCCESS;
}

const struct snti_nccl_device *snti_nccl_device(int device)
{
	return device >= 0 && device < atomic_load(&device_count) ? &devices[device] : NULL;
}

int snti_nccl_add_device(const struct snti_nccl_device *device)
{
	int index = atomic_load(&device_count);

	if (index == SNTI_NCCL_DEVICES + SNTI_NCCL_VIRTUAL)
		return -1;
	devices[index] = *device;
	atomic_store(&device_count, index + 1);
	return index;
}

int snti_nccl_index(const struct snti_nccl_device *device)
{
	return (int)(device - devices);
}

const struct snti_transport *snti_nccl_transport(void)
{
	return transport;
}

const char *snti_nccl_aside(const struct snti_nccl_device *device)
{
	const char *name = *device->wire.interface ? device->wire.interface : aside;

	return *name ? name : NULL;
}

/* What is not known is what NCCL itself takes it to be. */
int snti_nccl_speed(const struct snti_nccl_device *device)
{
	return device->wire.speed_mbps ? device->wire.speed_mbps : 10000;
}

int snti_nccl_properties(int index, struct nccl_properties_v12 *properties)
{
	const struct snti_nccl_device *device = snti_nccl_device(index);

	memset(properties, 0, sizeof *properties);
	if (!device) {
		snti_nccl_log(NCCL_LOG_WARN, "there is no device %d", index);
		return NCCL_INVALID_ARGUMENT;
	}
	properties->name = (char *)(uintptr_t)device->name;
	properties->pci_path = *device->pci_path ? (char *)(uintptr_t)device->pci_path : NULL;
	properties->guid = device->wire.guid;
	properties->pointers = NCCL_PTR_HOST | (device->takes_gpus ? NCCL_PTR_CUDA | NCCL_PTR_DMABUF : 0);
	properties->speed = snti_nccl_speed(device);
	properties->port = device->wire.number;
	properties->max_comms = 65536;
	properties->max_recvs = NCCL_MAX_RECVS;
	properties->members = device->members;
	properties->max_p2p = properties->max_collective = SNTI_NCCL_MOST_BYTES;
	properties->max_multi_request = 1;
	properties->rail = (int16_t)device->place.rail;
	properties->plane = (int16_t)device->place.plane;
	return NCCL_SUCCESS;
}
