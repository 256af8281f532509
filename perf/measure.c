/* SPDX-License-Identifier: BSD-3-Clause */
/* measure.c - one collective at one size: memory, proof, warm-up, timed iterations.
 *
 * Every iteration of a collective starts behind a barrier that is not timed; its
 * time is that of the slowest rank.
 */
#include "perf/perf.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LEAST_ITERATIONS = 5, MOST_ITERATIONS = 100000 };

/* How many blocks each rank puts in and gets out, and whether only the root does. */
enum blocks { NONE, ONE, ALL };
static const struct shape {
	enum blocks in, out;
	int in_at_root, out_at_root;
} shapes[SNTI_PERF_KINDS] = {
	[SNT_ALLREDUCE] = { ONE, ONE, 0, 0 },
	[SNT_REDUCE_SCATTER] = { ALL, ONE, 0, 0 },
	[SNT_ALLGATHER] = { ONE, ALL, 0, 0 },
	[SNT_BROADCAST] = { ONE, ONE, 1, 0 },
	[SNT_REDUCE] = { ONE, ONE, 0, 1 },
	[SNT_ALLTOALL] = { ALL, ALL, 0, 0 },
	[SNT_GATHER] = { ONE, ALL, 0, 1 },
	[SNT_SCATTER] = { ALL, ONE, 1, 0 },
	[SNT_BARRIER] = { NONE, NONE, 0, 0 },
	[SNTI_PERF_SENDRECV] = { ONE, ONE, 0, 0 },
	[SNTI_PERF_LATENCY] = { ONE, ONE, 0, 0 },
	[SNTI_PERF_BANDWIDTH] = { ONE, ONE, 0, 0 },
};

const char *snti_perf_kind_name(int kind)
{
	static const char *const names[] = { "sendrecv", "latency", "bandwidth" };

	return kind >= SNTI_PERF_SENDRECV ? names[kind - SNTI_PERF_SENDRECV] : snt_collective_name((enum snt_collective)kind);
}

int snti_perf_folds(int kind)
{
	return kind == SNT_ALLREDUCE || kind == SNT_REDUCE_SCATTER || kind == SNT_REDUCE;
}

static size_t elements(const struct snti_perf_case *which, enum blocks blocks, int at_root)
{
	if (blocks == NONE || (at_root && which->rank != which->root))
		return 0;
	return blocks == ALL ? which->count * (size_t)which->ranks : which->count;
}

void snti_perf_shape(struct snti_perf_case *which, uint64_t bytes)
{
	const struct shape *shape = &shapes[which->kind];
	uint64_t width = snt_type_size(which->type);
	uint64_t unit = shape->in == ALL || shape->out == ALL ? width * (uint64_t)which->ranks : width;

	which->count = shape->in == NONE ? 0 : bytes / unit;
	if (bytes && shape->in != NONE && !which->count)
		which->count = 1;
	which->bytes = which->count * unit;
	which->in_count = elements(which, shape->in, shape->in_at_root);
	which->out_count = elements(which, shape->out, shape->out_at_root);
	if (snti_perf_is_pair(which->kind))
		snti_perf_pair_shape(which);
}

/* ---- memory -------------------------------------------------------------- */

/* Private memory is what most programs have; zeroed, so that its pages are there before anything is timed. */
static char *get_memory(const struct snti_perf_case *which, size_t size)
{
	char *memory = which->shared ? snt_alloc(size) : aligned_alloc(64, (size + 64) / 64 * 64);

	if (memory)
		memset(memory, 0, size);
	return memory;
}

static void put_memory(const struct snti_perf_case *which, char *memory)
{
	if (which->shared)
		snt_free(memory);
	else
		free(memory);
}

static void free_memory(struct snti_perf_case *which)
{
	put_memory(which, which->in_memory);
	put_memory(which, which->out_memory);
	which->in_memory = which->out_memory = which->in = which->out = which->guard = NULL;
}

/* Both buffers in one, each where sennit.h wants it. */
static void place_in_one(struct snti_perf_case *which, size_t mine)
{
	which->in = which->out = which->out_memory;
	if (which->in_count < which->out_count)
		which->in += mine;
	else if (which->out_count < which->in_count)
		which->out += mine;
}

/* Whether this rank got its memory. */
static int allocate(struct snti_perf_case *which)
{
	size_t width = snt_type_size(which->type), most = which->out_count;
	int both = which->in_count && which->out_count;

	if (which->in_place && both && which->in_count > most)
		most = which->in_count;
	if (which->out_count) {
		which->out_memory = get_memory(which, most * width + SNTI_PERF_GUARD);
		if (!which->out_memory)
			return 0;
		which->guard = which->out_memory + most * width;
		which->out = which->out_memory;
	}
	if (which->in_place && both) {
		place_in_one(which, (size_t)which->rank * which->count * width);
	} else if (which->in_count) {
		which->in_memory = which->in = get_memory(which, which->in_count * width);
		return which->in != NULL;
	} else if (which->in_place && which->kind == SNT_BROADCAST) {
		which->in = which->out;
	}
	return 1;
}

/* ---- operations ---------------------------------------------------------- */

static void free_ops(struct snti_perf_ops *ops)
{
	for (int i = 0; i < ops->count; i++)
		snt_op_free(ops->op[i]);
	ops->count = 0;
}

static int add_op(struct snt_team *team, const struct snti_perf_case *which, int collective, int root, struct snti_perf_ops *ops)
{
	struct snt_call call = { SNT_CALL((enum snt_collective)collective), .in = which->in, .out = which->out,
		.count = which->count, .type = which->type, .fold = which->fold, .root = root };
	int status;

	if (collective == SNT_SEND)
		call.out = NULL;
	if (collective == SNT_RECV)
		call.in = NULL;
	status = snt_op_create(team, &call, &ops->op[ops->count]);
	if (!status)
		ops->count++;
	return status;
}

static int make_ops(struct snt_team *team, const struct snti_perf_case *which, struct snti_perf_ops *ops)
{
	int ranks = which->ranks, status;

	if (snti_perf_is_pair(which->kind))
		return snti_perf_pair_ops(team, which, ops);
	ops->together = SNTI_PERF_WINDOW;
	if (which->kind != SNTI_PERF_SENDRECV)
		return add_op(team, which, which->kind, which->root, ops);
	status = add_op(team, which, SNT_SEND, (which->rank + 1) % ranks, ops);
	if (!status)
		status = add_op(team, which, SNT_RECV, (which->rank + ranks - 1) % ranks, ops);
	return status;
}

static int run_once(struct snti_perf_ops *ops)
{
	int status = 0;

	int together = ops->count < ops->together ? ops->count : ops->together;

	for (int i = 0; i < together && !status; i++)
		status = snt_op_start(ops->op[i]);
	for (int i = 0; i < together && !status; i++)
		status = snt_op_wait(ops->op[i]);
	for (int i = together; i < ops->count && !status; i++) {
		status = snt_op_start(ops->op[i]);
		if (!status)
			status = snt_op_wait(ops->op[i]);
	}
	return status;
}

/* ---- time ---------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int time_once(struct snt_team *team, const struct snti_perf_case *which, struct snti_perf_ops *ops, uint64_t *time)
{
	int status = snti_perf_is_pair(which->kind) ? 0 : snt_barrier(team);
	uint64_t start;

	if (status)
		return status;
	start = now_ns();
	status = run_once(ops);
	*time = now_ns() - start;
	return status;
}

/* Warms up, and says how many iterations fill the time that was asked for; all ranks agree. */
static int warm_up(struct snt_team *team, const struct snti_perf_options *options, const struct snti_perf_case *which,
	struct snti_perf_ops *ops, uint64_t *iterations)
{
	uint64_t rounds = options->warmup, spent, slowest, ignored;
	int status = 0;

	if (!rounds && !options->iterations)
		rounds = 1;
	spent = now_ns();
	for (uint64_t i = 0; i < rounds && !status; i++) {
		if (i == 1)
			spent = now_ns();   /* the first one sets up connections */
		status = time_once(team, which, ops, &ignored);
	}
	*iterations = options->iterations;
	if (status || *iterations)
		return status;
	spent = (now_ns() - spent) / (rounds > 1 ? rounds - 1 : 1) + 1;
	status = snt_allreduce(team, &spent, &slowest, 1, SNT_UINT64, SNT_MAX);
	if (status)
		return status;
	double wanted = options->seconds * 1e9 / (double)slowest;
	*iterations = wanted >= MOST_ITERATIONS ? MOST_ITERATIONS :
		wanted <= LEAST_ITERATIONS ? LEAST_ITERATIONS : (uint64_t)wanted;
	return 0;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

/* nccl-tests' factor: what the busiest link carries, as a part of the vector. */
static double bus_factor(int kind, int ranks)
{
	double others = (double)(ranks - 1) / ranks;

	switch (kind) {
	case SNT_ALLREDUCE:
		return 2 * others;
	case SNT_REDUCE_SCATTER:
	case SNT_ALLGATHER:
	case SNT_ALLTOALL:
	case SNT_GATHER:
	case SNT_SCATTER:
		return others;
	default:
		return 1;
	}
}

double snti_perf_median_us(uint64_t *times, uint64_t count)
{
	qsort(times, count, sizeof *times, compare);
	return ((double)times[(count - 1) / 2] + (double)times[count / 2]) / 2e3;
}

void snti_perf_summarize(uint64_t *times, uint64_t count, struct snti_perf_row *row)
{
	const struct snti_perf_case *which = row->which;

	row->median_us = snti_perf_median_us(times, count);
	row->iterations = count;
	row->least_us = (double)times[0] / 1e3;
	row->most_us = (double)times[count - 1] / 1e3;
	row->p99_us = (double)times[(count * 99 + 99) / 100 - 1] / 1e3;
	if (row->median_us > 0)
		row->algbw = (double)which->bytes / row->median_us / 1e3;
	row->busbw = row->algbw * bus_factor(which->kind, which->ranks);
}

/* An iteration ends where the next begins: the clock is read once, as others do. */
static int time_pair(const struct snti_perf_case *which, struct snti_perf_ops *ops, uint64_t *times, uint64_t count)
{
	uint64_t before = now_ns(), after, parts = snti_perf_pair_parts(which);
	int status = 0;

	for (uint64_t i = 0; i < count && !status; i++, before = after) {
		status = run_once(ops);
		after = now_ns();
		times[i] = which->rank ? 0 : (after - before) / parts;
	}
	return status;
}

/* @times has room for twice @count. */
static int time_all(struct snt_team *team, const struct snti_perf_case *which, struct snti_perf_ops *ops, uint64_t *times,
	uint64_t count)
{
	int status = 0;

	if (snti_perf_is_pair(which->kind))
		status = time_pair(which, ops, times, count);
	else
		for (uint64_t i = 0; i < count && !status; i++)
			status = time_once(team, which, ops, &times[i]);
	if (!status)
		status = snt_allreduce(team, times, times + count, count, SNT_UINT64, SNT_MAX);
	return status;
}

static int measure_time(struct snt_team *team, const struct snti_perf_options *options, struct snti_perf_ops *ops,
	struct snti_perf_row *row)
{
	uint64_t count = 0, *times;
	int status = warm_up(team, options, row->which, ops, &count);

	if (status)
		return status;
	if (options->overlap)
		return snti_perf_overlap(team, options, ops, count, row);
	times = calloc(count, 2 * sizeof *times);
	if (!times)
		return SNT_ENOMEM;
	status = time_all(team, row->which, ops, times, count);
	if (!status)
		snti_perf_summarize(times + count, count, row);
	free(times);
	return status;
}

/* ---- all of it ----------------------------------------------------------- */

static int verify(const struct snti_perf_case *which, struct snti_perf_ops *ops, uint64_t *wrong)
{
	snti_perf_fill(which);
	int status = run_once(ops);
	if (!status)
		*wrong += snti_perf_wrong(which);
	return status;
}

/* The sum over all ranks of @mine, by moving and not by folding. */
static int sum_up(struct snt_team *team, uint64_t mine, uint64_t *sum)
{
	size_t ranks = (size_t)snt_team_size(team);
	uint64_t *all = calloc(ranks, sizeof *all);
	int status;

	if (!all)
		return SNT_ENOMEM;
	status = snt_allgather(team, &mine, all, 1, SNT_UINT64);
	*sum = 0;
	for (size_t i = 0; i < ranks; i++)
		*sum += all[i];
	free(all);
	return status;
}

static int measure_ops(struct snt_team *team, const struct snti_perf_options *options, struct snti_perf_ops *ops,
	struct snti_perf_row *row)
{
	const struct snti_perf_case *which = row->which;
	uint64_t wrong = 0;
	int status = 0;

	row->checked = options->check && which->kind != SNT_BARRIER;
	if (row->checked)
		status = verify(which, ops, &wrong);
	else
		snti_perf_fill(which);
	if (!status)
		status = measure_time(team, options, ops, row);
	if (!status && row->checked)
		status = verify(which, ops, &wrong);
	return status ? status : sum_up(team, wrong, &row->wrong);
}

int snti_perf_measure(struct snt_team *team, const struct snti_perf_options *options,
	struct snti_perf_case *which, struct snti_perf_row *row)
{
	struct snti_perf_ops ops = { .count = 0 };
	uint64_t lacking;
	int missing = !allocate(which);
	int status = sum_up(team, (uint64_t)missing, &lacking);

	memset(row, 0, sizeof *row);
	row->which = which;
	if (!status && lacking)
		status = SNT_ENOMEM;
	if (!status)
		status = make_ops(team, which, &ops);
	if (!status)
		status = measure_ops(team, options, &ops, row);
	free_ops(&ops);
	free_memory(which);
	return status;
}
