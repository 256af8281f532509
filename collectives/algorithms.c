/* SPDX-License-Identifier: BSD-3-Clause */
/* algorithms.c - the table of all algorithms, and the arithmetic of places and blocks that they share. */
#include "collectives/pieces.h"

#include <string.h>

uint32_t snti_log2_floor(uint32_t n)
{
	return 31 - (uint32_t)__builtin_clz(n);
}

uint32_t snti_log2_ceil(uint32_t n)
{
	return n > 1 ? snti_log2_floor(n - 1) + 1 : 0;
}

struct snti_spread snti_spread_all(const struct snti_plan *p)
{
	return (struct snti_spread){ .group = snti_everyone(p), .width = p->chunks / p->size };
}

uint32_t snti_spread_place(const struct snti_spread *s)
{
	uint32_t n = s->group.size;

	return (s->leftwards ? n + s->turn - s->group.me : n + s->group.me - s->turn) % n;
}

uint32_t snti_spread_rank(const struct snti_spread *s, uint32_t place)
{
	uint32_t n = s->group.size;

	return snti_member(s->group, s->turn + (s->leftwards ? n - place % n : place % n));
}

/* How many of @blocks come before the wrap. */
static uint32_t until_wrap(const struct snti_spread *s, uint32_t block, uint32_t blocks)
{
	uint32_t left = s->group.size - block % s->group.size;

	return blocks < left ? blocks : left;
}

void snti_send_blocks(struct snti_plan *p, const struct snti_spread *s, uint32_t to_place, int from,
		      uint32_t block, uint32_t blocks)
{
	uint32_t head = until_wrap(s, block, blocks), peer = snti_spread_rank(s, to_place);

	snti_plan_send(p, peer, from, s->first + block % s->group.size * s->width, head * s->width);
	snti_plan_send(p, peer, from, s->first, (blocks - head) * s->width);
}

void snti_recv_blocks(struct snti_plan *p, const struct snti_spread *s, uint32_t from_place, int to,
		      uint32_t block, uint32_t blocks)
{
	uint32_t head = until_wrap(s, block, blocks), peer = snti_spread_rank(s, from_place);

	snti_plan_recv(p, peer, to, s->first + block % s->group.size * s->width, head * s->width);
	snti_plan_recv(p, peer, to, s->first, (blocks - head) * s->width);
}

static uint32_t at_most_one(uint32_t size)
{
	return size > 1;
}

static uint32_t at_most_two(uint32_t size)
{
	return size > 2 ? 2 : size - 1;
}

static uint32_t two(uint32_t size)
{
	return size > 1 ? 2 : 0;
}

static uint32_t others(uint32_t size)
{
	return size - 1;
}

static uint32_t others_twice(uint32_t size)
{
	return 2 * (size - 1);
}

static uint32_t others_and_one(uint32_t size)
{
	return size > 1 ? size : 0;
}

static uint32_t log_twice(uint32_t size)
{
	return 2 * snti_log2_ceil(size);
}

static uint32_t doubling_rounds(uint32_t size)
{
	return snti_log2_floor(size) + (size & (size - 1) ? 2 : 0);
}

const struct snti_algorithm snti_algorithms[] = {
	{ "oneshot", SNT_ALLREDUCE, 0, at_most_one, snti_allreduce_oneshot },
	{ "doubling", SNT_ALLREDUCE, 0, doubling_rounds, snti_allreduce_doubling },
	{ "circulant", SNT_ALLREDUCE, 0, log_twice, snti_allreduce_circulant },
	{ "direct", SNT_ALLREDUCE, 0, two, snti_allreduce_direct },
	{ "ring", SNT_ALLREDUCE, 0, others_twice, snti_allreduce_ring },
	{ "bidirectional", SNT_ALLREDUCE, 0, others_twice, snti_allreduce_bidirectional },
	{ "tree", SNT_ALLREDUCE, 0, NULL, snti_allreduce_tree },
	{ "hierarchical", SNT_ALLREDUCE, 0, NULL, snti_allreduce_hierarchical },
	{ "circulant", SNT_REDUCE_SCATTER, 0, snti_log2_ceil, snti_reduce_scatter_circulant },
	{ "ring", SNT_REDUCE_SCATTER, 0, others, snti_reduce_scatter_ring },
	{ "pairwise", SNT_REDUCE_SCATTER, 0, others, snti_reduce_scatter_pairwise },
	{ "circulant", SNT_ALLGATHER, 0, snti_log2_ceil, snti_allgather_circulant },
	{ "ring", SNT_ALLGATHER, 0, others, snti_allgather_ring },
	{ "binomial", SNT_BROADCAST, 0, snti_log2_ceil, snti_broadcast_binomial },
	{ "chain", SNT_BROADCAST, 0, at_most_two, snti_broadcast_chain },
	{ "scatter_allgather", SNT_BROADCAST, 0, NULL, snti_broadcast_scatter_allgather },
	{ "binomial", SNT_REDUCE, 0, snti_log2_ceil, snti_reduce_binomial },
	{ "ring", SNT_REDUCE, 0, others_and_one, snti_reduce_ring },
	{ "pairwise", SNT_ALLTOALL, 0, others, snti_alltoall_pairwise },
	{ "bruck", SNT_ALLTOALL, 1, snti_log2_ceil, snti_alltoall_bruck },
	{ "linear", SNT_GATHER, 0, at_most_one, snti_gather_linear },
	{ "binomial", SNT_GATHER, 0, snti_log2_ceil, snti_gather_binomial },
	{ "linear", SNT_SCATTER, 0, at_most_one, snti_scatter_linear },
	{ "binomial", SNT_SCATTER, 0, snti_log2_ceil, snti_scatter_binomial },
	{ "dissemination", SNT_BARRIER, 0, snti_log2_ceil, snti_barrier_dissemination },
	{ .name = NULL }
};

const struct snti_algorithm *snti_algorithm_find(enum snt_collective collective, const char *name)
{
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		if (a->collective == collective && !strcmp(a->name, name))
			return a;
	return NULL;
}
