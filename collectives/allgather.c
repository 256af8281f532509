/* SPDX-License-Identifier: BSD-3-Clause */
/* allgather.c - every rank gets the blocks of all. */
#include "collectives/pieces.h"

void snti_ring_pass_steps(struct snti_plan *p, const struct snti_spread *s, int from, int to, uint32_t k)
{
	uint32_t n = s->group.size, me = snti_spread_place(s);
	uint32_t out = (me + n - k) % n, in = (out + n - 1) % n;   /* I pass on what I got last round */

	snti_plan_send(p, snti_spread_rank(s, me + 1), k ? to : from, s->first + out * s->width, s->width);
	snti_plan_recv(p, snti_spread_rank(s, me + n - 1), to, s->first + in * s->width, s->width);
}

static void keep_own_block(struct snti_plan *p, const struct snti_spread *s, int from, int to)
{
	uint32_t own = s->first + snti_spread_place(s) * s->width;

	snti_plan_copy(p, to, own, from, own, s->width);
}

void snti_ring_allgather(struct snti_plan *p, const struct snti_spread *s, int from, int to)
{
	keep_own_block(p, s, from, to);
	for (uint32_t k = 0; k + 1 < s->group.size; k++, snti_plan_round(p))
		snti_ring_pass_steps(p, s, from, to, k);
	snti_plan_round(p);
}

/* The reduce-scatter backwards: what was folded away comes back finished. */
void snti_circulant_allgather(struct snti_plan *p, const struct snti_spread *s, int from, int to)
{
	uint32_t n = s->group.size, me = snti_spread_place(s), spans[33], k = 0;

	for (spans[0] = n; spans[k] > 1; k++)
		spans[k + 1] = (spans[k] + 1) / 2;
	keep_own_block(p, s, from, to);
	for (; k; k--, snti_plan_round(p)) {
		uint32_t have = spans[k], more = spans[k - 1] - have;

		snti_send_blocks(p, s, me + n - have, have == 1 ? from : to, me, more);
		snti_recv_blocks(p, s, me + have, to, me + have, more);
	}
	snti_plan_round(p);
}

/* ring: each block walks to the right, once around.
 * P-1 rounds, (P-1)/P of the vector sent by each rank. */
void snti_allgather_ring(struct snti_plan *p)
{
	struct snti_spread all;

	p->chunks = p->size;
	all = snti_spread_all(p);
	snti_ring_allgather(p, &all, SNTI_IN, SNTI_OUT);
}

/* circulant: the blocks that a rank has, its own and the next ones, double each round; no rotation at the end.
 * ceil(log2 P) rounds, (P-1)/P of the vector sent by each rank. Bruck 1997, Traeff 2024. */
void snti_allgather_circulant(struct snti_plan *p)
{
	struct snti_spread all;

	p->chunks = p->size;
	all = snti_spread_all(p);
	snti_circulant_allgather(p, &all, SNTI_IN, SNTI_OUT);
}
