/* SPDX-License-Identifier: BSD-3-Clause */
/* sennit.c - libsennit as a framework would use it: an operation is prepared once and started many
 * times. --detail shared takes buffers that the peers map (snt_alloc). */
#include "perf/peers/harness.h"

#include <sennit.h>
#include <stdio.h>
#include <string.h>

static struct snt_team *team;
static struct snt_op *op;

static const enum snt_collective collectives[HARNESS_COLLECTIVES] = {
	[HARNESS_ALLREDUCE] = SNT_ALLREDUCE, [HARNESS_REDUCE_SCATTER] = SNT_REDUCE_SCATTER,
	[HARNESS_ALLGATHER] = SNT_ALLGATHER, [HARNESS_BROADCAST] = SNT_BROADCAST, [HARNESS_REDUCE] = SNT_REDUCE,
	[HARNESS_ALLTOALL] = SNT_ALLTOALL, [HARNESS_GATHER] = SNT_GATHER, [HARNESS_SCATTER] = SNT_SCATTER,
	[HARNESS_BARRIER] = SNT_BARRIER,
};

static int complain(int status)
{
	if (status)
		fprintf(stderr, "sennit: %s\n", snt_error_text());
	return status;
}

static int prepare(struct harness_call *call)
{
	struct snt_call ours = { SNT_CALL(collectives[call->collective]), .in = call->in, .out = call->out,
		.count = call->count, .type = SNT_FLOAT32, .fold = SNT_SUM };

	return complain(snt_op_create(team, &ours, &op));
}

static int run(void)
{
	int status = snt_op_start(op);

	return complain(status ? status : snt_op_wait(op));
}

static void finish(void)
{
	snt_op_free(op);
	op = NULL;
}

static int barrier(void)
{
	return complain(snt_barrier(team));
}

int main(int argc, char **argv)
{
	const struct harness_place *place = harness_open(argc, argv);
	int is_shared = strcmp(place->detail, "shared") == 0;
	struct harness_peer peer = { .prepare = prepare, .run = run, .finish = finish, .barrier = barrier,
		.get_memory = is_shared ? snt_alloc : NULL };
	int result;

	snprintf(peer.name, sizeof peer.name, "sennit %s%s", snt_version(), is_shared ? " snt_alloc" : "");
	if (complain(snt_team_create(NULL, &team)))
		return 1;
	result = harness_run(&peer);
	snt_team_destroy(team);
	return result;
}
