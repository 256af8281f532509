/* SPDX-License-Identifier: BSD-3-Clause */
/* count_operations.c - two ranks in one thread, whose operations perf/instructions counts under callgrind.
 *
 * What a function count_NAME calls is counted; of itself nothing is. Each line printed is a row:
 * NAME, how many operations its count is to be divided by, and what they are. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "collectives/fold.h"
#include "collectives/team.h"

#define ROUNDS 1024                     /* a multiple of every 'each so many polls' there is */
#define LARGE_ROUNDS 32
#define FOLD_ROUNDS 16
#define LARGE (64 << 10)
#define FOLD_BYTES 4096

/* Under its own name, even where another's body is the same. */
#if __has_attribute(noipa)
#define COUNTED static __attribute__((noipa)) void
#else
#define COUNTED static __attribute__((noinline)) void
#endif

struct pair {
	struct snt_team *teams[2];
	struct snt_op *ops[2];
	struct snt_ticket ticket;
	char *in[2], *out[2];
};

struct member { struct pair *pair; int rank; };

static int clock_stands;
static struct timespec stood_at;

/* In place of the C library's: with a clock that stands no count depends on how fast the machine is. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
	if (!clock_stands || clock != CLOCK_MONOTONIC)
		return (int)syscall(SYS_clock_gettime, clock, now);
	*now = stood_at;
	return 0;
}

static void must(int status)
{
	if (status >= 0)
		return;
	fprintf(stderr, "count_operations: %s: %s\n", snt_status_name(status), snt_error_text());
	exit(1);
}

/* What a row says is so. */
static void expect(const struct snt_op *op, int status)
{
	if (op->status == status)
		return;
	fprintf(stderr, "count_operations: %s is %s where the count needs another\n", snt_collective_name(op->call.collective),
		op->status == SNT_BUSY ? "busy" : snt_status_name(op->status));
	exit(1);
}

static void row(const char *name, unsigned operations, const char *text)
{
	printf("%s %u %s\n", name, operations, text);
}

/* ---- what is counted ------------------------------------------------------ */

COUNTED count_allreduce_8_start_first(struct snt_op *op) { must(snt_op_start(op)); }
COUNTED count_allreduce_8_test(struct snt_op *op) { must(snt_op_test(op)); }
COUNTED count_allreduce_8_start_last(struct snt_op *op) { must(snt_op_start(op)); }
COUNTED count_send_8_start(struct snt_op *op) { must(snt_op_start(op)); }
COUNTED count_recv_8_start_first(struct snt_op *op) { must(snt_op_start(op)); }
COUNTED count_recv_8_test(struct snt_op *op) { must(snt_op_test(op)); }
COUNTED count_recv_8_start_last(struct snt_op *op) { must(snt_op_start(op)); }
COUNTED count_test_done(struct snt_op *op) { must(snt_op_test(op)); }
COUNTED count_test_busy(struct snt_op *op) { must(snt_op_test(op)); }
COUNTED count_poll_idle(struct snt_team *team) { must(snti_team_poll(team)); }

COUNTED count_allreduce_8_call(struct snt_team *team, const void *in, void *out)
{
	must(snt_allreduce(team, in, out, 2, SNT_FLOAT32, SNT_SUM));
}

COUNTED count_allreduce_64k(struct snt_op **ops)
{
	must(snt_op_start(ops[0]));
	must(snt_op_start(ops[1]));
	for (int busy = 1; busy;) {
		busy = 0;
		for (int rank = 0; rank < 2; rank++)
			if (ops[rank]->status == SNT_BUSY) {
				must(snt_op_test(ops[rank]));
				busy |= ops[rank]->status == SNT_BUSY;
			}
	}
}

/* The barrier keeps the call from becoming a jump, which would be no call of count_NAME's. */
#define COUNTED_FOLD(variant, type) \
	COUNTED count_fold_##variant##_##type(snti_fold_fn *fold, char *to, const char *a, const char *b, size_t count) \
	{ \
		fold(to, a, b, count); \
		__asm__ volatile("" ::: "memory"); \
	}
#define COUNTED_FOLDS(variant) \
	COUNTED_FOLD(variant, float32) COUNTED_FOLD(variant, float16) COUNTED_FOLD(variant, bfloat16)
COUNTED_FOLDS(scalar)
COUNTED_FOLDS(avx2)
COUNTED_FOLDS(avx512)
COUNTED_FOLDS(neon)

/* ---- two ranks -------------------------------------------------------------- */

static void *join(void *arg)
{
	struct member *m = arg;
	struct snt_team_options options = SNT_TEAM_OPTIONS;

	options.rank = m->rank;
	options.ranks = 2;
	options.ticket = &m->pair->ticket;
	options.transports = "shm,tcp";         /* an idle port beside the used one, as there is by default */
	options.algorithms = "";
	must(snt_team_create(&options, &m->pair->teams[m->rank]));
	return NULL;
}

static void *leave(void *arg)
{
	struct member *m = arg;

	snt_team_destroy(m->pair->teams[m->rank]);
	return NULL;
}

/* Making and ending a team waits for the other rank, so these need two threads. */
static void both(struct pair *p, void *(*act)(void *))
{
	struct member members[2] = { { p, 0 }, { p, 1 } };
	pthread_t other;

	if (pthread_create(&other, NULL, act, &members[1])) {
		perror("count_operations: a thread");
		exit(1);
	}
	act(&members[0]);
	pthread_join(other, NULL);
}

static void finish(struct pair *p)
{
	while (p->ops[0]->status == SNT_BUSY || p->ops[1]->status == SNT_BUSY)
		for (int rank = 0; rank < 2; rank++)
			must(snt_op_test(p->ops[rank]));
}

/* Made and run a few times, so that nothing is set up within what is counted. */
static void make_ops(struct pair *p, struct snt_call first, struct snt_call second)
{
	struct snt_call calls[2] = { first, second };

	for (int rank = 0; rank < 2; rank++) {
		calls[rank].in = p->in[rank];
		calls[rank].out = p->out[rank];
		must(snt_op_create(p->teams[rank], &calls[rank], &p->ops[rank]));
	}
	for (int i = 0; i < 3; i++) {
		must(snt_op_start(p->ops[0]));
		must(snt_op_start(p->ops[1]));
		finish(p);
	}
}

/* What is done once in so many microseconds is done now, and not again while the clock stands. */
static void stop_clock(struct pair *p)
{
	clock_gettime(CLOCK_MONOTONIC, &stood_at);
	clock_stands = 1;
	for (int rank = 0; rank < 2; rank++) {
		must(snt_op_start(p->ops[rank]));
		for (int i = 0; i < ROUNDS; i++)
			must(snt_op_test(p->ops[rank]));
		must(snt_op_start(p->ops[!rank]));
		finish(p);
	}
}

/* Over shared memory a rank looks at once for what it waits for when it has been the last one for a while. */
static void come_last(struct pair *p, int last)
{
	for (int i = 0; i < ROUNDS; i++) {
		must(snt_op_start(p->ops[!last]));
		must(snt_op_start(p->ops[last]));
		finish(p);
	}
}

static void make_allreduce(struct pair *p, size_t bytes)
{
	struct snt_call call = { SNT_CALL(SNT_ALLREDUCE), .count = bytes / 4, .type = SNT_FLOAT32, .fold = SNT_SUM };

	make_ops(p, call, call);
}

static void free_ops(struct pair *p)
{
	for (int rank = 0; rank < 2; rank++)
		snt_op_free(p->ops[rank]);
}

static void small_allreduce(struct pair *p)
{
	make_allreduce(p, 8);
	stop_clock(p);
	come_last(p, 1);
	for (int i = 0; i < ROUNDS; i++) {
		count_allreduce_8_start_first(p->ops[0]);
		expect(p->ops[0], SNT_BUSY);
		count_allreduce_8_start_last(p->ops[1]);
		expect(p->ops[1], 0);
		count_allreduce_8_test(p->ops[0]);
		expect(p->ops[0], 0);
		count_test_done(p->ops[0]);
	}
	row("allreduce_8_start_first", ROUNDS, "allreduce of 8 bytes: start, before the other rank");
	row("allreduce_8_test", ROUNDS, "allreduce of 8 bytes: then the test that finds it done");
	row("allreduce_8_start_last", ROUNDS, "allreduce of 8 bytes: start, after the other rank; done at once");
	row("test_done", ROUNDS, "test of an operation that is done");
}

static void waiting(struct pair *p)
{
	must(snt_op_start(p->ops[0]));
	for (int i = 0; i < ROUNDS; i++)
		count_test_busy(p->ops[0]);
	expect(p->ops[0], SNT_BUSY);
	must(snt_op_start(p->ops[1]));
	finish(p);
	for (int i = 0; i < ROUNDS; i++)
		count_poll_idle(p->teams[0]);
	row("test_busy", ROUNDS, "test of an operation whose other rank has not come");
	row("poll_idle", ROUNDS, "poll of a team's ports, one connection, nothing there");
}

static void blocking_call(struct pair *p)
{
	come_last(p, 0);
	for (int i = 0; i <= ROUNDS; i++) {
		must(snt_op_start(p->ops[1]));
		if (i == 0)     /* makes what the others find again */
			must(snt_allreduce(p->teams[0], p->in[0], p->out[0], 2, SNT_FLOAT32, SNT_SUM));
		else
			count_allreduce_8_call(p->teams[0], p->in[0], p->out[0]);
		finish(p);
	}
	free_ops(p);
	row("allreduce_8_call", ROUNDS, "allreduce of 8 bytes: blocking, after the other rank");
}

static void large_allreduce(struct pair *p)
{
	clock_stands = 0;
	make_allreduce(p, LARGE);
	stop_clock(p);
	for (int i = 0; i < LARGE_ROUNDS; i++)
		count_allreduce_64k(p->ops);
	free_ops(p);
	row("allreduce_64k", 2 * LARGE_ROUNDS, "allreduce of 64 KiB: start and tests, mean of both ranks");
}

static void messages(struct pair *p)
{
	struct snt_call send = { SNT_CALL(SNT_SEND), .count = 2, .type = SNT_FLOAT32, .root = 1 };
	struct snt_call recv = { SNT_CALL(SNT_RECV), .count = 2, .type = SNT_FLOAT32, .root = 0 };

	make_ops(p, send, recv);
	come_last(p, 1);
	for (int i = 0; i < ROUNDS; i++) {
		count_send_8_start(p->ops[0]);
		count_recv_8_start_last(p->ops[1]);
		expect(p->ops[0], 0);
		expect(p->ops[1], 0);
	}
	for (int i = 0; i < ROUNDS; i++) {
		count_recv_8_start_first(p->ops[1]);
		expect(p->ops[1], SNT_BUSY);
		must(snt_op_start(p->ops[0]));
		count_recv_8_test(p->ops[1]);
		expect(p->ops[1], 0);
	}
	free_ops(p);
	row("send_8_start", ROUNDS, "send of 8 bytes: start; done at once");
	row("recv_8_start_last", ROUNDS, "recv of 8 bytes: start, after the send; done at once");
	row("recv_8_start_first", ROUNDS, "recv of 8 bytes: start, before the send");
	row("recv_8_test", ROUNDS, "recv of 8 bytes: then the test that finds it done");
}

/* ---- folds ------------------------------------------------------------------ */

typedef void counted_fold_fn(snti_fold_fn *fold, char *to, const char *a, const char *b, size_t count);

#define FOLD_ROW(variant, type, TYPE) { #variant, #type, TYPE, count_fold_##variant##_##type }
#define FOLD_ROWS(variant) \
	FOLD_ROW(variant, float32, SNT_FLOAT32), FOLD_ROW(variant, float16, SNT_FLOAT16), \
	FOLD_ROW(variant, bfloat16, SNT_BFLOAT16)

static const struct fold_row {
	const char *variant, *type_name;
	enum snt_type type;
	counted_fold_fn *counted;
} fold_rows[] = { FOLD_ROWS(scalar), FOLD_ROWS(avx2), FOLD_ROWS(avx512), FOLD_ROWS(neon) };

static void folds(struct pair *p)
{
	char name[64], text[96];

	for (size_t i = 0; i < sizeof(fold_rows) / sizeof(*fold_rows); i++) {
		const struct fold_row *r = &fold_rows[i];
		snti_fold_fn *fold = snti_fold_variant(r->variant, r->type, SNT_SUM);

		if (!fold)
			continue;
		for (int k = 0; k < FOLD_ROUNDS; k++)
			r->counted(fold, p->out[0], p->in[0], p->in[1], FOLD_BYTES / snt_type_size(r->type));
		snprintf(name, sizeof(name), "fold_%s_%s", r->variant, r->type_name);
		snprintf(text, sizeof(text), "fold of 4 KiB, sum of %s, %s", r->type_name, r->variant);
		row(name, FOLD_ROUNDS, text);
	}
}

/* Ordinary numbers whatever type they are read as: software that converts floats takes longer for others. */
static void make_buffers(struct pair *p)
{
	for (int rank = 0; rank < 2; rank++) {
		p->in[rank] = malloc(LARGE);
		p->out[rank] = calloc(1, LARGE);
		if (!p->in[rank] || !p->out[rank])
			must(SNT_ENOMEM);
		for (size_t i = 0; i < LARGE / sizeof(uint16_t); i++) {
			uint16_t bits = (uint16_t)(0x3c00 + (i * 7 + (size_t)rank * 5) % 256);

			memcpy(p->in[rank] + i * sizeof(bits), &bits, sizeof(bits));
		}
	}
}

int main(void)
{
	struct pair p = { .ops = { NULL } };

#if !defined(__OPTIMIZE__)
	fprintf(stderr, "count_operations: built without optimisation, its counts say nothing\n");
	return 77;
#endif
	make_buffers(&p);
	must(snt_ticket_create(SNT_REACH_LOCAL, &p.ticket));
	both(&p, join);
	small_allreduce(&p);
	waiting(&p);
	blocking_call(&p);
	large_allreduce(&p);
	messages(&p);
	folds(&p);
	clock_stands = 0;
	both(&p, leave);
	for (int rank = 0; rank < 2; rank++) {
		free(p.in[rank]);
		free(p.out[rank]);
	}
	return 0;
}
