/* SPDX-License-Identifier: BSD-3-Clause */
/* walk.c - runs the plans of all ranks with no data and no clock.
 *
 * Every send waits for its receive, which is the strictest wire there is: plans that finish here cannot
 * deadlock on a laxer one. And as matching has no choice, one order of events stands for all.
 */
#include "collectives/walk.h"
#include "base/log.h"

#include <stdlib.h>

/* A step that waits for its other side, in the queue of the rank that receives; 0 is no waiting. */
struct waiting { uint32_t rank, next; const struct snti_step *step; };
struct queue { uint32_t head, tail; };
struct walker { uint32_t next_step, open; struct queue sends, recvs; };   /* of and for this receiver */
/* What has come for a step of the round that is part of a joint fold. */
struct share { uint32_t rank; const struct snti_step *send; };

struct state {
	const struct snti_plan *plans;
	uint32_t size;
	const struct snti_walk *walk;
	struct snti_walk_stop *stop;
	struct walker *walkers;
	struct waiting *pool;
	struct share **shares;              /* per rank, if it has joint folds: by place in the round */
	uint32_t pool_free, *ready, ready_count;
	uint32_t buffers, chunks;
	uint64_t epoch, *read, *written;    /* per buffer and chunk: the last round that did so */
};

static int stopped(struct state *s, uint32_t rank, const struct snti_step *step, const char *what)
{
	*s->stop = (struct snti_walk_stop){ rank, step->round, what };
	return SNT_EINVAL;
}

static void put(struct state *s, struct queue *q, uint32_t rank, const struct snti_step *step)
{
	uint32_t w = s->pool_free;

	s->pool_free = s->pool[w].next;
	s->pool[w] = (struct waiting){ rank, 0, step };
	if (q->head)
		s->pool[q->tail].next = w;
	else
		q->head = w;
	q->tail = w;
}

/* The oldest step of @rank in the queue, or NULL. */
static const struct snti_step *take(struct state *s, struct queue *q, uint32_t rank)
{
	uint32_t before = 0, w = q->head;

	while (w && s->pool[w].rank != rank) {
		before = w;
		w = s->pool[w].next;
	}
	if (!w)
		return NULL;
	if (before)
		s->pool[before].next = s->pool[w].next;
	else
		q->head = s->pool[w].next;
	if (q->tail == w)
		q->tail = before;
	s->pool[w].next = s->pool_free;
	s->pool_free = w;
	return s->pool[w].step;
}

static int reads(const struct snti_step *s)
{
	return s->op != SNTI_STEP_RECV;
}

static int writes(const struct snti_step *s)
{
	return s->op != SNTI_STEP_SEND;
}

static int is_message(const struct snti_step *s)
{
	return s->op <= SNTI_STEP_FOLD;
}

static int buffer_of(const struct snti_plan *p, int buffer)
{
	return p->in_place && buffer == SNTI_IN ? SNTI_OUT : buffer;
}

static int outside(const struct state *s, uint32_t chunk, uint32_t count)
{
	return chunk >= s->chunks || count > s->chunks - chunk;
}

static int check_range(struct state *s, uint32_t rank, const struct snti_step *step)
{
	if (step->op > SNTI_STEP_MERGE || !step->count)
		return stopped(s, rank, step, "a step that is none");
	if (is_message(step) && (step->peer >= s->size || step->peer == rank))
		return stopped(s, rank, step, "a message to a rank that is none");
	if ((reads(step) && outside(s, step->from_chunk, step->count)) ||
	    (writes(step) && outside(s, step->to_chunk, step->count)))
		return stopped(s, rank, step, "a step outside of the vector");
	return 0;
}

/* Within one step: only a fold may write what it reads, and then exactly that. */
static int overlaps_itself(const struct snti_plan *p, const struct snti_step *step)
{
	uint32_t to = step->to_chunk, from = step->from_chunk;

	if (!reads(step) || !writes(step) || buffer_of(p, step->to) != buffer_of(p, step->from))
		return 0;
	if (step->op == SNTI_STEP_FOLD && to == from)
		return 0;
	return to < from + step->count && from < to + step->count;
}

/* Whether another step of this round has touched what @step will; notes what @step touches. */
static int clashes(struct state *s, const struct snti_plan *p, const struct snti_step *step)
{
	size_t to = (size_t)buffer_of(p, step->to) * s->chunks + step->to_chunk;
	size_t from = (size_t)buffer_of(p, step->from) * s->chunks + step->from_chunk;
	int clash = 0;

	/* A merge reads its destination too, but who writes is already alone there. */
	for (uint32_t i = 0; i < step->count; i++)
		clash |= (writes(step) && (s->written[to + i] == s->epoch || s->read[to + i] == s->epoch)) ||
			 (reads(step) && s->written[from + i] == s->epoch);
	for (uint32_t i = 0; i < step->count; i++) {
		if (writes(step))
			s->written[to + i] = s->epoch;
		if (reads(step))
			s->read[from + i] = s->epoch;
	}
	return clash;
}

/* Whether the step is part of a joint fold that has begun before it. */
static int follows(const struct snti_plan *p, uint32_t first, uint32_t i)
{
	return i > first && snti_is_joint(&p->steps[i - 1], &p->steps[i]);
}

/* One pass has no sides, and the steps before it must be on their way while it waits for all that it needs. */
static const char *check_joint(const struct snti_plan *p, uint32_t first, uint32_t i, uint32_t end)
{
	int joins = follows(p, first, i), begins = i + 1 < end && follows(p, first, i + 1);

	if ((joins || begins) && p->steps[i].left)
		return "a joint fold whose order is not that of its steps";
	return joins && !begins && i + 1 < end ? "a joint fold that does not end its round" : NULL;
}

static int check_round(struct state *s, uint32_t rank, uint32_t first, uint32_t end)
{
	const struct snti_plan *p = &s->plans[rank];

	s->epoch++;
	for (uint32_t i = first; i < end; i++) {
		int status = check_range(s, rank, &p->steps[i]);

		if (status)
			return status;
		if (check_joint(p, first, i, end))
			return stopped(s, rank, &p->steps[i], check_joint(p, first, i, end));
		if (overlaps_itself(p, &p->steps[i]) || (!follows(p, first, i) && clashes(s, p, &p->steps[i])))
			return stopped(s, rank, &p->steps[i], "a step that disturbs another of its round");
	}
	return 0;
}

static void finish(struct state *s, uint32_t rank)
{
	if (--s->walkers[rank].open)
		return;
	if (s->walk->round_done)
		s->walk->round_done(s->walk->arg, rank);
	s->ready[s->ready_count++] = rank;
}

/* The round that @recv stands in: its first step, and one past its last. */
static void round_of(const struct snti_plan *p, uint32_t end, uint32_t *first)
{
	for (*first = end - 1; *first && p->steps[*first - 1].round == p->steps[end - 1].round; --*first)
		;
}

static int match(struct state *s, uint32_t from, const struct snti_step *send, uint32_t to, const struct snti_step *recv)
{
	int status = s->walk->message ? s->walk->message(s->walk->arg, from, send, to, recv) : 0;

	finish(s, from);
	finish(s, to);
	return status;
}

/* All shares of a joint fold are there: they are folded in the order of its steps, and only now are their senders done. */
static int join(struct state *s, uint32_t to, uint32_t first, uint32_t begin, uint32_t end)
{
	int status = 0;

	for (uint32_t i = begin; i < end && !status; i++) {
		struct share *share = &s->shares[to][i - first];
		struct snti_step step = s->plans[to].steps[i];

		step.from = i == begin ? step.from : step.to;
		step.from_chunk = i == begin ? step.from_chunk : step.to_chunk;
		status = match(s, share->rank, share->send, to, &step);
		share->send = NULL;
	}
	return status;
}

static int meet(struct state *s, uint32_t from, const struct snti_step *send, uint32_t to, const struct snti_step *recv)
{
	const struct snti_plan *p = &s->plans[to];
	uint32_t i = (uint32_t)(recv - p->steps), end = s->walkers[to].next_step, first, begin = i, last = i + 1;

	if (recv->op != SNTI_STEP_FOLD)
		return match(s, from, send, to, recv);
	round_of(p, end, &first);
	while (follows(p, first, begin))
		begin--;
	while (last < end && follows(p, first, last))
		last++;
	if (last - begin == 1)
		return match(s, from, send, to, recv);
	s->shares[to][i - first] = (struct share){ from, send };
	for (uint32_t k = begin; k < last; k++)
		if (!s->shares[to][k - first].send)
			return 0;
	return join(s, to, first, begin, last);
}

static int issue(struct state *s, uint32_t rank, const struct snti_step *step)
{
	int is_send = step->op == SNTI_STEP_SEND, status = 0;
	struct walker *receiver = &s->walkers[is_send ? step->peer : rank];
	const struct snti_step *other;

	if (!is_message(step)) {
		if (s->walk->local)
			status = s->walk->local(s->walk->arg, rank, step);
		finish(s, rank);
		return status;
	}
	other = take(s, is_send ? &receiver->recvs : &receiver->sends, is_send ? rank : step->peer);
	if (!other)
		put(s, is_send ? &receiver->sends : &receiver->recvs, is_send ? rank : step->peer, step);
	else if (is_send)
		status = meet(s, rank, step, step->peer, other);
	else
		status = meet(s, step->peer, other, rank, step);
	return status;
}

static int run_round(struct state *s, uint32_t rank)
{
	const struct snti_plan *p = &s->plans[rank];
	uint32_t first = s->walkers[rank].next_step, end = first + 1;
	int status;

	while (end < p->step_count && p->steps[end].round == p->steps[first].round)
		end++;
	if (end < p->step_count && p->steps[end].round < p->steps[first].round)
		return stopped(s, rank, &p->steps[end], "a round that goes back");
	status = check_round(s, rank, first, end);
	s->walkers[rank].next_step = end;
	s->walkers[rank].open = end - first;
	for (uint32_t i = first; i < end && !status; i++)
		status = issue(s, rank, &p->steps[i]);
	return status;
}

/* How many of a plan's steps can wait at once: those of its widest round. */
static uint32_t widest_round(const struct snti_plan *p)
{
	uint32_t widest = 0, width = 0;

	for (uint32_t i = 0; i < p->step_count; i++) {
		width = i && p->steps[i].round == p->steps[i - 1].round ? width + 1 : 1;
		widest = width > widest ? width : widest;
	}
	return widest;
}

static int has_joint(const struct snti_plan *p)
{
	for (uint32_t i = 1; i < p->step_count; i++)
		if (p->steps[i].round == p->steps[i - 1].round && snti_is_joint(&p->steps[i - 1], &p->steps[i]))
			return 1;
	return 0;
}

static int make_shares(struct state *s)
{
	s->shares = calloc(s->size, sizeof(struct share *));
	for (uint32_t r = 0; r < s->size && s->shares; r++)
		if (has_joint(&s->plans[r]) && !(s->shares[r] = calloc(widest_round(&s->plans[r]), sizeof(*s->shares[r]))))
			return SNT_ENOMEM;
	return s->shares ? 0 : SNT_ENOMEM;
}

static uint32_t most_buffers(const struct snti_plan *p)
{
	uint32_t most = SNTI_TMP;

	for (uint32_t i = 0; i < p->step_count; i++) {
		most = p->steps[i].to >= most ? p->steps[i].to + 1u : most;
		most = p->steps[i].from >= most ? p->steps[i].from + 1u : most;
	}
	return most;
}

static int prepare(struct state *s)
{
	uint32_t pool = 1;

	for (uint32_t r = 0; r < s->size; r++) {
		uint32_t buffers = most_buffers(&s->plans[r]);

		pool += widest_round(&s->plans[r]);
		s->buffers = buffers > s->buffers ? buffers : s->buffers;
	}
	s->walkers = calloc(s->size, sizeof(*s->walkers));
	s->ready = calloc(s->size, sizeof(*s->ready));
	s->pool = calloc((size_t)pool + 1, sizeof(*s->pool));
	s->read = calloc((size_t)s->buffers * s->chunks, sizeof(*s->read));
	s->written = calloc((size_t)s->buffers * s->chunks, sizeof(*s->written));
	if (!s->walkers || !s->ready || !s->pool || !s->read || !s->written || make_shares(s))
		return snti_fail(SNT_ENOMEM, "no memory to run the plans of %u ranks", s->size);
	for (uint32_t i = 1; i < pool; i++)
		s->pool[i].next = i + 1;
	s->pool_free = 1;
	for (uint32_t r = s->size; r > 0; r--)
		s->ready[s->ready_count++] = r - 1;
	return 0;
}

static int deadlocked(struct state *s)
{
	for (uint32_t r = 0; r < s->size; r++)
		if (s->walkers[r].open) {
			stopped(s, r, &s->plans[r].steps[s->walkers[r].next_step - 1], "a message that nobody answers");
			break;
		}
	return SNT_ETIMEOUT;
}

static int run(struct state *s)
{
	uint32_t done = 0;
	int status = 0;

	while (!status && s->ready_count) {
		uint32_t r = s->ready[--s->ready_count];

		if (s->walkers[r].next_step == s->plans[r].step_count)
			done++;
		else
			status = run_round(s, r);
	}
	if (!status && done < s->size)
		status = deadlocked(s);
	return status;
}

int snti_walk_explained(const struct snti_plan *plans, uint32_t size, const struct snti_walk *walk,
			struct snti_walk_stop *stop)
{
	struct state s = { .plans = plans, .size = size, .walk = walk, .stop = stop, .chunks = plans[0].chunks };
	int status = 0;

	*stop = (struct snti_walk_stop){ .what = NULL };
	for (uint32_t r = 0; r < size; r++)
		if (plans[r].chunks != s.chunks || !s.chunks) {
			*stop = (struct snti_walk_stop){ r, 0, "another number of chunks" };
			status = SNT_EINVAL;
		}
	if (!status)
		status = prepare(&s);
	if (!status)
		status = run(&s);
	free(s.walkers);
	free(s.ready);
	free(s.pool);
	free(s.read);
	free(s.written);
	for (uint32_t r = 0; r < size && s.shares; r++)
		free(s.shares[r]);
	free(s.shares);
	return status;
}

int snti_walk_plans(const struct snti_plan *plans, uint32_t size, const struct snti_walk *walk)
{
	struct snti_walk_stop stop;

	return snti_walk_explained(plans, size, walk, &stop);
}

int snti_plans_build(const struct snti_algorithm *algorithm, const struct snti_plan_shape *shape, struct snti_plan **plans)
{
	struct snti_plan *all = calloc(shape->size, sizeof(*all));
	int status = all ? 0 : snti_fail(SNT_ENOMEM, "no memory for the plans of %u ranks", shape->size);

	for (uint32_t r = 0; r < shape->size && !status; r++) {
		struct snti_plan_shape mine = *shape;

		mine.rank = r;
		snti_plan_init(&all[r], &mine);
		algorithm->build(&all[r]);
		status = snti_plan_commit(&all[r]);
	}
	if (status) {
		snti_plans_free(all, shape->size);
		all = NULL;
	}
	*plans = all;
	return status;
}

void snti_plans_free(struct snti_plan *plans, uint32_t size)
{
	for (uint32_t r = 0; plans && r < size; r++)
		snti_plan_fini(&plans[r]);
	free(plans);
}
