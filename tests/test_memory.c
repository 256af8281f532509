/* SPDX-License-Identifier: BSD-3-Clause */
/* test_memory.c - buffers that moved on since the call was prepared, and buffers that lie anyhow. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "tests/job.h"

/* More rounds than allocations that a peer keeps mapped; a size that is read from where it lies. */
enum { COUNT = 40000, BYTES = 4 * COUNT, ROUNDS = 150, OTHERS = 64 };

static const char *const transports[] = { "shm", "tcp" };

/* ---- freed, and another allocation where it lay ---------------------------- */

static void *private_at(void *want)
{
	void *got = mmap(want, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return got == MAP_FAILED ? NULL : got;
}

/* Whatever is larger or lies higher is filled until the hole at @want is the one that is left. */
static void *shared_at(void *want)
{
	void *others[OTHERS], *got = NULL;
	int count = 0;

	while (count < OTHERS && (got = snt_alloc(BYTES)) != want)
		others[count++] = got;
	while (count)
		snt_free(others[--count]);
	return got == want ? got : NULL;
}

struct buffer { int32_t *data; int is_private; };

static void let_go(struct buffer *b)
{
	if (b->is_private)
		munmap(b->data, BYTES);
	else
		snt_free(b->data);
}

static void move_on(struct job_rank *me, struct buffer *b, int to_private)
{
	void *where = b->data;

	let_go(b);
	b->data = to_private ? private_at(where) : shared_at(where);
	b->is_private = to_private;
	job_expect(me, b->data == where, "no memory at %p any more", where);
}

static int32_t number(int rank, int round, int i)
{
	return (int32_t)(job_mix((uint64_t)rank << 40 ^ (uint64_t)round << 20 ^ (uint64_t)i) >> 40);
}

static void check(struct job_rank *me, const int32_t *out, int round)
{
	for (int i = 0; i < COUNT; i++) {
		int32_t sum = 0;

		for (int r = 0; r < me->ranks; r++)
			sum += number(r, round, i);
		job_expect(me, out[i] == sum, "round %d: element %d is %d, not %d", round, i, out[i], sum);
	}
}

/* Ranks free at different times and for different kinds of memory. */
static void move_some(struct job_rank *me, struct buffer *buffers, int round)
{
	for (int side = 0; side < 2; side++) {
		uint64_t any = job_mix((uint64_t)(me->rank * 1000 + round * 2 + side));

		if (any % 4)
			move_on(me, &buffers[side], any / 4 % 5 == 0);
	}
}

static int run_moves(struct job_rank *me, struct snt_team *team)
{
	struct buffer b[2] = { { snt_alloc(BYTES), 0 }, { snt_alloc(BYTES), 0 } };
	struct snt_call call = { SNT_CALL(SNT_ALLREDUCE), .in = b[0].data, .out = b[1].data, .count = COUNT, .type = SNT_INT32 };
	struct snt_op *op;
	int status;

	job_expect(me, b[0].data && b[1].data, "snt_alloc: %s", snt_error_text());
	job_expect(me, !snt_op_create(team, &call, &op), "snt_op_create: %s", snt_error_text());
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < COUNT; i++)
			b[0].data[i] = number(me->rank, round, i);
		memset(b[1].data, 0x55, BYTES);
		if (round % 3 == 2) {
			status = snt_call(team, &call);
		} else {
			status = snt_op_start(op);
			status = status ? status : snt_op_wait(op);
		}
		job_expect(me, !status, "round %d: %s", round, snt_error_text());
		check(me, b[1].data, round);
		move_some(me, b, round);
	}
	snt_op_free(op);
	for (int side = 0; side < 2; side++)
		let_go(&b[side]);
	return 0;
}

static void a_prepared_operation_uses_what_lies_at_its_buffers_now(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		for (int ranks = 2; ranks <= 3; ranks++) {
			struct job job = { .ranks = ranks, .transports = transports[i], .run = run_moves };
			int bad = job_run(&job);

			job_end(&job);
			assert_int_equal(bad, 0);
		}
	}
}

/* ---- unaligned ------------------------------------------------------------ */

enum { ROOM = 1 << 17 };                /* 5000 of the widest for each of three ranks */

/* Bytes that are small normal numbers as floats of any width. */
static void fill(struct job_rank *me, char *to, size_t size)
{
	for (size_t i = 0; i < size; i++)
		to[i] = (char)(job_mix((uint64_t)me->rank << 32 | i) & 0x3f);
}

static void shoot(struct job_rank *me, struct snt_team *team, struct snt_call call, char *in, char *out)
{
	int status;

	call.in = in;
	call.out = out;
	call.size = sizeof(call);
	memset(out, 0, ROOM);
	fill(me, in, ROOM);
	status = snt_call(team, &call);
	job_expect(me, !status, "%s of %zu %s: %s", snt_collective_name(call.collective), call.count,
		   snt_type_name(call.type), snt_error_text());
}

static int run_unaligned(struct job_rank *me, struct snt_team *team)
{
	static const size_t counts[] = { 3, 17, 5000 };
	char *in = aligned_alloc(64, ROOM + 64), *out = aligned_alloc(64, ROOM + 64), *wanted = malloc(ROOM);

	job_expect(me, in && out && wanted, "no memory");
	for (int c = SNT_ALLREDUCE; c < SNT_BARRIER; c++) {
		for (int n = 0; n < 3 * SNT_TYPE_COUNT; n++) {
			struct snt_call call = { .collective = c, .type = n / 3, .count = counts[n % 3], .root = n % me->ranks };
			size_t skew = 1 + (size_t)n % 7;

			shoot(me, team, call, in, out);
			memcpy(wanted, out, ROOM);
			shoot(me, team, call, in + skew, out + 8 - skew);
			job_expect(me, !memcmp(wanted, out + 8 - skew, ROOM), "%s of %zu %s at +%zu and +%zu differs",
				   snt_collective_name(c), call.count, snt_type_name(call.type), skew, 8 - skew);
		}
	}
	free(in);
	free(out);
	free(wanted);
	return 0;
}

static void unaligned_buffers_give_the_same_for_every_type_and_collective(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct job job = { .ranks = 3, .transports = transports[i], .run = run_unaligned };
		int bad = job_run(&job);

		job_end(&job);
		assert_int_equal(bad, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_prepared_operation_uses_what_lies_at_its_buffers_now),
		cmocka_unit_test(unaligned_buffers_give_the_same_for_every_type_and_collective),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
