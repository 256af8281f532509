/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_avx2.c - the folds in 32-byte vectors; compiled with -mavx2 -mfma -mf16c. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#define FOLD_VECTOR_BYTES 32
typedef __m256 fold_floats;
typedef __m256i fold_flags;

#include "collectives/fold_vector.h"

FOLD_INLINE fold_flags fold_unordered(fold_floats x, fold_floats y)
{
	return _mm256_castps_si256(_mm256_cmp_ps(x, y, _CMP_UNORD_Q));
}

FOLD_INLINE void fold_stream(void *to, fold_words words)
{
	_mm256_stream_si256(to, (__m256i)words);
}

FOLD_INLINE int fold_any(fold_flags flags)
{
	return !_mm256_testz_si256(flags, flags);
}

FOLD_INLINE fold_floats fold_halves_load(const void *halves)
{
	return _mm256_cvtph_ps(_mm_loadu_si128(halves));
}

FOLD_INLINE void fold_halves_store(void *halves, fold_floats f)
{
	_mm_storeu_si128(halves, _mm256_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* What is above half of the last place, or half and the place odd, rounds up: with the place's bit
 * below it a half is above half. Signed, half is 0. */
FOLD_INLINE fold_words fold_pack_bfloat16(fold_floats low, fold_floats high)
{
	__m256i one = _mm256_set1_epi16(1), half = _mm256_set1_epi16((short)0x8000);
	__m256i l = _mm256_castps_si256(low), h = _mm256_castps_si256(high);
	__m256i kept = _mm256_blend_epi16(_mm256_srli_epi32(l, 16), h, 0xaa);
	__m256i lost = _mm256_blend_epi16(l, _mm256_slli_epi32(h, 16), 0xaa);
	__m256i weight = _mm256_or_si256(_mm256_xor_si256(lost, half), _mm256_and_si256(kept, one));

	return (fold_words)_mm256_sub_epi16(kept, _mm256_cmpgt_epi16(weight, _mm256_setzero_si256()));
}

#include "collectives/fold_body.h"

const struct snti_fold_table snti_fold_avx2 = FOLD_VECTOR_TABLE;
#endif
