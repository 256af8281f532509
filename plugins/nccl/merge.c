/* SPDX-License-Identifier: BSD-3-Clause */
/* merge.c - devices that NCCL has made into one: rails over all of them. */
#include "plugins/nccl/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t merging = PTHREAD_MUTEX_INITIALIZER;

const struct snti_transport *snti_nccl_rails(void)
{
	if (snti_nccl_transport() == &snti_verbs_transport)
		return &snti_rails_verbs_transport;
	return snti_nccl_transport() == &snti_tcp_transport ? &snti_rails_transport : NULL;
}

int snti_nccl_is_merged(const struct snti_nccl_device *device)
{
	return device->members.count > 1;
}

/* Members sorted, so that one set is one device in every process. */
static void insert(struct nccl_virtual_8 *sorted, int member)
{
	int at = sorted->count++;

	for (; at && sorted->devices[at - 1] > member; at--)
		sorted->devices[at] = sorted->devices[at - 1];
	sorted->devices[at] = member;
}

static int refuse(const char *why, int member)
{
	snti_nccl_log(NCCL_LOG_WARN, "devices cannot be merged: %d %s", member, why);
	return NCCL_INVALID_ARGUMENT;
}

static int check(const int *members, int count, struct nccl_virtual_8 *sorted)
{
	for (int i = 0; i < count; i++) {
		const struct snti_nccl_device *member = snti_nccl_device(members[i]);

		if (!member)
			return refuse("is no device", members[i]);
		if (snti_nccl_is_merged(member))
			return refuse("is one of several already", members[i]);
		/* Names are joined for the wire, which takes them apart again. */
		if (strpbrk(member->name, "+, "))
			return refuse("has a name that cannot be joined", members[i]);
		for (int k = 0; k < i; k++)
			if (members[k] == members[i])
				return refuse("is named twice", members[i]);
		insert(sorted, members[i]);
	}
	return NCCL_SUCCESS;
}

/* Its index, or -1: it has not been made yet. */
static int find(const struct nccl_virtual_8 *members)
{
	int count;

	snti_nccl_devices(&count);
	for (int i = 0; i < count; i++)
		if (!memcmp(&snti_nccl_device(i)->members, members, sizeof *members))
			return i;
	return -1;
}

static void join_names(struct snti_nccl_device *made)
{
	size_t used = 0;

	for (int i = 0; i < made->members.count && used < sizeof made->name; i++)
		used += (size_t)snprintf(made->name + used, sizeof made->name - used, "%s%s", i ? "+" : "",
					 snti_nccl_device(made->members.devices[i])->name);
}

/* As NCCL's own has it: where the first one is. */
static int make(const struct nccl_virtual_8 *members)
{
	struct snti_nccl_device made = *snti_nccl_device(members->devices[0]);

	made.members = *members;
	made.takes_gpus = 0;            /* rails copy what is small */
	made.wire.speed_mbps = 0;
	for (int i = 0; i < members->count; i++) {
		const struct snti_nccl_device *member = snti_nccl_device(members->devices[i]);

		made.wire.speed_mbps += snti_nccl_speed(member);
		made.wire.is_loopback &= member->wire.is_loopback;
		if (member->place.rail != made.place.rail)
			made.place.rail = -1;
		if (member->place.plane != made.place.plane)
			made.place.plane = -1;
	}
	join_names(&made);
	return snti_nccl_add_device(&made);
}

static int merge_locked(int *device, const struct nccl_virtual_8 *members)
{
	*device = find(members);
	if (*device >= 0)
		return NCCL_SUCCESS;
	*device = make(members);
	if (*device < 0) {
		snti_nccl_log(NCCL_LOG_WARN, "devices cannot be merged: there are %d merged ones already", SNTI_NCCL_VIRTUAL);
		return NCCL_INVALID_USAGE;
	}
	snti_nccl_log(NCCL_LOG_INFO, "device %d is %s", *device, snti_nccl_device(*device)->name);
	return NCCL_SUCCESS;
}

/* NCCL merges the ports of a card unasked, and would then copy what its GPUs send through the host's memory. */
static int would_lose_gpus(const struct nccl_virtual_8 *members)
{
	const char *forced = getenv("NCCL_NET_FORCE_MERGE");
	int takes_gpus = 0;

	for (int i = 0; i < members->count; i++)
		takes_gpus |= snti_nccl_device(members->devices[i])->takes_gpus;
	return takes_gpus && (!forced || !*forced);
}

/* NCCL goes on with devices that are not merged. */
static int decline(const struct nccl_virtual_8 *members)
{
	if (members->count < 2)
		return NCCL_SUCCESS;
	if (!snti_nccl_rails()) {
		snti_nccl_log(NCCL_LOG_INFO, "devices of %s are not merged: not supported yet", snti_nccl_transport()->name);
		return NCCL_INVALID_USAGE;
	}
	if (would_lose_gpus(members)) {
		snti_nccl_log(NCCL_LOG_INFO, "devices are not merged: they register memory of GPUs, several as one do not; "
			      "NCCL_NET_FORCE_MERGE merges them all the same");
		return NCCL_INVALID_USAGE;
	}
	return NCCL_SUCCESS;
}

int snti_nccl_merge(int *device, const int *members, int count)
{
	struct nccl_virtual_8 sorted = { .count = 0 };
	int result;

	*device = -1;
	if (count < 1 || count > SNTI_NCCL_MEMBERS) {
		snti_nccl_log(NCCL_LOG_INFO, "%d devices are not merged: 1 to %d can be", count, SNTI_NCCL_MEMBERS);
		return NCCL_INVALID_USAGE;
	}
	result = check(members, count, &sorted);
	if (!result)
		result = decline(&sorted);
	if (result)
		return result;
	pthread_mutex_lock(&merging);
	result = merge_locked(device, &sorted);
	pthread_mutex_unlock(&merging);
	return result;
}
