/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_table.h - the fold kernels of one instruction set; empty places mean that it has none. */
#ifndef COLLECTIVES_FOLD_TABLE_H
#define COLLECTIVES_FOLD_TABLE_H

#include "collectives/fold.h"

struct snti_fold_table {
	snti_fold_fn *fold[SNT_TYPE_COUNT][SNT_FOLD_COUNT];
	snti_sum_many_fn *sum_many[SNT_TYPE_COUNT];
	snti_sum_spread_fn *sum_spread[SNT_TYPE_COUNT];
};

extern const struct snti_fold_table snti_fold_scalar;   /* has everything there is */
extern snti_scale_fn *const snti_scale_scalar[SNT_TYPE_COUNT];
#if defined(__x86_64__)
extern const struct snti_fold_table snti_fold_avx2, snti_fold_avx512, snti_fold_avx512bf16;
#elif defined(__aarch64__)
extern const struct snti_fold_table snti_fold_neon;
#endif

#endif
