/* SPDX-License-Identifier: BSD-3-Clause */
/* mpi.c - a team beside MPI: MPI_Allgather introduces the ranks, MPI_Allreduce checks the sums. */
#include <mpi.h>
#include <sennit.h>

#include <stdio.h>

enum { COUNT = 100000 };
static int64_t mine[COUNT], ours[COUNT], theirs[COUNT];

static int allgather(void *arg, const void *from, void *all, size_t size)
{
	MPI_Comm *comm = arg;
	return MPI_Allgather(from, (int)size, MPI_BYTE, all, (int)size, MPI_BYTE, *comm) !=
		MPI_SUCCESS;
}

/* Both sums are taken by every rank even after an error, so that MPI does not wait for anyone. */
static int run(MPI_Comm comm)
{
	struct snt_team_options options = SNT_TEAM_OPTIONS;
	struct snt_team *team = NULL;
	int bad = 0;
	MPI_Comm_rank(comm, &options.rank);
	MPI_Comm_size(comm, &options.ranks);
	options.allgather = allgather;
	options.allgather_arg = &comm;
	for (int i = 0; i < COUNT; i++)
		mine[i] = (int64_t)i * (options.rank + 1) - options.rank;
	if (snt_team_create(&options, &team) != SNT_OK ||
		snt_allreduce(team, mine, ours, COUNT, SNT_INT64, SNT_SUM) != SNT_OK) {
		fprintf(stderr, "rank %d has no sums\n", options.rank); /* why is logged */
		bad = 1;
	}
	snt_team_destroy(team);
	MPI_Allreduce(mine, theirs, COUNT, MPI_INT64_T, MPI_SUM, comm);
	for (int i = 0; i < COUNT && !bad; i++)
		if (ours[i] != theirs[i]) {
			fprintf(stderr, "rank %d: element %d is %lld, MPI says %lld\n", options.rank, i,
				(long long)ours[i], (long long)theirs[i]);
			bad = 1;
		}
	MPI_Allreduce(MPI_IN_PLACE, &bad, 1, MPI_INT, MPI_MAX, comm);
	if (options.rank == 0 && !bad)
		printf("%d ranks: the same %d sums as MPI_Allreduce\n", options.ranks, COUNT);
	return bad;
}

int main(int argc, char **argv)
{
	MPI_Init(&argc, &argv);
	int bad = run(MPI_COMM_WORLD);
	MPI_Finalize();
	return bad;
}
