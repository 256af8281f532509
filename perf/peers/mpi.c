/* SPDX-License-Identifier: BSD-3-Clause */
/* mpi.c - MPI_Allreduce timed the way sennit perf times allreduce: 'bytes,median_us' for each size given. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ITERATIONS_MOST 20000

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double once(const float *in, float *out, int count)
{
	double begin;

	MPI_Barrier(MPI_COMM_WORLD);
	begin = MPI_Wtime();
	MPI_Allreduce(in, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
	return MPI_Wtime() - begin;
}

/* The same number on all ranks, so that the size takes about @seconds. */
static int iterations(const float *in, float *out, int count, double seconds)
{
	double best = 1e9;
	int n;

	for (int i = 0; i < 5; i++) {
		double t = once(in, out, count);

		best = t < best ? t : best;
	}
	n = best * ITERATIONS_MOST < seconds ? ITERATIONS_MOST : (int)(seconds / best);
	n = n < 5 ? 5 : n;
	MPI_Bcast(&n, 1, MPI_INT, 0, MPI_COMM_WORLD);
	return n;
}

static void measure(size_t bytes, double seconds, int rank)
{
	static double mine[ITERATIONS_MOST], slowest[ITERATIONS_MOST];
	float *in = calloc(bytes / 4 + 1, 4), *out = calloc(bytes / 4 + 1, 4);
	int n;

	if (!in || !out)
		MPI_Abort(MPI_COMM_WORLD, 1);
	memset(out, 0, bytes);
	memset(in, 0, bytes);
	n = iterations(in, out, bytes / 4, seconds);
	for (int i = 0; i < n; i++)
		mine[i] = once(in, out, bytes / 4);
	MPI_Reduce(mine, slowest, n, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
	qsort(slowest, n, sizeof(*slowest), by_value);
	if (!rank)
		printf("%zu,%.3f\n", bytes, slowest[n / 2] * 1e6);
	free(in);
	free(out);
}

int main(int argc, char **argv)
{
	int rank;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	for (int i = 2; i < argc; i++)
		measure(strtoull(argv[i], NULL, 10), atof(argv[1]), rank);
	MPI_Finalize();
	return 0;
}
