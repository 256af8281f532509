/* SPDX-License-Identifier: BSD-3-Clause */
/* test_faults.c - ranks that die, stop or disagree: every other rank learns it in time, and nothing is left behind. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/job.h"

enum { COUNT = 1 << 20, SOON_S = 4, MISMATCH_SOON_S = 3, STOP_TIMEOUT_MS = 1500, STARTUP_MS = 2000, LARGE = 1 << 18 };

static const char *const transports[] = { "shm", "tcp", "shm,tcp" };

/* Who does what in the jobs below. */
struct plot {
	int culprit, signal;
	int rounds;              /* allreduces before it happens */
	struct snt_call right, wrong;
};

static const struct plot *plot_of(const struct job_rank *me)
{
	return me->job->arg;
}

/* ---- after a failure ----------------------------------------------------- */

/* A team that failed refuses everything, and says so at once. */
static void expect_broken(struct job_rank *me, struct snt_team *team)
{
	int32_t in = 1, out;
	struct snt_call call = { SNT_CALL(SNT_ALLREDUCE), .in = &in, .out = &out, .count = 1, .type = SNT_INT32 };
	struct snt_op *op = NULL;
	int status = snt_barrier(team);

	job_expect(me, status == SNT_EBROKEN, "barrier after a failure: %s", snt_status_name(status));
	status = snt_op_create(team, &call, &op);
	job_expect(me, status == SNT_EBROKEN, "snt_op_create after a failure: %s", snt_status_name(status));
	status = snt_team_progress(team);
	job_expect(me, status < 0, "snt_team_progress after a failure: %s", snt_status_name(status));
}

static void fail_if_survivors_differ(const struct job *job, const char *names, double soon)
{
	const struct plot *plot = job->arg;
	char rank[16];

	snprintf(rank, sizeof(rank), "rank %d", plot->culprit);
	for (int r = 0; r < job->ranks; r++) {
		const struct job_result *result = &job->results[r];
		const char *name = snt_status_name(result->error);

		if (r == plot->culprit && plot->signal)
			continue;
		if (result->exit == 0 && strstr(names, name) && strstr(result->text, rank) &&
		    result->seconds >= -0.001 && result->seconds < soon)
			continue;
		fail_msg("%s, %d ranks, culprit %d: rank %d exits with %d (signal %d), %s after %.2f s: '%s'", job->transports,
			 job->ranks, plot->culprit, r, result->exit, result->signal, name, result->seconds, result->text);
	}
}

static void expect_culprit_killed(const struct job *job)
{
	const struct plot *plot = job->arg;

	assert_int_equal(job->results[plot->culprit].signal, SIGKILL);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void strike(struct job *job, struct plot *plot, int culprit, const char *names)
{
	plot->culprit = culprit;
	job->ranks = 4;
	job->arg = plot;
	job_run(job);
	expect_culprit_killed(job);
	fail_if_survivors_differ(job, names, SOON_S);
	job_end(job);
}

/* Runs a job in which somebody is killed or stopped, on every transport, for two culprits. */
static void strike_everywhere(struct job *job, struct plot *plot, const char *names)
{
	for (int i = 0; i < 3; i++) {
		job->transports = transports[i];
		strike(job, plot, 0, names);
		strike(job, plot, 2, names);
	}
}

/* ---- late ---------------------------------------------------------------- */

enum { LATE_TIMEOUT_MS = 200, LATE_US = 1500000 };

static int wait_in_vain(struct job_rank *me, struct snt_team *team)
{
	int status;

	job_mark(me);
	if (me->rank)
		usleep(LATE_US);
	status = snt_barrier(team);
	job_keep_error(me, status, me->rank);
	return 0;
}

/* In a process of its own, as settings are read once. */
static void a_long_spin_keeps_the_timeout(void **state)
{
	struct job job = { .ranks = 2, .timeout_ms = LATE_TIMEOUT_MS, .run = wait_in_vain };
	int ended;
	pid_t child;

	(void)state;
	child = fork();
	if (!child) {
		setenv("SNT_SPIN", "1000000", 1);
		job_run(&job);
		_exit(job.results[0].error == SNT_ETIMEOUT && job.results[0].seconds < 0.9 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &ended, 0), child);
	assert_int_equal(ended, 0);
}

/* ---- killed and stopped -------------------------------------------------- */

static int start_late(struct job_rank *me, struct snt_team *team)
{
	const struct plot *plot = plot_of(me);
	int status;

	if (me->rank == plot->culprit)
		job_strike(me, plot->signal);
	usleep(50000);
	status = job_team(me, 0, &team);
	job_expect(me, status < 0, "snt_team_create without rank %d: %s", plot->culprit, snt_status_name(status));
	job_keep_error(me, status, plot->culprit);
	job_expect_clean(me);
	return 0;
}

static void all_others_learn_that_a_rank_was_killed_before_it_started(void **state)
{
	struct plot plot = { .signal = SIGKILL };
	struct job job = { .bare = 1, .run = start_late };

	(void)state;
	strike(&job, &plot, 0, "SNT_ETIMEOUT SNT_EPEER SNT_EABORTED");
	strike(&job, &plot, 2, "SNT_ETIMEOUT SNT_EPEER SNT_EABORTED");
}

static int strike_in_loop(struct job_rank *me, struct snt_team *team)
{
	const struct plot *plot = plot_of(me);
	float *data = calloc(COUNT, sizeof(*data));
	int status = 0;

	job_expect(me, data != NULL, "no memory");
	for (int i = 0; !status; i++) {
		if (i == plot->rounds && me->rank == plot->culprit)
			job_strike(me, plot->signal);
		status = snt_allreduce(team, data, data, COUNT, SNT_FLOAT32, SNT_SUM);
	}
	job_keep_error(me, status, plot->culprit);
	expect_broken(me, team);
	free(data);
	return 0;
}

static void all_others_learn_that_a_rank_was_killed_between_operations(void **state)
{
	struct plot plot = { .signal = SIGKILL, .rounds = 3 };
	struct job job = { .run = strike_in_loop };

	(void)state;
	strike_everywhere(&job, &plot, "SNT_EPEER SNT_EABORTED");
}

static void all_others_learn_that_a_rank_is_stopped(void **state)
{
	struct plot plot = { .signal = SIGSTOP, .rounds = 3 };
	struct job job = { .run = strike_in_loop, .timeout_ms = STOP_TIMEOUT_MS };

	(void)state;
	strike_everywhere(&job, &plot, "SNT_ETIMEOUT SNT_EPEER SNT_EABORTED");
}

static const struct plot *striker;
static struct job_rank *struck;

static void strike_now(int signal)
{
	(void)signal;
	job_strike(struck, striker->signal);
}

/* A timer ends the culprit wherever it is in an allreduce. */
static int strike_inside(struct job_rank *me, struct snt_team *team)
{
	static const struct itimerval soon = { .it_value = { .tv_usec = 30000 } };

	striker = plot_of(me);
	struck = me;
	if (me->rank == striker->culprit) {
		signal(SIGALRM, strike_now);
		setitimer(ITIMER_REAL, &soon, NULL);
	}
	return strike_in_loop(me, team);
}

static void all_others_learn_that_a_rank_was_killed_inside_an_operation(void **state)
{
	struct plot plot = { .signal = SIGKILL, .rounds = -1 };
	struct job job = { .run = strike_inside };

	(void)state;
	strike_everywhere(&job, &plot, "SNT_EPEER SNT_EABORTED");
}

/* The culprit goes when it would end the team; what it owed is done. */
static int strike_at_end(struct job_rank *me, struct snt_team *team)
{
	const struct plot *plot = plot_of(me);
	float *data = calloc(COUNT, sizeof(*data));
	double from;
	int status = snt_allreduce(team, data, data, COUNT, SNT_FLOAT32, SNT_SUM);

	job_expect(me, !status, "allreduce: %s", snt_error_text());
	if (me->rank == plot->culprit) {
		usleep(50000);   /* so that the others are through, too */
		job_strike(me, plot->signal);
	}
	from = job_seconds();
	snt_team_destroy(team);
	me->result->seconds = job_seconds() - from;
	free(data);
	job_expect_clean(me);
	return 0;
}

static int strike_at_end_bare(struct job_rank *me, struct snt_team *team)
{
	int status = job_team(me, 0, &team);

	job_expect(me, !status, "snt_team_create: %s", snt_error_text());
	return strike_at_end(me, team);
}

static void teams_end_in_time_though_a_rank_is_killed_or_stopped_at_the_end(void **state)
{
	static const int signals[] = { SIGKILL, SIGSTOP };

	(void)state;
	for (int i = 0; i < 8; i++) {
		struct plot plot = { .culprit = i & 4 ? 2 : 0, .signal = signals[i / 2 % 2] };
		struct job job = { .ranks = 4, .transports = transports[i % 2], .timeout_ms = STOP_TIMEOUT_MS,
				   .bare = 1, .run = strike_at_end_bare, .arg = &plot };

		job_run(&job);
		expect_culprit_killed(&job);
		for (int r = 0; r < job.ranks; r++)
			if (r != plot.culprit)
				assert_true(job.results[r].exit == 0 && job.results[r].seconds < SOON_S);
		job_end(&job);
	}
}

/* ---- ranks that disagree ------------------------------------------------- */

static int disagree(struct job_rank *me, struct snt_team *team)
{
	static int64_t in[LARGE], out[LARGE];
	const struct plot *plot = plot_of(me);
	struct snt_call call = me->rank == plot->culprit ? plot->wrong : plot->right;
	int status;

	call.size = sizeof(call);
	call.in = in;
	call.out = out;
	job_mark(me);
	status = snt_barrier(team);   /* may end with the failure of a rank that is through already */
	status = status ? status : snt_call(team, &call);
	if (!status)             /* it had nothing to wait for: then the next one fails */
		status = snt_barrier(team);
	job_keep_error(me, status, me->rank);
	expect_broken(me, team);
	return 0;
}

static void expect_mismatch(struct job *job)
{
	job_run(job);
	for (int r = 0; r < job->ranks; r++) {
		const struct job_result *result = &job->results[r];
		const struct plot *plot = job->arg;

		if (result->exit || result->error != SNT_EMISMATCH || result->seconds >= MISMATCH_SOON_S)
			fail_msg("%s of %zu against %s of %zu, %s, %d ranks: rank %d exits with %d, %s after %.2f s: '%s'",
				 snt_collective_name(plot->right.collective), plot->right.count,
				 snt_collective_name(plot->wrong.collective), plot->wrong.count, job->transports,
				 job->ranks, r, result->exit, snt_status_name(result->error), result->seconds, result->text);
	}
	job_end(job);
}

static void disagree_everywhere(struct snt_call right, struct snt_call wrong)
{
	for (int i = 0; i < 2; i++) {
		for (int ranks = 2; ranks <= 4; ranks++) {
			struct plot plot = { .culprit = ranks / 2, .right = right, .wrong = wrong };
			struct job job = { .ranks = ranks, .transports = transports[i], .timeout_ms = 4000,
					   .run = disagree, .arg = &plot };

			expect_mismatch(&job);
		}
	}
}

static const struct snt_call sum_of_100 = { .collective = SNT_ALLREDUCE, .count = 100, .type = SNT_INT32 };
static const struct snt_call broadcast_of_100 = { .collective = SNT_BROADCAST, .count = 100, .type = SNT_INT32 };

static void ranks_that_disagree_about_the_count_all_learn_it(void **state)
{
	struct snt_call wrong = sum_of_100;

	(void)state;
	wrong.count = 101;
	disagree_everywhere(sum_of_100, wrong);
	wrong.count = 4000;
	disagree_everywhere(sum_of_100, wrong);
	wrong = broadcast_of_100;
	wrong.count = 99;
	disagree_everywhere(broadcast_of_100, wrong);
}

static void ranks_that_disagree_about_the_type_all_learn_it(void **state)
{
	struct snt_call wrong = sum_of_100;

	(void)state;
	wrong.type = SNT_FLOAT32;
	disagree_everywhere(sum_of_100, wrong);
	wrong.type = SNT_INT64;
	disagree_everywhere(sum_of_100, wrong);
}

static void ranks_that_disagree_about_the_fold_all_learn_it(void **state)
{
	struct snt_call wrong = sum_of_100;

	(void)state;
	wrong.fold = SNT_MAX;
	disagree_everywhere(sum_of_100, wrong);
}

static void ranks_that_disagree_about_the_root_all_learn_it(void **state)
{
	struct snt_call right = sum_of_100, wrong;

	(void)state;
	right.collective = SNT_REDUCE;
	wrong = right;
	wrong.root = 1;
	disagree_everywhere(right, wrong);
	right = wrong = broadcast_of_100;    /* a small one is sent and forgotten: the barrier behind it tells */
	wrong.root = 1;
	disagree_everywhere(right, wrong);
	right.count = wrong.count = LARGE;
	disagree_everywhere(right, wrong);
}

static void ranks_that_disagree_about_the_collective_all_learn_it(void **state)
{
	(void)state;
	disagree_everywhere(sum_of_100, broadcast_of_100);
	disagree_everywhere(sum_of_100, (struct snt_call){ .collective = SNT_BARRIER });
	disagree_everywhere(sum_of_100, (struct snt_call){ .collective = SNT_ALLGATHER, .count = 100, .type = SNT_INT32 });
}

/* ---- one failure and the rest of the process ----------------------------- */

static int two_teams(struct job_rank *me, struct snt_team *team)
{
	struct snt_team *other = NULL;
	int32_t one = 1, sum = 0;
	int status = job_team(me, 1, &other);

	job_expect(me, !status, "the second team: %s", snt_error_text());
	status = snt_allreduce(team, &one, &sum, me->rank ? 1 : 0, SNT_INT32, SNT_SUM);
	status = status ? status : snt_barrier(team);
	job_expect(me, status == SNT_EMISMATCH, "the first team: %s", snt_status_name(status));
	for (int i = 0; i < 100; i++) {
		status = snt_allreduce(other, &one, &sum, 1, SNT_INT32, SNT_SUM);
		job_expect(me, !status && sum == me->ranks, "the second team: %s: %s", snt_status_name(status), snt_error_text());
	}
	snt_team_destroy(other);
	return 0;
}

static void a_second_team_goes_on_when_the_first_fails(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct job job = { .ranks = 3, .transports = transports[i], .run = two_teams };

		assert_int_equal(job_run(&job), 0);
		job_end(&job);
	}
}

struct thread { struct job_rank *me; int ticket; };

static void *use_team(void *arg)
{
	struct thread *thread = arg;
	struct job_rank *me = thread->me;
	struct snt_team *team = NULL;
	int64_t in, out;
	int status = job_team(me, thread->ticket, &team);

	job_expect(me, !status, "team %d: %s", thread->ticket, snt_error_text());
	for (int i = 0; i < 300; i++) {
		void *shared = snt_alloc(100);

		in = i + 1000 * thread->ticket;
		status = snt_allreduce(team, &in, &out, 1, SNT_INT64, SNT_SUM);
		job_expect(me, !status, "team %d, round %d: %s", thread->ticket, i, snt_error_text());
		job_expect(me, out == in * me->ranks, "team %d, round %d: a wrong sum", thread->ticket, i);
		snt_free(shared);
	}
	snt_team_destroy(team);
	return NULL;
}

static int use_threads(struct job_rank *me, struct snt_team *team)
{
	struct thread threads[JOB_TICKETS];
	pthread_t ids[JOB_TICKETS];

	(void)team;
	for (int i = 0; i < JOB_TICKETS; i++) {
		threads[i] = (struct thread){ me, i };
		job_expect(me, !pthread_create(&ids[i], NULL, use_team, &threads[i]), "no thread");
	}
	for (int i = 0; i < JOB_TICKETS; i++)
		pthread_join(ids[i], NULL);
	job_expect_clean(me);
	return 0;
}

static void two_threads_can_use_two_teams_at_once(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct job job = { .ranks = 3, .transports = transports[i], .bare = 1, .run = use_threads };

		assert_int_equal(job_run(&job), 0);
		job_end(&job);
	}
}

/* ---- nothing left -------------------------------------------------------- */

static int sennits_in(const char *path)
{
	DIR *folder = opendir(path);
	struct dirent *entry;
	int count = 0;

	while (folder && (entry = readdir(folder)))
		count += strstr(entry->d_name, "sennit") || strstr(entry->d_name, "snt");
	if (folder)
		closedir(folder);
	return count;
}

/* What others on this host leave goes away again; what these tests left stays. */
static int most_in(const char *path, int most)
{
	for (int i = 0; i < 50 && sennits_in(path) > most; i++)
		usleep(100000);
	return sennits_in(path) <= most;
}

static int left[2];

static int count_before(void **state)
{
	(void)state;
	left[0] = sennits_in("/dev/shm");
	left[1] = sennits_in("/tmp");
	return 0;
}

static void nothing_is_left_in_shared_memory_or_temporary_files(void **state)
{
	(void)state;
	assert_true(most_in("/dev/shm", left[0]) && most_in("/tmp", left[1]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_long_spin_keeps_the_timeout),   /* first: before the settings are read here */
		cmocka_unit_test(all_others_learn_that_a_rank_was_killed_before_it_started),
		cmocka_unit_test(all_others_learn_that_a_rank_was_killed_between_operations),
		cmocka_unit_test(all_others_learn_that_a_rank_was_killed_inside_an_operation),
		cmocka_unit_test(all_others_learn_that_a_rank_is_stopped),
		cmocka_unit_test(teams_end_in_time_though_a_rank_is_killed_or_stopped_at_the_end),
		cmocka_unit_test(ranks_that_disagree_about_the_count_all_learn_it),
		cmocka_unit_test(ranks_that_disagree_about_the_type_all_learn_it),
		cmocka_unit_test(ranks_that_disagree_about_the_fold_all_learn_it),
		cmocka_unit_test(ranks_that_disagree_about_the_root_all_learn_it),
		cmocka_unit_test(ranks_that_disagree_about_the_collective_all_learn_it),
		cmocka_unit_test(a_second_team_goes_on_when_the_first_fails),
		cmocka_unit_test(two_threads_can_use_two_teams_at_once),
		cmocka_unit_test(nothing_is_left_in_shared_memory_or_temporary_files),
	};
	char startup[16];

	snprintf(startup, sizeof(startup), "%d", STARTUP_MS);
	setenv("SNT_STARTUP_TIMEOUT", startup, 0);
	setenv("SNT_LOG", "0", 0);   /* the failures are meant; say SNT_LOG=2 to see them */
	cmocka_set_test_filter(getenv("TEST_FILTER"));
	return cmocka_run_group_tests(tests, count_before, NULL);
}
