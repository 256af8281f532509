/* SPDX-License-Identifier: BSD-3-Clause */
/* call.c - checks a call and lays its buffers out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "collectives/team.h"
#include "transport/shared.h"

/* Which side of a collective holds P blocks, on which ranks, and which buffers this rank must have. */
struct side_rule { uint8_t in_blocks, out_blocks, in_root_only, out_root_only, folds, has_root; };

static const struct side_rule rules[SNT_COLLECTIVE_COUNT] = {
	[SNT_ALLREDUCE]      = { .folds = 1 },
	[SNT_REDUCE_SCATTER] = { .in_blocks = 1, .folds = 1 },
	[SNT_ALLGATHER]      = { .out_blocks = 1 },
	[SNT_BROADCAST]      = { .in_root_only = 1, .has_root = 1 },
	[SNT_REDUCE]         = { .out_root_only = 1, .folds = 1, .has_root = 1 },
	[SNT_ALLTOALL]       = { .in_blocks = 1, .out_blocks = 1 },
	[SNT_GATHER]         = { .out_blocks = 1, .out_root_only = 1, .has_root = 1 },
	[SNT_SCATTER]        = { .in_blocks = 1, .in_root_only = 1, .has_root = 1 },
	[SNT_BARRIER]        = { 0 },
	[SNT_SEND]           = { .has_root = 1 },
	[SNT_RECV]           = { .has_root = 1 },
};

static int has_in(const struct snt_team *team, const struct snt_call *call)
{
	return call->collective != SNT_RECV && call->collective != SNT_BARRIER &&
	       (!rules[call->collective].in_root_only || call->root == team->rank);
}

static int has_out(const struct snt_team *team, const struct snt_call *call)
{
	return call->collective != SNT_SEND && call->collective != SNT_BARRIER &&
	       (!rules[call->collective].out_root_only || call->root == team->rank);
}

static int check_kind(const struct snt_team *team, const struct snt_call *call)
{
	const struct side_rule *rule;

	if (call->size < sizeof(*call) || (unsigned)call->collective >= SNT_COLLECTIVE_COUNT)
		return snti_fail(SNT_EINVAL, "no such collective: %d (or a call without SNT_CALL)", call->collective);
	rule = &rules[call->collective];
	if (call->collective != SNT_BARRIER && !snt_type_size(call->type))
		return snti_fail(SNT_EINVAL, "no such type: %d", call->type);
	if (rule->folds && ((unsigned)call->fold >= SNT_FOLD_COUNT || !snti_fold_function(call->type, call->fold)))
		return snti_fail(SNT_EINVAL, "%s cannot fold %s", snt_fold_name(call->fold), snt_type_name(call->type));
	if (rule->has_root && (call->root < 0 || call->root >= team->size))
		return snti_fail(SNT_EINVAL, "root or peer %d is not in 0..%d", call->root, team->size - 1);
	if (call->root == team->rank && (call->collective == SNT_SEND || call->collective == SNT_RECV))
		return snti_fail(SNT_EINVAL, "rank %d cannot send to itself", team->rank);
	return 0;
}

/* Elements this rank's buffer on one side holds: P blocks, or its own. */
static int side_is_empty(const struct snt_team *team, const struct snt_call *call, int has_blocks,
			 const struct snt_layout *own)
{
	const struct snt_layout *other = own == &call->in_layout ? &call->out_layout : &call->in_layout;
	const size_t *counts = own->counts ? own->counts : other->counts;

	if (!counts)
		return !call->count;
	for (int r = 0; r < team->size; r++)
		if (counts[r] && (has_blocks || r == team->rank))
			return 0;
	return 1;
}

static int check_buffers(const struct snt_team *team, const struct snt_call *call)
{
	const struct side_rule *rule = &rules[call->collective];
	uint64_t most = SIZE_MAX / 4 / snt_type_size(call->type) / (uint64_t)team->size;

	if (call->count > most)
		return snti_fail(SNT_EINVAL, "count %zu is more than memory can hold", call->count);
	if (!call->in && has_in(team, call) && !side_is_empty(team, call, rule->in_blocks, &call->in_layout))
		return snti_fail(SNT_EINVAL, "in is NULL for %s", snt_collective_name(call->collective));
	if (!call->out && has_out(team, call) && !side_is_empty(team, call, rule->out_blocks, &call->out_layout))
		return snti_fail(SNT_EINVAL, "out is NULL for %s", snt_collective_name(call->collective));
	return 0;
}

static size_t own_offset(const struct snt_layout *layout, int rank)
{
	size_t offset = 0;

	for (int r = 0; r < rank && !layout->offsets; r++)
		offset += layout->counts[r];
	return layout->offsets ? layout->offsets[rank] : offset;
}

/* No message checks what a rank keeps for itself. */
static int check_own_block(const struct snt_team *team, const struct snt_call *call)
{
	const struct snt_layout *in = &call->in_layout, *out = &call->out_layout;

	if (in->counts[team->rank] != out->counts[team->rank])
		return snti_fail(SNT_EINVAL, "alltoall: rank %d sends itself %zu elements and expects %zu", team->rank,
				 in->counts[team->rank], out->counts[team->rank]);
	if (call->in == call->out && own_offset(in, team->rank) != own_offset(out, team->rank))
		return snti_fail(SNT_EINVAL, "alltoall in place: rank %d's own block must lie at one offset on both sides",
				 team->rank);
	return 0;
}

static int check_layouts(const struct snt_team *team, const struct snt_call *call)
{
	const struct side_rule *rule = &rules[call->collective];

	if ((call->in_layout.counts && !rule->in_blocks) || (call->out_layout.counts && !rule->out_blocks))
		return snti_fail(SNT_EINVAL, "%s takes no counts on that side", snt_collective_name(call->collective));
	if ((call->in_layout.offsets && !call->in_layout.counts) || (call->out_layout.offsets && !call->out_layout.counts))
		return snti_fail(SNT_EINVAL, "offsets without counts");
	if (call->collective == SNT_ALLTOALL && !call->in_layout.counts != !call->out_layout.counts)
		return snti_fail(SNT_EINVAL, "alltoall takes counts for both sides or for neither");
	return call->collective == SNT_ALLTOALL && call->in_layout.counts ? check_own_block(team, call) : 0;
}

/* @offsets for this rank's buffer; NULL packs the blocks. */
static int copy_blocks(struct snti_extent *e, const struct snt_layout *layout, uint32_t ranks, uint32_t width)
{
	size_t end = 0, most = SIZE_MAX / 4 / width / ranks;

	e->counts = calloc(ranks, sizeof(*e->counts));
	e->offsets = calloc(ranks, sizeof(*e->offsets));
	if (!e->counts || !e->offsets)
		return snti_fail(SNT_ENOMEM, "no memory for the counts of %u ranks", ranks);
	for (uint32_t r = 0; r < ranks; r++) {
		e->counts[r] = layout->counts[r];
		e->offsets[r] = layout->offsets ? layout->offsets[r] : end;
		if (e->counts[r] > most || e->offsets[r] > SIZE_MAX / 4 / width)
			return snti_fail(SNT_EINVAL, "count or offset of block %u is more than memory can hold", r);
		end += e->counts[r];
	}
	e->count = end;
	return 0;
}

/* Both sides see the same whole vector: the counts given for one side hold for the other and for TMP. */
static int lay_blocks(struct snti_layout *l, const struct snt_call *call, uint32_t ranks)
{
	const struct snt_layout *in = &call->in_layout, *out = &call->out_layout;
	struct snt_layout packed;
	int status = 0;

	if (!in->counts && !out->counts)
		return 0;
	packed.counts = out->counts ? out->counts : in->counts;
	packed.offsets = NULL;
	status = copy_blocks(&l->extents[SNTI_TMP], &packed, ranks, l->width);
	if (!status)
		status = copy_blocks(&l->extents[SNTI_IN], in->counts ? in : &packed, ranks, l->width);
	return status ? status : copy_blocks(&l->extents[SNTI_OUT], out->counts ? out : &packed, ranks, l->width);
}

static size_t block_offset(const struct snti_layout *l, const struct snti_extent *e, uint32_t block)
{
	return e->counts ? e->offsets[block] : e->count / l->blocks * block;
}

/* A side that holds one block of P only: its base is where block 0 would be. */
static void shift_single_blocks(struct snt_op *op, const struct side_rule *rule)
{
	struct snti_layout *l = &op->layout;
	uint32_t rank = op->team->rank;

	if (l->blocks == 1)
		return;
	for (int side = SNTI_IN; side <= SNTI_OUT; side++) {
		struct snti_extent *e = &l->extents[side];

		if (!(side == SNTI_IN ? rule->in_blocks : rule->out_blocks))
			e->base = (char *)((uintptr_t)e->base - block_offset(l, e, rank) * l->width);
	}
}

int snti_op_layout_init(struct snt_op *op, const struct snt_call *call)
{
	const struct side_rule *rule;
	struct snti_layout *l = &op->layout;
	int status = check_kind(op->team, call);

	status = status ? status : check_layouts(op->team, call);
	status = status ? status : check_buffers(op->team, call);
	if (status)
		return status;
	rule = &rules[call->collective];
	l->width = call->collective == SNT_BARRIER ? 1 : snt_type_size(call->type);
	l->blocks = rule->in_blocks || rule->out_blocks ? op->team->size : 1;
	for (int i = 0; i < 3; i++)
		l->extents[i].count = call->count * l->blocks;
	status = lay_blocks(l, call, op->team->size);
	if (status)
		return status;
	l->extents[SNTI_IN].base = (char *)call->in;
	l->extents[SNTI_OUT].base = call->out;
	shift_single_blocks(op, rule);
	return 0;
}

void snti_op_layout_fini(struct snt_op *op)
{
	for (int i = 0; i < 3; i++) {
		free(op->layout.extents[i].counts);
		free(op->layout.extents[i].offsets);
	}
}

/* In place means that the two bases coincide once each is where the whole vector begins. */
int snti_op_is_in_place(const struct snt_team *team, const struct snt_call *call)
{
	const struct side_rule *rule = &rules[call->collective];
	size_t width = snt_type_size(call->type), shift = call->count * team->rank * width;
	uintptr_t in = (uintptr_t)call->in, out = (uintptr_t)call->out;

	if (!in || !out || !has_in(team, call) || !has_out(team, call))
		return 0;
	if (call->in_layout.counts || call->out_layout.counts) {
		const struct snt_layout *l = call->out_layout.counts ? &call->out_layout : &call->in_layout;

		for (int r = shift = 0; r < team->rank && !l->offsets; r++)
			shift += l->counts[r] * width;
		if (l->offsets)
			shift = l->offsets[team->rank] * width;
	}
	if (rule->in_blocks == rule->out_blocks)
		return in == out;
	return rule->out_blocks ? in == out + shift : out == in + shift;
}

void snti_call_tidy(struct snt_call *call)
{
	if ((unsigned)call->collective >= SNT_COLLECTIVE_COUNT)
		return;
	if (!rules[call->collective].folds)
		call->fold = SNT_SUM;
	if (!rules[call->collective].has_root)
		call->root = 0;
}

void snti_op_text(const struct snt_op *op, char *text, size_t size)
{
	const struct snt_call *call = &op->call;

	if (call->collective == SNT_BARRIER)
		snprintf(text, size, "barrier");
	else if (rules[call->collective].folds)
		snprintf(text, size, "%s of %zu %s, %s", snt_collective_name(call->collective), call->count,
			 snt_type_name(call->type), snt_fold_name(call->fold));
	else
		snprintf(text, size, "%s of %zu %s, root %d", snt_collective_name(call->collective), call->count,
			 snt_type_name(call->type), call->root);
}
