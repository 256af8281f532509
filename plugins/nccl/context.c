/* SPDX-License-Identifier: BSD-3-Clause */
/* context.c - the transport and its devices, found once; contexts, and the comms that belong to each. */
#include "plugins/nccl/core.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"

#if defined(__has_include) && __has_include("revision.h")
#include "revision.h"
#endif
#ifndef SNT_REVISION
#define SNT_REVISION "unknown"
#endif

static pthread_mutex_t world = PTHREAD_MUTEX_INITIALIZER;
/* Never freed: NCCL keeps the names. */
static struct snti_device devices[SNTI_NCCL_DEVICES];
static char pci_paths[SNTI_NCCL_DEVICES][sizeof devices[0].path];
static int device_count;
static const struct snti_transport *transport;

/* ---- devices ------------------------------------------------------------- */

/* NCCL's grammar: "eth,ib" are beginnings of names, "=eth0" is a whole one, "^docker" is what shall not be. */
static int is_asked_for(const char *name, const char *list)
{
	char copy[256], *save = NULL;
	int is_not = *list == '^', is_exact, found = 0;

	list += is_not;
	is_exact = *list == '=';
	snprintf(copy, sizeof copy, "%s", list + is_exact);
	for (char *word = strtok_r(copy, ",", &save); word && !found; word = strtok_r(NULL, ",", &save))
		found = is_exact ? !strcmp(name, word) : !strncmp(name, word, strlen(word));
	return found != is_not;
}

/* Our own setting was seen to by the transport. Without any, what is left unless there is nothing else. */
static int may_use(const struct snti_device *device, const char *list, int last_resort)
{
	if (*snti_settings()->interfaces)
		return 1;
	if (*list && *list != '^')
		return is_asked_for(device->name, list);
	return (!*list || is_asked_for(device->name, list)) && device->is_last_resort <= last_resort;
}

static int choose_devices(const struct snti_device *all, int count, const char *list)
{
	for (int last_resort = 0; last_resort < 2 && !device_count; last_resort++)
		for (int i = 0; i < count; i++)
			if (may_use(&all[i], list, last_resort))
				devices[device_count++] = all[i];
	return device_count ? 0 : snti_fail(SNT_EINVAL, "no interface fits NCCL_SOCKET_IFNAME '%s'", list);
}

static int find_devices(void)
{
	struct snti_device all[SNTI_NCCL_DEVICES] = { { .name = "" } };
	const char *list = getenv("NCCL_SOCKET_IFNAME");
	int count = 1;

	if (transport->devices)
		count = transport->devices(all, SNTI_NCCL_DEVICES);
	else
		snprintf(all[0].name, sizeof all[0].name, "%s", transport->name);
	if (count < 0)
		return count;
	return choose_devices(all, count, list && !strcmp(transport->name, "tcp") ? list : "");
}

/* Shared memory is NCCL's own matter. */
static int find_transport(void)
{
	struct snti_order order;
	int status = snti_order_read(snti_settings()->transports, &order);

	if (status)
		return status;
	for (uint32_t i = 0; i < order.count; i++) {
		const struct snti_transport *one = snti_transports[order.index[i]];

		/* By itself only what is there everywhere, as peers may choose otherwise. */
		if (one->within_host || (order.is_automatic && one->offers))
			continue;
		transport = one;
		return 0;
	}
	return snti_fail(SNT_EINVAL, "SNT_TRANSPORTS '%s' has no transport between hosts: allow tcp",
			 snti_settings()->transports);
}

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
static void find_pci(int device)
{
	char *path = pci_paths[device], *slash;

	strcpy(path, devices[device].path);
	while (*path && !is_pci(path)) {
		slash = strrchr(path, '/');
		*(slash ? slash : path) = 0;
	}
}

static void say_what_is_used(void)
{
	char text[400] = "";
	size_t used = 0;

	for (int i = 0; i < device_count && used < sizeof text; i++)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? " " : "", devices[i].name);
	snti_nccl_log(NCCL_LOG_INFO, "sennit %s (%s) over %s: %s", snt_version(), SNT_REVISION, transport->name, text);
}

static int find_once(void)
{
	int status = 0;

	if (device_count)
		return 0;
	status = find_transport();
	if (!status)
		status = find_devices();
	if (status)
		return status;
	for (int i = 0; i < device_count; i++)
		find_pci(i);
	say_what_is_used();
	return 0;
}

int snti_nccl_devices(int *count)
{
	*count = device_count;
	return NCCL_SUCCESS;
}

const struct snti_device *snti_nccl_device(int device)
{
	return device >= 0 && device < device_count ? &devices[device] : NULL;
}

const struct snti_transport *snti_nccl_transport(void)
{
	return transport;
}

int snti_nccl_properties(int index, struct nccl_properties_v12 *properties)
{
	const struct snti_device *device = snti_nccl_device(index);

	memset(properties, 0, sizeof *properties);
	if (!device) {
		snti_nccl_log(NCCL_LOG_WARN, "there is no device %d", index);
		return NCCL_INVALID_ARGUMENT;
	}
	properties->name = (char *)device->name;
	properties->pci_path = *pci_paths[index] ? pci_paths[index] : NULL;
	properties->guid = device->guid;
	properties->pointers = NCCL_PTR_HOST;
	properties->speed = device->speed_mbps ? device->speed_mbps : 10000;    /* as NCCL itself takes it to be */
	properties->port = device->number;
	properties->max_comms = 65536;
	properties->max_recvs = NCCL_MAX_RECVS;
	properties->members = (struct nccl_virtual_8){ .count = 1, .devices = { index } };
	properties->max_p2p = properties->max_collective = SNTI_NCCL_MOST_BYTES;
	properties->max_multi_request = 1;
	properties->rail = properties->plane = -1;
	return NCCL_SUCCESS;
}

/* ---- contexts ------------------------------------------------------------ */

static int init_locked(struct snti_nccl_context **context)
{
	int status = find_once();

	if (status)
		return status;
	*context = calloc(1, sizeof **context);
	if (!*context)
		return snti_fail(SNT_ENOMEM, "no memory for a communicator");
	return 0;
}

int snti_nccl_init(struct snti_nccl_context **context, int traffic_class, nccl_logger logger, nccl_profiler profiler)
{
	int status;

	*context = NULL;
	snti_nccl_set_logger(logger);
	pthread_mutex_lock(&world);
	status = init_locked(context);
	pthread_mutex_unlock(&world);
	if (status) {
		snti_nccl_log(NCCL_LOG_WARN, "cannot be used: %s", snt_error_text());
		return snti_nccl_result(status);
	}
	snti_list_init(&(*context)->comms);
	(*context)->users = 1;
	(*context)->traffic_class = traffic_class;
	(*context)->profiler = profiler;
	return NCCL_SUCCESS;
}

static void let_go(struct snti_nccl_context *context)
{
	if (--context->users == 0)
		free(context);
}

void snti_nccl_join(struct snti_nccl_context *context, struct snti_nccl_comm *comm)
{
	pthread_mutex_lock(&world);
	comm->context = context;
	context->users++;
	snti_list_append(&context->comms, &comm->link);
	pthread_mutex_unlock(&world);
}

static void leave_locked(struct snti_nccl_comm *comm)
{
	snti_list_remove(&comm->link);
	let_go(comm->context);
}

void snti_nccl_leave(struct snti_nccl_comm *comm)
{
	pthread_mutex_lock(&world);
	leave_locked(comm);
	pthread_mutex_unlock(&world);
}

struct snti_nccl_comm *snti_nccl_find(struct snti_nccl_context *context, uint64_t ident)
{
	struct snti_nccl_comm *found = NULL;

	pthread_mutex_lock(&world);
	snti_list_each(link, &context->comms) {
		struct snti_nccl_comm *comm = snti_container(link, struct snti_nccl_comm, link);

		if (comm->kind == SNTI_NCCL_CONNECTS && comm->ident == ident)
			found = comm;
	}
	pthread_mutex_unlock(&world);
	return found;
}

struct snti_nccl_comm *snti_nccl_forgotten(struct snti_nccl_context *context)
{
	struct snti_nccl_comm *found = NULL;

	pthread_mutex_lock(&world);
	snti_list_each(link, &context->comms) {
		struct snti_nccl_comm *comm = snti_container(link, struct snti_nccl_comm, link);

		if (comm->kind == SNTI_NCCL_CONNECTS && snti_is_past(comm->deadline))
			found = comm;
	}
	pthread_mutex_unlock(&world);
	return found;
}

int snti_nccl_finalize(struct snti_nccl_context *context)
{
	struct snti_link half, *link, *next;

	if (!context)
		return NCCL_SUCCESS;
	snti_list_init(&half);
	pthread_mutex_lock(&world);
	for (link = context->comms.next; link != &context->comms; link = next) {
		struct snti_nccl_comm *comm = snti_container(link, struct snti_nccl_comm, link);

		next = link->next;
		if (comm->kind != SNTI_NCCL_LISTENS && comm->kind != SNTI_NCCL_CONNECTS)
			continue;
		leave_locked(comm);
		snti_list_append(&half, &comm->link);
	}
	let_go(context);
	pthread_mutex_unlock(&world);
	while (!snti_list_empty(&half)) {
		link = half.next;
		snti_list_remove(link);
		snti_nccl_free(snti_container(link, struct snti_nccl_comm, link));
	}
	return NCCL_SUCCESS;
}
