/* SPDX-License-Identifier: BSD-3-Clause */
/* plan.c - building plans: every function appends a step, or does nothing after the first failure. */
#include "collectives/plan.h"
#include "base/log.h"

#include <stdlib.h>

void snti_plan_init(struct snti_plan *plan, const struct snti_plan_shape *shape)
{
	*plan = (struct snti_plan){
		.collective = shape->collective, .rank = shape->rank, .size = shape->size, .root = shape->root,
		.node_size = shape->node_size, .in_place = shape->in_place, .chunks = 1,
	};
}

void snti_plan_fini(struct snti_plan *plan)
{
	free(plan->steps);
	plan->steps = NULL;
	plan->step_count = plan->step_space = 0;
}

static int grow(struct snti_plan *p)
{
	uint32_t space = p->step_space ? 2 * p->step_space : 16;
	void *steps = realloc(p->steps, space * sizeof(*p->steps));

	if (!steps)
		return snti_fail(SNT_ENOMEM, "no memory for a plan of %u steps", space);
	p->steps = steps;
	p->step_space = space;
	return 0;
}

static void add(struct snti_plan *p, struct snti_step step)
{
	if (p->error || !step.count)
		return;
	if (p->step_count == p->step_space)
		p->error = grow(p);
	if (p->error)
		return;
	if (!p->rounds)
		p->rounds = 1;
	step.round = p->rounds - 1;
	p->steps[p->step_count++] = step;
}

void snti_plan_send(struct snti_plan *p, uint32_t peer, int from, uint32_t chunk, uint32_t count)
{
	add(p, (struct snti_step){ .op = SNTI_STEP_SEND, .to = (uint8_t)from, .from = (uint8_t)from, .peer = peer,
		.to_chunk = chunk, .from_chunk = chunk, .count = count });
}

void snti_plan_recv(struct snti_plan *p, uint32_t peer, int to, uint32_t chunk, uint32_t count)
{
	add(p, (struct snti_step){ .op = SNTI_STEP_RECV, .to = (uint8_t)to, .from = (uint8_t)to, .peer = peer,
		.to_chunk = chunk, .from_chunk = chunk, .count = count });
}

void snti_plan_fold(struct snti_plan *p, uint32_t peer, int to, int from, uint32_t chunk, uint32_t count)
{
	add(p, (struct snti_step){ .op = SNTI_STEP_FOLD, .to = (uint8_t)to, .from = (uint8_t)from, .peer = peer,
		.left = peer < p->rank, .to_chunk = chunk, .from_chunk = chunk, .count = count });
}

void snti_plan_join(struct snti_plan *p, uint32_t peer, int to, int from, uint32_t chunk, uint32_t count)
{
	add(p, (struct snti_step){ .op = SNTI_STEP_FOLD, .to = (uint8_t)to, .from = (uint8_t)from, .peer = peer,
		.to_chunk = chunk, .from_chunk = chunk, .count = count });
}

/* Whether two buffers are the same bytes in this call. */
static int same_buffer(const struct snti_plan *p, int a, int b)
{
	return a == b || (p->in_place && a <= SNTI_OUT && b <= SNTI_OUT);
}

void snti_plan_copy(struct snti_plan *p, int to, uint32_t to_chunk, int from, uint32_t from_chunk, uint32_t count)
{
	if (to_chunk == from_chunk && same_buffer(p, to, from))
		return;   /* it is there already */
	add(p, (struct snti_step){ .op = SNTI_STEP_COPY, .to = (uint8_t)to, .from = (uint8_t)from, .peer = p->rank,
		.to_chunk = to_chunk, .from_chunk = from_chunk, .count = count });
}

void snti_plan_merge(struct snti_plan *p, int to, int from, uint32_t chunk, uint32_t count, int from_is_left)
{
	add(p, (struct snti_step){ .op = SNTI_STEP_MERGE, .to = (uint8_t)to, .from = (uint8_t)from, .peer = p->rank,
		.left = !!from_is_left, .to_chunk = chunk, .from_chunk = chunk, .count = count });
}

void snti_plan_round(struct snti_plan *p)
{
	if (p->step_count && p->steps[p->step_count - 1].round == p->rounds - 1)
		p->rounds++;
}

static void note_scratch(struct snti_plan *p, int buffer, uint32_t first, uint32_t count)
{
	uint32_t index = (uint32_t)buffer - SNTI_TMP + 1;

	if (buffer < SNTI_TMP)
		return;
	if (!p->tmp_buffers || first < p->tmp_first)
		p->tmp_first = first;
	if (first + count > p->tmp_end)
		p->tmp_end = first + count;
	if (index > p->tmp_buffers)
		p->tmp_buffers = index;
}

int snti_plan_commit(struct snti_plan *plan)
{
	uint32_t width = 0;

	plan->widest = plan->tmp_buffers = plan->tmp_first = plan->tmp_end = 0;
	for (uint32_t i = 0; i < plan->step_count; i++) {
		const struct snti_step *s = &plan->steps[i];

		width = i && s->round == s[-1].round ? width + 1 : 1;
		if (width > plan->widest)
			plan->widest = width;
		note_scratch(plan, s->to, s->to_chunk, s->count);
		note_scratch(plan, s->from, s->from_chunk, s->count);
	}
	/* A builder that ends with a round boundary has opened one that holds nothing. */
	plan->rounds = plan->step_count ? plan->steps[plan->step_count - 1].round + 1 : 0;
	snti_plan_find_answers(plan);
	return plan->error;
}
