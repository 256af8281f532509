/* SPDX-License-Identifier: BSD-3-Clause */
/* reduce.c - the sum of all vectors to the root; only the root has an OUT. */
#include "collectives/pieces.h"

int snti_binomial_reduce(struct snti_plan *p, struct snti_group g, uint32_t root, int via)
{
	uint32_t place = (g.me + g.size - root) % g.size;
	int at = SNTI_IN;

	for (uint32_t hop = 1; hop < g.size; hop *= 2, snti_plan_round(p)) {
		if (place % (2 * hop) == hop)
			snti_plan_send(p, snti_member(g, g.me + g.size - hop), at, 0, p->chunks);
		if (place % (2 * hop) == 0 && place + hop < g.size) {
			snti_plan_fold(p, snti_member(g, g.me + hop), via, at, 0, p->chunks);
			at = via;
		}
	}
	return at;
}

/* binomial: each round half of the ranks that still have a partial sum hand it to the other half.
 * ceil(log2 P) rounds, 1 vector sent by each rank but the root. */
void snti_reduce_binomial(struct snti_plan *p)
{
	if (p->size == 1)
		snti_plan_copy(p, SNTI_OUT, 0, SNTI_IN, 0, 1);
	snti_binomial_reduce(p, snti_everyone(p), p->root, p->rank == p->root ? SNTI_OUT : SNTI_TMP);
}

/* ring: a ring reduce-scatter, then every rank hands its block to the root.
 * P rounds, 1 vector sent by each rank but the root. */
void snti_reduce_ring(struct snti_plan *p)
{
	int at = p->rank == p->root ? SNTI_OUT : SNTI_TMP;
	struct snti_spread all;

	p->chunks = p->size;
	all = snti_spread_all(p);
	snti_ring_reduce_scatter(p, &all, (struct snti_places){ SNTI_IN, at, at });
	for (uint32_t r = 0; p->rank == p->root && r < p->size; r++)
		if (r != p->root)
			snti_plan_recv(p, r, SNTI_OUT, r, 1);
	if (p->rank != p->root)
		snti_plan_send(p, p->root, SNTI_TMP, p->rank, 1);
}
