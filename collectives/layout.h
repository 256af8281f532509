/* SPDX-License-Identifier: BSD-3-Clause */
/* layout.h - where the chunks and slices of a call's buffers lie. */
#ifndef COLLECTIVES_LAYOUT_H
#define COLLECTIVES_LAYOUT_H

#include "collectives/engine.h"
#include "collectives/plan.h"

/* One buffer of a call. Elements are counted from the start of the whole vector,
 * also where this rank's buffer holds one block of it only: then base points before the buffer. */
struct snti_extent {
	char *base;
	struct snti_memory *memory;
	size_t count;                /* elements of the whole vector, when it is one vector or equal blocks */
	size_t *counts, *offsets;    /* by block, for the v forms; else NULL */
};

struct snti_layout {
	struct snti_extent extents[3];   /* IN, OUT, and one that all TMP buffers repeat */
	size_t tmp_stride;               /* bytes from one TMP buffer to the next */
	uint32_t width;
	uint32_t blocks;                 /* P for the collectives with P blocks, else 1 */
	uint32_t chunks, slices;
};

/* Whether a step of several chunks goes as several messages: pieces of a slice are then not neighbours. */
int snti_layout_splits(const struct snti_layout *layout);
/* Turns the steps of @plan into acts for one slice. @acts has room for snti_layout_acts(). */
void snti_layout_resolve(const struct snti_layout *layout, const struct snti_plan *plan, uint32_t slice,
			 struct snti_act *acts);
uint32_t snti_layout_acts(const struct snti_layout *layout, const struct snti_plan *plan);
/* The widest round in acts. */
uint32_t snti_layout_widest(const struct snti_layout *layout, const struct snti_plan *plan);
/* Elements of the whole vector before chunk @chunk of @slice in buffer @buffer. */
size_t snti_layout_at(const struct snti_layout *layout, int buffer, uint32_t chunk, uint32_t slice);

#endif
