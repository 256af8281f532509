/* SPDX-License-Identifier: BSD-3-Clause */
/* test_scope.c - the status of a failure says as much as is broken: here, on the other ranks, in a call alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "collectives/team.h"
#include "tests/job.h"

static struct snt_team *team_of_one(void)
{
	struct snt_team_options one = SNT_TEAM_OPTIONS;
	struct snt_team *team;

	one.ranks = 1;
	assert_int_equal(snt_team_create(&one, &team), 0);
	return team;
}

static void what_breaks_a_team_has_its_scope_at_least(void **state)
{
	(void)state;
#define FAIL(name, value, scope, sentence) { \
		struct snt_team *team = team_of_one(); \
		int status = snti_team_fail(team, name); \
		assert_true(snt_status_scope(status) >= SNT_SCOPE_TEAM); \
		assert_true(status == name || (scope) < SNT_SCOPE_TEAM); \
		assert_int_equal(snt_barrier(team), SNT_EBROKEN); \
		snt_team_destroy(team); \
	}
	SNT_STATUS_LIST(FAIL)
#undef FAIL
}

static int lose_the_way(struct job_rank *me, struct snt_team *team)
{
	if (me->rank == 1)
		team->cards[0].ports = 0;
	job_keep_error(me, snt_barrier(team), -1);
	return 0;
}

static int run_out_of_memory(struct job_rank *me, struct snt_team *team)
{
	if (me->rank == 1)
		job_keep_error(me, snti_team_fail(team, snti_fail(SNT_ENOMEM, "no memory, for this test")), -1);
	else
		job_keep_error(me, snt_barrier(team), -1);
	return 0;
}

static void expect_statuses(int (*run)(struct job_rank *, struct snt_team *), int there, int here)
{
	struct job job = { .ranks = 2, .run = run };

	assert_int_equal(job_run(&job), 0);
	if (job.results[1].error != there || job.results[0].error != here)
		fail_msg("%s on rank 1, %s on rank 0", snt_status_name(job.results[1].error),
			 snt_status_name(job.results[0].error));
	assert_non_null(strstr(job.results[0].text, "rank 1"));
	job_end(&job);
}

static void no_way_to_a_rank_breaks_the_team(void **state)
{
	(void)state;
	expect_statuses(lose_the_way, SNT_EUNREACHABLE, SNT_EUNREACHABLE);
}

static void a_limit_over_there_is_an_end_of_the_team_here(void **state)
{
	(void)state;
	expect_statuses(run_out_of_memory, SNT_ELIMIT, SNT_EABORTED);
}

/* Nobody else counts on what was never prepared. */
static void a_call_that_is_not_allowed_leaves_the_team(void **state)
{
	int status;
	struct snt_team *team = team_of_one();
	struct snt_call call = { SNT_CALL(SNT_ALLREDUCE), .type = SNT_TYPE_COUNT };
	struct snt_op *op;

	(void)state;
	status = snt_op_create(team, &call, &op);
	assert_int_equal(snt_status_scope(status), SNT_SCOPE_CALL);
	assert_int_equal(snt_barrier(team), 0);
	snt_team_destroy(team);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_breaks_a_team_has_its_scope_at_least),
		cmocka_unit_test(no_way_to_a_rank_breaks_the_team),
		cmocka_unit_test(a_limit_over_there_is_an_end_of_the_team_here),
		cmocka_unit_test(a_call_that_is_not_allowed_leaves_the_team),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
