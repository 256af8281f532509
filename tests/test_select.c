/* SPDX-License-Identifier: BSD-3-Clause */
/* test_select.c - the choice of algorithms: the table, the overrides, and what is said of a wrong one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "collectives/select.h"

static struct snti_choice choose(enum snt_collective collective, uint32_t size, uint64_t bytes, const char *overrides)
{
	struct snti_question q = { .collective = collective, .size = size, .node_size = size, .bytes = bytes };
	struct snti_choice choice = { .slices = 0 };

	assert_int_equal(snti_select(&q, overrides, &choice), 0);
	return choice;
}

static const char *chosen(enum snt_collective collective, uint32_t size, uint64_t bytes, const char *overrides)
{
	return choose(collective, size, bytes, overrides).algorithm->name;
}

static void the_table_has_an_answer_for_every_question(void **state)
{
	(void)state;
	for (int c = 0; c <= SNT_BARRIER; c++)
		for (uint32_t size = 1; size < 300; size += 1 + size / 4)
			for (uint64_t bytes = 0; bytes < (uint64_t)1 << 40; bytes = bytes * 2 + 1) {
				struct snti_choice choice = choose((enum snt_collective)c, size, bytes, "");

				assert_int_equal(choice.algorithm->collective, c);
				assert_in_range(choice.slices, 1, 4096);
				assert_in_range(choice.window, 1, choice.slices);
			}
}

static void small_and_large_calls_get_different_algorithms(void **state)
{
	(void)state;
	assert_string_equal(chosen(SNT_ALLREDUCE, 2, 4096, ""), "oneshot");
	assert_string_equal(chosen(SNT_ALLREDUCE, 8, 1024, ""), "oneshot");
	assert_string_equal(chosen(SNT_ALLREDUCE, 4, 4096, ""), "oneshot");
	assert_string_equal(chosen(SNT_ALLREDUCE, 4, 4100, ""), "doubling");
	assert_string_equal(chosen(SNT_ALLREDUCE, 8, 1025, ""), "doubling");
	assert_string_equal(chosen(SNT_ALLREDUCE, 9, 8, ""), "doubling");
	assert_string_equal(chosen(SNT_ALLREDUCE, 2, 32768, ""), "oneshot");
	assert_string_equal(chosen(SNT_ALLREDUCE, 2, 32772, ""), "ring");
	assert_string_equal(chosen(SNT_ALLREDUCE, 8, 16384, ""), "doubling");
	assert_string_equal(chosen(SNT_ALLREDUCE, 4, 128 << 10, ""), "circulant");
	assert_string_equal(chosen(SNT_ALLREDUCE, 4, (128 << 10) + 4, ""), "direct");
	assert_string_equal(chosen(SNT_ALLREDUCE, 8, 256 << 10, ""), "circulant");
	assert_string_equal(chosen(SNT_ALLREDUCE, 8, (256 << 10) + 4, ""), "direct");
	assert_string_equal(chosen(SNT_ALLREDUCE, 8, 1 << 30, ""), "direct");
	assert_string_equal(chosen(SNT_ALLREDUCE, 9, 100000, ""), "circulant");
	assert_string_equal(chosen(SNT_ALLREDUCE, 9, 1 << 20, ""), "ring");
	assert_int_equal(choose(SNT_ALLREDUCE, 8, 8 << 20, "").slices, 8);
	assert_int_equal(choose(SNT_ALLREDUCE, 16, 16 << 20, "").slices, 8);
	assert_int_equal(choose(SNT_BROADCAST, 8, 1 << 20, "").window, 8);
}

static const char *chosen_on(uint32_t nodes, uint32_t node_size, uint64_t bytes, const char *overrides)
{
	struct snti_question q = { .collective = SNT_ALLREDUCE, .size = nodes * node_size, .node_size = node_size,
		.bytes = bytes, .slice = nodes > 1 ? 8 << 20 : 0 };
	struct snti_choice choice;

	assert_int_equal(snti_select(&q, overrides, &choice), 0);
	return choice.algorithm->name;
}

/* A wire that wants long messages gets them; where ranks pass a message on it is cut all the same. */
static void slices_follow_the_wire(void **state)
{
	struct snti_question q = { .collective = SNT_ALLREDUCE, .size = 2, .node_size = 1, .bytes = 64 << 20 };
	struct snti_choice choice;

	(void)state;
	assert_int_equal(snti_select(&q, "", &choice), 0);
	assert_int_equal(choice.slices, 256);
	q.slice = 8 << 20;
	assert_int_equal(snti_select(&q, "", &choice), 0);
	assert_int_equal(choice.slices, 4);
	q.bytes = 1 << 20;
	assert_int_equal(snti_select(&q, "", &choice), 0);
	assert_string_equal(choice.algorithm->name, "oneshot");
	q.slice = 0;
	assert_int_equal(snti_select(&q, "", &choice), 0);
	assert_string_equal(choice.algorithm->name, "ring");
	q = (struct snti_question){ .collective = SNT_ALLREDUCE, .size = 4, .node_size = 1, .bytes = 8 };
	assert_int_equal(snti_select(&q, "", &choice), 0);
	assert_string_equal(choice.algorithm->name, "oneshot");
	q.slice = 8 << 20;
	assert_int_equal(snti_select(&q, "", &choice), 0);
	assert_string_equal(choice.algorithm->name, "doubling");
	q = (struct snti_question){ .collective = SNT_BROADCAST, .size = 4, .node_size = 1, .bytes = 8 << 20, .slice = 8 << 20 };
	assert_int_equal(snti_select(&q, "", &choice), 0);
	assert_int_equal(choice.slices, 16);
	q.size = 2;
	assert_int_equal(snti_select(&q, "", &choice), 0);
	assert_int_equal(choice.slices, 1);
	q = (struct snti_question){ .collective = SNT_ALLREDUCE, .size = 4, .node_size = 1, .bytes = 64 << 20, .slice = 8 << 20 };
	assert_int_equal(snti_select(&q, "", &choice), 0);
	assert_string_equal(choice.algorithm->name, "ring");
	assert_int_equal(choice.slices, 16);
}

static void several_ranks_on_each_of_several_nodes_get_hierarchical(void **state)
{
	struct snti_question uneven = { .collective = SNT_ALLREDUCE, .size = 8, .node_size = 0, .bytes = 1 << 20 };
	struct snti_choice choice;

	(void)state;
	for (uint32_t nodes = 2; nodes < 40; nodes++)
		for (uint32_t node_size = 2; node_size < 10; node_size++) {
			assert_string_equal(chosen_on(nodes, node_size, 16384, ""), "doubling");
			assert_string_equal(chosen_on(nodes, node_size, 16385, ""), nodes <= 3 ? "hierarchical" : "circulant");
			assert_string_equal(chosen_on(nodes, node_size, 256 << 10, ""), nodes <= 3 ? "hierarchical" : "circulant");
			assert_string_equal(chosen_on(nodes, node_size, (256 << 10) + 1, ""), "hierarchical");
		}
	assert_string_equal(chosen_on(1, 8, 1 << 20, ""), "direct");
	assert_string_equal(chosen_on(8, 1, 1 << 20, ""), "circulant");
	assert_string_equal(chosen_on(8, 1, 8 << 20, ""), "ring");
	assert_string_equal(chosen_on(2, 8, 1 << 20, "allreduce:ring"), "ring");
	assert_int_equal(snti_select(&uneven, "", &choice), 0);
	assert_string_equal(choice.algorithm->name, "direct");
}

/* In how many rounds something goes from one node to another. */
static uint32_t rounds_across(const char *name, uint32_t nodes, uint32_t node_size)
{
	struct snti_plan_shape shape = { .collective = SNT_ALLREDUCE, .size = nodes * node_size, .node_size = node_size };
	uint8_t across[1024] = { 0 };
	uint32_t count = 0;

	for (shape.rank = 0; shape.rank < shape.size; shape.rank++) {
		struct snti_plan plan;

		snti_plan_init(&plan, &shape);
		snti_algorithm_find(SNT_ALLREDUCE, name)->build(&plan);
		assert_int_equal(snti_plan_commit(&plan), 0);
		assert_true(plan.rounds <= sizeof(across));
		for (uint32_t i = 0; i < plan.step_count; i++)
			if (plan.steps[i].op == SNTI_STEP_SEND && plan.steps[i].peer / node_size != shape.rank / node_size)
				across[plan.steps[i].round] = 1;
		snti_plan_fini(&plan);
	}
	for (size_t i = 0; i < sizeof(across); i++)
		count += across[i];
	return count;
}

/* What the table's order rests on. */
static void hierarchical_goes_across_in_no_more_rounds_than_what_it_stands_before(void **state)
{
	(void)state;
	for (uint32_t nodes = 2; nodes < 12; nodes++)
		for (uint32_t node_size = 2; node_size < 10; node_size++) {
			uint32_t rounds = rounds_across("hierarchical", nodes, node_size);

			assert_true(rounds <= rounds_across("ring", nodes, node_size));
			if (nodes <= 3)
				assert_true(rounds <= rounds_across("circulant", nodes, node_size));
		}
}

static void the_first_override_that_fits_wins(void **state)
{
	static const char overrides[] = "allreduce:-4K:ring,allreduce:4K-8K:tree/slices=3,allreduce:circulant,broadcast:chain";

	(void)state;
	assert_string_equal(chosen(SNT_ALLREDUCE, 8, 0, overrides), "ring");
	assert_string_equal(chosen(SNT_ALLREDUCE, 8, 4096, overrides), "ring");
	assert_string_equal(chosen(SNT_ALLREDUCE, 8, 4097, overrides), "tree");
	assert_int_equal(choose(SNT_ALLREDUCE, 8, 8192, overrides).slices, 3);
	assert_string_equal(chosen(SNT_ALLREDUCE, 8, 8193, overrides), "circulant");
	assert_string_equal(chosen(SNT_BROADCAST, 8, 8, overrides), "chain");
	assert_string_equal(chosen(SNT_REDUCE, 8, 8, overrides), "binomial");
}

static void an_algorithm_that_cannot_serve_the_call_does_not_fit(void **state)
{
	struct snti_question q = { .collective = SNT_ALLTOALL, .size = 64, .bytes = 64, .unequal_blocks = 1 };
	struct snti_choice choice;

	(void)state;
	assert_string_equal(chosen(SNT_ALLTOALL, 64, 64, ""), "bruck");
	assert_int_equal(snti_select(&q, "alltoall:bruck", &choice), 0);
	assert_string_equal(choice.algorithm->name, "pairwise");
	assert_string_equal(chosen(SNT_ALLREDUCE, 17, 8, "allreduce:oneshot"), "doubling");
}

static void a_wrong_override_is_named_with_what_is_known(void **state)
{
	static const struct { const char *text, *says; } wrong[] = {
		{ "allreduce", "'allreduce'" },
		{ "allreduce:rings", "unknown algorithm 'rings'" },
		{ "allreduce:rings", "circulant" },
		{ "alreduce:ring", "unknown collective 'alreduce'" },
		{ "alreduce:ring", "alltoall" },
		{ "send:ring", "unknown collective 'send'" },
		{ "allreduce:ring,broadcast:4X-:chain", "broadcast:4X-:chain" },
		{ "allreduce:4K:ring", "sizes of 'allreduce:4K:ring'" },
		{ "allreduce:8K-4K:ring", "sizes of" },
		{ "allreduce:ring/slices=0", "from 1 to" },
		{ "allreduce:ring/slices=4097", "from 1 to" },
		{ "allreduce:ring/slices=2x", "from 1 to" },
		{ "allreduce:ring/cuts=2", "/cuts=2" },
		{ "allreduce:ring,,", "''" },
		{ "allreduce:0-4K:x:ring", "sizes of" },
		{ ":", "unknown collective ''" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(snti_select_check(wrong[i].text), SNT_EINVAL);
		if (!strstr(snt_error_text(), wrong[i].says))
			fail_msg("'%s': '%s' does not say '%s'", wrong[i].text, snt_error_text(), wrong[i].says);
	}
	assert_int_equal(snti_select_check(""), 0);
	assert_int_equal(snti_select_check("allreduce:0-4K:doubling,allreduce:4K-:ring"), 0);
}

static void a_mistake_behind_an_override_that_fits_is_found_too(void **state)
{
	struct snti_question q = { .collective = SNT_ALLREDUCE, .size = 4, .bytes = 8 };
	struct snti_choice choice;

	(void)state;
	assert_int_equal(snti_select(&q, "allreduce:ring,reduce:rong", &choice), SNT_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_has_an_answer_for_every_question),
		cmocka_unit_test(small_and_large_calls_get_different_algorithms),
		cmocka_unit_test(slices_follow_the_wire),
		cmocka_unit_test(several_ranks_on_each_of_several_nodes_get_hierarchical),
		cmocka_unit_test(hierarchical_goes_across_in_no_more_rounds_than_what_it_stands_before),
		cmocka_unit_test(the_first_override_that_fits_wins),
		cmocka_unit_test(an_algorithm_that_cannot_serve_the_call_does_not_fit),
		cmocka_unit_test(a_wrong_override_is_named_with_what_is_known),
		cmocka_unit_test(a_mistake_behind_an_override_that_fits_is_found_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
