/* SPDX-License-Identifier: BSD-3-Clause */
/* gather.c - the blocks of all to the root, and scatter, which is the way back. */
#include "collectives/pieces.h"

/* linear: everybody sends to the root.
 * 1 round, (P-1)/P of the vector received by the root. */
void snti_gather_linear(struct snti_plan *p)
{
	p->chunks = p->size;
	if (p->rank != p->root) {
		snti_plan_send(p, p->root, SNTI_IN, p->rank, 1);
		return;
	}
	snti_plan_copy(p, SNTI_OUT, p->rank, SNTI_IN, p->rank, 1);
	for (uint32_t r = 0; r < p->size; r++)
		if (r != p->root)
			snti_plan_recv(p, r, SNTI_OUT, r, 1);
}

/* linear: the root sends to everybody.
 * 1 round, (P-1)/P of the vector sent by the root. */
void snti_scatter_linear(struct snti_plan *p)
{
	p->chunks = p->size;
	if (p->rank != p->root) {
		snti_plan_recv(p, p->root, SNTI_OUT, p->rank, 1);
		return;
	}
	snti_plan_copy(p, SNTI_OUT, p->rank, SNTI_IN, p->rank, 1);
	for (uint32_t r = 0; r < p->size; r++)
		if (r != p->root)
			snti_plan_send(p, r, SNTI_IN, r, 1);
}

/* How many places from @place on, below @n, hang on it in a binomial tree: up to its lowest bit. */
static uint32_t subtree(uint32_t place, uint32_t n)
{
	uint32_t reach = place ? place & -place : n;

	return reach < n - place ? reach : n - place;
}

static struct snti_spread from_root(struct snti_plan *p)
{
	struct snti_spread all;

	p->chunks = p->size;
	all = snti_spread_all(p);
	all.turn = all.first = 0;
	return all;
}

/* binomial: partly gathered runs of blocks double each round.
 * ceil(log2 P) rounds, at most half of the vector sent by a rank. */
void snti_gather_binomial(struct snti_plan *p)
{
	struct snti_spread all = from_root(p);
	uint32_t n = p->size, place = (p->rank + n - p->root) % n, mine = subtree(place, n);
	int at = place ? mine > 1 ? SNTI_TMP : SNTI_IN : SNTI_OUT;

	snti_plan_copy(p, at, p->rank, SNTI_IN, p->rank, 1);
	for (uint32_t hop = 1; hop < mine; hop *= 2, snti_plan_round(p))
		snti_recv_blocks(p, &all, p->rank + hop, at, p->rank + hop, subtree(place + hop, n));
	snti_plan_round(p);
	if (place)
		snti_send_blocks(p, &all, p->rank + n - (place & -place), at, p->rank, mine);
}

/* binomial: runs of blocks halve each round.
 * ceil(log2 P) rounds, (P-1)/P of the vector sent by the root. */
void snti_scatter_binomial(struct snti_plan *p)
{
	struct snti_spread all = from_root(p);
	uint32_t n = p->size, place = (p->rank + n - p->root) % n, mine = subtree(place, n);
	int at = place ? mine > 1 ? SNTI_TMP : SNTI_OUT : SNTI_IN;

	if (place)
		snti_recv_blocks(p, &all, p->rank + n - (place & -place), at, p->rank, mine);
	snti_plan_round(p);
	snti_plan_copy(p, SNTI_OUT, p->rank, at, p->rank, 1);
	for (uint32_t hop = 1u << snti_log2_ceil(mine); hop >>= 1; snti_plan_round(p))
		snti_send_blocks(p, &all, p->rank + hop, at, p->rank + hop, subtree(place + hop, n));
}
