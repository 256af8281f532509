/* SPDX-License-Identifier: BSD-3-Clause */
/* fork.c - a team of forked processes: one ticket, one allreduce. */
#include <sennit.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 4 };

/* What each rank does; 0 or 1 as the exit status. */
static int member(const struct snt_ticket *ticket, int rank, int ranks)
{
	struct snt_team_options options = SNT_TEAM_OPTIONS;
	struct snt_team *team = NULL;
	double mine[COUNT], sum[COUNT];
	int bad = 0;
	options.rank = rank;
	options.ranks = ranks;
	options.ticket = ticket;
	for (int i = 0; i < COUNT; i++)
		mine[i] = rank + 1 + i;
	if (snt_team_create(&options, &team) != SNT_OK ||
		snt_allreduce(team, mine, sum, COUNT, SNT_FLOAT64, SNT_SUM) != SNT_OK) {
		fprintf(stderr, "rank %d has no sum\n", rank); /* why is logged */
		snt_team_destroy(team);
		return 1;
	}
	for (int i = 0; i < COUNT; i++)
		bad |= sum[i] != ranks * (ranks + 1) / 2.0 + ranks * i;
	printf("rank %d of %d: %g %g %g %g%s\n", rank, ranks, sum[0], sum[1], sum[2], sum[3],
		bad ? " is WRONG" : "");
	snt_team_destroy(team);
	return bad;
}

int main(int argc, char **argv)
{
	int ranks = argc > 1 ? atoi(argv[1]) : 4, bad = 0;
	struct snt_ticket ticket;
	if (ranks < 1 || snt_ticket_create(SNT_REACH_LOCAL, &ticket) != SNT_OK) {
		fprintf(stderr, "usage: fork [RANKS]\n");
		return 1;
	}
	for (int rank = 1; rank < ranks; rank++) {
		pid_t child = fork();
		if (child == 0)
			return member(&ticket, rank, ranks);
		bad |= child < 0;
	}
	bad |= member(&ticket, 0, ranks);
	for (int status; wait(&status) > 0;)
		bad |= status != 0;
	return bad ? 1 : 0;
}
