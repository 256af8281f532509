/* SPDX-License-Identifier: BSD-3-Clause */
/* overlap.c - how much of the communication hides behind computation.
 *
 * Every iteration times three things in turns, so that a machine that changes its pace changes it for all: the
 * communication alone, the computation alone, and both at once.
 */
#include "perf/perf.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { CALIBRATIONS = 7, LEAST_ITERATIONS = 5, PARTS = 3, LONG_ENOUGH_NS = 200000 };
/* On a link of 1 to 4 Gbit/s the sockets' buffers bridge 300 us between two tests; faster links drain them sooner. A
 * test that finds nothing costs about 1 us, so one every 20 us is a twentieth at most. A message needs some however short it is. */
enum { TEST_EVERY_US = 20, LEAST_TESTS = 4, MOST_TESTS = 1000 };

struct load { uint64_t steps, tests; int asleep; };    /* asleep: a step is a nanosecond */

static volatile double result;

/* In registers only: it competes with the communication for the core, not for memory. */
static void compute(uint64_t steps)
{
	double x = result;

	for (uint64_t i = 0; i < steps; i++)
		x = x * 0.999 + 1;
	result = x;
}

/* The end of a piece follows from the beginning of all: a GPU goes on while its host tests. The kernel would put the
 * rank to sleep for a time that has passed, too, and take 15 us for it. */
static void sleep_until(uint64_t ns)
{
	struct timespec at = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	while (snti_now_ns() < ns && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static int test(const struct snti_perf_ops *ops)
{
	int status = 0;

	for (int i = 0; i < ops->count && status >= 0; i++)
		status = snt_op_test(ops->op[i]);
	return status < 0 ? status : 0;
}

/* Without operations it is the computation alone, without steps and tests the communication alone. */
static int run_once(const struct snti_perf_ops *ops, const struct load *load)
{
	uint64_t pieces = load->tests + 1, piece = load->steps / pieces, rest = load->steps % pieces;
	uint64_t until = snti_now_ns();
	int status = 0;

	for (int i = 0; i < ops->count && !status; i++)
		status = snt_op_start(ops->op[i]);
	for (uint64_t i = 0; i < pieces && !status; i++) {
		until += piece + (i < rest);
		if (!load->asleep)
			compute(piece + (i < rest));
		else if (load->steps)
			sleep_until(until);
		if (i + 1 < pieces)
			status = test(ops);
	}
	for (int i = 0; i < ops->count && !status; i++)
		status = snt_op_wait(ops->op[i]);
	return status;
}

static int time_once(struct snt_team *team, const struct snti_perf_ops *ops, const struct load *load, uint64_t *time)
{
	int status = snt_barrier(team);
	uint64_t start = snti_now_ns();

	if (!status)
		status = run_once(ops, load);
	*time = snti_now_ns() - start;
	return status;
}

/* What the communication takes on the slowest rank, so that all ranks compute for the same time. */
static int measure_alone(struct snt_team *team, const struct snti_perf_ops *ops, double *us)
{
	static const struct load none;
	uint64_t times[CALIBRATIONS], slowest[CALIBRATIONS];
	int status = 0;

	for (int i = 0; i < CALIBRATIONS && !status; i++)
		status = time_once(team, ops, &none, &times[i]);
	if (!status)
		status = snt_allreduce(team, times, slowest, CALIBRATIONS, SNT_UINT64, SNT_MAX);
	*us = status ? 0 : snti_perf_median_us(slowest, CALIBRATIONS);
	return status;
}

/* How many steps take @us on this rank. Other programs can only make a piece slower, so the fastest of three counts. */
static uint64_t steps_for(double us)
{
	uint64_t steps = 1024, fastest = 0;

	for (; fastest < LONG_ENOUGH_NS; steps *= 2) {
		fastest = UINT64_MAX;
		for (int i = 0; i < 3; i++) {
			uint64_t start = snti_now_ns(), time;
			compute(steps);
			time = snti_now_ns() - start;
			fastest = time < fastest ? time : fastest;
		}
	}
	return (uint64_t)(us * 1e3 * (double)(steps / 2) / (double)fastest) + 1;
}

static uint64_t tests_in(double us)
{
	uint64_t tests = (uint64_t)(us / TEST_EVERY_US);

	return tests < LEAST_TESTS ? LEAST_TESTS : tests > MOST_TESTS ? MOST_TESTS : tests;
}

static int time_all(struct snt_team *team, const struct snti_perf_ops *ops, const struct load *load, uint64_t *times,
	uint64_t count)
{
	static const struct snti_perf_ops no_ops;
	static const struct load no_load;
	int status = 0;

	for (uint64_t i = 0; i < count && !status; i++) {
		status = time_once(team, ops, &no_load, &times[i]);
		if (!status)
			status = time_once(team, &no_ops, load, &times[count + i]);
		if (!status)
			status = time_once(team, ops, load, &times[2 * count + i]);
	}
	if (!status)
		status = snt_allreduce(team, times, times + PARTS * count, PARTS * count, SNT_UINT64, SNT_MAX);
	return status;
}

static void summarize(uint64_t *times, uint64_t count, struct snti_perf_row *row)
{
	snti_perf_summarize(times, count, row);
	row->compute_us = snti_perf_median_us(times + count, count);
	row->total_us = snti_perf_median_us(times + 2 * count, count);
	if (row->median_us > 0)
		row->overlap = 100 * (1 - (row->total_us - row->compute_us) / row->median_us);
	if (row->overlap < 0)
		row->overlap = 0;
}

int snti_perf_overlap(struct snt_team *team, const struct snti_perf_options *options, const struct snti_perf_ops *ops,
	uint64_t count, struct snti_perf_row *row)
{
	struct load load;
	double alone_us;
	uint64_t *times;
	int status = measure_alone(team, ops, &alone_us);

	if (status)
		return status;
	if (!options->iterations)
		count = count / PARTS > LEAST_ITERATIONS ? count / PARTS : LEAST_ITERATIONS;
	row->asleep = load.asleep = options->asleep;
	load.steps = load.asleep ? (uint64_t)(alone_us * 1e3) + 1 : steps_for(alone_us);
	row->tests = load.tests = options->tests == SNTI_PERF_TESTS ? tests_in(alone_us) : options->tests;
	times = calloc(count, 2 * PARTS * sizeof *times);
	if (!times)
		return SNT_ENOMEM;
	status = time_all(team, ops, &load, times, count);
	if (!status)
		summarize(times + PARTS * count, count, row);
	free(times);
	return status;
}
