/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_avx2.c - the folds in 32-byte vectors; compiled with -mavx2 -mfma -mf16c. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#define FOLD_HALF_LANES 8
typedef __m256 fold_floats;

static inline fold_floats fold_halves_load(const void *halves)
{
	return _mm256_cvtph_ps(_mm_loadu_si128(halves));
}

static inline void fold_halves_store(void *halves, fold_floats f)
{
	__m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));   /* every NaN becomes the one */
	__m256 settled = _mm256_blendv_ps(f, nan, _mm256_cmp_ps(f, f, _CMP_UNORD_Q));

	_mm_storeu_si128(halves, _mm256_cvtps_ph(settled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#include "collectives/fold_body.h"

const struct snti_fold_table snti_fold_avx2 = FOLD_VECTOR_TABLE;
#endif
