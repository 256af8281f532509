/* SPDX-License-Identifier: BSD-3-Clause */
/* test_refusals.c - what is refused and leaves everything usable: wrong arguments, and want of descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/job.h"

enum { SOON_S = 4, STOP_TIMEOUT_MS = 1500, STARTUP_MS = 2000, LARGE = 1 << 18 };

static const char *const transports[] = { "shm", "tcp", "shm,tcp" };

/* Whom descriptors fail, and how many are left to it. */
struct plot { int culprit, left; };

static const struct plot *plot_of(const struct job_rank *me)
{
	return me->job->arg;
}

/* ---- wrong arguments ----------------------------------------------------- */

static void refuse(struct job_rank *me, struct snt_team *team, struct snt_call call, const char *what)
{
	int status;

	call.size = sizeof(call);
	status = snt_call(team, &call);
	job_expect(me, status == SNT_EINVAL, "%s: %s", what, snt_status_name(status));
	job_expect(me, snt_error_text()[0], "%s: no text", what);
}

static void refuse_all(struct job_rank *me, struct snt_team *team)
{
	int32_t in[8] = { 0 }, out[8];
	size_t huge[2] = { SIZE_MAX, 1 }, ones[2] = { 1, 1 }, twos[2] = { 2, 2 }, apart[2] = { 2, 4 };
	const struct snt_call good = { .collective = SNT_ALLREDUCE, .in = in, .out = out, .count = 1, .type = SNT_INT32 };

#define REFUSE(what, ...) \
	do { \
		struct snt_call c = good; \
		__VA_ARGS__; \
		refuse(me, team, c, what); \
	} while (0)
	REFUSE("in is NULL", c.in = NULL);
	REFUSE("out is NULL", c.out = NULL);
	REFUSE("no such type", c.type = SNT_TYPE_COUNT);
	REFUSE("a negative type", c.type = (enum snt_type)-1);
	REFUSE("no such fold", c.fold = SNT_FOLD_COUNT);
	REFUSE("no such collective", c.collective = SNT_COLLECTIVE_COUNT);
	REFUSE("a negative root", c.collective = SNT_BROADCAST, c.root = -1);
	REFUSE("a root beyond the team", c.collective = SNT_REDUCE, c.root = me->ranks);
	REFUSE("bits of floats", c.type = SNT_FLOAT32, c.fold = SNT_BAND);
	REFUSE("logic of floats", c.type = SNT_FLOAT16, c.fold = SNT_LXOR);
	REFUSE("a count of SIZE_MAX", c.count = SIZE_MAX);
	REFUSE("a count that overflows", c.count = SIZE_MAX / 4 + 1);
	REFUSE("a count that overflows in P blocks", c.collective = SNT_ALLGATHER, c.count = SIZE_MAX / 8);
	REFUSE("a message to itself", c.collective = SNT_SEND, c.root = me->rank);
	REFUSE("counts where none belong", c.in_layout.counts = huge);
	REFUSE("offsets without counts", c.collective = SNT_ALLGATHER, c.out_layout.offsets = huge);
	REFUSE("counts that overflow", c.collective = SNT_ALLGATHER, c.out_layout.counts = huge);
	REFUSE("an own block of two sizes", c.collective = SNT_ALLTOALL, c.in_layout.counts = ones,
	       c.out_layout.counts = twos);
	REFUSE("an own block that would move in place", c.collective = SNT_ALLTOALL, c.in = c.out = out,
	       c.in_layout.counts = c.out_layout.counts = ones, c.out_layout.offsets = apart);
#undef REFUSE
}

static int misuse(struct job_rank *me, struct snt_team *team)
{
	int32_t one = 1, sum = 0;
	struct snt_call nothing = { SNT_CALL(SNT_COLLECTIVE_COUNT) };
	struct snt_op *op = (struct snt_op *)&one;
	int status;

	refuse_all(me, team);
	job_expect(me, snt_op_create(team, &nothing, &op) == SNT_EINVAL && !op, "a refused operation leaves a handle");
	job_expect(me, snt_barrier(NULL) == SNT_EINVAL, "a NULL team is not refused");
	job_expect(me, snt_call(team, NULL) == SNT_EINVAL, "a NULL call is not refused");
	job_expect(me, snt_op_create(team, NULL, &op) == SNT_EINVAL, "a NULL call to prepare is not refused");
	job_expect(me, snt_op_start(NULL) == SNT_EINVAL && snt_op_wait(NULL) == SNT_EINVAL, "a NULL operation is not refused");
	snt_op_free(NULL);
	snt_team_destroy(NULL);
	status = snt_allreduce(team, &one, &sum, 1, SNT_INT32, SNT_SUM);
	job_expect(me, !status && sum == me->ranks, "allreduce after refused calls: %s", snt_status_name(status));
	return 0;
}

static void wrong_arguments_are_refused_and_leave_the_team_usable(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct job job = { .ranks = 2, .transports = transports[i], .run = misuse };

		assert_int_equal(job_run(&job), 0);
		job_end(&job);
	}
}

static void wrong_options_are_refused(void **state)
{
	struct snt_team_options options = SNT_TEAM_OPTIONS;
	struct snt_ticket ticket;
	struct snt_team *team = (struct snt_team *)&ticket;

	(void)state;
	assert_int_equal(snt_ticket_create(SNT_REACH_LOCAL, NULL), SNT_EINVAL);
	assert_int_equal(snt_ticket_create(SNT_REACH_LOCAL, &ticket), 0);
	options.ranks = 2;
	options.rank = 2;
	options.ticket = &ticket;
	assert_int_equal(snt_team_create(&options, &team), SNT_EINVAL);
	assert_null(team);
	options.rank = -1;
	assert_int_equal(snt_team_create(&options, &team), SNT_EINVAL);
	options.rank = 0;
	options.transports = "pigeon";
	assert_int_equal(snt_team_create(&options, &team), SNT_EINVAL);
	options.transports = NULL;
	options.algorithms = "allreduce:nonsense";
	assert_int_equal(snt_team_create(&options, &team), SNT_EINVAL);
	assert_null(team);
}

/* ---- no descriptors left ------------------------------------------------- */

/* Leaves this process @most descriptors to open; older ones may lie anywhere. */
static void leave_descriptors(int most, rlim_t hard)
{
	int next[16] = { 0 };
	struct rlimit limit;

	for (int i = 0; i <= most; i++)
		next[i] = dup(0);
	limit.rlim_cur = (rlim_t)next[most];
	limit.rlim_max = hard;
	for (int i = 0; i <= most; i++)
		close(next[i]);
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* A team that is up needs no more: memory whose descriptor does not come in is copied. */
static int run_dry_later(struct job_rank *me, struct snt_team *team)
{
	const struct plot *plot = plot_of(me);
	static int64_t warm[2][LARGE];
	int64_t *in = snt_alloc(LARGE * sizeof(*in)), *out = snt_alloc(LARGE * sizeof(*out));
	struct rlimit before;

	job_expect(me, in && out && !getrlimit(RLIMIT_NOFILE, &before), "snt_alloc: %s", snt_error_text());
	job_expect(me, !snt_allreduce(team, warm[0], warm[1], LARGE, SNT_INT64, SNT_MAX), "to connect: %s", snt_error_text());
	if (me->rank == plot->culprit)
		leave_descriptors(0, before.rlim_max);
	for (int round = 0; round < 3; round++) {
		int status;

		for (int i = 0; i < LARGE; i++)
			in[i] = i + round + me->rank;
		status = snt_allreduce(team, in, out, LARGE, SNT_INT64, SNT_MAX);
		job_expect(me, !status, "allreduce: %s", snt_error_text());
		for (int i = 0; i < LARGE; i++)
			job_expect(me, out[i] == i + round + me->ranks - 1, "element %d is wrong", i);
	}
	setrlimit(RLIMIT_NOFILE, &before);
	snt_free(in);
	snt_free(out);
	return 0;
}

static void a_process_that_runs_out_of_descriptors_later_goes_on(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++) {
		struct plot plot = { .culprit = i / 3 };
		struct job job = { .ranks = 3, .transports = transports[i % 3], .run = run_dry_later, .arg = &plot };
		int bad = job_run(&job);

		job_end(&job);
		assert_int_equal(bad, 0);
	}
}

/* It may fail while the team is made, at the first operation, or not at all. */
static int run_dry(struct job_rank *me, struct snt_team *team)
{
	const struct plot *plot = plot_of(me);
	int status;

	if (me->rank == plot->culprit)
		leave_descriptors(plot->left, 4096);
	job_mark(me);
	status = job_team(me, 0, &team);
	for (int i = 0; !status && i < 10; i++)
		status = snt_barrier(team);
	job_keep_error(me, status, me->rank);
	snt_team_destroy(team);
	return 0;
}

static void a_process_out_of_descriptors_says_so_and_nobody_hangs(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		struct plot plot = { .culprit = i & 1, .left = i / 2 };
		struct job job = { .ranks = 3, .timeout_ms = STOP_TIMEOUT_MS, .bare = 1, .run = run_dry, .arg = &plot };
		const struct job_result *culprit;

		assert_int_equal(job_run(&job), 0);
		culprit = &job.results[plot.culprit];
		if (culprit->error && culprit->error != SNT_ELIMIT && culprit->error != SNT_EDEVICE)
			fail_msg("%d files, rank %d: %s: '%s'", plot.left, plot.culprit, snt_status_name(culprit->error),
				 culprit->text);
		for (int r = 0; r < 3; r++)
			assert_true(job.results[r].seconds < SOON_S && !job.results[r].error == !culprit->error);
		job_end(&job);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_arguments_are_refused_and_leave_the_team_usable),
		cmocka_unit_test(wrong_options_are_refused),
		cmocka_unit_test(a_process_out_of_descriptors_says_so_and_nobody_hangs),
		cmocka_unit_test(a_process_that_runs_out_of_descriptors_later_goes_on),
	};
	char startup[16];

	snprintf(startup, sizeof(startup), "%d", STARTUP_MS);
	setenv("SNT_STARTUP_TIMEOUT", startup, 0);
	setenv("SNT_LOG", "0", 0);   /* the failures are meant; say SNT_LOG=2 to see them */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
