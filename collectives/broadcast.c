/* SPDX-License-Identifier: BSD-3-Clause */
/* broadcast.c - the root's vector to everybody. */
#include "collectives/pieces.h"

/* Place v gets the vector from the place without v's lowest bit, then serves the bits below that one. */
void snti_binomial_broadcast(struct snti_plan *p, struct snti_group g, uint32_t root, int from)
{
	uint32_t place = (g.me + g.size - root) % g.size, hop = 1u << snti_log2_ceil(g.size);

	if (!place)
		snti_plan_copy(p, SNTI_OUT, 0, from, 0, p->chunks);
	else
		from = SNTI_OUT;
	while (hop >>= 1) {
		if (place % (2 * hop) == 0 && place + hop < g.size)
			snti_plan_send(p, snti_member(g, g.me + hop), from, 0, p->chunks);
		if (place % (2 * hop) == hop)
			snti_plan_recv(p, snti_member(g, g.me + g.size - hop), SNTI_OUT, 0, p->chunks);
		snti_plan_round(p);
	}
	snti_plan_round(p);
}

/* binomial: the ranks that have the vector double each round.
 * ceil(log2 P) rounds, as many vectors sent by the root. */
void snti_broadcast_binomial(struct snti_plan *p)
{
	snti_binomial_broadcast(p, snti_everyone(p), p->root, SNTI_IN);
}

/* chain: each rank passes the vector to the next; slices make it a pipeline.
 * 2 rounds on each rank, 1 vector sent by each rank but the last. */
void snti_broadcast_chain(struct snti_plan *p)
{
	uint32_t n = p->size, place = (p->rank + n - p->root) % n;

	if (!place)
		snti_plan_copy(p, SNTI_OUT, 0, SNTI_IN, 0, 1);
	else
		snti_plan_recv(p, (p->rank + n - 1) % n, SNTI_OUT, 0, 1);
	if (place)
		snti_plan_round(p);
	if (place + 1 < n)
		snti_plan_send(p, (p->rank + 1) % n, place ? SNTI_OUT : SNTI_IN, 0, 1);
}

/* The blocks [v, v + share) of place v, its own and those it deals out below it. */
static void deal_blocks(struct snti_plan *p, const struct snti_spread *s)
{
	uint32_t n = s->group.size, me = snti_spread_place(s), hop = 1u << snti_log2_ceil(n);

	while (hop >>= 1) {
		uint32_t lower = me % (2 * hop) ? me - hop : me, upper = lower + hop;   /* who deals, who gets */
		uint32_t share = upper + hop < n ? hop : n - upper;

		if (me % (2 * hop) == 0 && upper < n)
			snti_send_blocks(p, s, upper, me ? SNTI_OUT : SNTI_IN, upper, share);
		if (me % (2 * hop) == hop)
			snti_recv_blocks(p, s, lower, SNTI_OUT, me, share);
		snti_plan_round(p);
	}
}

/* scatter_allgather: the root deals blocks down a binomial tree, a ring puts them together.
 * At most ceil(log2 P) + P-1 rounds, 2 (P-1)/P of the vector sent by the root. Van de Geijn. */
void snti_broadcast_scatter_allgather(struct snti_plan *p)
{
	struct snti_spread all;

	p->chunks = p->size;
	all = snti_spread_all(p);
	all.turn = p->root;
	if (p->rank == p->root)
		snti_plan_copy(p, SNTI_OUT, 0, SNTI_IN, 0, p->chunks);
	deal_blocks(p, &all);
	snti_ring_allgather(p, &all, SNTI_OUT, SNTI_OUT);
}
