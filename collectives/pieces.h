/* SPDX-License-Identifier: BSD-3-Clause */
/* pieces.h - parts of plans that several algorithms share, and the builders that the table lists. */
#ifndef COLLECTIVES_PIECES_H
#define COLLECTIVES_PIECES_H

#include "collectives/plan.h"

/* Blocks of equal width dealt to a group. Places count from the member @turn, to the right or to the left;
 * place v owns block v, which is chunks [first + v * width, first + (v + 1) * width). */
struct snti_spread {
	struct snti_group group;
	uint32_t turn;
	int leftwards;
	uint32_t first, width;
};

struct snti_spread snti_spread_all(const struct snti_plan *p);     /* everyone, all chunks */
uint32_t snti_spread_place(const struct snti_spread *s);           /* this rank's place */
uint32_t snti_spread_rank(const struct snti_spread *s, uint32_t place);   /* taken modulo the size */

/* A run of blocks that may wrap around; both sides of a message cut it at the same block. */
void snti_send_blocks(struct snti_plan *p, const struct snti_spread *s, uint32_t to_place, int from,
		      uint32_t block, uint32_t blocks);
void snti_recv_blocks(struct snti_plan *p, const struct snti_spread *s, uint32_t from_place, int to,
		      uint32_t block, uint32_t blocks);

/* Where a reduce-scatter finds the contributions, keeps what is unfinished, leaves the own block. */
struct snti_places { int from, via, to; };

/* One round's steps of a ring, for rings that run side by side; the caller ends the round. */
void snti_ring_fold_steps(struct snti_plan *p, const struct snti_spread *s, struct snti_places at, uint32_t k);
void snti_ring_pass_steps(struct snti_plan *p, const struct snti_spread *s, int from, int to, uint32_t k);
/* Whole phases. An allgather finds the own block in @from and leaves all blocks in @to. */
void snti_ring_reduce_scatter(struct snti_plan *p, const struct snti_spread *s, struct snti_places at);
void snti_ring_allgather(struct snti_plan *p, const struct snti_spread *s, int from, int to);
void snti_circulant_reduce_scatter(struct snti_plan *p, const struct snti_spread *s, struct snti_places at);
void snti_circulant_allgather(struct snti_plan *p, const struct snti_spread *s, int from, int to);

/* All chunks, from the member @root of @g, where they lie in @from, into everybody's SNTI_OUT. */
void snti_binomial_broadcast(struct snti_plan *p, struct snti_group g, uint32_t root, int from);
/* All chunks of SNTI_IN, folded in @via. Where the member @root then has the sum: @via, or SNTI_IN when alone. */
int snti_binomial_reduce(struct snti_plan *p, struct snti_group g, uint32_t root, int via);
/* All chunks of @from, folded into everybody's SNTI_OUT. */
void snti_doubling(struct snti_plan *p, struct snti_group g, int from);

uint32_t snti_log2_floor(uint32_t n);
uint32_t snti_log2_ceil(uint32_t n);

enum { SNTI_ONESHOT_MOST = 16 };   /* ranks; every one needs scratch for all others */
enum { SNTI_DIRECT_MOST = 8 };     /* ranks; as many as are folded in one pass */

void snti_allreduce_direct(struct snti_plan *p);
void snti_allreduce_oneshot(struct snti_plan *p);
void snti_allreduce_doubling(struct snti_plan *p);
void snti_allreduce_ring(struct snti_plan *p);
void snti_allreduce_bidirectional(struct snti_plan *p);
void snti_allreduce_circulant(struct snti_plan *p);
void snti_allreduce_tree(struct snti_plan *p);
void snti_allreduce_hierarchical(struct snti_plan *p);
void snti_reduce_scatter_ring(struct snti_plan *p);
void snti_reduce_scatter_circulant(struct snti_plan *p);
void snti_reduce_scatter_pairwise(struct snti_plan *p);
void snti_allgather_ring(struct snti_plan *p);
void snti_allgather_circulant(struct snti_plan *p);
void snti_broadcast_binomial(struct snti_plan *p);
void snti_broadcast_chain(struct snti_plan *p);
void snti_broadcast_scatter_allgather(struct snti_plan *p);
void snti_reduce_binomial(struct snti_plan *p);
void snti_reduce_ring(struct snti_plan *p);
void snti_alltoall_pairwise(struct snti_plan *p);
void snti_alltoall_bruck(struct snti_plan *p);
void snti_gather_linear(struct snti_plan *p);
void snti_gather_binomial(struct snti_plan *p);
void snti_scatter_linear(struct snti_plan *p);
void snti_scatter_binomial(struct snti_plan *p);
void snti_barrier_dissemination(struct snti_plan *p);

#endif
