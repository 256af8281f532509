/* SPDX-License-Identifier: BSD-3-Clause */
/* plan.h - a collective, for one rank, as data.
 *
 * A plan is a list of rounds; a round is a list of steps that may all run at once. Round k+1
 * begins, on this rank only, when every step of round k has finished. Steps of one round must
 * not disturb each other: what one writes no other may read or write (a FOLD's operand may be
 * its own destination). Messages between two ranks match in the order in which they were
 * planned, with no tags and no wildcards; so one dry run of all plans decides every interleaving.
 *
 * Several FOLDs of one round into the same place from the same operand are one JOINT fold: the operand, then what
 * arrives in the order of the steps. They stand last in their round, and none of their messages is taken before all
 * have come. So the engine may sum them in one pass, out of the senders' memory.
 *
 * An ANSWER: a rank sends a chunk, and in the next round the one that folds it sends back what became of it. The
 * plan says so by messages as always; but whoever can write where the answer belongs may do so at once, and
 * then both leave that message out. Commit finds out where that disturbs nothing.
 *
 * Words: a CHUNK is the unit in which steps name data; the call brings the table that says where
 * chunk c of a buffer lies (by default count * c / chunks). A SLICE is the s-th of S equal parts
 * of every chunk: the engine runs the same plan on several slices at once, which is how a plan is
 * pipelined. A LANE is the order key of one running slice on the wire. Nothing else cuts data.
 *
 * Buffers are named in the chunks of the whole vector on every rank: allgather's IN has only chunk
 * [rank], reduce_scatter's OUT only chunk [rank]. For the v forms and the collectives with P blocks,
 * chunks is P times some whole number. TMP buffers have the shape of the whole vector; only the chunks that a
 * plan touches get memory. In place, IN and OUT are the same bytes: a builder looks at p->in_place.
 *
 * Builders never check for errors: the first failure sticks in p->error.
 */
#ifndef COLLECTIVES_PLAN_H
#define COLLECTIVES_PLAN_H

#include "include/sennit.h"

enum snti_step_op {
	SNTI_STEP_SEND,    /* from -> peer */
	SNTI_STEP_RECV,    /* to <- peer */
	SNTI_STEP_FOLD,    /* to = from op what arrives from peer (left: arrives op from) */
	SNTI_STEP_COPY,    /* to = from */
	SNTI_STEP_MERGE,   /* to = to op from (left: from op to) */
};
enum snti_buffer { SNTI_IN, SNTI_OUT, SNTI_TMP };   /* SNTI_TMP + i: the i-th scratch buffer */

struct snti_step {
	uint8_t op;                 /* enum snti_step_op */
	uint8_t to, from;           /* enum snti_buffer */
	uint8_t left;
	uint32_t round;
	uint32_t peer;
	uint32_t to_chunk, from_chunk, count;
	/* By commit. SEND: 1 + the step that takes the answer to it; FOLD: 1 + the step that sends the answer; 0: none. */
	uint32_t answer;
	uint32_t number;            /* which message from here to peer the answer is, on both sides; from 0 on */
	uint32_t joint;             /* FOLD that stands last in its round: how many to the round's end are one fold with it; else 0 */
};

/* Some ranks, in order: base, base + stride, ...; me is this rank's index among them. */
struct snti_group { uint32_t base, stride, size, me; };

struct snti_plan {
	enum snt_collective collective;
	uint32_t rank, size, root, node_size;   /* node_size: ranks on one host, 0 unknown or uneven */
	int in_place;
	uint32_t chunks;                        /* set by the algorithm before its first step */
	uint32_t rounds, step_count, step_space;
	struct snti_step *steps;
	/* By commit: the widest round; how many TMP buffers, and chunks [tmp_first, tmp_end) used in any. */
	uint32_t widest, tmp_buffers, tmp_first, tmp_end;
	int error;
};

struct snti_plan_shape {
	enum snt_collective collective;
	uint32_t rank, size, root, node_size;
	int in_place;
};

void snti_plan_init(struct snti_plan *plan, const struct snti_plan_shape *shape);
void snti_plan_fini(struct snti_plan *plan);
/* Works out widest, the TMP fields, joint folds and answers. The plan's sticky error, or 0. */
int  snti_plan_commit(struct snti_plan *plan) SNT_CHECK_RESULT;
/* Part of commit: joint folds and answers. */
void snti_plan_find_answers(struct snti_plan *plan);

/* Steps of 0 chunks are left out. */
void snti_plan_send(struct snti_plan *p, uint32_t peer, int from, uint32_t chunk, uint32_t count);
void snti_plan_recv(struct snti_plan *p, uint32_t peer, int to, uint32_t chunk, uint32_t count);
/* Lower ranks are left operands: arriving is left when peer < rank. */
void snti_plan_fold(struct snti_plan *p, uint32_t peer, int to, int from, uint32_t chunk, uint32_t count);
/* One of those that make a joint fold: what arrives is the right operand. */
void snti_plan_join(struct snti_plan *p, uint32_t peer, int to, int from, uint32_t chunk, uint32_t count);
void snti_plan_copy(struct snti_plan *p, int to, uint32_t to_chunk, int from, uint32_t from_chunk, uint32_t count);
void snti_plan_merge(struct snti_plan *p, int to, int from, uint32_t chunk, uint32_t count, int from_is_left);
/* What follows waits for what came before. An empty round costs nothing. */
void snti_plan_round(struct snti_plan *p);

/* Whether two steps are parts of one joint fold, if they stand in one round. */
static inline int snti_is_joint(const struct snti_step *a, const struct snti_step *b)
{
	return a->op == SNTI_STEP_FOLD && b->op == SNTI_STEP_FOLD && a->to == b->to && a->from == b->from &&
	       a->to_chunk == b->to_chunk && a->from_chunk == b->from_chunk && a->count == b->count;
}

static inline struct snti_group snti_everyone(const struct snti_plan *p)
{
	return (struct snti_group){ .base = 0, .stride = 1, .size = p->size, .me = p->rank };
}

static inline uint32_t snti_member(struct snti_group g, uint32_t index)
{
	return g.base + (index % g.size) * g.stride;
}

/* An algorithm is one function that fills in a plan. */
struct snti_algorithm {
	const char *name;               /* "ring" */
	enum snt_collective collective;
	int needs_equal_blocks;         /* cannot serve the v forms with unequal counts */
	/* For the check against the plan: rounds, and blocks sent by the busiest rank, times P, of the
	 * whole vector, as the head comment gives them. NULL where it gives none. */
	uint32_t (*rounds)(uint32_t size);
	void (*build)(struct snti_plan *plan);
};
extern const struct snti_algorithm snti_algorithms[];           /* name NULL ends it */
const struct snti_algorithm *snti_algorithm_find(enum snt_collective collective, const char *name);

#endif
