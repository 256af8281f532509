/* SPDX-License-Identifier: BSD-3-Clause */
/* test_moments.c - a rank is killed or stopped at a random moment of its life: the others end in time, with right
 * results or a reason, and leave nothing behind. The seed of each round is printed when it fails; TEST_SEED runs one. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <cmocka.h>

#include "tests/job.h"

enum { ROUNDS = 30, STARTUP_MS = 2500, TIMEOUT_MS = 700, SOON_S = 5, OPERATIONS = 12, MOST = 100000, LATEST_US = 40000 };

struct moment { uint64_t seed; int culprit, signal; unsigned after_us; };

static struct job_rank *struck;
static const struct moment *moment;

static void strike_now(int signal)
{
	(void)signal;
	job_strike(struck, moment->signal);
}

static void arrange(struct job_rank *me)
{
	struct itimerval soon = { .it_value = { .tv_usec = 0 } };

	moment = me->job->arg;
	struck = me;
	if (me->rank != moment->culprit)
		return;
	soon.it_value.tv_usec = moment->after_us + 1;
	signal(SIGALRM, strike_now);
	setitimer(ITIMER_REAL, &soon, NULL);
}

/* One allreduce of a random size, its sum checked. */
static int step(struct job_rank *me, struct snt_team *team, int64_t *data, uint64_t random)
{
	size_t count = random % 3 ? random / 8 % 64 : random / 8 % MOST;
	int status;

	for (size_t i = 0; i < count; i++)
		data[i] = me->rank + (int64_t)i;
	status = snt_allreduce(team, data, data, count, SNT_INT64, SNT_SUM);
	for (size_t i = 0; i < count && !status; i++)
		job_expect(me, data[i] == me->ranks * (me->ranks - 1) / 2 + me->ranks * (int64_t)i, "element %zu is wrong", i);
	return status;
}

static int live(struct job_rank *me, struct snt_team *team)
{
	int64_t *data = malloc(MOST * sizeof(*data));
	double from = job_seconds();
	int status;

	job_expect(me, data != NULL, "no memory");
	arrange(me);
	status = job_team(me, 0, &team);
	for (uint64_t i = 0; !status && i < OPERATIONS; i++)
		status = step(me, team, data, job_mix(moment->seed + i));
	job_keep_error(me, status, -1);
	snt_team_destroy(team);
	me->result->seconds = job_seconds() - from;
	free(data);
	job_expect_clean(me);
	return 0;
}

static int is_a_reason(const struct job_result *result, int culprit)
{
	char name[16];

	/* A rank that comes when rank 0 has given up already finds rank 0 gone. */
	snprintf(name, sizeof(name), "rank %d", strstr(result->text, "rank 0 has ended") ? 0 : culprit);
	return (result->error == SNT_EPEER || result->error == SNT_EABORTED || result->error == SNT_ETIMEOUT) &&
	       strstr(result->text, name);
}

static void check(const struct job *job, const struct moment *m)
{
	for (int r = 0; r < job->ranks; r++) {
		const struct job_result *result = &job->results[r];
		int well = result->exit == 0 && result->seconds < SOON_S && (!result->error || is_a_reason(result, m->culprit));

		if (r != m->culprit && !well)
			fail_msg("seed %llu: rank %d of %d over %s, when rank %d got signal %d after %u us: %s '%s' after %.1f s%s%s",
				 (unsigned long long)m->seed, r, job->ranks, job->transports, m->culprit, m->signal, m->after_us,
				 snt_status_name(result->error), result->text, result->seconds, result->late ? ", late " : " ",
				 result->complaint);
	}
}

static void play(uint64_t seed)
{
	static const char *const transports[] = { "shm", "tcp", "shm,tcp" };
	uint64_t random = job_mix(seed * 1000);
	struct moment m = { .seed = seed, .signal = random % 3 ? SIGKILL : SIGSTOP };
	struct job job = { .ranks = 2 + (int)(random / 4 % 3), .transports = transports[random / 16 % 3],
			   .timeout_ms = TIMEOUT_MS, .bare = 1, .run = live, .arg = &m };

	m.culprit = (int)(random / 64 % (uint64_t)job.ranks);
	m.after_us = (unsigned)(random / 4096 % LATEST_US);
	job_run(&job);
	check(&job, &m);
	job_end(&job);
}

static void the_others_end_well_whenever_a_rank_is_struck(void **state)
{
	const char *only = getenv("TEST_SEED");

	(void)state;
	if (only)
		play(strtoull(only, NULL, 10));
	for (uint64_t seed = 1; seed <= ROUNDS && !only; seed++)
		play(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_others_end_well_whenever_a_rank_is_struck) };
	char startup[16];

	snprintf(startup, sizeof(startup), "%d", STARTUP_MS);
	setenv("SNT_STARTUP_TIMEOUT", startup, 0);
	setenv("SNT_LOG", "0", 0);   /* the failures are meant; say SNT_LOG=2 to see them */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
