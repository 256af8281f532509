/* SPDX-License-Identifier: BSD-3-Clause */
/* scenarios_merge.c - two devices as one: what may be merged, what it is then, and traffic over it, also when one side alone has. */
#include "tests/nccl_host/host.h"

#include <string.h>

static int count_devices(struct host_rank *rank)
{
	int count;

	host_must(rank, host_devices(&rank->net, &count), "devices");
	return count;
}

static void must_refuse(struct host_rank *rank, const char *what, int count, const int *members)
{
	int device, before = count_devices(rank);

	if (host_merge(&rank->net, &device, members, count) == NCCL_SUCCESS)
		host_fail(rank, "makeVDevice takes %s", what);
	if (count_devices(rank) != before)
		host_fail(rank, "makeVDevice refuses %s and there is a device more", what);
	host_forget_warnings();
}

static void refusals(struct host_rank *rank, int devices)
{
	must_refuse(rank, "no devices at all", 0, (int[]){ 0 });
	must_refuse(rank, "fewer than none", -1, (int[]){ 0 });
	must_refuse(rank, "more than there is room for", 9, (int[]){ 0, 1, 2, 3, 4, 5, 6, 7 });
	must_refuse(rank, "one device twice", 2, (int[]){ 0, 0 });
	must_refuse(rank, "an unknown device", 2, (int[]){ 0, devices });
	must_refuse(rank, "a negative device", 2, (int[]){ -1, 0 });
}

static int has_member(const struct nccl_virtual_8 *members, int device)
{
	return members->devices[0] == device || members->devices[1] == device;
}

static void check_merged(struct host_rank *rank, int merged, int devices)
{
	struct nccl_properties_v12 it, one;
	int speed = 0;

	if (merged < devices || count_devices(rank) != devices + 1)
		host_fail(rank, "the merged device is %d, of %d physical ones and %d in all", merged, devices, count_devices(rank));
	host_must(rank, host_properties(&rank->net, merged, &it), "getProperties of the merged device");
	if (it.members.count != 2 || !has_member(&it.members, 0) || !has_member(&it.members, 1))
		host_fail(rank, "vProps of the merged device names others");
	for (int i = 0; i < devices; i++) {
		host_must(rank, host_properties(&rank->net, i, &one), "getProperties");
		speed += i < 2 ? one.speed : 0;
		if (!strcmp(one.name, it.name))
			host_fail(rank, "the merged device is named as device %d, %s", i, one.name);
	}
	if (it.speed != speed)
		host_fail(rank, "the merged device has speed %d, its members together %d", it.speed, speed);
}

/* What NCCL does with it is what it does with any other; sizes that go in one piece and in many. */
static void exchange(struct host_rank *rank, int device, uint64_t seed)
{
	struct host_shape shape = { .seed = rank->seed + seed, .groups = 60, .depth = 8, .most_parts = 3,
		.sizes = host_sizes, .size_count = host_size_count, .short_percent = 20, .empty_percent = 5 };
	struct host_link link;

	rank->device = device;
	rank->is_merged = 1;
	host_connect_pair(rank, rank->context, &link);
	host_exchange(rank, &link, &shape);
	host_barrier(rank);
	host_close_pair(rank, &link);
}

static void use(struct host_rank *rank, int merged)
{
	int single = rank->device;

	exchange(rank, merged, 50);
	exchange(rank, rank->rank ? single : merged, 51);
	exchange(rank, rank->rank ? merged : single, 52);
	rank->device = single;
}

/* A plugin need not merge, but must not warn of it either; with one device there is nothing to merge. */
void host_scenario_merge(struct host_rank *rank)
{
	int devices, merged;

	host_begin(rank);
	devices = count_devices(rank);
	if (host_can_merge(&rank->net)) {
		refusals(rank, devices);
		if (devices > 1 && host_merge(&rank->net, &merged, (int[]){ 0, 1 }, 2) == NCCL_SUCCESS) {
			check_merged(rank, merged, devices);
			must_refuse(rank, "a device that is merged already", 2, (int[]){ 0, merged });
			use(rank, merged);
		}
	}
	host_end(rank);
}
