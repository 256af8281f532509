/* SPDX-License-Identifier: BSD-3-Clause */
/* test_alltoallv.c - in place, blocks of other ranks may come to lie elsewhere than those that leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/job.h"

enum { RANKS_MOST = 5, ROOM = 1 << 16, NOTHING = -1 };

/* Some pairs exchange nothing. */
static size_t count_of(int from, int to, size_t unit)
{
	return (size_t)(from * 3 + to * 5) % 4 * unit;
}

static int32_t value(int from, int to, size_t element)
{
	return from * 100000000 + to * 10000000 + (int32_t)element;
}

/* The own block first, as it must stay; the others upwards or downwards, with a gap before each. */
static void lay(struct job_rank *me, int out, size_t unit, size_t *counts, size_t *offsets)
{
	size_t end;

	counts[me->rank] = end = count_of(me->rank, me->rank, unit);
	offsets[me->rank] = 0;
	for (int i = 0; i < me->ranks; i++) {
		int other = out ? me->ranks - 1 - i : i;

		if (other == me->rank)
			continue;
		counts[other] = out ? count_of(other, me->rank, unit) : count_of(me->rank, other, unit);
		offsets[other] = end + 1;
		end += counts[other] + 1;
	}
}

static void exchange(struct job_rank *me, struct snt_team *team, size_t unit, int32_t *data)
{
	size_t counts[2][RANKS_MOST], offsets[2][RANKS_MOST], seen = 0;
	struct snt_call call = { SNT_CALL(SNT_ALLTOALL), .in = data, .out = data, .type = SNT_INT32,
				 .in_layout = { counts[0], offsets[0] }, .out_layout = { counts[1], offsets[1] } };
	int status;

	lay(me, 0, unit, counts[0], offsets[0]);
	lay(me, 1, unit, counts[1], offsets[1]);
	for (size_t i = 0; i < ROOM; i++)
		data[i] = NOTHING;
	for (int to = 0; to < me->ranks; to++)
		for (size_t e = 0; e < counts[0][to]; e++)
			data[offsets[0][to] + e] = value(me->rank, to, e);
	status = snt_call(team, &call);
	job_expect(me, !status, "alltoallv: %s: %s", snt_status_name(status), snt_error_text());
	for (int from = 0; from < me->ranks; from++)
		for (size_t e = 0; e < counts[1][from]; e++, seen++)
			job_expect(me, data[offsets[1][from] + e] == value(from, me->rank, e),
				   "unit %zu: element %zu from rank %d is %d", unit, e, from, data[offsets[1][from] + e]);
	job_expect(me, seen < ROOM, "the test has too little room");
}

static int exchange_all(struct job_rank *me, struct snt_team *team)
{
	static const size_t units[] = { 1, 100, 4000 };
	int32_t *data = malloc(ROOM * sizeof(*data)), *shared = snt_alloc(ROOM * sizeof(*shared));

	job_expect(me, data && shared, "no memory");
	for (int i = 0; i < 3; i++) {
		exchange(me, team, units[i], data);
		exchange(me, team, units[i], shared);
	}
	free(data);
	snt_free(shared);
	return 0;
}

static void blocks_move_in_place(void **state)
{
	static const char *const transports[] = { "shm", "tcp" };

	(void)state;
	for (int i = 0; i < 8; i++) {
		struct job job = { .ranks = 2 + i / 2, .transports = transports[i % 2], .run = exchange_all };
		int failed = job_run(&job);

		job_end(&job);
		assert_int_equal(failed, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_move_in_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
