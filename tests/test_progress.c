/* SPDX-License-Identifier: BSD-3-Clause */
/* test_progress.c - how many tests an operation needs of a caller that tests seldom. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "include/sennit.h"

enum { BYTES = 16 << 20, COUNT = BYTES / 4, ROUNDS_MOST = 10000 };

/* Two ranks in one process: their turns come when the test says so. */
struct pair {
	struct snt_ticket ticket;
	struct snt_team *teams[2];
	struct snt_op *ops[2];
	float *data[2];
};

struct member { struct pair *pair; int rank, status; };

static void *join(void *arg)
{
	struct member *m = arg;
	struct snt_team_options options = SNT_TEAM_OPTIONS;

	options.rank = m->rank;
	options.ranks = 2;
	options.ticket = &m->pair->ticket;
	options.transports = "shm";
	options.algorithms = "allreduce:ring/slices=1";
	m->status = snt_team_create(&options, &m->pair->teams[m->rank]);
	return NULL;
}

static void *leave(void *arg)
{
	struct member *m = arg;

	snt_team_destroy(m->pair->teams[m->rank]);
	return NULL;
}

/* Making and ending a team waits for the other rank, so these need two threads. */
static void both(struct pair *p, void *(*act)(void *))
{
	struct member members[2] = { { p, 0, 0 }, { p, 1, 0 } };
	pthread_t other;

	assert_int_equal(pthread_create(&other, NULL, act, &members[1]), 0);
	act(&members[0]);
	pthread_join(other, NULL);
	assert_int_equal(members[0].status, 0);
	assert_int_equal(members[1].status, 0);
}

static void make_ops(struct pair *p)
{
	for (int rank = 0; rank < 2; rank++) {
		struct snt_call call = { SNT_CALL(SNT_ALLREDUCE), .count = COUNT, .type = SNT_FLOAT32 };

		p->data[rank] = malloc(BYTES);
		assert_non_null(p->data[rank]);
		call.in = call.out = p->data[rank];
		assert_int_equal(snt_op_create(p->teams[rank], &call, &p->ops[rank]), 0);
	}
}

static void start(struct pair *p)
{
	for (int rank = 0; rank < 2; rank++) {
		for (int i = 0; i < COUNT; i++)
			p->data[rank][i] = 1;
		assert_int_equal(snt_op_start(p->ops[rank]), 0);
	}
}

/* One test of each rank in a round; in how many rounds both are done. */
static int rounds(struct pair *p)
{
	int count = 0;

	for (int busy = 1; busy && count < ROUNDS_MOST; count++) {
		busy = 0;
		for (int rank = 0; rank < 2; rank++) {
			int status = snt_op_test(p->ops[rank]);

			assert_true(status >= 0);
			busy |= status == SNT_BUSY;
		}
	}
	return count;
}

/* The kernel reads 256 KiB at a time from the other rank: 64 pieces, half of them of the fold. */
static void a_test_goes_on_while_something_moves(void **state)
{
	struct pair p;

	(void)state;
	assert_int_equal(snt_ticket_create(SNT_REACH_LOCAL, &p.ticket), 0);
	both(&p, join);
	make_ops(&p);
	start(&p);
	rounds(&p);      /* the connection is made in the first */
	start(&p);
	assert_in_range(rounds(&p), 1, 12);
	for (int i = 0; i < COUNT; i++)
		assert_true(p.data[0][i] == 2 && p.data[1][i] == 2);
	both(&p, leave);
	free(p.data[0]);
	free(p.data[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_test_goes_on_while_something_moves),
	};

	setenv("SNT_SHM_SINGLE_COPY", "64K", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
