/* SPDX-License-Identifier: BSD-3-Clause */
/* overlap.c - computes while an allreduce of 16 MiB is under way, by testing it between pieces. */
#include <sennit.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { COUNT = 4 << 20, PIECES = 200, SIZE = 20000, ROUNDS = 10 };
static volatile double result;

static void must(int status)
{
	if (status < 0)
		exit(1); /* why is logged */
}

/* The mean time in ms of an allreduce (@op NULL: none) and @pieces of computation at once. */
static double measure(struct snt_team *team, struct snt_op *op, int pieces)
{
	must(snt_barrier(team));
	struct timespec from, to;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int round = 0; round < ROUNDS; round++) {
		must(op ? snt_op_start(op) : SNT_OK);
		for (int i = 1; i <= pieces * SIZE; i++) {
			result = result * 0.999 + i;
			must(op && i % SIZE == 0 ? snt_op_test(op) : SNT_OK);
		}
		must(op ? snt_op_wait(op) : SNT_OK);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	return (to.tv_sec - from.tv_sec) * 1e3 / ROUNDS + (to.tv_nsec - from.tv_nsec) / 1e6 / ROUNDS;
}

int main(void)
{
	struct snt_ticket ticket;
	struct snt_team *team;
	struct snt_op *op;
	must(snt_ticket_create(SNT_REACH_LOCAL, &ticket));
	pid_t child = fork();
	must(snt_team_create(&(struct snt_team_options){ .size = sizeof(struct snt_team_options),
		.rank = child == 0, .ranks = 2, .ticket = &ticket }, &team));
	float *data = snt_alloc(COUNT * sizeof *data);
	must(snt_op_create(team, &(struct snt_call){ SNT_CALL(SNT_ALLREDUCE), .in = data, .out = data,
		.count = COUNT, .type = SNT_FLOAT32, .fold = SNT_SUM }, &op));
	measure(team, op, 0); /* warm */
	double alone = measure(team, op, 0), compute = measure(team, NULL, PIECES);
	double both = measure(team, op, PIECES);
	if (child != 0)
		printf("allreduce alone %.2f ms, compute alone %.2f ms, both %.2f ms\n", alone,
			compute, both);
	snt_team_destroy(team); /* and the operation */
	snt_free(data);
	int status = 1;
	return child != 0 && (wait(&status) != child || status != 0);
}
