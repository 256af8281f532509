/* SPDX-License-Identifier: BSD-3-Clause */
/* verify.c - is a plan right? Runs it on symbols: whose contributions to which chunk, and in what brackets. */
#include "collectives/verify.h"
#include "base/log.h"
#include "collectives/walk.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING UINT32_MAX

/* What one chunk of one buffer of one rank holds: the sum over a set of ranks of their IN chunk @origin.
 * @shape is a hash of the expression with its brackets and its order, equal only for equal bits. */
struct cell { uint32_t origin; uint64_t shape; };

struct proof {
	const struct snti_plan *plans;
	uint32_t size, chunks, buffers, words;
	struct cell *cells;
	uint64_t *sets;                 /* words per cell */
	uint64_t *heard, *news;         /* barrier: words per rank; news count from the next round on */
	char *why;
	size_t why_size;
};

static int refuse(const struct proof *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(const struct proof *v, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (v->why && v->why_size)
		vsnprintf(v->why, v->why_size, format, args);
	va_end(args);
	return SNT_EINVAL;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static size_t at(const struct proof *v, uint32_t rank, int buffer, uint32_t chunk)
{
	int real = v->plans[rank].in_place && buffer == SNTI_IN ? SNTI_OUT : buffer;

	return ((size_t)rank * v->buffers + (uint32_t)real) * v->chunks + chunk;
}

static uint64_t *set_of(const struct proof *v, size_t cell)
{
	return v->sets + cell * v->words;
}

/* ---- which chunks a rank has -------------------------------------------- */

struct extent { uint32_t first, end; };

static struct extent block(const struct snti_plan *p)
{
	uint32_t width = p->chunks / p->size;

	return (struct extent){ p->rank * width, (p->rank + 1) * width };
}

static struct extent whole_if(const struct snti_plan *p, int has)
{
	return (struct extent){ 0, has ? p->chunks : 0 };
}

static struct extent in_of(const struct snti_plan *p)
{
	switch (p->collective) {
	case SNT_ALLGATHER:
	case SNT_GATHER:
		return block(p);
	case SNT_BROADCAST:
	case SNT_SCATTER:
		return whole_if(p, p->rank == p->root);
	default:
		return whole_if(p, 1);
	}
}

static struct extent out_of(const struct snti_plan *p)
{
	switch (p->collective) {
	case SNT_REDUCE_SCATTER:
	case SNT_SCATTER:
		return block(p);
	case SNT_REDUCE:
	case SNT_GATHER:
		return whole_if(p, p->rank == p->root);
	default:
		return whole_if(p, p->collective != SNT_BARRIER);
	}
}

static int has(const struct snti_plan *p, int buffer, uint32_t chunk, uint32_t count)
{
	struct extent e = buffer == SNTI_IN ? in_of(p) : buffer == SNTI_OUT ? out_of(p) : whole_if(p, 1);

	return chunk >= e.first && chunk <= e.end && count <= e.end - chunk;
}

/* A step may write what belongs to OUT, also by the name IN in place, and scratch. */
static int may_write(const struct snti_plan *p, const struct snti_step *s)
{
	if (s->to == SNTI_IN && !p->in_place)
		return 0;
	return has(p, s->to == SNTI_IN ? SNTI_OUT : s->to, s->to_chunk, s->count);
}

static int check_buffers(const struct proof *v, const struct snti_plan *p)
{
	for (uint32_t i = 0; i < p->step_count; i++) {
		const struct snti_step *s = &p->steps[i];

		if (s->op != SNTI_STEP_SEND && !may_write(p, s))
			return refuse(v, "rank %u, round %u: writes what is not its own to write", p->rank, s->round);
		if (s->op != SNTI_STEP_RECV && !has(p, s->from, s->from_chunk, s->count))
			return refuse(v, "rank %u, round %u: reads outside of its buffers", p->rank, s->round);
	}
	return 0;
}

/* ---- the run ------------------------------------------------------------ */

static int unready(const struct proof *v, uint32_t rank, const struct snti_step *s, size_t cell)
{
	return v->cells[cell].origin == NOTHING
		? refuse(v, "rank %u, round %u: uses a chunk that holds nothing yet", rank, s->round) : 0;
}

static void move(const struct proof *v, size_t to, size_t from)
{
	v->cells[to] = v->cells[from];
	memmove(set_of(v, to), set_of(v, from), v->words * sizeof(*v->sets));
}

/* to = left op right */
static int fold(const struct proof *v, uint32_t rank, const struct snti_step *s, const size_t cells[3])
{
	size_t to = cells[0], left = cells[1], right = cells[2];
	const uint64_t *a = set_of(v, left), *b = set_of(v, right);

	if (v->cells[left].origin != v->cells[right].origin)
		return refuse(v, "rank %u, round %u: folds different chunks together", rank, s->round);
	for (uint32_t w = 0; w < v->words; w++)
		if (a[w] & b[w])
			return refuse(v, "rank %u, round %u: counts a contribution twice", rank, s->round);
	for (uint32_t w = 0; w < v->words; w++)
		set_of(v, to)[w] = a[w] | b[w];
	v->cells[to] = (struct cell){ v->cells[left].origin, mix(3 * mix(v->cells[left].shape) + v->cells[right].shape) };
	return 0;
}

static int message(void *arg, uint32_t from, const struct snti_step *send, uint32_t to, const struct snti_step *recv)
{
	const struct proof *v = arg;

	if (send->count != recv->count)
		return refuse(v, "rank %u sends %u chunks in round %u, rank %u takes %u in round %u", from, send->count,
			      send->round, to, recv->count, recv->round);
	for (uint32_t i = 0; i < send->count; i++) {
		size_t source = at(v, from, send->from, send->from_chunk + i), dest = at(v, to, recv->to, recv->to_chunk + i);
		size_t mine = at(v, to, recv->from, recv->from_chunk + i);
		int folds = recv->op == SNTI_STEP_FOLD, status = unready(v, from, send, source);

		if (!status && !folds)
			move(v, dest, source);
		else if (!status)
			status = unready(v, to, recv, mine);
		if (!status && folds)
			status = fold(v, to, recv, (size_t[]){ dest, recv->left ? source : mine, recv->left ? mine : source });
		if (status)
			return status;
	}
	return 0;
}

static int local(void *arg, uint32_t rank, const struct snti_step *s)
{
	const struct proof *v = arg;

	for (uint32_t i = 0; i < s->count; i++) {
		size_t to = at(v, rank, s->to, s->to_chunk + i), from = at(v, rank, s->from, s->from_chunk + i);
		int merges = s->op == SNTI_STEP_MERGE, status = unready(v, rank, s, from);

		if (!status && !merges)
			move(v, to, from);
		else if (!status)
			status = unready(v, rank, s, to);
		if (!status && merges)
			status = fold(v, rank, s, (size_t[]){ to, s->left ? from : to, s->left ? to : from });
		if (status)
			return status;
	}
	return 0;
}

/* ---- the promise -------------------------------------------------------- */

/* What chunk @c of OUT must be: the sum over all ranks, or the copy from rank @only, of chunk @origin. */
struct promise { uint32_t origin, only; int sum; };

static struct promise promised(const struct snti_plan *p, uint32_t c)
{
	uint32_t width = p->chunks / p->size;

	switch (p->collective) {
	case SNT_BROADCAST:
	case SNT_SCATTER:
		return (struct promise){ c, p->root, 0 };
	case SNT_ALLGATHER:
	case SNT_GATHER:
		return (struct promise){ c, c / width, 0 };
	case SNT_ALLTOALL:
		return (struct promise){ p->rank * width + c % width, c / width, 0 };
	default:
		return (struct promise){ c, 0, 1 };
	}
}

static int is_set(const uint64_t *set, uint32_t i)
{
	return set[i / 64] >> (i % 64) & 1;
}

static int kept(const struct proof *v, size_t cell, struct promise want)
{
	if (v->cells[cell].origin != want.origin)
		return 0;
	for (uint32_t i = 0; i < v->size; i++)
		if (is_set(set_of(v, cell), i) != (want.sum || i == want.only))
			return 0;
	return 1;
}

static int check_promise(const struct proof *v, const struct snti_plan *p)
{
	struct extent out = out_of(p);

	for (uint32_t c = out.first; c < out.end; c++) {
		size_t cell = at(v, p->rank, SNTI_OUT, c);

		if (!kept(v, cell, promised(p, c)))
			return refuse(v, "rank %u ends without the promised chunk %u", p->rank, c);
		if (p->collective == SNT_ALLREDUCE && v->cells[cell].shape != v->cells[at(v, 0, SNTI_OUT, c)].shape)
			return refuse(v, "ranks 0 and %u fold chunk %u in different order", p->rank, c);
	}
	return 0;
}

/* ---- barrier: who has heard of whom ------------------------------------- */

static int hear(void *arg, uint32_t from, const struct snti_step *send, uint32_t to, const struct snti_step *recv)
{
	const struct proof *v = arg;

	if (send->count != recv->count)
		return refuse(v, "rank %u sends rank %u another number of chunks than it takes", from, to);
	for (uint32_t w = 0; w < v->words; w++)   /* what was heard before the send began */
		v->news[(size_t)to * v->words + w] |= v->heard[(size_t)from * v->words + w];
	return 0;
}

static void heard_round(void *arg, uint32_t rank)
{
	const struct proof *v = arg;

	for (size_t w = (size_t)rank * v->words; w < (size_t)(rank + 1) * v->words; w++)
		v->heard[w] |= v->news[w];
}

static int check_heard(const struct proof *v, uint32_t rank)
{
	for (uint32_t i = 0; i < v->size; i++)
		if (!is_set(v->heard + (size_t)rank * v->words, i))
			return refuse(v, "rank %u leaves before it has heard of rank %u", rank, i);
	return 0;
}

/* ---- all of it ---------------------------------------------------------- */

static int prepare(struct proof *v)
{
	size_t cells;

	v->buffers = SNTI_TMP;
	for (uint32_t r = 0; r < v->size; r++)
		for (uint32_t i = 0; i < v->plans[r].step_count; i++) {
			const struct snti_step *s = &v->plans[r].steps[i];
			uint32_t most = (s->to > s->from ? s->to : s->from) + 1u;

			v->buffers = most > v->buffers ? most : v->buffers;
		}
	cells = (size_t)v->size * v->buffers * v->chunks;
	v->cells = malloc(cells * sizeof(*v->cells));
	v->sets = calloc(cells * v->words, sizeof(*v->sets));
	v->heard = calloc((size_t)v->size * v->words, sizeof(*v->heard));
	v->news = calloc((size_t)v->size * v->words, sizeof(*v->news));
	if (!v->cells || !v->sets || !v->heard || !v->news)
		return snti_fail(SNT_ENOMEM, "no memory to prove the plans of %u ranks", v->size);
	for (size_t i = 0; i < cells; i++)
		v->cells[i] = (struct cell){ .origin = NOTHING };
	return 0;
}

static void fill_in(const struct proof *v, const struct snti_plan *p)
{
	struct extent in = in_of(p);
	uint32_t r = p->rank;

	v->heard[(size_t)r * v->words + r / 64] = v->news[(size_t)r * v->words + r / 64] = (uint64_t)1 << (r % 64);
	for (uint32_t c = in.first; c < in.end; c++) {
		size_t cell = at(v, r, SNTI_IN, c);

		v->cells[cell] = (struct cell){ c, mix(r + 1) };
		set_of(v, cell)[r / 64] = (uint64_t)1 << (r % 64);
	}
}

static int check_headers(const struct proof *v)
{
	const struct snti_plan *p = v->plans;
	int blocks = p->collective == SNT_REDUCE_SCATTER || p->collective == SNT_ALLGATHER ||
		p->collective == SNT_ALLTOALL || p->collective == SNT_GATHER || p->collective == SNT_SCATTER;

	for (uint32_t r = 0; r < v->size; r++)
		if (p[r].rank != r || p[r].size != v->size || p[r].collective != p->collective ||
		    p[r].root != p->root || p[r].chunks != v->chunks || p[r].root >= v->size)
			return refuse(v, "the plan of rank %u is of another collective, size, root or cut", r);
	if (!v->chunks || (blocks && v->chunks % v->size))
		return refuse(v, "%u chunks do not make %u blocks", v->chunks, v->size);
	return 0;
}

static int run(struct proof *v)
{
	int barrier = v->plans[0].collective == SNT_BARRIER, status;
	struct snti_walk walk = { .arg = v, .message = barrier ? hear : message, .local = barrier ? NULL : local,
		.round_done = barrier ? heard_round : NULL };
	struct snti_walk_stop stop;

	status = snti_walk_explained(v->plans, v->size, &walk, &stop);
	if (status && stop.what)
		refuse(v, "rank %u, round %u: %s", stop.rank, stop.round, stop.what);
	for (uint32_t r = 0; r < v->size && !status; r++)
		status = barrier ? check_heard(v, r) : check_promise(v, &v->plans[r]);
	return status == SNT_ETIMEOUT ? SNT_EINVAL : status;
}

int snti_verify(const struct snti_plan *plans, uint32_t size, char *why, size_t why_size)
{
	struct proof v = { .plans = plans, .size = size, .chunks = plans[0].chunks, .words = (size + 63) / 64,
		.why = why, .why_size = why_size };
	int status = check_headers(&v);

	if (why && why_size)
		why[0] = status ? why[0] : 0;
	for (uint32_t r = 0; r < size && !status; r++)
		status = check_buffers(&v, &plans[r]);
	if (!status)
		status = prepare(&v);
	for (uint32_t r = 0; r < size && !status; r++)
		fill_in(&v, &plans[r]);
	if (!status)
		status = run(&v);
	free(v.cells);
	free(v.sets);
	free(v.heard);
	free(v.news);
	return status;
}
