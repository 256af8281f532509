/* SPDX-License-Identifier: BSD-3-Clause */
/* test_answers.c - joint folds, and the messages that may be left out because their bytes have come before them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "collectives/pieces.h"
#include "collectives/verify.h"

enum { RANKS_MOST = 12 };

static struct snti_plan *build(const struct snti_algorithm *a, uint32_t size, int in_place)
{
	struct snti_plan_shape shape = { .collective = a->collective, .size = size, .node_size = size % 2 ? 0 : 2,
		.in_place = in_place };
	struct snti_plan *plans = NULL;

	return snti_plans_build(a, &shape, &plans) ? NULL : plans;
}

/* The step of @to that takes what step @i of @from sends. */
static uint32_t taker(const struct snti_plan *from, uint32_t i, const struct snti_plan *to)
{
	uint32_t number = 0, k = 0;

	for (uint32_t j = 0; j < i; j++)
		number += from->steps[j].op == SNTI_STEP_SEND && from->steps[j].peer == to->rank;
	for (;; k++) {
		const struct snti_step *s = &to->steps[k];

		assert_true(k < to->step_count);
		if ((s->op == SNTI_STEP_RECV || s->op == SNTI_STEP_FOLD) && s->peer == from->rank && !number--)
			return k;
	}
}

/* From the send, through the fold and what it sends back, to the step that takes that: it must be the one the send named. */
static uint32_t check_send(const struct snti_plan *plans, const struct snti_plan *me, uint32_t i)
{
	const struct snti_step *send = &me->steps[i], *take = &me->steps[send->answer - 1], *fold;
	const struct snti_plan *other = &plans[send->peer];
	uint32_t k = taker(me, i, other);

	fold = &other->steps[k];
	assert_int_equal(take->op, SNTI_STEP_RECV);
	assert_int_equal(take->peer, send->peer);
	assert_int_equal(take->round, send->round + 1);
	if (fold->op != SNTI_STEP_FOLD || !fold->answer || fold->number != send->number)
		return 0;
	assert_int_equal(other->steps[fold->answer - 1].op, SNTI_STEP_SEND);
	assert_int_equal(other->steps[fold->answer - 1].from_chunk, fold->to_chunk);
	assert_ptr_equal(&me->steps[taker(other, fold->answer - 1, me)], take);
	assert_int_equal(take->to_chunk, fold->to_chunk);
	assert_int_equal(take->count, fold->count);
	return 1;
}

static uint32_t count_answers(const struct snti_plan *plans)
{
	uint32_t answers = 0;

	for (uint32_t r = 0; r < plans->size; r++)
		for (uint32_t i = 0; i < plans[r].step_count; i++)
			if (plans[r].steps[i].op == SNTI_STEP_SEND && plans[r].steps[i].answer)
				answers += check_send(plans, &plans[r], i);
	return answers;
}

static void an_answer_is_the_same_message_on_both_sides(void **state)
{
	(void)state;
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		for (uint32_t size = 2; size <= RANKS_MOST; size++)
			for (int in_place = 0; in_place < 2; in_place++) {
				struct snti_plan *plans = build(a, size, in_place);
				uint32_t answers = plans ? count_answers(plans) : 0;

				if (plans && a->build == snti_allreduce_direct)
					assert_int_equal(answers, size * (size - 1));
				if (plans && a->build == snti_allreduce_ring && size == 2)
					assert_int_equal(answers, 2);
				if (a->collective != SNT_ALLREDUCE)
					assert_int_equal(answers, 0);
				snti_plans_free(plans, size);
			}
}

/* Rank 0 of two: sends its second chunk, folds its first, and in the next round gets the second back. */
static void begin_exchange(struct snti_plan *p, int in_place)
{
	struct snti_plan_shape shape = { .collective = SNT_ALLREDUCE, .size = 2, .in_place = in_place };

	snti_plan_init(p, &shape);
	p->chunks = 2;
	snti_plan_send(p, 1, SNTI_IN, 1, 1);
}

static uint32_t end_exchange(struct snti_plan *p, int to)
{
	uint32_t answer;

	snti_plan_fold(p, 1, SNTI_OUT, SNTI_IN, 0, 1);
	snti_plan_round(p);
	snti_plan_send(p, 1, SNTI_OUT, 0, 1);
	snti_plan_recv(p, 1, to, 1, 1);
	assert_int_equal(snti_plan_commit(p), 0);
	answer = p->steps[0].answer;
	snti_plan_fini(p);
	return answer;
}

static void there_is_no_room_where_the_round_still_works(void **state)
{
	struct snti_plan p;

	(void)state;
	for (int in_place = 0; in_place < 2; in_place++) {
		begin_exchange(&p, in_place);
		assert_int_not_equal(end_exchange(&p, SNTI_OUT), 0);
		begin_exchange(&p, in_place);
		snti_plan_copy(&p, SNTI_TMP, 0, SNTI_OUT, 1, 1);   /* reads there */
		assert_int_equal(end_exchange(&p, SNTI_OUT), 0);
		begin_exchange(&p, in_place);
		snti_plan_copy(&p, SNTI_OUT, 1, SNTI_TMP, 1, 1);   /* writes there */
		assert_int_equal(end_exchange(&p, SNTI_OUT), 0);
		begin_exchange(&p, in_place);
		assert_int_equal(end_exchange(&p, SNTI_TMP), 0);   /* scratch is no result */
		begin_exchange(&p, in_place);
		snti_plan_send(&p, 1, SNTI_IN, 1, 1);              /* sent twice: in place the second would send the answer */
		assert_int_equal(!end_exchange(&p, SNTI_OUT), in_place);
	}
}

/* Plans of direct, each spoiled in one way that only joint folds know. */
static void spoiled_joint_folds_are_refused(void **state)
{
	char why[160];

	(void)state;
	for (int way = 0; way < 4; way++) {
		struct snti_plan *plans = build(snti_algorithm_find(SNT_ALLREDUCE, "direct"), 4, 0);
		struct snti_step *s = plans[2].steps, swap = s[2];

		assert_int_equal(s[3].joint, 3);
		assert_int_equal(s[5].joint, 1);
		if (way == 0)
			s[4].left = 1;                 /* one pass knows one order */
		else if (way == 1)
			s[4].from = SNTI_OUT;          /* not the same fold any more, but the same place */
		else if (way == 2)
			s[2] = s[5], s[5] = swap;      /* waits for all while a send behind it has not begun */
		else
			s[5].peer = s[4].peer;         /* two of one, none of another */
		assert_int_equal(snti_verify(plans, 4, why, sizeof(why)), SNT_EINVAL);
		snti_plans_free(plans, 4);
	}
}

/* Of three ranks the first wants both others at once, but the third sends only after what the second sends behind it. */
static void a_joint_fold_takes_nothing_before_all_is_there(void **state)
{
	struct snti_plan_shape shape = { .collective = SNT_ALLREDUCE, .size = 3 };
	struct snti_plan p[3];
	struct snti_walk walk = { .arg = NULL };

	(void)state;
	for (uint32_t r = 0; r < 3; r++) {
		shape.rank = r;
		snti_plan_init(&p[r], &shape);
	}
	snti_plan_join(&p[0], 1, SNTI_OUT, SNTI_IN, 0, 1);
	snti_plan_join(&p[0], 2, SNTI_OUT, SNTI_IN, 0, 1);
	snti_plan_send(&p[1], 0, SNTI_IN, 0, 1);
	snti_plan_round(&p[1]);
	snti_plan_send(&p[1], 2, SNTI_IN, 0, 1);
	snti_plan_recv(&p[2], 1, SNTI_OUT, 0, 1);
	snti_plan_round(&p[2]);
	snti_plan_send(&p[2], 0, SNTI_IN, 0, 1);
	for (uint32_t r = 0; r < 3; r++)
		assert_int_equal(snti_plan_commit(&p[r]), 0);
	assert_int_equal(snti_walk_plans(p, 3, &walk), SNT_ETIMEOUT);
	for (uint32_t r = 0; r < 3; r++)
		snti_plan_fini(&p[r]);
}

static void direct_refuses_too_many_ranks(void **state)
{
	(void)state;
	assert_null(build(snti_algorithm_find(SNT_ALLREDUCE, "direct"), SNTI_DIRECT_MOST + 1, 0));
	assert_non_null(strstr(snt_error_text(), "8 ranks"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_is_the_same_message_on_both_sides),
		cmocka_unit_test(there_is_no_room_where_the_round_still_works),
		cmocka_unit_test(spoiled_joint_folds_are_refused),
		cmocka_unit_test(a_joint_fold_takes_nothing_before_all_is_there),
		cmocka_unit_test(direct_refuses_too_many_ranks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
