/* SPDX-License-Identifier: BSD-3-Clause */
/* scenarios_merge.c - two devices as one: what may be merged, what it is then, and traffic over it, also when one side alone has;
 * and a sender that sleeps after its sends.
 */
#include "tests/nccl_host/host.h"

#include <string.h>
#include <time.h>

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
		host_barrier(rank);     /* the devices are both ranks' where they are one process */
		if (devices > 1 && host_merge(&rank->net, &merged, (int[]){ 0, 1 }, 2) == NCCL_SUCCESS) {
			host_barrier(rank);
			check_merged(rank, merged, devices);
			must_refuse(rank, "a device that is merged already", 2, (int[]){ 0, merged });
			host_barrier(rank);
			use(rank, merged);
		}
	}
	host_end(rank);
}

/* ---- one side sleeps -------------------------------------------------------------- */

enum { NAPS = 4, NAP_MS = 2000, LATE_MS = 1500 };

static void wait_for(struct host_rank *rank, void *request)
{
	uint64_t start = host_now_ns();
	int done = 0;

	while (!done) {
		host_must(rank, host_test(&rank->net, request, &done, NULL), "test");
		if (host_now_ns() - start > 2 * HOST_WAIT_MS * 1000000ull)
			host_fail(rank, "a message never comes");
	}
}

static void send_and_sleep(struct host_rank *rank, void *comm, uint64_t *word)
{
	void *memory, *request;

	host_must(rank, host_register(&rank->net, comm, word, sizeof *word, &memory), "regMr");
	for (int i = 0; i < NAPS; i++) {
		*word = host_now_ns();
		do
			host_must(rank, host_isend(&rank->net, comm, word, sizeof *word, 1, memory, &request), "isend");
		while (!request);
		wait_for(rank, request);
		nanosleep(&(struct timespec){ .tv_sec = NAP_MS / 1000 }, NULL);
	}
	host_must(rank, host_deregister(&rank->net, comm, memory), "deregMr");
}

static void receive_in_time(struct host_rank *rank, void *comm, uint64_t *word)
{
	struct host_buffers b = { .count = 1, .data = { word }, .sizes = { sizeof *word }, .tags = { 1 } };
	void *request;

	host_must(rank, host_register(&rank->net, comm, word, sizeof *word, &b.memories[0]), "regMr");
	for (int i = 0; i < NAPS; i++) {
		uint64_t late_ms;

		host_must(rank, host_irecv(&rank->net, comm, &b, &request), "irecv");
		wait_for(rank, request);
		late_ms = (host_now_ns() - *word) / 1000000;
		if (late_ms > LATE_MS)
			host_fail(rank, "message %d came after %llu ms", i, (unsigned long long)late_ms);
	}
	host_must(rank, host_deregister(&rank->net, comm, b.memories[0]), "deregMr");
}

/* The sender calls nothing once its send is done; what it sent has to arrive all the same. */
void host_scenario_naps(struct host_rank *rank)
{
	struct host_link link;
	uint64_t word = 0;

	host_begin(rank);
	host_connect_pair(rank, rank->context, &link);
	if (rank->rank)
		receive_in_time(rank, link.recv, &word);
	else
		send_and_sleep(rank, link.send, &word);
	host_barrier(rank);
	host_close_pair(rank, &link);
	host_end(rank);
}
