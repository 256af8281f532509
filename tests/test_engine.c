/* SPDX-License-Identifier: BSD-3-Clause */
/* test_engine.c - N ranks in one thread over a hostile wire: results are right, or every rank has an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "collectives/team.h"
#include "tests/loop_wire.h"

#define RANKS_MOST 9
#define TURNS_MOST 3000000
#define SEEDS 24

/* One job: its wire, its teams, one operation and two buffers each. */
struct scene {
	struct loop_wire wire;
	uint32_t ranks, node_size;
	struct snt_call call;
	size_t blocks_in, blocks_out;
	int in_place;
	char policy[64];
	struct snt_team teams[RANKS_MOST];
	struct snt_op *ops[RANKS_MOST];
	int64_t *in[RANKS_MOST], *out[RANKS_MOST];
	int is_shared[RANKS_MOST];
};

static uint64_t lent, answered;     /* messages of all jobs */

static int64_t value(uint32_t rank, size_t index)
{
	return (int64_t)((rank + 1) * 1000003 + index * 7);
}

static void make_team(struct scene *s, uint32_t rank)
{
	struct snt_team *team = &s->teams[rank];

	*team = (struct snt_team){ .rank = rank, .size = s->ranks, .algorithms = s->policy,
				   .node_size = s->node_size, .local_size = (int)s->node_size };
	snti_list_init(&team->running);
	snti_list_init(&team->plans);
	snti_list_init(&team->ops);
	team->conns = calloc(s->ranks, sizeof(*team->conns));
	for (uint32_t peer = 0; peer < s->ranks; peer++)
		if (peer != rank)
			team->conns[peer] = loop_wire_conn(&s->wire, rank, peer);
}

static void end_team(struct scene *s, uint32_t rank)
{
	struct snt_team *team = &s->teams[rank];

	while (!snti_list_empty(&team->plans)) {
		struct snti_cached_plan *cached = snti_container(team->plans.next, struct snti_cached_plan, link);

		snti_list_remove(&cached->link);
		snti_plan_fini(&cached->plan);
		free(cached);
	}
	for (uint32_t peer = 0; peer < s->ranks; peer++)
		snti_conn_close(team->conns[peer]);
	free(team->conns);
	if (s->is_shared[rank]) {
		snt_free(s->in[rank]);
		snt_free(s->out[rank]);
	} else {
		free(s->in[rank]);
		free(s->out[rank]);
	}
}

static void fill(struct scene *s, uint32_t rank)
{
	size_t count = s->call.count, in_at = s->blocks_in == 1 && s->blocks_out > 1 ? count * rank : 0;
	size_t most = count * s->ranks + 1;
	int64_t *in;

	s->is_shared[rank] = s->call.collective == SNT_ALLREDUCE && loop_wire_roll(&s->wire, 3);
	s->in[rank] = s->is_shared[rank] ? snt_alloc(most * sizeof(int64_t)) : calloc(most, sizeof(int64_t));
	s->out[rank] = s->is_shared[rank] ? snt_alloc(most * sizeof(int64_t)) : calloc(most, sizeof(int64_t));
	assert_true(s->in[rank] && s->out[rank]);
	in = s->in_place ? s->out[rank] + in_at : s->in[rank];
	for (size_t i = 0; i < count * s->blocks_in; i++)
		in[i] = value(rank, i);
}

static void make_op(struct scene *s, uint32_t rank)
{
	struct snt_call call = s->call;
	size_t shift = call.count * rank;

	call.in = s->in[rank];
	call.out = s->out[rank];
	if (s->in_place)
		call.in = s->out[rank] + (s->blocks_in == 1 && s->blocks_out > 1 ? shift : 0);
	if (s->in_place && s->blocks_in > 1 && s->blocks_out == 1)
		call.out = s->out[rank] + shift;
	assert_int_equal(snt_op_create(&s->teams[rank], &call, &s->ops[rank]), 0);
}

/* Every rank's turn comes at random; 0 when all are done, else the first failure. */
static int run(struct scene *s)
{
	uint32_t left = s->ranks;
	int failure = 0, done[RANKS_MOST] = { 0 };

	for (uint32_t r = 0; r < s->ranks; r++)
		if (snt_op_start(s->ops[r]))
			failure = -1;
	for (int turn = 0; turn < TURNS_MOST && left; turn++) {
		uint32_t r = loop_wire_roll(&s->wire, s->ranks);
		int status = done[r] ? SNT_BUSY : snt_op_test(s->ops[r]);

		loop_wire_poll(&s->wire);
		if (status == SNT_BUSY)
			continue;
		done[r] = 1;
		left--;
		failure = status < 0 ? status : failure;
		if (failure && turn < TURNS_MOST - 100000)
			turn = TURNS_MOST - 100000;    /* the others may wait for ever: nobody tells them here */
	}
	return failure ? failure : left ? SNT_ETIMEOUT : 0;
}

static int64_t total(uint32_t ranks, size_t index)
{
	int64_t sum = 0;

	for (uint32_t r = 0; r < ranks; r++)
		sum += value(r, index);
	return sum;
}

/* What rank @r must find at element @i of its result. */
static int64_t expected(const struct scene *s, uint32_t r, size_t i)
{
	size_t n = s->call.count, block = n ? i / n : 0, at = n ? i % n : 0;

	switch (s->call.collective) {
	case SNT_ALLREDUCE:
	case SNT_REDUCE:         return total(s->ranks, i);
	case SNT_REDUCE_SCATTER: return total(s->ranks, n * r + i);
	case SNT_BROADCAST:      return value(s->call.root, i);
	case SNT_SCATTER:        return value(s->call.root, n * r + i);
	case SNT_ALLTOALL:       return value(block, n * r + at);
	default:                 return value(block, at);
	}
}

static void check(struct scene *s)
{
	int rooted = s->call.collective == SNT_REDUCE || s->call.collective == SNT_GATHER;

	for (uint32_t r = 0; r < s->ranks; r++) {
		const int64_t *out = s->ops[r]->call.out;

		for (size_t i = 0; i < s->call.count * s->blocks_out && (!rooted || r == (uint32_t)s->call.root); i++)
			if (out[i] != expected(s, r, i))
				fail_msg("rank %u of %u, element %zu: %lld, not %lld", r, s->ranks, i, (long long)out[i],
					 (long long)expected(s, r, i));
	}
}

static int has_blocks_in(int collective)
{
	return collective == SNT_REDUCE_SCATTER || collective == SNT_ALLTOALL || collective == SNT_SCATTER;
}

static int has_blocks_out(int collective)
{
	return collective == SNT_ALLGATHER || collective == SNT_ALLTOALL || collective == SNT_GATHER;
}

static int play(const struct snti_algorithm *a, uint32_t ranks, uint64_t seed, uint64_t dies_at)
{
	struct scene *s = calloc(1, sizeof(*s));
	int status;

	s->ranks = ranks;
	s->node_size = ranks % (1 + seed % ranks) ? ranks : 1 + (uint32_t)(seed % ranks);
	assert_int_equal(loop_wire_init(&s->wire, ranks, seed), 0);
	s->call = (struct snt_call){ SNT_CALL(a->collective), .count = loop_wire_roll(&s->wire, 90),
				     .type = SNT_INT64, .fold = SNT_SUM, .root = loop_wire_roll(&s->wire, ranks) };
	s->in_place = loop_wire_roll(&s->wire, 2);
	s->blocks_in = has_blocks_in(a->collective) ? ranks : 1;
	s->blocks_out = has_blocks_out(a->collective) ? ranks : 1;
	snprintf(s->policy, sizeof(s->policy), "%s:%s/slices=%u", snt_collective_name(a->collective), a->name,
		 1 + loop_wire_roll(&s->wire, 5));
	if (s->in_place && (a->collective == SNT_SCATTER || a->collective == SNT_BROADCAST))
		s->in_place = 0;     /* only the root's input differs there: see test_calls */
	s->wire.dies_at = dies_at;
	for (uint32_t r = 0; r < ranks; r++) {
		make_team(s, r);
		fill(s, r);
		make_op(s, r);
	}
	status = run(s);
	assert_int_equal(s->wire.writing, 0);
	lent += s->wire.lent;
	answered += s->wire.answered;
	if (!status && a->collective != SNT_BARRIER)
		check(s);
	for (uint32_t r = 0; r < ranks; r++) {
		snti_team_fail(&s->teams[r], SNT_ECANCELED);
		snt_op_free(s->ops[r]);
		end_team(s, r);
	}
	loop_wire_fini(&s->wire);
	free(s);
	return status;
}

static int serves(const struct snti_algorithm *a, uint32_t ranks)
{
	struct snti_plan_shape shape = { .collective = a->collective, .size = ranks, .node_size = ranks };
	struct snti_plan plan;
	int status;

	snti_plan_init(&plan, &shape);
	a->build(&plan);
	status = snti_plan_commit(&plan);
	snti_plan_fini(&plan);
	return status == 0;
}

static void every_algorithm_is_right_over_a_hostile_wire(void **state)
{
	uint64_t first = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : 1;

	(void)state;
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		for (uint32_t ranks = 1; ranks <= RANKS_MOST; ranks++)
			for (uint64_t seed = first; seed < first + SEEDS && serves(a, ranks); seed++) {
				int status = play(a, ranks, seed, 0);

				if (status)
					fail_msg("%s/%s, %u ranks, seed %llu: %s", snt_collective_name(a->collective), a->name,
						 ranks, (unsigned long long)seed, snt_status_name(status));
			}
	print_message("%llu messages lent, %llu answered at once\n", (unsigned long long)lent, (unsigned long long)answered);
	assert_true(lent > answered && answered > 1000);
}

static void a_wire_that_dies_gives_an_error_and_no_crash(void **state)
{
	int failed = 0;

	(void)state;
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		for (uint64_t seed = 1; seed <= 6 && a->collective != SNT_BARRIER; seed++)
			failed += play(a, 4, seed, seed * 37) != 0;
	assert_true(failed > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_algorithm_is_right_over_a_hostile_wire),
		cmocka_unit_test(a_wire_that_dies_gives_an_error_and_no_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
