/* SPDX-License-Identifier: BSD-3-Clause */
/* mpi.c - any MPI 3: Open MPI with either of its point-to-point layers, MPICH. */
#include "perf/peers/harness.h"

#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

static struct harness_call now;   /* the call that is timed */
static int is_root;

static int prepare(struct harness_call *call)
{
	/* In place, MPI leaves a reduce_scatter's block at the buffer's beginning. */
	if (call->in_place && call->collective == HARNESS_REDUCE_SCATTER)
		call->out = call->in;
	now = *call;
	return call->count > INT_MAX;
}

static int run(void)
{
	const void *in = now.in_place ? MPI_IN_PLACE : now.in;
	const void *in_at_root = is_root ? in : now.in;
	void *out = now.out, *out_at_root = is_root && now.in_place ? MPI_IN_PLACE : now.out;
	int n = (int)now.count;

	switch (now.collective) {
	case HARNESS_ALLREDUCE:
		return MPI_Allreduce(in, out, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
	case HARNESS_REDUCE_SCATTER:
		return MPI_Reduce_scatter_block(in, out, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
	case HARNESS_ALLGATHER:
		return MPI_Allgather(in, n, MPI_FLOAT, out, n, MPI_FLOAT, MPI_COMM_WORLD);
	case HARNESS_BROADCAST:
		return MPI_Bcast(out, n, MPI_FLOAT, 0, MPI_COMM_WORLD);
	case HARNESS_REDUCE:
		return MPI_Reduce(in_at_root, out, n, MPI_FLOAT, MPI_SUM, 0, MPI_COMM_WORLD);
	case HARNESS_ALLTOALL:
		return MPI_Alltoall(in, n, MPI_FLOAT, out, n, MPI_FLOAT, MPI_COMM_WORLD);
	case HARNESS_GATHER:
		return MPI_Gather(in_at_root, n, MPI_FLOAT, out, n, MPI_FLOAT, 0, MPI_COMM_WORLD);
	case HARNESS_SCATTER:
		return MPI_Scatter(now.in, n, MPI_FLOAT, out_at_root, n, MPI_FLOAT, 0, MPI_COMM_WORLD);
	default:
		return MPI_Barrier(MPI_COMM_WORLD);
	}
}

static int barrier(void)
{
	return MPI_Barrier(MPI_COMM_WORLD);
}

static void take_name(struct harness_peer *peer)
{
	char name[MPI_MAX_LIBRARY_VERSION_STRING];
	int length;

	MPI_Get_library_version(name, &length);
	name[strcspn(name, "\n")] = '\0';
	snprintf(peer->name, sizeof peer->name, "%.120s", name);
}

int main(int argc, char **argv)
{
	const struct harness_place *place = harness_open(argc, argv);
	struct harness_peer peer = { .prepare = prepare, .run = run, .barrier = barrier };
	int rank, result = 1;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	is_root = rank == 0;
	take_name(&peer);
	if (rank == place->rank)
		result = harness_run(&peer);
	else
		fprintf(stderr, "mpi: rank %d was told that it is rank %d\n", rank, place->rank);
	MPI_Finalize();
	return result;
}
