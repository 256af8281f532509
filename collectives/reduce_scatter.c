/* SPDX-License-Identifier: BSD-3-Clause */
/* reduce_scatter.c - every rank gets its own block of the sum. */
#include "collectives/pieces.h"

void snti_ring_fold_steps(struct snti_plan *p, const struct snti_spread *s, struct snti_places at, uint32_t k)
{
	uint32_t n = s->group.size, me = snti_spread_place(s);
	uint32_t out = (me + 2 * n - 1 - k) % n, in = (out + n - 1) % n;   /* I pass on what I folded last round */

	snti_plan_send(p, snti_spread_rank(s, me + 1), k ? at.via : at.from, s->first + out * s->width, s->width);
	snti_plan_fold(p, snti_spread_rank(s, me + n - 1), k == n - 2 ? at.to : at.via, at.from,
		       s->first + in * s->width, s->width);
}

/* The group is one rank: its block is finished as it is. */
static void finish_alone(struct snti_plan *p, const struct snti_spread *s, struct snti_places at)
{
	snti_plan_copy(p, at.to, s->first, at.from, s->first, s->width);
	snti_plan_round(p);
}

void snti_ring_reduce_scatter(struct snti_plan *p, const struct snti_spread *s, struct snti_places at)
{
	if (s->group.size == 1)
		finish_alone(p, s, at);
	for (uint32_t k = 0; k + 1 < s->group.size; k++, snti_plan_round(p))
		snti_ring_fold_steps(p, s, at, k);
}

static void fold_blocks(struct snti_plan *p, const struct snti_spread *s, uint32_t from_place,
			struct snti_places at, uint32_t block, uint32_t blocks)
{
	uint32_t n = s->group.size, first = block % n, head = first + blocks > n ? n - first : blocks;
	uint32_t peer = snti_spread_rank(s, from_place);

	snti_plan_fold(p, peer, at.to, at.from, s->first + first * s->width, head * s->width);
	snti_plan_fold(p, peer, at.to, at.from, s->first, (blocks - head) * s->width);
}

/* With the blocks counted from the own one, a round halves those that are still wanted: the far half goes to the
 * rank that wants them nearest, what arrives is folded into the near half. */
void snti_circulant_reduce_scatter(struct snti_plan *p, const struct snti_spread *s, struct snti_places at)
{
	uint32_t n = s->group.size, me = snti_spread_place(s), middle = (me + n / 2) % n, keep;

	if (n == 1)
		finish_alone(p, s, at);
	else if (n % 2)   /* nothing is folded into the middle block of an odd number, yet it leaves with the second half */
		snti_plan_copy(p, at.via, s->first + middle * s->width, at.from, s->first + middle * s->width, s->width);
	for (uint32_t span = n; span > 1; span = keep, snti_plan_round(p)) {
		int from = span == n ? at.from : at.via;

		keep = (span + 1) / 2;
		snti_send_blocks(p, s, me + keep, from, me + keep, span - keep);
		fold_blocks(p, s, me + n - keep,
			    (struct snti_places){ .from = from, .to = keep == 1 ? at.to : at.via }, me, span - keep);
	}
}

/* ring: partial sums of each block walk to the right and end at its owner.
 * P-1 rounds, (P-1)/P of the vector sent by each rank. Patarasuk and Yuan 2009. */
void snti_reduce_scatter_ring(struct snti_plan *p)
{
	struct snti_spread all;

	p->chunks = p->size;
	all = snti_spread_all(p);
	snti_ring_reduce_scatter(p, &all, (struct snti_places){ SNTI_IN, SNTI_TMP, SNTI_OUT });
}

/* circulant: halves the wanted blocks each round, for any number of ranks.
 * ceil(log2 P) rounds, (P-1)/P of the vector sent by each rank. Traeff 2024. */
void snti_reduce_scatter_circulant(struct snti_plan *p)
{
	struct snti_spread all;

	p->chunks = p->size;
	all = snti_spread_all(p);
	snti_circulant_reduce_scatter(p, &all, (struct snti_places){ SNTI_IN, SNTI_TMP, SNTI_OUT });
}

/* pairwise: in round k each block goes straight to the owner k to the right; no scratch at all.
 * P-1 rounds, (P-1)/P of the vector sent by each rank. */
void snti_reduce_scatter_pairwise(struct snti_plan *p)
{
	uint32_t me = p->rank, n = p->size;

	p->chunks = n;
	if (n == 1)
		snti_plan_copy(p, SNTI_OUT, 0, SNTI_IN, 0, 1);
	for (uint32_t k = 1; k < n; k++, snti_plan_round(p)) {
		snti_plan_send(p, (me + k) % n, SNTI_IN, (me + k) % n, 1);
		snti_plan_fold(p, (me + n - k) % n, SNTI_OUT, k == 1 ? SNTI_IN : SNTI_OUT, me, 1);
	}
}
