/* SPDX-License-Identifier: BSD-3-Clause */
/* simulate.c - how long would a plan take? A message takes alpha and then its bytes times beta; the messages that
 * one rank sends, or takes, share its port one after another; folds, merges and copies take gamma per byte. */
#include "collectives/verify.h"
#include "base/log.h"

#include <stdlib.h>

/* One rank: when its round began and when what it has done of it ends; seconds that its ports and its core have
 * worked in this round. Sums, as messages are matched in an order that is not that of time. */
struct clock { double now, end, sending, taking, folding; };
struct model { struct snti_cost cost; double chunk_bytes; struct clock *clocks; };

static double later(double a, double b)
{
	return a > b ? a : b;
}

/* The rank's core works on @bytes from @start at the earliest. */
static void work(const struct model *m, struct clock *c, double start, double bytes)
{
	double seconds = bytes * m->cost.gamma;

	c->folding += seconds;
	c->end = later(c->end, later(start + seconds, c->now + c->folding));
}

static int message(void *arg, uint32_t from, const struct snti_step *send, uint32_t to, const struct snti_step *recv)
{
	struct model *m = arg;
	struct clock *a = &m->clocks[from], *b = &m->clocks[to];
	double bytes = send->count * m->chunk_bytes, seconds = bytes * m->cost.beta, sent, taken;

	a->sending += seconds;
	b->taking += seconds;
	sent = m->cost.alpha + later(a->now + a->sending, later(a->now, b->now) + seconds);
	taken = later(sent, m->cost.alpha + b->now + b->taking);
	a->end = later(a->end, sent);
	b->end = later(b->end, taken);
	if (recv->op == SNTI_STEP_FOLD)
		work(m, b, taken, bytes);
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

	c->now = c->end = later(c->now, c->end);
	c->sending = c->taking = c->folding = 0;
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
