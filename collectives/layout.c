/* SPDX-License-Identifier: BSD-3-Clause */
/* layout.c - from chunk numbers to addresses. */
#include "collectives/layout.h"

static const struct snti_extent *extent(const struct snti_layout *layout, int buffer)
{
	return &layout->extents[buffer < SNTI_TMP ? buffer : SNTI_TMP];
}

int snti_layout_splits(const struct snti_layout *layout)
{
	return layout->blocks > 1 && (layout->slices > 1 || layout->extents[SNTI_IN].counts ||
				      layout->extents[SNTI_OUT].counts);
}

/* total * part / parts without overflow, and on a cache line where parts are large. */
static size_t share(const struct snti_layout *layout, size_t total, uint64_t part, uint64_t parts)
{
	size_t line = 64 / layout->width;
	size_t at = part == parts ? total : (size_t)((unsigned __int128)total * part / parts);

	return part != parts && total / parts >= 16 * line ? at / line * line : at;
}

/* One vector: first cut in slices, then each slice in chunks, so that neighbouring chunks of a slice touch. */
static size_t at_in_vector(const struct snti_layout *layout, const struct snti_extent *e, uint32_t chunk, uint32_t slice)
{
	size_t from = share(layout, e->count, slice, layout->slices);
	size_t to = share(layout, e->count, slice + 1, layout->slices);

	return from + share(layout, to - from, chunk, layout->chunks);
}

/* P blocks: every block is cut in pieces, each piece in slices. */
static size_t at_in_blocks(const struct snti_layout *layout, const struct snti_extent *e, uint32_t chunk, uint32_t slice)
{
	uint32_t pieces = layout->chunks / layout->blocks, block = chunk / pieces;
	uint64_t part = (uint64_t)(chunk % pieces) * layout->slices + slice;
	size_t count = e->counts ? e->counts[block] : e->count / layout->blocks;
	size_t offset = e->counts ? e->offsets[block] : count * block;

	return offset + share(layout, count, part, (uint64_t)pieces * layout->slices);
}

size_t snti_layout_at(const struct snti_layout *layout, int buffer, uint32_t chunk, uint32_t slice)
{
	const struct snti_extent *e = extent(layout, buffer);

	if (layout->blocks == 1)
		return at_in_vector(layout, e, chunk, slice);
	if (chunk == layout->chunks)
		return e->counts ? e->offsets[layout->blocks - 1] + e->counts[layout->blocks - 1] : e->count;
	return at_in_blocks(layout, e, chunk, slice);
}

/* Elements from chunk @first up to the end of chunk @first + @count - 1, in one slice. */
static size_t span(const struct snti_layout *layout, int buffer, uint32_t first, uint32_t count, uint32_t slice)
{
	const struct snti_extent *e = extent(layout, buffer);
	size_t from = snti_layout_at(layout, buffer, first, slice);
	uint32_t pieces = layout->chunks / layout->blocks;

	if (layout->blocks == 1)
		return at_in_vector(layout, e, first + count, slice) - from;
	if (!snti_layout_splits(layout))
		return snti_layout_at(layout, buffer, first + count, slice) - from;
	/* One chunk: its end is the next part of the same block, or the block's end. */
	if (slice + 1 < layout->slices)
		return at_in_blocks(layout, e, first, slice + 1) - from;
	if (first % pieces + 1 < pieces)
		return at_in_blocks(layout, e, first + 1, 0) - from;
	return (e->counts ? e->offsets[first / pieces] + e->counts[first / pieces]
			  : e->count / layout->blocks * (first / pieces + 1)) - from;
}

static char *address(const struct snti_layout *layout, int buffer, uint32_t chunk, uint32_t slice)
{
	const struct snti_extent *e = extent(layout, buffer);
	size_t tmp = buffer > SNTI_TMP ? (size_t)(buffer - SNTI_TMP) * layout->tmp_stride : 0;

	/* As integers: base may lie before the buffer where it holds one block only. */
	return (char *)((uintptr_t)e->base + tmp + snti_layout_at(layout, buffer, chunk, slice) * layout->width);
}

static struct snti_act resolve(const struct snti_layout *layout, const struct snti_step *step, uint32_t piece,
			       uint32_t count, uint32_t slice)
{
	struct snti_act act = { .op = step->op, .left = step->left, .round = step->round, .peer = step->peer,
				.answer = step->answer, .number = step->number, .joint = step->joint,
				.joins = step->joint > 1 || (step->joint && step->answer) };
	int writes = step->op != SNTI_STEP_SEND, reads = step->op != SNTI_STEP_RECV;
	int sized = writes ? step->to : step->from;
	uint32_t sized_chunk = (writes ? step->to_chunk : step->from_chunk) + piece;

	if (writes)
		act.to = address(layout, step->to, step->to_chunk + piece, slice);
	if (reads)
		act.from = address(layout, step->from, step->from_chunk + piece, slice);
	if (step->op == SNTI_STEP_SEND || step->op == SNTI_STEP_FOLD)
		act.memory = extent(layout, step->from)->memory;
	if (step->op == SNTI_STEP_RECV)
		act.memory = extent(layout, step->to)->memory;
	act.size = span(layout, sized, sized_chunk, count, slice) * layout->width;
	return act;
}

static void find_ends(struct snti_act *acts, uint32_t count)
{
	for (uint32_t i = count; i--;) {
		int goes_on = i + 1 < count && acts[i + 1].round == acts[i].round;

		acts[i].end = goes_on ? acts[i + 1].end : i + 1;
	}
}

void snti_layout_resolve(const struct snti_layout *layout, const struct snti_plan *plan, uint32_t slice,
			 struct snti_act *acts)
{
	int splits = snti_layout_splits(layout);
	uint32_t count = 0;

	for (uint32_t i = 0; i < plan->step_count; i++) {
		const struct snti_step *step = &plan->steps[i];

		if (!splits)
			acts[count++] = resolve(layout, step, 0, step->count, slice);
		for (uint32_t piece = 0; splits && piece < step->count; piece++)
			acts[count++] = resolve(layout, step, piece, 1, slice);
	}
	find_ends(acts, count);
}

uint32_t snti_layout_acts(const struct snti_layout *layout, const struct snti_plan *plan)
{
	uint32_t acts = 0;

	if (!snti_layout_splits(layout))
		return plan->step_count;
	for (uint32_t i = 0; i < plan->step_count; i++)
		acts += plan->steps[i].count;
	return acts;
}

uint32_t snti_layout_widest(const struct snti_layout *layout, const struct snti_plan *plan)
{
	int splits = snti_layout_splits(layout);
	uint32_t widest = 0, width = 0;

	for (uint32_t i = 0; i < plan->step_count; i++) {
		if (i && plan->steps[i].round != plan->steps[i - 1].round)
			width = 0;
		width += splits ? plan->steps[i].count : 1;
		widest = width > widest ? width : widest;
	}
	return widest;
}
