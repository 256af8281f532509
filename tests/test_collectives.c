/* SPDX-License-Identifier: BSD-3-Clause */
/* test_collectives.c - every collective in real processes, over every transport, against plain loops. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/job.h"

enum { RANKS_MOST = 9, GUARD = 64, FILLER = 0xa5, FLIGHT = 12 };
#define ROOM ((size_t)8 << 20)

enum v_form { EQUAL, PACKED, SPREAD };   /* counts alike; unequal; unequal with gaps, last block first */
enum memory { PLAIN, UNALIGNED, SHARED, MEMORIES };

/* One call and all that is needed to make and to judge it. */
struct shot {
	struct snt_call call;
	enum v_form form;
	enum memory memory;
	int in_place;
	uint64_t seed;
	size_t counts[2][RANKS_MOST], offsets[2][RANKS_MOST];   /* of in, of out */
	char *room[2], *shared[2], *wanted;
	char *in, *out;
	size_t size[2];                  /* bytes of in and out, gaps included */
};

union number { int64_t i; uint64_t u; double f; };

static uint64_t seed = 20240607;
static const char *const transports[] = { "shm", "tcp" };

/* ---- numbers ------------------------------------------------------------ */

static int is_float(enum snt_type type)
{
	return type >= SNT_FLOAT16;
}

static int is_signed(enum snt_type type)
{
	return type <= SNT_INT64;
}

static union number wrap(enum snt_type type, uint64_t value)
{
	int unused = 64 - 8 * (int)snt_type_size(type);

	if (is_signed(type))
		return (union number){ .i = (int64_t)(value << unused) >> unused };
	return (union number){ .u = value << unused >> unused };
}

/* To the nearest, for zero and the normal numbers that these tests use. */
static uint16_t narrow(enum snt_type type, float value)
{
	int drop = type == SNT_BFLOAT16 ? 16 : 13;
	uint32_t bits, sign;

	memcpy(&bits, &value, sizeof(bits));
	sign = bits >> 16 & 0x8000;
	bits &= 0x7fffffff;
	if (bits && drop == 13)
		bits -= 112u << 23;
	return (uint16_t)(sign | (bits + (1u << (drop - 1)) - 1 + (bits >> drop & 1)) >> drop);
}

static void put(enum snt_type type, char *to, union number n)
{
	float single = (float)n.f;
	uint16_t half;

	if (type == SNT_FLOAT16 || type == SNT_BFLOAT16) {
		half = narrow(type, single);
		memcpy(to, &half, sizeof(half));
	} else if (type == SNT_FLOAT32) {
		memcpy(to, &single, sizeof(single));
	} else {
		memcpy(to, &n, snt_type_size(type));   /* little endian, as all machines sennit runs on */
	}
}

/* Floats are chosen so that every order of folding gives the same. */
static union number value(const struct shot *s, int rank, int block, size_t element)
{
	static const double factors[] = { -2, -1, 1, 2 };   /* and sums stay below 256: exact in every type */
	uint64_t any = job_mix(s->seed ^ (uint64_t)rank << 56 ^ (uint64_t)block << 48 ^ element);
	enum snt_type type = s->call.type;

	if (is_float(type) && s->call.fold == SNT_PRODUCT)
		return (union number){ .f = factors[any & 3] };
	if (is_float(type))
		return (union number){ .f = (double)(any % 17) - 8 };
	return wrap(type, any >> 62 ? any : 0);
}

static union number fold_integers(enum snt_type type, enum snt_fold fold, union number a, union number b)
{
	int less = is_signed(type) ? a.i < b.i : a.u < b.u;

	switch (fold) {
	case SNT_PRODUCT: return wrap(type, a.u * b.u);
	case SNT_MIN: return less ? a : b;
	case SNT_MAX: return less ? b : a;
	case SNT_BAND: return wrap(type, a.u & b.u);
	case SNT_BOR: return wrap(type, a.u | b.u);
	case SNT_BXOR: return wrap(type, a.u ^ b.u);
	case SNT_LAND: return wrap(type, a.u && b.u);
	case SNT_LOR: return wrap(type, a.u || b.u);
	case SNT_LXOR: return wrap(type, !a.u != !b.u);
	default: return wrap(type, a.u + b.u);
	}
}

static union number fold_floats(enum snt_fold fold, union number a, union number b)
{
	switch (fold) {
	case SNT_PRODUCT: return (union number){ .f = a.f * b.f };
	case SNT_MIN: return a.f < b.f ? a : b;
	case SNT_MAX: return a.f > b.f ? a : b;
	default: return (union number){ .f = a.f + b.f };
	}
}

static union number divided(enum snt_type type, union number sum, int ranks)
{
	if (type == SNT_FLOAT64)
		return (union number){ .f = sum.f / ranks };
	if (is_float(type))
		return (union number){ .f = (double)((float)sum.f / (float)ranks) };
	if (is_signed(type))
		return (union number){ .i = sum.i / ranks };
	return (union number){ .u = sum.u / (uint64_t)ranks };
}

static union number folded(const struct shot *s, int ranks, int block, size_t element)
{
	enum snt_type type = s->call.type;
	enum snt_fold fold = s->call.fold;
	union number sum = value(s, 0, block, element);

	for (int r = 1; r < ranks; r++) {
		union number next = value(s, r, block, element);

		sum = is_float(type) ? fold_floats(fold, sum, next) : fold_integers(type, fold, sum, next);
	}
	if (ranks == 1 && fold >= SNT_LAND)
		return wrap(type, sum.u != 0);
	return fold == SNT_AVERAGE ? divided(type, sum, ranks) : sum;
}

/* ---- who has what ------------------------------------------------------- */

static int in_blocks(enum snt_collective c)
{
	return c == SNT_REDUCE_SCATTER || c == SNT_ALLTOALL || c == SNT_SCATTER;
}

static int out_blocks(enum snt_collective c)
{
	return c == SNT_ALLGATHER || c == SNT_ALLTOALL || c == SNT_GATHER;
}

static int folds(enum snt_collective c)
{
	return c == SNT_ALLREDUCE || c == SNT_REDUCE_SCATTER || c == SNT_REDUCE;
}

static int has_in(const struct job_rank *me, const struct shot *s)
{
	enum snt_collective c = s->call.collective;

	return c != SNT_RECV && ((c != SNT_BROADCAST && c != SNT_SCATTER) || s->call.root == me->rank);
}

static int has_out(const struct job_rank *me, const struct shot *s)
{
	enum snt_collective c = s->call.collective;

	return c != SNT_SEND && ((c != SNT_REDUCE && c != SNT_GATHER) || s->call.root == me->rank);
}

/* How many elements go from @from to @to; some are 0 in the unequal forms. */
static size_t block_count(const struct shot *s, int from, int to)
{
	size_t count = s->call.count;

	if (s->form == EQUAL)
		return count;
	if (s->call.collective == SNT_ALLTOALL)
		return (size_t)(from * 3 + to * 5) % 4 * count / 2;
	return (size_t)((in_blocks(s->call.collective) ? to : from) * 3 + 2) % 4 * count / 2;
}

/* Lays out side @side (0 in, 1 out) and returns its elements. */
static size_t lay(const struct job_rank *me, struct shot *s, int side)
{
	int many = side ? out_blocks(s->call.collective) : in_blocks(s->call.collective);
	size_t end = 0;

	for (int i = 0; i < me->ranks; i++) {
		int b = s->form == SPREAD ? me->ranks - 1 - i : i;
		int from = side ? b : me->rank, to = side ? me->rank : b;

		s->counts[side][b] = many ? block_count(s, from, to) : 0;
		s->offsets[side][b] = end;
		end += s->counts[side][b] + (s->form == SPREAD ? 3 : 0);
	}
	return many ? end : block_count(s, me->rank, me->rank);
}

/* The bytes of in (side 0) or of the out that is wanted (side 1), at @to. */
static void write_side(const struct job_rank *me, const struct shot *s, int side, char *to)
{
	enum snt_collective c = s->call.collective;
	size_t width = snt_type_size(s->call.type);
	int many = side ? out_blocks(c) : in_blocks(c);

	for (int b = 0; b < (many ? me->ranks : 1); b++) {
		size_t count = many ? s->counts[side][b] : s->size[side] / width;
		char *at = to + (many ? s->offsets[side][b] * width : 0);

		for (size_t e = 0; e < count; e++, at += width) {
			int place = in_blocks(c) ? me->rank : 0;   /* which block of the sender's came here */

			if (!side)
				put(s->call.type, at, value(s, me->rank, many ? b : 0, e));
			else if (folds(c))
				put(s->call.type, at, folded(s, me->ranks, place, e));
			else
				put(s->call.type, at, value(s, many ? b : s->call.root, place, e));
		}
	}
}

/* ---- a shot ------------------------------------------------------------- */

static void say(const struct shot *s, char *text, size_t size)
{
	static const char *const forms[] = { "", "v", "v with gaps" }, *const memories[] = { "", ", unaligned", ", shared" };

	snprintf(text, size, "%s%s of %zu %s, %s, root %d%s%s, seed %llu", snt_collective_name(s->call.collective),
		 forms[s->form], s->call.count, snt_type_name(s->call.type), snt_fold_name(s->call.fold),
		 s->call.root, s->in_place ? ", in place" : "", memories[s->memory], (unsigned long long)s->seed);
}

static void make_room(struct job_rank *me, struct shot *s)
{
	for (int side = 0; side < 2; side++) {
		s->room[side] = malloc(ROOM);
		s->shared[side] = snt_alloc(ROOM);
		job_expect(me, s->room[side] && s->shared[side], "no memory: %s", snt_error_text());
	}
	s->wanted = malloc(ROOM);
	job_expect(me, s->wanted != NULL, "no memory");
}

static void free_room(struct shot *s)
{
	free(s->room[0]);
	free(s->room[1]);
	snt_free(s->shared[0]);
	snt_free(s->shared[1]);
	free(s->wanted);
}

/* Where in lies inside out, or out inside in. */
static void place(const struct job_rank *me, struct shot *s)
{
	size_t shift = s->memory == UNALIGNED ? GUARD + 1 : GUARD, width = snt_type_size(s->call.type);
	char **rooms = s->memory == SHARED ? s->shared : s->room;

	s->in = rooms[0] + shift;
	s->out = rooms[1] + shift;
	if (!s->in_place)
		return;
	s->in = s->out;
	if (in_blocks(s->call.collective) && !out_blocks(s->call.collective))
		s->out += s->offsets[0][me->rank] * width;
	else if (out_blocks(s->call.collective) && !in_blocks(s->call.collective))
		s->in += s->offsets[1][me->rank] * width;
}

static void fill(const struct job_rank *me, struct shot *s)
{
	size_t width = snt_type_size(s->call.type);

	s->size[0] = lay(me, s, 0) * width;
	s->size[1] = lay(me, s, 1) * width;
	s->in_place = s->in_place && has_in(me, s) && has_out(me, s);
	place(me, s);
	memset(s->in - GUARD, FILLER, s->size[0] + 2 * GUARD);
	memset(s->out - GUARD, FILLER, s->size[1] + 2 * GUARD);
	if (has_in(me, s))
		write_side(me, s, 0, s->in);
}

static struct snt_call call_of(const struct job_rank *me, struct shot *s)
{
	struct snt_call call = s->call;

	call.size = sizeof(call);
	call.in = has_in(me, s) ? s->in : NULL;
	call.out = has_out(me, s) ? s->out : NULL;
	if (s->form == EQUAL)
		return call;
	call.count = 0;
	if (in_blocks(call.collective))
		call.in_layout = (struct snt_layout){ s->counts[0], s->form == SPREAD ? s->offsets[0] : NULL };
	if (out_blocks(call.collective))
		call.out_layout = (struct snt_layout){ s->counts[1], s->form == SPREAD ? s->offsets[1] : NULL };
	return call;
}

static void compare(struct job_rank *me, const struct shot *s, const char *got, size_t size, const char *what)
{
	char text[200];
	size_t i = 0;

	if (!memcmp(got, s->wanted, size))
		return;
	while (got[i] == s->wanted[i])
		i++;
	say(s, text, sizeof(text));
	job_expect(me, 0, "%s: byte %td of %s is %02x, not %02x", text, (ptrdiff_t)i - GUARD, what,
		   (unsigned char)got[i], (unsigned char)s->wanted[i]);
}

static void note_hash(struct job_rank *me, int which, const char *bytes, size_t size)
{
	uint64_t hash = me->result->hashes[which];

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
	me->result->hashes[which] = hash;
}

/* The whole of out, what lies around it and the gaps in it; then that in is as it was. */
static void judge(struct job_rank *me, const struct shot *s)
{
	int inside = s->in_place && in_blocks(s->call.collective) && !out_blocks(s->call.collective);
	size_t guard = inside ? 0 : GUARD;   /* in goes on around out */

	if (has_out(me, s)) {
		memset(s->wanted, FILLER, s->size[1] + 2 * GUARD);
		write_side(me, s, 1, s->wanted + guard);
		compare(me, s, s->out - guard, s->size[1] + 2 * guard, "out");
		if (s->call.collective == SNT_ALLREDUCE)
			note_hash(me, 0, s->out, s->size[1]);
	}
	if (has_in(me, s) && !s->in_place) {
		memset(s->wanted, FILLER, s->size[0] + 2 * GUARD);
		write_side(me, s, 0, s->wanted + GUARD);
		compare(me, s, s->in - GUARD, s->size[0] + 2 * GUARD, "in");
	}
}

static void fire(struct job_rank *me, struct snt_team *team, struct shot *s)
{
	struct snt_call call;
	char text[200];
	int status;

	s->seed = ++seed;
	fill(me, s);
	call = call_of(me, s);
	status = job_call(team, &call);
	say(s, text, sizeof(text));
	job_expect(me, !status, "%s: %s: %s", text, snt_status_name(status), snt_error_text());
	judge(me, s);
}

/* ---- the cases ---------------------------------------------------------- */

/* Every type with every fold; sizes, places and memories take turns. */
static void all_folds(struct job_rank *me, struct snt_team *team, struct shot *s, size_t count)
{
	static const enum snt_collective reducing[] = { SNT_ALLREDUCE, SNT_REDUCE_SCATTER, SNT_REDUCE };
	unsigned turn = 0;

	for (unsigned pair = 0; pair < SNT_TYPE_COUNT * SNT_FOLD_COUNT; pair++) {
		s->call = (struct snt_call){ .type = pair / SNT_FOLD_COUNT, .fold = pair % SNT_FOLD_COUNT, .count = count };
		for (int i = 0; i < 6 && (!is_float(s->call.type) || s->call.fold < SNT_BAND); i++, turn++) {
			s->call.collective = reducing[i % 3];
			s->call.root = (int)(turn % (unsigned)me->ranks);
			s->in_place = i / 3;
			s->memory = turn / 7 % MEMORIES;
			fire(me, team, s);
		}
	}
}

/* Every collective in every form it has. */
static void all_forms(struct job_rank *me, struct snt_team *team, struct shot *s, size_t count)
{
	for (int c = SNT_ALLREDUCE; c < SNT_BARRIER; c++) {
		int last = out_blocks(c) || in_blocks(c) ? SPREAD : EQUAL;

		for (int turn = 0; turn < 2 * (last + 1); turn++) {
			s->call = (struct snt_call){ .collective = c, .type = (c + turn) % SNT_TYPE_COUNT, .count = count,
						     .root = turn % me->ranks };
			s->form = turn / 2;
			s->in_place = turn & 1 && !(c == SNT_ALLTOALL && s->form != EQUAL);
			s->memory = (c + turn) % MEMORIES;
			fire(me, team, s);
		}
	}
	s->form = EQUAL;
}

static void all_roots(struct job_rank *me, struct snt_team *team, struct shot *s)
{
	static const enum snt_collective rooted[] = { SNT_BROADCAST, SNT_REDUCE, SNT_GATHER, SNT_SCATTER };

	for (int i = 0; i < 4 * me->ranks; i++) {
		s->call = (struct snt_call){ .collective = rooted[i % 4], .count = 33, .type = SNT_INT16, .root = i / 4 };
		s->in_place = i & 1;
		fire(me, team, s);
	}
}

static void empty_calls(struct job_rank *me, struct snt_team *team)
{
	int failed = snt_allreduce(team, NULL, NULL, 0, SNT_FLOAT32, SNT_SUM);

	failed = failed ? failed : snt_broadcast(team, NULL, NULL, 0, SNT_INT8, 0);
	failed = failed ? failed : snt_alltoall(team, NULL, NULL, 0, SNT_INT8);
	failed = failed ? failed : snt_barrier(team);
	job_expect(me, !failed, "nothing, from NULL to NULL: %s: %s", snt_status_name(failed), snt_error_text());
}

static void large(struct job_rank *me, struct snt_team *team, struct shot *s)
{
	for (int c = SNT_ALLREDUCE; c < SNT_BARRIER; c++) {
		size_t elements = ((size_t)3 << 18) + 1;   /* 3 MiB and 4 bytes */

		s->call = (struct snt_call){ .collective = c, .type = SNT_FLOAT32, .root = me->ranks - 1 };
		s->call.count = in_blocks(c) || out_blocks(c) ? elements / (size_t)me->ranks : elements;
		s->in_place = c & 1;
		s->memory = c % MEMORIES;
		fire(me, team, s);
		s->memory = (c + 2) % MEMORIES;
		fire(me, team, s);
	}
}

static int run_cases(struct job_rank *me, struct snt_team *team)
{
	static const size_t sizes[] = { 0, 1, 5, 1000 };
	struct shot s = { .call = { .size = 0 } };

	make_room(me, &s);
	for (int i = 0; i < 4; i++) {
		all_forms(me, team, &s, sizes[i]);
		all_folds(me, team, &s, sizes[i]);
	}
	all_roots(me, team, &s);
	empty_calls(me, team);
	if (me->ranks == 2 || me->ranks == 3 || me->ranks == 5)
		large(me, team, &s);
	free_room(&s);
	return 0;
}

/* ---- several at once ---------------------------------------------------- */

/* Sends to the next rank and receives from the one before; tags cross. */
static void plan_message(const struct job_rank *me, struct shot *s, int i)
{
	int next = (me->rank + 1) % me->ranks, before = (me->rank + me->ranks - 1) % me->ranks;
	int is_send = i & 1;

	s->call.collective = is_send ? SNT_SEND : SNT_RECV;
	s->call.root = is_send ? next : before;
	s->call.tag = 7 + (uint32_t)(is_send ? (i / 2) ^ 1 : i / 2);   /* sent in another order than received */
	s->call.count = s->call.tag & 1 ? 50000 : 10;
	s->seed = 1000 + s->call.tag;
}

static void plan_flight(const struct job_rank *me, struct shot *shots)
{
	for (int i = 0; i < FLIGHT; i++) {
		struct shot *s = &shots[i];

		s->call.type = SNT_INT32;
		s->call.count = (size_t)(i * 997);
		s->call.collective = i % 8;
		s->call.root = i % me->ranks;
		s->seed = seed + (unsigned)i;
		if (i >= 8 && me->ranks > 1)
			plan_message(me, s, i - 8);
		fill(me, s);
	}
}

static void launch(struct job_rank *me, struct snt_team *team, struct shot *shots, struct snt_op **ops)
{
	for (int i = 0; i < FLIGHT; i++) {
		struct snt_call call = call_of(me, &shots[i]);

		job_expect(me, !snt_op_create(team, &call, &ops[i]), "snt_op_create %d: %s", i, snt_error_text());
	}
	for (int i = 0; i < FLIGHT; i++)
		job_expect(me, !snt_op_start(ops[i]), "snt_op_start %d: %s", i, snt_error_text());
}

static int run_flight(struct job_rank *me, struct snt_team *team)
{
	struct shot shots[FLIGHT] = { { .form = EQUAL } };
	struct snt_op *ops[FLIGHT];

	for (int i = 0; i < FLIGHT; i++)
		make_room(me, &shots[i]);
	for (int round = 0; round < 3; round++) {
		plan_flight(me, shots);
		launch(me, team, shots, ops);
		for (int i = FLIGHT - 1; i >= 0; i--) {
			job_expect(me, !snt_op_wait(ops[i]), "snt_op_wait %d: %s", i, snt_error_text());
			judge(me, &shots[i]);
			snt_op_free(ops[i]);
		}
	}
	for (int i = 0; i < FLIGHT; i++)
		free_room(&shots[i]);
	return 0;
}

/* One operation, started again and again with new data. */
static int run_again(struct job_rank *me, struct snt_team *team)
{
	struct shot s = { .call = { .collective = SNT_ALLREDUCE, .type = SNT_INT64, .count = 77 } };
	struct snt_call call;
	struct snt_op *op;

	make_room(me, &s);
	fill(me, &s);
	call = call_of(me, &s);
	job_expect(me, !snt_op_create(team, &call, &op), "snt_op_create: %s", snt_error_text());
	job_expect(me, !snt_op_test(op), "an operation never started is not done");
	for (int i = 0; i < 200; i++) {
		int status;

		s.seed = seed + (unsigned)i;
		fill(me, &s);
		job_expect(me, !snt_op_start(op), "start %d: %s", i, snt_error_text());
		while ((status = snt_op_test(op)) == SNT_BUSY)
			sched_yield();
		job_expect(me, !status, "test %d: %s", i, snt_error_text());
		judge(me, &s);
	}
	snt_op_free(op);
	free_room(&s);
	return 0;
}

static int run_messages(struct job_rank *me, struct snt_team *team)
{
	for (uint32_t i = 0; i < 300; i++) {
		size_t count = i % 3 == 2 ? 40000 : i % 17;
		int32_t *data = calloc(count + 1, sizeof(*data));
		int status;

		for (size_t k = 0; k < count && me->rank == 0; k++)
			data[k] = (int32_t)(i + k);
		status = me->rank == 0 ? snt_send(team, data, count, SNT_INT32, 1, i % 5)
				       : snt_recv(team, data, count, SNT_INT32, 0, i % 5);
		job_expect(me, !status, "message %u: %s: %s", i, snt_status_name(status), snt_error_text());
		for (size_t k = 0; k < count; k++)
			job_expect(me, data[k] == (int32_t)(i + k), "element %zu of message %u is wrong", k, i);
		free(data);
	}
	return 0;
}

/* ---- floats that depend on the order ------------------------------------ */

static float random_float(uint64_t key)
{
	return (float)((double)(job_mix(key) >> 11) * 0x1p-53 - 0.5) * (float)(1 << (key & 15));
}

static int run_random(struct job_rank *me, struct snt_team *team)
{
	static const size_t counts[] = { 3, 100, 5000, 200001 };

	for (int i = 0; i < 4; i++) {
		float *data = malloc(counts[i] * sizeof(*data));
		int failed;

		for (size_t k = 0; k < counts[i]; k++)
			data[k] = random_float((uint64_t)me->rank << 40 | k);
		failed = snt_allreduce(team, data, data, counts[i], SNT_FLOAT32, SNT_SUM);
		job_expect(me, !failed, "allreduce: %s", snt_error_text());
		for (size_t k = 0; k < counts[i]; k++) {
			double sum = 0;

			for (int r = 0; r < me->ranks; r++)
				sum += random_float((uint64_t)r << 40 | k);
			job_expect(me, sum - data[k] < 0.5 && data[k] - sum < 0.5, "element %zu of %zu is %g, not %g",
				   k, counts[i], data[k], sum);
		}
		note_hash(me, 1, (char *)data, counts[i] * sizeof(*data));
		free(data);
	}
	return 0;
}

/* ---- tests -------------------------------------------------------------- */

static int ranks_differ(const struct job *job)
{
	for (int r = 1; r < job->ranks; r++)
		if (memcmp(job->results[r].hashes, job->results[0].hashes, sizeof(job->results[0].hashes)))
			return 1;
	return 0;
}

static void run_everywhere(int (*run)(struct job_rank *, struct snt_team *), int least, int most)
{
	for (int i = 0; i < 2; i++) {
		for (int ranks = least; ranks <= job_most(most); ranks++) {
			struct job job = { .ranks = ranks, .transports = transports[i], .run = run };
			double from = job_seconds();
			int bad = job_run(&job), differ = ranks_differ(&job);

			job_end(&job);
			if (getenv("TEST_TIMES"))
				print_message("%s, %d ranks: %.2f s\n", transports[i], ranks, job_seconds() - from);
			assert_int_equal(bad, 0);
			assert_int_equal(differ, 0);
		}
	}
}

static void every_collective_type_fold_and_form_gives_what_plain_loops_give(void **state)
{
	(void)state;
	run_everywhere(run_cases, 1, RANKS_MOST);
}

static void operations_in_flight_may_be_waited_for_in_any_order(void **state)
{
	(void)state;
	run_everywhere(run_flight, 1, 5);
}

static void an_operation_can_be_started_again_with_new_data(void **state)
{
	(void)state;
	run_everywhere(run_again, 1, 4);
}

static void messages_arrive_whole_and_in_order(void **state)
{
	(void)state;
	run_everywhere(run_messages, 2, 2);
}

static void float_sums_are_the_same_bits_on_every_rank_and_every_run(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		for (int ranks = 2; ranks <= job_most(RANKS_MOST); ranks += ranks < 5 ? 1 : 2) {
			struct job first = { .ranks = ranks, .transports = transports[i], .run = run_random }, second = first;

			assert_int_equal(job_run(&first), 0);
			assert_int_equal(job_run(&second), 0);
			assert_false(ranks_differ(&first) || ranks_differ(&second));
			assert_true(first.results[0].hashes[1] == second.results[0].hashes[1]);
			job_end(&first);
			job_end(&second);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_collective_type_fold_and_form_gives_what_plain_loops_give),
		cmocka_unit_test(operations_in_flight_may_be_waited_for_in_any_order),
		cmocka_unit_test(an_operation_can_be_started_again_with_new_data),
		cmocka_unit_test(messages_arrive_whole_and_in_order),
		cmocka_unit_test(float_sums_are_the_same_bits_on_every_rank_and_every_run),
	};
	const char *given = getenv("TEST_SEED");

	seed = given ? strtoull(given, NULL, 0) : seed;
	print_message("seed %llu (TEST_SEED)\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
