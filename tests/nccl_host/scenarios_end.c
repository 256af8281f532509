/* SPDX-License-Identifier: BSD-3-Clause */
/* scenarios_end.c - ends of all kinds: in order, in a hurry, of the other side, of a child, of what never began. */
#include "tests/nccl_host/host.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t big_sizes[] = { 4096, 524288, 1048576 };
static const size_t some_sizes[] = { 64, 4096, 65536, 131072 };

/* The sanitizers' own work at the end of a process knows nothing of threads that a fork left behind. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { SLACK_DESCRIPTORS = 4, SOON_MS = 10000 };

/* ---- in order ------------------------------------------------------------------ */

/* Rank 1 receives only, and rank 0 is gone as soon as its last send is done. */
void host_scenario_farewell(struct host_rank *rank)
{
	struct host_shape shape = { .seed = rank->seed + 4, .groups = 8, .depth = 8, .most_parts = 1, .sizes = some_sizes,
		.size_count = 4 };
	struct host_flow flow;
	struct host_work work = { .rank = rank, .flows = &flow, .count = 1 };
	struct host_link link;

	host_begin(rank);
	for (int i = 0; i < 20; i++) {
		host_connect_pair(rank, rank->context, &link);
		shape.seed++;
		host_flow_open(&flow, rank, rank->rank ? link.recv : link.send, !rank->rank, &shape);
		if (rank->rank)
			usleep(1000);
		host_work_run(&work);
		host_flow_close(&flow);
		host_close_pair(rank, &link);
	}
	host_end(rank);
}

/* ---- in a hurry ------------------------------------------------------------------ */

/* As ncclCommAbort does: the progress thread leaves, then all memory is deregistered, then all is closed. */
static void abort_once(struct host_rank *rank, uint64_t seed)
{
	uint64_t random = seed + 100 * (uint64_t)rank->rank;
	struct host_shape shape = { .seed = seed, .groups = 1000000, .depth = 8, .most_parts = 1, .sizes = big_sizes,
		.size_count = 3 };
	struct host_flow flows[2];
	struct host_work work = { .rank = rank, .flows = flows, .count = 2, .tolerant = 1 };
	struct host_link link;
	pthread_t thread;
	uint64_t start;

	host_connect_pair(rank, rank->context, &link);
	host_flow_open(&flows[0], rank, link.send, 1, &shape);
	host_flow_open(&flows[1], rank, link.recv, 0, &shape);
	if (pthread_create(&thread, NULL, host_work_thread, &work))
		host_fail(rank, "no thread");
	usleep(1000 + (useconds_t)(host_random(&random) % 20000));
	atomic_store(&work.stop, 1);
	pthread_join(thread, NULL);
	start = host_now_ns();
	/* The memory is gone right after: a write to it would be seen by the sanitizers. */
	host_flow_close(&flows[0]);
	host_flow_close(&flows[1]);
	host_close_pair(rank, &link);
	if (host_now_ns() - start > SOON_MS * 1000000ull)
		host_fail(rank, "the end of an aborted communicator takes %d s", SOON_MS / 1000);
}

void host_scenario_abort(struct host_rank *rank)
{
	struct host_link link;

	host_begin(rank);
	for (uint64_t i = 0; i < 8; i++) {
		abort_once(rank, rank->seed + i);
		host_barrier(rank);
	}
	/* Whoever is told first that the other has aborted may say so. */
	host_forget_warnings();
	host_connect_pair(rank, rank->context, &link);
	host_exchange(rank, &link, &(struct host_shape){ .seed = rank->seed, .groups = 20, .depth = 8, .most_parts = 1,
		.sizes = some_sizes, .size_count = 4 });
	host_barrier(rank);
	host_close_pair(rank, &link);
	host_end(rank);
}

enum { FROZEN_COMMS = 4, AT_ONCE_MS = 2000 };

/* Rank 1 is stopped in the middle, as by a debugger; rank 0 gives up and must not wait for it. How long that takes. */
static uint64_t abort_alone(struct host_rank *rank, struct host_link *links, struct host_work *work)
{
	uint64_t start;
	pthread_t thread;

	if (pthread_create(&thread, NULL, host_work_thread, work))
		host_fail(rank, "no thread");
	usleep(300000);
	atomic_store(&work->stop, 1);
	pthread_join(thread, NULL);
	start = host_now_ns();
	for (int i = 0; i < work->count; i++)
		host_flow_close(&work->flows[i]);
	for (int i = 0; i < FROZEN_COMMS; i++)
		host_close_pair(rank, &links[i]);
	return (host_now_ns() - start) / 1000000;
}

static void stop_in_the_middle(struct host_rank *rank, struct host_work *work)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, host_work_thread, work))
		host_fail(rank, "no thread");
	pthread_detach(thread);
	usleep(50000);
	raise(SIGSTOP);
	_exit(0);
}

void host_scenario_frozen(struct host_rank *rank)
{
	struct host_shape shape = { .seed = rank->seed, .groups = 1000000, .depth = 8, .most_parts = 1, .sizes = big_sizes,
		.size_count = 3 };
	struct host_flow flows[2 * FROZEN_COMMS];
	struct host_work work = { .rank = rank, .flows = flows, .count = 2 * FROZEN_COMMS, .tolerant = 1 };
	struct host_link links[FROZEN_COMMS];
	pid_t mine = getpid(), theirs;
	uint64_t took_ms;

	host_begin(rank);
	for (int i = 0; i < FROZEN_COMMS; i++) {
		host_connect_pair(rank, rank->context, &links[i]);
		host_flow_open(&flows[2 * i], rank, links[i].send, 1, &shape);
		host_flow_open(&flows[2 * i + 1], rank, links[i].recv, 0, &shape);
	}
	host_swap(rank, &mine, &theirs, sizeof mine);
	if (rank->rank)
		stop_in_the_middle(rank, &work);
	took_ms = abort_alone(rank, links, &work);
	kill(theirs, SIGCONT);
	if (took_ms > AT_ONCE_MS)
		host_fail(rank, "the end takes %llu ms when the other process is stopped", (unsigned long long)took_ms);
	host_forget_warnings();
	host_end(rank);
}

/* ---- what never began -------------------------------------------------------------- */

/* The core drops what is half connected without a word. */
static void abandon_some(struct host_rank *rank, int which)
{
	unsigned char mine[NCCL_HANDLE_BYTES], theirs[NCCL_HANDLE_BYTES];
	void *listen, *send, *recv;

	host_must(rank, host_listen(&rank->net, rank->context, rank->options->device, mine, &listen), "listen");
	host_swap(rank, mine, theirs, sizeof mine);
	for (int i = 0; i < 3 && which % 2 == rank->rank; i++) {
		host_must(rank, host_connect(&rank->net, rank->context, rank->options->device, theirs, &send), "connect");
		if (send)
			host_must(rank, host_close_send(&rank->net, send), "closeSend");
		if (send)
			break;
	}
	if (which % 3 == 0) {
		host_must(rank, host_accept(&rank->net, listen, &recv), "accept");
		if (recv)
			host_must(rank, host_close_recv(&rank->net, recv), "closeRecv");
	}
	if (which % 4 == 0)
		host_must(rank, host_close_listen(&rank->net, listen), "closeListen");
}

void host_scenario_abandon(struct host_rank *rank)
{
	struct host_link link;
	int before = 0;

	for (int i = 0; i < 12; i++) {
		host_begin(rank);
		abandon_some(rank, i);
		host_barrier(rank);
		host_end(rank);
		if (i == 1)
			before = host_descriptors();
	}
	/* Before version 11 nothing tells a plugin when a communicator ends. */
	if (rank->version >= 11 && host_descriptors() > before + SLACK_DESCRIPTORS)
		host_fail(rank, "%d descriptors are open after finalize, %d before", host_descriptors(), before);
	host_begin(rank);
	host_connect_pair(rank, rank->context, &link);
	host_barrier(rank);
	host_close_pair(rank, &link);
	host_end(rank);
}

/* ---- again and again ----------------------------------------------------------------- */

void host_scenario_cycles(struct host_rank *rank)
{
	struct host_shape shape = { .seed = rank->seed, .groups = 10, .depth = 4, .most_parts = 1, .sizes = some_sizes,
		.size_count = 4 };
	struct host_link link;
	char why[256];
	int before = 0;

	for (int i = 0; i < 10; i++) {
		host_begin(rank);
		host_connect_pair(rank, rank->context, &link);
		host_exchange(rank, &link, &shape);
		host_barrier(rank);
		host_close_pair(rank, &link);
		host_end(rank);
		dlclose(rank->net.library);
		if (host_open(&rank->net, rank->options->plugin, rank->options->kind, rank->version, why, sizeof why))
			host_fail(rank, "loaded again: %s", why);
		if (i == 1)
			before = host_descriptors();
	}
	if (host_descriptors() > before)
		host_fail(rank, "%d descriptors are open after ten cycles, %d after two", host_descriptors(), before);
}

/* ---- the other side -------------------------------------------------------------------- */

static void see_it_die(struct host_rank *rank, struct host_link *link, const struct host_shape *shape)
{
	struct host_flow flows[2];
	struct host_work work = { .rank = rank, .flows = flows, .count = 2, .tolerant = 1 };
	uint64_t start = host_now_ns();

	host_flow_open(&flows[0], rank, link->send, 1, shape);
	host_flow_open(&flows[1], rank, link->recv, 0, shape);
	host_work_run(&work);
	if (!work.result)
		host_fail(rank, "no error though the other process is gone");
	if (host_now_ns() - start > SOON_MS * 1000000ull)
		host_fail(rank, "the error comes after more than %d s", SOON_MS / 1000);
	if (host_warnings() != 1)
		host_fail(rank, "%d warnings for one error", host_warnings());
	/* Again and again: still errors, and one warning for each of the two comms. */
	for (int i = 0; i < 10; i++) {
		work.result = 0;
		host_work_run(&work);
		if (!work.result || host_warnings() > 2)
			host_fail(rank, "asked again: %s, %d warnings", host_result_name(work.result), host_warnings());
	}
	host_flow_close(&flows[0]);
	host_flow_close(&flows[1]);
	host_close_pair(rank, link);
}

void host_scenario_death(struct host_rank *rank)
{
	struct host_shape shape = { .seed = rank->seed, .groups = 1000000, .depth = 8, .most_parts = 1,
		.sizes = some_sizes, .size_count = 4 };
	struct host_flow flows[2];
	struct host_work work = { .rank = rank, .flows = flows, .count = 2 };
	struct host_link link;

	host_begin(rank);
	host_connect_pair(rank, rank->context, &link);
	if (!rank->rank) {
		see_it_die(rank, &link, &shape);
		host_forget_warnings();
		host_end(rank);
		return;
	}
	shape.groups = 100;
	host_flow_open(&flows[0], rank, link.send, 1, &shape);
	host_flow_open(&flows[1], rank, link.recv, 0, &shape);
	host_work_run(&work);
	/* Without a goodbye. */
	_exit(0);
}

/* Somebody else cuts the link. Whoever only receives has to notice as well. */
void host_scenario_silence(struct host_rank *rank)
{
	struct host_shape shape = { .seed = rank->seed, .groups = 20, .depth = 8, .most_parts = 1, .sizes = some_sizes,
		.size_count = 4 };
	struct host_flow flow;
	struct host_work work = { .rank = rank, .flows = &flow, .count = 1, .tolerant = 1 };
	struct host_link link;

	host_begin(rank);
	host_connect_pair(rank, rank->context, &link);
	host_exchange(rank, &link, &shape);
	host_flow_open(&flow, rank, link.recv, 0, &shape);
	host_work_run(&work);
	if (!work.result || host_warnings() != 1)
		host_fail(rank, "silence is %s, with %d warnings", host_result_name(work.result), host_warnings());
	host_flow_close(&flow);
	host_close_pair(rank, &link);
	host_forget_warnings();
	host_end(rank);
}

void host_scenario_foreign(struct host_rank *rank)
{
	unsigned char handle[NCCL_HANDLE_BYTES];
	void *comm;
	int result;

	host_begin(rank);
	for (size_t i = 0; i < sizeof handle; i++)
		handle[i] = (unsigned char)(i * 37 + 2);
	result = host_connect(&rank->net, rank->context, rank->options->device, handle, &comm);
	if (result == NCCL_SUCCESS)
		host_fail(rank, "connect takes the handle of another network");
	if (comm)
		host_fail(rank, "connect fails and leaves a comm");
	if (host_warnings() != 1)
		host_fail(rank, "%d warnings for one error", host_warnings());
	host_forget_warnings();
	host_end(rank);
}

/* ---- of a child ---------------------------------------------------------------------------- */

static void fork_and_end(struct host_rank *rank)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		/* As a data loader ends: with all that is registered for the end. */
		char *memory = malloc(1 << 20);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (memory)
			memset(memory, 1, 1 << 20);
		free(memory);
		if (SANITIZED)
			_exit(0);
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
		host_fail(rank, "a forked process does not end well");
}

void host_scenario_fork(struct host_rank *rank)
{
	struct host_shape shape = { .seed = rank->seed + 6, .groups = 150, .depth = 8, .most_parts = 2,
		.sizes = some_sizes, .size_count = 4 };
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
	for (int i = 0; i < 3; i++)
		fork_and_end(rank);
	pthread_join(thread, NULL);
	host_flow_close(&flows[0]);
	host_flow_close(&flows[1]);
	host_barrier(rank);
	host_close_pair(rank, &link);
	host_end(rank);
}
