/* SPDX-License-Identifier: BSD-3-Clause */
/* simulate.c - how long would a plan take? A message takes alpha and then its bytes times beta; the messages that
 * one rank sends, or takes, share its port one after another; folds, merges and copies take gamma per byte. */
#include "collectives/verify.h"
#include "base/log.h"

#include <stdlib.h>

/* One rank: when its round began, when what it has done of the round ends, until when its parts are busy. */
struct clock { double now, end, sends, takes, folds; };
struct model { struct snti_cost cost; double chunk_bytes; struct clock *clocks; };

static double later(double a, double b)
{
	return a > b ? a : b;
}

/* The rank's core is busy with @bytes from @start at the earliest. */
static void work(const struct model *m, struct clock *c, double start, double bytes)
{
	c->folds = later(start, c->folds) + bytes * m->cost.gamma;
	c->end = later(c->end, c->folds);
}

static int message(void *arg, uint32_t from, const struct snti_step *send, uint32_t to, const struct snti_step *recv)
{
	struct model *m = arg;
	struct clock *a = &m->clocks[from], *b = &m->clocks[to];
	double bytes = send->count * m->chunk_bytes;
	double start = later(later(a->now, a->sends), later(b->now, b->takes));
	double there = start + m->cost.alpha + bytes * m->cost.beta;

	a->sends = b->takes = start + bytes * m->cost.beta;
	a->end = later(a->end, there);
	b->end = later(b->end, there);
	if (recv->op == SNTI_STEP_FOLD)
		work(m, b, there, bytes);
	return 0;
}

static int local(void *arg, uint32_t rank, const struct snti_step *step)
{
	struct model *m = arg;

	work(m, &m->clocks[rank], m->clocks[rank].now, step->count * m->chunk_bytes);
	return 0;
}

static void round_done(void *arg, uint32_t rank)
{
	struct clock *c = &((struct model *)arg)->clocks[rank];

	c->now = later(c->now, c->end);
}

double snti_simulate(const struct snti_plan *plans, uint32_t size, double bytes, struct snti_cost cost)
{
	struct model m = { .cost = cost, .chunk_bytes = bytes / plans[0].chunks, .clocks = calloc(size, sizeof(*m.clocks)) };
	struct snti_walk walk = { .arg = &m, .message = message, .local = local, .round_done = round_done };
	double last = 0;

	if (!m.clocks)
		last = snti_fail(SNT_ENOMEM, "no memory to clock the plans of %u ranks", size);
	else if (snti_walk_plans(plans, size, &walk))
		last = -1;
	for (uint32_t r = 0; r < size && last >= 0; r++)
		last = later(last, m.clocks[r].now);
	free(m.clocks);
	return last;
}
