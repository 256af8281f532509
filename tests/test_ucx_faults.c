/* SPDX-License-Identifier: BSD-3-Clause */
/* test_ucx_faults.c - jobs over the ucx transport: ranks that die or stop, and what UCX may not do to the process. */
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
#include "transport/transport.h"

enum { COUNT = 1 << 20, SOON_S = 4, STOP_TIMEOUT_MS = 1500 };

struct plot { int culprit, signal; };

static const struct plot *plot;
static struct job_rank *struck;

static void strike_now(int signal)
{
	(void)signal;
	job_strike(struck, plot->signal);
}

/* A timer ends the culprit wherever it is in an allreduce. */
static int strike_inside(struct job_rank *me, struct snt_team *team)
{
	static const struct itimerval soon = { .it_value = { .tv_usec = 30000 } };
	float *data = calloc(COUNT, sizeof(*data));
	int status = 0;

	job_expect(me, data != NULL, "no memory");
	plot = me->job->arg;
	struck = me;
	status = snt_barrier(team);     /* all have made the team */
	if (me->rank == plot->culprit) {
		signal(SIGALRM, strike_now);
		setitimer(ITIMER_REAL, &soon, NULL);
	}
	while (!status)
		status = snt_allreduce(team, data, data, COUNT, SNT_FLOAT32, SNT_SUM);
	job_keep_error(me, status, plot->culprit);
	free(data);
	return 0;
}

static void strike(int culprit, int signal, uint32_t timeout_ms, const char *names)
{
	struct plot its = { culprit, signal };
	struct job job = { .ranks = 3, .transports = "ucx", .timeout_ms = timeout_ms, .run = strike_inside, .arg = &its };
	char rank[16];

	job_run(&job);
	snprintf(rank, sizeof(rank), "rank %d", culprit);
	assert_int_equal(job.results[culprit].signal, SIGKILL);
	for (int r = 0; r < job.ranks; r++) {
		const struct job_result *result = &job.results[r];

		if (r != culprit && (result->exit || !strstr(names, snt_status_name(result->error)) ||
				     !strstr(result->text, rank) || result->seconds >= SOON_S))
			fail_msg("culprit %d: rank %d exits with %d, %s after %.2f s: '%s'", culprit, r, result->exit,
				 snt_status_name(result->error), result->seconds, result->text);
	}
	job_end(&job);
}

static void all_others_learn_that_a_rank_was_killed(void **state)
{
	static const char *const sets[] = { "posix,self", "tcp,self" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		setenv("UCX_TLS", sets[i], 1);
		strike(0, SIGKILL, 0, "SNT_EPEER SNT_EABORTED");
		strike(2, SIGKILL, 0, "SNT_EPEER SNT_EABORTED");
	}
	unsetenv("UCX_TLS");
}

static void all_others_learn_that_a_rank_is_stopped(void **state)
{
	(void)state;
	strike(1, SIGSTOP, STOP_TIMEOUT_MS, "SNT_ETIMEOUT SNT_EPEER SNT_EABORTED");
}

/* UCX's own loop within a process reaches no other. */
static int meet_nobody(struct job_rank *me, struct snt_team *team)
{
	job_keep_error(me, snt_barrier(team), me->rank);
	return 0;
}

static void the_users_choice_of_transports_is_obeyed(void **state)
{
	struct job job = { .ranks = 2, .transports = "ucx", .timeout_ms = STOP_TIMEOUT_MS, .run = meet_nobody };

	(void)state;
	setenv("UCX_TLS", "self", 1);
	assert_int_equal(job_run(&job), 0);
	for (int r = 0; r < 2; r++)
		assert_true(job.results[r].error == SNT_EUNREACHABLE || job.results[r].error == SNT_EABORTED);
	assert_non_null(strstr(job.results[0].text, "UCX_TLS"));
	job_end(&job);
	unsetenv("UCX_TLS");
}

static void mine(int signal)
{
	(void)signal;
}

/* In a process that has not loaded UCX yet: 0 when its signals are as before and standard output is empty. */
static int open_and_look(void)
{
	struct snti_port_options options = { .secret = (const unsigned char *)"the secret of this little program", .local_only = 1 };
	struct sigaction now;
	struct snti_port *port;

	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, mine);
	setenv("UCX_NONSENSE", "1", 1);         /* UCX has something to say about it */
	if (snti_port_open(&snti_ucx_transport, &options, &port))
		return 2;
	snti_port_close(port);
	if (sigaction(SIGSEGV, NULL, &now) || now.sa_handler != SIG_DFL)
		return 3;
	if (sigaction(SIGBUS, NULL, &now) || now.sa_handler != mine)
		return 4;
	return 0;
}

static void signals_and_standard_output_stay_the_programs(void **state)
{
	int pipe_of[2], ended;
	char byte;
	pid_t child;

	(void)state;
	assert_int_equal(pipe(pipe_of), 0);
	child = fork();
	if (!child) {
		dup2(pipe_of[1], STDOUT_FILENO);
		close(pipe_of[1]);
		_exit(open_and_look());
	}
	close(pipe_of[1]);
	assert_int_equal(waitpid(child, &ended, 0), child);
	assert_int_equal(ended, 0);
	assert_int_equal(read(pipe_of[0], &byte, 1), 0);
	close(pipe_of[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signals_and_standard_output_stay_the_programs),
		cmocka_unit_test(all_others_learn_that_a_rank_was_killed),
		cmocka_unit_test(all_others_learn_that_a_rank_is_stopped),
		cmocka_unit_test(the_users_choice_of_transports_is_obeyed),
	};
	char text[200];
	pid_t child;
	int ended;

	if (getenv("NO_UCX")) {
		printf("skipped: NO_UCX is set\n");
		return 77;
	}
	/* In a child, as here UCX must not be loaded yet. */
	child = fork();
	if (!child) {
		ended = snti_ucx_transport.library(text, sizeof text);
		if (ended)
			printf("skipped: %s\n", text);
		fflush(stdout);
		_exit(ended ? 77 : 0);
	}
	if (waitpid(child, &ended, 0) != child || ended)
		return 77;
	setenv("SNT_LOG", "0", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
