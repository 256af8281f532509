/* SPDX-License-Identifier: BSD-3-Clause */
/* test_scope.c - the status of a failure says as much as is broken, and what goes on is no failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

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

/* ---- what goes on all the same -------------------------------------------- */

static int lines[SNT_LOG_TRACE + 1];

static void count_line(enum snt_log_level level, const char *text, void *arg)
{
	(void)text;
	(void)arg;
	lines[level]++;
}

static void sum_ones(struct job_rank *me, struct snt_team *team, size_t count)
{
	int32_t *data = malloc(count * sizeof(*data));
	int status;

	for (size_t i = 0; i < count; i++)
		data[i] = 1;
	status = snt_allreduce(team, data, data, count, SNT_INT32, SNT_SUM);   /* in place needs scratch */
	job_expect(me, !status && data[count - 1] == me->ranks, "allreduce of %zu: %s", count, snt_error_text());
	free(data);
}

static int go_on_without_descriptors(struct job_rank *me, struct snt_team *team)
{
	struct snt_team_options options = SNT_TEAM_OPTIONS;
	struct rlimit none = { 0, 0 };

	options.rank = me->rank;
	options.ranks = me->ranks;
	options.ticket = &me->job->tickets[0];
	options.algorithms = "allreduce:doubling";
	job_expect(me, !snt_team_create(&options, &team), "no team: %s", snt_error_text());
	sum_ones(me, team, 1);
	snt_log_to(count_line, NULL);
	setrlimit(RLIMIT_NOFILE, &none);
	sum_ones(me, team, 50000);
	sum_ones(me, team, 60000);
	job_expect(me, lines[SNT_LOG_ERROR] == 0 && lines[SNT_LOG_WARN] == 1, "%d errors, %d warnings", lines[SNT_LOG_ERROR],
		   lines[SNT_LOG_WARN]);
	snt_team_destroy(team);
	return 0;
}

static void scratch_in_private_memory_is_one_warning_and_no_error(void **state)
{
	struct job job = { .ranks = 2, .bare = 1, .run = go_on_without_descriptors };
	int bad = job_run(&job);

	(void)state;
	if (bad)
		fail_msg("%s%s", job.results[0].complaint, job.results[1].complaint);
	job_end(&job);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_breaks_a_team_has_its_scope_at_least),
		cmocka_unit_test(no_way_to_a_rank_breaks_the_team),
		cmocka_unit_test(a_limit_over_there_is_an_end_of_the_team_here),
		cmocka_unit_test(a_call_that_is_not_allowed_leaves_the_team),
		cmocka_unit_test(scratch_in_private_memory_is_one_warning_and_no_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
