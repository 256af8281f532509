/* SPDX-License-Identifier: BSD-3-Clause */
/* pair.c - 'latency' and 'bandwidth': messages between rank 0 and the last one, measured as others measure them.
 *
 * Latency is half of a round trip (osu_latency, ib_send_lat). Bandwidth is that of a window of messages one way, which
 * end with an empty one the other way (osu_bw). No barrier stands between iterations: each waits for the one before.
 */
#include "perf/perf.h"

enum { MOST_WINDOW_BYTES = 64 << 20, LEAST_WINDOW = 2 };

int snti_perf_is_pair(int kind)
{
	return kind == SNTI_PERF_LATENCY || kind == SNTI_PERF_BANDWIDTH;
}

int snti_perf_pair_other(const struct snti_perf_case *which)
{
	int last = which->ranks - 1;

	return which->rank == 0 ? last : which->rank == last ? 0 : -1;
}

void snti_perf_pair_shape(struct snti_perf_case *which)
{
	int takes_part = snti_perf_pair_other(which) >= 0, both = which->kind == SNTI_PERF_LATENCY;

	which->in_count = takes_part && (both || !which->rank) ? which->count : 0;
	which->out_count = takes_part && (both || which->rank) ? which->count : 0;
}

/* So many messages that the wire stays full, and not so many that one iteration takes seconds. */
static int window(const struct snti_perf_case *which)
{
	uint64_t most = which->bytes ? MOST_WINDOW_BYTES / which->bytes : SNTI_PERF_WINDOW;

	return most < LEAST_WINDOW ? LEAST_WINDOW : most < SNTI_PERF_WINDOW ? (int)most : SNTI_PERF_WINDOW;
}

uint64_t snti_perf_pair_parts(const struct snti_perf_case *which)
{
	return which->kind == SNTI_PERF_LATENCY ? 2 : (uint64_t)window(which);
}

static int add(struct snt_team *team, const struct snti_perf_case *which, enum snt_collective direction, size_t count,
	struct snti_perf_ops *ops)
{
	struct snt_call call = { SNT_CALL(direction), .in = direction == SNT_SEND ? which->in : NULL,
		.out = direction == SNT_RECV ? which->out : NULL, .count = count, .type = which->type,
		.root = snti_perf_pair_other(which) };
	int status = snt_op_create(team, &call, &ops->op[ops->count]);

	if (!status)
		ops->count++;
	return status;
}

/* Rank 0 starts everything at once; the last rank answers when it has what was sent. */
int snti_perf_pair_ops(struct snt_team *team, const struct snti_perf_case *which, struct snti_perf_ops *ops)
{
	enum snt_collective forth = which->rank ? SNT_RECV : SNT_SEND, back = which->rank ? SNT_SEND : SNT_RECV;
	int status = 0, messages = which->kind == SNTI_PERF_LATENCY ? 1 : window(which);

	if (snti_perf_pair_other(which) < 0)
		return 0;
	for (int i = 0; i < messages && !status; i++)
		status = add(team, which, forth, which->count, ops);
	ops->together = which->rank ? ops->count : ops->count + 1;
	return status ? status : add(team, which, back, which->kind == SNTI_PERF_LATENCY ? which->count : 0, ops);
}
