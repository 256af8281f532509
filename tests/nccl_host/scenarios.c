/* SPDX-License-Identifier: BSD-3-Clause */
/* scenarios.c - what a job does when all is well: devices, connections, transfers, registration, schedules. */
#include "tests/nccl_host/host.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t small_sizes[] = { 16, 64, 256, 1024, 4096, 16384 };
static const size_t group_sizes[] = { 16, 512, 8192, 65536, 131072 };

/* ---- devices ------------------------------------------------------------------- */

static void check_properties(struct host_rank *rank, int device, const struct nccl_properties_v12 *p)
{
	if (!p->name || !*p->name)
		host_fail(rank, "device %d has no name", device);
	if (!(p->pointers & NCCL_PTR_HOST))
		host_fail(rank, "device %d does not take host memory", device);
	if (p->device_type)
		host_fail(rank, "device %d is of type %d, which needs CUDA", device, p->device_type);
	if (p->max_recvs < 1 || p->max_recvs > NCCL_MAX_RECVS)
		host_fail(rank, "device %d: maxRecvs is %d", device, p->max_recvs);
	if (!p->max_p2p || p->max_p2p > (size_t)1 << 40 || !p->max_collective || p->max_collective > (size_t)1 << 40)
		host_fail(rank, "device %d: maxP2pBytes or maxCollBytes is 0 or beyond 1 TiB", device);
	if (rank->version >= 9 && (p->members.count != 1 || p->members.devices[0] != device))
		host_fail(rank, "device %d: vProps does not name the device itself", device);
	if (!(p->latency >= 0) || p->speed < 0 || p->max_comms < 1)
		host_fail(rank, "device %d: latency, speed or maxComms make no sense", device);
}

static void check_devices(struct host_rank *rank)
{
	struct nccl_properties_v12 first, again, other;
	int count = 0x5a5a5a5a;

	host_must(rank, host_devices(&rank->net, &count), "devices");
	if (count < 1 || count > 1000)
		host_fail(rank, "%d devices", count);
	for (int i = 0; i < count; i++) {
		host_must(rank, host_properties(&rank->net, i, &first), "getProperties");
		host_must(rank, host_properties(&rank->net, i, &again), "getProperties");
		check_properties(rank, i, &first);
		if (strcmp(first.name, again.name) || first.speed != again.speed || first.guid != again.guid)
			host_fail(rank, "device %d changes from call to call", i);
		for (int j = 0; j < i; j++) {
			host_must(rank, host_properties(&rank->net, j, &other), "getProperties");
			if (!strcmp(first.name, other.name))
				host_fail(rank, "devices %d and %d are both named %s", j, i, first.name);
		}
	}
}

static void scenario_devices(struct host_rank *rank)
{
	static const char *const taken[] = { "IB", "Socket" };

	for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
		if (!rank->net.name || !strcmp(rank->net.name, taken[i]))
			host_fail(rank, "its name is missing or NCCL's own");
	for (int i = 0; i < 3; i++) {
		host_begin(rank);
		check_devices(rank);
		host_end(rank);
	}
}

/* ---- connections ----------------------------------------------------------------- */

static void scenario_connect(struct host_rank *rank)
{
	struct host_link link;

	for (int i = 0; i < 5; i++) {
		host_begin(rank);
		host_connect_pair(rank, rank->context, &link);
		host_barrier(rank);
		host_close_pair(rank, &link);
		host_end(rank);
	}
}

/* ---- transfers --------------------------------------------------------------------- */

static void run_shape(struct host_rank *rank, const struct host_shape *shape)
{
	struct host_link link;

	host_begin(rank);
	host_connect_pair(rank, rank->context, &link);
	host_exchange(rank, &link, shape);
	host_barrier(rank);
	if (host_events_open())
		host_fail(rank, "%d events of the profiler are not stopped", host_events_open());
	host_close_pair(rank, &link);
	host_end(rank);
}

static void scenario_pipeline(struct host_rank *rank)
{
	run_shape(rank, &(struct host_shape){ .seed = rank->seed, .groups = 100, .depth = 8, .most_parts = 1,
		.sizes = host_sizes, .size_count = host_size_count });
}

static void scenario_grouped(struct host_rank *rank)
{
	run_shape(rank, &(struct host_shape){ .seed = rank->seed + 1, .groups = 60, .depth = 8,
		.most_parts = NCCL_MAX_RECVS, .sizes = group_sizes, .size_count = 5 });
}

static void scenario_short(struct host_rank *rank)
{
	run_shape(rank, &(struct host_shape){ .seed = rank->seed + 2, .groups = 100, .depth = 8, .most_parts = 3,
		.sizes = group_sizes, .size_count = 5, .short_percent = 60, .empty_percent = 25 });
}

/* ---- two threads ---------------------------------------------------------------------- */

/* The service thread registers and deregisters while the progress thread transfers, on the same comms. */
static void register_much(struct host_rank *rank, const struct host_link *link, const pthread_t *until)
{
	char buffer[8192];

	while (pthread_tryjoin_np(*until, NULL))
		for (int i = 0; i < 20; i++) {
			void *comm = i % 2 ? link->send : link->recv, *memory;

			host_must(rank, host_register(&rank->net, comm, buffer + i, 4096, &memory), "regMr");
			host_must(rank, host_deregister(&rank->net, comm, memory), "deregMr");
		}
}

static void scenario_register(struct host_rank *rank)
{
	struct host_shape shape = { .seed = rank->seed + 3, .groups = 150, .depth = 8, .most_parts = 1,
		.sizes = host_sizes, .size_count = 9 };
	struct host_flow flows[2];
	struct host_work work = { .rank = rank, .flows = flows, .count = 2 };
	struct host_link link;
	pthread_t thread;

	host_begin(rank);
	host_connect_pair(rank, rank->context, &link);
	host_flow_open(&flows[0], rank, link.send, 1, &shape);
	host_flow_open(&flows[1], rank, link.recv, 0, &shape);
	if (pthread_create(&thread, NULL, host_work_thread, &work))
		host_fail(rank, "no thread");
	register_much(rank, &link, &thread);
	host_flow_close(&flows[0]);
	host_flow_close(&flows[1]);
	host_barrier(rank);
	host_close_pair(rank, &link);
	host_end(rank);
}

/* Two communicators, each with its own context, channels and progress thread, while this thread makes a third. */
enum { COMMUNICATORS = 2, CHANNELS = 3 };

static void scenario_channels(struct host_rank *rank)
{
	struct host_shape shape = { .groups = 40, .depth = 8, .most_parts = 2, .sizes = group_sizes, .size_count = 5,
		.short_percent = 30 };
	struct host_flow flows[COMMUNICATORS][CHANNELS * 2];
	struct host_link links[COMMUNICATORS][CHANNELS], extra;
	struct host_work work[COMMUNICATORS];
	void *contexts[COMMUNICATORS];
	pthread_t threads[COMMUNICATORS];

	for (int c = 0; c < COMMUNICATORS; c++) {
		host_must(rank, host_init(&rank->net, &contexts[c], host_log), "init");
		for (int i = 0; i < CHANNELS; i++) {
			host_connect_pair(rank, contexts[c], &links[c][i]);
			shape.seed = rank->seed * 77 + (uint64_t)(c * CHANNELS + i);
			host_flow_open(&flows[c][i * 2], rank, links[c][i].send, 1, &shape);
			host_flow_open(&flows[c][i * 2 + 1], rank, links[c][i].recv, 0, &shape);
		}
		work[c] = (struct host_work){ .rank = rank, .flows = flows[c], .count = CHANNELS * 2 };
		if (pthread_create(&threads[c], NULL, host_work_thread, &work[c]))
			host_fail(rank, "no thread");
	}
	host_begin(rank);
	for (int i = 0; i < 3; i++) {
		host_connect_pair(rank, rank->context, &extra);
		host_barrier(rank);
		host_close_pair(rank, &extra);
	}
	for (int c = 0; c < COMMUNICATORS; c++) {
		pthread_join(threads[c], NULL);
		for (int i = 0; i < CHANNELS * 2; i++)
			host_flow_close(&flows[c][i]);
		host_barrier(rank);
		for (int i = 0; i < CHANNELS; i++)
			host_close_pair(rank, &links[c][i]);
		host_must(rank, host_finalize(&rank->net, contexts[c]), "finalize");
	}
	host_end(rank);
}

/* ---- full ---------------------------------------------------------------------------- */

enum { MOST_POSTED = 4096, LEAST_POSTED = 32 };

/* Receives until there is no room: that is no error, and all that were taken come to their end. */
static void fill_up(struct host_rank *rank, void *comm, void *memory, int *values)
{
	static void *requests[MOST_POSTED];
	uint64_t start = host_now_ns();
	int posted = 0, done, size;

	for (; posted < MOST_POSTED; posted++) {
		struct host_buffers b = { .count = 1, .data = { &values[posted] }, .sizes = { sizeof *values }, .tags = { 1 },
			.memories = { memory } };

		host_must(rank, host_irecv(&rank->net, comm, &b, &requests[posted]), "irecv of one too many");
		if (!requests[posted])
			break;
	}
	if (posted < LEAST_POSTED)
		host_fail(rank, "only %d receives at once, NCCL needs %d", posted, LEAST_POSTED);
	host_swap(rank, &posted, &done, sizeof posted);
	for (int i = 0; i < posted; i++) {
		do {
			host_must(rank, host_test(&rank->net, requests[i], &done, &size), "test");
			if (host_now_ns() - start > HOST_WAIT_MS * 1000000ull)
				host_fail(rank, "receive %d of %d never ends", i, posted);
		} while (!done);
		if (values[i] != i)
			host_fail(rank, "receive %d has the value of another", i);
	}
}

static void send_as_many(struct host_rank *rank, void *comm, void *memory, int *values)
{
	uint64_t start = host_now_ns();
	int mine = 0, count, done;
	void *request;

	host_swap(rank, &mine, &count, sizeof count);
	for (int i = 0; i < count; i++) {
		values[i] = i;
		do {
			host_must(rank, host_isend(&rank->net, comm, &values[i], sizeof *values, 1, memory, &request), "isend");
			if (host_now_ns() - start > HOST_WAIT_MS * 1000000ull)
				host_fail(rank, "send %d of %d is never taken", i, count);
		} while (!request);
		do
			host_must(rank, host_test(&rank->net, request, &done, NULL), "test");
		while (!done);
	}
}

static void scenario_full(struct host_rank *rank)
{
	static int both[2][MOST_POSTED];
	int *values = both[rank->rank];
	struct host_link link;
	void *memory, *comm;

	host_begin(rank);
	host_connect_pair(rank, rank->context, &link);
	comm = rank->rank ? link.send : link.recv;
	host_must(rank, host_register(&rank->net, comm, values, sizeof both[0], &memory), "regMr");
	if (rank->rank)
		send_as_many(rank, comm, memory, values);
	else
		fill_up(rank, comm, memory, values);
	host_must(rank, host_deregister(&rank->net, comm, memory), "deregMr");
	host_barrier(rank);
	host_close_pair(rank, &link);
	host_end(rank);
}

/* ---- schedules ------------------------------------------------------------------------ */

static void one_schedule(struct host_rank *rank, uint64_t seed)
{
	uint64_t random = seed;
	struct host_shape shape = { .seed = seed, .groups = 1 + host_random(&random) % 12,
		.depth = 1 + (int)(host_random(&random) % 8), .most_parts = 1 + (int)(host_random(&random) % NCCL_MAX_RECVS),
		.sizes = host_random(&random) % 4 ? small_sizes : group_sizes, .size_count = 5,
		.short_percent = (int)(host_random(&random) % 60), .empty_percent = (int)(host_random(&random) % 30) };
	struct host_link link;

	host_connect_pair(rank, rank->context, &link);
	host_exchange(rank, &link, &shape);
	/* Sometimes one side is gone long before the other. */
	if (host_random(&random) % 2)
		host_barrier(rank);
	host_close_pair(rank, &link);
}

void host_scenario_schedules(struct host_rank *rank)
{
	host_begin(rank);
	for (uint64_t i = 0; i < rank->options->schedules; i++) {
		one_schedule(rank, rank->seed + i);
		if (host_warnings())
			host_fail(rank, "schedule %llu warns", (unsigned long long)(rank->seed + i));
	}
	host_end(rank);
}

/* Memory and descriptors stay what they are, however many messages there were. */
static size_t own_memory(void)
{
	size_t pages = 0, resident = 0;
	FILE *from = fopen("/proc/self/statm", "re");

	if (from) {
		if (fscanf(from, "%zu %zu", &pages, &resident) != 2)
			resident = 0;
		fclose(from);
	}
	return resident * 4096;
}

enum { SETTLE_MS = 10000 };

static void scenario_soak(struct host_rank *rank)
{
	uint64_t each = rank->options->messages / 10;
	struct host_shape shape = { .seed = rank->seed + 9, .groups = each ? each : 1, .depth = 8, .most_parts = 1,
		.sizes = small_sizes, .size_count = 5, .short_percent = 20 };
	int descriptors = 0;
	size_t memory = 0;
	struct host_link link;

	host_begin(rank);
	host_connect_pair(rank, rank->context, &link);
	for (int i = 0; i < 10; i++) {
		host_exchange(rank, &link, &shape);
		if (i == 1) {
			descriptors = host_descriptors();
			memory = own_memory();
		}
	}
	/* A rail that is cut is dialed again, which takes some for a while; between two attempts they are given back. */
	for (int i = 0; i < SETTLE_MS && host_descriptors() > descriptors; i++)
		usleep(1000);
	if (host_descriptors() > descriptors)
		host_fail(rank, "%d descriptors instead of %d", host_descriptors(), descriptors);
	if (own_memory() > memory + (2 << 20))
		host_fail(rank, "%zu bytes of memory instead of %zu", own_memory(), memory);
	host_barrier(rank);
	host_close_pair(rank, &link);
	host_end(rank);
}

const struct host_scenario host_scenarios[] = {
	{ "devices", "init, devices, properties, three times over", scenario_devices, 0, 0 },
	{ "connect", "connect and accept in turn on one thread, both ways", scenario_connect, 0, 0 },
	{ "pipeline", "8 in flight both ways, sizes of LL, LL128, p2p and collectives", scenario_pipeline, 0, 0 },
	{ "grouped", "receives of up to 8 buffers, tags in another order", scenario_grouped, 0, 0 },
	{ "short", "sends of nothing and of less than is received", scenario_short, 0, 0 },
	{ "register", "registration on one thread while data flows on another", scenario_register, 0, 0 },
	{ "channels", "two communicators, each with a progress thread and three channels", scenario_channels, 0, 0 },
	{ "hints", "setNetAttr before connections and while data flows", host_scenario_hints, 0, 0 },
	{ "full", "receives until none is taken, then all of them end", scenario_full, 0, 0 },
	{ "gpu", "memory of a GPU, where the device says that it takes it", host_scenario_gpu, 0, 0 },
	{ "merge", "two devices made one, on both sides and on one alone", host_scenario_merge, 0, 0 },
	{ "farewell", "one side closes while the other still tests", host_scenario_farewell, 0, 0 },
	{ "abort", "memory deregistered and comms closed with work in flight", host_scenario_abort, 0, 0 },
	{ "frozen", "the same while the other process is stopped: nobody waits for it", host_scenario_frozen, 0, 1 },
	{ "abandon", "connects and listens that nobody finishes, then finalize", host_scenario_abandon, 0, 1 },
	{ "cycles", "dlopen to dlclose with a connection in between, ten times", host_scenario_cycles, 0, 1 },
	{ "death", "the other process ends: an error, soon, and one warning", host_scenario_death, 0, 1 },
	{ "foreign", "the handle of another network: an error and one warning", host_scenario_foreign, 0, 1 },
	{ "fork", "a process forked while data flows ends as any other", host_scenario_fork, 0, 1 },
	{ "schedules", "random shapes of traffic, one after another by seed", host_scenario_schedules, 0, 0 },
	{ "class", "with --traffic-class: all sockets of a connection have it", host_scenario_class, 1, 1 },
	{ "kin", "handles of other versions and builds of sennit's own plugin", host_scenario_kin, 1, 1 },
	{ "silence", "an idle receive, while somebody else cuts the link", host_scenario_silence, 1, 1 },
	{ "naps", "who sends sleeps, while somebody else cuts links in turns", host_scenario_naps, 1, 1 },
	{ "soak", "many messages (--messages): memory and descriptors stay", scenario_soak, 1, 1 },
};
const int host_scenario_count = sizeof host_scenarios / sizeof *host_scenarios;
