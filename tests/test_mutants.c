/* SPDX-License-Identifier: BSD-3-Clause */
/* test_mutants.c - plans with one step spoiled: the verifier refuses them, or they still give the right result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "collectives/pieces.h"
#include "collectives/verify.h"

enum { MUTANTS = 400, ORDERS = 3, BUFFERS = 20 };   /* mutants of an algorithm, orders of events to run each in */

/* ---- dice --------------------------------------------------------------- */

static uint64_t dice;

static uint64_t roll64(void)
{
	dice += 0x9e3779b97f4a7c15u;
	dice ^= dice >> 29;
	return dice * 0xbf58476d1ce4e5b9u;
}

static uint32_t roll(uint32_t below)
{
	return (uint32_t)(roll64() >> 33) % below;
}

/* ---- running plans on numbers ------------------------------------------- */

/* A sum, which shows what is missing or twice, and a hash of the brackets, which shows another order. */
struct value { uint64_t sum, brackets; };
struct letter { struct letter *next; uint32_t from, to, count; struct value values[]; };

struct run {
	struct snti_plan *plans;
	uint32_t size, chunks;
	struct value *memory;           /* rank, buffer, chunk */
	uint32_t *begin;                /* per rank: first step of the running round */
	char **done;                    /* per rank, per step */
	struct letter *mail;            /* in order of sending */
};

static struct value *at(const struct run *x, uint32_t rank, int buffer, uint32_t chunk)
{
	int real = x->plans[rank].in_place && buffer == SNTI_IN ? SNTI_OUT : buffer;

	return &x->memory[((size_t)rank * BUFFERS + (uint32_t)real) * x->chunks + chunk];
}

static struct value input(uint32_t rank, uint32_t chunk)
{
	uint64_t v = (rank + 1) * 0x9e3779b97f4a7c15u ^ (chunk + 1) * 0xd1342543de82ef95u;

	return (struct value){ v * v, v * 31 + 7 };
}

static struct value fold(struct value a, struct value b)
{
	return (struct value){ a.sum + b.sum, (a.brackets * 0x2545f4914f6cdd1du + b.brackets) * 0x9e3779b97f4a7c15u + 1 };
}

static struct letter *take_letter(struct run *x, uint32_t from, uint32_t to)
{
	for (struct letter **l = &x->mail; *l; l = &(*l)->next)
		if ((*l)->from == from && (*l)->to == to) {
			struct letter *found = *l;

			*l = found->next;
			return found;
		}
	return NULL;
}

static void send_letter(struct run *x, uint32_t rank, const struct snti_step *s)
{
	struct letter *letter = malloc(sizeof(*letter) + s->count * sizeof(letter->values[0])), **end = &x->mail;

	assert_non_null(letter);
	*letter = (struct letter){ NULL, rank, s->peer, s->count };
	memcpy(letter->values, at(x, rank, s->from, s->from_chunk), s->count * sizeof(letter->values[0]));
	while (*end)
		end = &(*end)->next;
	*end = letter;
}

/* 1: done; 0: nothing has come yet; -1: what has come does not fit. */
static int read_letter(struct run *x, uint32_t rank, const struct snti_step *s, int is_later)
{
	struct letter *letter = take_letter(x, s->peer, rank);
	int fits = letter && letter->count == s->count;

	for (uint32_t i = 0; fits && i < s->count; i++) {
		struct value came = letter->values[i];

		if (s->op == SNTI_STEP_FOLD) {
			struct value mine = is_later ? *at(x, rank, s->to, s->to_chunk + i) : *at(x, rank, s->from, s->from_chunk + i);

			came = s->left ? fold(came, mine) : fold(mine, came);
		}
		*at(x, rank, s->to, s->to_chunk + i) = came;
	}
	if (!letter)
		return 0;
	free(letter);
	return fits ? 1 : -1;
}

static void do_local(struct run *x, uint32_t rank, const struct snti_step *s)
{
	for (uint32_t i = 0; i < s->count; i++) {
		struct value from = *at(x, rank, s->from, s->from_chunk + i), *to = at(x, rank, s->to, s->to_chunk + i);

		if (s->op == SNTI_STEP_MERGE)
			from = s->left ? fold(from, *to) : fold(*to, from);
		*to = from;
	}
}

/* Whether an earlier step of the round, in the same direction and with the same peer, must go first. */
static int must_wait(const struct run *x, uint32_t rank, uint32_t i)
{
	const struct snti_step *steps = x->plans[rank].steps;

	for (uint32_t k = x->begin[rank]; k < i && steps[i].op <= SNTI_STEP_FOLD; k++)
		if (!x->done[rank][k] && snti_is_joint(&steps[k], &steps[i]))
			return 1;
	for (uint32_t k = x->begin[rank]; k < i && steps[i].op <= SNTI_STEP_FOLD; k++)
		if (!x->done[rank][k] && steps[k].op <= SNTI_STEP_FOLD && steps[k].peer == steps[i].peer &&
		    (steps[k].op == SNTI_STEP_SEND) == (steps[i].op == SNTI_STEP_SEND))
			return 1;
	return 0;
}

static int do_step(struct run *x, uint32_t rank, uint32_t i)
{
	const struct snti_step *s = &x->plans[rank].steps[i];
	int result = 1;

	if (x->done[rank][i] || must_wait(x, rank, i))
		return 0;
	if (s->op == SNTI_STEP_SEND)
		send_letter(x, rank, s);
	else if (s->op <= SNTI_STEP_FOLD)
		result = read_letter(x, rank, s, i > x->begin[rank] && snti_is_joint(s - 1, s));
	else
		do_local(x, rank, s);
	x->done[rank][i] = result > 0;
	return result;
}

static uint32_t round_end(const struct run *x, uint32_t rank)
{
	const struct snti_plan *p = &x->plans[rank];
	uint32_t end = x->begin[rank];

	while (end < p->step_count && p->steps[end].round == p->steps[x->begin[rank]].round)
		end++;
	return end;
}

/* Tries the steps of the rank's round from a random one on. 1: one was done; 0: none can be; -1: wrong. */
static int advance(struct run *x, uint32_t rank)
{
	uint32_t begin = x->begin[rank], width = round_end(x, rank) - begin, start = width ? roll(width) : 0, left = 0;
	int moved = 0;

	for (uint32_t k = 0; k < width && !moved; k++)
		moved = do_step(x, rank, begin + (start + k) % width);
	for (uint32_t k = 0; k < width; k++)
		left += !x->done[rank][begin + k];
	if (!left)
		x->begin[rank] += width;
	return moved;
}

/* Until nobody can do anything. 0: all have finished and no letter is left. */
static int play(struct run *x)
{
	uint32_t idle = 0, unfinished = 0;
	int moved = 0;

	while (idle < x->size && moved >= 0) {
		uint32_t start = roll(x->size);

		for (idle = 0, moved = 0; idle < x->size && !moved; idle += !moved)
			moved = advance(x, (start + idle) % x->size);
	}
	for (uint32_t r = 0; r < x->size; r++)
		unfinished += x->begin[r] < x->plans[r].step_count;
	return moved < 0 || unfinished || x->mail ? -1 : 0;
}

/* ---- is the result right ------------------------------------------------ */

struct span { uint32_t first, end; };

static struct span given(const struct run *x, uint32_t r, int out)
{
	const struct snti_plan *p = &x->plans[r];
	uint32_t w = x->chunks / x->size, root = p->rank == p->root ? x->chunks : 0;
	enum snt_collective c = p->collective;

	if (c == (out ? SNT_REDUCE_SCATTER : SNT_ALLGATHER) || c == (out ? SNT_SCATTER : SNT_GATHER))
		return (struct span){ r * w, (r + 1) * w };
	if (out ? c == SNT_REDUCE || c == SNT_GATHER : c == SNT_BROADCAST || c == SNT_SCATTER)
		return (struct span){ 0, root };
	return (struct span){ 0, x->chunks };
}

static uint64_t wanted(const struct run *x, uint32_t r, uint32_t c)
{
	uint32_t w = x->chunks / x->size;
	uint64_t sum = 0;

	switch (x->plans[r].collective) {
	case SNT_BROADCAST:
	case SNT_SCATTER:
		return input(x->plans[r].root, c).sum;
	case SNT_ALLGATHER:
	case SNT_GATHER:
		return input(c / w, c).sum;
	case SNT_ALLTOALL:
		return input(c / w, r * w + c % w).sum;
	default:
		for (uint32_t q = 0; q < x->size; q++)
			sum += input(q, c).sum;
		return sum;
	}
}

static int is_right(const struct run *x)
{
	for (uint32_t r = 0; r < x->size; r++) {
		struct span out = given(x, r, 1), in = given(x, r, 0);

		for (uint32_t c = out.first; c < out.end; c++)
			if (at(x, r, SNTI_OUT, c)->sum != wanted(x, r, c) ||
			    (x->plans[r].collective == SNT_ALLREDUCE &&
			     at(x, r, SNTI_OUT, c)->brackets != at(x, 0, SNTI_OUT, c)->brackets))
				return 0;
		for (uint32_t c = in.first; c < in.end; c++)   /* what was only to be read */
			if ((!x->plans[r].in_place || out.first > c || out.end <= c) &&
			    at(x, r, SNTI_IN, c)->sum != input(r, c).sum)
				return 0;
	}
	return 1;
}

static int runs_right(struct snti_plan *plans, uint32_t size)
{
	struct run x = { .plans = plans, .size = size, .chunks = plans[0].chunks };
	size_t cells = (size_t)size * BUFFERS * x.chunks;
	int right;

	x.memory = malloc(cells * sizeof(*x.memory));
	x.begin = calloc(size, sizeof(*x.begin));
	x.done = calloc(size, sizeof(*x.done));
	assert_true(x.memory && x.begin && x.done);
	for (size_t i = 0; i < cells; i++)
		x.memory[i] = (struct value){ roll64(), roll64() };
	for (uint32_t r = 0; r < size; r++) {
		struct span in = given(&x, r, 0);

		x.done[r] = calloc(plans[r].step_count + 1, 1);
		for (uint32_t c = in.first; c < in.end; c++)
			*at(&x, r, SNTI_IN, c) = input(r, c);
	}
	right = !play(&x) && is_right(&x);
	for (struct letter *l; (l = x.mail); free(l))
		x.mail = l->next;
	for (uint32_t r = 0; r < size; r++)
		free(x.done[r]);
	free(x.done);
	free(x.begin);
	free(x.memory);
	return right;
}

static int always_right(struct snti_plan *plans, uint32_t size)
{
	for (int i = 0; i < ORDERS; i++)
		if (!runs_right(plans, size))
			return 0;
	return 1;
}

/* ---- mutants ------------------------------------------------------------ */

static void drop_step(struct snti_plan *p, uint32_t i)
{
	memmove(&p->steps[i], &p->steps[i + 1], (p->step_count - i - 1) * sizeof(p->steps[0]));
	p->step_count--;
}

/* Two neighbours change places, each in the round of the other. */
static void swap_steps(struct snti_plan *p, uint32_t i)
{
	struct snti_step swap = p->steps[i], *next = &p->steps[i + 1];
	uint32_t round = swap.round;

	if (i + 1 == p->step_count)
		return;
	swap.round = next->round;
	p->steps[i] = *next;
	p->steps[i].round = round;
	*next = swap;
}

static void spoil(struct snti_plan *p)
{
	uint32_t i = roll(p->step_count);
	struct snti_step *s = &p->steps[i];

	switch (roll(10)) {
	case 0: s->peer = roll(p->size); break;
	case 1: s->to_chunk = roll(p->chunks); break;
	case 2: s->from_chunk = roll(p->chunks); break;
	case 3: s->op = (uint8_t)roll(SNTI_STEP_MERGE + 1); break;
	case 4: s->to = (uint8_t)roll(4); break;
	case 5: s->from = (uint8_t)roll(4); break;
	case 6: s->left = !s->left; break;
	case 7: s->count = 1 + roll(p->chunks); break;
	case 8: swap_steps(p, i); break;
	default: drop_step(p, i); break;
	}
	/* Sooner by a round, as if the builder had forgotten to end one. */
	for (uint32_t k = i; !roll(4) && k < p->step_count && p->steps[k].round; k++)
		p->steps[k].round--;
}

static int serves(const struct snti_algorithm *a, uint32_t size)
{
	return a->build != snti_allreduce_direct || size <= SNTI_DIRECT_MOST;
}

static struct snti_plan *build(const struct snti_algorithm *a, uint32_t size)
{
	struct snti_plan_shape shape = { .collective = a->collective, .size = size, .root = roll(size),
		.node_size = 1 + roll(4), .in_place = (int)roll(2) };
	struct snti_plan *plans;

	assert_int_equal(snti_plans_build(a, &shape, &plans), 0);
	return plans;
}

static void every_plan_gives_the_right_result_in_any_order(void **state)
{
	(void)state;
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		for (uint32_t size = 1; size <= 16 && serves(a, size) && a->collective != SNT_BARRIER; size++) {
			struct snti_plan *plans = build(a, size);

			if (!always_right(plans, size))
				fail_msg("%s %s, %u ranks", snt_collective_name(a->collective), a->name, size);
			snti_plans_free(plans, size);
		}
}

static void try_mutants(const struct snti_algorithm *a, uint32_t *refused, uint32_t *accepted)
{
	for (uint32_t k = 0; k < MUTANTS; k++) {
		uint64_t seed = dice;
		uint32_t size = 2 + roll(serves(a, 10) ? 9 : SNTI_DIRECT_MOST - 1);
		struct snti_plan *plans = build(a, size), *victim = &plans[roll(size)];

		if (victim->step_count)
			spoil(victim);
		if (snti_verify(plans, size, NULL, 0)) {
			++*refused;
		} else {
			++*accepted;
			if (!always_right(plans, size))
				fail_msg("%s %s, %u ranks: proved and yet wrong; seed %llu", snt_collective_name(a->collective),
					 a->name, size, (unsigned long long)seed);
		}
		snti_plans_free(plans, size);
	}
}

static void no_mutant_is_both_proved_and_wrong(void **state)
{
	uint32_t refused = 0, accepted = 0;

	(void)state;
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		if (a->collective != SNT_BARRIER)
			try_mutants(a, &refused, &accepted);
	print_message("%u mutants refused, %u proved\n", refused, accepted);
	assert_true(refused > accepted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_plan_gives_the_right_result_in_any_order),
		cmocka_unit_test(no_mutant_is_both_proved_and_wrong),
	};
	const char *seed = getenv("SEED");

	dice = seed ? strtoull(seed, NULL, 0) : 42;
	print_message("seed %llu\n", (unsigned long long)dice);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
