/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_avx512.c - the folds in 64-byte vectors; compiled with -mavx512f -mavx512bw -mavx512vl. */
#if defined(__x86_64__)
/* GCC thinks of clock rates that fell with wide vectors, ten years ago, and would use half. */
#if !defined(__clang__)
#pragma GCC target("prefer-vector-width=512")
#endif
#include <immintrin.h>
#include <stdint.h>

#define FOLD_HALF_LANES 16
typedef __m512 fold_floats;

static inline fold_floats fold_halves_load(const void *halves)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256(halves));
}

static inline void fold_halves_store(void *halves, fold_floats f)
{
	__m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000));   /* every NaN becomes the one */
	__m512 settled = _mm512_mask_mov_ps(f, _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q), nan);

	_mm256_storeu_si256(halves, _mm512_cvtps_ph(settled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#include "collectives/fold_body.h"

const struct snti_fold_table snti_fold_avx512 = FOLD_VECTOR_TABLE;
#endif
