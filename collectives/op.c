/* SPDX-License-Identifier: BSD-3-Clause */
/* op.c - one operation: made from a call, started, tested, waited for, freed. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/log.h"
#include "collectives/team.h"
#include "transport/shared.h"

#define LANE_POINT_TO_POINT (1ull << 63)
#define LANE_SLICE_BITS 20
#define MOVES_PER_TEST 16
/* Scratch from here on is worth memory that peers can map. */
#define TMP_SHARED_BYTES (64 << 10)

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash ^= value;
	hash *= 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 29;
}

static int is_point_to_point(const struct snt_call *call)
{
	return call->collective == SNT_SEND || call->collective == SNT_RECV;
}

/* What two ranks must agree on about a call. alltoallv's counts differ by right: sizes are checked by message. */
static uint64_t fingerprint(const struct snt_op *op, const struct snti_choice *choice)
{
	const struct snt_call *call = &op->call;
	const struct snti_extent *e = &op->layout.extents[SNTI_TMP];
	int v = e->counts != NULL;
	uint64_t hash = mix(1, is_point_to_point(call) ? SNT_SEND : call->collective);

	hash = mix(hash, call->type);
	if (is_point_to_point(call))
		return mix(hash, call->count);
	hash = mix(hash, v ? 0 : call->count);
	hash = mix(hash, (uint64_t)call->fold << 32 | (uint32_t)call->root);
	for (uint32_t r = 0; v && call->collective != SNT_ALLTOALL && r < op->layout.blocks; r++)
		hash = mix(hash, e->counts[r]);
	for (const char *c = choice->algorithm->name; *c; c++)
		hash = mix(hash, (unsigned char)*c);
	return mix(hash, (uint64_t)choice->slices << 1 | v);
}

/* A send or a receive is a plan of one step. */
static void build_point_to_point(struct snti_plan *p)
{
	p->chunks = 1;
	if (p->collective == SNT_SEND)
		snti_plan_send(p, p->root, SNTI_IN, 0, 1);
	else
		snti_plan_recv(p, p->root, SNTI_OUT, 0, 1);
}

static const struct snti_algorithm point_to_point[] = {
	{ .name = "direct", .collective = SNT_SEND, .build = build_point_to_point },
	{ .name = "direct", .collective = SNT_RECV, .build = build_point_to_point },
};

static int choose(const struct snt_op *op, struct snti_choice *choice)
{
	const struct snt_team *team = op->team;
	const struct snti_layout *l = &op->layout;
	struct snti_question question = {
		.collective = op->call.collective, .size = team->size, .node_size = team->node_size,
		.bytes = (uint64_t)l->extents[SNTI_TMP].count * l->width,
		.unequal_blocks = l->extents[SNTI_TMP].counts != NULL, .slice = team->slice,
	};

	if (is_point_to_point(&op->call)) {
		*choice = (struct snti_choice){ &point_to_point[op->call.collective == SNT_RECV], 1, 1 };
		return 0;
	}
	/* alltoallv's total differs from rank to rank, so it cannot guide a choice that all must share. */
	if (question.collective == SNT_ALLTOALL && question.unequal_blocks)
		question.bytes = 0;
	return snti_select(&question, team->algorithms, choice);
}

/* NULL when no shared memory or descriptor is left: private memory does, with a copy more. */
static void *share_tmp(size_t size)
{
	static atomic_flag told = ATOMIC_FLAG_INIT;
	void *memory = snti_shared_alloc(size);
	const char *why = strerror(errno);

	if (!memory && !atomic_flag_test_and_set(&told))
		snti_log(SNT_LOG_WARN, "no shared memory for %zu bytes of scratch (%s): operations go on with private memory, "
			 "slower", size, why);
	return memory;
}

static int make_tmp(struct snt_op *op)
{
	struct snti_layout *l = &op->layout;
	const struct snti_plan *plan = op->plan;
	size_t first, last, size;

	if (!plan->tmp_buffers)
		return 0;
	first = snti_layout_at(l, SNTI_TMP, plan->tmp_first, 0);
	last = snti_layout_at(l, SNTI_TMP, plan->tmp_end, 0);
	if (l->slices > 1 && l->blocks == 1) {    /* a slice's chunks are spread over the vector */
		first = 0;
		last = l->extents[SNTI_TMP].count;
	}
	l->tmp_stride = ((last - first) * l->width + 127) / 64 * 64;
	size = l->tmp_stride * plan->tmp_buffers;
	op->tmp = size >= TMP_SHARED_BYTES ? share_tmp(size) : NULL;
	if (op->tmp)
		l->extents[SNTI_TMP].memory = snti_shared_find(op->tmp, size);
	else
		op->tmp = aligned_alloc(64, size);
	if (!op->tmp)
		return snti_fail(SNT_ENOMEM, "no memory for %zu bytes of scratch", size);
	l->extents[SNTI_TMP].base = (char *)((uintptr_t)op->tmp - first * l->width);
	return 0;
}

/* Whole buffers only: for the v forms, whose extent is not at hand, peers copy. */
static struct snti_memory *memory_of(const struct snt_op *op, const void *data)
{
	size_t size = op->call.count * op->layout.width;

	return !data || !size || op->layout.extents[SNTI_TMP].counts ? NULL : snti_shared_find(data, size);
}

static void find_memory(struct snt_op *op)
{
	op->memory_seen = snti_shared_changes();
	op->memory_ids[SNTI_IN] = op->memory_ids[SNTI_OUT] = 0;
	for (int side = SNTI_IN; side <= SNTI_OUT; side++) {
		struct snti_memory *memory = memory_of(op, side == SNTI_IN ? op->call.in : op->call.out);

		op->layout.extents[side].memory = memory;
		op->memory_ids[side] = memory ? memory->id : 0;
	}
}

static int is_fresh(struct snt_op *op)
{
	uint64_t now = snti_shared_changes();

	if (op->memory_seen == now)
		return 1;
	for (int side = SNTI_IN; side <= SNTI_OUT; side++) {
		const struct snti_memory *memory = memory_of(op, side == SNTI_IN ? op->call.in : op->call.out);

		if ((memory ? memory->id : 0) != op->memory_ids[side])
			return 0;
	}
	op->memory_seen = now;
	return 1;
}

/* In one slice, so for good. */
static void resolve_whole(struct snt_op *op)
{
	struct snti_run *run = &op->runs[0];
	struct snti_act *acts = (struct snti_act *)run->acts;

	snti_layout_resolve(&op->layout, op->plan, 0, acts);
	run->act_count = snti_engine_join(acts, snti_layout_acts(&op->layout, op->plan), op->job.conns);
}

static int make_runs(struct snt_op *op)
{
	uint32_t acts = snti_layout_acts(&op->layout, op->plan), widest = snti_layout_widest(&op->layout, op->plan);

	op->runs = calloc(op->window, sizeof(*op->runs));
	if (!op->runs)
		return snti_fail(SNT_ENOMEM, "no memory for an operation");
	for (uint32_t i = 0; i < op->window; i++) {
		struct snti_run *run = &op->runs[i];
		struct snti_act *room = calloc(acts + 1, sizeof(*room));

		run->acts = room;
		run->act_count = acts;
		run->xfers = calloc(widest + 1, sizeof(*run->xfers));
		if (!room || !run->xfers)
			return snti_fail(SNT_ENOMEM, "no memory for %u steps", acts);
	}
	return 0;
}

/* Whether what the ranks of this host read and write would not fit their last-level cache. */
static int is_beyond_cache(const struct snt_op *op)
{
	size_t bytes = op->layout.extents[SNTI_TMP].count * op->layout.width;
	size_t vectors = snti_op_is_in_place(op->team, &op->call) ? 1 : 2;

	return bytes > snti_cpu_cache() / vectors / (size_t)op->team->local_size;
}

/* A peer that cannot be reached fails the team: the others count on this rank. */
static int connect_peers(struct snt_op *op)
{
	int status = 0;

	for (uint32_t i = 0; i < op->plan->step_count && !status; i++)
		if (op->plan->steps[i].op <= SNTI_STEP_FOLD)
			status = snti_team_connect(op->team, op->plan->steps[i].peer);
	return status ? snti_team_fail(op->team, status) : 0;
}

static int op_init(struct snt_op *op, const struct snt_call *call)
{
	struct snt_team *team = op->team;
	struct snti_plan_shape shape = { .collective = call->collective, .rank = team->rank, .size = team->size,
					 .root = call->root, .node_size = team->node_size };
	struct snti_choice choice;
	int status = snti_op_layout_init(op, call);

	status = status ? status : choose(op, &choice);
	if (status)
		return status;
	shape.in_place = snti_op_is_in_place(team, call);
	op->plan = snti_team_plan(team, choice.algorithm, &shape, &status);
	if (!op->plan)
		return status;
	op->layout.chunks = op->plan->chunks;
	op->slices = op->layout.slices = choice.slices;
	op->window = choice.window < choice.slices ? choice.window : choice.slices;
	op->fingerprint = fingerprint(op, &choice);
	op->job = (struct snti_job){ .conns = team->conns, .width = op->layout.width,
				     .fold = snti_fold_function(call->type, call->fold),
				     .type = call->type, .how = call->fold,
				     .fingerprint = op->fingerprint, .around = is_beyond_cache(op),
				     .pipelined = op->window > 1 };
	find_memory(op);
	status = make_tmp(op);
	status = status ? status : make_runs(op);
	status = status ? status : connect_peers(op);
	if (!status && op->slices == 1)
		resolve_whole(op);
	return status;
}

int snti_op_create(struct snt_team *team, const struct snt_call *given, struct snt_op **out)
{
	struct snt_op *op;
	int status;

	if (team->status)
		return SNT_EBROKEN;
	op = calloc(1, sizeof(*op));
	if (!op)
		return snti_fail(SNT_ENOMEM, "no memory for an operation");
	op->team = team;
	op->call = *given;
	snti_call_tidy(&op->call);
	if (given->collective == SNT_BARRIER) {
		op->call.in = &op->idle_byte[0];
		op->call.out = &op->idle_byte[1];
		op->call.count = 1;
		op->call.type = SNT_UINT8;
	}
	snti_list_init(&op->running);
	snti_list_append(&team->ops, &op->all);
	status = op_init(op, &op->call);
	if (status)
		snti_op_free(op);
	else
		*out = op;
	return status;
}

void snti_op_free(struct snt_op *op)
{
	if (op->status == SNT_BUSY)
		snti_team_wait(op->team, op);
	for (uint32_t i = 0; i < SNTI_RECENT; i++)
		if (op->team->recent[i] == op)
			op->team->recent[i] = NULL;
	snti_list_remove(&op->running);
	snti_list_remove(&op->all);
	for (uint32_t i = 0; op->runs && i < op->window; i++) {
		free((void *)op->runs[i].acts);
		free(op->runs[i].xfers);
	}
	free(op->runs);
	if (op->layout.extents[SNTI_TMP].memory)
		snt_free(op->tmp);
	else
		free(op->tmp);
	snti_op_layout_fini(op);
	free(op);
}

static void begin_slice(struct snt_op *op, struct snti_run *run)
{
	if (op->slices > 1)
		snti_layout_resolve(&op->layout, op->plan, op->next_slice, (struct snti_act *)run->acts);
	snti_run_begin(run, op->lane + op->next_slice);
	op->next_slice++;
}

/* Messages carry the hash of all calls so far: ranks that have gone apart in a call without noticing, because each
 * only sent, notice in the next message between them. */
static void take_lane(struct snt_op *op)
{
	struct snt_team *team = op->team;

	if (is_point_to_point(&op->call)) {
		op->lane = LANE_POINT_TO_POINT | op->call.tag;
		return;
	}
	op->lane = ++team->sequence << LANE_SLICE_BITS;
	team->history = mix(team->history, op->fingerprint);
	op->job.fingerprint = op->history = team->history;
}

/* The buffers need to be valid from start to end only: between two starts an address may have changed hands. */
static void refresh(struct snt_op *op)
{
	if (is_fresh(op))
		return;
	find_memory(op);
	if (op->slices == 1)
		resolve_whole(op);
}

int snti_op_start(struct snt_op *op)
{
	struct snt_team *team = op->team;
	int moved = 0, status;

	if (op->status == SNT_BUSY)
		return snti_fail(SNT_EINVAL, "the operation is running already");
	if (team->status)
		return SNT_EBROKEN;
	refresh(op);
	take_lane(op);
	op->status = SNT_BUSY;
	op->active = op->window;
	op->next_slice = 0;
	for (uint32_t i = 0; i < op->window; i++)
		begin_slice(op, &op->runs[i]);
	snti_list_append(&team->running, &op->running);
	status = snti_op_move(op, &moved);
	return status ? snti_team_fail(team, status) : 0;
}

static int is_logical(enum snt_fold fold)
{
	return fold == SNT_LAND || fold == SNT_LOR || fold == SNT_LXOR;
}

/* What is left to do with the result: the division of an average; the 0 or 1 of a logical fold that had nothing to fold. */
static void complete_result(struct snt_op *op)
{
	const struct snt_call *call = &op->call;
	int folds = call->collective == SNT_ALLREDUCE || call->collective == SNT_REDUCE ||
		    call->collective == SNT_REDUCE_SCATTER;
	int mine = call->collective != SNT_REDUCE || call->root == op->team->rank;
	const size_t *counts = op->layout.extents[SNTI_IN].counts;
	size_t count = counts ? counts[op->team->rank] : call->count;

	if (!folds || !mine)
		return;
	if (call->fold == SNT_AVERAGE)
		snti_scale_function(call->type)(call->out, count, op->team->size);
	else if (op->team->size == 1)
		snti_fold_function(call->type, SNT_LOR)(call->out, call->out, call->out, count);
}

static void finish(struct snt_op *op)
{
	if (op->call.fold == SNT_AVERAGE || is_logical(op->call.fold))
		complete_result(op);
	__atomic_store_n(&op->status, 0, __ATOMIC_RELEASE);
	snti_list_remove(&op->running);
}

/* Messages with one tag between two ranks keep their order also when the wire would not take the first yet. */
static int waits_its_turn(const struct snt_op *op)
{
	if (!is_point_to_point(&op->call))
		return 0;
	snti_list_each(link, &op->team->running) {
		const struct snt_op *earlier = snti_container(link, struct snt_op, running);

		if (earlier == op)
			return 0;
		if (earlier->lane == op->lane && earlier->call.collective == op->call.collective &&
		    earlier->call.root == op->call.root && !earlier->runs[0].started)
			return 1;
	}
	return 0;
}

/* In one slice: messages, and most small collectives. */
static inline int move_single(struct snt_op *op, int *moved)
{
	int status = snti_run_poll(&op->runs[0], &op->job);

	if (status)
		return status == SNT_BUSY ? 0 : status;
	*moved = 1;
	finish(op);
	return 0;
}

/* Moves @op once; 0 also while it is busy, see op->status. */
int snti_op_move(struct snt_op *op, int *moved)
{
	if (!op->history && waits_its_turn(op))
		return 0;
	if (op->slices == 1)
		return move_single(op, moved);
	for (uint32_t i = 0; i < op->window; i++) {
		struct snti_run *run = &op->runs[i];
		int status = run->lane ? snti_run_poll(run, &op->job) : SNT_BUSY;

		while (!status && op->next_slice < op->slices) {
			begin_slice(op, run);
			*moved = 1;
			status = snti_run_poll(run, &op->job);
		}
		if (status < 0)
			return status;
		if (!status && run->lane) {
			run->lane = 0;       /* this place in the window is empty for good */
			op->active--;
			*moved = 1;
		}
	}
	if (!op->active)
		finish(op);
	return 0;
}

/* As long as something moves, within reason: who computes calls seldom, and one message can take many moves. */
int snti_op_test(struct snt_op *op)
{
	int moved, status, moves = 0;

	if (op->status != SNT_BUSY)
		return op->status;
	do
		status = snti_team_move(op->team, &moved);
	while (!status && moved && op->status == SNT_BUSY && ++moves < MOVES_PER_TEST);
	if (!status && !moved)
		status = snti_team_glance(op->team);
	return status ? status : op->status;
}

int snti_op_wait(struct snt_op *op)
{
	return op->status == SNT_BUSY ? snti_team_wait(op->team, op) : op->status;
}
