/* SPDX-License-Identifier: BSD-3-Clause */
/* fold.h - dst[i] = left[i] op right[i], by the widest instructions there are. */
#ifndef COLLECTIVES_FOLD_H
#define COLLECTIVES_FOLD_H

#include "include/sennit.h"

/* @count elements; @dst may be @left or @right, not partly overlap them. Any alignment. */
typedef void snti_fold_fn(void *dst, const void *left, const void *right, size_t count);
typedef void snti_scale_fn(void *dst, size_t count, uint32_t ranks);

/* NULL when @type and @fold do not go together (bitwise or logical on floats). SNT_AVERAGE folds
 * as SNT_SUM. Chosen for this processor at the first call; any thread. */
snti_fold_fn *snti_fold_function(enum snt_type type, enum snt_fold fold);
/* The same from one source file, for tests and the benchmark: "scalar", "avx2", "avx512", "avx512bf16", "neon";
 * NULL where it has none or the processor cannot. */
snti_fold_fn *snti_fold_variant(const char *variant, enum snt_type type, enum snt_fold fold);

enum { SNTI_FOLD_MOST = 8 };
/* @dst = sources[0] op sources[1] op ..., from left to right, with the bits that folding two at a time gives; 2 to
 * SNTI_FOLD_MOST of @number. @dst may be any of @sources. @type and @fold go together. */
void snti_fold_many(enum snt_type type, enum snt_fold fold, void *dst, const void *const *sources, unsigned number,
		    size_t count);
/* One pass over as many of @count elements as make whole steps of it; returns how many it has done. */
typedef size_t snti_sum_many_fn(void *dst, const void *const *sources, unsigned number, size_t count);

/* One result in several places at once. */
struct snti_fold_spread {
	enum snt_type type;
	enum snt_fold fold;
	unsigned number, places;        /* 2 to SNTI_FOLD_MOST sources, 1 to SNTI_FOLD_MOST places */
	unsigned kept;                  /* so many of the places stay in the caches, 0 or 1; the others are streamed (base/copy.h) */
	const void *sources[SNTI_FOLD_MOST];
	void *to[SNTI_FOLD_MOST];       /* each may be one of the sources */
};
/* As snti_fold_many. The caller ends the streaming. */
void snti_fold_spread(const struct snti_fold_spread *spread, size_t count);
/* As snti_sum_many_fn, where all places that are streamed to lie on borders of vectors; else nothing is done. */
typedef size_t snti_sum_spread_fn(const struct snti_fold_spread *spread, size_t count);
/* From one source file, or NULL; as above. */
snti_sum_many_fn *snti_sum_many_variant(const char *variant, enum snt_type type);

/* Divides by the number of ranks, in place: the end of SNT_AVERAGE. */
snti_scale_fn *snti_scale_function(enum snt_type type);

#endif
