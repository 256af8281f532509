/* SPDX-License-Identifier: BSD-3-Clause */
/* answers.c - which folds end a round together, and which messages only return what a fold has made. */
#include "collectives/plan.h"

enum { MOST_LEFT_OUT = 64 };   /* of a round's messages only so many can be left out */

static uint32_t round_end(const struct snti_plan *p, uint32_t i)
{
	uint32_t end = i;

	while (end < p->step_count && p->steps[end].round == p->steps[i].round)
		end++;
	return end;
}

/* How many messages to, or from, the peer of step @i come before it. */
static uint32_t number_of(const struct snti_plan *p, uint32_t i)
{
	int sends = p->steps[i].op == SNTI_STEP_SEND;
	uint32_t before = 0;

	for (uint32_t k = 0; k < i; k++)
		before += p->steps[k].op <= SNTI_STEP_FOLD && p->steps[k].peer == p->steps[i].peer &&
			  (p->steps[k].op == SNTI_STEP_SEND) == sends;
	return before;
}

static int is_same_buffer(const struct snti_plan *p, int a, int b)
{
	return a == b || (p->in_place && a <= SNTI_OUT && b <= SNTI_OUT);
}

static int touches(const struct snti_plan *p, const struct snti_step *s, int buffer, uint32_t chunk, uint32_t count)
{
	int writes = s->op != SNTI_STEP_SEND && is_same_buffer(p, s->to, buffer) && s->to_chunk < chunk + count &&
		     chunk < s->to_chunk + s->count;
	int reads = s->op != SNTI_STEP_RECV && is_same_buffer(p, s->from, buffer) && s->from_chunk < chunk + count &&
		    chunk < s->from_chunk + s->count;

	return writes || reads;
}

/* Whether what @take will bring may be written already while @send, of the round from @first on, is under way: nothing
 * else of that round touches it, and @send itself at most reads the same chunks, each element before it is written. */
static int is_free(const struct snti_plan *p, uint32_t first, uint32_t send, const struct snti_step *take)
{
	for (uint32_t i = first; i < p->step_count && p->steps[i].round == p->steps[send].round; i++)
		if (touches(p, &p->steps[i], take->to, take->to_chunk, take->count) &&
		    (i != send || p->steps[i].from_chunk != take->to_chunk || p->steps[i].count != take->count))
			return 0;
	return 1;
}

/* The step of round [next, end) that brings the answer to @send, or that gives the answer of @fold. */
static uint32_t find(const struct snti_plan *p, uint32_t i, uint32_t next, uint32_t end)
{
	const struct snti_step *s = &p->steps[i], *other;
	int sends = s->op == SNTI_STEP_SEND;

	for (uint32_t k = next; k < end; k++) {
		other = &p->steps[k];
		if (other->peer != s->peer || other->op != (sends ? SNTI_STEP_RECV : SNTI_STEP_SEND))
			continue;
		if (sends ? other->to == SNTI_OUT && other->to_chunk == s->from_chunk && other->count == s->count
			  : is_same_buffer(p, other->from, s->to) && other->from_chunk == s->to_chunk && other->count == s->count)
			return k;
		return end;
	}
	return end;
}

static void mark_joint(struct snti_plan *p, uint32_t first, uint32_t end)
{
	uint32_t i = end - 1;

	if (p->steps[i].op != SNTI_STEP_FOLD)
		return;
	while (i > first && snti_is_joint(&p->steps[i - 1], &p->steps[end - 1]))
		i--;
	for (; i < end; i++)
		p->steps[i].joint = end - i;
}

static void mark_answers(struct snti_plan *p, uint32_t first, uint32_t next)
{
	uint32_t end = round_end(p, next);

	for (uint32_t i = first; i < next; i++) {
		struct snti_step *s = &p->steps[i];
		uint32_t k = s->op == SNTI_STEP_SEND || s->joint ? find(p, i, next, end) : end;

		if (k == end || k - next >= MOST_LEFT_OUT || (s->op == SNTI_STEP_SEND && !is_free(p, first, i, &p->steps[k])))
			continue;
		s->answer = 1 + k;
		s->number = number_of(p, k);
	}
}

void snti_plan_find_answers(struct snti_plan *p)
{
	for (uint32_t i = 0; i < p->step_count; i++)
		p->steps[i].answer = p->steps[i].number = p->steps[i].joint = 0;
	for (uint32_t first = 0, next; first < p->step_count && p->collective == SNT_ALLREDUCE; first = next) {
		next = round_end(p, first);
		mark_joint(p, first, next);
		mark_answers(p, first, next);
	}
}
