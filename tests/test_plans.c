/* SPDX-License-Identifier: BSD-3-Clause */
/* test_plans.c - proofs of every algorithm for every number of ranks up to 128, and of what the head comments say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "collectives/pieces.h"
#include "collectives/verify.h"

enum { MOST_RANKS = 128, FEW_RANKS = 20 };

static int serves(const struct snti_algorithm *a, uint32_t size)
{
	return (a->build != snti_allreduce_oneshot || size <= SNTI_ONESHOT_MOST) &&
	       (a->build != snti_allreduce_direct || size <= SNTI_DIRECT_MOST);
}

static int has_root(const struct snti_algorithm *a)
{
	return a->collective == SNT_BROADCAST || a->collective == SNT_REDUCE || a->collective == SNT_GATHER ||
		a->collective == SNT_SCATTER;
}

static struct snti_plan *build(const struct snti_algorithm *a, uint32_t size, uint32_t root, uint32_t node_size, int in_place)
{
	struct snti_plan_shape shape = { .collective = a->collective, .size = size, .root = root,
		.node_size = node_size, .in_place = in_place };
	struct snti_plan *plans;

	assert_int_equal(snti_plans_build(a, &shape, &plans), 0);
	return plans;
}

static void prove(const struct snti_algorithm *a, const struct snti_plan *plans)
{
	char why[160] = "";

	if (snti_verify(plans, plans->size, why, sizeof(why)))
		fail_msg("%s %s, %u ranks, root %u, nodes of %u, %s: %s", snt_collective_name(a->collective), a->name,
			 plans->size, plans->root, plans->node_size, plans->in_place ? "in place" : "apart", why);
}

static void prove_both(const struct snti_algorithm *a, uint32_t size, uint32_t root, uint32_t node_size)
{
	/* Many ranks: one of the two, in turns; what in_place changes is small and does not depend on many. */
	for (int in_place = 0; in_place < 2; in_place++) {
		struct snti_plan *plans;

		if (size > 2 * FEW_RANKS && (size + size / 2) % 2 != (uint32_t)in_place)
			continue;
		plans = build(a, size, root, node_size, in_place);
		prove(a, plans);
		snti_plans_free(plans, size);
	}
}

static void every_algorithm_keeps_its_promise_for_every_number_of_ranks(void **state)
{
	(void)state;
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		for (uint32_t size = 1; size <= MOST_RANKS && serves(a, size); size++) {
			uint32_t roots[] = { size / 2, 0, 1 % size, size - 1 };

			for (int i = 0; i < (has_root(a) ? size <= FEW_RANKS ? 4 : 1 : 1); i++)
				prove_both(a, size, roots[i], 0);
		}
}

static void hierarchical_keeps_its_promise_for_every_node_shape(void **state)
{
	static const uint32_t shapes[] = { 1, 2, 3, 5, 8, 200 };

	(void)state;
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		for (uint32_t size = 1; a->build == snti_allreduce_hierarchical && size <= MOST_RANKS; size++)
			for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
				prove_both(a, size, 0, shapes[i]);
}

static void ranks_may_differ_in_whether_they_work_in_place(void **state)
{
	(void)state;
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		for (uint32_t size = 2; size <= FEW_RANKS && serves(a, size); size++) {
			struct snti_plan *apart = build(a, size, size / 2, 3, 0), *same = build(a, size, size / 2, 3, 1), swap;

			for (uint32_t r = 0; r < size; r += 1 + r % 3) {
				swap = apart[r];
				apart[r] = same[r];
				same[r] = swap;
			}
			prove(a, apart);
			prove(a, same);
			snti_plans_free(apart, size);
			snti_plans_free(same, size);
		}
}

/* Rounds that hold a message, on the rank that has most of them. */
static uint32_t message_rounds(const struct snti_plan *plans)
{
	uint32_t most = 0;

	for (uint32_t r = 0; r < plans->size; r++) {
		uint32_t rounds = 0, last = UINT32_MAX;

		for (uint32_t i = 0; i < plans[r].step_count; i++)
			if (plans[r].steps[i].op <= SNTI_STEP_FOLD && plans[r].steps[i].round != last) {
				last = plans[r].steps[i].round;
				rounds++;
			}
		most = rounds > most ? rounds : most;
	}
	return most;
}

static void plans_have_the_rounds_that_their_comments_say(void **state)
{
	(void)state;
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		for (uint32_t size = 1; a->rounds && size <= MOST_RANKS && serves(a, size); size += 1 + size / 16) {
			struct snti_plan *plans = build(a, size, 0, 0, 0);

			if (message_rounds(plans) != a->rounds(size))
				fail_msg("%s %s, %u ranks: %u rounds, not %u", snt_collective_name(a->collective), a->name,
					 size, message_rounds(plans), a->rounds(size));
			snti_plans_free(plans, size);
		}
}

/* Chunks sent by the busiest rank. */
static uint32_t most_sent(const struct snti_plan *plans)
{
	uint32_t most = 0;

	for (uint32_t r = 0; r < plans->size; r++) {
		uint32_t sent = 0;

		for (uint32_t i = 0; i < plans[r].step_count; i++)
			sent += plans[r].steps[i].op == SNTI_STEP_SEND ? plans[r].steps[i].count : 0;
		most = sent > most ? sent : most;
	}
	return most;
}

static void allreduces_for_bandwidth_send_no_more_than_they_must(void **state)
{
	static const char *const names[] = { "ring", "bidirectional", "circulant", "direct" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (uint32_t size = 1; size <= 40 && serves(snti_algorithm_find(SNT_ALLREDUCE, names[i]), size); size++) {
			struct snti_plan *plans = build(snti_algorithm_find(SNT_ALLREDUCE, names[i]), size, 0, 0, 0);

			assert_int_equal(most_sent(plans) * size, 2 * (size - 1) * plans->chunks);
			snti_plans_free(plans, size);
		}
}

static void oneshot_refuses_too_many_ranks(void **state)
{
	struct snti_plan_shape shape = { .collective = SNT_ALLREDUCE, .size = SNTI_ONESHOT_MOST + 1 };
	struct snti_plan *plans = (struct snti_plan *)state;

	assert_int_equal(snti_plans_build(snti_algorithm_find(SNT_ALLREDUCE, "oneshot"), &shape, &plans), SNT_EUNSUPPORTED);
	assert_null(plans);
	assert_non_null(strstr(snt_error_text(), "16 ranks"));
}

static void the_table_names_each_algorithm_once(void **state)
{
	(void)state;
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		assert_ptr_equal(snti_algorithm_find(a->collective, a->name), a);
	assert_null(snti_algorithm_find(SNT_ALLREDUCE, "pairwise"));
}

static void commit_measures_the_plan(void **state)
{
	struct snti_plan_shape shape = { .collective = SNT_ALLREDUCE, .size = 4 };
	struct snti_plan p;

	(void)state;
	snti_plan_init(&p, &shape);
	p.chunks = 8;
	snti_plan_send(&p, 1, SNTI_IN, 0, 0);   /* left out */
	snti_plan_recv(&p, 1, SNTI_TMP + 1, 2, 3);
	snti_plan_send(&p, 2, SNTI_IN, 0, 1);
	snti_plan_round(&p);
	snti_plan_round(&p);
	snti_plan_merge(&p, SNTI_TMP + 1, SNTI_TMP, 1, 2, 0);
	snti_plan_round(&p);
	assert_int_equal(snti_plan_commit(&p), 0);
	assert_int_equal(p.step_count, 3);
	assert_int_equal(p.rounds, 2);
	assert_int_equal(p.widest, 2);
	assert_int_equal(p.tmp_buffers, 2);
	assert_int_equal(p.tmp_first, 1);
	assert_int_equal(p.tmp_end, 5);
	snti_plan_fini(&p);
}

static void a_copy_onto_itself_in_place_is_left_out(void **state)
{
	struct snti_plan_shape shape = { .collective = SNT_ALLREDUCE, .size = 1, .in_place = 1 };
	struct snti_plan p;

	(void)state;
	snti_plan_init(&p, &shape);
	p.chunks = 2;
	snti_plan_copy(&p, SNTI_OUT, 0, SNTI_IN, 0, 1);
	assert_int_equal(p.step_count, 0);
	snti_plan_copy(&p, SNTI_OUT, 0, SNTI_IN, 1, 1);
	assert_int_equal(p.step_count, 1);
	snti_plan_fini(&p);
}

static void a_simulated_ring_takes_what_the_formula_says(void **state)
{
	struct snti_plan *plans = build(snti_algorithm_find(SNT_ALLREDUCE, "ring"), 8, 0, 0, 1);
	struct snti_cost cost = { .alpha = 1e-6, .beta = 1e-9, .gamma = 5e-10 };
	double want = 14 * (1e-6 + 1e5 * 1e-9) + 7 * 1e5 * 5e-10, got = snti_simulate(plans, 8, 8e5, cost);

	(void)state;
	assert_true(got > 0.999 * want && got < 1.001 * want);
	plans[3].steps[0].peer = 3;
	assert_true(snti_simulate(plans, 8, 8e5, cost) < 0);
	snti_plans_free(plans, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_algorithm_keeps_its_promise_for_every_number_of_ranks),
		cmocka_unit_test(hierarchical_keeps_its_promise_for_every_node_shape),
		cmocka_unit_test(ranks_may_differ_in_whether_they_work_in_place),
		cmocka_unit_test(plans_have_the_rounds_that_their_comments_say),
		cmocka_unit_test(allreduces_for_bandwidth_send_no_more_than_they_must),
		cmocka_unit_test(oneshot_refuses_too_many_ranks),
		cmocka_unit_test(the_table_names_each_algorithm_once),
		cmocka_unit_test(commit_measures_the_plan),
		cmocka_unit_test(a_copy_onto_itself_in_place_is_left_out),
		cmocka_unit_test(a_simulated_ring_takes_what_the_formula_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
