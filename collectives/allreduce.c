/* SPDX-License-Identifier: BSD-3-Clause */
/* allreduce.c - the sum of all vectors to everybody, the same bits on every rank. */
#include "collectives/pieces.h"
#include "base/log.h"

/* One other rank and buffers apart: its vector is folded while it arrives. */
static int oneshot_direct(const struct snti_plan *p, uint32_t peer)
{
	return !p->in_place && ((p->rank == 0 && peer == 1) || (p->rank == 1 && peer == 0));
}

/* All vectors but those that round 0 folded, one after another from rank 0 on. */
static void oneshot_merge(struct snti_plan *p)
{
	int sum = p->rank && p->in_place ? SNTI_TMP : SNTI_OUT;   /* in place OUT is a later operand until its turn */

	for (uint32_t r = p->in_place || p->rank > 1 ? 1 : 2; r < p->size; r++, snti_plan_round(p)) {
		if (r == p->rank && p->in_place) {
			snti_plan_merge(p, SNTI_OUT, sum, 0, 1, 1);
			sum = SNTI_OUT;
		} else {
			snti_plan_merge(p, sum, r == p->rank ? SNTI_IN : SNTI_TMP + (int)r, 0, 1, 0);
		}
	}
}

/* oneshot: everybody sends to everybody and folds in rank order, as one process would.
 * 1 round, P-1 vectors sent by each rank; at most 16 ranks. */
void snti_allreduce_oneshot(struct snti_plan *p)
{
	if (p->size > SNTI_ONESHOT_MOST) {
		p->error = snti_fail(SNT_EUNSUPPORTED, "allreduce oneshot serves at most %d ranks, not %u",
				     SNTI_ONESHOT_MOST, p->size);
		return;
	}
	if (p->size == 1)
		snti_plan_copy(p, SNTI_OUT, 0, SNTI_IN, 0, 1);
	snti_plan_round(p);
	for (uint32_t k = 1; k < p->size; k++) {
		uint32_t to = (p->rank + k) % p->size, from = (p->rank + p->size - k) % p->size;

		snti_plan_send(p, to, SNTI_IN, 0, 1);
		if (oneshot_direct(p, from))
			snti_plan_fold(p, from, SNTI_OUT, SNTI_IN, 0, 1);
		else
			snti_plan_recv(p, from, from || p->in_place ? SNTI_TMP + (int)from : SNTI_OUT, 0, 1);
	}
	snti_plan_round(p);
	oneshot_merge(p);
}

static int other(int buffer)
{
	return buffer == SNTI_OUT ? SNTI_TMP : SNTI_OUT;
}

/* What a round folds into must not be what it sends, so OUT and a scratch buffer take turns, OUT last. */
void snti_doubling(struct snti_plan *p, struct snti_group g, int from)
{
	uint32_t hops = snti_log2_floor(g.size), core = 1u << hops, extra = g.size - core;
	int to = hops % 2 ? SNTI_OUT : SNTI_TMP, is_out = from == SNTI_OUT || (p->in_place && from == SNTI_IN);

	if (g.me >= core) {   /* past the power of two: a partner stands in */
		snti_plan_send(p, snti_member(g, g.me - core), from, 0, p->chunks);
		snti_plan_round(p);
		snti_plan_recv(p, snti_member(g, g.me - core), SNTI_OUT, 0, p->chunks);
		snti_plan_round(p);
		return;
	}
	if (g.me < extra) {
		snti_plan_fold(p, snti_member(g, g.me + core), other(to), from, 0, p->chunks);
		snti_plan_round(p);
		from = other(to);
	} else if (is_out && to == SNTI_OUT) {
		to = SNTI_TMP;   /* and a copy at the end */
	}
	for (uint32_t hop = 1; hop < core; hop *= 2, snti_plan_round(p)) {
		snti_plan_send(p, snti_member(g, g.me ^ hop), from, 0, p->chunks);
		snti_plan_fold(p, snti_member(g, g.me ^ hop), to, from, 0, p->chunks);
		from = to;
		to = other(to);
	}
	snti_plan_copy(p, SNTI_OUT, 0, from, 0, p->chunks);
	snti_plan_round(p);
	if (g.me < extra)
		snti_plan_send(p, snti_member(g, g.me + core), SNTI_OUT, 0, p->chunks);
	snti_plan_round(p);
}

/* doubling: partners at distance 1, 2, 4, ... exchange and fold all they have.
 * log2 P rounds, as many vectors sent by each rank; 2 rounds more when P is no power of two. */
void snti_allreduce_doubling(struct snti_plan *p)
{
	snti_doubling(p, snti_everyone(p), SNTI_IN);
}

/* ring: a ring reduce-scatter, then a ring allgather.
 * 2 (P-1) rounds, 2 (P-1)/P vectors sent by each rank. Patarasuk and Yuan 2009. */
void snti_allreduce_ring(struct snti_plan *p)
{
	struct snti_spread all;

	p->chunks = p->size;
	all = snti_spread_all(p);
	snti_ring_reduce_scatter(p, &all, (struct snti_places){ SNTI_IN, SNTI_OUT, SNTI_OUT });
	snti_ring_allgather(p, &all, SNTI_OUT, SNTI_OUT);
}

/* bidirectional: two rings in opposite directions, each with half of the vector.
 * 2 (P-1) rounds, 2 (P-1)/P vectors sent by each rank, half of it each way. */
void snti_allreduce_bidirectional(struct snti_plan *p)
{
	struct snti_places at = { SNTI_IN, SNTI_OUT, SNTI_OUT };
	struct snti_spread right, left;

	p->chunks = 2 * p->size;
	right = left = (struct snti_spread){ .group = snti_everyone(p), .width = 1 };
	left.leftwards = 1;
	left.first = p->size;
	if (p->size == 1)
		snti_plan_copy(p, SNTI_OUT, 0, SNTI_IN, 0, p->chunks);
	for (uint32_t k = 0; k + 1 < p->size; k++, snti_plan_round(p)) {
		snti_ring_fold_steps(p, &right, at, k);
		snti_ring_fold_steps(p, &left, at, k);
	}
	for (uint32_t k = 0; k + 1 < p->size; k++, snti_plan_round(p)) {
		snti_ring_pass_steps(p, &right, SNTI_OUT, SNTI_OUT, k);
		snti_ring_pass_steps(p, &left, SNTI_OUT, SNTI_OUT, k);
	}
}

/* circulant: a circulant reduce-scatter, then the same backwards, for any number of ranks.
 * 2 ceil(log2 P) rounds, 2 (P-1)/P vectors sent by each rank. Traeff 2024. */
void snti_allreduce_circulant(struct snti_plan *p)
{
	struct snti_spread all;

	p->chunks = p->size;
	all = snti_spread_all(p);
	snti_circulant_reduce_scatter(p, &all, (struct snti_places){ SNTI_IN, SNTI_OUT, SNTI_OUT });
	snti_circulant_allgather(p, &all, SNTI_OUT, SNTI_OUT);
}

#define NOBODY UINT32_MAX
struct family { uint32_t parent, child[2]; };

/* In the in-order binary tree over 0..n-1 a member stands as high as its lowest bit; member 0 is the root,
 * above one child. Every odd member is a leaf. */
static struct family tree_family(uint32_t me, uint32_t n)
{
	uint32_t bit = me ? me & -me : 1u << snti_log2_ceil(n), below = bit / 2;
	struct family f = { NOBODY, { NOBODY, NOBODY } };

	if (me)
		f.parent = (me ^ bit) | (2 * bit);
	if (me && f.parent >= n)
		f.parent = me ^ bit;
	if (me && below)
		f.child[0] = me - below;
	while (below && me + below >= n)
		below /= 2;
	if (below)
		f.child[1] = me + below;
	return f;
}

/* The second tree makes leaves of those that are not: shifted by one for odd @n, mirrored for even. */
static uint32_t to_second_tree(uint32_t member, uint32_t n, int back)
{
	if (member == NOBODY)
		return NOBODY;
	if (n % 2 == 0)
		return n - 1 - member;
	return (member + (back ? 1 : n - 1)) % n;
}

static struct family second_family(uint32_t me, uint32_t n)
{
	struct family f = tree_family(to_second_tree(me, n, 0), n);

	f.parent = to_second_tree(f.parent, n, 1);
	f.child[0] = to_second_tree(f.child[0], n, 1);
	f.child[1] = to_second_tree(f.child[1], n, 1);
	return f;
}

static int is_leaf(const struct family *f)
{
	return f->child[0] == NOBODY && f->child[1] == NOBODY;
}

/* Both children and, as a leaf, the parent at once: with one after the other two ranks, each a leaf under the
 * other, would wait for each other. So the second child waits in scratch. */
static void tree_meet(struct snti_plan *p, const struct family *tree, uint32_t chunk)
{
	const uint32_t *child = tree->child;

	if (is_leaf(tree))
		snti_plan_send(p, tree->parent, SNTI_IN, chunk, 1);
	else
		snti_plan_fold(p, child[0] == NOBODY ? child[1] : child[0], SNTI_OUT, SNTI_IN, chunk, 1);
	if (child[0] != NOBODY && child[1] != NOBODY)
		snti_plan_recv(p, child[1], SNTI_TMP, chunk, 1);
}

/* The second tree first: a rank that is a child of rank 0 in both is a leaf of the second, and sends there first. */
static void tree_up(struct snti_plan *p, const struct family *trees)
{
	tree_meet(p, &trees[1], 1);
	tree_meet(p, &trees[0], 0);
	snti_plan_round(p);
	for (uint32_t t = 0; t < 2; t++)
		if (trees[t].child[0] != NOBODY && trees[t].child[1] != NOBODY)
			snti_plan_merge(p, SNTI_OUT, SNTI_TMP, t, 1, trees[t].child[1] < p->rank);
	snti_plan_round(p);
	for (uint32_t t = 0; t < 2; t++)
		if (!is_leaf(&trees[t]) && trees[t].parent != NOBODY)
			snti_plan_send(p, trees[t].parent, SNTI_OUT, t, 1);
	snti_plan_round(p);
}

/* A rank serves its children while it waits as a leaf, for the same reason. */
static void tree_down(struct snti_plan *p, const struct family *trees)
{
	for (uint32_t t = 0; t < 2; t++)
		if (!is_leaf(&trees[t]) && trees[t].parent != NOBODY)
			snti_plan_recv(p, trees[t].parent, SNTI_OUT, t, 1);
	snti_plan_round(p);
	for (uint32_t t = 0; t < 2; t++) {
		if (is_leaf(&trees[t]))
			snti_plan_recv(p, trees[t].parent, SNTI_OUT, t, 1);
		for (uint32_t c = 0; c < 2; c++)
			if (trees[t].child[c] != NOBODY)
				snti_plan_send(p, trees[t].child[c], SNTI_OUT, t, 1);
	}
}

/* tree: two binary trees, each with half of the vector; who stands inside one is a leaf of the other.
 * At most 4 rounds on each rank, at most 2 vectors sent; about 2 log2 P deep, slices make it a pipeline.
 * Sanders, Speck, Traeff 2009. */
void snti_allreduce_tree(struct snti_plan *p)
{
	struct family trees[2] = { tree_family(p->rank, p->size), second_family(p->rank, p->size) };

	p->chunks = 2;
	if (p->size == 1) {
		snti_plan_copy(p, SNTI_OUT, 0, SNTI_IN, 0, p->chunks);
		return;
	}
	tree_up(p, trees);
	tree_down(p, trees);
}
