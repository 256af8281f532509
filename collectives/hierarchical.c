/* SPDX-License-Identifier: BSD-3-Clause */
/* hierarchical.c - collectives put together from one inside each node and one between nodes. */
#include "collectives/pieces.h"

/* Each rank of a node takes one part of the vector across: all of a node's links are used. */
static void by_rails(struct snti_plan *p, uint32_t node_size)
{
	uint32_t node = p->rank / node_size, slot = p->rank % node_size, nodes = p->size / node_size;
	struct snti_spread inside = { .group = { node * node_size, 1, node_size, slot }, .width = nodes };
	struct snti_spread across = { .group = { slot, node_size, nodes, node }, .first = slot * nodes, .width = 1 };
	struct snti_places own = { SNTI_IN, SNTI_OUT, SNTI_OUT }, rest = { SNTI_OUT, SNTI_OUT, SNTI_OUT };

	p->chunks = p->size;
	snti_circulant_reduce_scatter(p, &inside, own);
	snti_ring_reduce_scatter(p, &across, rest);
	snti_ring_allgather(p, &across, SNTI_OUT, SNTI_OUT);
	snti_circulant_allgather(p, &inside, SNTI_OUT, SNTI_OUT);
}

/* The last node is smaller: its first rank, like that of every node, speaks for the others. */
static void by_leaders(struct snti_plan *p, uint32_t node_size)
{
	uint32_t node = p->rank / node_size, slot = p->rank % node_size, base = node * node_size;
	uint32_t here = p->size - base < node_size ? p->size - base : node_size;
	struct snti_group inside = { base, 1, here, slot };
	struct snti_group leaders = { 0, node_size, (p->size + node_size - 1) / node_size, node };
	int at = snti_binomial_reduce(p, inside, 0, SNTI_OUT);

	if (slot == 0)
		snti_doubling(p, leaders, at);
	snti_binomial_broadcast(p, inside, 0, SNTI_OUT);
}

/* hierarchical: with N even nodes of Q ranks, reduce-scatter in the node, ring among ranks of the same index,
 * allgather in the node; otherwise reduce to a leader, doubling among leaders, broadcast.
 * 2 ceil(log2 Q) + 2 (N-1) rounds, 2 (Q-1)/Q vectors sent inside and 2 (N-1)/(N Q) across; with leaders
 * 2 ceil(log2 Q) rounds and those of doubling among N. */
void snti_allreduce_hierarchical(struct snti_plan *p)
{
	uint32_t node_size = p->node_size ? p->node_size : 1;   /* unknown: nobody shares a node */

	if (node_size > p->size)
		node_size = p->size;
	if (p->size % node_size)
		by_leaders(p, node_size);
	else
		by_rails(p, node_size);
}
